//! `cargo xtask report`: finished rows to Markdown, figures, blocks of the documents and a page for the browser.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use simplenet_report::file::write_atomic;
use simplenet_report::page::{Exhibit, Page, Section};
use simplenet_report::{Figure, Freshness, Row, check_file, splice_file};

use crate::exhibits::{self, Exhibits, Sheet};
use crate::experiment::{Experiment, Library, Show};
use crate::folder::RunFolder;
use crate::workspace;

/// Documents with generated blocks, and where their figures lie as seen from them.
const DOCUMENTS: [(&str, &str); 2] = [("docs/reproduction.md", "figures"), ("README.md", "docs/figures")];

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folders under results/, or anywhere by path [default: all of results/]
    runs: Vec<String>,
    /// Show the one run that is named where the documents show the run NAME
    #[arg(long = "as", value_name = "NAME")]
    shown_as: Option<String>,
    /// Write nothing; fail where a document or figure is not what the rows say
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = workspace::root()?;
    let library = Library::open(&root.join("xtask/experiments"))?;
    let runs = if arguments.runs.is_empty() {
        all_runs(&root)?
    } else {
        arguments.runs.clone()
    };
    let folders = runs
        .iter()
        .map(|run| find_run(&root, run))
        .collect::<Result<Vec<_>>>()?;
    let shown: Vec<Shown> = match (&arguments.shown_as, &folders[..]) {
        (None, _) => folders.iter().map(Shown::by_its_name).collect(),
        (Some(name), [folder]) => vec![Shown {
            folder,
            name: name.clone(),
        }],
        (Some(name), _) => bail!(
            "`--as {name}` stands for one run, and {} are named\n\nhint: `cargo xtask report RUN --as {name}`",
            arguments.runs.len()
        ),
    };
    let experiments = library.all()?;
    if !arguments.check {
        for folder in &folders {
            for experiment in &experiments {
                folder.merge_shards(&experiment.id)?;
                write_figures(&root, folder, experiment)?;
            }
            write_text(&root, folder, &experiments)?;
            write_page(&root, folder, &experiments)?;
        }
    }
    let mut stale = Vec::new();
    for document in DOCUMENTS {
        stale.extend(blocks(&root, document, &shown, &experiments, arguments.check)?);
    }
    if arguments.check && !stale.is_empty() {
        bail!("stale: {}\n\nhint: `cargo xtask report` renews them", stale.join(", "));
    }
    if stale.is_empty() {
        let documents = DOCUMENTS.map(|(document, _)| document);
        outln!("as the rows say: {}", documents.join(", "));
    } else {
        outln!("written: {}", stale.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder under results/ by its name, or any folder by its path.
pub(crate) fn find_run(root: &Path, run: &str) -> Result<RunFolder> {
    let candidates = [root.join("results").join(run), PathBuf::from(run)];
    match candidates.into_iter().find(|folder| folder.is_dir()) {
        Some(folder) => Ok(RunFolder::new(folder)),
        None => bail!(
            "there is no run `{run}`\n\nhint: there are {}",
            all_runs(root)?.join(", ")
        ),
    }
}

fn all_runs(root: &Path) -> Result<Vec<String>> {
    let results = root.join("results");
    let mut runs = Vec::new();
    let context = || format!("failed to read `{}`", results.display());
    for entry in std::fs::read_dir(&results).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            runs.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    runs.sort();
    Ok(runs)
}

/// A run as the documents know it.
struct Shown<'a> {
    folder: &'a RunFolder,
    /// In the names of its blocks and figures.
    name: String,
}

impl Shown<'_> {
    fn by_its_name(folder: &RunFolder) -> Shown<'_> {
        Shown {
            folder,
            name: folder.name(),
        }
    }
}

/// After an experiment: its figures in the run's folder, and its blocks in the documents where they show this run. They show
/// runs under results/ that are committed, never one of a user's own.
pub(crate) fn after(root: &Path, folder: &RunFolder, experiment: &Experiment) -> Result<()> {
    write_figures(root, folder, experiment)?;
    let results = root.join("results").canonicalize().ok();
    let parent = folder
        .path()
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.parent()?.to_path_buf()));
    if results.is_some() && results == parent && !folder.is_local() {
        for document in DOCUMENTS {
            let shown = [Shown::by_its_name(folder)];
            for renewed in blocks(root, document, &shown, std::slice::from_ref(experiment), false)? {
                errln!("written: {renewed}");
            }
        }
    }
    Ok(())
}

/// `<run>/figures/`; nothing where there are no rows.
fn write_figures(root: &Path, folder: &RunFolder, experiment: &Experiment) -> Result<()> {
    let rows = folder.rows(&experiment.id)?;
    if rows.is_empty() {
        return Ok(());
    }
    let exhibits = exhibits(root, folder, experiment, &rows)?;
    std::fs::create_dir_all(folder.figures())
        .with_context(|| format!("failed to create `{}`", folder.figures().display()))?;
    for drawing in &exhibits.figures {
        for ending in ["svg", "png"] {
            let name = figure_name(&[&experiment.id, &drawing.suffix], ending);
            drawing.figure.write(&folder.figures().join(name))?;
        }
    }
    Ok(())
}

