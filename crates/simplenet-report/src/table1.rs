use std::collections::{BTreeMap, BTreeSet};

use crate::published::{Source, legend};
use crate::summary::{self, Failures, Place, RestsOn, Values};
use crate::table::{Column, Line};
use crate::{Error, Metric, Published, Result, Row, Selection, Table};

/// The two kinds of categories that Table 1 averages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryKind {
    /// A surface that fills the image.
    Texture,
    /// A thing with an outline.
    Object,
}

/// Which categories are textures and which are objects, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryKinds {
    kinds: Vec<(String, CategoryKind)>,
}

impl CategoryKinds {
    /// No category is known; all of them are listed under their dataset.
    pub fn new() -> Self {
        Self::default()
    }

    /// The 5 textures and 10 objects of MVTec AD.
    pub fn mvtec() -> Self {
        let textures = ["carpet", "grid", "leather", "tile", "wood"];
        let objects = [
            "bottle",
            "cable",
            "capsule",
            "hazelnut",
            "metal_nut",
            "pill",
            "screw",
            "toothbrush",
            "transistor",
            "zipper",
        ];
        let textures = textures.into_iter().map(|name| (name, CategoryKind::Texture));
        let objects = objects.into_iter().map(|name| (name, CategoryKind::Object));
        textures
            .chain(objects)
            .fold(Self::new(), |kinds, (name, kind)| kinds.with(name, kind))
    }

    /// Adds a category, or changes its kind.
    pub fn with(mut self, category: impl Into<String>, kind: CategoryKind) -> Self {
        let category = category.into();
        match self.kinds.iter_mut().find(|(name, _)| *name == category) {
            Some(entry) => entry.1 = kind,
            None => self.kinds.push((category, kind)),
        }
        self
    }

    fn is_known(&self, category: &str) -> bool {
        self.kinds.iter().any(|(name, _)| name == category)
    }

    fn of(&self, kind: CategoryKind) -> impl Iterator<Item = &str> {
        self.kinds
            .iter()
            .filter(move |(_, k)| *k == kind)
            .map(|(name, _)| name.as_str())
    }
}

const METRICS: [Metric; 2] = [Metric::ImageAuroc, Metric::PixelAuroc];

/// A table in the shape of Table 1 of Liu et al. 2023: image and pixel AUROC in percent per category, with averages of
/// textures, of objects and of both.
///
/// `last` and `best` stand side by side with their gap (best minus last, over the seeds that have both), then one column
/// per entry of `methods`, which name columns of `published`. Several seeds give mean ± sample standard deviation. A
/// category of `kinds` without rows shows `–` and an average says on how many categories it rests. A failed cell is `✗`
/// with a footnote. Other categories follow under the name of their dataset.
///
/// # Errors
/// When there are no rows, or they differ in experiment, variant, protocol or backbone, or a category and seed has two
/// configurations.
pub fn table1(rows: &[Row], kinds: &CategoryKinds, published: &Published, methods: &[&str]) -> Result<Table> {
    let first = rows.first().ok_or_else(|| Error::Empty {
        what: "table 1".to_owned(),
    })?;
    let belongs = |row: &&Row| {
        (&row.experiment, &row.variant, &row.protocol, &row.backbone)
            == (&first.experiment, &first.variant, &first.protocol, &first.backbone)
    };
    if let Some(other) = rows.iter().find(|row| !belongs(row)) {
        return Err(summary::mixed(first, other));
    }
    let mut maker = Maker {
        last: Side::new(rows, Selection::Last)?,
        best: Side::new(rows, Selection::Best)?,
        published,
        methods,
        failures: Failures::default(),
        sources: BTreeSet::new(),
    };
    let mut columns = vec![Column::name("I-AUROC / P-AUROC, %")];
    columns.extend(["last", "best", "gap"].map(Column::number));
    columns.extend(
        methods
            .iter()
            .map(|method| Column::number(format!("{method} (published)"))),
    );

    let mut places: BTreeSet<Place<'_>> = BTreeSet::new();
    places.extend(rows.iter().map(|row| (row.dataset.as_str(), row.category.as_str())));
    let mut lines = Vec::new();
    let mut both = Vec::new();
    for (title, kind) in [("textures", CategoryKind::Texture), ("objects", CategoryKind::Object)] {
        let members: Vec<Place<'_>> = kinds
            .of(kind)
            .map(|name| {
                places
                    .iter()
                    .find(|place| place.1 == name)
                    .copied()
                    .unwrap_or(("", name))
            })
            .collect();
        if members.is_empty() {
            continue;
        }
        lines.push(Line::Section(title.to_owned()));
        lines.extend(members.iter().map(|place| maker.category(*place)));
        lines.push(maker.average(&format!("average {title}"), &members));
        both.extend(members);
    }
    if !both.is_empty() {
        lines.push(maker.average("average", &both));
    }
    let datasets: BTreeSet<&str> = places.iter().filter(|p| !kinds.is_known(p.1)).map(|p| p.0).collect();
    for dataset in datasets {
        let members: Vec<Place<'_>> = places
            .iter()
            .filter(|p| p.0 == dataset && !kinds.is_known(p.1))
            .copied()
            .collect();
        lines.push(Line::Section(dataset.to_owned()));
        lines.extend(members.iter().map(|place| maker.category(*place)));
        lines.push(maker.average(&format!("average {dataset}"), &members));
    }
    let notes = legend(&maker.sources).chain(maker.failures.into_notes()).collect();
    Ok(Table { columns, lines, notes })
}

