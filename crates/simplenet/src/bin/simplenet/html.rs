//! What pages are made of: HTML files that need nothing else.

use std::fmt::Display;

/// Light whatever a browser prefers, as the pictures are; pictures stand below one another where a window is narrow.
const STYLE: &str = ":root{color-scheme:only light}\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff;overflow-wrap:anywhere}\
.wide{overflow-x:auto;overflow-wrap:normal}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #d8dde3}td:first-child,th:first-child{text-align:left}\
figure{margin:1.2rem 0 0}figure.plot{display:inline-block;vertical-align:top;width:302px;margin-right:.8rem}\
img{max-width:calc(50% - 6px);height:auto;margin-right:6px;vertical-align:top}@media(max-width:34rem){img{max-width:100%;margin-bottom:6px}td,th{padding:.2rem .3rem}}\
figcaption{font-size:.85em;color:#57606a}text{font:11px system-ui,sans-serif;fill:#57606a}";

/// A page with a heading.
pub(crate) fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style><h1>{0}</h1>{content}</html>\n",
        escaped(title)
    )
}

/// An image as it is and under its map, if there are pictures of it.
pub(crate) fn figure(pictures: Option<&[String; 2]>, caption: &str) -> String {
    let sources = pictures.into_iter().flatten().zip(["image", "anomaly map"]);
    let pictures: String = sources
        .map(|(source, what)| format!("<img src=\"{source}\" alt=\"{what}\">"))
        .collect();
    format!(
        "<figure>{pictures}<figcaption>{}</figcaption></figure>",
        escaped(caption)
    )
}

/// A list, if there is anything to list.
pub(crate) fn list(lines: impl IntoIterator<Item = impl Display>) -> String {
    let lines = lines.into_iter();
    let lines: String = lines
        .map(|line| format!("<li>{}", escaped(&line.to_string())))
        .collect();
    match lines.is_empty() {
        true => lines,
        false => format!("<ul>{lines}</ul>"),
    }
}

pub(crate) fn paragraph(text: &str) -> String {
    format!("<p>{}", escaped(&capitalised(text)))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
