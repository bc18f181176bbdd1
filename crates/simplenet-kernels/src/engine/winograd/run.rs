//! A Winograd convolution as tasks over threads.

use super::{Tiling, Transformed};
use crate::engine::buffer::{AlignedBuffer, ArenaPtr};
use crate::engine::lanes::Element;
use crate::engine::pack::Winograd;
use crate::engine::part;
use crate::engine::plan::StepPlan;
use crate::engine::run::{Cut, Extent, Kept};
use crate::engine::task::On;

/// Runs one step on the arenas of some images.
pub(in crate::engine) fn run<T: Element>(winograd: &Winograd<T>, kept: &Kept<T>, on: &[On<'_, T>], cut: Cut<'_>) {
    match on.first() {
        Some(first) if suits_alone(cut, on.len(), winograd, first.step_plan) => alone(winograd, kept, on, cut),
        Some(_) => together(winograd, kept, on, cut),
        None => {}
    }
}

/// Into how many chunks of rows of tiles a Winograd convolution is cut where tasks transform what they multiply: as
/// many for every thread.
fn chunks(cut: Cut<'_>, images: usize, step_plan: &StepPlan) -> usize {
    let chunks = step_plan.tiling.rows.div_ceil(step_plan.rows_per_chunk);
    match cut {
        Cut::Whole => chunks,
        Cut::Tasks(team) => chunks.next_multiple_of(team.threads().div_ceil(images)),
    }
}

/// Whether the tasks of a Winograd convolution transform what they multiply. They then find it in their own cache,
/// but each reads all of the weights, so those must not be much more than what is transformed, and there must be
/// rows enough for all threads.
fn suits_alone<T: Element>(cut: Cut<'_>, images: usize, winograd: &Winograd<T>, step_plan: &StepPlan) -> bool {
    if matches!(cut, Cut::Whole) {
        // Two images share each pass over the weights.
        return images == 1;
    }
    let Tiling { rows, columns } = step_plan.tiling;
    chunks(cut, images, step_plan) * 2 <= rows && winograd.weights.len() <= 2 * winograd.transformed_len(rows * columns)
}

/// A Winograd convolution whose tasks transform what they multiply.
fn alone<T: Element>(winograd: &Winograd<T>, kept: &Kept<T>, on: &[On<'_, T>], cut: Cut<'_>) {
    let Some(On { plan, step_plan, .. }) = on.first() else {
        return;
    };
    let chunks = chunks(cut, on.len(), step_plan);
    cut.for_each(on.len() * chunks, |task| {
        let on = &on[task / chunks];
        let rows = part(step_plan.tiling.rows, chunks, task % chunks);
        let mut scratch = kept.scratch.take(plan.transformed_chunk + plan.products);
        let at = ArenaPtr(scratch.as_mut_ptr());
        let transformed = Transformed {
            at,
            first_row: rows.start,
            rows: rows.len(),
        };
        // SAFETY: the scratch is this task's; tasks differ in the arena or the rows that they write; what they read was
        // written by earlier steps.
        unsafe {
            on.clear_tile_border(rows.clone());
            on.transform(winograd, rows.clone(), transformed);
            let products = ArenaPtr(at.at(plan.transformed_chunk));
            on.multiply(winograd, rows, &winograd.blocks, transformed, products);
        }
        kept.scratch.give_back(scratch);
    });
}

/// A Winograd convolution whose inputs are all transformed first, then multiplied by tasks that share them.
fn together<T: Element>(winograd: &Winograd<T>, kept: &Kept<T>, on: &[On<'_, T>], cut: Cut<'_>) {
    let Some(On { plan, step_plan, .. }) = on.first() else {
        return;
    };
    let rows = step_plan.tiling.rows;
    let len = winograd.transformed_len(rows * step_plan.tiling.columns);
    let mut buffers: Vec<AlignedBuffer<T>> = on.iter().map(|_| kept.transformed.take(len)).collect();
    let all: Vec<Transformed<T>> = buffers
        .iter_mut()
        .map(|buffer| Transformed {
            at: ArenaPtr(buffer.as_mut_ptr()),
            first_row: 0,
            rows,
        })
        .collect();
    cut.for_each(on.len() * rows, |task| {
        let (image, row) = (task / rows, task % rows);
        // SAFETY: each task has its own row of tiles.
        unsafe { on[image].transform(winograd, row..row + 1, all[image]) };
    });
    let extent = Extent {
        rows,
        rows_per_chunk: step_plan.rows_per_chunk,
        blocks: winograd.blocks.len(),
        rows_first: false,
    };
    let tasks = cut.of(on.len(), extent);
    cut.for_each(tasks.count(), |task| {
        let (image, chunk, group) = tasks.at(task);
        let rows = part(rows, tasks.chunks, chunk);
        let mut scratch = kept.scratch.take(plan.transformed_chunk + plan.products);
        // SAFETY: the scratch is this task's; tasks differ in the arena, the rows or the channels that they write (the
        // border of some rows only the first group); what they read was written before.
        unsafe {
            if group == 0 {
                on[image].clear_tile_border(rows.clone());
            }
            let blocks = &winograd.blocks[part(winograd.blocks.len(), tasks.groups, group)];
            on[image].multiply(winograd, rows, blocks, all[image], ArenaPtr(scratch.as_mut_ptr()));
        }
        kept.scratch.give_back(scratch);
    });
    buffers
        .into_iter()
        .for_each(|buffer| kept.transformed.give_back(buffer));
}
