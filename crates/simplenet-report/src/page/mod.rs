//! Everything about a run in one HTML file that needs no other: sortable tables, figures, sheets, and a browser of images in
//! which the reader moves the threshold.

use std::fmt::Write;

use crate::gallery::data_url;
use crate::table::{Align, Line};
use crate::{Error, Result, Table};

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// What stands below it.
    pub lead: String,
    /// Its parts, which the head of the page links to.
    pub sections: Vec<Section>,
    /// What [`gallery::write`](crate::gallery::write) wrote: the contents of its files.
    pub galleries: Vec<String>,
}

/// A part of a page.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Letters, digits and `-`; the link's target.
    pub id: String,
    /// Heading.
    pub title: String,
    /// Paragraphs.
    pub text: Vec<String>,
    /// Commands that made what follows.
    pub commands: Vec<String>,
    /// What it shows.
    pub exhibits: Vec<Exhibit>,
}

/// Something to look at.
#[derive(Clone, Debug)]
pub enum Exhibit {
    /// A table and its caption; its headings sort it.
    Table(String, Table),
    /// A figure as SVG text and its caption.
    Svg(String, String),
    /// A PNG file's bytes and its caption; closed until it is asked for.
    Png(String, Vec<u8>),
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// [`Error::Drawing`] where a gallery is not JSON.
    pub fn html(&self) -> Result<String> {
        let mut body = format!(
            "<header><h1>{}</h1>\n<p>{}</p>\n<nav>",
            text(&self.title),
            prose(&self.lead)
        );
        for section in &self.sections {
            _ = write!(body, "<a href=\"#{}\">{}</a> ", text(&section.id), text(&section.title));
        }
        if !self.galleries.is_empty() {
            body.push_str("<a href=\"#images\">Images</a>");
        }
        body.push_str("</nav></header>\n<main>\n");
        for section in &self.sections {
            section.write(&mut body);
        }
        if !self.galleries.is_empty() {
            body.push_str(include_str!("gallery.html"));
            _ = writeln!(
                body,
                "<script type=\"application/json\" id=\"galleries\">{}</script>",
                self.json()?
            );
        }
        body.push_str("</main>\n");
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
             <style>\n{}</style>\n</head>\n<body>\n{body}<script>\n{}</script>\n</body>\n</html>\n",
            text(&self.title),
            include_str!("page.css"),
            include_str!("page.js"),
        ))
    }

    fn json(&self) -> Result<String> {
        let parse = |gallery: &String| {
            serde_json::from_str::<serde_json::Value>(gallery).map_err(|e| Error::drawing("the image browser", e))
        };
        let galleries = self.galleries.iter().map(parse).collect::<Result<Vec<_>>>()?;
        // `</script>` in a file's name would end the element.
        Ok(serde_json::Value::Array(galleries).to_string().replace('<', "\\u003c"))
    }
}

impl Section {
    fn write(&self, out: &mut String) {
        _ = write!(
            out,
            "<section id=\"{}\">\n<h2>{}</h2>\n",
            text(&self.id),
            text(&self.title)
        );
        for paragraph in &self.text {
            _ = writeln!(out, "<p>{}</p>", prose(paragraph));
        }
        if !self.commands.is_empty() {
            _ = writeln!(out, "<pre>{}</pre>", text(&self.commands.join("\n")));
        }
        for exhibit in &self.exhibits {
            match exhibit {
                Exhibit::Table(caption, table) => write_table(out, caption, table),
                Exhibit::Svg(caption, svg) => {
                    let address = data_url("svg+xml", svg.as_bytes());
                    let caption = text(caption);
                    _ = writeln!(
                        out,
                        "<figure><img src=\"{address}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>"
                    );
                }
                Exhibit::Png(caption, png) => {
                    let address = data_url("png", png);
                    let (summary, caption) = (prose(caption), text(caption));
                    _ = writeln!(
                        out,
                        "<details><summary>{summary}</summary><img loading=\"lazy\" src=\"{address}\" alt=\"{caption}\"></details>"
                    );
                }
            }
        }
        out.push_str("</section>\n");
    }
}

/// Every section of the table is a body of its own, so that sorting keeps its lines together.
fn write_table(out: &mut String, caption: &str, table: &Table) {
    _ = write!(
        out,
        "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>",
        prose(caption)
    );
    for column in &table.columns {
        let class = class(column.align);
        _ = write!(out, "<th{class}><button>{}</button></th>", text(&column.heading));
    }
    out.push_str("</tr></thead><tbody>");
    for line in &table.lines {
        let (tag, cells) = match line {
            Line::Section(name) => {
                let width = table.columns.len();
                _ = write!(
                    out,
                    "</tbody><tbody><tr class=\"section\"><th colspan=\"{width}\">{}</th></tr>",
                    text(name)
                );
                continue;
            }
            Line::Cells(cells) => ("<tr>", cells),
            Line::Strong(cells) => ("<tr class=\"strong\">", cells),
        };
        out.push_str(tag);
        for (column, cell) in table.columns.iter().zip(cells) {
            _ = write!(out, "<td{}>{}</td>", class(column.align), text(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
    for note in &table.notes {
        _ = writeln!(out, "<p class=\"note\">{}</p>", prose(note));
    }
}

fn class(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    }
}

/// As [`text`], with what stands between backticks as code.
fn prose(raw: &str) -> String {
    let mut out = String::new();
    for (place, part) in text(raw).split('`').enumerate() {
        match place % 2 {
            0 => out.push_str(part),
            _ => _ = write!(out, "<code>{part}</code>"),
        }
    }
    out
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
