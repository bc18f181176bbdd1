//! Plain loops, compiled once for each width of vectors.
//!
//! What is built for every x86-64 processor uses vectors of 16 bytes. A loop over values that need nothing of each other does the
//! same, to the bit, on those of 64 bytes.

use crate::isa::Isa;

/// Runs `work` with the vectors of `isa`, which this processor has: those loops of it that are inlined here, which
/// `#[inline(always)]` makes sure of.
#[inline(always)]
pub(crate) fn on_vectors<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
            // SAFETY: this processor has the instructions.
            unsafe { avx512(work) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            // SAFETY: this processor has the instructions.
            unsafe { avx2(work) }
        }
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// `out = scale * (sources[0] + sources[1] + ...)`, added up in this order; each source is as long as `out`.
#[inline(always)]
pub(crate) fn add_up<'a>(out: &mut [f32], sources: impl Iterator<Item = &'a [f32]> + Clone, scale: f32) {
    const CHUNK: usize = 64;
    let (chunks, rest) = out.as_chunks_mut::<CHUNK>();
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let mut sources = sources.clone().map(|source| &source.as_chunks::<CHUNK>().0[index]);
        let mut sums = *sources.next().unwrap_or(&[0.0; CHUNK]);
        for source in sources {
            sums.iter_mut().zip(source).for_each(|(sum, value)| *sum += value);
        }
        *chunk = sums.map(|sum| sum * scale);
    }
    let done = chunks.len() * CHUNK;
    let mut sources = sources.map(|source| &source[done..]);
    match sources.next() {
        Some(first) => rest.copy_from_slice(first),
        None => rest.fill(0.0),
    }
    for source in sources {
        rest.iter_mut().zip(source).for_each(|(sum, value)| *sum += value);
    }
    rest.iter_mut().for_each(|sum| *sum *= scale);
}
