//! Patch embedding.

use half::bf16;
use simplenet_kernels::cuda::network::{DeviceMap, Values};
use simplenet_kernels::cuda::{Buffer, Gpu, patch as device};
use simplenet_kernels::engine::FeatureMap;
use simplenet_kernels::patch;

use crate::gpu::gpu;
use crate::support::{distance, values};

fn map([n, h, w, c]: [usize; 4], seed: u64) -> FeatureMap {
    // Values that bf16 holds exactly, so that both precisions see the same map.
    let data = values(n * h * w * c, seed);
    let data = data.into_iter().map(|value| bf16::from_f32(value).to_f32()).collect();
    FeatureMap { n, h, w, c, data }
}

/// The map with its channels padded to a multiple of 8; the padding holds what must not be read.
fn padded(map: &FeatureMap) -> Vec<f32> {
    let pitch = map.c.next_multiple_of(8);
    let pixels = map.data.chunks_exact(map.c);
    pixels
        .flat_map(|pixel| pixel.iter().copied().chain(std::iter::repeat_n(1e9, pitch - map.c)))
        .collect()
}

/// The maps on the device, each from value `first` of its memory on.
fn with_maps<R>(
    gpu: &Gpu,
    maps: &[FeatureMap],
    is_bf16: bool,
    first: usize,
    run: impl FnOnce(&[DeviceMap<'_>]) -> R,
) -> R {
    let padded = |map: &FeatureMap| [vec![1e9; first], padded(map)].concat();
    let wide: Vec<Buffer<f32>> = maps
        .iter()
        .map(|map| gpu.upload(&padded(map)).expect("an upload"))
        .collect();
    let narrow = |map: &FeatureMap| padded(map).into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let narrow: Vec<Buffer<bf16>> = maps
        .iter()
        .map(|map| gpu.upload(&narrow(map)).expect("an upload"))
        .collect();
    let device = |(at, map): (usize, &FeatureMap)| DeviceMap {
        n: map.n,
        h: map.h,
        w: map.w,
        c: map.c,
        pitch: map.c.next_multiple_of(8),
        values: match is_bf16 {
            true => Values::Bf16(narrow[at].range(first..narrow[at].len())),
            false => Values::F32(wide[at].range(first..wide[at].len())),
        },
    };
    let maps: Vec<DeviceMap<'_>> = maps.iter().enumerate().map(device).collect();
    run(&maps)
}

#[test]
fn mean_embedding_is_that_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let cases = [
        vec![map([2, 10, 14, 24], 1), map([2, 5, 7, 48], 2)],
        vec![map([3, 9, 5, 10], 3), map([3, 5, 3, 22], 4), map([3, 3, 2, 7], 5)],
        vec![map([1, 4, 6, 16], 6)],
    ];
    for (case, maps) in cases.iter().enumerate() {
        let variants = [(1, false), (3, false), (5, true), (9, false), (3, true)];
        // Maps and rows that begin where 16 bytes do, and others.
        for ((patch, is_bf16), first) in variants.into_iter().flat_map(|variant| [(variant, 0), (variant, 1)]) {
            let host: Vec<&FeatureMap> = maps.iter().collect();
            let expected = patch::mean_embed(&host, patch).expect("rows");
            let found = with_maps(&gpu, maps, is_bf16, first, |maps| {
                let room: Buffer<f32> = gpu.upload(&vec![7.0; first + expected.data.len()]).expect("room");
                let rows = room.range(first..room.len());
                device::mean_embed(&gpu, maps, patch, rows).expect("rows");
                gpu.download(room.all()).expect("a download")
            });
            assert!(found[..first].iter().all(|&value| value == 7.0));
            let distance = distance(&found[first..], &expected.data);
            assert!(distance < 2e-6, "case {case} p = {patch} from {first}: {distance:e}");
        }
    }
}

#[test]
fn code_embedding_is_that_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let cases = [
        (vec![map([2, 10, 14, 24], 1), map([2, 5, 7, 48], 2)], 36, 36),
        (vec![map([2, 9, 13, 10], 3), map([2, 5, 7, 22], 4)], 17, 17),
        (vec![map([2, 6, 4, 10], 5), map([2, 3, 2, 22], 6)], 19, 17),
    ];
    for (case, (maps, pretrain, target)) in cases.iter().enumerate() {
        for (patch, is_bf16) in [(1, false), (3, false), (5, true)] {
            let host: Vec<&FeatureMap> = maps.iter().collect();
            let expected = patch::code_embed(&host, patch, *pretrain, *target).expect("rows");
            let found = with_maps(&gpu, maps, is_bf16, 1, |maps| {
                let rows: Buffer<f32> = gpu.upload(&vec![f32::NAN; expected.data.len()]).expect("room");
                device::code_embed(&gpu, maps, patch, *pretrain, *target, rows.all()).expect("rows");
                gpu.download(rows.all()).expect("a download")
            });
            let distance = distance(&found, &expected.data);
            assert!(distance < 2e-6, "case {case} p = {patch}: {distance:e}");
        }
    }
}

#[test]
fn maps_that_are_none_or_too_wide_are_refused() {
    let Some(gpu) = gpu() else { return };
    let values: Buffer<f32> = gpu.zeros(2 * 199 * 8).expect("room");
    let refusal = |w, c, pitch, len: usize| {
        let map = DeviceMap {
            n: 1,
            h: 1,
            w,
            c,
            pitch,
            values: Values::F32(values.range(0..len)),
        };
        let rows: Buffer<f32> = gpu.zeros(w * c).expect("room");
        let made = device::mean_embed(&gpu, &[map], 1, rows.all());
        made.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refusal(198, 8, 8, 198 * 8), "");
    assert!(refusal(199, 8, 8, 199 * 8).contains("199 columns, and the mean embedding takes 198"));
    for (w, c, pitch, len) in [
        (4, 8, 8, 31),
        (4, 8, 7, 28),
        (4, 9, 8, 32),
        (4, 8, 12, 48),
        (0, 8, 8, 0),
    ] {
        let message = refusal(w, c, pitch, len);
        assert!(
            message.contains(&format!("{len} values are no feature map")),
            "{message}"
        );
    }
}
