//! Runs a network: images over threads, and where threads are left over, the tasks of a step over threads.
//!
//! A whole image per thread needs no barrier between steps, so as many images run side by side as all threads get the same
//! number of; a thread takes its own one or two at a time. The images that remain run together, step by step, each step cut into tasks of rows and
//! blocks of channels, which a [`Team`] of threads shares. Every output is one chain of additions whatever the cut, so
//! the cut never changes a result.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::buffer::{AlignedBuffer, ArenaPtr};
use super::lanes::Element;
use super::pack::{Network, Work};
use super::plan::{Plan, is_weighty};
use super::task::{On, clear_border};
use super::team::Team;
use super::{FeatureMap, bands, part, winograd};
use crate::graph::GraphError;

/// Tasks per thread where a step is cut into tasks: enough for threads to even out.
const TASKS_PER_THREAD: usize = 4;

/// Images that one thread takes through the steps whose weights are larger than what they read, so that those weights come from
/// memory once for all of them.
const SIDE_BY_SIDE: usize = 2;

/// Sizes of image whose plans are kept.
const PLANS: usize = 32;

/// What calls leave behind for the next ones: plans by size of image, and memory.
pub(super) struct Kept<T> {
    plans: Mutex<HashMap<(usize, usize), Arc<Plan>>>,
    arenas: Pool<T>,
    /// Transformed inputs of whole images.
    pub(super) transformed: Pool<T>,
    /// Transformed inputs and products of chunks.
    pub(super) scratch: Pool<T>,
}

/// Buffers that are not in use.
pub(super) struct Pool<T>(Mutex<Vec<AlignedBuffer<T>>>);

impl<T: Element> Pool<T> {
    pub(super) fn take(&self, len: usize) -> AlignedBuffer<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where all are too short, one of them makes room: no more are kept than are in use at a time.
        let fit = kept.iter().position(|buffer| buffer.len() >= len);
        let taken = match fit {
            Some(at) => Some(kept.swap_remove(at)),
            None => {
                kept.pop();
                None
            }
        };
        drop(kept);
        taken.unwrap_or_else(|| AlignedBuffer::zeroed(len))
    }

    pub(super) fn give_back(&self, buffer: AlignedBuffer<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept {
            plans: Mutex::default(),
            arenas: Pool(Mutex::default()),
            transformed: Pool(Mutex::default()),
            scratch: Pool(Mutex::default()),
        }
    }
}

impl<T: Element> Kept<T> {
    fn plan(&self, network: &Network<T>, height: usize, width: usize) -> Result<Arc<Plan>, GraphError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&(height, width)) {
            return Ok(plan.clone());
        }
        if plans.len() >= PLANS {
            plans.clear();
        }
        let plan = Arc::new(Plan::new(network, height, width)?);
        plans.insert((height, width), plan.clone());
        Ok(plan)
    }
}

/// An image's part of a map that a run returns, not yet written. Tasks of one step write to it side by side, each its own rows.
struct Output {
    at: ArenaPtr<f32>,
    len: usize,
}

/// One image on its way through the network.
struct Job<'a> {
    /// CHW.
    image: &'a [f32],
    /// HWC, one per output of the network.
    outputs: Vec<Output>,
}

