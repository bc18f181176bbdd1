//! The kernels as candle operations: on a GPU what they are on the processor.

use candle_core::{Device, Tensor, Var};
use simplenet_kernels::adam::AdamConfig;
use simplenet_kernels::candle_ops::{
    ImageLayout, adam_step, add_normal, anomaly_maps, bias_residual_activation, code_embed, discriminator_scores,
    mean_embed, truncated_l1,
};
use simplenet_kernels::graph::Activation;
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
        let host: Vec<Tensor> = maps[..count].iter().map(channels_first).collect();
        // As a whole tensor, and as a view that begins where four values do not.
        for first in [0, 1] {
            let view = |map: &Tensor| {
                let zeros = Tensor::zeros(first, map.dtype(), &Device::Cpu)?;
                let joined = Tensor::cat(&[&zeros, &map.flatten_all()?], 0)?.to_device(&device)?;
                joined.narrow(0, first, map.elem_count())?.reshape(map.dims())
            };
            let on_gpu: Vec<Tensor> = maps[..count]
                .iter()
                .map(|map| channels_first(&view(map).expect("a view")))
                .collect();
            let pairs = [
                (mean_embed(&host, 3), mean_embed(&on_gpu, 3)),
                (code_embed(&host, 3, 11, 9), code_embed(&on_gpu, 3, 11, 9)),
            ];
            for (expected, found) in pairs {
                let (expected, found) = (expected.expect("rows"), found.expect("rows"));
                assert_eq!(found.dims(), expected.dims());
                let distance = distance(&numbers(&found), &numbers(&expected));
                assert!(distance < 1e-5, "{count} maps from value {first} on: {distance:e}");
            }
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

#[test]
fn of_no_images_there_are_no_maps_and_no_patches() {
    let Some(gpu) = gpu() else { return };
    for device in [Device::Cpu, Device::Cuda(gpu.candle().clone())] {
        let none_of = |shape: &[usize]| {
            let some = tensor(shape, 1).to_device(&device).expect("an upload");
            some.narrow(0, 0, 0).expect("a view")
        };
        let made = anomaly_maps(&none_of(&[2, 3, 4]), [12, 16], 1.0).expect("maps");
        assert_eq!(made.dims(), [0, 12, 16], "{device:?}");
        assert!(numbers(&made).is_empty());
        let map = none_of(&[2, 7, 6, 16]).permute((0, 3, 1, 2)).expect("a view");
        let maps = std::slice::from_ref(&map);
        for made in [mean_embed(maps, 3), code_embed(maps, 3, 11, 9)] {
            let error = made.expect_err("a refusal").to_string();
            assert!(error.contains("0 images"), "{device:?}: {error}");
        }
    }
}

#[test]
fn what_follows_a_convolution_has_the_bits_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu.candle().clone());
    let layouts = [ImageLayout::ChannelsFirst, ImageLayout::ChannelsLast];
    let activations = [Activation::Linear, Activation::Relu, Activation::Relu6];
    // One and four values to a thread, and views that begin where four do not.
    let shapes = [[2, 3, 5, 7], [2, 8, 4, 6], [3, 12, 1, 1], [1, 5, 3, 8], [3, 1, 2, 4]];
    for (dims, first) in shapes.iter().flat_map(|dims| [(dims, 0), (dims, 1)]) {
        let count = dims.iter().product::<usize>();
        let x = (tensor(&[first + count], 1) * 8.0).expect("a tensor");
        let residual = tensor(&[first + count], 2);
        for (layout, activation) in layouts.iter().flat_map(|layout| activations.map(|of| (*layout, of))) {
            let channels = match layout {
                ImageLayout::ChannelsFirst => dims[1],
                ImageLayout::ChannelsLast => dims[3],
            };
            let bias = tensor(&[channels], 3);
            for residual in [None, Some(&residual)] {
                let apply = |device: &Device| {
                    let there = |tensor: &Tensor| tensor.to_device(device).expect("an upload");
                    let images = |tensor: &Tensor| {
                        let images = there(tensor).narrow(0, first, count);
                        images.and_then(|view| view.reshape(&dims[..])).expect("a view")
                    };
                    let residual = residual.map(images);
                    let out =
                        bias_residual_activation(&images(&x), &there(&bias), residual.as_ref(), activation, layout);
                    numbers(&out.expect("a result"))
                };
                assert_eq!(
                    apply(&device),
                    apply(&Device::Cpu),
                    "{dims:?} {first} {layout:?} {activation:?}"
                );
            }
        }
    }
}

