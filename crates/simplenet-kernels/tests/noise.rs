//! The random numbers: known answers, independence of splits, and the distributions they claim.

use simplenet_kernels::isa::Isa;
use simplenet_kernels::noise::{
    NoiseError, NoiseKey, Philox, add_normal, fill_normal, fill_normal_with, normal, permutation, philox4x32_10,
};

const KEY: NoiseKey = NoiseKey {
    seed: 0x0123_4567_89AB_CDEF,
    stream: 42,
};

fn normals(count: usize, key: NoiseKey) -> Vec<f32> {
    let mut out = vec![0.0; count];
    fill_normal(&mut out, key, 0, 1.0);
    out
}

// Oracle: the file `kat_vectors` of Random123 1.14 (D. E. Shaw Research), lines `philox4x32 10`.
#[test]
fn philox_gives_the_known_answers() {
    let zero = philox4x32_10([0; 4], [0; 2]);
    assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    let ones = philox4x32_10([u32::MAX; 4], [u32::MAX; 2]);
    assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let pi = philox4x32_10(
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
    );
    assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
}

/// The documented mapping, in f64 with the standard library's functions.
fn slow_normal(key: NoiseKey, element: u64) -> f64 {
    let block = 16 * (element / 64) + element % 16;
    let lane = (element % 64 / 16) as usize;
    let low_high = |x: u64| [x as u32, (x >> 32) as u32];
    let ([b0, b1], [s0, s1]) = (low_high(block), low_high(key.stream));
    let words = philox4x32_10([b0, b1, s0, s1], low_high(key.seed));
    let pair = &words[lane / 2 * 2..];
    let uniform = (f64::from(pair[0] as f32) + 0.5) / 2.0_f64.powi(32);
    let angle = std::f64::consts::TAU * f64::from(pair[1]) / 2.0_f64.powi(32);
    let radius = (-2.0 * uniform.ln()).sqrt();
    radius
        * if lane.is_multiple_of(2) {
            angle.cos()
        } else {
            angle.sin()
        }
}

#[test]
fn every_normal_is_the_documented_function_of_its_place() {
    for first in [0, 1 << 34, u64::MAX - 4095] {
        let mut out = vec![0.0; 4096];
        fill_normal(&mut out, KEY, first, 1.0);
        for (i, &value) in out.iter().enumerate() {
            let slow = slow_normal(KEY, first + i as u64);
            assert!(
                (f64::from(value) - slow).abs() < 2e-6,
                "element {i} from {first}: {value} and {slow}"
            );
        }
    }
}

#[test]
fn any_split_gives_the_same_bytes() {
    let whole = normals(1000, KEY);
    for first in [0, 1, 63, 64, 65, 127, 300] {
        for len in [0, 1, 15, 64, 130, 700] {
            let mut part = vec![f32::NAN; len];
            fill_normal(&mut part, KEY, first as u64, 1.0);
            assert_eq!(part, whole[first..first + len], "{len} from {first}");
        }
    }
    assert_eq!(normal(KEY, 777), whole[777]);
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let bits = |isa| {
        let mut out = vec![0.0; 100_003];
        fill_normal_with(isa, &mut out, KEY, 5, 0.015).unwrap();
        out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let portable = bits(Isa::Portable);
    for isa in Isa::supported() {
        assert!(bits(isa) == portable, "{isa}");
    }
    // On any processor and in any later version: were these bits to change, saved results would lose their meaning.
    let digest = portable
        .iter()
        .fold(0_u32, |sum, &bits| sum.wrapping_mul(31).wrapping_add(bits));
    assert_eq!((portable[0], digest), (1_008_111_141, 354_343_491));
}

#[test]
fn noise_is_added_as_it_is_filled() {
    let source: Vec<f32> = (0..333).map(|i| i as f32 * 0.25).collect();
    let (mut noise, mut sum) = (vec![0.0; 333], vec![0.0; 333]);
    fill_normal(&mut noise, KEY, 11, 0.5);
    add_normal(&mut sum, &source, KEY, 11, 0.5).unwrap();
    for ((sum, noise), source) in sum.iter().zip(&noise).zip(&source) {
        assert_eq!(*sum, source + noise);
    }
    let error = add_normal(&mut sum[1..], &source, KEY, 0, 1.0).unwrap_err();
    let expected = NoiseError::Length {
        source_len: 333,
        target_len: 332,
    };
    assert_eq!(error, expected);
}

#[test]
fn moments_are_those_of_the_standard_normal() {
    const COUNT: usize = 1 << 22;
    let values = normals(COUNT, KEY);
    let moment = |power: i32| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / COUNT as f64;
    // Five standard errors of each: the variance of x^p is E x^2p - (E x^p)^2.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let bound = 5.0 * f64::sqrt(variance / COUNT as f64);
        let got = moment(power);
        assert!((got - expected).abs() < bound, "moment {power} is {got}");
    }
}

