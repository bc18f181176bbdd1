//! The detector through its public interface, on a small procedural set.

mod absence;
mod damage;
mod evaluation;
mod methods;
mod predict;
mod region;
mod support;
mod tiles;
mod training;
