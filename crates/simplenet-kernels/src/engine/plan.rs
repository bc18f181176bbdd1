//! Where every value of a network lies for one size of image: padded, NHWC, in one arena that values share over time.

use super::bands::{self, Band};
use super::lanes::Element;
use super::pack::{Dense, DenseKernel, Network, Step, Work};
use super::winograd::{TILE, Tiling};
use crate::graph::GraphError;

/// What a kernel streams over for every block of channels; it shares the L2 cache (1 MiB or more) with the weights of
/// a block, which are read again for every strip of pixels.
const CHUNK_BYTES: usize = 384 * 1024;

/// The same where weights are larger than what the step reads: a second chunk would stream over all of them again.
const WEIGHTY_CHUNK_BYTES: usize = 1024 * 1024;

/// What a task of a Winograd convolution has transformed, which is read again for every block of channels, and the
/// products of one block.
const WINOGRAD_BYTES: usize = 1024 * 1024;

/// A value in the arena of one image, with zeros around it for the convolutions that read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Zero rows above and below, zero columns to the left and to the right.
    pub(super) top: usize,
    pub(super) bottom: usize,
    pub(super) left: usize,
    pub(super) right: usize,
    /// Elements from pixel to pixel and from row to row.
    pub(super) pixel: usize,
    pub(super) row: usize,
    /// Where the stored value, padding included, begins in the arena.
    pub(super) offset: usize,
    /// Zeros after the last row, which kernels read whose pieces reach beyond the last pixel.
    pub(super) slack: usize,
}

impl Place {
    /// Elements, padding included. What no memory holds does not come out small.
    pub(super) fn len(&self) -> usize {
        (self.top + self.height + self.bottom)
            .saturating_mul(self.row)
            .saturating_add(self.slack)
    }

    /// Where the pixel at row `y` and column `x` of the value begins.
    pub(super) fn at(&self, y: usize, x: usize) -> usize {
        // A band's place begins where its row 0 would lie, which may be before the arena.
        self.offset
            .wrapping_add((self.top + y) * self.row + (self.left + x) * self.pixel)
    }

    fn same_geometry(&self, other: &Place) -> bool {
        Place { offset: 0, ..*self } == Place { offset: 0, ..*other }
    }
}

/// How one step runs on this size of image.
pub(super) struct StepPlan {
    /// Where the window of output pixel (0, 0) begins in the input's place (pooling: the input's first pixel).
    pub(super) window: usize,
    /// Zero rows above and columns to the left of the input, for this step.
    pub(super) before: [usize; 2],
    /// Where the pieces of a dense reduction begin, relative to the window.
    pub(super) taps: Vec<usize>,
    /// Of a Winograd convolution.
    pub(super) tiling: Tiling,
    /// Rows of output (Winograd: of tiles) that keep what they read in the L2 cache.
    pub(super) rows_per_chunk: usize,
    /// Whether rows of the step's values follow one another without a gap and can be treated as one long row.
    pub(super) flat: bool,
}

/// Everything that depends on the size of the image, and not on the batch.
pub(super) struct Plan {
    /// By value; the default where the value is not needed.
    pub(super) places: Vec<Place>,
    /// By step.
    pub(super) steps: Vec<StepPlan>,
    /// Elements of the arena of one image, without bands.
    pub(super) arena: usize,
    /// By step: the first of three that run band by band.
    pub(super) bands: Vec<Option<Band>>,
    /// Elements of the longest band.
    pub(super) band: usize,
    /// From this step on, all steps are weighty.
    pub(super) weighty: usize,
    /// Elements of the transformed inputs of a chunk of a Winograd convolution, at most.
    pub(super) transformed_chunk: usize,
    /// Elements of the products of such a chunk with one block of channels, at most.
    pub(super) products: usize,
}

/// Elements of all values of an image, at most: more than any memory holds, and far from what a pointer counts.
const MOST: usize = usize::MAX >> (if usize::BITS > 32 { 16 } else { 4 });

