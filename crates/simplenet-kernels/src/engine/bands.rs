//! Three steps as one, a band of rows at a time: a dense convolution, one that reads it, and the 1×1 one after that, as in an
//! inverted residual block and in a bottleneck.
//!
//! Where what is between them does not fit the L2 cache, it would be written to memory and read back; a band of it stays there.
//! Every output is the same chain of additions, so the bytes are too.

use std::ops::Range;

use super::buffer::ArenaPtr;
use super::lanes::Element;
use super::pack::{Network, Step, Work};
use super::part;
use super::plan::{Place, Plan, is_weighty, residual};
use super::run::Cut;
use super::task::{On, clear_border};

/// What is between the steps and smaller than this stays in the cache anyway.
const WHOLE_BYTES: usize = 1024 * 1024;

/// What a band holds between the steps, about.
const BAND_BYTES: usize = 256 * 1024;

/// A thread begins its part of the rows by making those of the first output that its neighbour makes too. Where they were more
/// than this share of what it needs, the steps run whole.
const MOST_TWICE: f64 = 0.2;

/// How three steps run band by band.
pub(super) struct Band {
    /// Rows of the last step's output.
    pub(super) rows: usize,
    /// Elements of a band of the first step's output, and of both.
    wide: usize,
    pub(super) len: usize,
    /// Rows of the last step's output in all.
    height: usize,
    /// Rows of the first step's output that each of them adds, and that a part takes beyond.
    stride: usize,
    halo: usize,
}

impl Band {
    /// Whether bands are better for this many threads.
    pub(super) fn suits(&self, parts: usize) -> bool {
        let own = (self.height / parts * self.stride) as f64;
        parts == 1 || self.halo as f64 <= MOST_TWICE * own
    }
}

/// By step: whether three begin there that are better run in bands.
pub(super) fn find<T: Element>(network: &Network<T>, places: &[Place]) -> Vec<Option<Band>> {
    let mut found: Vec<Option<Band>> = Vec::new();
    for index in 0..network.steps.len() {
        let overlaps = (1..3).any(|before| index >= before && found[index - before].is_some());
        found.push(if overlaps { None } else { band(network, places, index) });
    }
    found
}

fn band<T: Element>(network: &Network<T>, places: &[Place], index: usize) -> Option<Band> {
    let [first, middle, last] = network.steps.get(index..index + 3)? else {
        return None;
    };
    let kinds = [&first.work, &middle.work, &last.work];
    if !matches!(
        kinds,
        [Work::Dense(_), Work::Depthwise(_) | Work::Dense(_), Work::Dense(_)]
    ) {
        return None;
    }
    // The values between are nobody else's.
    let is_private = |value: usize, reader: &Step<T>| {
        let readers = network.steps.iter().filter(|step| step.input == value).count();
        let is_added = network.steps.iter().any(|step| residual(step) == Some(value));
        reader.input == value && readers == 1 && !is_added && !network.outputs.contains(&value)
    };
    let single = (last.kernel, last.stride) == (1, 1);
    if !single || !is_private(first.output, middle) || !is_private(middle.output, last) || residual(middle).is_some() {
        return None;
    }
    let (wide, narrow) = (&places[first.output], &places[middle.output]);
    let (top, _) = middle.padding.before_after(wide.height, middle.kernel, middle.stride);
    // Every band would stream over them. What multiplies matrices reads each value so rarely that it may as well come from memory,
    // and is better off with whole rows of tiles.
    if is_weighty(middle, wide) || (network.kernels.panel.is_some() && matches!(middle.work, Work::Dense(_))) {
        return None;
    }
    let is_plain = wide.top == top && (narrow.top, narrow.bottom, narrow.left, narrow.right) == (0, 0, 0, 0);
    if !is_plain || (wide.len() + narrow.len()) * size_of::<T>() <= WHOLE_BYTES {
        return None;
    }
    let of_a_row = (middle.stride * wide.row + narrow.row) * size_of::<T>();
    let rows = (BAND_BYTES / of_a_row).clamp(2, narrow.height.max(2));
    let line = 64 / size_of::<T>();
    let window_rows = (rows - 1) * middle.stride + middle.kernel;
    let wide_len = (window_rows * wide.row + wide.slack).next_multiple_of(line);
    let narrow_len = (rows * narrow.row + narrow.slack).next_multiple_of(line);
    Some(Band {
        rows,
        wide: wide_len,
        len: wide_len + narrow_len,
        height: narrow.height,
        stride: middle.stride,
        halo: middle.kernel.saturating_sub(middle.stride),
    })
}

