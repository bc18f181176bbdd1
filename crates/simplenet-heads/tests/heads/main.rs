//! Behaviour of simplenet-heads through its public interface.

mod autograd;
mod bank;
mod bf16;
mod config;
mod file;
mod golden;
mod layered;
mod plain;
mod support;
mod training;
