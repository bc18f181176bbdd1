//! A report as one HTML file that needs nothing else: tables, curves, every score, and pictures of what went wrong
//! or almost did.

use std::collections::BTreeMap;
use std::fmt::Write;

use simplenet::detector::evaluation::TestImage;
use simplenet::{Detector, TestReport};
use simplenet_data::Sample;
use simplenet_metrics::CurvePoint;

use crate::evaluate::{absent, at_threshold, better, learnt_from, lines, percent, smallest, swapped};
use crate::html::{escaped, figure, list, paragraph};
use crate::strips::{Dot, strips};
use crate::threshold::score_or_absent;
use crate::{html, thumbnails};

/// Images under a heading that are shown; the others are listed.
const MOST_PICTURES: usize = 48;
/// Defects that were found are shown where the threshold is nearest: where they lie on the defects there, they do elsewhere.
const MOST_FOUND: usize = 12;
/// What is drawn into the pictures.
const LEGEND: &str = "beside each image is its anomaly map: marked pixels are crimson to violet, white lines go around the regions that \
                      were found. Where it says absent, the image lacks what good ones show, and all of it is the region. Blue lines go around the defect, where there is a mask of it.";
/// Side of a curve's plot.
const SIDE: f64 = 260.0;
const MARGIN: f64 = 34.0;

/// The page of a report.
pub(crate) fn html(title: &str, report: &TestReport, detector: &Detector, test: &[Sample]) -> String {
    let mut page = table(report);
    let _ = write!(
        page,
        "<h2>Scores</h2><div class=\"wide\">{}</div><h2>Curves</h2>",
        dots(report)
    );
    let curves = &report.curves;
    let plots = [
        (
            Some(&curves.roc),
            "ROC over images: false rejects across, defects found up",
        ),
        (
            Some(&curves.precision_recall),
            "precision (up) and recall (across) over images",
        ),
        (
            curves.pro.as_ref(),
            "share of each defect's pixels found, over false-positive pixels",
        ),
    ];
    for (points, caption) in plots {
        if let Some(points) = points {
            let _ = write!(
                page,
                "<figure class=\"plot\">{}<figcaption>{caption}</figcaption></figure>",
                curve(points)
            );
        }
    }
    page += &paragraph(LEGEND);
    page += &examples(report, detector, test);
    html::page(title, &page)
}

fn table(report: &TestReport) -> String {
    let mut table =
        String::from("<div class=\"wide\"><table><tr><th>defect<th>found<th>I-AUROC<th>P-AUROC<th>AUPRO</tr>");
    for line in lines(report) {
        let _ = write!(
            table,
            "<tr><td>{}<td>{}/{}<td>{}<td>{}<td>{}</tr>",
            escaped(line.name),
            line.found,
            line.images,
            percent(Some(line.image_auroc)),
            percent(line.pixel_auroc),
            percent(line.aupro)
        );
    }
    table += "</table></div>";
    table += &paragraph(&format!(
        "{}. Percent; chance level of the AUROCs is 50.",
        at_threshold(report)
    ));
    if let Some(smallest) = smallest(report) {
        table += &paragraph(&format!("images {smallest}"));
    }
    if let Some(absent) = absent(report) {
        table += &paragraph(&format!("images {absent}"));
    }
    for advice in [learnt_from(report), better(report), swapped(report)]
        .into_iter()
        .flatten()
    {
        table += &paragraph(&advice);
    }
    table
}

/// One dot per image, a strip per kind.
fn dots(report: &TestReport) -> String {
    let dots = report.images.iter().map(|image| Dot {
        strip: &image.defect,
        score: image.score,
        is_odd: image.anomalous,
        file: &image.file,
    });
    strips(dots.collect(), report.threshold)
}

fn curve(points: &[CurvePoint]) -> String {
    let (x, y) = (|x: f64| MARGIN + x * SIDE, |y: f64| 8.0 + (1.0 - y) * SIDE);
    let mut line = String::new();
    for point in points {
        let _ = write!(line, "{:.1},{:.1} ", x(point.x), y(point.y));
    }
    let mut svg = format!(
        "<svg width=\"{}\" height=\"{}\" role=\"img\"><rect x=\"{MARGIN}\" y=\"8\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#d8dde3\"/>",
        MARGIN + SIDE + 8.0,
        SIDE + 30.0
    );
    for tick in [0.0, 0.5, 1.0] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            x(tick),
            SIDE + 24.0,
            MARGIN - 6.0,
            y(tick) + 4.0
        );
    }
    svg + &format!("<polyline points=\"{line}\" fill=\"none\" stroke=\"#0969da\" stroke-width=\"2\"/></svg>")
}

/// The images on the wrong side of the threshold, by kind, each kind from the highest score down, then those that were only just
/// found; the first of each heading with their pictures.
fn examples(report: &TestReport, detector: &Detector, test: &[Sample]) -> String {
    let of = |anomalous: bool, rejected: bool| {
        let images = report.images.iter();
        let mut images: Vec<&TestImage> = images
            .filter(|image| image.anomalous == anomalous && image.rejected == rejected)
            .collect();
        images.sort_by(|a, b| a.defect.cmp(&b.defect).then(b.score.total_cmp(&a.score)));
        images
    };
    let files = test.iter().map(|sample| (sample.source.to_string(), sample));
    let samples: BTreeMap<String, &Sample> = files.collect();
    let pictures = |image: &&TestImage| {
        // Whoever judged them has said why one cannot be read; here it has no picture.
        let pictures = (samples.get(&image.file)).and_then(|sample| thumbnails::labelled(detector, sample).ok());
        figure(pictures.as_ref(), &caption(image))
    };
    let mut text = String::new();
    for (title, images) in [
        ("Good parts rejected", of(false, true)),
        ("Defects missed", of(true, false)),
    ] {
        let _ = write!(text, "<h2>{title}: {}</h2>", images.len());
        let (shown, others) = images.split_at(images.len().min(MOST_PICTURES));
        text.extend(shown.iter().map(pictures));
        text += &list(others.iter().map(|image| caption(image)));
    }
    let mut found = of(true, true);
    let _ = write!(text, "<h2>Defects found: {}</h2>", found.len());
    if found.len() > MOST_FOUND {
        text += &paragraph(&format!("the {MOST_FOUND} with the lowest scores:"));
    }
    let key = |image: &TestImage| score_or_absent(image.score, image.is_absent);
    found.sort_by(|a, b| key(a).total_cmp(&key(b)));
    found.truncate(MOST_FOUND);
    text.extend(found.iter().map(pictures));
    for file in &report.unreadable {
        text += &paragraph(&format!("left out: {}: {}", file.file, file.error));
    }
    if let Some(reason) = &report.without_pixels {
        text += &paragraph(&format!("no pixel metrics: {reason}"));
    }
    text
}

fn caption(image: &TestImage) -> String {
    let absent = if image.is_absent { " (absent)" } else { "" };
    format!("{}, {:.4}{absent}: {}", image.defect, image.score, image.file)
}
