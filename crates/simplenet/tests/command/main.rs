//! The program `simplenet` as a user runs it, on a small procedural set.

mod heatmaps;
mod journey;
mod labelled;
mod outputs;
mod refusals;
mod support;
mod unjudged;
mod watch;
