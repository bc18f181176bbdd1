//! Rows to a printed table, a Markdown file beside the rows, and a block of docs/reproduction.md.

use std::path::Path;

use anyhow::{Context, Result};
use simplenet_data::toy;
use simplenet_report::{
    CategoryKind, CategoryKinds, Freshness, Published, Row, Table, splice_file, table1 as make_table1,
};

use crate::experiment::Experiment;

/// Prints Table 1 for every variant, protocol and backbone among `rows`, writes `<out>/table1.md`, and renews the block
/// `table1-<run>` of docs/reproduction.md where there is one and the run lies under results/.
pub(crate) fn table1(rows: &[Row], experiment: &Experiment, dataset: &str, root: &Path, out: &Path) -> Result<()> {
    let (kinds, methods): (CategoryKinds, &[&str]) = match dataset {
        "toy" => (toy_kinds(), &[]),
        _ => (CategoryKinds::mvtec(), &["SimpleNet", "PatchCore"]),
    };
    let published = Published::read(&root.join("docs/paper/table1.csv"))?;
    let mut markdown = format!("{}: {}\n", experiment.paper, experiment.title);
    for (title, rows) in tables_of(rows) {
        let table: Table = make_table1(&rows, &kinds, &published, methods)?;
        println!("\n{title}\n\n{}", table.to_text());
        markdown.push_str(&format!("\n**{title}**\n\n{}", table.to_markdown()));
    }
    let path = out.join(format!("{}.md", experiment.id));
    simplenet_report::file::write_atomic(&path, markdown.as_bytes())?;
    eprintln!("written: {}", path.display());

    let results = root.join("results");
    let Some(run) = inside(out, &results) else {
        return Ok(());
    };
    let marker = format!("{}-{run}", experiment.id);
    let document = root.join("docs/reproduction.md");
    let text =
        std::fs::read_to_string(&document).with_context(|| format!("failed to read `{}`", document.display()))?;
    if text.contains(&format!("<!-- BEGIN: {marker} -->"))
        && splice_file(&document, &marker, &markdown)? == Freshness::Stale
    {
        eprintln!("written: {} (block {marker})", document.display());
    }
    Ok(())
}

/// The name of `out` where it is a folder directly under `results`.
fn inside(out: &Path, results: &Path) -> Option<String> {
    let (out, results) = (out.canonicalize().ok()?, results.canonicalize().ok()?);
    let name = out.strip_prefix(&results).ok()?;
    (name.components().count() == 1).then(|| name.to_string_lossy().into_owned())
}

/// The rows of each table, in the order in which they first appear: one variant, protocol and backbone each.
fn tables_of(rows: &[Row]) -> Vec<(String, Vec<Row>)> {
    let mut tables: Vec<(String, Vec<Row>)> = Vec::new();
    for row in rows {
        let title = format!(
            "{}, protocol `{}`, backbone {}",
            row.variant, row.protocol, row.backbone
        );
        match tables.iter_mut().find(|(known, _)| *known == title) {
            Some((_, rows)) => rows.push(row.clone()),
            None => tables.push((title, vec![row.clone()])),
        }
    }
    tables
}

fn toy_kinds() -> CategoryKinds {
    toy::CATEGORIES.iter().fold(CategoryKinds::new(), |kinds, category| {
        let kind = match category.kind {
            toy::CategoryKind::Texture => CategoryKind::Texture,
            toy::CategoryKind::Object => CategoryKind::Object,
        };
        kinds.with(category.name, kind)
    })
}