impl Plan {
    /// # Errors
    /// [`GraphError::TooSmall`], [`GraphError::TooLarge`] or a residual of another size.
    pub(super) fn new<T: Element>(network: &Network<T>, height: usize, width: usize) -> Result<Plan, GraphError> {
        let mut places = sizes(network, height, width)?;
        pad(network, &mut places);
        let all = places
            .iter()
            .fold(0_usize, |all, place| all.saturating_add(place.len()));
        if all > MOST {
            return Err(GraphError::TooLarge { height, width });
        }
        let bands = bands::find(network, &places);
        let arena = allocate(network, &bands, &mut places);
        let steps = network
            .steps
            .iter()
            .map(|step| step_plan(step, &places, network.kernels.lanes))
            .collect();
        let mut plan = Plan {
            steps,
            arena,
            band: bands.iter().flatten().map(|band| band.len).max().unwrap_or(0),
            weighty: weighty(network, &places),
            bands,
            places,
            transformed_chunk: 0,
            products: 0,
        };
        for (step, step_plan) in network.steps.iter().zip(&plan.steps) {
            if let Work::Winograd(winograd) = &step.work {
                let Tiling { rows, columns } = step_plan.tiling;
                let chunk = step_plan.rows_per_chunk.min(rows) * columns;
                let products = winograd.products_len(chunk, network.kernels.lanes);
                plan.transformed_chunk = plan.transformed_chunk.max(winograd.transformed_len(chunk));
                plan.products = plan.products.max(products);
            }
        }
        Ok(plan)
    }
}

pub(super) fn residual<T>(step: &Step<T>) -> Option<usize> {
    match &step.work {
        Work::Dense(dense) => dense.epilogue.residual,
        Work::Winograd(winograd) => winograd.epilogue.residual,
        Work::Depthwise(depthwise) => depthwise.epilogue.residual,
        Work::MaxPool => None,
    }
}

/// Whether a step's weights are as large as what it reads, or larger.
pub(super) fn is_weighty<T: Element>(step: &Step<T>, input: &Place) -> bool {
    let weights = match &step.work {
        Work::Dense(dense) => dense.weights.len(),
        Work::Winograd(winograd) => winograd.weights.len(),
        Work::Depthwise(_) | Work::MaxPool => 0,
    };
    weights >= input.height * input.row
}

fn weighty<T: Element>(network: &Network<T>, places: &[Place]) -> usize {
    let last = network
        .steps
        .iter()
        .rposition(|step| !is_weighty(step, &places[step.input]));
    last.map_or(0, |last| last + 1)
}

fn sizes<T: Element>(network: &Network<T>, height: usize, width: usize) -> Result<Vec<Place>, GraphError> {
    let mut places = vec![Place::default(); network.channels.len()];
    for (place, &pixel) in places.iter_mut().zip(&network.pixel_strides) {
        place.pixel = pixel;
    }
    (places[0].height, places[0].width) = (height, width);
    for step in &network.steps {
        let input = places[step.input];
        let side = |length| {
            let output = step.padding.output(length, step.kernel, step.stride);
            output.ok_or(GraphError::TooSmall {
                node: step.output - 1,
                height,
                width,
            })
        };
        let (height, width) = (side(input.height)?, side(input.width)?);
        if let Some(residual) = residual(step) {
            let sides = [
                ("height of the residual", places[residual].height, height),
                ("width of the residual", places[residual].width, width),
            ];
            if let Some(&(what, found, expected)) = sides.iter().find(|(_, found, expected)| found != expected) {
                return Err(GraphError::Mismatch {
                    node: step.output - 1,
                    what,
                    found,
                    expected,
                });
            }
        }
        (places[step.output].height, places[step.output].width) = (height, width);
    }
    Ok(places)
}

/// Gives every value the widest padding that a convolution wants of it.
fn pad<T>(network: &Network<T>, places: &mut [Place]) {
    for step in network.steps.iter().filter(|step| !matches!(step.work, Work::MaxPool)) {
        // Tiles of 2×2 outputs reach one row and one column further where the output's sides are odd.
        let (odd_height, odd_width) = match &step.work {
            Work::Winograd(_) => (places[step.output].height % TILE, places[step.output].width % TILE),
            _ => (0, 0),
        };
        let place = &mut places[step.input];
        let (top, bottom) = step.padding.before_after(place.height, step.kernel, step.stride);
        let (left, right) = step.padding.before_after(place.width, step.kernel, step.stride);
        let (bottom, right) = (bottom + odd_height, right + odd_width);
        place.top = place.top.max(top);
        place.bottom = place.bottom.max(bottom);
        place.left = place.left.max(left);
        place.right = place.right.max(right);
    }
    for place in places {
        place.slack = network.kernels.panel.as_ref().map_or(0, |panel| panel.terms);
        place.row = (place.left + place.width + place.right).saturating_mul(place.pixel);
        // Windows have pixels of several rows, which then do not fall onto the same few sets of the L1 cache.
        let line = 64 / size_of::<T>();
        if place.left + place.right > 0 && place.pixel.is_multiple_of(line) && (place.row / line).is_multiple_of(2) {
            place.row += line;
        }
    }
}

