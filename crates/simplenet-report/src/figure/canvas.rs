//! What all figures share: title, axes, grid, legend and colours.

use plotters::backend::DrawingBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle, WHITE};

use super::Output;
use super::axis::{Axis, Coordinate};
use crate::{Error, Result, font};

/// Okabe and Ito's palette, readable with any colour vision; without its yellow, which is too faint on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const MARK: RGBColor = RGBColor(90, 90, 90);
const GRID: RGBColor = RGBColor(225, 225, 225);
const TEXT: f64 = 15.0;

pub(super) type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<Coordinate, Coordinate>>;

pub(super) fn color(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// How an entry of the legend looks.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Line,
    Point,
    Area,
    Dashes,
}

pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) index: usize,
    pub(super) text: String,
}

/// A drawing area with the units that belong to it.
pub(super) struct Canvas<'a, B: DrawingBackend> {
    pub(super) title: &'a str,
    pub(super) area: &'a DrawingArea<B, Shift>,
    pub(super) output: Output,
}

impl<'a, B: DrawingBackend> Canvas<'a, B> {
    pub(super) fn px(&self, units: f64) -> i32 {
        (units * self.output.scale).round() as i32
    }

    pub(super) fn stroke(&self, color: RGBColor, width: f64) -> ShapeStyle {
        ShapeStyle::from(&color).stroke_width(self.px(width) as u32)
    }

    pub(super) fn failed(&self) -> impl Fn(DrawingAreaErrorKind<B::ErrorType>) -> Error {
        let title = self.title.to_owned();
        move |e| Error::drawing(&title, e)
    }

    /// Title, axes and grid; the legend stands to the right of the plot, where it covers nothing.
    pub(super) fn chart(
        &self,
        x: (&Axis, Coordinate),
        y: (&Axis, Coordinate),
        legend: &[Entry],
    ) -> Result<Chart<'a, B>> {
        self.area.fill(&WHITE).map_err(self.failed())?;
        let text = font::style(TEXT * self.output.scale, INK);
        let mut legend_width = 0;
        for entry in legend {
            let (width, _) = self
                .area
                .estimate_text_size(&entry.text, &text)
                .map_err(self.failed())?;
            legend_width = legend_width.max(self.px(46.0) + width as i32);
        }
        let (width, height) = self.area.dim_in_pixel();
        let (width, height) = (width as i32, height as i32);
        let (left, top) = (self.px(76.0), self.px(52.0));
        let right = if legend.is_empty() {
            self.px(24.0)
        } else {
            legend_width + self.px(24.0)
        };
        match self.title.split_once('\n') {
            None => self.text(self.title, 19.0, (left, self.px(24.0)), HPos::Left)?,
            Some((title, details)) => {
                self.text(title, 19.0, (left, self.px(17.0)), HPos::Left)?;
                self.text(details, 14.0, (left, self.px(38.0)), HPos::Left)?;
            }
        }

        let label = font::style(TEXT * self.output.scale, INK);
        let mut chart = ChartBuilder::on(self.area)
            .margin_top(top)
            .margin_right(right)
            .margin_bottom(self.px(38.0))
            .margin_left(self.px(34.0))
            .x_label_area_size(self.px(30.0))
            .y_label_area_size(left - self.px(34.0))
            .build_cartesian_2d(x.1, y.1)
            .map_err(self.failed())?;
        chart
            .configure_mesh()
            .bold_line_style(self.stroke(GRID, 1.0))
            .max_light_lines(0)
            .light_line_style(GRID.mix(0.0))
            .axis_style(self.stroke(INK, 1.0))
            .set_all_tick_mark_size(self.px(5.0))
            .label_style(label)
            .y_label_offset(self.px(TEXT * self.output.drop))
            .draw()
            .map_err(self.failed())?;

