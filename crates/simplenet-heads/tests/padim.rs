//! PaDiM through its public interface, against a plain reference.

mod reference;

use simplenet_heads::padim::{Padim, PadimConfig};
use simplenet_heads::{Error, StoredTensor};

use self::reference::{bank, file, floats, for_any_threads};

fn config(channels: usize) -> PadimConfig {
    PadimConfig {
        channels,
        regularisation: 0.01,
    }
}

/// Features with correlated channels of different scale around means that differ from position to position.
fn features(images: usize, positions: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rows = floats(images * positions * dim, seed);
    for (index, row) in rows.chunks_exact_mut(dim).enumerate() {
        let position = (index % positions) as f32;
        for channel in 1..dim {
            row[channel] = 0.6 * row[channel] + 0.4 * row[channel - 1];
        }
        for (channel, x) in row.iter_mut().enumerate() {
            *x = 0.5 * position + (1.0 + (channel % 7) as f32) * *x;
        }
    }
    rows
}

/// The distances of an image's rows from the Gaussians of a bank's: covariance as `numpy.cov(rowvar=False)` plus ε on the
/// diagonal, inverted by Gauss and Jordan.
fn plain(rows: &[f32], image: &[f32], positions: usize, dim: usize, channels: &[usize], epsilon: f64) -> Vec<f64> {
    let images = rows.len() / (positions * dim);
    let value = |rows: &[f32], row: usize, channel: usize| f64::from(rows[row * dim + channel]);
    (0..positions)
        .map(|position| {
            let column = |channel: usize| {
                let values = (0..images).map(move |image| value(rows, image * positions + position, channel));
                values.collect::<Vec<f64>>()
            };
            let columns: Vec<Vec<f64>> = channels.iter().map(|&channel| column(channel)).collect();
            let means: Vec<f64> = columns.iter().map(|x| x.iter().sum::<f64>() / images as f64).collect();
            let n = channels.len();
            let mut covariance = vec![vec![0.0; n]; n];
            for a in 0..n {
                for b in 0..n {
                    let products = columns[a].iter().zip(&columns[b]);
                    let sum: f64 = products.map(|(x, y)| (x - means[a]) * (y - means[b])).sum();
                    covariance[a][b] = sum / (images - 1) as f64 + if a == b { epsilon } else { 0.0 };
                }
            }
            let inverse = invert(covariance);
            let x: Vec<f64> = (0..n).map(|i| value(image, position, channels[i]) - means[i]).collect();
            let product = |row: &[f64]| row.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>();
            x.iter()
                .zip(&inverse)
                .map(|(x, row)| x * product(row))
                .sum::<f64>()
                .sqrt()
        })
        .collect()
}

