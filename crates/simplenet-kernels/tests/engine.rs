//! The engine against plain loops in f64, on every instruction set of this processor and in both precisions.

use proptest::prelude::*;
use simplenet_kernels::engine::{Engine, EngineConfig, EngineError, FeatureMap, Precision, reference};
use simplenet_kernels::graph::{Activation, Conv, Graph, GraphError, MaxPool, Padding, ValueId};
use simplenet_kernels::isa::Isa;

/// Reproducible values in [-1, 1): a linear congruential generator (Knuth's MMIX constants), upper 24 bits.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// Weights small enough that sums stay near 1.
fn conv(input: ValueId, channels: (usize, usize), kernel: usize, groups: usize, seed: u64) -> Conv {
    let (in_channels, out_channels) = channels;
    let per_filter = in_channels / groups * kernel * kernel;
    let scale = (3.0 / per_filter as f32).sqrt();
    Conv {
        input,
        weight: values(out_channels * per_filter, seed)
            .iter()
            .map(|value| value * scale)
            .collect(),
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

/// L2 distance relative to the expected values, or to a root mean square of 0.3 where cancellation (sums are near 1) has
/// left less; infinite where shapes differ.
fn distance(found: &FeatureMap, expected: &FeatureMap) -> f64 {
    if (found.n, found.h, found.w, found.c) != (expected.n, expected.h, expected.w, expected.c) {
        return f64::INFINITY;
    }
    let square = |value: f64| value * value;
    let pairs = || found.data.iter().zip(&expected.data);
    let difference: f64 = pairs().map(|(a, b)| square(f64::from(a - b))).sum();
    let norm: f64 = pairs().map(|(_, b)| square(f64::from(*b))).sum();
    (difference / norm.max(0.09 * found.data.len().max(1) as f64)).sqrt()
}

/// Compares all outputs on every instruction set and in both precisions with the reference.
fn assert_like_reference(graph: &Graph, outputs: &[ValueId], shape: [usize; 4]) {
    let images = values(shape.iter().product(), 7);
    let expected = reference::run(graph, outputs, &images, shape).expect("the graph fits its image");
    for isa in Isa::supported() {
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)] {
            let config = EngineConfig { precision, isa };
            let engine = Engine::compile(graph, outputs, config).expect("the outputs exist");
            let maps = engine.run(&images, shape).expect("the image fits");
            assert_eq!(maps.len(), outputs.len());
            for (map, expected) in maps.iter().zip(&expected) {
                let distance = distance(map, expected);
                assert!(
                    distance < tolerance,
                    "{isa} {precision:?}: relative distance {distance:e}"
                );
            }
            // Arenas and plans are kept: a second run must find nothing of the first.
            assert_eq!(
                engine.run(&images, shape).expect("the image fits"),
                maps,
                "{isa} {precision:?}"
            );
        }
    }
}

fn channels() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 3, 5, 16, 17, 24, 33, 48, 80])
}

fn kernel() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 2, 3, 5, 7])
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![Activation::Linear, Activation::Relu, Activation::Relu6])
}

/// `None` is [`Padding::Same`]; a number is reduced to what the kernel allows.
fn padding() -> impl Strategy<Value = Option<usize>> {
    prop::option::of(0usize..4)
}

fn padding_of(padding: Option<usize>) -> Padding {
    padding.map_or(Padding::Same, Padding::Symmetric)
}