/// Distribution function of the standard normal: the series of Marsaglia ("Evaluating the normal distribution", 2004).
fn normal_distribution(x: f64) -> f64 {
    let (mut sum, mut term, mut power) = (x, x, 1.0);
    while sum + term != sum {
        power += 2.0;
        term *= x * x / power;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

#[test]
fn the_distribution_is_the_standard_normal() {
    const COUNT: usize = 1 << 20;
    let mut values = normals(COUNT, NoiseKey { seed: 3, stream: 9 });
    values.sort_by(f32::total_cmp);
    let mut distance = 0.0_f64;
    for (i, &value) in values.iter().enumerate() {
        let expected = normal_distribution(f64::from(value));
        let steps = [i as f64 / COUNT as f64, (i + 1) as f64 / COUNT as f64];
        distance = steps
            .iter()
            .fold(distance, |far, step| far.max((step - expected).abs()));
    }
    // Kolmogorov: 1.95 / sqrt(n) is exceeded once in a thousand; the key is fixed, so this never changes.
    assert!(distance < 1.95 / (COUNT as f64).sqrt(), "{distance}");
}

#[test]
fn tails_are_there_at_the_right_rate() {
    const COUNT: usize = 10_000_000;
    let values = normals(COUNT, NoiseKey { seed: 1, stream: 0 });
    for (bound, probability) in [(3.0, 2.699_796e-3), (4.0, 6.334_248e-5), (5.0, 5.733_031e-7)] {
        let found = values.iter().filter(|x| x.abs() > bound).count() as f64;
        let expected = COUNT as f64 * probability;
        assert!(
            (found - expected).abs() < 5.0 * expected.sqrt(),
            "|z| > {bound}: {found} of {expected}"
        );
    }
}

#[test]
fn streams_and_seeds_are_independent() {
    const COUNT: usize = 1 << 18;
    let keys = [(1, 0), (2, 0), (1, 1), (1, 1 << 32)];
    let values = keys.map(|(seed, stream)| normals(COUNT, NoiseKey { seed, stream }));
    for i in 0..keys.len() {
        for j in i + 1..keys.len() {
            let products = values[i].iter().zip(&values[j]).map(|(&x, &y)| f64::from(x * y));
            let correlation = products.sum::<f64>() / COUNT as f64;
            assert!(
                correlation.abs() < 5.0 / (COUNT as f64).sqrt(),
                "{:?} and {:?}",
                keys[i],
                keys[j]
            );
        }
    }
}

#[test]
fn uniforms_fill_the_unit_interval_evenly() {
    let mut generator = Philox::new(KEY);
    let mut counts = [[0_u32; 16]; 2];
    for _ in 0..160_000 {
        let (single, double) = (generator.uniform_f32(), generator.uniform_f64());
        assert!((0.0..1.0).contains(&single) && (0.0..1.0).contains(&double));
        counts[0][(single * 16.0) as usize] += 1;
        counts[1][(double * 16.0) as usize] += 1;
    }
    for count in counts.as_flattened() {
        assert!((9_500..10_500).contains(count), "{count} of 10000");
    }
}

#[test]
fn shuffles_are_permutations_and_all_orders_are_equally_likely() {
    let order = permutation(1000, KEY);
    assert_eq!(order, permutation(1000, KEY));
    assert_ne!(order, permutation(1000, NoiseKey { stream: 43, ..KEY }));
    let mut sorted = order;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..1000));
    assert!(permutation(0, KEY).is_empty());

    let mut counts = std::collections::BTreeMap::new();
    for stream in 0..24_000 {
        *counts
            .entry(permutation(4, NoiseKey { seed: 5, stream }))
            .or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    for (order, count) in counts {
        assert!((850..1150).contains(&count), "{order:?}: {count} of 1000");
    }
}

#[test]
fn a_bound_is_never_reached() {
    let mut generator = Philox::new(KEY);
    let mut seen = [false; 7];
    for _ in 0..1000 {
        seen[generator.below(7) as usize] = true;
    }
    assert_eq!(seen, [true; 7]);
    assert_eq!(generator.below(1), 0);
    assert_eq!(generator.below(0), 0);
    assert!(generator.below(u64::MAX) < u64::MAX);
}
