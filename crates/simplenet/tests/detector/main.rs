//! The detector through its public interface, on a small procedural set.

mod damage;
mod predict;
mod support;
mod training;
