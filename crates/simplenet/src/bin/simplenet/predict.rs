//! `simplenet predict`

use std::fmt::{self, Display, Formatter};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::Serialize;
use simplenet::{Detector, Error, Photo, Prediction, Rgb8, Source, Verdict, write_atomic};

use crate::arguments::Predict;
use crate::gallery::Gallery;
use crate::inputs::{self, Found, Input};
use crate::output::Output;
use crate::outputs::{Folders, JUDGED, Outputs};
use crate::progress::Progress;
use crate::sizes::OtherSizes;
use crate::{Outcome, message, picture, rows};

/// Images that are judged at once: enough work for every core, little memory.
pub(crate) const BATCH: usize = 8;

/// What came of one file.
pub(crate) struct Judged {
    pub(crate) prediction: Result<Prediction, Error>,
    /// `None` where it could not be read.
    pub(crate) photo: Option<Photo>,
    pub(crate) time: Duration,
}

/// Decodes and judges files. One that cannot be judged does not touch the others.
pub(crate) fn judge(detector: &Detector, paths: &[&Path]) -> Vec<Judged> {
    let photos: Vec<(Result<Photo, Error>, Duration)> = paths
        .par_iter()
        .map(|path| {
            let start = Instant::now();
            (Photo::open(&Source::File(path.to_path_buf())), start.elapsed())
        })
        .collect();
    let start = Instant::now();
    let readable = photos.iter().filter_map(|(photo, _)| photo.as_ref().ok());
    let readable: Vec<&Rgb8> = readable.map(|photo| &photo.pixels).collect();
    let mut predictions = detector.predict_each(&readable).into_iter();
    let share = start.elapsed() / u32::try_from(readable.len().max(1)).unwrap_or(u32::MAX);
    photos
        .into_iter()
        .map(|(photo, time)| match photo {
            Err(error) => Judged {
                prediction: Err(error),
                photo: None,
                time,
            },
            Ok(photo) => Judged {
                prediction: predictions
                    .next()
                    .unwrap_or(Err(Error::Internal("an image got no prediction"))),
                photo: Some(photo),
                time: time + share,
            },
        })
        .collect()
}

/// Writes the pictures of an image that are asked for. `None` if all are there, or else why one is not.
pub(crate) fn pictures(
    detector: &Detector,
    label: &Path,
    image: &Rgb8,
    prediction: &Prediction,
    folders: Folders,
) -> Option<String> {
    let calibration = &detector.card().calibration;
    let range = [calibration.typical_pixel, calibration.pixel_threshold];
    let [(_, heatmaps), (_, masks)] = folders;
    let heatmap = heatmaps.map(|folder| {
        let picture = picture::heatmap(image, &prediction.map, range)?;
        picture::write(&picture::path(folder, label), &picture)
    });
    let mask = masks.map(|folder| picture::write(&picture::path(folder, label), &picture::mask(&prediction.map)?));
    let errors = [heatmap, mask].into_iter().flatten().filter_map(Result::err);
    let errors: Vec<String> = errors.map(|error| without_hint(&message(&error))).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// A reason in one line, as a field of many lines is.
fn without_hint(message: &str) -> String {
    message.split("\n\nhint: ").next().unwrap_or_default().to_string()
}

/// What the lines say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) good: usize,
    pub(crate) defects: usize,
    /// Could not be judged.
    pub(crate) failed: usize,
}

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.good += 1,
            Verdict::Defect => self.defects += 1,
        }
    }

    fn all(self) -> usize {
        self.good + self.defects + self.failed
    }
}

impl Display for Counts {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        let Counts { good, defects, failed } = self;
        let defects_or_one = if *defects == 1 { "defect" } else { "defects" };
        write!(
            formatter,
            "{} pictures: {good} good, {defects} {defects_or_one}",
            self.all()
        )?;
        match failed {
            0 => Ok(()),
            _ => write!(formatter, ", {failed} could not be judged"),
        }
    }
}

