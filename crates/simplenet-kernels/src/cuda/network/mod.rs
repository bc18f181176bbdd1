//! A convolution network on the GPU: [`crate::engine::Engine`] with activations in device memory.
//!
//! Activations lie channels last, their channels padded with zeros to a multiple of 8, in f32 or bf16; for products in TF32
//! they are f32, rounded to TF32 where they are stored. A convolution with its bias, residual and activation is one launch.
//! For each shape of input there is a plan, made once: which buffer holds which value (buffers are shared by values that do
//! not live at the same time), how each launch is cut, and, for small batches, where the time between launches would show,
//! the whole list captured. A plan holds memory for all activations of its shape, so only those of the shapes that were used
//! last are kept.
//!
//! Where a convolution on matrix units has fewer tiles than the GPU has processors, several blocks share the sum of a tile
//! ([`Network::most_splits`]): the same GPU gives the same bytes every time, another model may give others.

mod filters;

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, bail};
use half::bf16;

use self::filters::{Filters, PairedConv, padded};
use super::gemm::Factor;
use super::gpu::{Argument, Buffer, Element, Gpu, Grid, LaunchGraph, NULL, Span, arguments, int};
use super::products::{Products, to_tf32};
use crate::graph::{Activation, Conv, Graph, Node, Padding, ValueId};

/// Pixels of a block's tile.
const TILE_PIXELS: usize = 128;
const STAGES: usize = 3;
/// Bytes of k in one stage, on matrix units.
const STAGE_DEPTH: usize = 128;
/// Channels of a block's tile, f32.
const F32_TILE_CHANNELS: usize = 64;
/// Batches up to this size are captured.
const CAPTURED_BATCH: usize = 16;
/// Shapes whose plans are kept; the one that was not used for longest makes room for the next.
const PLANS: usize = 8;
/// More blocks than this do not share a tile's sum: adding the parts up would cost more than they save.
const MOST_SPLITS: usize = 16;

/// A network whose weights lie on a GPU.
pub struct Network {
    gpu: Gpu,
    graph: Graph,
    outputs: Vec<ValueId>,
    products: Products,
    weights: Weights,
    /// The node that reads the image as pairs of pixels, if any.
    paired: Option<usize>,
    /// The one used last comes last.
    plans: Mutex<Vec<Plan>>,
}

/// In the type that lies in memory: f32 for TF32 as well.
enum Weights {
    F32(Vec<Option<Layer<f32>>>),
    Bf16(Vec<Option<Layer<bf16>>>),
}

/// A convolution's weights: those of a dense one as [`Filters`] arranges them, `[taps, channels]` in f32 of a depthwise one.
enum Layer<T> {
    Dense { weight: Buffer<T>, bias: Buffer<f32> },
    Depthwise { weight: Buffer<f32>, bias: Buffer<f32> },
}

/// A feature map in device memory: `[n, h, w, pitch]`, of which `c` channels are real.
pub struct DeviceMap<'a> {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Channels with padding, a multiple of 8.
    pub pitch: usize,
    /// The values.
    pub values: Values<'a>,
}

/// Values of one of the two types.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// f32, also where products are in TF32.
    F32(Span<'a, f32>),
    /// bf16.
    Bf16(Span<'a, bf16>),
}

impl Values<'_> {
    /// Where they lie, and which of two kernels takes them.
    pub(super) fn for_kernel(self, f32_name: &'static str, bf16_name: &'static str) -> (u64, &'static str) {
        match self {
            Values::F32(values) => (values.address(), f32_name),
            Values::Bf16(values) => (values.address(), bf16_name),
        }
    }
}

/// Everything that one shape of input decides.
struct Plan {
    input: [usize; 4],
    /// `[B, C, H, W]` of every value.
    shapes: Vec<[usize; 4]>,
    images: Buffer<f32>,
    values: Store,
    /// Which buffer each value lies in.
    place: Vec<usize>,
    workspace: Buffer<f32>,
    arrivals: Buffer<i32>,
    captured: Option<LaunchGraph>,
}

enum Store {
    F32(Vec<Buffer<f32>>),
    Bf16(Vec<Buffer<bf16>>),
}

