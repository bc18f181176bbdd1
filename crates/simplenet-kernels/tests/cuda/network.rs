//! Convolution networks.

use simplenet_kernels::cuda::network::{DeviceMap, Network, Values};
use simplenet_kernels::cuda::{Gpu, Products, to_tf32};
use simplenet_kernels::engine::reference;
use simplenet_kernels::graph::{Activation, Conv, Graph, MaxPool, Padding, ValueId};

use crate::gpu::gpu;
use crate::support::{distance, values};

/// Weights small enough that sums stay near 1.
fn conv(input: ValueId, channels: (usize, usize), kernel: usize, groups: usize, seed: u64) -> Conv {
    let (in_channels, out_channels) = channels;
    let per_filter = in_channels / groups * kernel * kernel;
    let scale = (3.0 / per_filter as f32).sqrt();
    let weight = values(out_channels * per_filter, seed);
    Conv {
        input,
        weight: weight.iter().map(|value| value * scale).collect(),
        bias: values(out_channels, seed + 1),
        in_channels,
        out_channels,
        kernel,
        stride: 1,
        padding: Padding::Symmetric(kernel / 2),
        groups,
        residual: None,
        activation: Activation::Linear,
    }
}

/// The real channels of a map on the host, `[n, h, w, c]`.
fn download(gpu: &Gpu, map: &DeviceMap<'_>) -> Vec<f32> {
    let padded: Vec<f32> = match map.values {
        Values::F32(values) => gpu.download(values).expect("a download"),
        Values::Bf16(values) => gpu
            .download(values)
            .expect("a download")
            .into_iter()
            .map(f32::from)
            .collect(),
    };
    assert!(
        padded
            .chunks(map.pitch)
            .all(|pixel| pixel[map.c..].iter().all(|&value| value == 0.0)),
        "channels of padding are zero"
    );
    padded
        .chunks(map.pitch)
        .flat_map(|pixel| &pixel[..map.c])
        .copied()
        .collect()
}

/// Compares all outputs in every precision with the reference; twice, because the second run is a captured one.
fn assert_like_reference(gpu: &Gpu, what: &str, graph: &Graph, outputs: &[ValueId], shape: [usize; 4]) {
    let images = values(shape.iter().product(), 7);
    let expected = reference::run(graph, outputs, &images, shape).expect("the graph fits its image");
    // Rounding to 11 bits is off by 2^-11 at most and by 2e-4 in the mean square; some layers add up to less than 1e-3.
    for (products, tolerance) in [(Products::F32, 1e-5), (Products::Tf32, 1e-3), (Products::Bf16, 2e-2)] {
        let network = Network::new(gpu, graph, outputs, products).expect("the outputs exist");
        for run in 0..2 {
            let check = |maps: &[DeviceMap<'_>]| {
                assert_eq!(maps.len(), outputs.len());
                for (map, expected) in maps.iter().zip(&expected) {
                    assert_eq!(
                        [map.n, map.h, map.w, map.c],
                        [expected.n, expected.h, expected.w, expected.c]
                    );
                    let found = download(gpu, map);
                    let distance = distance(&found, &expected.data);
                    assert!(
                        distance < tolerance,
                        "{what} {products:?} run {run}: relative distance {distance:e}"
                    );
                    if products == Products::Tf32 {
                        assert!(
                            found.iter().all(|&value| to_tf32(value) == value),
                            "{what}: values are stored rounded"
                        );
                    }
                }
                Ok(())
            };
            network.run(&images, shape, check).expect("the image fits");
        }
    }
}

#[test]
fn dense_convolutions_are_their_definition() {
    let Some(gpu) = gpu() else { return };
    // Channels beside multiples of 8, of the tiles and of a stage's depth; sides that differ.
    let channels = [(3, 64), (1, 5), (17, 33), (64, 64), (80, 130), (128, 256), (48, 72)];
    let kernels = [(1, 1), (3, 1), (3, 2), (7, 2), (2, 3), (1, 2), (5, 1)];
    let sides = [(13, 8), (7, 11), (33, 20)];
    let paddings = [Padding::Same, Padding::Symmetric(0), Padding::Symmetric(1)];
    let activations = [Activation::Relu, Activation::Linear, Activation::Relu6];
    for (index, &pair) in channels.iter().enumerate() {
        for (at, &(kernel, stride)) in kernels.iter().enumerate() {
            let (h, w) = sides[(index + at) % sides.len()];
            let mut graph = Graph::new(pair.0);
            let node = Conv {
                stride,
                padding: paddings[(index + at) % paddings.len()],
                activation: activations[at % activations.len()],
                ..conv(ValueId::INPUT, pair, kernel, 1, (index * 10 + at) as u64)
            };
            let output = graph.conv(node).expect("the node fits");
            let what = format!("{pair:?} kernel {kernel} stride {stride} on {h}×{w}");
            assert_like_reference(&gpu, &what, &graph, &[output], [1 + at % 3, pair.0, h, w]);
        }
    }
}

