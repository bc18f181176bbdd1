use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{PathElement, Rectangle};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, WHITE};

use super::axis::Axis;
use super::canvas::{Canvas, Chart, Entry, INK, Key};
use super::{Output, check_finite};
use crate::{Error, Result, font};

/// Named points in groups, e.g. accuracy over speed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter {
    /// Heading; details may follow on a second line.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The points; groups differ in colour and shape.
    pub groups: Vec<ScatterGroup>,
}

/// Points of one kind, e.g. those measured here.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterGroup {
    /// Text of the legend.
    pub name: String,
    /// The points.
    pub points: Vec<ScatterPoint>,
}

/// A named point.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterPoint {
    /// Written beside it; may be empty.
    pub label: String,
    /// Position on the horizontal axis.
    pub x: f64,
    /// Position on the vertical axis.
    pub y: f64,
}

const LABEL: f64 = 14.0;
/// So many lines above or below its point a label may stand.
const LINES_AWAY: i32 = 6;

/// Left, top, right and bottom in pixels.
type Bounds = (i32, i32, i32, i32);

pub(super) fn draw<B: DrawingBackend>(figure: &Scatter, area: &DrawingArea<B, Shift>, output: Output) -> Result<()> {
    let points = || figure.groups.iter().flat_map(|g| &g.points);
    let xs: Vec<f64> = points().map(|p| p.x).collect();
    let ys: Vec<f64> = points().map(|p| p.y).collect();
    if xs.is_empty() {
        return Err(Error::Empty {
            what: figure.title.clone(),
        });
    }
    check_finite(&figure.title, &figure.x.label, &xs)?;
    check_finite(&figure.title, &figure.y.label, &ys)?;
    let canvas = Canvas {
        title: &figure.title,
        area,
        output,
    };
    let legend: Vec<Entry> = figure
        .groups
        .iter()
        .enumerate()
        .map(|(index, g)| Entry {
            key: Key::Point,
            index,
            text: g.name.clone(),
        })
        .collect();
    let x = figure.x.fit(&figure.title, &xs)?;
    let y = figure.y.fit(&figure.title, &ys)?;
    let chart = canvas.chart((&figure.x, x), (&figure.y, y), &legend)?;
    for (index, group) in figure.groups.iter().enumerate() {
        for point in &group.points {
            canvas.marker(chart.backend_coord(&(point.x, point.y)), index)?;
        }
    }
    draw_labels(figure, &canvas, &chart)
}

/// Puts each label on the first place around its point where it covers no point and no earlier label, if need be some lines
/// away and tied to the point.
fn draw_labels<B: DrawingBackend>(figure: &Scatter, canvas: &Canvas<'_, B>, chart: &Chart<'_, B>) -> Result<()> {
    let size = LABEL * canvas.output.scale;
    let text = font::style(size, INK);
    let points: Vec<&ScatterPoint> = figure.groups.iter().flat_map(|g| &g.points).collect();
    let at = |point: &ScatterPoint| chart.backend_coord(&(point.x, point.y));
    let radius = canvas.px(7.0);
    let mut taken: Vec<Bounds> = points
        .iter()
        .map(|point| at(point))
        .map(|(x, y)| (x - radius, y - radius, x + radius, y + radius))
        .collect();
    let (columns, rows) = chart.plotting_area().get_pixel_range();
    for point in points.iter().filter(|p| !p.label.is_empty()) {
        let (width, _) = canvas
            .area
            .estimate_text_size(&point.label, &text)
            .map_err(canvas.failed())?;
        let (width, height) = (width as i32, size as i32);
        let (x, y) = at(point);
        let gap = canvas.px(9.0);
        let (above, below) = (y - gap - height, y + gap);
        let mut sides = vec![(x + gap, y - height / 2), (x - gap - width, y - height / 2)];
        for lines in 0..LINES_AWAY {
            let away = lines * (height + canvas.px(4.0));
            for left in [x - width / 2, x - width, x] {
                sides.extend([(left, above - away), (left, below + away)]);
            }
        }
        let bounds = |(left, top): (i32, i32)| (left, top, left + width, top + height);
        let is_free = |b: &Bounds| {
            columns.start <= b.0
                && b.2 <= columns.end
                && rows.start <= b.1
                && b.3 <= rows.end
                && !taken.iter().any(|t| b.0 < t.2 && t.0 < b.2 && b.1 < t.3 && t.1 < b.3)
        };
        let beside = bounds(sides[0]);
        let chosen = sides.into_iter().map(bounds).find(is_free).unwrap_or(beside);
        let middle = ((chosen.0 + chosen.2) / 2, (chosen.1 + chosen.3) / 2);
        if (middle.1 - y).abs() > gap + height {
            let edge = if middle.1 > y { chosen.1 } else { chosen.3 };
            let from = (x, y + (edge - y).signum() * radius);
            let to = (x.clamp(chosen.0, chosen.2), edge);
            let tie = PathElement::new(vec![from, to], INK.mix(0.4));
            canvas.area.draw(&tie).map_err(canvas.failed())?;
        }
        let behind = Rectangle::new([(chosen.0, chosen.1), (chosen.2, chosen.3)], WHITE.mix(0.8).filled());
        canvas.area.draw(&behind).map_err(canvas.failed())?;
        canvas.text(&point.label, LABEL, (chosen.0, (chosen.1 + chosen.3) / 2), HPos::Left)?;
        taken.push(chosen);
    }
    Ok(())
}
