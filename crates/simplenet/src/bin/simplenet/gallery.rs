//! What was judged as one HTML file: how many of each verdict, then pictures from the highest score down.

use std::fmt::Write;

use simplenet::{Detector, Prediction, Rgb8, Verdict};

use crate::html::{escaped, figure, list, paragraph};
use crate::predict::Counts;
use crate::{html, thumbnails};

/// Images of a verdict that are shown; the others are listed.
const MOST_DEFECTS: usize = 48;
const MOST_GOOD: usize = 24;

/// Pictures for a page, no more than it shows, whatever is judged.
pub(crate) struct Gallery<'a> {
    detector: &'a Detector,
    defects: Shelf,
    good: Shelf,
    /// What could not be judged, and why.
    failed: Vec<String>,
}

/// Images of a verdict: the highest scores with pictures.
struct Shelf {
    most: usize,
    /// From the highest score down.
    shown: Vec<Shown>,
    others: Vec<Caption>,
}

struct Shown {
    caption: Caption,
    /// `None` where they could not be made.
    pictures: Option<[String; 2]>,
}

struct Caption {
    score: f32,
    text: String,
}

impl Gallery<'_> {
    pub(crate) fn new(detector: &Detector) -> Gallery<'_> {
        Gallery {
            detector,
            defects: Shelf::new(MOST_DEFECTS),
            good: Shelf::new(MOST_GOOD),
            failed: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, file: &str, image: &Rgb8, prediction: &Prediction) {
        let score = prediction.score;
        let too_small = match prediction.too_small {
            0 => String::new(),
            1 => " (1 region is too small)".to_string(),
            more => format!(" ({more} regions are too small)"),
        };
        let (shelf, verdict) = match prediction.verdict {
            Verdict::Defect => (&mut self.defects, "defect"),
            Verdict::Good => (&mut self.good, "good"),
        };
        // What no score would have rejected stands before all: it is the whole picture that is wrong.
        let alone = prediction.is_absent && score < prediction.threshold;
        let (score, absent) = match prediction.absence.filter(|_| alone) {
            Some(absence) => (f32::INFINITY, format!(" (absence {absence:.2})")),
            None => (score, String::new()),
        };
        let text = format!("{verdict}, {:.4}{too_small}{absent}: {file}", prediction.score);
        let detector = self.detector;
        shelf.add(Caption { score, text }, || {
            thumbnails::pair(detector, image, prediction).ok()
        });
    }

    /// One that could not be judged; a reason may have a hint behind it.
    pub(crate) fn fail(&mut self, file: &str, error: &str) {
        let reason = error.lines().next().unwrap_or_default();
        // Most reasons name it.
        self.failed.push(match reason.contains(file) {
            true => reason.to_string(),
            false => format!("{file}: {reason}"),
        });
    }

    /// The page; `remarks` are what was said of the images together.
    pub(crate) fn html(&self, title: &str, counts: Counts, remarks: &[String]) -> String {
        let mut page = table(counts);
        page += &paragraph(&format!(
            "from a score of {:.4} on{} an image is a defect. Beside each image is its anomaly map: marked pixels are crimson to violet, \
             white lines go around the regions that were found.",
            self.detector.threshold(),
            match self.detector.card().calibration.absence.and_then(|card| card.limit) {
                Some(limit) => format!(", or where it lacks what good ones show (an absence of {limit:.2} and more),"),
                None => String::new(),
            }
        ));
        page.extend(remarks.iter().map(|remark| paragraph(remark)));
        let _ = write!(page, "<h2>Defects: {}</h2>{}", counts.defects, self.defects.html());
        let _ = write!(page, "<h2>Good: {}</h2>{}", counts.good, self.good.html());
        if !self.failed.is_empty() {
            let _ = write!(page, "<h2>Could not be judged: {}</h2>", counts.failed);
            page += &list(&self.failed);
        }
        html::page(title, &page)
    }
}

impl Shelf {
    fn new(most: usize) -> Shelf {
        Shelf {
            most,
            shown: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Makes pictures only where the image is to be shown as yet.
    fn add(&mut self, caption: Caption, pictures: impl FnOnce() -> Option<[String; 2]>) {
        let place = self.shown.partition_point(|shown| shown.caption.score >= caption.score);
        if place == self.most {
            return self.others.push(caption);
        }
        let pictures = pictures();
        self.shown.insert(place, Shown { caption, pictures });
        if self.shown.len() > self.most {
            self.others.extend(self.shown.pop().map(|shown| shown.caption));
        }
    }

    fn html(&self) -> String {
        let figures = self.shown.iter();
        let figures: String = figures
            .map(|shown| figure(shown.pictures.as_ref(), &shown.caption.text))
            .collect();
        let mut others: Vec<&Caption> = self.others.iter().collect();
        others.sort_by(|a, b| b.score.total_cmp(&a.score));
        figures + &list(others.into_iter().map(|caption| &caption.text))
    }
}

fn table(counts: Counts) -> String {
    let rows = [
        ("good", counts.good),
        ("defects", counts.defects),
        ("could not be judged", counts.failed),
    ];
    let rows = rows.map(|(what, count)| format!("<tr><td>{}<td>{count}</tr>", escaped(what)));
    format!("<table><tr><th>verdict<th>images</tr>{}</table>", rows.concat())
}
