//! Patch embedding against the authors' code, against plain loops, and on a device against the host.
#![expect(clippy::print_stderr, reason = "a test that has nothing to compare with says so")]

use std::path::Path;

use candle_core::{Device, Tensor};
use simplenet_kernels::engine::FeatureMap;
use simplenet_kernels::gemm::{GemmError, MatRef, PackedB};
use simplenet_kernels::patch::{
    Multiplied, PatchError, Rows, Scratch, code_embed, code_layers, join, mean_embed, mean_layers, multiply_and_reduce,
};
use simplenet_kernels::patch_candle;

/// Pseudo-random values in [-1, 1) that need no generator.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |i: u32| {
        let mut x = (i ^ seed.rotate_left(16)).wrapping_mul(0x9E37_79B1).wrapping_add(seed);
        x ^= x >> 15;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x
    };
    (0..count as u32)
        .map(|i| (mix(i) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

fn map(n: usize, h: usize, w: usize, c: usize, seed: u32) -> FeatureMap {
    FeatureMap {
        n,
        h,
        w,
        c,
        data: values(n * h * w * c, seed),
    }
}

/// `[n, c, h, w]` to channels last.
fn channels_last(nchw: &[f32], [n, c, h, w]: [usize; 4]) -> FeatureMap {
    let mut data = Vec::with_capacity(nchw.len());
    for b in 0..n {
        for at in 0..h * w {
            data.extend((0..c).map(|channel| nchw[(b * c + channel) * h * w + at]));
        }
    }
    FeatureMap { n, h, w, c, data }
}

fn channels_first(map: &FeatureMap) -> Tensor {
    let tensor = Tensor::from_slice(&map.data, (map.n, map.h, map.w, map.c), &Device::Cpu).unwrap();
    tensor.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "at {at}: {found}, expected {expected}"
        );
    }
}

// ---- plain loops: every neighbourhood unfolded, every plane resized, every bin summed in f64 ----

/// The zero-padded neighbourhood of every position, `[n, h, w, c * p * p]` in the order (channel, row, column).
fn unfold(map: &FeatureMap, patch: usize) -> FeatureMap {
    let reach = (patch / 2) as isize;
    let mut data = Vec::new();
    for b in 0..map.n {
        for y in 0..map.h as isize {
            for x in 0..map.w as isize {
                for channel in 0..map.c {
                    for ky in -reach..=reach {
                        for kx in -reach..=reach {
                            let (row, column) = (y + ky, x + kx);
                            let inside = (0..map.h as isize).contains(&row) && (0..map.w as isize).contains(&column);
                            data.push(match inside {
                                true => {
                                    map.data[((b * map.h + row as usize) * map.w + column as usize) * map.c + channel]
                                }
                                false => 0.0,
                            });
                        }
                    }
                }
            }
        }
    }
    FeatureMap {
        c: map.c * patch * patch,
        data,
        ..*map
    }
}

fn resize(map: &FeatureMap, h: usize, w: usize) -> FeatureMap {
    let source = |at: usize, from: usize, to: usize| {
        let position = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = position.floor() as usize;
        (low, (low + 1).min(from - 1), position - low as f64)
    };
    let mut data = Vec::new();
    for b in 0..map.n {
        for y in 0..h {
            for x in 0..w {
                let (y0, y1, wy) = source(y, map.h, h);
                let (x0, x1, wx) = source(x, map.w, w);
                for channel in 0..map.c {
                    let at = |y: usize, x: usize| f64::from(map.data[((b * map.h + y) * map.w + x) * map.c + channel]);
                    let top = at(y0, x0) * (1.0 - wx) + at(y0, x1) * wx;
                    let bottom = at(y1, x0) * (1.0 - wx) + at(y1, x1) * wx;
                    data.push((top * (1.0 - wy) + bottom * wy) as f32);
                }
            }
        }
    }
    FeatureMap { h, w, data, ..*map }
}

fn adaptive(values: &[f32], bins: usize) -> Vec<f32> {
    let length = values.len();
    let bin = |j: usize| {
        let (start, end) = (j * length / bins, ((j + 1) * length).div_ceil(bins));
        let sum: f64 = values[start..end].iter().map(|v| f64::from(*v)).sum();
        (sum / (end - start) as f64) as f32
    };
    (0..bins).map(bin).collect()
}