#[test]
fn depthwise_convolutions_and_poolings_are_their_definition() {
    let Some(gpu) = gpu() else { return };
    for (channels, kernel, stride) in [(8, 3, 1), (17, 3, 2), (40, 5, 1), (3, 5, 2), (33, 1, 1)] {
        let mut graph = Graph::new(channels);
        let depthwise = Conv {
            stride,
            padding: Padding::Same,
            activation: Activation::Relu6,
            ..conv(ValueId::INPUT, (channels, channels), kernel, channels, 3)
        };
        let first = graph.conv(depthwise).expect("the node fits");
        let pooled = graph
            .max_pool(MaxPool {
                input: first,
                kernel: 3,
                stride: 2,
                padding: Padding::Symmetric(1),
            })
            .expect("the node fits");
        let what = format!("{channels} channels, kernel {kernel}, stride {stride}");
        assert_like_reference(&gpu, &what, &graph, &[first, pooled], [2, channels, 19, 14]);
    }
}

/// Two residual blocks behind a stem: buffers are shared, outputs are kept, residuals are read.
fn residual_network() -> (Graph, [ValueId; 3]) {
    let mut graph = Graph::new(3);
    let relu = |conv: Conv| Conv {
        activation: Activation::Relu,
        ..conv
    };
    let stem = Conv {
        stride: 2,
        ..relu(conv(ValueId::INPUT, (3, 24), 7, 1, 1))
    };
    let stem = graph.conv(stem).expect("the stem");
    let pooled = graph
        .max_pool(MaxPool {
            input: stem,
            kernel: 3,
            stride: 2,
            padding: Padding::Symmetric(1),
        })
        .expect("the pooling");
    let inner = graph.conv(relu(conv(pooled, (24, 40), 1, 1, 2))).expect("a node");
    let inner = graph.conv(relu(conv(inner, (40, 40), 3, 1, 3))).expect("a node");
    let first = Conv {
        residual: Some(pooled),
        ..relu(conv(inner, (40, 24), 1, 1, 4))
    };
    let first = graph.conv(first).expect("a node");
    let down = Conv {
        stride: 2,
        ..conv(first, (24, 136), 1, 1, 5)
    };
    let down = graph.conv(down).expect("a node");
    let inner = Conv {
        stride: 2,
        ..relu(conv(first, (24, 64), 3, 1, 6))
    };
    let inner = graph.conv(inner).expect("a node");
    let second = Conv {
        residual: Some(down),
        ..relu(conv(inner, (64, 136), 1, 1, 7))
    };
    let second = graph.conv(second).expect("a node");
    (graph, [stem, first, second])
}

#[test]
fn a_residual_network_is_its_definition_at_every_batch() {
    let Some(gpu) = gpu() else { return };
    let (graph, outputs) = residual_network();
    for (batch, h, w) in [(1, 65, 48), (3, 40, 71), (20, 33, 32)] {
        assert_like_reference(&gpu, &format!("batch {batch}"), &graph, &outputs, [batch, 3, h, w]);
    }
}

#[test]
fn sums_that_blocks_share_are_whole_and_the_same_every_time() {
    let Some(gpu) = gpu() else { return };
    // Few pixels and a deep sum: a tile's sum is split over many blocks, also where there are few processors. One tile, two
    // of pixels, three of channels.
    for (out_channels, side) in [(64, 7), (64, 14), (192, 7)] {
        let mut graph = Graph::new(512);
        let output = graph
            .conv(conv(ValueId::INPUT, (512, out_channels), 3, 1, 9))
            .expect("the node fits");
        let shape = [1, 512, side, side];
        assert_like_reference(&gpu, "split sums", &graph, &[output], shape);
        let images = values(shape.iter().product(), 11);
        for products in [Products::Tf32, Products::Bf16] {
            let network = Network::new(&gpu, &graph, &[output], products).expect("the output exists");
            let splits = network.most_splits(shape).expect("a shape of images");
            assert!(
                splits > 1,
                "{out_channels} channels of {side}×{side} pixels are not split"
            );
            let run = || {
                let maps = network.run(&images, shape, |maps| Ok(download(&gpu, &maps[0])));
                maps.expect("the image fits")
            };
            let first = run();
            (0..10).for_each(|_| assert_eq!(run(), first, "{products:?}"));
        }
    }
}