/// Lays the values out in one arena: first fit among those alive at the same time. A residual that dies with its sum
/// lends the sum its place: each element is read just before it is written.
fn allocate<T: Element>(network: &Network<T>, bands: &[Option<Band>], places: &mut [Place]) -> usize {
    let mut last_use = vec![0; places.len()];
    for (index, step) in network.steps.iter().enumerate() {
        for value in [Some(step.input), residual(step), Some(step.output)]
            .into_iter()
            .flatten()
        {
            last_use[value] = index;
        }
    }
    // Bands read what the first step reads until they have made the last output.
    let ends_bands = |index: usize| index >= 2 && bands[index - 2].is_some();
    for (index, _) in bands.iter().enumerate().filter(|(_, band)| band.is_some()) {
        let first = &network.steps[index];
        for value in [Some(first.input), residual(first)].into_iter().flatten() {
            last_use[value] = last_use[value].max(index + 2);
        }
    }
    let line = 64 / size_of::<T>();
    let mut alive: Vec<usize> = vec![0]; // by offset
    let mut arena = places[0].len().next_multiple_of(line);
    for (index, step) in network.steps.iter().enumerate() {
        let lender = residual(step).filter(|&value| {
            let dies = last_use[value] == index && value != step.input && !ends_bands(index);
            dies && places[value].same_geometry(&places[step.output])
        });
        if let Some(lender) = lender {
            places[step.output].offset = places[lender].offset;
            alive.retain(|&value| value != lender);
        } else {
            let len = places[step.output].len().next_multiple_of(line);
            let mut offset = 0;
            for &value in &alive {
                if places[value].offset >= offset + len {
                    break;
                }
                offset = (places[value].offset + places[value].len()).next_multiple_of(line);
            }
            places[step.output].offset = offset;
            arena = arena.max(offset + len);
        }
        alive.push(step.output);
        alive.retain(|&value| last_use[value] > index);
        alive.sort_by_key(|&value| places[value].offset);
    }
    arena
}

fn step_plan<T: Element>(step: &Step<T>, places: &[Place], lanes: usize) -> StepPlan {
    let (input, output) = (&places[step.input], &places[step.output]);
    let (top, _) = step.padding.before_after(input.height, step.kernel, step.stride);
    let (left, _) = step.padding.before_after(input.width, step.kernel, step.stride);
    let window = match step.work {
        Work::MaxPool => input.at(0, 0) - input.offset,
        _ => (input.top - top) * input.row + (input.left - left) * input.pixel,
    };
    let mut taps: Vec<usize> = match &step.work {
        Work::Dense(dense) if dense.merged_rows => (0..step.kernel).map(|y| y * input.row).collect(),
        Work::Dense(_) => (0..step.kernel * step.kernel)
            .map(|tap| tap / step.kernel * input.row + tap % step.kernel * input.pixel)
            .collect(),
        _ => Vec::new(),
    };
    if let Work::Dense(Dense {
        kernel: DenseKernel::Panel { kernel, pieces },
        ..
    }) = &step.work
    {
        // In the order of the packed weights.
        let piece = |index| taps.iter().map(move |tap| tap + index * kernel.terms);
        taps = (0..*pieces).flat_map(piece).collect();
    }
    let gapless = |place: &Place| place.row == place.width * place.pixel;
    let (tiling, rows_per_chunk) = match &step.work {
        Work::Winograd(winograd) => {
            let tiling = Tiling::of(output.height, output.width);
            let of_one_row = winograd.transformed_len(tiling.columns) + winograd.products_len(tiling.columns, lanes);
            let bytes_per_row = of_one_row * size_of::<T>();
            (tiling, WINOGRAD_BYTES / bytes_per_row.max(1))
        }
        _ => {
            let bytes_per_row = step.stride * input.row * size_of::<T>();
            let chunk = if is_weighty(step, input) {
                WEIGHTY_CHUNK_BYTES
            } else {
                CHUNK_BYTES
            };
            (Tiling::default(), chunk / bytes_per_row.max(1))
        }
    };
    StepPlan {
        window,
        before: [top, left],
        taps,
        tiling,
        rows_per_chunk: rows_per_chunk.max(1),
        flat: matches!(step.work, Work::Dense(_))
            && step.kernel == 1
            && step.stride == 1
            && step.padding.before_after(input.width, 1, 1) == (0, 0)
            && gapless(input)
            && gapless(output)
            && residual(step).is_none_or(|value| gapless(&places[value])),
    }
}

impl StepPlan {
    /// Input rows `[begin, end)` of a pooling window, clipped to the input.
    pub(super) fn window_rows(&self, y: usize, kernel: usize, stride: usize, height: usize) -> (usize, usize) {
        let begin = y * stride;
        (
            begin.saturating_sub(self.before[0]),
            (begin + kernel - self.before[0]).min(height),
        )
    }
}