/// The rows of one selection.
struct Side<'a> {
    rows: BTreeMap<(Place<'a>, u64), &'a Row>,
    values: [Values<'a>; 2],
}

impl<'a> Side<'a> {
    fn new(rows: &'a [Row], selection: Selection) -> Result<Self> {
        let rows = summary::distinct(rows.iter().filter(|row| row.selection == selection))?;
        let values = METRICS.map(|metric| Values::of(&rows, metric));
        Ok(Side { rows, values })
    }

    fn rows_of(&self, place: Place<'a>) -> impl Iterator<Item = &'a Row> {
        self.rows.range((place, 0)..=(place, u64::MAX)).map(|(_, row)| *row)
    }
}

struct Maker<'a> {
    last: Side<'a>,
    best: Side<'a>,
    published: &'a Published,
    methods: &'a [&'a str],
    failures: Failures,
    sources: BTreeSet<Source>,
}

impl<'a> Maker<'a> {
    fn category(&mut self, place: Place<'a>) -> Line {
        let mut cells = vec![place.1.to_owned()];
        for side in [&self.last, &self.best] {
            let values = side.values.each_ref().map(|v| v.spread(place).map(|s| s.text()));
            let marks = self.failures.marks(side.rows_of(place));
            cells.push(summary::cell(&values, None, &marks));
        }
        let gap = self.gap().map(|v| v.spread(place).map(|s| s.signed()));
        cells.push(summary::cell(&gap, None, &[]));
        cells.extend(self.published_cells(place.1));
        Line::Cells(cells)
    }

    fn average(&mut self, title: &str, places: &[Place<'a>]) -> Line {
        let mut cells = vec![title.to_owned()];
        for side in [&self.last, &self.best] {
            let values = side.values.each_ref().map(|v| v.average(places).map(|s| s.text()));
            let rests_on = RestsOn {
                have: side.values.iter().map(|v| v.count(places)).collect(),
                expected: places.len(),
            };
            cells.push(summary::cell(&values, Some(&rests_on), &[]));
        }
        let gap = self.gap().map(|v| v.average(places).map(|s| s.signed()));
        cells.push(summary::cell(&gap, None, &[]));
        cells.extend(self.published_cells(title));
        Line::Strong(cells)
    }

    fn gap(&self) -> [Values<'a>; 2] {
        [0, 1].map(|metric| self.best.values[metric].minus(&self.last.values[metric]))
    }

    fn published_cells(&mut self, row: &str) -> Vec<String> {
        self.methods
            .iter()
            .map(|method| self.published.cell(row, method, &METRICS, &mut self.sources))
            .collect()
    }
}