fn code_reference(maps: &[&FeatureMap], patch: usize, pretrain_dim: usize, target_dim: usize) -> Vec<f32> {
    let (h, w) = (maps[0].h, maps[0].w);
    let planes: Vec<FeatureMap> = maps.iter().map(|map| resize(&unfold(map, patch), h, w)).collect();
    let mut rows = Vec::new();
    for row in 0..maps[0].n * h * w {
        let pooled = planes
            .iter()
            .flat_map(|map| adaptive(&map.data[row * map.c..][..map.c], pretrain_dim));
        rows.extend(adaptive(&pooled.collect::<Vec<f32>>(), target_dim));
    }
    rows
}

fn mean_reference(maps: &[&FeatureMap], patch: usize) -> Vec<f32> {
    let (h, w) = (maps[0].h, maps[0].w);
    let means = |map: &&FeatureMap| {
        let unfolded = unfold(map, patch);
        let data = unfolded
            .data
            .chunks(patch * patch)
            .flat_map(|cells| adaptive(cells, 1))
            .collect();
        resize(&FeatureMap { data, ..**map }, h, w)
    };
    let layers: Vec<FeatureMap> = maps.iter().map(means).collect();
    let row = |row: usize| {
        layers
            .iter()
            .flat_map(move |map| map.data[row * map.c..][..map.c].to_vec())
    };
    (0..maps[0].n * h * w).flat_map(row).collect()
}

#[test]
fn both_embeddings_equal_plain_loops() {
    // Sides differ, grids are no multiples of each other, one later map is larger than the first, one has its size.
    let maps = [
        map(2, 5, 7, 6, 1),
        map(2, 3, 4, 10, 2),
        map(2, 9, 8, 3, 3),
        map(2, 5, 7, 5, 4),
    ];
    for count in 1..=maps.len() {
        let maps: Vec<&FeatureMap> = maps[..count].iter().collect();
        for patch in [1, 3, 5, 9] {
            let rows = mean_embed(&maps, patch).unwrap();
            assert_eq!((rows.n, rows.h, rows.w), (2, 5, 7));
            assert_eq!(rows.dim, maps.iter().map(|map| map.c).sum::<usize>());
            assert_close(&rows.data, &mean_reference(&maps, patch), 2e-6);
            // Lengths that divide, that overlap, that repeat, and a target whose bins straddle two layers.
            for (pretrain, target) in [(6, 6), (17, 13), (64, 5), (3, 40), (1, 1)] {
                let rows = code_embed(&maps, patch, pretrain, target).unwrap();
                assert_eq!(rows.dim, target);
                assert_close(&rows.data, &code_reference(&maps, patch, pretrain, target), 2e-6);
            }
        }
    }
}

/// The oracle: golden/patch_embed.safetensors, `CASE.pP.embed` from the authors' `SimpleNet._embed`, `CASE.pP.paper` from
///
/// ```python
/// pool = lambda x: F.avg_pool2d(x, p, stride=1, padding=p // 2, count_include_pad=True)
/// up = F.interpolate(pool(layer3), layer2.shape[-2:], mode="bilinear", align_corners=False)
/// torch.cat([pool(layer2), up], 1)
/// ```
#[test]
fn both_embeddings_equal_the_official_ones() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/golden/patch_embed.safetensors"
    );
    if !Path::new(file).exists() {
        assert!(
            std::env::var_os("SIMPLENET_REQUIRE_SHARED").is_none(),
            "SIMPLENET_REQUIRE_SHARED is set, and ../shared/golden is not there"
        );
        eprintln!("skipped: ../shared/golden is not there");
        return;
    }
    let golden = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let read = |name: &str| -> Vec<f32> { golden[name].flatten_all().unwrap().to_vec1().unwrap() };
    let layer = |name: &str| {
        let (n, c, h, w) = golden[name].dims4().unwrap();
        channels_last(&read(name), [n, c, h, w])
    };
    let mut compared = 0;
    for (case, pretrain, target) in [("c1", 36, 36), ("c2", 17, 17), ("c3", 19, 17), ("c4", 1536, 1536)] {
        let maps = [layer(&format!("{case}.layer2")), layer(&format!("{case}.layer3"))];
        let maps = [&maps[0], &maps[1]];
        let tensors = maps.map(channels_first);
        for patch in [1, 3, 5] {
            let name = format!("{case}.p{patch}.embed");
            if golden.contains_key(&name) {
                let rows = code_embed(&maps, patch, pretrain, target).unwrap();
                assert_close(&rows.data, &read(&name), 1e-5);
                let on_device = patch_candle::code_embed(&tensors, patch, pretrain, target).unwrap();
                assert_eq!(on_device.dims(), [rows.n * rows.h * rows.w, rows.dim]);
                assert_close(&on_device.flatten_all().unwrap().to_vec1().unwrap(), &read(&name), 1e-5);
                compared += 1;
            }
            let name = format!("{case}.p{patch}.paper");
            if golden.contains_key(&name) {
                let (n, c, h, w) = golden[&name].dims4().unwrap();
                let expected = channels_last(&read(&name), [n, c, h, w]).data;
                let rows = mean_embed(&maps, patch).unwrap();
                assert_close(&rows.data, &expected, 1e-5);
                let on_device = patch_candle::mean_embed(&tensors, patch).unwrap();
                assert_close(&on_device.flatten_all().unwrap().to_vec1().unwrap(), &expected, 1e-5);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 15);
}

#[test]
fn rows_are_the_same_bytes_for_any_number_of_threads() {
    let maps = [map(3, 11, 6, 24, 5), map(3, 6, 3, 40, 6)];
    let maps = [&maps[0], &maps[1]];
    let with = |threads: usize| -> [Rows; 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| [mean_embed(&maps, 3).unwrap(), code_embed(&maps, 3, 30, 31).unwrap()])
    };
    let alone = with(1);
    assert_eq!(alone, with(2));
    assert_eq!(alone, with(7));
}