#[test]
fn tf32_rounds_images_and_weights_before_it_multiplies() {
    let Some(gpu) = gpu() else { return };
    let round = |values: &[f32]| values.iter().map(|&value| to_tf32(value)).collect::<Vec<_>>();
    // In pairs of pixels and without.
    for (channels, stride) in [((3, 24), 2), ((3, 24), 1), ((40, 136), 1)] {
        let node = Conv {
            stride,
            ..conv(ValueId::INPUT, channels, 3, 1, 5)
        };
        let graph_of = |node: Conv| {
            let mut graph = Graph::new(channels.0);
            let output = graph.conv(node).expect("the node fits");
            (graph, output)
        };
        let (graph, output) = graph_of(node.clone());
        let (rounded, _) = graph_of(Conv {
            weight: round(&node.weight),
            ..node
        });
        let shape = [2, channels.0, 21, 34];
        let images = values(shape.iter().product(), 8);
        let expected = reference::run(&rounded, &[output], &round(&images), shape).expect("the graph fits its image");
        let network = Network::new(&gpu, &graph, &[output], Products::Tf32).expect("the output exists");
        let maps = network.run(&images, shape, |maps| Ok(download(&gpu, &maps[0])));
        // Products of 11 bits are exact in f32, so only sums close to half-way between two values may be stored as the other
        // one. Factors that are cut off instead of rounded are 7e-4 away.
        let distance = distance(&maps.expect("the image fits"), &round(&expected[0].data));
        assert!(
            distance < 1e-4,
            "{channels:?} stride {stride}: relative distance {distance:e}"
        );
    }
}

#[test]
fn every_value_is_rounded_to_tf32_as_on_the_processor() {
    let Some(gpu) = gpu() else { return };
    let mut graph = Graph::new(3);
    let output = graph
        .max_pool(MaxPool {
            input: ValueId::INPUT,
            kernel: 1,
            stride: 1,
            padding: Padding::Symmetric(0),
        })
        .expect("the node fits");
    let shape = [1, 3, 16, 40];
    let mut images = values(shape.iter().product(), 3);
    let special = [
        1.0 + 2.0_f32.powi(-11),
        -1.0 - 2.0_f32.powi(-11),
        1.0 + 3.0 * 2.0_f32.powi(-11),
        f32::MAX,
        f32::MIN_POSITIVE / 2.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0x7fff_ffff),
        -0.0,
    ];
    images[..special.len()].copy_from_slice(&special);
    let network = Network::new(&gpu, &graph, &[output], Products::Tf32).expect("the output exists");
    let found = network.run(&images, shape, |maps| Ok(download(&gpu, &maps[0])));
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let area = shape[2] * shape[3];
    let expected = (0..images.len())
        .map(|at| to_tf32(images[at % 3 * area + at / 3]))
        .collect();
    assert_eq!(bits(found.expect("the image fits")), bits(expected));
}

#[test]
fn of_no_images_there_are_empty_maps() {
    let Some(gpu) = gpu() else { return };
    let (graph, outputs) = residual_network();
    for products in [Products::F32, Products::Tf32, Products::Bf16] {
        let network = Network::new(&gpu, &graph, &outputs, products).expect("the outputs exist");
        let sizes = |images: usize| {
            let shape = [images, 3, 65, 48];
            let made = network.run(&values(shape.iter().product(), 1), shape, |maps| {
                let size = |map: &DeviceMap<'_>| (map.n, [map.h, map.w, map.c], download(&gpu, map).len());
                Ok(maps.iter().map(size).collect::<Vec<_>>())
            });
            made.expect("the images fit")
        };
        for _ in 0..2 {
            for (none, one) in sizes(0).into_iter().zip(sizes(1)) {
                assert_eq!(none, (0, one.1, 0), "{products:?}");
            }
        }
    }
}

#[test]
fn a_network_forgets_nothing_from_shape_to_shape() {
    let Some(gpu) = gpu() else { return };
    let (graph, outputs) = residual_network();
    let network = || Network::new(&gpu, &graph, &outputs, Products::Bf16).expect("the outputs exist");
    let run = |network: &Network, [height, width]: [usize; 2]| {
        let shape = [1, 3, height, width];
        let images = values(shape.iter().product(), height as u64);
        let made = network.run(&images, shape, |maps| {
            Ok(maps.iter().map(|map| download(&gpu, map)).collect::<Vec<_>>())
        });
        made.expect("the image fits")
    };
    let shared = network();
    // The first shape comes back while its plan is kept, with its launches captured; then after more shapes than are kept.
    let small = [[40, 31], [17, 48], [40, 31]];
    let many = (0..12).map(|more| [32 + more, 16]);
    let again = [[40, 31], [17, 48]];
    for size in small.into_iter().chain(many).chain(again) {
        assert_eq!(run(&shared, size), run(&network(), size), "{size:?}");
    }
    let rerun = |height, width| shared.rerun([1, 3, height, width], |_| Ok(()));
    rerun(17, 48).expect("the last image is there");
    let error = rerun(32, 16).expect_err("long gone").to_string();
    assert!(error.contains("[1, 3, 32, 16]"), "{error}");
}
