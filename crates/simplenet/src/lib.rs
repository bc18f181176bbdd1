//! The detector's parts joined: a [`Pipeline`] turns image files into a bank of patch features, a head from
//! `simplenet-heads` is trained on it, [`Scores`] come out, and an [`Evaluation`] says how good they are.
//!
//! Everything that decides a number is in one [`config::Config`].

pub mod config;
mod error;
mod evaluation;
mod pipeline;

pub use error::Error;
pub use evaluation::{Evaluation, Scores, Truth};
pub use pipeline::{BankMemory, Pipeline};
