//! Philox4x32-10 and what is drawn from it one number at a time.

use super::NoiseKey;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four random words for a counter and a key (Salmon et al. 2011, Philox4x32 with ten rounds).
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_lanes(counter.map(|word| [word]), key).map(|[word]| word)
}

/// [`philox4x32_10`] for `LANES` counters at once, word by word: plain loops over arrays, which the compiler turns into
/// vector instructions.
#[inline(always)]
pub(super) fn philox_lanes<const LANES: usize>(counter: [[u32; LANES]; 4], mut key: [u32; 2]) -> [[u32; LANES]; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    for _ in 0..ROUNDS {
        for lane in 0..LANES {
            let first = u64::from(MULTIPLIERS[0]) * u64::from(x0[lane]);
            let second = u64::from(MULTIPLIERS[1]) * u64::from(x2[lane]);
            x0[lane] = (second >> 32) as u32 ^ x1[lane] ^ key[0];
            x1[lane] = second as u32;
            x2[lane] = (first >> 32) as u32 ^ x3[lane] ^ key[1];
            x3[lane] = first as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    [x0, x1, x2, x3]
}

impl NoiseKey {
    /// The key words of the generator.
    #[inline(always)]
    pub(super) fn key_words(self) -> [u32; 2] {
        halves(self.seed)
    }

    /// The upper two words of the counter.
    #[inline(always)]
    pub(super) fn stream_words(self) -> [u32; 2] {
        halves(self.stream)
    }
}

/// Low word, high word.
#[inline(always)]
pub(super) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Draws from a key one after the other, from its first block on.
#[derive(Debug, Clone)]
pub struct Philox {
    key: NoiseKey,
    next_block: u64,
    words: [u32; 4],
    used: usize,
}

impl Philox {
    /// A generator at the beginning of `key`.
    pub fn new(key: NoiseKey) -> Self {
        Self {
            key,
            next_block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.words.len() {
            let ([low, high], [stream_low, stream_high]) = (halves(self.next_block), self.key.stream_words());
            self.words = philox4x32_10([low, high, stream_low, stream_high], self.key.key_words());
            self.next_block = self.next_block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// 64 random bits, the low word drawn first.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1), one of 2^24 values.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in [0, 1), one of 2^53 values.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in `0..bound`, without bias (Lemire, "Fast random integer generation in an interval", 2019); 0 where
    /// `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            // The first 2^64 mod bound places of each interval are one draw too many.
            if bound == 0 || product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Brings `items` into a random order, every order equally likely (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

/// The numbers `0..n` in an order that `key` alone decides.
pub fn permutation(n: usize, key: NoiseKey) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Philox::new(key).shuffle(&mut order);
    order
}
