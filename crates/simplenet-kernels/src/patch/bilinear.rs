//! Bilinear interpolation as PyTorch does it with `align_corners = false`.

/// Where one output position reads along one axis: `(1 - high_weight) * value[low] + high_weight * value[high]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) high_weight: f32,
}

/// The taps of every output position for resizing `from` values to `to`.
pub(super) fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let tap = |position: usize| {
        let source = (scale * (position as f32 + 0.5) - 0.5).max(0.0);
        let low = (source as usize).min(from - 1);
        let high = (low + 1).min(from - 1);
        let high_weight = (source - low as f32).clamp(0.0, 1.0);
        Tap { low, high, high_weight }
    };
    (0..to).map(tap).collect()
}

/// Resizes one image `[h, w, c]` and hands out its rows.
pub(super) struct Resize {
    h: usize,
    w: usize,
    c: usize,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl Resize {
    /// From `[h, w, c]` to `[rows, columns, c]`.
    pub(super) fn new([h, w, c]: [usize; 3], [rows, columns]: [usize; 2]) -> Resize {
        let (rows, columns) = (taps(h, rows), taps(w, columns));
        Resize { h, w, c, rows, columns }
    }

    /// Calls `out(x, low, high, high_weight)` for each column of output row `y` of `image`: the two vectors `[c]`, already
    /// interpolated between rows, that column lies between. `between` is a buffer.
    #[inline(always)]
    pub(super) fn row(
        &self,
        data: &[f32],
        image: usize,
        y: usize,
        between: &mut Vec<f32>,
        mut out: impl FnMut(usize, &[f32], &[f32], f32),
    ) {
        let length = self.w * self.c;
        let source = |row: usize| &data[(image * self.h + row) * length..][..length];
        let tap = self.rows[y];
        between.resize(length, 0.0);
        lerp(between, source(tap.low), source(tap.high), tap.high_weight);
        for (x, tap) in self.columns.iter().enumerate() {
            let vector = |column: usize| &between[column * self.c..][..self.c];
            out(x, vector(tap.low), vector(tap.high), tap.high_weight);
        }
    }
}

/// `out = (1 - weight) * low + weight * high`.
#[inline(always)]
pub(super) fn lerp(out: &mut [f32], low: &[f32], high: &[f32], weight: f32) {
    let low_weight = 1.0 - weight;
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = low_weight * low + weight * high;
    }
}

/// `out += (1 - weight) * low + weight * high`.
#[inline(always)]
pub(super) fn add_lerp(out: &mut [f32], low: &[f32], high: &[f32], weight: f32) {
    let low_weight = 1.0 - weight;
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out += low_weight * low + weight * high;
    }
}
