use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::{Error, Result};

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors; all numbers are positive.
    Log,
}

/// An axis of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured.
    pub label: String,
    /// Its unit; empty for a bare number.
    pub unit: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Where to label it; empty to have round numbers chosen.
    pub ticks: Vec<f64>,
    /// First and last number shown; `None` to fit the data.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis that fits its data.
    pub fn linear(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Axis {
            label: label.into(),
            unit: unit.into(),
            scale: Scale::Linear,
            ticks: Vec::new(),
            range: None,
        }
    }

    /// A logarithmic axis that fits its data.
    pub fn log(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Axis {
            scale: Scale::Log,
            ..Self::linear(label, unit)
        }
    }

    /// Labels exactly these numbers.
    pub fn with_ticks(self, ticks: &[f64]) -> Self {
        Axis {
            ticks: ticks.to_vec(),
            ..self
        }
    }

    /// Shows exactly this range.
    pub fn with_range(self, low: f64, high: f64) -> Self {
        Axis {
            range: Some((low, high)),
            ..self
        }
    }

    pub(super) fn title(&self) -> String {
        if self.unit.is_empty() {
            self.label.clone()
        } else {
            format!("{} ({})", self.label, self.unit)
        }
    }

    /// The coordinate for data from `values`, which are finite.
    pub(super) fn fit(&self, figure: &str, values: &[f64]) -> Result<Coordinate> {
        let data = values.iter().chain(&self.ticks).copied();
        let (mut low, mut high) = match self.range {
            Some((low, high)) if low < high && low.is_finite() && high.is_finite() => (low, high),
            Some((low, high)) => {
                return Err(Error::figure(
                    figure,
                    format!("the range of `{}`, {low} to {high}, is empty", self.label),
                ));
            }
            None => data
                .clone()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v))),
        };
        if !(low.is_finite() && high.is_finite()) {
            return Err(Error::Empty {
                what: figure.to_owned(),
            });
        }
        if self.scale == Scale::Log && low.min(data.fold(high, f64::min)) <= 0.0 {
            return Err(Error::figure(
                figure,
                format!("`{}` is logarithmic but has numbers that are not positive", self.label),
            ));
        }
        if self.range.is_none() {
            (low, high) = match self.scale {
                Scale::Linear => {
                    let margin = if high > low {
                        (high - low) * 0.06
                    } else {
                        low.abs().max(1.0) * 0.05
                    };
                    (low - margin, high + margin)
                }
                Scale::Log => {
                    let margin = (high / low).powf(0.06).max(1.1);
                    (low / margin, high * margin)
                }
            };
        }
        // No margin shows percentages that cannot be.
        if self.range.is_none() && self.unit == "%" && values.iter().all(|value| (0.0..=100.0).contains(value)) {
            (low, high) = (low.max(0.0), high.min(100.4));
        }
        let ticks = match (self.ticks.is_empty(), self.scale) {
            (false, _) => self.ticks.clone(),
            (true, Scale::Linear) => ticks_between(low, high),
            (true, Scale::Log) => log_ticks_between(low, high),
        };
        Ok(Coordinate {
            scale: self.scale,
            low,
            high,
            ticks,
        })
    }
}

/// Up to about seven round numbers from `low` to `high`.
pub(crate) fn ticks_between(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 7.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= rough * 0.999)
        .unwrap_or(10.0);
    let step = factor * power;
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    // Dividing by a power of ten keeps 0.3 from becoming 0.30000000000000004.
    (first..=last)
        .map(|i| {
            if power < 1.0 {
                i as f64 * factor / (1.0 / power).round()
            } else {
                i as f64 * step
            }
        })
        .collect()
}

/// The labels of `ticks`, all with as many decimals as the one that needs most.
pub(crate) fn tick_labels(ticks: &[f64]) -> Vec<String> {
    ticks.iter().map(|tick| with_decimals(*tick, ticks)).collect()
}

fn with_decimals(value: f64, ticks: &[f64]) -> String {
    let decimals = |v: &f64| v.to_string().split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let places = ticks.iter().map(decimals).max().unwrap_or(0).min(6);
    format!("{value:.places$}")
}

/// Round numbers of every decade; where those would be fewer than three, equal steps.
fn log_ticks_between(low: f64, high: f64) -> Vec<f64> {
    let ticks = decade_ticks_between(low, high);
    if ticks.len() < 3 {
        ticks_between(low, high)
    } else {
        ticks
    }
}

/// 1, 2 and 5 times powers of ten; only the powers when there would be too many.
fn decade_ticks_between(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let factors: &[f64] = if decades.clone().count() > 4 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    decades
        .flat_map(|exponent| {
            factors.iter().map(move |f| {
                if exponent < 0 {
                    f / 10f64.powi(-exponent)
                } else {
                    f * 10f64.powi(exponent)
                }
            })
        })
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// An axis with its range and labels settled, as plotters wants it.
#[derive(Clone, Debug)]
pub(super) struct Coordinate {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Coordinate {
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    pub(super) fn high(&self) -> f64 {
        self.high
    }

    /// Where `value` lies between the ends of the axis, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }
}

impl Ranged for Coordinate {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let pixel = f64::from(limit.0) + self.share(*value) * f64::from(limit.1 - limit.0);
        pixel.round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Coordinate {
    fn format_ext(&self, value: &f64) -> String {
        // A log axis spans magnitudes, so each of its labels has as many decimals as it needs.
        match self.scale {
            Scale::Log => value.to_string(),
            Scale::Linear => with_decimals(*value, &self.ticks),
        }
    }
}
