//! What several tests need: golden files, repeatable numbers, configurations.

use std::path::PathBuf;

use safetensors::SafeTensors;
use simplenet_heads::{
    Adaptor, Bank, BankBuilder, Head, HeadConfig, Loss, Optimizer, Precision, Rule, Scalar, TrainConfig,
};

/// A file of ../shared/golden, or `None` (and a word on stderr) where the folder is not there.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn golden(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden"));
    if !folder.is_dir() {
        assert!(
            std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
            "SIMPLENET_REQUIRE_SHARED is set, and ../shared/golden is not there"
        );
        eprintln!("skipped: ../shared/golden is not there");
        return None;
    }
    Some(std::fs::read(folder.join(name)).expect("a golden file"))
}

/// An f32 tensor of a file.
pub(crate) fn values<T: Scalar>(file: &SafeTensors<'_>, name: &str) -> Vec<T> {
    let view = file.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
    let (chunks, _) = view.data().as_chunks::<4>();
    chunks
        .iter()
        .map(|&bytes| T::from_f32(f32::from_le_bytes(bytes)))
        .collect()
}

/// Repeatable numbers in [-1, 1): splitmix64, unrelated to the project's own generator.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn floats(count: usize, seed: u64) -> Vec<f32> {
    numbers(count, seed).into_iter().map(|x| x as f32).collect()
}

/// `images` images of `rows` rows near `center`.
pub(crate) fn bank_of(images: usize, rows: usize, dim: usize, center: f32, seed: u64) -> Bank {
    let mut builder = BankBuilder::new(dim, rows, 1 << 30, &std::env::temp_dir()).expect("a builder");
    let values: Vec<f32> = floats(images * rows * dim, seed)
        .into_iter()
        .map(|x| center + 0.3 * x)
        .collect();
    builder.push(&values).expect("rows");
    builder.finish().expect("a bank")
}

pub(crate) fn optimizer(rule: Rule, learning_rate: f64, weight_decay: f64) -> Optimizer {
    Optimizer {
        rule,
        learning_rate,
        weight_decay,
    }
}

pub(crate) const TRUNCATED: Loss = Loss::TruncatedL1 {
    positive_margin: 0.5,
    negative_margin: -0.5,
};

/// The authors' optimisers, with both learning rates multiplied.
pub(crate) fn authors(loss: Loss, faster: f64) -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_images: 2,
        noise: 0.1,
        loss,
        adaptor_optimizer: optimizer(Rule::AdamW, 1e-4 * faster, 0.01),
        discriminator_optimizer: optimizer(Rule::Adam, 2e-4 * faster, 1e-5),
        precision: Precision::F32,
    }
}

pub(crate) const ADAPTORS: [Adaptor; 4] = [
    Adaptor::None,
    Adaptor::Linear { bias: false },
    Adaptor::Linear { bias: true },
    Adaptor::Mlp,
];

pub(crate) fn head<T: Scalar>(dim: usize, hidden: usize, adaptor: Adaptor, seed: u64) -> Head<T> {
    Head::new(HeadConfig { dim, hidden, adaptor }, seed).expect("a head")
}

/// Largest |a − b|; infinite where lengths differ or anything is NaN.
pub(crate) fn largest_difference<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences = a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
    differences.fold(
        0.0,
        |largest, x| if x.is_nan() { f64::INFINITY } else { x.max(largest) },
    )
}

pub(crate) fn largest<T: Scalar>(values: &[T]) -> f64 {
    values.iter().fold(0.0, |largest, x| x.to_f64().abs().max(largest))
}