/// A matrix `[rows, cols]`, and the same packed.
fn matrix(rows: usize, cols: usize, seed: u32) -> (Vec<f32>, PackedB<f32>) {
    let plain = values(rows * cols, seed);
    let packed = PackedB::new(MatRef::new(&plain, rows, cols).unwrap()).unwrap();
    (plain, packed)
}

#[test]
fn joined_layers_are_the_embedding() {
    for (n, sides, patch) in [
        (1, [(3, 5), (3, 5)], 1),
        (2, [(7, 4), (2, 3)], 3),
        (1, [(6, 9), (5, 11)], 5),
    ] {
        let channels = [5, 19];
        let maps: Vec<FeatureMap> = (sides.iter().zip(channels))
            .map(|(&(h, w), c)| map(n, h, w, c, c as u32))
            .collect();
        let maps: Vec<&FeatureMap> = maps.iter().collect();
        let joined = join(&mean_layers(&maps, patch).unwrap()).unwrap();
        assert_eq!(joined, mean_embed(&maps, patch).unwrap(), "{sides:?}");
        // 11 and 13 values of each layer, pooled to 20: some columns are of both layers.
        for (pretrain, target) in [(11, 20), (13, 7)] {
            let layers = code_layers(&maps, patch, pretrain, target).unwrap();
            let (joined, expected) = (
                join(&layers).unwrap(),
                code_embed(&maps, patch, pretrain, target).unwrap(),
            );
            assert_eq!(
                [joined.n, joined.h, joined.w, joined.dim],
                [n, sides[0].0, sides[0].1, target]
            );
            assert_close(&joined.data, &expected.data, 1e-6);
        }
    }
}

#[test]
fn layers_that_do_not_fit_are_not_joined() {
    let fitting = map(1, 3, 4, 5, 1);
    let mut layers = mean_layers(&[&fitting], 3).unwrap();
    layers[0].columns = 0..4;
    let refused = PatchError::Columns {
        map: 0,
        columns: 0..4,
        channels: 5,
    };
    assert_eq!(join(&layers).unwrap_err(), refused);
    assert_eq!(join(&[]).unwrap_err(), PatchError::NoMaps);
}

/// What [`multiply_and_reduce`] makes of the sums in these tests: positions and columns count differently.
fn length(sums: &[f32]) -> f32 {
    sums.iter().zip(1..).map(|(sum, at)| sum * sum / at as f32).sum()
}

