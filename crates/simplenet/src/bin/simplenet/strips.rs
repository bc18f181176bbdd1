//! Scores as dots on strips.

use std::fmt::Write;

use crate::html::escaped;

/// Width of the strips, of their names, and height of one.
const WIDE: f64 = 860.0;
const NAMES: f64 = 170.0;
const STRIP: f64 = 26.0;

/// An image's score.
pub(crate) struct Dot<'a> {
    /// Name of the strip it is on.
    pub(crate) strip: &'a str,
    pub(crate) score: f32,
    /// Red, and not blue.
    pub(crate) is_odd: bool,
    pub(crate) file: &'a str,
}

/// One dot per image, a strip per name, a line at the threshold.
pub(crate) fn strips(mut dots: Vec<Dot<'_>>, threshold: f32) -> String {
    dots.sort_by(|a, b| a.strip.cmp(b.strip));
    let scores = dots.iter().map(|dot| f64::from(dot.score));
    let threshold = f64::from(threshold);
    let low = scores.clone().fold(threshold, f64::min);
    let high = scores.fold(threshold, f64::max);
    let span = (high - low).max(f64::MIN_POSITIVE);
    let x = |score: f64| NAMES + (score - low) / span * (WIDE - NAMES - 10.0);
    let named = dots.chunk_by(|a, b| a.strip == b.strip);
    let height = STRIP * named.clone().count() as f64;
    let mut svg = format!("<svg width=\"{WIDE}\" height=\"{}\" role=\"img\">", height + 20.0);
    for (row, strip) in named.enumerate() {
        let y = STRIP * (row as f64 + 0.5);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text>",
            y + 4.0,
            escaped(strip[0].strip)
        );
        for dot in strip {
            let color = if dot.is_odd { "#cf222e" } else { "#0969da" };
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{color}\" fill-opacity=\".5\"><title>{}: {:.4}</title></circle>",
                x(f64::from(dot.score)),
                escaped(dot.file),
                dot.score
            );
        }
    }
    let _ = write!(
        svg,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"#1b1f24\"/><text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">threshold {threshold:.2}</text></svg>",
        x(threshold),
        height + 14.0
    );
    svg
}
