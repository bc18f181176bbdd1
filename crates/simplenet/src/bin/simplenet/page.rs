//! A report as one HTML file that needs nothing else: tables, curves, every score, and pictures of what went wrong.

use std::fmt::Write;

use simplenet::{Detector, TestReport};
use simplenet_metrics::CurvePoint;

use crate::evaluate::{at_threshold, better, learnt_from, lines, percent, smallest, swapped};
use crate::thumbnails;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #d8dde3}td:first-child,th:first-child{text-align:left}\
figure{display:inline-block;vertical-align:top;width:302px;margin:1rem .8rem 0 0;overflow-wrap:anywhere}img{max-width:49%;margin-right:1%}figcaption{font-size:.85em;color:#57606a}text{font:11px system-ui,sans-serif;fill:#57606a}";

/// Images under a heading that are shown; the others are listed.
const MOST_PICTURES: usize = 48;
/// Side of a curve's plot, and width of the strips.
const SIDE: f64 = 260.0;
const WIDE: f64 = 860.0;
const MARGIN: f64 = 34.0;
/// Height of one strip of scores.
const STRIP: f64 = 26.0;

/// The page of a report.
pub(crate) fn html(title: &str, report: &TestReport, detector: &Detector) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escaped(title)
    );
    page += &table(report);
    page += "<h2>Scores</h2>";
    page += &strips(report);
    page += "<h2>Curves</h2>";
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
                "<figure>{}<figcaption>{caption}</figcaption></figure>",
                curve(points)
            );
        }
    }
    page += &wrong(report, detector);
    page + "</html>\n"
}

fn table(report: &TestReport) -> String {
    let mut table = String::from("<table><tr><th>defect<th>found<th>I-AUROC<th>P-AUROC<th>AUPRO</tr>");
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
    let _ = write!(
        table,
        "</table><p>{}. Percent; chance level of the AUROCs is 50.",
        escaped(&capitalised(&at_threshold(report)))
    );
    if let Some(smallest) = smallest(report) {
        let _ = write!(table, "<p>Images {}", escaped(&smallest));
    }
    for advice in [learnt_from(report), better(report), swapped(report)]
        .into_iter()
        .flatten()
    {
        let _ = write!(table, "<p>{}", escaped(&capitalised(&advice)));
    }
    table
}

/// One dot per image, a strip per kind, a line at the threshold.
fn strips(report: &TestReport) -> String {
    let mut kinds: Vec<&str> = report.images.iter().map(|image| image.defect.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let scores = report.images.iter().map(|image| f64::from(image.score));
    let threshold = f64::from(report.threshold);
    let low = scores.clone().fold(threshold, f64::min);
    let high = scores.fold(threshold, f64::max);
    let span = (high - low).max(f64::MIN_POSITIVE);
    let left = 170.0;
    let x = |score: f64| left + (score - low) / span * (WIDE - left - 10.0);
    let height = STRIP * kinds.len() as f64;
    let mut svg = format!("<svg width=\"{WIDE}\" height=\"{}\" role=\"img\">", height + 20.0);
    for (row, kind) in kinds.iter().enumerate() {
        let y = STRIP * (row as f64 + 0.5);
        let _ = write!(svg, "<text x=\"0\" y=\"{}\">{}</text>", y + 4.0, escaped(kind));
        for image in report.images.iter().filter(|image| image.defect == *kind) {
            let color = if image.anomalous { "#cf222e" } else { "#0969da" };
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{color}\" fill-opacity=\".5\"><title>{}: {:.4}</title></circle>",
                x(f64::from(image.score)),
                escaped(&image.file),
                image.score
            );
        }
    }
    let _ = write!(
        svg,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"#1b1f24\"/><text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">threshold {threshold:.2}</text></svg>",
        x(threshold),
        height + 14.0
    );
    svg
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

/// The images on the wrong side of the threshold, by kind, each kind from the highest score down; the first of each heading with
/// their pictures.
fn wrong(report: &TestReport, detector: &Detector) -> String {
    let mut text = String::new();
    for (title, anomalous) in [("Good parts rejected", false), ("Defects missed", true)] {
        let mut images: Vec<_> = (report.images.iter())
            .filter(|image| image.anomalous == anomalous && image.rejected != anomalous)
            .collect();
        images.sort_by(|a, b| a.defect.cmp(&b.defect).then(b.score.total_cmp(&a.score)));
        let _ = write!(text, "<h2>{title}: {}</h2>", images.len());
        let (shown, others) = images.split_at(images.len().min(MOST_PICTURES));
        let pictures = thumbnails::of(detector, shown.iter().map(|image| image.file.as_str()));
        for image in shown {
            text += "<figure>";
            for source in pictures.get(image.file.as_str()).into_iter().flatten() {
                let _ = write!(text, "<img src=\"{source}\" alt=\"\">");
            }
            let _ = write!(
                text,
                "<figcaption>{}: {}: {:.4}</figcaption></figure>",
                escaped(&image.defect),
                escaped(&image.file),
                image.score
            );
        }
        if !others.is_empty() {
            text += "<ul>";
            for image in others {
                let _ = write!(text, "<li>{}: {:.4}", escaped(&image.file), image.score);
            }
            text += "</ul>";
        }
    }
    for file in &report.unreadable {
        let _ = write!(text, "<p>Left out: {}: {}", escaped(&file.file), escaped(&file.error));
    }
    if let Some(reason) = &report.without_pixels {
        let _ = write!(text, "<p>No pixel metrics: {}", escaped(reason));
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
