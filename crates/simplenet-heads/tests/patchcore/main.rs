//! PatchCore through its public interface, against plain references.
//!
//! Where indices are compared, features are multiples of 1/64: then every distance that decides is exact in f32, ties are
//! ties, and the reference has no rounding of its own to excuse.

mod coreset;
mod detector;
mod landmarks;
mod neighbours;
mod plain;
#[path = "../reference/mod.rs"]
mod reference;
