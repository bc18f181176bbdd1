//! What is said of a file: a line of JSON, a row of a table.

use serde::Serialize;
use simplenet::detector::PixelBox;
use simplenet::{Error, Prediction, Region, Verdict};

use crate::options;
use crate::predict::Judged;

/// The first row of a table.
pub(crate) const CSV_HEADER: &str =
    "file,verdict,score,threshold,regions,too_small,x,y,width,height,area,error,absence,absent";

/// A line of output. Coordinates are pixels of the upright image.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    file: String,
    #[serde(flatten)]
    said: Said<'a>,
    /// Why a picture that was asked for is not there; the verdict stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    picture_error: Option<String>,
    ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Judged {
        verdict: Verdict,
        score: f32,
        threshold: f32,
        #[serde(skip_serializing_if = "Option::is_none")]
        absence: Option<f32>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        absent: bool,
        size: [usize; 2],
        inspected: PixelBox,
        regions: &'a [Region],
        #[serde(skip_serializing_if = "is_zero")]
        too_small: usize,
    },
    Failed {
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// Most detectors know no smallest defect; their lines do not speak of it.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What is absent is a rough measure, but what is below a limit should not look as if it were there.
fn thousandths(value: f32) -> f32 {
    (value * 1e3).floor() / 1e3
}

/// The line of a file.
pub(crate) fn line(file: String, judged: &Judged, picture_error: Option<String>) -> Line<'_> {
    let said = match &judged.prediction {
        Ok(prediction) => Said::Judged {
            verdict: prediction.verdict,
            score: prediction.score,
            threshold: prediction.threshold,
            absence: prediction.absence.map(thousandths),
            absent: prediction.is_absent,
            size: [prediction.map.geometry.width, prediction.map.geometry.height],
            inspected: prediction.map.geometry.inspected(),
            regions: &prediction.regions,
            too_small: prediction.too_small,
        },
        Err(error) => said_failed(&explained(error)),
    };
    Line {
        file,
        said,
        picture_error,
        ms: (judged.time.as_secs_f64() * 1e4).round() / 10.0,
    }
}

/// The line of a name behind which there was nothing to judge.
pub(crate) fn failed_line(file: String, error: &str) -> Line<'static> {
    Line {
        file,
        said: said_failed(error),
        picture_error: None,
        ms: 0.0,
    }
}

/// What went wrong, and what could help.
fn said_failed(text: &str) -> Said<'static> {
    let (error, hint) = match text.split_once("\n\nhint: ") {
        Some((error, hint)) => (error, Some(hint.to_string())),
        None => (text, None),
    };
    Said::Failed {
        error: error.to_string(),
        hint,
    }
}

fn explained(error: &Error) -> String {
    options::explain(error, "--tile")
}

/// The row of a file.
pub(crate) fn csv_row(file: &str, prediction: &Result<Prediction, Error>, picture_error: Option<&str>) -> String {
    let prediction = match prediction {
        Ok(prediction) => prediction,
        Err(error) => return failed_csv_row(file, &explained(error)),
    };
    let verdict = match prediction.verdict {
        Verdict::Good => "good",
        Verdict::Defect => "defect",
    };
    let region = prediction.regions.first().map_or(",,,,".to_string(), |region| {
        let PixelBox { x, y, width, height } = region.bounds;
        format!("{x},{y},{width},{height},{}", region.area)
    });
    format!(
        "{},{verdict},{},{},{},{},{region},{},{},{}",
        quoted(file),
        prediction.score,
        prediction.threshold,
        prediction.regions.len(),
        prediction.too_small,
        quoted(picture_error.unwrap_or_default()),
        prediction
            .absence
            .map_or(String::new(), |absence| thousandths(absence).to_string()),
        prediction
            .absence
            .map_or(String::new(), |_| prediction.is_absent.to_string()),
    )
}

/// The row of a name behind which there was nothing to judge.
pub(crate) fn failed_csv_row(file: &str, error: &str) -> String {
    format!("{},,,,,,,,,,,{},,", quoted(file), quoted(error))
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_string()
}

#[cfg(test)]
mod tests {
    use super::{CSV_HEADER, failed_csv_row};

    #[test]
    fn a_row_of_a_failure_has_as_many_fields() {
        let row = failed_csv_row("a.png", "no such file");
        assert_eq!(row.matches(',').count(), CSV_HEADER.matches(',').count());
    }
}