/// As `conv.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct ConvShape {
    images: i32,
    height: i32,
    width: i32,
    in_channels: i32,
    out_height: i32,
    out_width: i32,
    out_channels: i32,
    kernel_rows: i32,
    kernel_columns: i32,
    row_stride: i32,
    column_stride: i32,
    pad_top: i32,
    pad_left: i32,
    activation: i32,
    splits: i32,
}
arguments!(ConvShape);

impl Network {
    /// Packs the weights of `graph`, up to the last of `outputs`, and copies them to the GPU.
    ///
    /// # Errors
    /// Where an output does not exist, or the device fails.
    pub fn new(gpu: &Gpu, graph: &Graph, outputs: &[ValueId], products: impl Into<Products>) -> Result<Network> {
        let products = products.into();
        let needed = outputs.iter().map(|output| output.0).max().unwrap_or(0);
        let nodes = graph.nodes();
        if needed == 0 || needed > nodes.len() {
            bail!(
                "value {needed} is asked for, but the graph makes only 1 to {}",
                nodes.len()
            );
        }
        let nodes = &nodes[..needed];
        let paired = match products {
            Products::F32 => None,
            Products::Tf32 | Products::Bf16 => filters::paired_node(nodes, outputs),
        };
        let filters = |index, conv: &Conv| match paired == Some(index) {
            true => PairedConv::new(conv).filters,
            false => Filters::new(conv),
        };
        let weights = match products {
            Products::F32 => Weights::F32(pack(gpu, nodes, |_, conv| Filters::new(conv).by_taps())?),
            Products::Tf32 => Weights::F32(pack(gpu, nodes, |index, conv| filters(index, conv).by_blocks(to_tf32))?),
            Products::Bf16 => Weights::Bf16(pack(gpu, nodes, |index, conv| {
                filters(index, conv).by_blocks(bf16::from_f32)
            })?),
        };
        Ok(Network {
            gpu: gpu.clone(),
            graph: graph.clone(),
            outputs: outputs.to_vec(),
            products,
            weights,
            paired,
            plans: Mutex::new(Vec::new()),
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// In what weights and activations are multiplied.
    pub fn products(&self) -> Products {
        self.products
    }

    /// The most blocks that share a tile's sum in one of the convolutions, for input `[n, c, h, w]`; 1 where none is split.
    /// It depends on the GPU's number of processors, and with it the rounding of the sums.
    ///
    /// # Errors
    /// Where images of that shape do not fit the graph.
    pub fn most_splits(&self, shape: [usize; 4]) -> Result<usize> {
        let shapes = self.graph.shapes(shape).map_err(candle_core::Error::wrap)?;
        let cuts = self.shared_sums(&shapes[..=self.nodes()]);
        Ok(cuts.map(|cut| cut.splits).max().unwrap_or(1))
    }

    /// Runs the network on host images `[n, c, h, w]`, row-major, and hands the outputs to `then`; they are overwritten by
    /// the next call. Of no images it hands on empty maps. The plans of the 8 shapes that were used last are kept; one more
    /// waits for the device.
    ///
    /// # Errors
    /// Where the images do not fit the graph or the device, and those of `then`.
    pub fn run<R>(
        &self,
        images: &[f32],
        shape: [usize; 4],
        then: impl FnOnce(&[DeviceMap<'_>]) -> Result<R>,
    ) -> Result<R> {
        let expected = shape.iter().product::<usize>();
        if images.len() != expected {
            bail!(
                "{} values are not images of {shape:?}, which are {expected}",
                images.len()
            );
        }
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if !used_last(&mut plans, shape) {
            let plan = self.plan(shape)?;
            if plans.len() >= PLANS {
                // Nothing may run from what goes.
                self.gpu.synchronize()?;
                plans.remove(0);
            }
            plans.push(plan);
        }
        self.with_last(&mut plans, |plan| {
            self.gpu.write(plan.images.all(), images)?;
            self.start(plan)?;
            then(&self.maps(plan))
        })
    }

    /// Runs the network again on the images that the last [`Network::run`] of this shape left on the device: what a
    /// benchmark times.
    ///
    /// # Errors
    /// Where there are none, or no longer, and those of [`Network::run`].
    pub fn rerun<R>(&self, shape: [usize; 4], then: impl FnOnce(&[DeviceMap<'_>]) -> Result<R>) -> Result<R> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if !used_last(&mut plans, shape) {
            bail!("no images of {shape:?} are on the device\n\nhint: `run` takes them there");
        }
        self.with_last(&mut plans, |plan| {
            self.start(plan)?;
            then(&self.maps(plan))
        })
    }

    fn with_last<R>(&self, plans: &mut [Plan], work: impl FnOnce(&mut Plan) -> Result<R>) -> Result<R> {
        match plans.last_mut() {
            Some(plan) => work(plan),
            None => bail!("there is no plan"),
        }
    }

    fn plan(&self, input: [usize; 4]) -> Result<Plan> {
        let shapes = self.graph.shapes(input).map_err(candle_core::Error::wrap)?;
        let shapes = shapes[..=self.nodes()].to_vec();
        let (place, sizes) = self.places(&shapes);
        let values = match &self.weights {
            Weights::F32(_) => Store::F32(allocate(&self.gpu, &sizes)?),
            Weights::Bf16(_) => Store::Bf16(allocate(&self.gpu, &sizes)?),
        };
        let (mut workspace, mut arrivals) = (0, 0);
        for cut in self.shared_sums(&shapes) {
            let tiles = cut.pixel_tiles * cut.channel_tiles;
            workspace = workspace.max(tiles * cut.splits * TILE_PIXELS * cut.channels);
            arrivals = arrivals.max(tiles);
        }
        Ok(Plan {
            images: self.gpu.zeros(input.iter().product())?,
            workspace: self.gpu.zeros(workspace)?,
            arrivals: self.gpu.zeros(arrivals)?,
            captured: None,
            input,
            shapes,
            values,
            place,
        })
    }

    /// Nodes up to the last output.
    fn nodes(&self) -> usize {
        match &self.weights {
            Weights::F32(layers) => layers.len(),
            Weights::Bf16(layers) => layers.len(),
        }
    }

    /// How the convolutions are cut whose tiles' sums are split, where values have these shapes.
    fn shared_sums(&self, shapes: &[[usize; 4]]) -> impl Iterator<Item = Cut> {
        let on_matrix_units = self.products != Products::F32;
        let nodes = self.graph.nodes().iter().zip(&shapes[1..]);
        nodes.filter_map(move |(node, &out)| match node {
            Node::Conv(conv) if conv.groups == 1 && on_matrix_units => {
                Some(self.cut(conv, out)).filter(|cut| cut.splits > 1)
            }
            Node::Conv(_) | Node::MaxPool(_) => None,
        })
    }

    /// Which buffer each value takes, and how large the buffers are. A buffer is free again after the last node that reads
    /// its value; outputs keep theirs.
    fn places(&self, shapes: &[[usize; 4]]) -> (Vec<usize>, Vec<usize>) {
        let mut last_use = vec![0; shapes.len()];
        for (index, node) in self.graph.nodes()[..shapes.len() - 1].iter().enumerate() {
            let reads = match node {
                Node::Conv(conv) => [Some(conv.input), conv.residual],
                Node::MaxPool(pool) => [Some(pool.input), None],
            };
            for value in reads.into_iter().flatten() {
                last_use[value.0] = index;
            }
        }
        for output in &self.outputs {
            last_use[output.0] = usize::MAX;
        }
        let (mut place, mut sizes) = (Vec::new(), Vec::<usize>::new());
        let mut free: Vec<usize> = Vec::new();
        for (value, shape) in shapes.iter().enumerate() {
            let size = shape[0] * padded(shape[1]) * shape[2] * shape[3];
            let smallest_fit = (0..free.len())
                .filter(|&at| sizes[free[at]] >= size)
                .min_by_key(|&at| sizes[free[at]]);
            let buffer = match smallest_fit {
                Some(at) => free.swap_remove(at),
                None => {
                    sizes.push(size);
                    sizes.len() - 1
                }
            };
            place.push(buffer);
            // Values that the node making this one (node `value - 1`) was the last to read.
            if let Some(node) = value.checked_sub(1) {
                free.extend(
                    (0..value)
                        .filter(|&read| last_use[read] == node)
                        .map(|read| place[read]),
                );
            }
        }
        (place, sizes)
    }

    fn cut(&self, conv: &Conv, out: [usize; 4]) -> Cut {
        let depth = match self.weights {
            Weights::F32(_) => STAGE_DEPTH / size_of::<f32>(),
            Weights::Bf16(_) => STAGE_DEPTH / size_of::<bf16>(),
        };
        Cut::new(conv, out, depth, self.gpu.processors())
    }

    fn start(&self, plan: &mut Plan) -> Result<()> {
        if plan.input[0] == 0 {
            return Ok(());
        }
        if let Some(captured) = &plan.captured {
            // SAFETY: the list was captured from this plan, which owns the buffers; the weights are the network's. Both are there.
            return unsafe { captured.launch() };
        }
        // The first time loads the kernels, which a capture must not.
        self.launch_all(plan)?;
        if plan.input[0] <= CAPTURED_BATCH {
            plan.captured = Some(self.gpu.capture(|| self.launch_all(plan))?);
        }
        Ok(())
    }

    fn launch_all(&self, plan: &Plan) -> Result<()> {
        match (&self.weights, &plan.values) {
            (Weights::F32(layers), Store::F32(values)) => self.launch_nodes(plan, layers, values),
            (Weights::Bf16(layers), Store::Bf16(values)) => self.launch_nodes(plan, layers, values),
            _ => bail!("a plan of another precision"),
        }
    }

    fn launch_nodes<T: Factor>(&self, plan: &Plan, layers: &[Option<Layer<T>>], values: &[Buffer<T>]) -> Result<()> {
        let of = |value: ValueId| values[plan.place[value.0]].all().address();
        let [batch, channels, height, width] = plan.input;
        let (images, into) = (plan.images.all(), of(ValueId::INPUT));
        let [count, image_channels] = [int("images", batch)?, int("channels", channels)?];
        if self.paired.is_some() {
            let grid = Grid::over(batch * height * width.div_ceil(2));
            let [height, width] = [int("rows", height)?, int("columns", width)?];
            let arguments: [&dyn Argument; 6] = [&images, &into, &count, &image_channels, &height, &width];
            let name = T::named("pixel_pairs_tf32", "pixel_pairs_bf16");
            self.gpu.launch_overlapping("conv", name, grid, &arguments)?;
        } else {
            let name = self
                .products
                .choose("channels_last_f32", "channels_last_tf32", "channels_last_bf16");
            let grid = Grid::over(batch * height * width);
            let [area, pitch] = [int("pixels", height * width)?, int("channels", padded(channels))?];
            let arguments: [&dyn Argument; 6] = [&images, &into, &count, &image_channels, &area, &pitch];
            self.gpu.launch_overlapping("conv", name, grid, &arguments)?;
        }
        for (index, (node, layer)) in self.graph.nodes().iter().zip(layers).enumerate() {
            let made = ValueId(index + 1);
            match (node, layer) {
                (Node::Conv(conv), Some(layer)) => {
                    let mut shape = conv_shape(conv, plan.shapes[conv.input.0], plan.shapes[made.0])?;
                    if self.paired == Some(index) {
                        shape = over_pairs(shape, &PairedConv::new(conv));
                    }
                    let residual = conv.residual.map_or(NULL, of);
                    self.convolve(plan, conv, layer, shape, [of(conv.input), residual, of(made)])?;
                }
                (Node::MaxPool(pool), _) => {
                    let as_conv = (pool.kernel, pool.stride, pool.padding, Activation::Linear);
                    let shape = shape_of(as_conv, plan.shapes[pool.input.0], plan.shapes[made.0])?;
                    let name = T::named("max_pool_f32", "max_pool_bf16");
                    let [n, c, h, w] = plan.shapes[made.0];
                    let grid = Grid::over(n * h * w * padded(c) / 8);
                    self.gpu
                        .launch_overlapping("conv", name, grid, &[&shape, &of(pool.input), &of(made)])?;
                }
                (Node::Conv(_), None) => bail!("node {index} has no weights"),
            }
        }
        Ok(())
    }

    fn convolve<T: Factor>(
        &self,
        plan: &Plan,
        conv: &Conv,
        layer: &Layer<T>,
        shape: ConvShape,
        [input, residual, output]: [u64; 3],
    ) -> Result<()> {
        let pixels = shape.images as usize * shape.out_height as usize * shape.out_width as usize;
        let channels = shape.out_channels as usize;
        match layer {
            Layer::Depthwise { weight, bias } => {
                let name = self
                    .products
                    .choose("depthwise_f32", "depthwise_tf32", "depthwise_bf16");
                let grid = Grid::over(pixels * channels / 8);
                let arguments: [&dyn Argument; 6] = [&shape, &input, &weight.all(), &bias.all(), &residual, &output];
                self.gpu.launch_overlapping("conv", name, grid, &arguments)
            }
            Layer::Dense { weight, bias } if self.products == Products::F32 => {
                let blocks = [
                    channels.div_ceil(F32_TILE_CHANNELS) * pixels.div_ceil(TILE_PIXELS),
                    1,
                    1,
                ];
                let arguments: [&dyn Argument; 6] = [&shape, &input, &weight.all(), &bias.all(), &residual, &output];
                self.gpu
                    .launch_overlapping("conv", "conv_f32", Grid::blocks(blocks, 256), &arguments)
            }
            Layer::Dense { weight, bias } => {
                let out = [
                    shape.images as usize,
                    channels,
                    shape.out_height as usize,
                    shape.out_width as usize,
                ];
                let cut = self.cut(conv, out);
                let shape = ConvShape {
                    splits: cut.splits as i32,
                    ..shape
                };
                let name = match (self.gpu.has_warpgroup_products(), cut.channels) {
                    (true, 64) => T::named("conv_tf32_warpgroup_64", "conv_bf16_warpgroup_64"),
                    (true, _) => T::named("conv_tf32_warpgroup_128", "conv_bf16_warpgroup_128"),
                    (false, 64) => T::named("conv_tf32_warp_64", "conv_bf16_warp_64"),
                    (false, _) => T::named("conv_tf32_warp_128", "conv_bf16_warp_128"),
                };
                let staged = TILE_PIXELS * (cut.channels + 8) * size_of::<f32>();
                let stages = STAGES * (TILE_PIXELS + cut.channels) * STAGE_DEPTH;
                let grid = Grid {
                    blocks: [cut.channel_tiles * cut.pixel_tiles, 1, cut.splits],
                    threads: [256, 1],
                    shared: staged.max(stages),
                };
                let (workspace, arrivals) = (plan.workspace.all(), plan.arrivals.all());
                let arguments: [&dyn Argument; 8] = [
                    &shape,
                    &input,
                    &weight.all(),
                    &bias.all(),
                    &residual,
                    &output,
                    &workspace,
                    &arrivals,
                ];
                self.gpu.launch_overlapping("conv", name, grid, &arguments)
            }
        }
    }

    fn maps<'a>(&self, plan: &'a Plan) -> Vec<DeviceMap<'a>> {
        let map = |output: &ValueId| {
            let [n, c, h, w] = plan.shapes[output.0];
            let (pitch, place) = (padded(c), plan.place[output.0]);
            // A shared buffer may be larger than this value.
            let values = match &plan.values {
                Store::F32(values) => Values::F32(values[place].range(0..n * h * w * pitch)),
                Store::Bf16(values) => Values::Bf16(values[place].range(0..n * h * w * pitch)),
            };
            DeviceMap {
                n,
                h,
                w,
                c,
                pitch,
                values,
            }
        };
        self.outputs.iter().map(map).collect()
    }
}

/// Puts the plan of that shape last; false where there is none.
fn used_last(plans: &mut [Plan], shape: [usize; 4]) -> bool {
    let at = plans.iter().position(|plan| plan.input == shape);
    if let Some(at) = at {
        plans[at..].rotate_left(1);
    }
    at.is_some()
}

/// How a convolution on matrix units is cut into blocks.
struct Cut {
    /// Channels of a tile.
    channels: usize,
    channel_tiles: usize,
    pixel_tiles: usize,
    splits: usize,
}

impl Cut {
    /// With `depth` values of k in a stage.
    fn new(conv: &Conv, [batch, out_channels, height, width]: [usize; 4], depth: usize, processors: usize) -> Cut {
        let pixel_tiles = (batch * height * width).div_ceil(TILE_PIXELS);
        let out_channels = padded(out_channels);
        // Narrow tiles where there would not be enough wide ones for two blocks on every processor.
        let wide = out_channels.div_ceil(128) * pixel_tiles;
        let channels = if out_channels <= 64 || wide < processors {
            64
        } else {
            128
        };
        let channel_tiles = out_channels.div_ceil(channels);
        let stages = (conv.kernel * conv.kernel * padded(conv.in_channels)).div_ceil(depth);
        let tiles = pixel_tiles * channel_tiles;
        // Four stages at least for each block, or the sum costs more than it saves.
        let splits = (processors / tiles.max(1))
            .clamp(1, MOST_SPLITS)
            .min((stages / 4).max(1));
        Cut {
            channels,
            channel_tiles,
            pixel_tiles,
            splits,
        }
    }
}

fn allocate<T: Element>(gpu: &Gpu, sizes: &[usize]) -> Result<Vec<Buffer<T>>> {
    sizes.iter().map(|&size| gpu.zeros(size)).collect()
}

fn conv_shape(conv: &Conv, from: [usize; 4], to: [usize; 4]) -> Result<ConvShape> {
    shape_of((conv.kernel, conv.stride, conv.padding, conv.activation), from, to)
}

fn shape_of(
    (kernel, stride, padding, activation): (usize, usize, Padding, Activation),
    [images, in_channels, height, width]: [usize; 4],
    [_, out_channels, out_height, out_width]: [usize; 4],
) -> Result<ConvShape> {
    // Kernels count pixels and groups of channels in 32 bits.
    int(
        "pixels times channels of a layer",
        images * out_height * out_width * padded(out_channels) / 8,
    )?;
    int("pixels of a layer", images * height * width)?;
    let small = |value| int("a side", value);
    Ok(ConvShape {
        images: small(images)?,
        height: small(height)?,
        width: small(width)?,
        in_channels: small(padded(in_channels))?,
        out_height: small(out_height)?,
        out_width: small(out_width)?,
        out_channels: small(padded(out_channels))?,
        kernel_rows: small(kernel)?,
        kernel_columns: small(kernel)?,
        row_stride: small(stride)?,
        column_stride: small(stride)?,
        pad_top: small(padding.before_after(height, kernel, stride).0)?,
        pad_left: small(padding.before_after(width, kernel, stride).0)?,
        activation: match activation {
            Activation::Linear => 0,
            Activation::Relu => 1,
            Activation::Relu6 => 2,
        },
        splits: 1,
    })
}

/// The same convolution over pairs of pixels.
fn over_pairs(shape: ConvShape, paired: &PairedConv) -> ConvShape {
    ConvShape {
        width: (shape.width + 1) / 2,
        in_channels: filters::PAIR as i32,
        kernel_columns: paired.columns as i32,
        column_stride: 1,
        pad_left: paired.pad_left as i32,
        ..shape
    }
}

/// Copies the weights to the GPU; `dense` arranges those of the dense convolution that is node `index`.
fn pack<T: Element>(
    gpu: &Gpu,
    nodes: &[Node],
    dense: impl Fn(usize, &Conv) -> Vec<T>,
) -> Result<Vec<Option<Layer<T>>>> {
    let layer = |(index, node): (usize, &Node)| {
        let Node::Conv(conv) = node else { return Ok(None) };
        let mut bias = conv.bias.clone();
        bias.resize(padded(conv.out_channels), 0.0);
        let bias = gpu.upload(&bias)?;
        Ok(Some(match conv.groups {
            1 => Layer::Dense {
                weight: gpu.upload(&dense(index, conv))?,
                bias,
            },
            _ => Layer::Depthwise {
                weight: gpu.upload(&filters::depthwise(conv))?,
                bias,
            },
        }))
    };
    nodes.iter().enumerate().map(layer).collect()
}
