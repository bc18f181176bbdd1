//! A sheet of example images beside their anomaly maps, like Figure 8 of Liu et al. 2023.

mod pixels;

use std::path::Path;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::Rectangle;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, WHITE};

use crate::figure::{tick_labels, ticks_between};
use crate::raster::write_png;
use crate::{Error, Result, font};
use pixels::Panel;

/// An image: `width * height` pixels of red, green and blue, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Rgb8<'a> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub data: &'a [u8],
}

/// One image with what was found in it.
#[derive(Clone, Copy, Debug)]
pub struct SheetRow<'a> {
    /// What the image shows, e.g. the kind of defect.
    pub caption: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Its anomaly score: that of the image, which need not be on the scale of a smoothed map.
    pub score: f32,
    /// The image.
    pub image: Rgb8<'a>,
    /// Its anomaly map, one score per pixel; higher is more anomalous.
    pub map: &'a [f32],
    /// A pixel is predicted anomalous when its score is at least this.
    pub threshold: f32,
    /// Which pixels are anomalous; `None` when nobody knows, all `false` for a good image.
    pub truth: Option<&'a [bool]>,
}

/// Rows under a heading, e.g. "worst misses".
#[derive(Clone, Copy, Debug)]
pub struct SheetSection<'a> {
    /// The heading; may be empty.
    pub title: &'a str,
    /// The rows, from top to bottom.
    pub rows: &'a [SheetRow<'a>],
}

const PANEL: i32 = 224;
const GAP: i32 = 12;
const MARGIN: i32 = 20;
const CAPTION: i32 = 190;
const BAR: i32 = 110;
const HEADER: i32 = 92;
const SECTION: i32 = 40;
/// Least height of a row: its caption must fit.
const LEAST: i32 = 130;
/// Each pixel is the mean of so many squared.
const SMOOTHING: i32 = 3;
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(110, 110, 110);
const FRAME: [u8; 3] = [215; 3];
const PREDICTED: [u8; 3] = [213, 94, 0];
const TRUE: [u8; 3] = [0, 158, 115];

/// Writes a PNG with one line per row: the image, its anomaly map over the grey image, the predicted mask and the ground
/// truth. One colour scale, from the lowest to the highest score of all maps, serves the whole sheet.
///
/// # Errors
/// When there are no rows, a map, mask or image does not have the size it states, a score is not finite, or the file
/// cannot be written.
pub fn sheet(path: &Path, title: &str, sections: &[SheetSection<'_>]) -> Result<()> {
    let rows: Vec<&SheetRow<'_>> = sections.iter().flat_map(|s| s.rows).collect();
    if rows.is_empty() {
        return Err(Error::Empty { what: title.to_owned() });
    }
    rows.iter().try_for_each(|row| check(row))?;
    font::register()?;
    let scores = rows.iter().flat_map(|row| row.map).copied();
    let (low, high) = scores.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let range = (low, if high > low { high } else { low + 1.0 });

    let headings = sections.iter().filter(|s| !s.title.is_empty()).count() as i32;
    let width = MARGIN + CAPTION + 4 * (PANEL + GAP) + BAR + MARGIN;
    let heights: i32 = rows.iter().map(|row| height_of(row) + GAP).sum();
    // The colour bar beside the first row may be taller than the rows.
    let below_header = (headings * SECTION + heights).max(SECTION + PANEL + GAP);
    let size = (width as u32, (HEADER + below_header + MARGIN) as u32);
    write_png(path, title, size, SMOOTHING as u32, |area| {
        let page = Page {
            title,
            area: &area,
            range,
        };
        page.draw(sections)?;
        area.present().map_err(page.failed())
    })
}

/// Height of a row: that of its panels, whose longer side is [`PANEL`], or of its caption.
fn height_of(row: &SheetRow<'_>) -> i32 {
    let Rgb8 { width, height, .. } = row.image;
    let (_, scaled) = pixels::fit(width, height, PANEL as usize);
    (scaled as i32).max(LEAST)
}

pub(crate) fn check(row: &SheetRow<'_>) -> Result<()> {
    let Rgb8 { width, height, data } = row.image;
    let what = format!("{} ({})", row.file, row.caption);
    let pixels = width * height;
    if pixels == 0 {
        return Err(Error::figure(&what, format!("the image has {width} x {height} pixels")));
    }
    if data.len() != 3 * pixels {
        let problem = format!(
            "an image of {width} x {height} has {} bytes, not {}",
            3 * pixels,
            data.len()
        );
        return Err(Error::figure(&what, problem));
    }
    let masks = [
        ("anomaly map", Some(row.map.len())),
        ("ground truth", row.truth.map(<[bool]>::len)),
    ];
    for (name, length) in masks {
        if let Some(length) = length.filter(|length| *length != pixels) {
            let problem = format!("the {name} has {length} values for an image of {width} x {height} = {pixels}");
            return Err(Error::figure(&what, problem));
        }
    }
    let mut scores = row.map.iter().chain([&row.score, &row.threshold]);
    match scores.find(|v| !v.is_finite()) {
        Some(value) => Err(Error::figure(&what, format!("a score is {value}"))),
        None => Ok(()),
    }
}

/// All coordinates are pixels of the finished sheet.
struct Page<'a, B: DrawingBackend> {
    title: &'a str,
    area: &'a DrawingArea<B, Shift>,
    range: (f32, f32),
}