#[test]
fn discriminator_and_loss_are_those_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu.candle().clone());
    for (rows, hidden) in [(1, 1), (8, 33), (101, 40), (70, 300)] {
        let run = |device: &Device| {
            let variable = |shape: &[usize], seed, shift: f64| {
                let values = (tensor(shape, seed) + shift).expect("values");
                Var::from_tensor(&values.to_device(device).expect("an upload")).expect("a variable")
            };
            let z = variable(&[2 * rows, hidden], 1, 0.4);
            let [gamma, beta, output] = [1.0, 0.1, 0.0].map(|shift| variable(&[hidden], 2, shift));
            let scores = discriminator_scores(&z, &gamma, &beta, &output, 1e-5, 0.2).expect("scores");
            let half = |at| scores.narrow(0, at * rows, rows).expect("a view");
            let loss = truncated_l1(&half(0), &half(1), 0.5, -0.5).expect("a loss");
            let gradients = loss.backward().expect("gradients");
            let of_loss = [&z, &gamma, &beta, &output].map(|of| numbers(gradients.get(of).expect("a gradient")));
            // And with a gradient of its own for every row.
            let weights = tensor(&[2 * rows], 5).to_device(device).expect("an upload");
            let weighted = (&scores * &weights).and_then(|weighted| weighted.backward());
            let gradients = weighted.expect("gradients");
            let of_weighted = [&z, &gamma, &beta, &output].map(|of| numbers(gradients.get(of).expect("a gradient")));
            (numbers(&scores), numbers(&loss), of_loss, of_weighted)
        };
        let (scores, loss, of_loss, of_weighted) = run(&device);
        let expected = run(&Device::Cpu);
        let apart = distance(&scores, &expected.0);
        assert!(apart < 1e-5, "scores: {apart:e}");
        let apart = distance(&loss, &expected.1);
        assert!(apart < 1e-5, "loss: {apart:e}");
        for (found, expected) in [(of_loss, expected.2), (of_weighted, expected.3)] {
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let apart = distance(found, expected);
                assert!(apart < 1e-4, "gradient {at} of {rows} rows of {hidden}: {apart:e}");
            }
        }
    }
}

#[test]
fn adam_is_that_of_the_processor() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu.candle().clone());
    for decoupled in [false, true] {
        let config = AdamConfig {
            lr: 0.01,
            weight_decay: 0.1,
            decoupled,
            ..AdamConfig::default()
        };
        let run = |device: &Device| {
            let there = |tensor: Tensor| tensor.to_device(device).expect("an upload");
            let parameter = Var::from_tensor(&there(tensor(&[7, 101], 1))).expect("a variable");
            let [m, v] = [0, 1].map(|_| parameter.zeros_like().expect("moments"));
            for step in 1..=3 {
                let gradient = there(tensor(&[7, 101], 1 + step as u64));
                adam_step(&parameter, &gradient, &m, &v, step, &config).expect("an update");
            }
            [parameter.as_tensor(), &m, &v].map(numbers)
        };
        let (found, expected) = (run(&device), run(&Device::Cpu));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let apart = distance(found, expected);
            assert!(apart < 1e-6, "tensor {at}, decoupled {decoupled}: {apart:e}");
        }
    }
    let here = tensor(&[4], 1);
    let [parameter, m, v] = [2, 3, 4].map(|seed| tensor(&[4], seed).to_device(&device).expect("an upload"));
    let error = adam_step(&parameter, &here, &m, &v, 1, &AdamConfig::default());
    let error = error.expect_err("a refusal").to_string();
    assert!(error.contains("the gradient is on Cpu"), "{error}");
}
