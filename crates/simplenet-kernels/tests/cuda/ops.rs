//! The kernels as candle operations: on a GPU what they are on the processor.

use candle_core::{Device, Tensor};
use simplenet_kernels::candle_ops::{add_normal, anomaly_maps, code_embed, mean_embed};
use simplenet_kernels::noise::NoiseKey;

use crate::gpu::gpu;
use crate::support::{distance, values};

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(values(shape.iter().product(), seed), shape, &Device::Cpu).expect("a tensor")
}

#[test]
fn operations_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu.candle().clone());
    let there = |tensor: &Tensor| tensor.to_device(&device).expect("an upload");
    // Channels last, as our networks make them; candle's view is channels first.
    let channels_first = |map: &Tensor| map.permute((0, 3, 1, 2)).expect("a view");
    let maps = [
        tensor(&[2, 7, 6, 16], 1),
        tensor(&[2, 4, 3, 24], 2),
        tensor(&[2, 2, 2, 8], 3),
    ];
    for count in 1..=3 {
        let on_gpu: Vec<Tensor> = maps[..count].iter().map(|map| channels_first(&there(map))).collect();
        let maps: Vec<Tensor> = maps[..count].iter().map(channels_first).collect();
        let pairs = [
            (mean_embed(&maps, 3), mean_embed(&on_gpu, 3)),
            (code_embed(&maps, 3, 11, 9), code_embed(&on_gpu, 3, 11, 9)),
        ];
        for (expected, found) in pairs {
            let (expected, found) = (expected.expect("rows"), found.expect("rows"));
            assert_eq!(found.dims(), expected.dims());
            let distance = distance(&numbers(&found), &numbers(&expected));
            assert!(distance < 1e-5, "{count} maps: {distance:e}");
        }
    }
    let odd = channels_first(&there(&tensor(&[1, 2, 2, 3], 7)));
    let error = mean_embed(&[odd], 3).expect_err("a refusal").to_string();
    assert!(error.contains("3 channels"), "{error}");

    let scores = tensor(&[3, 5, 9], 4);
    let expected = anomaly_maps(&scores, [37, 70], 4.0).expect("maps");
    let found = anomaly_maps(&there(&scores), [37, 70], 4.0).expect("maps");
    let distance = distance(&numbers(&found), &numbers(&expected));
    assert!(distance < 2e-6, "maps: {distance:e}");

    let key = NoiseKey { seed: 5, stream: 9 };
    let features = tensor(&[3, 1000], 6);
    let on_gpu = there(&features);
    for features in [&features, &on_gpu] {
        add_normal(&features.narrow(0, 1, 1).expect("a view"), key, 0.5).expect("noise");
    }
    assert_eq!(
        numbers(&on_gpu),
        numbers(&features),
        "noise has the same bits everywhere"
    );
}
