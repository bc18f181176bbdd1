//! The one font of all pictures. It is part of the program, so that a picture is the same on every machine.

use std::sync::OnceLock;

use plotters::style::text_anchor::Pos;
use plotters::style::{Color, FontDesc, FontStyle, FontTransform, IntoFont, RGBColor, TextStyle, register_font};

use crate::{Error, Result};

/// SVG viewers look the font up by this list; the bitmap backend finds it registered under the whole of it.
const FAMILY: &str = "DejaVu Sans, sans-serif";

static DEJAVU_SANS: &[u8] = include_bytes!("../fonts/DejaVuSans.ttf");

/// Makes the font known to plotters; later calls do nothing.
pub(crate) fn register() -> Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    if *DONE.get_or_init(|| register_font(FAMILY, FontStyle::Normal, DEJAVU_SANS).is_ok()) {
        return Ok(());
    }
    Err(Error::drawing("text", "the font was not accepted"))
}

/// How far below the middle of a text plotters must be told to draw it, as a share of its size, for capitals and digits
/// to stand in the middle. The two backends differ: SVG centres half the height of an x, the bitmap a line without descent.
pub(crate) const SVG_DROP: f64 = 0.07;
/// The same for the bitmap backend.
pub(crate) const BITMAP_DROP: f64 = 0.21;

/// A text of `size` pixels in `color`.
pub(crate) fn style(size: f64, color: RGBColor) -> TextStyle<'static> {
    text((FAMILY, size).into_font(), color)
}

/// The same, turned to read from bottom to top.
pub(crate) fn upward(size: f64, color: RGBColor) -> TextStyle<'static> {
    text((FAMILY, size).into_font().transform(FontTransform::Rotate270), color)
}

fn text(font: FontDesc<'static>, color: RGBColor) -> TextStyle<'static> {
    TextStyle {
        font,
        color: color.to_backend_color(),
        pos: Pos::default(),
    }
}