/// Where the results go.
struct Sink<'a> {
    detector: &'a Detector,
    folders: Folders<'a>,
    output: &'a Output,
    exit_code: bool,
    outcome: Outcome,
    sizes: OtherSizes<'a>,
    /// The lines so far.
    counts: Counts,
    csv: Option<Vec<String>>,
    page: Option<Gallery<'a>>,
    /// What was said of all images together.
    remarks: Vec<String>,
}

pub(crate) fn run(arguments: Predict, output: &Output) -> Result<Outcome> {
    let stream = Path::new("-");
    let streamed = arguments.images == [stream];
    if !streamed && arguments.images.iter().any(|name| name == stream) {
        bail!("`-` reads every name from stdin\n\nhint: name files, or `-`, not both");
    }
    if streamed && arguments.page.is_some() {
        bail!("`--page` is a page of all images, and `-` answers each at once\n\nhint: name files or folders");
    }
    let detector = arguments.model.load()?;
    let folders = [
        ("--heatmaps", arguments.heatmaps.as_deref()),
        ("--masks", arguments.masks.as_deref()),
    ];
    let found = match streamed {
        true => Found::default(),
        false => inputs::images(&arguments.images),
    };
    let mut outputs = Outputs::default();
    outputs.keep(&arguments.model.path, "the detector");
    for input in &found.images {
        outputs.keep(&input.path, JUDGED);
    }
    for (option, path) in [("--csv", &arguments.csv), ("--page", &arguments.page)] {
        if let Some(path) = path {
            outputs.file(option, path)?;
        }
    }
    outputs.folders(folders)?;
    for input in &found.images {
        outputs.claim(folders, input)?;
    }
    let mut sink = Sink {
        detector: &detector,
        folders,
        output,
        exit_code: arguments.exit_code,
        outcome: Outcome::default(),
        sizes: OtherSizes::new(&detector),
        counts: Counts::default(),
        csv: arguments.csv.is_some().then(|| vec![rows::CSV_HEADER.into()]),
        page: arguments.page.is_some().then(|| Gallery::new(&detector)),
        remarks: Vec::new(),
    };
    if streamed {
        sink.stream(outputs)?;
    } else {
        sink.all(&found)?;
    }
    if let Some(text) = sink.sizes.text() {
        sink.remark(text);
    }
    match sink.counts.all() {
        0 => {
            output.say("warning: no picture was judged");
            sink.outcome.unjudged = true;
        }
        // One line needs no summary, and whoever streams has read them all.
        2.. if !streamed => output.say(&sink.counts.to_string()),
        _ => {}
    }
    if let (Some(path), Some(mut rows)) = (&arguments.csv, sink.csv) {
        rows.push(String::new());
        write_atomic(path, rows.join("\n").as_bytes())?;
    }
    if let (Some(path), Some(page)) = (&arguments.page, sink.page) {
        let html = page.html(&title(&arguments), sink.counts, &sink.remarks);
        write_atomic(path, html.as_bytes())?;
    }
    Ok(sink.outcome)
}

/// What a page is called.
fn title(arguments: &Predict) -> String {
    let more = match arguments.images.len() {
        0 | 1 => String::new(),
        more => format!(" and {} more", more - 1),
    };
    let first = arguments.images.first().map(|path| path.display().to_string());
    format!(
        "{} on {}{more}",
        arguments.model.path.display(),
        first.unwrap_or_default()
    )
}

