//! What a training found out about the good parts as one HTML file: its remarks, every held-out score, and pictures of the parts that look
//! least like the others.

use std::fmt::Write;

use simplenet::{Detector, open_upright};

use crate::html::{escaped, figure, paragraph};
use crate::strips::{Dot, strips};
use crate::{html, thumbnails};

/// What the pictures are and what to do about them.
const LEGEND: &str = "each beside its anomaly map, by a model that had not learnt from it and its neighbours: what is coloured is what new good \
                      parts will be found odd for. A part that is none should be moved elsewhere; where a part is good and odd, pictures of \
                      more such parts bring the threshold down.";

/// The page of a training; `remarks` are what was said of it.
pub(crate) fn html(title: &str, summary: &str, remarks: &[String], detector: &Detector) -> String {
    let mut page = format!("<pre class=\"wide\">{}</pre>", escaped(summary));
    page.extend(remarks.iter().map(|remark| paragraph(remark)));
    let card = detector.card();
    let is_suspect = |file: &str| card.hygiene.suspects.iter().any(|suspect| suspect.file == file);
    let dots = card.calibration.held_out.iter().map(|image| Dot {
        strip: "good parts",
        score: image.score,
        is_odd: is_suspect(&image.file),
        file: &image.file,
    });
    let _ = write!(
        page,
        "<h2>Held-out scores</h2><div class=\"wide\">{}</div>",
        strips(dots.collect(), detector.threshold())
    );
    let highest = detector.highest_held_out();
    let _ = write!(page, "<h2>The {} highest</h2>{}", highest.len(), paragraph(LEGEND));
    for (source, prediction) in highest {
        // One that has gone since has no picture.
        let image = open_upright(source.path());
        let pictures = image.map(|image| thumbnails::pair(detector, &image, prediction).ok());
        let caption = format!("{:.4}: {source}", prediction.score);
        page += &figure(pictures.ok().flatten().as_ref(), &caption);
    }
    html::page(title, &page)
}
