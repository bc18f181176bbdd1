use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{PathElement, Polygon};
use plotters::style::Color;

use super::axis::{Axis, Scale};
use super::canvas::{Canvas, Entry, Key, color};
use super::lines::Mark;
use super::{Output, check_finite};
use crate::{Error, Result};

/// Distributions of groups of numbers over common bins, as the share of each group, so that groups of different size can
/// be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Heading; details may follow on a second line.
    pub title: String,
    /// Horizontal axis, which must be linear. A range leaves out what lies beyond it; the shares are of the whole group.
    pub x: Axis,
    /// Number of bins, all of the same width.
    pub bins: usize,
    /// The groups, drawn over one another.
    pub groups: Vec<Group>,
    /// Values to point out, e.g. a threshold.
    pub marks: Vec<Mark>,
}

/// Numbers of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Text of the legend.
    pub name: String,
    /// The numbers.
    pub values: Vec<f64>,
}

pub(super) fn draw<B: DrawingBackend>(figure: &Histogram, area: &DrawingArea<B, Shift>, output: Output) -> Result<()> {
    if figure.groups.is_empty() || figure.groups.iter().any(|g| g.values.is_empty()) || figure.bins == 0 {
        return Err(Error::Empty {
            what: figure.title.clone(),
        });
    }
    if figure.x.scale == Scale::Log {
        return Err(Error::figure(&figure.title, "a histogram needs a linear axis"));
    }
    let mut xs: Vec<f64> = figure.groups.iter().flat_map(|g| &g.values).copied().collect();
    xs.extend(figure.marks.iter().map(|m| m.x));
    check_finite(&figure.title, &figure.x.label, &xs)?;

    let x = figure.x.fit(&figure.title, &xs)?;
    let (low, width) = (x.low(), (x.high() - x.low()) / figure.bins as f64);
    let shares: Vec<Vec<f64>> = figure
        .groups
        .iter()
        .map(|g| shares(&g.values, low, width, figure.bins))
        .collect();
    let highest = shares.iter().flatten().copied().fold(0.0, f64::max);
    let y_axis =
        Axis::linear("share of the group", "%").with_range(0.0, if highest > 0.0 { highest * 1.06 } else { 1.0 });
    let y = y_axis.fit(&figure.title, &[])?;

    let canvas = Canvas {
        title: &figure.title,
        area,
        output,
    };
    let groups = figure.groups.iter().enumerate().map(|(index, g)| Entry {
        key: Key::Area,
        index,
        text: g.name.clone(),
    });
    let marks = figure.marks.iter().map(|m| Entry {
        key: Key::Dashes,
        index: 0,
        text: m.label.clone(),
    });
    let legend: Vec<Entry> = groups.chain(marks).collect();
    let chart = canvas.chart((&figure.x, x), (&y_axis, y), &legend)?;
    let plot = chart.plotting_area();
    // All areas first, so that none dims the outline of another.
    for (index, shares) in shares.iter().enumerate() {
        for outline in outlines(shares, low, width) {
            plot.draw(&Polygon::new(outline, color(index).mix(0.35)))
                .map_err(canvas.failed())?;
        }
    }
    for (index, shares) in shares.iter().enumerate() {
        for outline in outlines(shares, low, width) {
            plot.draw(&PathElement::new(outline, canvas.stroke(color(index), 2.0)))
                .map_err(canvas.failed())?;
        }
    }
    for mark in &figure.marks {
        canvas.vertical_mark(&chart, mark.x)?;
    }
    Ok(())
}

/// Percent of `values` in each bin; the last bin includes its upper end.
fn shares(values: &[f64], low: f64, width: f64, bins: usize) -> Vec<f64> {
    let mut counts = vec![0usize; bins];
    let high = low + width * bins as f64;
    for value in values.iter().filter(|v| (low..=high).contains(*v)) {
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    counts
        .into_iter()
        .map(|count| 100.0 * count as f64 / values.len() as f64)
        .collect()
}

/// The steps over each run of bins that are not empty.
fn outlines(shares: &[f64], low: f64, width: f64) -> Vec<Vec<(f64, f64)>> {
    let edge = |bin: usize| low + bin as f64 * width;
    let mut outlines: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut before = 0.0;
    for (bin, share) in shares.iter().copied().enumerate() {
        if share > 0.0 && before == 0.0 {
            outlines.push(vec![(edge(bin), 0.0)]);
        }
        if let Some(outline) = outlines.last_mut() {
            if share > 0.0 {
                outline.extend([(edge(bin), share), (edge(bin + 1), share)]);
            } else if before > 0.0 {
                outline.push((edge(bin), 0.0));
            }
        }
        before = share;
    }
    if let Some(outline) = outlines.last_mut().filter(|_| before > 0.0) {
        outline.push((edge(shares.len()), 0.0));
    }
    outlines
}
