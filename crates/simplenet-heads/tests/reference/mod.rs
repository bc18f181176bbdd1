//! What the tests of both methods share: repeatable numbers, banks of them, files.

use safetensors::tensor::TensorView;
use simplenet_heads::{Bank, BankBuilder, StoredTensor};

/// Repeatable numbers in [-1, 1): splitmix64, unrelated to the project's own generator.
pub(crate) fn floats(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The rows of a bank, in memory or spilled to a file.
pub(crate) fn bank(rows: &[f32], per_image: usize, dim: usize, spilled: bool) -> Bank {
    let budget = if spilled { 0 } else { u64::MAX };
    let mut builder = BankBuilder::new(dim, per_image, budget, &std::env::temp_dir()).expect("a builder");
    builder.push(rows).expect("rows");
    let bank = builder.finish().expect("a bank");
    assert_eq!(bank.is_spilled(), spilled);
    bank
}

pub(crate) fn file(tensors: &[StoredTensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("a view");
        (tensor.name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("a file")
}

/// What `run` gives with 1, 2 and 5 threads, which must be the same.
pub(crate) fn for_any_threads<T: PartialEq + Send>(run: impl Fn() -> T + Sync) -> T {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(&run)
    };
    let one = with(1);
    assert!(
        with(2) == one && with(5) == one,
        "the result depends on the number of threads"
    );
    one
}
