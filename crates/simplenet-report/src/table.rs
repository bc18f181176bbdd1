use std::fmt::Write;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// Heading of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Text of the heading.
    pub heading: String,
    /// Where its cells stand.
    pub align: Align,
}

impl Column {
    pub(crate) fn name(heading: impl Into<String>) -> Self {
        Column {
            heading: heading.into(),
            align: Align::Left,
        }
    }

    pub(crate) fn number(heading: impl Into<String>) -> Self {
        Column {
            heading: heading.into(),
            align: Align::Right,
        }
    }
}

/// A line of a table below its headings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Heading of the lines that follow.
    Section(String),
    /// One cell for each column.
    Cells(Vec<String>),
    /// The same, set off from the others: an average.
    Strong(Vec<String>),
}

/// A table that prints as Markdown and as plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The columns, from left to right.
    pub columns: Vec<Column>,
    /// The lines, from top to bottom. A line with too few cells is filled with empty ones.
    pub lines: Vec<Line>,
    /// Legend and footnotes, printed below.
    pub notes: Vec<String>,
}

impl Table {
    /// The table in GitHub's Markdown, with columns padded so that the source can be read too. Ends with a line break.
    pub fn to_markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let strong = |text: String| if text.is_empty() { text } else { format!("**{text}**") };
        let body: Vec<Vec<String>> = self
            .lines
            .iter()
            .map(|line| match line {
                Line::Section(name) => vec![format!("*{}*", escape(name))],
                Line::Cells(cells) => cells.iter().map(|c| escape(c)).collect(),
                Line::Strong(cells) => cells.iter().map(|c| strong(escape(c))).collect(),
            })
            .collect();
        let headings: Vec<String> = self.columns.iter().map(|c| escape(&c.heading)).collect();
        let widths = self.widths(std::iter::once(&headings).chain(&body), 3);
        let mut out = String::new();
        let line = |out: &mut String, cells: &[String]| {
            let padded: Vec<String> = self.padded(cells, &widths).collect();
            _ = writeln!(out, "| {} |", padded.join(" | "));
        };
        line(&mut out, &headings);
        let rules: Vec<String> = self
            .columns
            .iter()
            .zip(&widths)
            .map(|(column, width)| match column.align {
                Align::Left => "-".repeat(*width),
                Align::Right => format!("{}:", "-".repeat(width - 1)),
            })
            .collect();
        line(&mut out, &rules);
        for cells in &body {
            line(&mut out, cells);
        }
        for note in &self.notes {
            _ = write!(out, "\n{}\n", note.replace('\n', " "));
        }
        out
    }

    /// The table as aligned plain text for a terminal. Ends with a line break.
    pub fn to_text(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|c| c.heading.clone()).collect();
        let cells = self.lines.iter().filter_map(|line| match line {
            Line::Section(_) => None,
            Line::Cells(cells) | Line::Strong(cells) => Some(cells),
        });
        let widths = self.widths(std::iter::once(&headings).chain(cells), 1);
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut out = String::new();
        let line = |out: &mut String, cells: &[String]| {
            let padded: Vec<String> = self.padded(cells, &widths).collect();
            _ = writeln!(out, "{}", padded.join("  ").trim_end());
        };
        line(&mut out, &headings);
        _ = writeln!(out, "{rule}");
        for entry in &self.lines {
            match entry {
                Line::Section(name) => _ = writeln!(out, "[{name}]"),
                Line::Cells(cells) | Line::Strong(cells) => line(&mut out, cells),
            }
        }
        if !self.notes.is_empty() {
            _ = writeln!(out, "{rule}");
        }
        for note in &self.notes {
            _ = writeln!(out, "{note}");
        }
        out
    }

    fn widths<'a>(&self, lines: impl Iterator<Item = &'a Vec<String>>, least: usize) -> Vec<usize> {
        let mut widths = vec![least; self.columns.len()];
        for cells in lines {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn padded<'a>(&'a self, cells: &'a [String], widths: &'a [usize]) -> impl Iterator<Item = String> + 'a {
        self.columns
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(index, (column, &width))| {
                let text = cells.get(index).map_or("", String::as_str);
                match column.align {
                    Align::Left => format!("{text:<width$}"),
                    Align::Right => format!("{text:>width$}"),
                }
            })
    }
}
