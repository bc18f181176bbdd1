//! The page for a browser: escaped, complete, and without a network.

use simplenet_report::page::{Exhibit, Page, Section};
use simplenet_report::{Align, Column, Line, Table};

fn page() -> Page {
    let column = |heading: &str, align| Column {
        heading: heading.into(),
        align,
    };
    let cells = |name: &str, value: &str| vec![name.to_string(), value.to_string()];
    let table = Table {
        columns: vec![column("name", Align::Left), column("I-AUROC", Align::Right)],
        lines: vec![
            Line::Section("objects".into()),
            Line::Cells(cells("<screw>", "85.3")),
            Line::Strong(cells("average", "92.7")),
        ],
        notes: vec!["a note".into()],
    };
    Page {
        title: "run & more".into(),
        lead: "`last` is the head".into(),
        sections: vec![Section {
            id: "table1".into(),
            title: "Table 1".into(),
            commands: vec!["cargo xtask reproduce table1".into()],
            exhibits: vec![
                Exhibit::Table("all".into(), table),
                Exhibit::Png("sheet".into(), vec![1, 2, 3]),
            ],
            ..Section::default()
        }],
        galleries: vec![r#"{"title": "</script><b>"}"#.into()],
    }
}

#[test]
fn everything_is_in_one_file_and_nothing_of_it_is_markup_by_accident() {
    let html = page().html().expect("a page");
    for part in [
        "<h1>run &amp; more</h1>",
        "<code>last</code> is the head",
        "<td>&lt;screw&gt;</td><td class=\"number\">85.3</td>",
        "<tr class=\"section\"><th colspan=\"2\">objects</th></tr>",
        "<a href=\"#table1\">",
        "data:image/png;base64,AQID",
        "\\u003c/script>\\u003cb>",
    ] {
        assert!(html.contains(part), "`{part}` is not in the page");
    }
    assert!(!html.contains("://"), "no address of a network");
}

#[test]
fn a_gallery_that_is_not_json_is_an_error() {
    let broken = Page {
        galleries: vec!["{".into()],
        ..page()
    };
    assert!(broken.html().is_err());
}
