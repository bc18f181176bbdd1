//! Runs the cells of a plan: one feature bank at a time, every cell that trains on it, one append per cell.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use simplenet::config::{Config, FeatureScale, Features, Sizes};
use simplenet::device::{Device, FeatureBank};
use simplenet::{BankMemory, Evaluation, Method, Model, Pipeline, Scores, Truth};
use simplenet_backbone::{Backbone, Precision};
use simplenet_data::{Dataset, Sample, Source};
use simplenet_heads::{Head, Standardizer};
use simplenet_metrics::image_metrics;
use simplenet_report::{Measurement, Row, Selection, measurements, results};

use crate::experiment::Show;
use crate::kept;
use crate::plan::Cell;
use crate::progress::Progress;
use crate::record::{self, Recorded};
use crate::sheets::{self, Shown};
use crate::workspace;

/// Set by Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Ctrl-C was pressed: not a failure of the cell.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub(crate) struct Stopped;

/// What all cells of a run share.
pub(crate) struct Run<'a> {
    /// The CSV.
    pub(crate) results: PathBuf,
    /// The CSV of curves and lists.
    pub(crate) measurements: PathBuf,
    /// Folder of the sheets.
    pub(crate) sheets: PathBuf,
    /// Folder of what the image browser shows.
    pub(crate) gallery: PathBuf,
    /// Folder of scores and maps, where they are to be kept.
    pub(crate) kept: Option<PathBuf>,
    /// What is recorded beside the metrics.
    pub(crate) show: &'a Show,
    /// Whether a defect without a mask is missing one.
    pub(crate) expects_masks: bool,
    pub(crate) device: Device,
    pub(crate) threads: usize,
    pub(crate) commit: String,
    pub(crate) memory: BankMemory,
    /// The test bank that was built last: ten classes of CIFAR-10 share one.
    pub(crate) test_bank: RefCell<Option<TestBank>>,
}

/// Features of test images, and what they are features of.
pub(crate) struct TestBank {
    sizes: Sizes,
    features: Features,
    images: Vec<Source>,
    bank: Rc<FeatureBank>,
    extract: Duration,
}

/// The features of one category under one configuration, with what is known about the test images.
struct Banks {
    pipeline: Pipeline,
    train: FeatureBank,
    test: Rc<FeatureBank>,
    truth: Truth,
    extract: Duration,
    extract_test: Duration,
    standardizer: Standardizer,
}

/// A method fitted to a training bank, and what it scored.
struct Fitted {
    model: Model,
    judged: Selections,
    time: Duration,
    recorded: Vec<Recorded>,
}

/// The state after some epoch, and what it scored.
#[derive(Clone)]
struct Judged {
    /// None where the method has no epochs.
    epoch: Option<usize>,
    evaluation: Evaluation,
    scores: Scores,
    /// How long scoring took.
    scoring: Duration,
}

/// The two states that become rows.
#[derive(Default)]
struct Selections {
    best: Option<Judged>,
    last: Option<Judged>,
}

impl Selections {
    /// Judges scores of the test bank, which took `scoring`, and returns the image AUROC. The pixel metrics, which cost more
    /// than the scores, are computed only where they decide: at the end and where the image AUROC is at least the best one.
    fn judge(
        &mut self,
        epoch: Option<usize>,
        is_last: bool,
        (scores, scoring): (Scores, Duration),
        config: &Config,
        banks: &Banks,
    ) -> Result<f64> {
        let image = image_metrics(&scores.images, &banks.truth.anomalous)?;
        let highest = self.best.as_ref().map(|best| best.evaluation.image.auroc);
        if !is_last && highest.is_some_and(|highest| image.auroc < highest) {
            return Ok(image.auroc);
        }
        let judged = Judged {
            epoch,
            evaluation: Evaluation::of(&scores, &banks.truth, config)?,
            scores,
            scoring,
        };
        let is_best = self
            .best
            .as_ref()
            .is_none_or(|best| judged.evaluation.beats(&best.evaluation));
        if is_last {
            self.last = Some(judged.clone());
        }
        if is_best {
            self.best = Some(judged);
        }
        Ok(image.auroc)
    }
}

