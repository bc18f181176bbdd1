//! The candle executor against plain loops.

use candle_core::{Device, Tensor};
use simplenet_kernels::candle_graph::{CandleGraph, run};
use simplenet_kernels::graph::{Activation, Conv, Graph, MaxPool, Padding, ValueId};

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |i: u32| {
        let x = (i + 1).wrapping_mul(0x9E37_79B1) ^ seed.wrapping_mul(0x85EB_CA6B);
        (x ^ (x >> 15)).wrapping_mul(0xC2B2_AE35)
    };
    (0..count as u32)
        .map(|i| (mix(i) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

/// Cells of the input that output position `at` covers along one axis, with their place in the kernel.
fn covered(at: usize, input: usize, kernel: usize, stride: usize, padding: Padding) -> Vec<(usize, usize)> {
    let (before, _) = padding.before_after(input, kernel, stride);
    let cells = (0..kernel).filter_map(|k| Some((k, (at * stride + k).checked_sub(before)?)));
    cells.filter(|(_, cell)| *cell < input).collect()
}

fn conv_reference(conv: &Conv, input: &[f32], [n, c, h, w]: [usize; 4], residual: Option<&[f32]>) -> Vec<f32> {
    let side = |length| conv.padding.output(length, conv.kernel, conv.stride).unwrap();
    let (rows, columns) = (side(h), side(w));
    let per_group = c / conv.groups;
    let mut out = Vec::new();
    for b in 0..n {
        for o in 0..conv.out_channels {
            let group = o * conv.groups / conv.out_channels;
            for y in 0..rows {
                for x in 0..columns {
                    let mut sum = f64::from(conv.bias[o]);
                    for i in 0..per_group {
                        for (ky, row) in covered(y, h, conv.kernel, conv.stride, conv.padding) {
                            for (kx, column) in covered(x, w, conv.kernel, conv.stride, conv.padding) {
                                let weight = conv.weight[((o * per_group + i) * conv.kernel + ky) * conv.kernel + kx];
                                let value = input[((b * c + group * per_group + i) * h + row) * w + column];
                                sum += f64::from(weight) * f64::from(value);
                            }
                        }
                    }
                    let sum = sum as f32 + residual.map_or(0.0, |residual| residual[out.len()]);
                    out.push(match conv.activation {
                        Activation::Linear => sum,
                        Activation::Relu => sum.max(0.0),
                        Activation::Relu6 => sum.clamp(0.0, 6.0),
                    });
                }
            }
        }
    }
    out
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &[f32]) {
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-5,
            "at {at}: {found}, expected {expected}"
        );
    }
}

#[test]
fn convolutions_equal_plain_loops() {
    for (kernel, stride, padding) in [
        (1, 1, Padding::Symmetric(0)),
        (3, 1, Padding::Symmetric(1)),
        (3, 2, Padding::Symmetric(1)),
        (7, 2, Padding::Symmetric(3)),
        (3, 2, Padding::Same),
        (5, 2, Padding::Same),
        (5, 1, Padding::Same),
        (2, 3, Padding::Same),
        (1, 2, Padding::Same),
        (3, 3, Padding::Symmetric(0)),
    ] {
        for (groups, out_channels) in [(1, 6), (4, 4)] {
            for (h, w) in [(7, 10), (8, 5), (9, 12)] {
                let mut graph = Graph::new(4);
                let conv = Conv {
                    input: ValueId::INPUT,
                    weight: values(out_channels * 4 / groups * kernel * kernel, 1),
                    bias: values(out_channels, 2),
                    in_channels: 4,
                    out_channels,
                    kernel,
                    stride,
                    padding,
                    groups,
                    residual: None,
                    activation: Activation::Relu,
                };
                let out = graph.conv(conv.clone()).unwrap();
                let images = values(2 * 4 * h * w, 3);
                let tensor = Tensor::from_slice(&images, (2, 4, h, w), &Device::Cpu).unwrap();
                let found = run(&graph, &[out], &tensor).unwrap();
                assert_eq!(found[0].dims(), graph.shapes([2, 4, h, w]).unwrap()[out.0]);
                assert_close(&found[0], &conv_reference(&conv, &images, [2, 4, h, w], None));
            }
        }
    }
}

#[test]
fn a_residual_is_added_before_the_activation_and_padding_never_wins_a_pooling() {
    let (n, h, w) = (1, 5, 8);
    let mut graph = Graph::new(3);
    let pooled = graph
        .max_pool(MaxPool {
            input: ValueId::INPUT,
            kernel: 3,
            stride: 1,
            padding: Padding::Symmetric(1),
        })
        .unwrap();
    let conv = Conv {
        input: pooled,
        weight: values(3 * 3 * 9, 4).iter().map(|weight| 3.0 * weight).collect(),
        bias: vec![1.0, 4.0, -2.0],
        in_channels: 3,
        out_channels: 3,
        kernel: 3,
        stride: 1,
        padding: Padding::Same,
        groups: 1,
        residual: Some(pooled),
        activation: Activation::Relu6,
    };
    let out = graph.conv(conv.clone()).unwrap();
    // Negative everywhere, so that a zero around the border would show.
    let images: Vec<f32> = values(3 * h * w, 5).iter().map(|value| value - 2.0).collect();
    let mut expected = Vec::new();
    for channel in 0..3 {
        for y in 0..h {
            for x in 0..w {
                let cells = covered(y, h, 3, 1, Padding::Symmetric(1))
                    .into_iter()
                    .flat_map(|(_, row)| {
                        let columns = covered(x, w, 3, 1, Padding::Symmetric(1)).into_iter();
                        columns.map(move |(_, column)| (channel * h + row) * w + column)
                    });
                expected.push(cells.map(|at| images[at]).fold(f32::NEG_INFINITY, f32::max));
            }
        }
    }
    let tensor = Tensor::from_slice(&images, (n, 3, h, w), &Device::Cpu).unwrap();
    let found = CandleGraph::new(&graph, &[out, pooled, ValueId::INPUT], &Device::Cpu)
        .unwrap()
        .run(&tensor)
        .unwrap();
    assert_close(
        &found[0],
        &conv_reference(&conv, &expected, [n, 3, h, w], Some(&expected)),
    );
    assert_close(&found[1], &expected);
    assert_close(&found[2], &images);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let mut graph = Graph::new(3);
    let pool = MaxPool {
        input: ValueId::INPUT,
        kernel: 4,
        stride: 2,
        padding: Padding::Symmetric(0),
    };
    let out = graph.max_pool(pool).unwrap();
    let first_line = |error: candle_core::Error| error.to_string().lines().next().unwrap_or_default().to_string();
    let images = |c, h, w| Tensor::zeros((1, c, h, w), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = run(&graph, &[out], &images(1, 8, 9)).unwrap_err();
    assert_eq!(first_line(error), "the input has 1 channels, the network expects 3");
    let error = run(&graph, &[out], &images(3, 3, 9)).unwrap_err();
    assert!(first_line(error).contains("3×9"));
    let error = run(&graph, &[ValueId(2)], &images(3, 8, 9)).unwrap_err();
    assert!(first_line(error).contains("value 2"));
}