impl<B: DrawingBackend> Page<'_, B> {
    fn draw(&self, sections: &[SheetSection<'_>]) -> Result<()> {
        self.area.fill(&WHITE).map_err(self.failed())?;
        self.text(self.title, 22.0, INK, (MARGIN, 30), HPos::Left)?;
        for (index, heading) in ["image", "anomaly map", "predicted", "ground truth"]
            .into_iter()
            .enumerate()
        {
            let x = MARGIN + CAPTION + index as i32 * (PANEL + GAP) + PANEL / 2;
            self.text(heading, 16.0, INK, (x, HEADER - 18), HPos::Center)?;
        }
        let mut y = HEADER;
        for (index, section) in sections.iter().enumerate() {
            if !section.title.is_empty() {
                self.text(section.title, 18.0, INK, (MARGIN, y + SECTION / 2), HPos::Left)?;
                y += SECTION;
            }
            if index == 0 {
                self.color_bar(sections, y)?;
            }
            for row in section.rows {
                self.row(row, y)?;
                y += height_of(row) + GAP;
            }
        }
        Ok(())
    }

    fn row(&self, row: &SheetRow<'_>, y: i32) -> Result<()> {
        self.text(row.caption, 16.0, INK, (MARGIN, y + 9), HPos::Left)?;
        let mut line = y + 34;
        for part in wrap(row.file, 24) {
            self.text(&part, 13.0, FAINT, (MARGIN, line), HPos::Left)?;
            line += 19;
        }
        self.text(
            &format!("image score {:.3}", row.score),
            14.0,
            INK,
            (MARGIN, line + 6),
            HPos::Left,
        )?;
        self.text(
            &format!("pixel threshold {:.3}", row.threshold),
            14.0,
            FAINT,
            (MARGIN, line + 28),
            HPos::Left,
        )?;

        let image = Panel::image(row.image, PANEL as usize);
        let predicted: Vec<bool> = row.map.iter().map(|v| *v >= row.threshold).collect();
        let heat = image.overlay(row.map, |score| self.color(score));
        let truth = row.truth.map(|truth| image.with_mask(truth, TRUE));
        let panels = [
            Some(image.clone()),
            Some(heat),
            Some(image.with_mask(&predicted, PREDICTED)),
            truth,
        ];
        for (index, panel) in panels.into_iter().enumerate() {
            let x = MARGIN + CAPTION + index as i32 * (PANEL + GAP);
            match panel {
                Some(panel) => self.panel(&panel, x, y)?,
                None => {
                    let (width, height) = (image.width as i32, image.height as i32);
                    let left = x + (PANEL - width) / 2;
                    self.fill((left, y), (width, height), [238; 3])?;
                    self.text("not known", 14.0, FAINT, (x + PANEL / 2, y + height / 2), HPos::Center)?;
                }
            }
        }
        Ok(())
    }

    fn panel(&self, panel: &Panel, x: i32, y: i32) -> Result<()> {
        let left = x + (PANEL - panel.width as i32) / 2;
        // A frame, because many photographs have a background as white as the page.
        self.fill(
            (left - 1, y - 1),
            (panel.width as i32 + 2, panel.height as i32 + 2),
            FRAME,
        )?;
        for (index, color) in panel.pixels.iter().enumerate() {
            let at = (left + (index % panel.width) as i32, y + (index / panel.width) as i32);
            self.fill(at, (1, 1), *color)?;
        }
        Ok(())
    }

    fn color_bar(&self, sections: &[SheetSection<'_>], y: i32) -> Result<()> {
        let x = MARGIN + CAPTION + 4 * (PANEL + GAP) + 4;
        let (low, high) = self.range;
        let row_of = |score: f32| y + PANEL - 1 - (((score - low) / (high - low)) * (PANEL - 1) as f32).round() as i32;
        for step in 0..PANEL {
            let score = low + (high - low) * step as f32 / (PANEL - 1) as f32;
            self.fill((x, y + PANEL - 1 - step), (18, 1), self.color(score))?;
        }
        let ticks = ticks_between(f64::from(low), f64::from(high));
        for (tick, label) in ticks.iter().zip(tick_labels(&ticks)) {
            let row = row_of(*tick as f32);
            self.fill((x + 18, row), (5, 1), [INK.0, INK.1, INK.2])?;
            self.text(&label, 13.0, INK, (x + 28, row), HPos::Left)?;
        }
        self.text("score", 14.0, INK, (x, y - 18), HPos::Left)?;
        let mut thresholds = sections.iter().flat_map(|s| s.rows).map(|row| row.threshold);
        let Some(threshold) = thresholds.next() else {
            return Ok(());
        };
        if thresholds.all(|other| other == threshold) && (low..=high).contains(&threshold) {
            self.fill((x - 5, row_of(threshold) - 1), (28, 3), PREDICTED)?;
        }
        Ok(())
    }

    fn color(&self, score: f32) -> [u8; 3] {
        let (low, high) = self.range;
        let RGBColor(r, g, b) = ViridisRGB.get_color(((score - low) / (high - low)).clamp(0.0, 1.0));
        [r, g, b]
    }

    fn fill(&self, (x, y): (i32, i32), (width, height): (i32, i32), [r, g, b]: [u8; 3]) -> Result<()> {
        let corner = |x: i32, y: i32| (x * SMOOTHING, y * SMOOTHING);
        let corners = [corner(x, y), corner(x + width, y + height)];
        let rectangle = Rectangle::new(corners, RGBColor(r, g, b).filled());
        self.area.draw(&rectangle).map_err(self.failed())
    }

    /// Text whose capitals are centred on a row of pixels.
    fn text(&self, text: &str, size: f64, color: RGBColor, (x, y): (i32, i32), anchor: HPos) -> Result<()> {
        let size = size * f64::from(SMOOTHING);
        let style = font::style(size, color).pos(Pos::new(anchor, VPos::Center));
        let at = (x * SMOOTHING, y * SMOOTHING + (size * font::BITMAP_DROP) as i32);
        self.area.draw_text(text, &style, at).map_err(self.failed())
    }

    fn failed(&self) -> impl Fn(DrawingAreaErrorKind<B::ErrorType>) -> Error {
        let title = self.title.to_owned();
        move |e| Error::drawing(&title, e)
    }
}

/// Breaks a file name into lines of at most `width` characters, after a `/` where there is one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for part in text.split_inclusive('/') {
        let count = part.chars().count();
        if length > 0 && length + count > width {
            lines.push(String::new());
            length = 0;
        }
        for character in part.chars() {
            if length == width {
                lines.push(String::new());
                length = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
            length += 1;
        }
    }
    lines
}