/// Sides that differ, none smaller than the largest kernel.
fn sides() -> impl Strategy<Value = (usize, usize)> {
    prop::sample::select(vec![(7, 11), (13, 8), (9, 33), (16, 7), (20, 19)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_dense_convolution_is_its_definition(
        batch in 1usize..4, (h, w) in sides(), c_in in channels(), c_out in channels(), kernel in kernel(),
        stride in 1usize..4, padding in padding(), activation in activation(), seed in any::<u32>(),
    ) {
        let mut graph = Graph::new(c_in);
        let output = graph.conv(Conv {
            stride,
            padding: padding_of(padding),
            activation,
            ..conv(ValueId::INPUT, (c_in, c_out), kernel, 1, seed.into())
        }).expect("the node fits");
        assert_like_reference(&graph, &[output], [batch, c_in, h, w]);
    }

    /// What Winograd's algorithm takes, and its neighbours that it does not; in a residual block, so that the sums are added
    /// in place.
    #[test]
    fn a_three_by_three_convolution_is_its_definition(
        batch in 1usize..4, h in 3usize..30, w in 3usize..30, stride in 1usize..3,
        c_in in prop::sample::select(vec![31usize, 32, 33, 64, 80]), c_out in prop::sample::select(vec![31usize, 32, 48, 65, 96]),
        padding in padding(), residual in any::<bool>(), activation in activation(), seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let mut graph = Graph::new(c_in);
        let padding = padding_of(padding);
        let beside = graph.conv(Conv { stride, padding, ..conv(ValueId::INPUT, (c_in, c_out), 3, 1, seed) }).expect("the node fits");
        let output = graph.conv(Conv {
            stride,
            padding,
            residual: residual.then_some(beside),
            activation,
            ..conv(ValueId::INPUT, (c_in, c_out), 3, 1, seed + 2)
        }).expect("the node fits");
        assert_like_reference(&graph, &[output], [batch, c_in, h, w]);
    }

    #[test]
    fn a_depthwise_convolution_is_its_definition(
        batch in 1usize..3, (h, w) in sides(), channels in channels(), kernel in kernel(),
        stride in 1usize..4, padding in padding(), activation in activation(), seed in any::<u32>(),
    ) {
        let mut graph = Graph::new(channels);
        let output = graph.conv(Conv {
            stride,
            padding: padding_of(padding),
            activation,
            ..conv(ValueId::INPUT, (channels, channels), kernel, channels, seed.into())
        }).expect("the node fits");
        assert_like_reference(&graph, &[output, ValueId::INPUT], [batch, channels, h, w]);
    }

    #[test]
    fn a_max_pooling_is_its_definition(
        (h, w) in sides(), channels in channels(), kernel in kernel(), stride in 1usize..4, padding in padding(),
    ) {
        let mut graph = Graph::new(channels);
        let output = graph.max_pool(MaxPool {
            input: ValueId::INPUT,
            kernel,
            stride,
            padding: padding_of(padding.map(|padding| padding.min(kernel - 1))),
        }).expect("the node fits");
        assert_like_reference(&graph, &[output], [2, channels, h, w]);
    }

    #[test]
    fn a_residual_network_is_its_definition(
        batch in 1usize..4, (h, w) in sides(), seed in any::<u32>(),
        blocks in prop::collection::vec((1usize..40, prop::sample::select(vec![3usize, 5]), any::<bool>(), activation()), 1..5),
    ) {
        let (graph, outputs) = random_network(seed.into(), &blocks);
        assert_like_reference(&graph, &outputs, [batch, 3, h, w]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Blocks so wide that they run in bands of rows; whoever asks for what is between gets it whole, and the same bytes behind.
    #[test]
    fn a_wide_block_is_its_definition_and_the_same_in_bands(
        batch in 1usize..3, height in 60usize..75, kernel in prop::sample::select(vec![3usize, 5]), stride in 1usize..3, padding in padding(),
        image_kernel in prop::sample::select(vec![1usize, 3]), add in any::<bool>(), add_first in any::<bool>(),
        more in any::<bool>(), dense in any::<bool>(), seed in any::<u32>(),
    ) {
        // The reference takes its time over dense convolutions.
        let (channels, width, columns) = (20, if dense { 112 } else { 200 }, 45);
        let groups = if dense { 1 } else { width };
        let seed = seed.into();
        let mut graph = Graph::new(channels);
        let added = add_first.then(|| graph.conv(conv(ValueId::INPUT, (channels, width), 1, 1, seed + 18)).expect("the node fits"));
        let inner = graph.conv(Conv {
            activation: Activation::Relu6,
            residual: added,
            ..conv(ValueId::INPUT, (channels, width), image_kernel, 1, seed)
        });
        let inner = inner.expect("the node fits");
        let middle = graph.conv(Conv {
            stride,
            padding: padding.map_or(Padding::Same, |padding| Padding::Symmetric(padding.min(kernel - 1))),
            activation: Activation::Relu,
            ..conv(inner, (width, width), kernel, groups, seed + 3)
        });
        let middle = middle.expect("the node fits");
        let same_size = stride == 1 && (padding.is_none() || padding == Some(kernel / 2));
        let last = graph.conv(Conv {
            residual: (add && same_size).then_some(ValueId::INPUT),
            ..conv(middle, (width, channels), 1, 1, seed + 6)
        });
        let mut last = last.expect("the node fits");
        if more {
            // What reads it wants a border around it, and is the first step of another block.
            let next = graph.conv(conv(last, (channels, width), 3, 1, seed + 9)).expect("the node fits");
            let next = graph.conv(conv(next, (width, width), 3, groups, seed + 12)).expect("the node fits");
            let next = Conv { residual: Some(last), ..conv(next, (width, channels), 1, 1, seed + 15) };
            last = graph.conv(next).expect("the node fits");
        }
        let shape = [batch, channels, height, columns];
        assert_like_reference(&graph, &[last], shape);
        let images = values(shape.iter().product(), 7);
        for isa in Isa::supported() {
            for precision in [Precision::F32, Precision::Bf16] {
                let on = |outputs: &[ValueId], threads: usize| {
                    let engine = Engine::compile(&graph, outputs, EngineConfig { precision, isa }).expect("the outputs exist");
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                    pool.install(|| engine.run(&images, shape).expect("the image fits").pop())
                };
                let in_bands = on(&[last], 1);
                prop_assert!(in_bands == on(&[middle, last], 1), "{isa} {precision:?}: whole");
                prop_assert!(in_bands == on(&[last], 3), "{isa} {precision:?}: 3 threads");
                // Too few rows for each.
                prop_assert!(in_bands == on(&[last], 16), "{isa} {precision:?}: 16 threads");
            }
        }
    }
}

/// A stem, a pooling, and inverted residual blocks of `(channels, kernel, depthwise, activation)`; returns the values
/// behind every second block, and behind the last.
fn random_network(seed: u64, blocks: &[(usize, usize, bool, Activation)]) -> (Graph, Vec<ValueId>) {
    let mut graph = Graph::new(3);
    let stem = Conv {
        activation: Activation::Relu,
        ..conv(ValueId::INPUT, (3, 24), 7, 1, seed)
    };
    let stem = graph.conv(stem).expect("the node fits");
    let mut x = graph
        .max_pool(MaxPool {
            input: stem,
            kernel: 3,
            stride: 2,
            padding: Padding::Symmetric(1),
        })
        .expect("the node fits");
    let mut outputs = Vec::new();
    for (index, &(width, kernel, depthwise, activation)) in blocks.iter().enumerate() {
        let seed = seed + 10 * (index as u64 + 1);
        let channels = graph.channels(x);
        let inner = Conv {
            activation: Activation::Relu6,
            ..conv(x, (channels, width), 1, 1, seed)
        };
        let inner = graph.conv(inner).expect("the node fits");
        let groups = if depthwise { width } else { 1 };
        let middle = Conv {
            padding: Padding::Same,
            activation: Activation::Relu,
            ..conv(inner, (width, width), kernel, groups, seed + 3)
        };
        let middle = graph.conv(middle).expect("the node fits");
        x = graph
            .conv(Conv {
                residual: Some(x),
                activation,
                ..conv(middle, (width, channels), 1, 1, seed + 6)
            })
            .expect("the node fits");
        if index % 2 == 0 || index + 1 == blocks.len() {
            outputs.push(x);
        }
    }
    // Nobody asks for this one.
    graph.conv(conv(x, (24, 5), 3, 1, seed)).expect("the node fits");
    (graph, outputs)
}

const BLOCKS: [(usize, usize, bool, Activation); 3] = [
    (33, 3, false, Activation::Relu),
    (40, 5, true, Activation::Linear),
    (17, 3, true, Activation::Relu6),
];

fn on_threads(threads: usize, engine: &Engine, images: &[f32], shape: [usize; 4]) -> Vec<FeatureMap> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let run = || engine.run(images, shape).expect("the image fits");
    pool.expect("a pool").install(run)
}

#[test]
fn the_number_of_threads_and_the_batch_never_change_a_byte() {
    let (graph, outputs) = random_network(5, &BLOCKS);
    let shape = [5, 3, 37, 22];
    let images = values(shape.iter().product(), 1);
    for isa in Isa::supported() {
        for precision in [Precision::F32, Precision::Bf16] {
            let engine = Engine::compile(&graph, &outputs, EngineConfig { precision, isa }).expect("the outputs exist");
            let on = |threads: usize| on_threads(threads, &engine, &images, shape);
            let one = on(1);
            for threads in [2, 3, 8] {
                assert!(
                    on(threads) == one,
                    "{isa} {precision:?}: {threads} threads differ from 1"
                );
            }
            let last = engine
                .run(&images[4 * 3 * 37 * 22..], [1, 3, 37, 22])
                .expect("the image fits");
            for (alone, batch) in last.iter().zip(&one) {
                assert!(
                    batch.data.ends_with(&alone.data),
                    "{isa} {precision:?}: alone differs from in a batch"
                );
            }
        }
    }
}

/// More rows than one chunk of a Winograd convolution takes, in either precision.
#[test]
fn a_large_three_by_three_convolution_is_its_definition_on_any_threads() {
    let (c_in, c_out, shape) = (33, 96, [1, 33, 60, 61]);
    let mut graph = Graph::new(c_in);
    let output = graph
        .conv(conv(ValueId::INPUT, (c_in, c_out), 3, 1, 11))
        .expect("the node fits");
    assert_like_reference(&graph, &[output], shape);
    let images = values(shape.iter().product(), 7);
    for isa in Isa::supported() {
        for precision in [Precision::F32, Precision::Bf16] {
            let engine =
                Engine::compile(&graph, &[output], EngineConfig { precision, isa }).expect("the output exists");
            let on = |threads: usize| on_threads(threads, &engine, &images, shape);
            assert!(on(1) == on(3), "{isa} {precision:?}: 3 threads differ from 1");
        }
    }
}

/// Whatever an instruction set rounds on the way: no more is lost than by rounding weights and activations alone.
#[test]
fn bf16_is_as_far_from_f32_everywhere() {
    let mut graph = Graph::new(3);
    let mut last = ValueId::INPUT;
    for (c_in, seed) in [(3, 1), (64, 3), (64, 5), (64, 7)] {
        let layer = Conv {
            activation: Activation::Relu,
            ..conv(last, (c_in, 64), 3, 1, seed)
        };
        last = graph.conv(layer).expect("the node fits");
    }
    let shape = [1, 3, 24, 24];
    let images = values(shape.iter().product(), 7);
    let expected = reference::run(&graph, &[last], &images, shape).expect("the image fits");
    let precision = Precision::Bf16;
    let distances = Isa::supported().into_iter().map(|isa| {
        let engine = Engine::compile(&graph, &[last], EngineConfig { precision, isa }).expect("the output exists");
        let maps = engine.run(&images, shape).expect("the image fits");
        (isa, distance(&maps[0], &expected[0]))
    });
    let distances: Vec<(Isa, f64)> = distances.collect();
    // Portable code rounds exactly weights and stored activations.
    let (_, plain) = distances[0];
    assert!(
        distances.iter().all(|&(_, distance)| distance < 1.5 * plain),
        "{distances:?}"
    );
}

/// Convolutions whose weights are larger than what they read, where the images of a thread take turns with each block of weights:
/// from the first step on, after some steps that are not such, and after a block that runs in bands.
#[test]
fn images_that_share_weights_are_as_alone() {
    let weighty = |graph: &mut Graph, input: ValueId, channels: usize, seed: u64| {
        let outer = graph
            .conv(conv(input, (channels, 96), 3, 1, seed))
            .expect("the node fits");
        let inner = graph
            .conv(conv(outer, (96, 96), 3, 1, seed + 3))
            .expect("the node fits");
        let last = Conv {
            residual: Some(outer),
            ..conv(inner, (96, 96), 1, 1, seed + 6)
        };
        [outer, graph.conv(last).expect("the node fits")]
    };
    let mut at_once = Graph::new(80);
    let mut outputs = weighty(&mut at_once, ValueId::INPUT, 80, 1).to_vec();
    outputs.insert(0, ValueId::INPUT);
    let mut later = Graph::new(3);
    let stem = Conv {
        stride: 4,
        ..conv(ValueId::INPUT, (3, 40), 7, 1, 2)
    };
    let stem = later.conv(stem).expect("the node fits");
    let later_outputs = weighty(&mut later, stem, 40, 5).to_vec();
    let mut banded = Graph::new(20);
    let wide = banded
        .conv(conv(ValueId::INPUT, (20, 200), 1, 1, 3))
        .expect("the node fits");
    let middle = Conv {
        stride: 8,
        ..conv(wide, (200, 200), 3, 200, 6)
    };
    let middle = banded.conv(middle).expect("the node fits");
    let narrow = banded.conv(conv(middle, (200, 40), 1, 1, 9)).expect("the node fits");
    let banded_outputs = weighty(&mut banded, narrow, 40, 12).to_vec();
    let networks = [
        (at_once, outputs, [5, 80, 7, 9]),
        (later, later_outputs, [5, 3, 36, 28]),
        (banded, banded_outputs, [5, 20, 72, 72]),
    ];
    for (graph, outputs, shape) in networks {
        assert_like_reference(&graph, &outputs, shape);
        let images = values(shape.iter().product(), 4);
        let of_one = images.len() / shape[0];
        for isa in Isa::supported() {
            for precision in [Precision::F32, Precision::Bf16] {
                let engine =
                    Engine::compile(&graph, &outputs, EngineConfig { precision, isa }).expect("the outputs exist");
                let on = |threads: usize, images: &[f32]| {
                    let pool = rayon::ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .expect("a pool");
                    let shape = [images.len() / of_one, shape[1], shape[2], shape[3]];
                    pool.install(|| engine.run(images, shape).expect("the image fits"))
                };
                let alone: Vec<Vec<FeatureMap>> = images.chunks(of_one).map(|image| on(1, image)).collect();
                for threads in [1, 2] {
                    for (output, map) in on(threads, &images).iter().enumerate() {
                        let expected: Vec<f32> = alone.iter().flat_map(|maps| maps[output].data.clone()).collect();
                        assert!(
                            map.data == expected,
                            "{isa} {precision:?}, {threads} threads, output {output}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn threads_share_an_engine() {
    let (graph, outputs) = random_network(6, &BLOCKS);
    // Different sizes at the same time, so that arenas and plans of both are in use.
    let shapes = [[1, 3, 37, 22], [2, 3, 15, 50]];
    let images = shapes.map(|shape| values(shape.iter().product(), 2));
    for (isa, precision) in Isa::supported()
        .into_iter()
        .flat_map(|isa| [Precision::F32, Precision::Bf16].map(|precision| (isa, precision)))
    {
        let config = EngineConfig { precision, isa };
        let engine = Engine::compile(&graph, &outputs, config).expect("the outputs exist");
        let expected = [0, 1].map(|index| engine.run(&images[index], shapes[index]).expect("the image fits"));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (engine, images, expected) = (&engine, &images, &expected);
                scope.spawn(move || {
                    for round in 0..5 {
                        let index = (worker + round) % 2;
                        let found = engine.run(&images[index], shapes[index]).expect("the image fits");
                        assert_eq!(found, expected[index], "{isa} {precision:?}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_pixel_that_is_not_a_number_is_not_hidden() {
    let mut graph = Graph::new(1);
    let relu = graph.conv(Conv {
        activation: Activation::Relu6,
        ..conv(ValueId::INPUT, (1, 3), 1, 1, 1)
    });
    let pool = MaxPool {
        input: relu.expect("the node fits"),
        kernel: 3,
        stride: 3,
        padding: Padding::Symmetric(0),
    };
    let output = graph.max_pool(pool).expect("the node fits");
    for isa in Isa::supported() {
        for precision in [Precision::F32, Precision::Bf16] {
            let engine =
                Engine::compile(&graph, &[output], EngineConfig { precision, isa }).expect("the output exists");
            for bad in 0..9 {
                let mut image = values(18, 3);
                image[bad / 3 * 6 + bad % 3] = f32::NAN;
                let map = &engine.run(&image, [1, 1, 3, 6]).expect("the image fits")[0];
                assert!(
                    map.data[..3].iter().all(|value| value.is_nan()),
                    "{isa} {precision:?}: pixel {bad}"
                );
                // A tile of AMX reaches over neighbouring pixels, with weights of zero.
                assert!(
                    map.data[3..].iter().all(|value| value.is_finite())
                        || (isa, precision) == (Isa::Amx, Precision::Bf16),
                    "{isa} {precision:?}: pixel {bad}"
                );
            }
        }
    }
}

#[test]
fn an_empty_batch_has_empty_maps() {
    let (graph, outputs) = random_network(5, &BLOCKS);
    let config = EngineConfig {
        precision: Precision::F32,
        isa: Isa::supported()[0],
    };
    let engine = Engine::compile(&graph, &outputs, config).expect("the outputs exist");
    let maps = engine.run(&[], [0, 3, 32, 40]).expect("nothing to do");
    assert_eq!(
        (maps[0].n, maps[0].h, maps[0].w, maps[0].c, maps[0].data.len()),
        (0, 16, 20, 24, 0)
    );

    let engine = Engine::compile(&graph, &[ValueId::INPUT], config).expect("the image is a value");
    for shape in [[4, 3, 0, 40], [4, 3, 32, 0]] {
        assert!(engine.run(&[], shape).expect("nothing to do")[0].data.is_empty());
    }
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    let mut graph = Graph::new(3);
    let unpadded = Conv {
        padding: Padding::Symmetric(0),
        ..conv(ValueId::INPUT, (3, 8), 7, 1, 1)
    };
    let output = graph.conv(unpadded).expect("the node fits");
    let config = EngineConfig {
        precision: Precision::F32,
        isa: Isa::Portable,
    };
    let engine = Engine::compile(&graph, &[output], config).expect("the output exists");
    let refused = |images: &[f32], shape| engine.run(images, shape).expect_err("it does not fit").to_string();
    assert_eq!(
        refused(&[0.0; 5], [1, 3, 9, 9]),
        "the images have 5 values, but the shape [1, 3, 9, 9] needs 243"
    );
    assert_eq!(
        refused(&[0.0; 81], [1, 1, 9, 9]),
        "the input has 1 channels, the network expects 3"
    );
    assert_eq!(
        refused(&[0.0; 135], [1, 3, 5, 9]),
        "an input of 5×9 leaves nothing for the kernel of node 0"
    );
    assert!(refused(&[], [usize::MAX, 3, 9, 9]).starts_with("the images have 0 values"));

    let unknown = Engine::compile(&graph, &[ValueId(2)], config).err();
    assert_eq!(unknown, Some(EngineError::UnknownOutput { value: 2, available: 2 }));
    for isa in Isa::ALL.into_iter().filter(|isa| !Isa::supported().contains(isa)) {
        let unsupported = Engine::compile(&graph, &[output], EngineConfig { isa, ..config }).err();
        assert_eq!(unsupported, Some(EngineError::UnsupportedIsa { isa }));
    }
}

#[test]
fn a_residual_of_another_size_is_refused() {
    let mut graph = Graph::new(4);
    let half = graph.conv(Conv {
        stride: 2,
        residual: Some(ValueId::INPUT),
        ..conv(ValueId::INPUT, (4, 4), 3, 1, 1)
    });
    let half = half.expect("sizes are not known yet");
    let config = EngineConfig {
        precision: Precision::F32,
        isa: Isa::Portable,
    };
    let engine = Engine::compile(&graph, &[half], config).expect("the output exists");
    let expected = GraphError::Mismatch {
        node: 0,
        what: "height of the residual",
        found: 6,
        expected: 3,
    };
    assert_eq!(
        engine.run(&[0.0; 4 * 6 * 8], [1, 4, 6, 8]),
        Err(EngineError::Graph(expected))
    );
}

#[test]
fn a_pooling_that_would_see_only_padding_is_refused() {
    let pool = |kernel, stride, padding| {
        let padding = Padding::Symmetric(padding);
        Graph::new(1)
            .max_pool(MaxPool {
                input: ValueId::INPUT,
                kernel,
                stride,
                padding,
            })
            .is_ok()
    };
    assert!(pool(3, 2, 2));
    assert!(!pool(3, 2, 3));
    assert!(!pool(3, 0, 1));
    assert!(!pool(0, 1, 0));
}

#[test]
fn what_no_memory_holds_is_refused() {
    let pool = MaxPool {
        input: ValueId::INPUT,
        kernel: 1 << 32,
        stride: 1,
        padding: Padding::Symmetric((1 << 32) - 1),
    };
    assert!(Graph::new(1).max_pool(pool).is_err());

    let mut graph = Graph::new(1);
    let mut value = ValueId::INPUT;
    for _ in 0..256 {
        let wider = Conv {
            padding: Padding::Symmetric(1 << 16),
            ..conv(value, (1, 1), 1, 1, 1)
        };
        value = graph.conv(wider).expect("each for itself is allowed");
    }
    for isa in Isa::supported() {
        for precision in [Precision::F32, Precision::Bf16] {
            let config = EngineConfig { precision, isa };
            let engine = Engine::compile(&graph, &[value], config).expect("the output exists");
            let too_large = EngineError::Graph(GraphError::TooLarge { height: 1, width: 1 });
            assert_eq!(engine.run(&[0.0], [1, 1, 1, 1]), Err(too_large), "{isa} {precision:?}");
        }
    }
}