impl Run<'_> {
    /// Runs `cells`, which all share one bank. A cell that fails is a row with the reason, and the others go on; the
    /// reasons come back. Only [`Stopped`] and a results file that cannot be written end the run.
    pub(crate) fn group(
        &self,
        cells: &[&Cell],
        dataset: &dyn Fn(&str) -> Result<Dataset>,
        backbone: &dyn Fn(&Config) -> Result<Backbone>,
        progress: &mut Progress,
    ) -> Result<Vec<anyhow::Error>> {
        let Some(first) = cells.first() else {
            return Ok(Vec::new());
        };
        // Another process may have the same plan.
        let mut cells = cells.to_vec();
        self.drop_done(&mut cells, progress)?;
        if cells.is_empty() {
            return Ok(Vec::new());
        }
        let dataset = dataset(&first.category);
        let banks = dataset.and_then(|dataset| {
            let banks = self.extract(first, &dataset, &backbone(&first.config)?, progress)?;
            Ok((dataset, banks))
        });
        let (dataset, banks) = match banks {
            Ok(both) => both,
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) => {
                for cell in &cells {
                    self.record_failure(cell, &error)?;
                    progress.finished(&format!("{}    failed", cell.label()));
                }
                return Ok(vec![error.context(format!("category `{}`", first.category))]);
            }
        };
        let mut failures = Vec::new();
        while !cells.is_empty() {
            let cell = cells.remove(0);
            match self.cell(cell, &dataset, &banks, progress) {
                Ok(line) => progress.finished(&line),
                Err(error) if error.is::<Stopped>() => return Err(error),
                Err(error) => {
                    self.record_failure(cell, &error)?;
                    progress.finished(&format!("{}    failed", cell.label()));
                    failures.push(error.context(cell.label()));
                }
            }
            self.drop_done(&mut cells, progress)?;
        }
        Ok(failures)
    }

    fn extract(&self, cell: &Cell, dataset: &Dataset, backbone: &Backbone, progress: &Progress) -> Result<Banks> {
        let pipeline = Pipeline::on(&self.device, &cell.config, backbone)?;
        let missing = dataset.missing_masks();
        if missing > 0 && self.expects_masks {
            let lacks = |sample: &&Sample| sample.anomalous && sample.mask.is_none();
            let first = dataset.test.iter().find(lacks).map(|sample| sample.source.path());
            progress.say(&format!(
                "warning: {missing} of the defective test images of `{}` have no mask, such as {}: its pixel metrics stay empty",
                dataset.category,
                first.unwrap_or(Path::new("")).display()
            ));
        }
        if dataset.test.is_empty() {
            bail!(
                "`{}` has no test images, so nothing can be measured on it",
                dataset.category
            );
        }
        // First, because it is cheap and a wrong mask is better known before the long work.
        let truth = Truth::load(&dataset.test, pipeline.preprocess(), &cell.config.evaluate)?;
        progress.phase(
            &format!("{} features", dataset.category),
            dataset.train.len() + dataset.test.len(),
        );
        let after = |done: usize| -> Result<()> {
            progress.at(done);
            check_stop()
        };
        let (train, train_time) = pipeline.feature_bank(&dataset.train, &self.memory, after)?;
        let (test, extract_test) =
            self.test_bank(cell, dataset, &pipeline, |done| after(dataset.train.len() + done))?;
        let standardizer = train.standardizer()?;
        let extract = train_time + extract_test;
        Ok(Banks {
            pipeline,
            train,
            test,
            truth,
            extract,
            extract_test,
            standardizer,
        })
    }

    /// The features of the test images, those of the bank before where they are the same.
    fn test_bank(
        &self,
        cell: &Cell,
        dataset: &Dataset,
        pipeline: &Pipeline,
        after: impl FnMut(usize) -> Result<()>,
    ) -> Result<(Rc<FeatureBank>, Duration)> {
        let images: Vec<Source> = dataset.test.iter().map(|sample| sample.source.clone()).collect();
        let mut kept = self.test_bank.borrow_mut();
        let (sizes, features) = (cell.config.preprocess, &cell.config.features);
        if let Some(same) = kept
            .as_ref()
            .filter(|kept| kept.sizes == sizes && kept.features == *features && kept.images == images)
        {
            return Ok((Rc::clone(&same.bank), same.extract));
        }
        // Before the next one is built, so that two never lie in memory.
        *kept = None;
        let (bank, extract) = pipeline.feature_bank(&dataset.test, &self.memory, after)?;
        let bank = Rc::new(bank);
        *kept = Some(TestBank {
            sizes,
            features: features.clone(),
            images,
            bank: Rc::clone(&bank),
            extract,
        });
        Ok((bank, extract))
    }

    /// SimpleNet, with evaluations on the way.
    fn train(&self, cell: &Cell, banks: &Banks, progress: &Progress) -> Result<Fitted> {
        let config = &cell.config;
        let mut head = Head::new(config.head_config(banks.pipeline.dim()), cell.seed)?;
        if config.scale == FeatureScale::Standardised {
            head.set_standardizer(banks.standardizer.clone())?;
        }
        progress.phase(&format!("{} training", cell.category), config.train.epochs);
        let mut recorded: Vec<Recorded> = Vec::new();
        let mut judged = Selections::default();
        let mut judging = Duration::ZERO;
        let start = Instant::now();
        banks.train.train(
            &mut head,
            &config.train,
            cell.seed,
            |report, head| -> Result<ControlFlow<()>> {
                progress.at(report.epoch);
                check_stop()?;
                let is_last = report.epoch == config.train.epochs;
                if *self.show == Show::Convergence {
                    recorded.push(Recorded::new("loss", report.epoch, report.loss));
                }
                if is_last || report.epoch.is_multiple_of(config.evaluate.every) {
                    let start = Instant::now();
                    let scores = head.score(&banks.test, banks.pipeline.grid(), banks.pipeline.precision())?;
                    let scored = (scores, start.elapsed());
                    let auroc = judged.judge(Some(report.epoch), is_last, scored, config, banks)?;
                    if *self.show == Show::Convergence {
                        recorded.push(Recorded::new("image_auroc", report.epoch, auroc));
                    }
                    judging += start.elapsed();
                }
                Ok(ControlFlow::Continue(()))
            },
        )?;
        let time = start.elapsed() - judging;
        Ok(Fitted {
            model: Model::of_head(head, config.features.precision)?,
            judged,
            time,
            recorded,
        })
    }

    /// A method without epochs: there is one state, so it is `last` and `best`.
    fn fit(&self, cell: &Cell, banks: &Banks, progress: &Progress) -> Result<Fitted> {
        progress.phase(&format!("{} fitting", cell.category), 1);
        let (train, test) = (banks.train.host(&self.memory)?, banks.test.host(&self.memory)?);
        let start = Instant::now();
        let model = Model::fit(&train, &cell.config, cell.seed, |_, _| {
            Ok::<_, anyhow::Error>(ControlFlow::Continue(()))
        })?;
        let time = start.elapsed();
        check_stop()?;
        let mut judged = Selections::default();
        let start = Instant::now();
        let scored = (Scores::by(&model, &test, banks.pipeline.grid())?, start.elapsed());
        judged.judge(None, true, scored, &cell.config, banks)?;
        Ok(Fitted {
            model,
            judged,
            time,
            recorded: Vec::new(),
        })
    }

    fn cell(&self, cell: &Cell, dataset: &Dataset, banks: &Banks, progress: &Progress) -> Result<String> {
        let config = &cell.config;
        workspace::forget_peak_memory();
        let Fitted {
            model,
            judged,
            time: train_time,
            mut recorded,
        } = match config.method {
            Method::SimpleNet => self.train(cell, banks, progress)?,
            Method::PatchCore(_) | Method::Padim(_) => self.fit(cell, banks, progress)?,
        };
        let peak = workspace::peak_memory();
        let last = judged
            .last
            .ok_or_else(|| anyhow!("training ended before its last epoch"))?;
        let mapping = Instant::now();
        let maps = last.scores.maps(banks.truth.side, config.evaluate.blur_sigma)?;
        let judged_in = banks.extract_test + last.scoring + mapping.elapsed();
        let per_image = judged_in.as_secs_f64() * 1e3 / dataset.test.len() as f64;
        let best = judged.best.as_ref().unwrap_or(&last);

        match (self.show, &model) {
            (Show::Deviations, Model::SimpleNet(network)) => {
                recorded.extend(record::deviations(&network.head, &banks.train)?);
            }
            (Show::Speed { warmup, images }, _) => {
                recorded.extend(record::latencies(
                    &banks.pipeline,
                    &model,
                    dataset,
                    config,
                    *warmup,
                    *images,
                )?);
            }
            _ => {}
        }
        if matches!(self.show, Show::Speed { .. } | Show::Categories { .. }) {
            recorded.push(Recorded::new("model_bytes", 0, record::model_bytes(&model) as f64));
            recorded.extend(peak.map(|bytes| Recorded::new("peak_bytes", 0, bytes as f64)));
        }
        let row = |selection, judged: &Judged| {
            let pixel = judged.evaluation.pixel;
            Row {
                epoch: judged.epoch.and_then(|epoch| u32::try_from(epoch).ok()),
                image_auroc: Some(judged.evaluation.image.auroc),
                pixel_auroc: pixel.map(|pixel| pixel.auroc),
                aupro: pixel.map(|pixel| pixel.aupro),
                image_f1_max: Some(judged.evaluation.image.f1_max),
                pixel_ap: pixel.map(|pixel| pixel.average_precision),
                extract_seconds: Some(banks.extract.as_secs_f64()),
                train_seconds: Some(train_time.as_secs_f64()),
                ms_per_image: Some(per_image),
                ..self.row(cell, selection)
            }
        };
        let rows = [row(Selection::Last, &last), row(Selection::Best, best)];
        let shown = Shown {
            dataset,
            preprocess: banks.pipeline.preprocess(),
            truth: &banks.truth,
            scores: &last.scores,
            maps: &maps,
            evaluation: &last.evaluation,
        };
        let qualitative = *self.show == Show::Qualitative;
        if qualitative || matches!(self.show, Show::Categories { .. }) {
            let ranking = if qualitative {
                sheets::Ranking::Overlap
            } else {
                sheets::Ranking::Score
            };
            // A training is worth more than its pictures, but where they are the result.
            let sheet = sheets::write(&self.sheets, &rows[0], ranking, &shown);
            let gallery = || sheets::write_gallery(&self.gallery, &rows[0], &shown);
            if let Err(error) = sheet.and_then(|()| gallery()) {
                if qualitative {
                    return Err(error);
                }
                progress.say(&format!("{}    its pictures are missing: {error:#}", cell.label()));
            }
        }
        if !recorded.is_empty() {
            let owned: Vec<Measurement> = recorded.into_iter().map(|recorded| recorded.of(&rows[0])).collect();
            measurements::replace(&self.measurements, &owned)?;
        }
        // Last: a cell with rows is done.
        match results::replace_failed(&self.results, &rows) {
            Err(simplenet_report::Error::Duplicate { .. }) => {
                return Ok(format!("{}    done by another process meanwhile", cell.label()));
            }
            recorded => recorded?,
        }
        if let Some(folder) = &self.kept
            && let Err(error) = kept::write(folder, &rows[0], &shown)
        {
            progress.say(&format!(
                "{}    its scores and maps are not kept: {error:#}",
                cell.label()
            ));
        }
        let percent = |judged: &Judged| match judged.evaluation.pixel {
            Some(pixel) => format!(
                "{:.1} / {:.1}",
                judged.evaluation.image.auroc * 100.0,
                pixel.auroc * 100.0
            ),
            None => format!("{:.1} / –", judged.evaluation.image.auroc * 100.0),
        };
        let numbers = match best.epoch {
            Some(epoch) => format!("{} last, {} best (epoch {epoch})", percent(&last), percent(best)),
            None => percent(&last),
        };
        Ok(format!(
            "{}    I-AUROC / P-AUROC {numbers}    {:.0} s",
            cell.label(),
            (banks.extract + train_time).as_secs_f64()
        ))
    }

    /// Leaves out what another process has finished meanwhile.
    fn drop_done(&self, cells: &mut Vec<&Cell>, progress: &mut Progress) -> Result<()> {
        let rows = results::read_or_empty(&self.results)?;
        cells.retain(|cell| {
            let is_done = cell.is_done(&rows);
            if is_done {
                progress.finished(&format!("{}    done by another process", cell.label()));
            }
            !is_done
        });
        Ok(())
    }

    fn record_failure(&self, cell: &Cell, error: &anyhow::Error) -> Result<()> {
        let text = format!("{error:#}");
        let reason = text.lines().next().unwrap_or("failed").to_string();
        let row = Row {
            error: Some(reason),
            ..self.row(cell, Selection::Last)
        };
        match results::replace_failed(&self.results, &[row]) {
            // Another process has finished it meanwhile.
            Err(simplenet_report::Error::Duplicate { .. }) => Ok(()),
            recorded => recorded.context("failed to record a failed cell"),
        }
    }

    /// Where a row's times were taken, and in which arithmetic.
    fn device_name(&self, config: &Config) -> String {
        let host = format!("{} ({})", Device::Cpu.name(), workspace::processor());
        let arithmetic = arithmetic(config);
        match (&self.device, config.method) {
            (Device::Cpu, _) => format!("{host}{arithmetic}"),
            #[cfg(feature = "cuda")]
            (device, Method::PatchCore(_) | Method::Padim(_)) => {
                format!("features on {}{arithmetic}, the rest on {host}", device.name())
            }
            #[cfg(feature = "cuda")]
            (device, Method::SimpleNet) => format!("{}{arithmetic}", device.name()),
        }
    }

    fn row(&self, cell: &Cell, selection: Selection) -> Row {
        Row {
            experiment: cell.experiment.clone(),
            variant: cell.variant.clone(),
            protocol: cell.protocol.name().into(),
            dataset: cell.dataset.clone(),
            category: cell.category.clone(),
            backbone: cell.config.features.backbone.name().into(),
            seed: cell.seed,
            selection,
            device: self.device_name(&cell.config),
            threads: u32::try_from(self.threads).unwrap_or(u32::MAX),
            commit: self.commit.clone(),
            config_sha256: cell.config_sha256.clone(),
            ..Row::default()
        }
    }
}

/// What a row adds to its device where not everything is f32.
fn arithmetic(config: &Config) -> &'static str {
    match (config.features.precision, config.train.precision) {
        (Precision::F32, Precision::F32) => "",
        (Precision::Bf16, Precision::Bf16) => " in bf16",
        (Precision::Bf16, Precision::F32) => " in bf16, trained in f32",
        (Precision::F32, Precision::Bf16) => " trained in bf16",
    }
}

fn check_stop() -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        return Err(Stopped.into());
    }
    Ok(())
}