/// `<run>/reproduction.md`: what docs/reproduction.md has of a run, of all its experiments.
pub(crate) fn write_text(root: &Path, folder: &RunFolder, experiments: &[Experiment]) -> Result<()> {
    let mut text = format!(
        "# Run {}\n\nWritten by `cargo xtask`. `last` is the head after its final epoch; `best` is the evaluation with the \
         highest image AUROC on the test set.\n",
        folder.name()
    );
    let head = text.len();
    for experiment in experiments {
        let rows = folder.rows(&experiment.id)?;
        if rows.is_empty() {
            continue;
        }
        let exhibits = exhibits(root, folder, experiment, &rows)?;
        let figure = |suffix: &str| format!("figures/{}", figure_name(&[&experiment.id, suffix], "svg"));
        // The sheets of a committed run are not committed with it; report.html has them.
        let sheet = |sheet: &Sheet| {
            let name = sheet.path.file_name()?.to_string_lossy().into_owned();
            (folder.is_local() && sheet.path.is_file()).then(|| format!("sheets/{name}"))
        };
        let block = markdown(experiment, folder, &rows, &exhibits, &figure, &sheet)?;
        text.push_str(&format!("\n## {}: {}\n\n{block}", experiment.paper, experiment.title));
    }
    if text.len() > head {
        let path = folder.path().join("reproduction.md");
        write_atomic(&path, text.as_bytes())?;
        errln!("written: {}", path.display());
    }
    Ok(())
}

pub(crate) fn exhibits(root: &Path, folder: &RunFolder, experiment: &Experiment, rows: &[Row]) -> Result<Exhibits> {
    let measurements = folder.measurements(&experiment.id)?;
    Exhibits::of(experiment, rows, &measurements, folder, root)
}

/// `fig5-mvtec-pixel.svg` of its parts that are not empty.
fn figure_name(parts: &[&str], ending: &str) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    format!("{}.{ending}", parts.join("-"))
}

/// The command, what its rows are, tables, figures and sheets.
fn markdown(
    experiment: &Experiment,
    folder: &RunFolder,
    rows: &[Row],
    exhibits: &Exhibits,
    figure: &dyn Fn(&str) -> String,
    sheet: &dyn Fn(&Sheet) -> Option<String>,
) -> Result<String> {
    let mut text = String::new();
    for command in folder.commands(&experiment.id)? {
        text.push_str(&format!("    {command}\n"));
    }
    text.push_str(&format!("\n{}\n", provenance(rows)));
    for (caption, table) in &exhibits.tables {
        text.push_str(&format!("\n**{caption}**\n\n{}", table.to_markdown()));
    }
    for drawing in &exhibits.figures {
        text.push_str(&format!(
            "\n![{}]({})\n",
            drawing.figure.title(),
            figure(&drawing.suffix)
        ));
    }
    for shown in &exhibits.sheets {
        if let Some(link) = sheet(shown) {
            text.push_str(&format!("\n![{}]({link})\n", shown.caption));
        }
    }
    Ok(text)
}

fn one_line(figure: &Figure) -> String {
    figure.title().replace('\n', ": ")
}

/// Where the rows come from, in one line.
fn provenance(rows: &[Row]) -> String {
    let distinct = |of: &dyn Fn(&Row) -> String| {
        let mut values: Vec<String> = rows.iter().map(of).collect();
        values.sort();
        values.dedup();
        values.join(", ")
    };
    let note = match is_drawn(rows) {
        true => " The data set is drawn by a program, so no number here is to be compared with the paper's.",
        false => "",
    };
    let shown = exhibits::newest(rows);
    let others = rows
        .iter()
        .filter(|row| row.error.is_none() && !shown.contains(row))
        .count();
    let others = match others {
        0 => String::new(),
        others => format!(" ({others} of other configurations of the same cells, which are not shown)"),
    };
    let several = shown.iter().any(|row| {
        let is_twin = |other: &&Row| (&other.variant, &other.category) == (&row.variant, &row.category);
        shown.iter().filter(is_twin).any(|other| other.seed != row.seed)
    });
    let deviation = match several {
        true => " ± is the sample standard deviation over seeds.",
        false => "",
    };
    format!(
        "{} rows{others}; seeds {}; {} with {} threads; commit {}.{deviation}{note}",
        rows.len(),
        distinct(&|row| row.seed.to_string()),
        distinct(&|row| row.device.clone()),
        distinct(&|row| row.threads.to_string()),
        distinct(&|row| row.commit.clone())
    )
}

/// Whether they are all of the procedural set.
fn is_drawn(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.dataset.starts_with("toy"))
}

