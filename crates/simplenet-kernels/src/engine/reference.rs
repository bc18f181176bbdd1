//! The convolutions by their definition: plain loops, sums in f64. Slow; the engine is tested against it.

use super::{EngineError, FeatureMap, check_images};
use crate::graph::{Activation, Conv, Graph, MaxPool, Node, ValueId};

/// Runs `images` of `shape` `[N, C, H, W]` through `graph`; one map per output.
///
/// # Errors
/// As [`Engine::run`](super::Engine::run), and [`EngineError::UnknownOutput`].
pub fn run(
    graph: &Graph,
    outputs: &[ValueId],
    images: &[f32],
    shape: [usize; 4],
) -> Result<Vec<FeatureMap>, EngineError> {
    let available = graph.nodes().len() + 1;
    if let Some(&ValueId(value)) = outputs.iter().find(|output| output.0 >= available) {
        return Err(EngineError::UnknownOutput { value, available });
    }
    check_images(graph.channels(ValueId::INPUT), images, shape)?;
    let shapes = graph.shapes(shape)?;
    let mut values = vec![from_nchw(images, shape)];
    for (node, &[n, c, h, w]) in graph.nodes().iter().zip(&shapes[1..]) {
        let mut data = Vec::with_capacity(n * h * w * c);
        for image in 0..n {
            for y in 0..h {
                for x in 0..w {
                    for channel in 0..c {
                        let at = [image, y, x, channel];
                        data.push(match node {
                            Node::Conv(conv) => convolve(conv, &values, at),
                            Node::MaxPool(pool) => maximum(pool, &values[pool.input.0], at),
                        });
                    }
                }
            }
        }
        values.push(FeatureMap { n, h, w, c, data });
    }
    Ok(outputs.iter().map(|output| values[output.0].clone()).collect())
}

fn from_nchw(images: &[f32], [n, c, h, w]: [usize; 4]) -> FeatureMap {
    let mut data = Vec::with_capacity(images.len());
    for image in 0..n {
        for pixel in 0..h * w {
            data.extend((0..c).map(|channel| images[(image * c + channel) * h * w + pixel]));
        }
    }
    FeatureMap { n, h, w, c, data }
}

fn at(map: &FeatureMap, [image, y, x, channel]: [usize; 4]) -> f32 {
    map.data[((image * map.h + y) * map.w + x) * map.c + channel]
}

/// The column or row that tap `tap` of output `output` reads, unless it lies in the padding.
fn source(output: usize, tap: usize, stride: usize, before: usize, length: usize) -> Option<usize> {
    (output * stride + tap)
        .checked_sub(before)
        .filter(|&source| source < length)
}

fn convolve(conv: &Conv, values: &[FeatureMap], [image, y, x, channel]: [usize; 4]) -> f32 {
    let input = &values[conv.input.0];
    let (top, _) = conv.padding.before_after(input.h, conv.kernel, conv.stride);
    let (left, _) = conv.padding.before_after(input.w, conv.kernel, conv.stride);
    let per_group = conv.in_channels / conv.groups;
    let first = channel / (conv.out_channels / conv.groups) * per_group;
    let mut sum = f64::from(conv.bias[channel]);
    for ky in 0..conv.kernel {
        for kx in 0..conv.kernel {
            let row = source(y, ky, conv.stride, top, input.h);
            let column = source(x, kx, conv.stride, left, input.w);
            let (Some(row), Some(column)) = (row, column) else {
                continue;
            };
            for from in 0..per_group {
                let weight = conv.weight[((channel * per_group + from) * conv.kernel + ky) * conv.kernel + kx];
                sum += f64::from(at(input, [image, row, column, first + from])) * f64::from(weight);
            }
        }
    }
    if let Some(residual) = conv.residual {
        sum += f64::from(at(&values[residual.0], [image, y, x, channel]));
    }
    let clamped = match conv.activation {
        _ if sum.is_nan() => sum,
        Activation::Linear => sum,
        Activation::Relu => sum.max(0.0),
        Activation::Relu6 => sum.clamp(0.0, 6.0),
    };
    clamped as f32
}

fn maximum(pool: &MaxPool, input: &FeatureMap, [image, y, x, channel]: [usize; 4]) -> f32 {
    let (top, _) = pool.padding.before_after(input.h, pool.kernel, pool.stride);
    let (left, _) = pool.padding.before_after(input.w, pool.kernel, pool.stride);
    let mut largest = f32::NEG_INFINITY;
    for ky in 0..pool.kernel {
        for kx in 0..pool.kernel {
            let row = source(y, ky, pool.stride, top, input.h);
            let column = source(x, kx, pool.stride, left, input.w);
            if let (Some(row), Some(column)) = (row, column) {
                let value = at(input, [image, row, column, channel]);
                if !largest.is_nan() && (value > largest || value.is_nan()) {
                    largest = value;
                }
            }
        }
    }
    largest
}