/// Runs the three steps that begin at `index`. Behind the plan's values each arena has room for `parts` bands.
pub(super) fn run<T: Element>(
    network: &Network<T>,
    plan: &Plan,
    index: usize,
    arenas: &[ArenaPtr<T>],
    parts: usize,
    cut: Cut<'_>,
) {
    let (first, middle, last) = (
        &network.steps[index],
        &network.steps[index + 1],
        &network.steps[index + 2],
    );
    let (Work::Dense(widen), Work::Dense(narrow), Some(band)) = (&first.work, &last.work, &plan.bands[index]) else {
        unreachable!("the plan has found three such steps here");
    };
    let height = plan.places[last.output].height;
    cut.for_each(arenas.len() * parts, |task| {
        let (arena, part_of) = (arenas[task / parts], task % parts);
        let mut places = plan.places.clone();
        let base = [0, band.wide].map(|offset| plan.arena + part_of * plan.band + offset);
        let rows = part(height, parts, part_of);
        // Rows of the window of the middle step, padding included, that the band holds.
        let mut held = 0..0;
        for begin in rows.clone().step_by(band.rows) {
            let rows = begin..(begin + band.rows).min(rows.end);
            let needed = rows.start * middle.stride..(rows.end - 1) * middle.stride + middle.kernel;
            // SAFETY: the band is this task's, and as long as the plan says; tasks differ in the arena or the rows that they
            // write; what the first step reads and the last one's residual were written by earlier steps, and nothing is
            // written there before these steps end.
            unsafe {
                let new = make_room(arena, &mut places[first.output], base[0], &held, &needed);
                if !new.is_empty() {
                    On::new(network, plan, &places, index, arena).dense(widen, new, &widen.blocks);
                }
                clear_slack(arena, &places[first.output], base[0], needed.len());
                let place = &mut places[middle.output];
                place.offset = base[1].wrapping_sub(rows.start * place.row);
                clear_slack(arena, place, base[1], rows.len());
                let on = On::new(network, plan, &places, index + 1, arena);
                match &middle.work {
                    Work::Depthwise(depthwise) => on.depthwise(depthwise, rows.clone()),
                    Work::Dense(dense) => on.dense(dense, rows.clone(), &dense.blocks),
                    _ => unreachable!("the plan has found one of these"),
                }
                clear_border(arena, &places[last.output], rows.clone());
                On::new(network, plan, &places, index + 2, arena).dense(narrow, rows, &narrow.blocks);
            }
            held = needed;
        }
    });
}

/// Clears what kernels read beyond the last of `rows` stored rows, which begin at `base`.
///
/// # Safety
/// The band has room for it, and is the caller's alone.
unsafe fn clear_slack<T: Element>(arena: ArenaPtr<T>, place: &Place, base: usize, rows: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(arena.at(base + rows * place.row), place.slack) }.fill(T::ZERO);
}

/// Makes the band begin with the first row of `needed`, which are rows of `place` with its padding: keeps those that it
/// holds, clears the padding of the others, and returns which of the value's own rows are to be made.
///
/// # Safety
/// The band begins at `base`, holds `held`, has room for `needed`, and is the caller's alone.
unsafe fn make_room<T: Element>(
    arena: ArenaPtr<T>,
    place: &mut Place,
    base: usize,
    held: &Range<usize>,
    needed: &Range<usize>,
) -> Range<usize> {
    let kept = held.end.saturating_sub(needed.start.max(held.start));
    place.offset = base.wrapping_sub(needed.start * place.row);
    let clear = |begin: usize, end: usize| {
        // SAFETY: both lie in the band.
        unsafe { std::slice::from_raw_parts_mut(arena.at(begin), end - begin) }.fill(T::ZERO);
    };
    // SAFETY: what is kept lies in the band before and after; the caller's promise.
    unsafe {
        if kept > 0 {
            let from = base + (needed.start - held.start) * place.row;
            std::ptr::copy(arena.at(from), arena.at(base), kept * place.row);
        }
    }
    let own = place.top..place.top + place.height;
    let first = needed.start + kept;
    for row in first..needed.end {
        let begin = base + (row - needed.start) * place.row;
        if own.contains(&row) {
            clear(begin, begin + place.left * place.pixel);
            clear(begin + (place.left + place.width) * place.pixel, begin + place.row);
        } else {
            clear(begin, begin + place.row);
        }
    }
    let within = |row: usize| row.clamp(own.start, own.end) - own.start;
    within(first)..within(needed.end)
}
