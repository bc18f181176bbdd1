//! The program `simplenet` as a user runs it, on a small procedural set.

mod journey;
mod refusals;
mod support;
mod watch;