/// Runs `images` (NCHW, checked by the caller) and returns one map per output.
pub(super) fn run<T: Element>(
    network: &Network<T>,
    kept: &Kept<T>,
    images: &[f32],
    [batch, channels, height, width]: [usize; 4],
) -> Result<Vec<FeatureMap>, GraphError> {
    let plan = kept.plan(network, height, width)?;
    let mut maps: Vec<FeatureMap> = network
        .outputs
        .iter()
        .map(|&value| network.map(&plan, value, batch))
        .collect();
    let mut jobs: Vec<Job<'_>> = (images.chunks_exact((channels * height * width).max(1)))
        .map(|image| Job {
            image,
            outputs: Vec::with_capacity(network.outputs.len()),
        })
        .collect();
    for map in &mut maps {
        let len = map.h * map.w * map.c;
        for (index, job) in jobs.iter_mut().enumerate() {
            // SAFETY: the map has room for `batch` images.
            let at = ArenaPtr(unsafe { map.data.as_mut_ptr().add(index * len) });
            job.outputs.push(Output { at, len });
        }
    }
    let threads = rayon::current_num_threads();
    let rounds = jobs.len() / threads;
    let (alone, together) = jobs.split_at(rounds * threads);
    let of_a_thread = alone.chunks(rounds.max(1));
    let alone: Vec<&[Job<'_>]> = of_a_thread.flat_map(|jobs| jobs.chunks(SIDE_BY_SIDE)).collect();
    alone.par_iter().with_max_len(1).for_each(|jobs| {
        network.run_jobs(&plan, kept, jobs, Cut::Whole);
    });
    if !together.is_empty() {
        Team::gather(threads, |team| {
            network.run_jobs(&plan, kept, together, Cut::Tasks(team))
        });
    }
    let written = jobs.len();
    for map in &mut maps {
        let of_each = map.h * map.w * map.c;
        // SAFETY: the map has room for as many values, and the runs have written all of them.
        unsafe { map.data.set_len(written * of_each) };
        // Images without a pixel are no jobs.
        map.data.resize(batch * of_each, 0.0);
    }
    Ok(maps)
}

/// Whether the steps of some images are cut into tasks for several threads.
#[derive(Clone, Copy)]
pub(super) enum Cut<'a> {
    /// One thread runs everything.
    Whole,
    Tasks(&'a Team),
}

/// What of a step can be cut.
pub(super) struct Extent {
    /// Of the output, or stacks of as many as a kernel takes at once.
    pub(super) rows: usize,
    /// At most, so that a task keeps what it reads in its cache.
    pub(super) rows_per_chunk: usize,
    /// Blocks of output channels.
    pub(super) blocks: usize,
    /// Whether rows are cut first: each thread then reads the activations that it made itself, but all of the weights.
    /// With blocks first it reads only its part of the weights, but all activations.
    pub(super) rows_first: bool,
}

impl Extent {
    /// Rows and nothing else.
    fn of_rows(rows: usize) -> Extent {
        Extent {
            rows,
            rows_per_chunk: rows.max(1),
            blocks: 1,
            rows_first: true,
        }
    }
}

/// The tasks of a step: for each of some images, chunks of rows times groups of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tasks {
    images: usize,
    pub(super) chunks: usize,
    pub(super) groups: usize,
    /// Whether a group meets all images before the next one's turn, which reads weights once for all of them.
    group_by_group: bool,
}

impl Tasks {
    pub(super) fn count(self) -> usize {
        self.images * self.chunks * self.groups
    }

    /// Image, chunk and group of a task.
    pub(super) fn at(self, task: usize) -> (usize, usize, usize) {
        let Tasks {
            images, chunks, groups, ..
        } = self;
        match self.group_by_group {
            true => (task / chunks % images, task % chunks, task / (chunks * images)),
            false => (task / (chunks * groups), task / groups % chunks, task % groups),
        }
    }
}

impl Cut<'_> {
    /// Bands of an image: one for each thread that works on it.
    fn parts(self, images: usize) -> usize {
        match self {
            Cut::Whole => 1,
            Cut::Tasks(team) => team.threads().div_ceil(images),
        }
    }

    /// How a step is cut.
    pub(super) fn of(self, images: usize, extent: Extent) -> Tasks {
        let Extent {
            rows,
            rows_per_chunk,
            blocks,
            rows_first,
        } = extent;
        let chunks = rows.div_ceil(rows_per_chunk);
        let tasks = |chunks, groups, group_by_group| Tasks {
            images,
            chunks,
            groups,
            group_by_group,
        };
        let Cut::Tasks(team) = self else {
            let group_by_group = images > 1 && !rows_first;
            return tasks(chunks, if group_by_group { blocks } else { 1 }, group_by_group);
        };
        let wanted = (team.threads() * TASKS_PER_THREAD).div_ceil(images);
        if rows_first {
            let chunks = chunks.max(wanted.min(rows));
            tasks(chunks, wanted.div_ceil(chunks).min(blocks), false)
        } else {
            let groups = wanted.div_ceil(chunks).min(blocks);
            tasks(chunks.max(wanted.div_ceil(groups).min(rows)), groups, false)
        }
    }

    pub(super) fn for_each(self, tasks: usize, task: impl Fn(usize) + Sync) {
        match self {
            Cut::Whole => (0..tasks).for_each(task),
            Cut::Tasks(team) => team.for_each(tasks, task),
        }
    }
}