impl Sink<'_> {
    /// Says something of all images together.
    fn remark(&mut self, text: String) {
        self.output.say(&text);
        self.remarks.push(without_hint(&text));
    }

    /// Judges what was found, names without images first.
    fn all(&mut self, found: &Found) -> Result<()> {
        let links = found.skipped.folders();
        let links = links.map(|links| format!("{links}\n\nhint: name the folder itself, as another input"));
        for passed_over in found.skipped.pictures("not judged").into_iter().chain(links) {
            self.remark(format!("warning: {passed_over}"));
            self.outcome.unjudged = true;
        }
        for (name, error) in &found.failed {
            self.fail(name, error)?;
        }
        let mut progress = Progress::new(self.output);
        for (batch, chunk) in found.images.chunks(BATCH).enumerate() {
            self.take(chunk)?;
            progress.at("images", batch * BATCH + chunk.len(), found.images.len());
        }
        progress.end();
        Ok(())
    }

    /// Judges names from stdin, a line each, as they come.
    fn stream(&mut self, mut outputs: Outputs) -> Result<()> {
        let writes = self.writes_files();
        for line in std::io::stdin().lock().split(b'\n') {
            let mut line = line.context("cannot read stdin")?;
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.is_empty() {
                continue;
            }
            let path = match name(line) {
                Ok(path) => path,
                Err(line) => {
                    let error = "its name is not UTF-8\n\nhint: rename the file";
                    self.fail(Path::new(&*String::from_utf8_lossy(&line)), error)?;
                    continue;
                }
            };
            let input = Input::streamed(path);
            if writes && let Err(error) = outputs.admit(self.folders, &input) {
                self.fail(&input.path, &message(&error))?;
            } else {
                self.take(&[input])?;
            }
        }
        Ok(())
    }

    fn take(&mut self, inputs: &[Input]) -> Result<()> {
        let paths: Vec<&Path> = inputs.iter().map(|input| input.path.as_path()).collect();
        for (input, judged) in inputs.iter().zip(judge(self.detector, &paths)) {
            let file = input.path.display().to_string();
            let mut picture_error = None;
            match (&judged.prediction, &judged.photo) {
                (Ok(prediction), Some(photo)) => {
                    picture_error = pictures(self.detector, &input.label, &photo.pixels, prediction, self.folders);
                    self.counts.add(prediction.verdict);
                    if let Some(page) = &mut self.page {
                        page.add(&file, &photo.pixels, prediction);
                    }
                    self.outcome.defects |= prediction.verdict == Verdict::Defect;
                    self.outcome.errors |= picture_error.is_some();
                    let geometry = &prediction.map.geometry;
                    self.sizes.add(&input.path, [geometry.width, geometry.height]);
                }
                _ => {
                    self.counts.failed += 1;
                    self.outcome.errors = true;
                    if let (Some(page), Err(error)) = (&mut self.page, &judged.prediction) {
                        page.fail(&file, &error.to_string());
                    }
                }
            }
            if let Some(csv) = &mut self.csv {
                csv.push(rows::csv_row(&file, &judged.prediction, picture_error.as_deref()));
            }
            self.line(&rows::line(file, &judged, picture_error))?;
        }
        Ok(())
    }

    /// A line on stdout, which may not be all that is wanted.
    fn line(&self, line: &impl Serialize) -> Result<()> {
        match self.exit_code || self.writes_files() {
            true => self.output.json_line_if_read(line),
            false => self.output.json_line(line),
        }
    }

    fn writes_files(&self) -> bool {
        self.csv.is_some() || self.page.is_some() || self.folders.iter().any(|(_, folder)| folder.is_some())
    }

    /// A name behind which there is nothing to judge.
    fn fail(&mut self, name: &Path, error: &str) -> Result<()> {
        let file = name.display().to_string();
        if let Some(csv) = &mut self.csv {
            csv.push(rows::failed_csv_row(&file, error));
        }
        if let Some(page) = &mut self.page {
            page.fail(&file, error);
        }
        self.counts.failed += 1;
        self.outcome.errors = true;
        self.line(&rows::failed_line(file, error))
    }
}

/// A path from its bytes: any of them name a file on Unix. Elsewhere the bytes come back if they are not UTF-8.
fn name(bytes: Vec<u8>) -> Result<PathBuf, Vec<u8>> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    String::from_utf8(bytes)
        .map(PathBuf::from)
        .map_err(std::string::FromUtf8Error::into_bytes)
}