fn invert(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut inverse: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect())
        .collect();
    for pivot in 0..n {
        let scale = 1.0 / matrix[pivot][pivot];
        for side in [&mut matrix, &mut inverse] {
            side[pivot].iter_mut().for_each(|x| *x *= scale);
        }
        for row in (0..n).filter(|&row| row != pivot) {
            let factor = matrix[row][pivot];
            for side in [&mut matrix, &mut inverse] {
                let of_pivot = side[pivot].clone();
                side[row].iter_mut().zip(of_pivot).for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
    inverse
}

#[test]
fn distances_are_those_of_the_inverse() {
    // Fewer images than channels; one panel of the factorisation and several, whole and not.
    for (images, positions, dim, channels) in [
        (2, 1, 1, 1),
        (7, 6, 5, 3),
        (40, 15, 9, 9),
        (31, 3, 130, 110),
        (150, 2, 60, 48),
    ] {
        let rows = features(images, positions, dim, 1);
        let image = features(1, positions, dim, 2);
        for spilled in [false, true] {
            let bank = bank(&rows, positions, dim, spilled);
            let padim = Padim::fit(&bank, &config(channels), 3).expect("Gaussians");
            let found = padim.score_image(&image).expect("scores");
            let expected = plain(&rows, &image, positions, dim, padim.channels(), 0.01);
            for (found, expected) in found.patches.iter().zip(&expected) {
                let difference = (f64::from(*found) - expected).abs();
                assert!(
                    difference < 1e-5 * expected + 1e-6,
                    "{images}x{positions}x{dim}: {found} {expected}"
                );
            }
            let largest = expected.iter().copied().fold(0.0, f64::max);
            assert!((f64::from(found.image) - largest).abs() < 1e-5 * largest + 1e-6);
        }
    }
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let bank = bank(&features(20, 33, 70, 4), 33, 70, false);
    let images = features(3, 33, 70, 5);
    for_any_threads(|| {
        let padim = Padim::fit(&bank, &config(60), 3).expect("Gaussians");
        let scores = padim.score(&images).expect("scores");
        (padim.stored_tensors(""), scores)
    });
}

#[test]
fn images_are_scored_together_as_alone() {
    let bank = bank(&features(9, 12, 8, 4), 12, 8, false);
    let padim = Padim::fit(&bank, &config(5), 3).expect("Gaussians");
    let images = features(4, 12, 8, 5);
    let together = padim.score(&images).expect("scores");
    for (image, scores) in images.chunks_exact(96).zip(together.chunks_exact(12)) {
        assert_eq!(padim.score_image(image).expect("scores").patches, scores);
    }
    assert!(padim.score(&[]).expect("no image").is_empty());
}

#[test]
fn the_seed_chooses_the_channels() {
    let bank = bank(&features(4, 2, 50, 4), 2, 50, false);
    let channels = |count, seed| {
        let padim = Padim::fit(&bank, &config(count), seed).expect("Gaussians");
        padim.channels().to_vec()
    };
    let some = channels(20, 1);
    assert_eq!(some.len(), 20);
    assert!(some.windows(2).all(|pair| pair[0] < pair[1]) && some[19] < 50);
    assert_eq!(some, channels(20, 1));
    assert_ne!(some, channels(20, 2));
    assert_eq!(channels(50, 1), (0..50).collect::<Vec<_>>());
}

#[test]
fn gaussians_come_back_as_they_were() {
    let bank = bank(&features(9, 4, 8, 4), 4, 8, false);
    let padim = Padim::fit(&bank, &config(5), 3).expect("Gaussians");
    let bytes = file(&padim.stored_tensors("padim."));
    let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
    assert_eq!(Padim::from_tensors(&stored, "padim.").expect("Gaussians"), padim);

    let refuse = |change: &dyn Fn(&mut Vec<StoredTensor>), start: &str| {
        let mut tensors = padim.stored_tensors("");
        change(&mut tensors);
        let bytes = file(&tensors);
        let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
        let error = Padim::from_tensors(&stored, "").expect_err("no Gaussians").to_string();
        assert_eq!(error, format!("the file holds no usable head: {start}"));
    };
    fn named<'a>(tensors: &'a mut [StoredTensor], name: &str) -> &'a mut StoredTensor {
        tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor")
    }
    refuse(
        &|tensors| named(tensors, "mean").name = "means".into(),
        "means belongs to no head of this kind",
    );
    refuse(
        &|tensors| tensors.retain(|tensor| tensor.name != "factor"),
        "factor is missing",
    );
    refuse(
        &|tensors| named(tensors, "factor").shape = vec![60],
        "factor has shape [60], expected [4, 15]",
    );
    refuse(
        &|tensors| named(tensors, "dim").bytes = 3_i64.to_le_bytes().to_vec(),
        "channels is not a rising list of channels below 3",
    );
    refuse(
        &|tensors| named(tensors, "channels").bytes[7] = 0xff,
        "channels has a negative value",
    );
    refuse(
        // Position 1, the second element on the diagonal.
        &|tensors| named(tensors, "factor").bytes[(15 + 5) * 4..][..4].copy_from_slice(&(-1.0_f32).to_le_bytes()),
        "factor has -1 on the diagonal of position 1",
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let rows = features(9, 4, 8, 4);
    let several = bank(&rows, 4, 8, false);
    let refuse = |config: PadimConfig, message: &str| {
        let error = Padim::fit(&several, &config, 0).expect_err("no sense").to_string();
        assert_eq!(error, message);
    };
    refuse(config(0), "`channels` is 0, but it must be at least 1");
    refuse(
        config(9),
        "`channels` is 9, but it must be at most the number of channels of the features",
    );
    refuse(
        PadimConfig {
            channels: 2,
            regularisation: -1.0,
        },
        "`regularisation` is -1, but it must be zero or a positive number",
    );
    let error = Padim::fit(&bank(&rows[..32], 4, 8, false), &config(2), 0).expect_err("one image");
    assert_eq!(
        error.to_string(),
        "`images` is 1, but it must be at least 2, to have a covariance"
    );
    let constant = bank(&[1.0; 9 * 32], 4, 8, false);
    let none = PadimConfig {
        channels: 2,
        regularisation: 0.0,
    };
    let error = Padim::fit(&constant, &none, 0).expect_err("a singular covariance");
    assert!(matches!(error, Error::Config { .. }), "{error}");

    let padim = Padim::fit(&several, &config(8), 0).expect("Gaussians");
    let mut image = features(1, 4, 8, 6);
    assert!(matches!(padim.score_image(&image[..24]), Err(Error::Shape { .. })));
    assert!(matches!(padim.score(&image[..31]), Err(Error::Shape { .. })));
    image[2 * 8 + 3] = f32::NAN;
    assert!(matches!(padim.score(&image), Err(Error::ScoreNotFinite { row: 2 })));
}
