//! `cargo xtask compare`: where two runs, or a run and the paper, differ most.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use simplenet_report::{Align, Column, Line, Metric, Published, Row, Selection, Table, average};

use crate::exhibits::{departures, newest};
use crate::experiment::{Experiment, Library, Named, Show};
use crate::folder::RunFolder;
use crate::{report, source, workspace};

const METRICS: [Metric; 5] = [
    Metric::ImageAuroc,
    Metric::PixelAuroc,
    Metric::Aupro,
    Metric::ImageF1Max,
    Metric::PixelAp,
];
/// Column of docs/paper that has the paper's own numbers.
const OURS: &str = "SimpleNet";
/// Categories of MVTec AD: an average over fewer is not the paper's.
const CATEGORIES: usize = 15;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A folder under results/
    run: String,
    /// Another one, or `paper`
    #[arg(default_value = "paper")]
    other: String,
    /// Print only so many lines
    #[arg(long, value_name = "N", default_value_t = 40)]
    top: usize,
}

/// What a number is of.
type Name = (String, &'static str);
/// Category, seed and percent.
type Numbers = BTreeMap<Name, Vec<(String, u64, f64)>>;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let experiments = Library::open(&root.join("xtask/experiments"))?.all()?;
    let folder = report::find_run(&root, &arguments.run)?;
    let is_paper = arguments.other == "paper";
    let mut skipped = Vec::new();
    let (left, right) = if is_paper {
        of_paper(&root, &folder, &experiments, &mut skipped)?
    } else {
        let other = report::find_run(&root, &arguments.other)?;
        let (mine, theirs) = (shown(&folder, &experiments)?, shown(&other, &experiments)?);
        skipped.extend(unlike((&folder, &mine), (&other, &theirs)));
        (numbers(&mine), numbers(&theirs))
    };
    let mut differences: Vec<(f64, &Name, f64, f64)> = Vec::new();
    for (name, values) in &left {
        if let Some(others) = right.get(name) {
            let mean = |values: &[(String, u64, f64)]| {
                let values = values
                    .iter()
                    .map(|(category, seed, value)| (category.as_str(), *seed, *value));
                average(values).map(|average| average.mean)
            };
            if let (Some(mine), Some(theirs)) = (mean(values), mean(others)) {
                differences.push((mine - theirs, name, mine, theirs));
            }
        }
    }
    if differences.is_empty() {
        let hint = match is_paper {
            true => no_paper(&skipped),
            false => "they have no experiment, variant, protocol and category in common".into(),
        };
        bail!(
            "nothing of `{}` can be compared with `{}`\n\nhint: {hint}",
            arguments.run,
            arguments.other
        );
    }
    // The sort is stable, so that equal differences stay in the order of their names.
    differences.sort_by(|left, right| right.0.abs().total_cmp(&left.0.abs()));
    let total = differences.len();
    let number = |heading: &str| Column {
        heading: heading.into(),
        align: Align::Right,
    };
    let name = |heading: &str| Column {
        heading: heading.into(),
        align: Align::Left,
    };
    let lines = differences
        .into_iter()
        .take(arguments.top)
        .map(|(difference, (what, metric), mine, theirs)| {
            let cells = [
                what.clone(),
                (*metric).to_string(),
                format!("{mine:.2}"),
                format!("{theirs:.2}"),
                signed(difference),
            ];
            Line::Cells(cells.to_vec())
        });
    let mut table = Table {
        columns: vec![
            name("what"),
            name("metric"),
            number(&arguments.run),
            number(&arguments.other),
            number("difference"),
        ],
        lines: lines.collect(),
        notes: skipped,
    };
    if total > arguments.top {
        table.notes.push(format!(
            "{} smaller differences are not shown (--top)",
            total - arguments.top
        ));
    }
    outln!("{}", table.to_text().trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Why a run has nothing to stand beside the paper's numbers.
fn no_paper(skipped: &[String]) -> String {
    let mut reasons = vec![
        "the numbers in docs/paper are of MVTec AD, at `best`: mostly averages over all categories, of which the run needs \
         all, and few of single categories"
            .to_string(),
    ];
    reasons.extend(skipped.iter().cloned());
    reasons.join("\n")
}

/// Of every cell of a run the rows of one configuration, as its report has them.
fn shown(folder: &RunFolder, experiments: &[Experiment]) -> Result<Vec<Row>> {
    let mut shown = Vec::new();
    for experiment in experiments {
        shown.extend(newest(&folder.rows(&experiment.id)?));
    }
    Ok(shown)
}

/// What two runs are compared by.
fn what(row: &Row) -> String {
    let dataset = source::family(&row.dataset);
    let names = [
        &row.experiment,
        &row.variant,
        &row.protocol,
        &row.backbone,
        &dataset,
        &row.category,
    ];
    format!("{} {}", names.map(String::as_str).join(" "), row.selection)
}

fn numbers(rows: &[Row]) -> Numbers {
    let mut numbers = Numbers::new();
    rows.iter().for_each(|row| add(&mut numbers, &what(row), row));
    numbers
}

/// In what the rows that are compared are not alike: seeds, settings, weights and images.
fn unlike((folder, mine): (&RunFolder, &[Row]), (other_folder, theirs): (&RunFolder, &[Row])) -> Vec<String> {
    let by_name = |rows| -> BTreeMap<String, Vec<&Row>> {
        let mut named: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        let finished = Iterator::filter(<[Row]>::iter(rows), |row| row.error.is_none());
        finished.for_each(|row| named.entry(what(row)).or_default().push(row));
        named
    };
    let others = by_name(theirs);
    let mut notes = BTreeSet::new();
    for (name, rows) in by_name(mine) {
        let Some(others) = others.get(&name) else {
            continue;
        };
        let of = format!("{} {}", rows[0].experiment, rows[0].variant);
        let [left, right] = [&rows, others].map(|rows| seeds(rows));
        if left != right {
            notes.insert(format!("{of} with seeds {left} and {right}"));
        }
        for row in &rows {
            let twin = others.iter().find(|other| other.seed == row.seed).unwrap_or(&others[0]);
            if row.config_sha256 == twin.config_sha256 {
                continue;
            }
            let configs = [
                folder.config(&row.config_sha256),
                other_folder.config(&twin.config_sha256),
            ];
            let differing = match configs {
                [Ok(one), Ok(other)] => departures::between(&one, &other).unwrap_or_default(),
                _ => vec!["configurations that are not both on disk".into()],
            };
            notes.insert(match differing.is_empty() {
                true => format!("{of} with other weights or images"),
                false => format!("{of} with {}", differing.join(", ")),
            });
        }
    }
    match notes.is_empty() {
        true => Vec::new(),
        false => vec![format!("Not alike: {}.", Vec::from_iter(notes).join("; "))],
    }
}

fn seeds(rows: &[&Row]) -> String {
    let seeds: BTreeSet<u64> = rows.iter().map(|row| row.seed).collect();
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Our rows at `best`, as the paper's are, under the names of docs/paper, and the numbers there.
fn of_paper(
    root: &Path,
    folder: &RunFolder,
    experiments: &[Experiment],
    skipped: &mut Vec<String>,
) -> Result<(Numbers, Numbers)> {
    let (mut ours, mut paper) = (Numbers::new(), Numbers::new());
    for experiment in experiments {
        let published = Published::read_or_none(&root.join("docs/paper"), &experiment.id)?;
        // Where the columns are methods, ours of other methods are not what the column of SimpleNet speaks of.
        let by_method = matches!(experiment.show, Show::Categories { .. });
        let is_own = |row: &Row| {
            let variant = experiment.variants.iter().find(|variant| variant.name == row.variant);
            variant.is_some_and(|variant| !variant.set.contains_key("method"))
        };
        let mut rows: Vec<Row> = newest(&folder.rows(&experiment.id)?)
            .into_iter()
            .filter(|row| row.selection == Selection::Best)
            .filter(|row| !by_method || is_own(row))
            .collect();
        let of_mvtec = experiment.dataset == Named::Mvtec;
        let others: BTreeSet<&str> = rows
            .iter()
            .map(|row| row.dataset.as_str())
            .filter(|name| *name != "mvtec")
            .collect();
        for other in others.into_iter().filter(|_| of_mvtec) {
            skipped.push(format!(
                "not compared: {} on `{other}`, which is not MVTec AD as it was published",
                experiment.id
            ));
        }
        rows.retain(|row| row.dataset == "mvtec");
        for row in &rows {
            let what = format!("{} {} {} {}", row.variant, row.protocol, row.backbone, row.category);
            collect(
                experiment,
                &published,
                &what,
                &row.category,
                std::iter::once(row),
                &mut ours,
                &mut paper,
            );
        }
        let mut groups: BTreeMap<[&str; 3], Vec<&Row>> = BTreeMap::new();
        for row in &rows {
            let key = [&row.variant, &row.protocol, &row.backbone].map(String::as_str);
            groups.entry(key).or_default().push(row);
        }
        for ([variant, protocol, backbone], rows) in groups {
            let known = experiment.variants.iter().find(|known| known.name == variant);
            let label = known.and_then(|known| known.published.as_deref()).unwrap_or(variant);
            let of = if by_method || experiment.variants.len() == 1 {
                "average"
            } else {
                label
            };
            if published.find(of, OURS, Metric::ImageAuroc).is_none() {
                continue;
            }
            let mut categories: Vec<&str> = rows.iter().map(|row| row.category.as_str()).collect();
            categories.sort_unstable();
            categories.dedup();
            let what = format!("{variant} {protocol} {backbone} average");
            if categories.len() < CATEGORIES {
                skipped.push(format!(
                    "not compared: {} {what}, which rests on {} of {CATEGORIES} categories",
                    experiment.id,
                    categories.len()
                ));
                continue;
            }
            collect(
                experiment,
                &published,
                &what,
                of,
                rows.into_iter(),
                &mut ours,
                &mut paper,
            );
        }
    }
    Ok((ours, paper))
}

/// Adds `rows` under a name, and the published numbers of the line `of` under the same one.
fn collect<'a>(
    experiment: &Experiment,
    published: &Published,
    what: &str,
    of: &str,
    rows: impl Iterator<Item = &'a Row>,
    ours: &mut Numbers,
    paper: &mut Numbers,
) {
    let what = format!("{} {what}", experiment.id);
    rows.for_each(|row| add(ours, &what, row));
    for metric in METRICS {
        if let Some(value) = published.find(of, OURS, metric) {
            paper.insert(
                (format!("{what}{}", value.source.mark()), metric.heading()),
                vec![(String::new(), 0, value.value)],
            );
            // The mark tells what kind of source the number has, so both sides carry it.
            if let Some(values) = ours.get(&(what.clone(), metric.heading())).cloned() {
                ours.insert((format!("{what}{}", value.source.mark()), metric.heading()), values);
            }
        }
    }
}

fn add(numbers: &mut Numbers, what: &str, row: &Row) {
    for metric in METRICS {
        if let Some(value) = metric.of(row) {
            numbers.entry((what.to_string(), metric.heading())).or_default().push((
                row.category.clone(),
                row.seed,
                100.0 * value,
            ));
        }
    }
}

fn signed(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0 + 0.0;
    if rounded == 0.0 {
        "0.00".into()
    } else {
        format!("{rounded:+.2}")
    }
}
