use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{PathElement, Polygon};
use plotters::style::Color;

use super::axis::Axis;
use super::canvas::{Canvas, Entry, Key, color};
use super::{Output, check_finite};
use crate::{Error, Result};

/// Lines over an axis, each with an optional error band.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Heading; details may follow on a second line.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Chosen values to point out.
    pub marks: Vec<Mark>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Text of the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Position on the horizontal axis.
    pub x: f64,
    /// Position on the vertical axis.
    pub y: f64,
    /// Lower and upper end of the error band.
    pub band: Option<(f64, f64)>,
}

impl Point {
    /// A point without a band.
    pub fn at(x: f64, y: f64) -> Self {
        Point { x, y, band: None }
    }

    /// A point with a band of `deviation` to either side.
    pub fn with_deviation(x: f64, y: f64, deviation: f64) -> Self {
        Point {
            x,
            y,
            band: Some((y - deviation, y + deviation)),
        }
    }
}

/// A vertical line at a value that was chosen, e.g. by the paper.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Position on the horizontal axis.
    pub x: f64,
    /// Text of the legend.
    pub label: String,
}

pub(super) fn draw<B: DrawingBackend>(figure: &LineChart, area: &DrawingArea<B, Shift>, output: Output) -> Result<()> {
    if figure.series.is_empty() || figure.series.iter().any(|s| s.points.is_empty()) {
        return Err(Error::Empty {
            what: figure.title.clone(),
        });
    }
    let points = || figure.series.iter().flat_map(|s| &s.points);
    let mut xs: Vec<f64> = points().map(|p| p.x).collect();
    xs.extend(figure.marks.iter().map(|m| m.x));
    let bands = points().filter_map(|p| p.band).flat_map(|(low, high)| [low, high]);
    let ys: Vec<f64> = points().map(|p| p.y).chain(bands).collect();
    check_finite(&figure.title, &figure.x.label, &xs)?;
    check_finite(&figure.title, &figure.y.label, &ys)?;
    if figure
        .series
        .iter()
        .any(|s| s.points.windows(2).any(|pair| pair[0].x > pair[1].x))
    {
        return Err(Error::figure(
            &figure.title,
            "the points of a line do not go from left to right",
        ));
    }

    let canvas = Canvas {
        title: &figure.title,
        area,
        output,
    };
    let lines = figure.series.iter().enumerate().map(|(index, s)| Entry {
        key: Key::Line,
        index,
        text: s.name.clone(),
    });
    let marks = figure.marks.iter().map(|m| Entry {
        key: Key::Dashes,
        index: 0,
        text: m.label.clone(),
    });
    let legend: Vec<Entry> = lines.chain(marks).collect();
    let x = figure.x.fit(&figure.title, &xs)?;
    let y = figure.y.fit(&figure.title, &ys)?;
    let chart = canvas.chart((&figure.x, x), (&figure.y, y), &legend)?;
    for mark in &figure.marks {
        canvas.vertical_mark(&chart, mark.x)?;
    }
    let plot = chart.plotting_area();
    for (index, series) in figure.series.iter().enumerate() {
        let upper = series.points.iter().filter_map(|p| p.band.map(|(_, high)| (p.x, high)));
        let lower = series
            .points
            .iter()
            .rev()
            .filter_map(|p| p.band.map(|(low, _)| (p.x, low)));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        if outline.len() >= 4 {
            plot.draw(&Polygon::new(outline, color(index).mix(0.18)))
                .map_err(canvas.failed())?;
        }
    }
    for (index, series) in figure.series.iter().enumerate() {
        let path: Vec<(f64, f64)> = series.points.iter().map(|p| (p.x, p.y)).collect();
        plot.draw(&PathElement::new(path.clone(), canvas.stroke(color(index), 2.0)))
            .map_err(canvas.failed())?;
        for point in &path {
            canvas.marker(chart.backend_coord(point), index)?;
        }
    }
    Ok(())
}
