//! A stable parallel radix sort on 32-bit keys: least significant digit first, one byte at a time.
//!
//! Here every element is moved at most four times, to places that are known beforehand, where comparing needs some 22
//! unpredictable branches for each of the four million pixels of a test set. The result of a stable sort is unique, so the way the
//! work is cut into blocks cannot show.

use rayon::prelude::*;

const DIGITS: usize = 256;
const DIGIT_BITS: u32 = 8;

/// Elements per unit of parallel work: large enough that its 256 counters do not matter, small enough to share out.
const BLOCK: usize = 1 << 18;

/// Below this, counting digits costs more than comparing.
const SMALL: usize = 1 << 12;

/// What can be sorted: its order is that of its key.
pub(crate) trait Keyed: Copy + Default + Send + Sync {
    fn key(self) -> u32;
}

impl Keyed for u32 {
    fn key(self) -> u32 {
        self
    }
}

/// Key in the upper half, payload in the lower.
impl Keyed for u64 {
    fn key(self) -> u32 {
        (self >> 32) as u32
    }
}

/// Sorts by ascending key; elements of equal key keep their order.
pub(crate) fn sort<T: Keyed>(items: &mut Vec<T>) {
    if items.len() <= SMALL {
        items.sort_by_key(|item| item.key());
        return;
    }
    let mut scratch = vec![T::default(); items.len()];
    for shift in (0..u32::BITS).step_by(DIGIT_BITS as usize) {
        if distribute(items, &mut scratch, shift) {
            std::mem::swap(items, &mut scratch);
        }
    }
}

/// Copies `from` to `into` in the order of one digit; `false` (and nothing copied) where all share that digit.
fn distribute<T: Keyed>(from: &[T], into: &mut [T], shift: u32) -> bool {
    let counts: Vec<[usize; DIGITS]> = from.par_chunks(BLOCK).map(|block| count_digits(block, shift)).collect();
    let shared = digit(from[0], shift);
    if counts.iter().map(|block| block[shared]).sum::<usize>() == from.len() {
        return false;
    }

    // The places of digit 0 from block 0, of digit 0 from block 1, ..., of digit 1 from block 0, and so on.
    let mut rest = into;
    let mut places: Vec<Vec<std::slice::IterMut<T>>> = counts.iter().map(|_| Vec::with_capacity(DIGITS)).collect();
    for value in 0..DIGITS {
        for (block, places) in counts.iter().zip(&mut places) {
            let (own, others) = rest.split_at_mut(block[value]);
            places.push(own.iter_mut());
            rest = others;
        }
    }

    from.par_chunks(BLOCK).zip(places).for_each(|(block, mut places)| {
        for &item in block {
            if let Some(place) = places[digit(item, shift)].next() {
                *place = item;
            }
        }
    });
    true
}

fn count_digits<T: Keyed>(block: &[T], shift: u32) -> [usize; DIGITS] {
    let mut counts = [0; DIGITS];
    for &item in block {
        counts[digit(item, shift)] += 1;
    }
    counts
}

fn digit<T: Keyed>(item: T, shift: u32) -> usize {
    (item.key() >> shift) as usize % DIGITS
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Keyed, SMALL, sort};

    /// Steele's SplitMix64, so that the test needs no generator from elsewhere.
    fn scrambled(count: usize) -> impl Iterator<Item = u64> {
        (1..=count as u64).map(|index| {
            let mut bits = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            bits ^ (bits >> 31)
        })
    }

    #[test]
    fn agrees_with_the_standard_sort_on_every_path() {
        for count in [0, 1, 2, SMALL, SMALL + 1, BLOCK - 1, BLOCK + 1, 2 * BLOCK + 77] {
            let mut keys: Vec<u32> = scrambled(count).map(|bits| bits as u32).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            sort(&mut keys);
            assert!(keys == expected, "{count} keys");
        }
    }

    #[test]
    fn equal_keys_keep_their_order() {
        // 37 distinct keys that differ in the highest and lowest byte only, so that two of the four passes are skipped.
        let key = |bits: u64| ((bits % 37) << 24) + bits % 37;
        let mut items: Vec<u64> = scrambled(BLOCK + 5)
            .zip(0..)
            .map(|(bits, position)| (key(bits) << 32) + position)
            .collect();
        let mut expected = items.clone();
        expected.sort_by_key(|item| item.key());
        sort(&mut items);
        assert!(items == expected);
    }
}
