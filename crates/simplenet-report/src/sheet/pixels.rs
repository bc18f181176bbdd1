//! Resampling and blending of the panels of a sheet.

use super::Rgb8;

/// A picture that fits a square, and how it was taken from its source.
#[derive(Clone)]
pub(super) struct Panel {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<[u8; 3]>,
    source: (usize, usize),
}

/// Half the width of an outline, in pixels of the panel.
const OUTLINE: usize = 2;

impl Panel {
    /// The image scaled so that its longer side is `side`: the mean of the source pixels where it shrinks, the nearest one
    /// where it grows, so that a small image shows its true pixels.
    pub(super) fn image(image: Rgb8<'_>, side: usize) -> Panel {
        let (width, height) = fit(image.width, image.height, side);
        let mut panel = Panel {
            width,
            height,
            pixels: Vec::new(),
            source: (image.width, image.height),
        };
        let channel = |c: usize| move |index: usize| f32::from(image.data[3 * index + c]);
        let planes = [0, 1, 2].map(|c| panel.resample(channel(c)));
        panel.pixels = (0..width * height)
            .map(|i| [0, 1, 2].map(|c| planes[c][i].round() as u8))
            .collect();
        panel
    }

    /// The grey image under the colours of `map`, which has the size of the source.
    pub(super) fn overlay(&self, map: &[f32], color: impl Fn(f32) -> [u8; 3]) -> Panel {
        let scores = self.resample(|index| map[index]);
        let blended = self
            .pixels
            .iter()
            .zip(scores)
            .map(|(pixel, score)| blend(grey(*pixel), color(score), 0.6));
        Panel {
            pixels: blended.collect(),
            ..self.clone()
        }
    }

    /// The image with the pixels of `mask`, which has the size of the source, tinted and outlined.
    pub(super) fn with_mask(&self, mask: &[bool], color: [u8; 3]) -> Panel {
        let share = self.resample(|index| if mask[index] { 1.0 } else { 0.0 });
        let inside: Vec<bool> = share.iter().map(|s| *s >= 0.5).collect();
        let mut pixels = self.pixels.clone();
        for (index, pixel) in pixels.iter_mut().enumerate().filter(|(index, _)| inside[*index]) {
            let opacity = if self.is_near_edge(&inside, index) { 1.0 } else { 0.35 };
            *pixel = blend(*pixel, color, opacity);
        }
        Panel { pixels, ..self.clone() }
    }

    fn is_near_edge(&self, inside: &[bool], index: usize) -> bool {
        let (x, y) = (index % self.width, index / self.width);
        let rows = y.saturating_sub(OUTLINE)..=(y + OUTLINE).min(self.height - 1);
        let columns = x.saturating_sub(OUTLINE)..=(x + OUTLINE).min(self.width - 1);
        rows.into_iter()
            .any(|row| columns.clone().any(|column| !inside[row * self.width + column]))
    }

    /// `value` is asked for indices of source pixels.
    fn resample(&self, value: impl Fn(usize) -> f32) -> Vec<f32> {
        let (source_width, source_height) = self.source;
        let columns: Vec<_> = (0..self.width).map(|x| span(x, self.width, source_width)).collect();
        let mut out = Vec::with_capacity(self.width * self.height);
        for y in 0..self.height {
            let rows = span(y, self.height, source_height);
            for column in &columns {
                let count = rows.len() * column.len();
                let sum: f32 = rows
                    .clone()
                    .flat_map(|r| column.clone().map(move |c| r * source_width + c))
                    .map(&value)
                    .sum();
                out.push(sum / count as f32);
            }
        }
        out
    }
}

/// Width and height scaled so that the longer one is `side`.
pub(super) fn fit(width: usize, height: usize, side: usize) -> (usize, usize) {
    let longer = width.max(height);
    let scaled = |length: usize| ((length * side + longer / 2) / longer).max(1);
    (scaled(width), scaled(height))
}

/// The source pixels under pixel `index` of `length`; never none.
fn span(index: usize, length: usize, source: usize) -> std::ops::Range<usize> {
    let start = index * source / length;
    let end = (index + 1) * source / length;
    start..end.max(start + 1)
}

fn grey([r, g, b]: [u8; 3]) -> [u8; 3] {
    let luma = 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b);
    [luma.round() as u8; 3]
}

fn blend(below: [u8; 3], above: [u8; 3], opacity: f32) -> [u8; 3] {
    [0, 1, 2].map(|c| (f32::from(below[c]) * (1.0 - opacity) + f32::from(above[c]) * opacity).round() as u8)
}
