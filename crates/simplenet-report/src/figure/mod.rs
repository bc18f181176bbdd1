//! Line charts, histograms and scatter plots, as SVG or PNG from one description.
//!
//! ```
//! use simplenet_report::figure::{Axis, Figure, LineChart, Mark, Point, Series};
//!
//! let series = Series {
//!     name: "last epoch".into(),
//!     points: [(0.005, 98.1), (0.015, 99.0), (0.05, 97.2)].map(|(x, y)| Point::at(x, y)).to_vec(),
//! };
//! let figure = Figure::Lines(LineChart {
//!     title: "Scale of the noise".into(),
//!     x: Axis::log("σ", "").with_ticks(&[0.005, 0.015, 0.05]),
//!     y: Axis::linear("image AUROC", "%"),
//!     series: vec![series],
//!     marks: vec![Mark { x: 0.015, label: "paper: 0.015".into() }],
//! });
//! assert!(figure.svg()?.contains("image AUROC (%)"));
//! # Ok::<(), simplenet_report::Error>(())
//! ```

mod axis;
mod canvas;
mod histogram;
mod lines;
mod scatter;

use std::path::Path;

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};

pub use axis::{Axis, Scale};
pub(crate) use axis::{tick_labels, ticks_between};
pub use histogram::{Group, Histogram};
pub use lines::{LineChart, Mark, Point, Series};
pub use scatter::{Scatter, ScatterGroup, ScatterPoint};

use crate::file::write_atomic;
use crate::raster::write_png;
use crate::{Error, Result, font};

/// Width and height of a figure in SVG units; a PNG has twice as many pixels.
pub const SIZE: (u32, u32) = (800, 480);

const PNG_SCALE: u32 = 2;

/// Each pixel of a PNG is the mean of so many squared.
const SMOOTHING: u32 = 2;

/// Units of an output.
#[derive(Clone, Copy)]
struct Output {
    /// Pixels per SVG unit.
    scale: f64,
    /// See [`font::SVG_DROP`].
    drop: f64,
}

/// A figure, described by its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// Lines over a linear or logarithmic axis.
    Lines(LineChart),
    /// Distributions of groups of numbers.
    Histogram(Histogram),
    /// Named points, e.g. accuracy over speed.
    Scatter(Scatter),
}

impl Figure {
    /// The figure as SVG text; the same bytes each time.
    ///
    /// # Errors
    /// When there is nothing to draw, a number is not finite, or a logarithmic axis meets one that is not positive.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let output = Output {
            scale: 1.0,
            drop: font::SVG_DROP,
        };
        self.draw(SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), output)?;
        Ok(text)
    }

    /// Writes the figure atomically; the ending of `path`, `.svg` or `.png`, decides the format.
    ///
    /// # Errors
    /// As [`Figure::svg`]; when the ending is another; when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("svg") => write_atomic(path, self.svg()?.as_bytes()),
            Some("png") => {
                let size = (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE);
                let output = Output {
                    scale: f64::from(PNG_SCALE * SMOOTHING),
                    drop: font::BITMAP_DROP,
                };
                write_png(path, self.title(), size, SMOOTHING, |area| self.draw(area, output))
            }
            _ => Err(Error::figure(
                self.title(),
                format!("{} ends in neither .svg nor .png", path.display()),
            )),
        }
    }

    /// Its title.
    pub fn title(&self) -> &str {
        match self {
            Figure::Lines(figure) => &figure.title,
            Figure::Histogram(figure) => &figure.title,
            Figure::Scatter(figure) => &figure.title,
        }
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>, output: Output) -> Result<()> {
        font::register()?;
        match self {
            Figure::Lines(figure) => lines::draw(figure, &area, output),
            Figure::Histogram(figure) => histogram::draw(figure, &area, output),
            Figure::Scatter(figure) => scatter::draw(figure, &area, output),
        }?;
        area.present().map_err(|e| Error::drawing(self.title(), e))
    }
}

/// Refuses numbers that cannot be drawn.
fn check_finite<'a>(title: &str, what: &str, values: impl IntoIterator<Item = &'a f64>) -> Result<()> {
    match values.into_iter().find(|v| !v.is_finite()) {
        Some(value) => Err(Error::figure(title, format!("{what} holds {value}"))),
        None => Ok(()),
    }
}