/// Grids that divide and that do not, more positions than are multiplied at once, some of the images.
#[test]
fn products_on_their_own_grids_are_those_of_joined_rows() {
    for (n, h, w, width) in [
        (1, 28, 28, 70),
        (3, 5, 7, 33),
        (2, 1, 1, 1),
        (2, 3, 150, 16),
        (5, 9, 4, 64),
    ] {
        let maps = [
            map(n, h, w, 12, 1),
            map(n, h.div_ceil(2), w.div_ceil(2), 20, 2),
            map(n, 3, 2, 5, 3),
        ];
        let matrices = [matrix(12, width, 4), matrix(20, width, 5), matrix(5, width, 6)];
        for depth in 1..=3 {
            let multiplied: Vec<Multiplied> = maps
                .iter()
                .zip(&matrices)
                .map(|(map, (_, packed))| (map, packed))
                .take(depth)
                .collect();
            let rows = mean_embed(&maps.iter().take(depth).collect::<Vec<_>>(), 1).unwrap();
            let stacked: Vec<f32> = matrices[..depth].iter().flat_map(|(plain, _)| plain.clone()).collect();
            let expected: Vec<f32> = rows
                .data
                .chunks_exact(rows.dim)
                .map(|row| {
                    let sums: Vec<f32> = (0..width)
                        .map(|at| {
                            (row.iter().enumerate())
                                .map(|(k, x)| f64::from(*x) * f64::from(stacked[k * width + at]))
                                .sum::<f64>() as f32
                        })
                        .collect();
                    length(&sums)
                })
                .collect();
            let scratch = Scratch::default();
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| multiply_and_reduce(&multiplied, 0..n, &scratch, length).unwrap())
            };
            let found = with(1);
            assert_close(&found, &expected, 1e-3);
            assert_eq!(found, with(2));
            assert_eq!(found, with(7));
            let some = multiply_and_reduce(&multiplied, n / 2..n, &scratch, length).unwrap();
            assert_eq!(some, found[n / 2 * h * w..]);
        }
    }
}

#[test]
fn products_that_do_not_fit_are_refused() {
    let (first, second) = (map(2, 4, 4, 3, 1), map(2, 2, 2, 5, 2));
    let (three, five, narrow) = (matrix(3, 8, 3).1, matrix(5, 8, 4).1, matrix(5, 7, 5).1);
    let scratch = Scratch::default();
    let refused = |maps: &[Multiplied], images| multiply_and_reduce(maps, images, &scratch, length).unwrap_err();
    assert_eq!(refused(&[], 0..0), PatchError::NoMaps);
    for maps in [
        [(&first, &five), (&second, &five)],
        [(&first, &three), (&second, &narrow)],
    ] {
        let error = refused(&maps, 0..2);
        assert!(matches!(error, PatchError::Gemm(GemmError::Shape { .. })), "{error:?}");
    }
    let hollow = matrix(3, 0, 6).1;
    let width = PatchError::ZeroDimension("the width of a matrix");
    assert_eq!(refused(&[(&first, &hollow)], 0..2), width);
    let images = PatchError::Image { images: 1..3, n: 2 };
    assert_eq!(refused(&[(&first, &three), (&second, &five)], 1..3), images);
    let none = multiply_and_reduce(&[(&first, &three)], 1..1, &scratch, length);
    assert_eq!(none, Ok(Vec::new()));
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let good = map(2, 3, 4, 2, 1);
    let other_batch = map(1, 3, 4, 2, 1);
    let empty = map(2, 0, 4, 2, 1);
    let short = FeatureMap {
        data: vec![0.0; 47],
        ..good.clone()
    };
    assert_eq!(mean_embed(&[], 3), Err(PatchError::NoMaps));
    assert_eq!(mean_embed(&[&good], 2), Err(PatchError::EvenPatch(2)));
    assert_eq!(mean_embed(&[&good], 0), Err(PatchError::EvenPatch(0)));
    let batch = PatchError::Batch {
        map: 1,
        found: 1,
        expected: 2,
    };
    assert_eq!(mean_embed(&[&good, &other_batch], 3), Err(batch));
    let length = PatchError::Length {
        map: 0,
        found: 47,
        expected: 48,
    };
    assert_eq!(mean_embed(&[&short], 3), Err(length));
    let hollow = PatchError::EmptyMap {
        map: 1,
        n: 2,
        h: 0,
        w: 4,
        c: 2,
    };
    assert_eq!(code_embed(&[&good, &empty], 3, 4, 4), Err(hollow));
    assert_eq!(
        code_embed(&[&good], 3, 4, 0),
        Err(PatchError::ZeroDimension("target_dim"))
    );
}