        let centre_x = (left + width - right) / 2;
        self.text(&x.0.title(), TEXT, (centre_x, height - self.px(22.0)), HPos::Center)?;
        let centre_y = (top + height - self.px(68.0)) / 2;
        let beside = font::upward(TEXT * self.output.scale, INK).pos(Pos::new(HPos::Center, VPos::Top));
        self.area
            .draw_text(&y.0.title(), &beside, (self.px(12.0), centre_y))
            .map_err(self.failed())?;
        self.legend(legend, width - right + self.px(16.0), top)?;
        Ok(chart)
    }

    fn legend(&self, entries: &[Entry], left: i32, top: i32) -> Result<()> {
        let key_width = self.px(26.0);
        for (line, entry) in entries.iter().enumerate() {
            let y = top + self.px(12.0) + line as i32 * self.px(24.0);
            let centre = (left + key_width / 2, y);
            let color = color(entry.index);
            match entry.key {
                Key::Point => self.marker(centre, entry.index)?,
                Key::Line => {
                    let path = vec![(left, y), (left + key_width, y)];
                    self.area
                        .draw(&PathElement::new(path, self.stroke(color, 2.0)))
                        .map_err(self.failed())?;
                    self.marker(centre, entry.index)?;
                }
                Key::Area => {
                    let corners = [(left, y - self.px(7.0)), (left + key_width, y + self.px(7.0))];
                    self.area
                        .draw(&Rectangle::new(corners, color.mix(0.35).filled()))
                        .map_err(self.failed())?;
                    self.area
                        .draw(&Rectangle::new(corners, self.stroke(color, 2.0)))
                        .map_err(self.failed())?;
                }
                Key::Dashes => {
                    for dash in 0..3 {
                        let start = left + dash * self.px(10.0);
                        let path = vec![(start, y), (start + self.px(6.0), y)];
                        self.area
                            .draw(&PathElement::new(path, self.stroke(MARK, 2.0)))
                            .map_err(self.failed())?;
                    }
                }
            }
            self.text(&entry.text, TEXT, (left + key_width + self.px(8.0), y), HPos::Left)?;
        }
        Ok(())
    }

    /// A text whose capitals are centred on a pixel row.
    pub(super) fn text(&self, text: &str, size: f64, (x, y): (i32, i32), anchor: HPos) -> Result<()> {
        let style = font::style(size * self.output.scale, INK).pos(Pos::new(anchor, VPos::Center));
        let at = (x, y + self.px(size * self.output.drop));
        self.area.draw_text(text, &style, at).map_err(self.failed())
    }

    /// A filled mark at a pixel; its shape changes with its colour, so that print without colour can be read.
    pub(super) fn marker(&self, (x, y): (i32, i32), index: usize) -> Result<()> {
        let style = color(index).filled();
        let r = self.px(4.5);
        let polygon = |points: Vec<(i32, i32)>| self.area.draw(&Polygon::new(points, style)).map_err(self.failed());
        match index % 4 {
            0 => self.area.draw(&Circle::new((x, y), r, style)).map_err(self.failed()),
            1 => polygon(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]),
            2 => polygon(vec![(x, y - r - 1), (x + r + 1, y + r), (x - r - 1, y + r)]),
            _ => polygon(vec![(x, y - r - 1), (x + r + 1, y), (x, y + r + 1), (x - r - 1, y)]),
        }
    }

    /// A vertical dashed line through the whole plot.
    pub(super) fn vertical_mark(&self, chart: &Chart<'a, B>, x: f64) -> Result<()> {
        let (_, rows) = chart.plotting_area().get_pixel_range();
        let column = chart.backend_coord(&(x, chart.y_range().start)).0;
        let mut y = rows.start;
        while y < rows.end {
            let path = vec![(column, y), (column, (y + self.px(6.0)).min(rows.end))];
            self.area
                .draw(&PathElement::new(path, self.stroke(MARK, 1.5)))
                .map_err(self.failed())?;
            y += self.px(10.0);
        }
        Ok(())
    }
}