impl<T: Element> Network<T> {
    fn map(&self, plan: &Plan, value: usize, batch: usize) -> FeatureMap {
        let (place, channels) = (&plan.places[value], self.channels[value]);
        FeatureMap {
            n: batch,
            h: place.height,
            w: place.width,
            c: channels,
            data: Vec::with_capacity(batch.saturating_mul(place.height * place.width * channels)),
        }
    }

    fn run_jobs(&self, plan: &Plan, kept: &Kept<T>, jobs: &[Job<'_>], cut: Cut<'_>) {
        let parts = cut.parts(jobs.len());
        let len = plan.arena + parts * plan.band;
        let mut arenas: Vec<AlignedBuffer<T>> = jobs.iter().map(|_| kept.arenas.take(len)).collect();
        let pointers: Vec<ArenaPtr<T>> = arenas.iter_mut().map(|arena| ArenaPtr(arena.as_mut_ptr())).collect();
        self.load_images(plan, jobs, &pointers, cut);
        self.copy_outputs(plan, 0, jobs, &pointers, cut);
        let mut begin = 0;
        if matches!(cut, Cut::Whole) {
            // As long as activations are larger than weights, the cache is for those of one image.
            for (job, arena) in jobs.chunks(1).zip(pointers.chunks(1)) {
                begin = self.run_steps(plan, kept, 0..plan.weighty, job, arena, cut);
            }
        }
        self.run_steps(plan, kept, begin..self.steps.len(), jobs, &pointers, cut);
        arenas.into_iter().for_each(|arena| kept.arenas.give_back(arena));
    }

    /// Runs these steps, and those that form a band with the last of them; returns the next one.
    fn run_steps(
        &self,
        plan: &Plan,
        kept: &Kept<T>,
        steps: Range<usize>,
        jobs: &[Job<'_>],
        arenas: &[ArenaPtr<T>],
        cut: Cut<'_>,
    ) -> usize {
        let parts = cut.parts(jobs.len());
        let mut index = steps.start;
        while index < steps.end {
            let last = match &plan.bands[index] {
                Some(band) if band.suits(parts) => {
                    bands::run(self, plan, index, arenas, parts, cut);
                    index + 2
                }
                _ => {
                    self.run_step(plan, kept, index, arenas, cut);
                    index
                }
            };
            self.copy_outputs(plan, self.steps[last].output, jobs, arenas, cut);
            index = last + 1;
        }
        index
    }

    fn run_step(&self, plan: &Plan, kept: &Kept<T>, index: usize, arenas: &[ArenaPtr<T>], cut: Cut<'_>) {
        let on: Vec<On<'_, T>> = arenas
            .iter()
            .map(|&arena| On::new(self, plan, &plan.places, index, arena))
            .collect();
        match &self.steps[index].work {
            Work::Winograd(winograd) => winograd::run(winograd, kept, &on, cut),
            _ => run_rows(&on, cut),
        }
    }

    /// From planes to padded pixels.
    fn load_images(&self, plan: &Plan, jobs: &[Job<'_>], arenas: &[ArenaPtr<T>], cut: Cut<'_>) {
        let (place, channels) = (&plan.places[0], self.channels[0]);
        let tasks = cut.of(jobs.len(), Extent::of_rows(place.height));
        cut.for_each(tasks.count(), |task| {
            let (index, chunk, _) = tasks.at(task);
            let (image, arena) = (jobs[index].image, arenas[index]);
            let rows = part(place.height, tasks.chunks, chunk);
            // SAFETY: each task has its own rows of the image's place in its arena.
            unsafe {
                clear_border(arena, place, rows.clone());
                for y in rows {
                    let row = std::slice::from_raw_parts_mut(arena.at(place.at(y, 0)), place.width * place.pixel);
                    let plane = |channel: usize| &image[(channel * place.height + y) * place.width..][..place.width];
                    match (channels, place.pixel) {
                        (3, 3) => interleave::<T, 3>([0, 1, 2].map(plane), row),
                        (3, 4) => interleave::<T, 4>([0, 1, 2].map(plane), row),
                        _ => {
                            row.fill(T::ZERO);
                            for channel in 0..channels {
                                for (pixel, &value) in row.chunks_exact_mut(place.pixel).zip(plane(channel)) {
                                    pixel[channel] = T::from_f32(value);
                                }
                            }
                        }
                    }
                    if self.round {
                        T::round_to_bf16(row);
                    }
                }
            }
        });
    }

    /// Copies a value that was just made to where the caller wants it, if the caller does.
    fn copy_outputs(&self, plan: &Plan, value: usize, jobs: &[Job<'_>], arenas: &[ArenaPtr<T>], cut: Cut<'_>) {
        let (place, channels) = (&plan.places[value], self.channels[value]);
        for (index, _) in self.outputs.iter().enumerate().filter(|&(_, &output)| output == value) {
            let tasks = cut.of(jobs.len(), Extent::of_rows(place.height));
            cut.for_each(tasks.count(), |task| {
                let (job, chunk, _) = tasks.at(task);
                let (output, arena) = (&jobs[job].outputs[index], arenas[job]);
                assert_eq!(output.len, place.height * place.width * channels);
                for y in part(place.height, tasks.chunks, chunk) {
                    for x in 0..place.width {
                        // SAFETY: the pixel lies in the arena, and nothing writes there between two steps; each task has
                        // its own rows of the output, which is as large as the value.
                        unsafe {
                            let stored = std::slice::from_raw_parts(arena.at(place.at(y, x)), channels);
                            T::widen(stored, output.at.at((y * place.width + x) * channels));
                        }
                    }
                }
            });
        }
    }
}

/// Three rows as pixels of `P` elements, filled up with zeros.
fn interleave<T: Element, const P: usize>(rows: [&[f32]; 3], pixels: &mut [T]) {
    let [red, green, blue] = rows;
    for (((pixel, &red), &green), &blue) in pixels.chunks_exact_mut(P).zip(red).zip(green).zip(blue) {
        let mut values = [T::ZERO; P];
        values[..3].copy_from_slice(&[red, green, blue].map(T::from_f32));
        pixel.copy_from_slice(&values);
    }
}

/// A step whose tasks need nothing of one another.
fn run_rows<T: Element>(on: &[On<'_, T>], cut: Cut<'_>) {
    let Some(On {
        plan, step, step_plan, ..
    }) = on.first()
    else {
        return;
    };
    let output = &plan.places[step.output];
    let stack = step.stack();
    let stacks = output.height.div_ceil(stack);
    let mut extent = Extent {
        rows_per_chunk: (step_plan.rows_per_chunk / stack).max(1),
        ..Extent::of_rows(stacks)
    };
    if let Work::Dense(dense) = &step.work {
        extent.blocks = dense.blocks.len();
        extent.rows_first = !is_weighty(step, &plan.places[step.input]);
    }
    let tasks = cut.of(on.len(), extent);
    cut.for_each(tasks.count(), |task| {
        let (image, chunk, group) = tasks.at(task);
        let on = &on[image];
        let stacks = part(stacks, tasks.chunks, chunk);
        let rows = stacks.start * stack..(stacks.end * stack).min(output.height);
        if group == 0 {
            // SAFETY: of the tasks of this step, only this one touches the border of these rows of this arena.
            unsafe { clear_border(on.arena, output, rows.clone()) };
        }
        // SAFETY: tasks of a step differ in the arena, the rows or the channels that they write; what they read was
        // written by earlier steps, and `Plan` has laid it out so that it still stands.
        unsafe {
            match &step.work {
                Work::Dense(dense) => on.dense(
                    dense,
                    rows,
                    &dense.blocks[part(dense.blocks.len(), tasks.groups, group)],
                ),
                Work::Depthwise(depthwise) => on.depthwise(depthwise, rows),
                Work::MaxPool => on.max_pool(rows),
                Work::Winograd(_) => unreachable!("these run in two halves"),
            }
        }
    });
}