/// Renews or checks the blocks `<id>-<run>` of a document and the figures they show; says what was stale. A block whose run
/// is not among `shown` stays as it is.
fn blocks(
    root: &Path,
    (document, figures): (&str, &str),
    shown: &[Shown],
    experiments: &[Experiment],
    check: bool,
) -> Result<Vec<String>> {
    let path = root.join(document);
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let pictures = root.join("docs/figures");
    let mut stale = Vec::new();
    for marker in markers(&text) {
        let Some((id, run)) = marker.split_once('-') else {
            continue;
        };
        let Some(experiment) = experiments.iter().find(|experiment| experiment.id == id) else {
            continue;
        };
        let folder = shown.iter().find(|shown| shown.name == run).map(|shown| shown.folder);
        let rows = folder.map(|folder| folder.rows(id)).transpose()?.unwrap_or_default();
        let Some(folder) = folder.filter(|_| !rows.is_empty()) else {
            if check {
                errln!("not checked: block {marker} of {document}, because results/{run} has no rows of {id}");
            }
            continue;
        };
        let exhibits = exhibits(root, folder, experiment, &rows)?;
        let mut keep = |name: &str, bytes: &[u8]| -> Result<()> {
            let target = pictures.join(name);
            if std::fs::read(&target).ok().as_deref() == Some(bytes) {
                return Ok(());
            }
            stale.push(format!("docs/figures/{name}"));
            if check {
                return Ok(());
            }
            Ok(write_atomic(&target, bytes)?)
        };
        for drawing in &exhibits.figures {
            keep(
                &figure_name(&[id, run, &drawing.suffix], "svg"),
                drawing.figure.svg()?.as_bytes(),
            )?;
        }
        // Photographs of a data set are its owners'; only the drawn ones are committed.
        let is_drawn = is_drawn(&rows);
        let is_shown = is_drawn && experiment.show == Show::Qualitative;
        let sheet_name = |sheet: &Sheet| figure_name(&[id, run, &sheet.name], "png");
        for sheet in exhibits.sheets.iter().filter(|sheet| is_shown && sheet.path.is_file()) {
            let path = &sheet.path;
            let bytes = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
            keep(&sheet_name(sheet), &bytes)?;
        }
        let figure = |suffix: &str| format!("{figures}/{}", figure_name(&[id, run, suffix], "svg"));
        // Where a clone has only the rows, the picture that was committed stands.
        let sheet = |sheet: &Sheet| {
            let name = sheet_name(sheet);
            (is_shown && pictures.join(&name).is_file()).then(|| format!("{figures}/{name}"))
        };
        let block = markdown(experiment, folder, &rows, &exhibits, &figure, &sheet)?;
        let freshness = if check {
            check_file(&path, marker, &block)?
        } else {
            splice_file(&path, marker, &block)?
        };
        if freshness == Freshness::Stale {
            stale.push(format!("{document} (block {marker})"));
        }
    }
    Ok(stale)
}

/// Names of the generated blocks of a document.
fn markers(document: &str) -> impl Iterator<Item = &str> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- BEGIN: ")?.strip_suffix(" -->"))
}

/// `<run>/report.html`: everything in one file.
pub(crate) fn write_page(root: &Path, folder: &RunFolder, experiments: &[Experiment]) -> Result<()> {
    let mut page = Page {
        title: format!("SimpleNet: run {}", folder.name()),
        lead: "`last` is the head after its final epoch; `best` is the evaluation with the highest image AUROC on the test \
               set, as the paper's numbers most likely are. Metrics are percent."
            .into(),
        ..Page::default()
    };
    for experiment in experiments {
        let rows = folder.rows(&experiment.id)?;
        if rows.is_empty() {
            continue;
        }
        let exhibits = exhibits(root, folder, experiment, &rows)?;
        let mut shown: Vec<Exhibit> = Vec::new();
        shown.extend(
            exhibits
                .tables
                .into_iter()
                .map(|(caption, table)| Exhibit::Table(caption, table)),
        );
        for drawing in &exhibits.figures {
            shown.push(Exhibit::Svg(one_line(&drawing.figure), drawing.figure.svg()?));
        }
        // Of several seeds the pictures are much the same, and large.
        let mut kinds = BTreeSet::new();
        let mut sheets = exhibits.sheets;
        sheets.retain(|sheet| sheet.path.is_file() && kinds.insert(sheet.kind.clone()));
        for Sheet { caption, path, .. } in sheets {
            let png = std::fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            shown.push(Exhibit::Png(caption, png));
            let gallery = folder
                .gallery()
                .join(path.with_extension("json").file_name().unwrap_or_default());
            if let Ok(gallery) = std::fs::read_to_string(&gallery) {
                page.galleries.push(gallery);
            }
        }
        let mut text = vec![experiment.why.trim().to_string()];
        if !is_drawn(&rows) {
            text.push(format!("Expected: {}", experiment.expectation));
        }
        text.push(provenance(&rows));
        page.sections.push(Section {
            id: experiment.id.clone(),
            title: format!("{}: {}", experiment.paper, experiment.title),
            text,
            commands: folder.commands(&experiment.id)?,
            exhibits: shown,
        });
    }
    if page.sections.is_empty() {
        return Ok(());
    }
    let path = folder.path().join("report.html");
    write_atomic(&path, page.html()?.as_bytes())?;
    errln!("written: {}", path.display());
    Ok(())
}
