//! Figures and sheets: written, the same each time, and refused when they cannot be drawn.

use std::fs;
use std::path::{Path, PathBuf};

use simplenet_report::figure::{
    Axis, Group, Histogram, LineChart, Mark, Point, Scatter, ScatterGroup, ScatterPoint, Series,
};
use simplenet_report::{Error, Figure, Rgb8, SheetRow, SheetSection, sheet};

fn noise() -> LineChart {
    let sigmas = [0.001, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25];
    let series = |name: &str, top: f64, deviation: f64| Series {
        name: name.into(),
        points: sigmas
            .iter()
            .map(|s| {
                let distance = (s / 0.015f64).ln();
                Point::with_deviation(*s, top - 0.35 * distance * distance, deviation * (1.0 + distance.abs()))
            })
            .collect(),
    };
    LineChart {
        title: "Scale of the noise, MVTec AD, mean of 15 categories".into(),
        x: Axis::log("σ of the generator", "").with_ticks(&[0.001, 0.005, 0.015, 0.05, 0.1, 0.25]),
        y: Axis::linear("image AUROC", "%"),
        series: vec![
            series("last epoch", 98.6, 0.2),
            series("best epoch on test", 99.5, 0.1),
            series("ResNet18", 96.9, 0.3),
        ],
        marks: vec![Mark {
            x: 0.015,
            label: "paper: 0.015".into(),
        }],
    }
}

fn histogram() -> Histogram {
    let wave = |n: usize, centre: f64, width: f64| {
        (0..n)
            .map(|i| centre + width * ((i as f64 * 0.618).fract() + (i as f64 * 0.414).fract() - 1.0))
            .collect()
    };
    Histogram {
        title: "Standard deviation of each feature, bottle".into(),
        x: Axis::linear("standard deviation", ""),
        bins: 40,
        groups: vec![
            Group {
                name: "before the adaptor".into(),
                values: wave(1500, 0.32, 0.3),
            },
            Group {
                name: "after the adaptor".into(),
                values: wave(900, 0.21, 0.08),
            },
        ],
        marks: vec![Mark {
            x: 0.3,
            label: "threshold".into(),
        }],
    }
}

fn scatter() -> Scatter {
    let point = |label: &str, x, y| ScatterPoint {
        label: label.into(),
        x,
        y,
    };
    Scatter {
        title: "Accuracy and speed".into(),
        x: Axis::log("time per image", "ms"),
        y: Axis::linear("image AUROC", "%"),
        groups: vec![
            ScatterGroup {
                name: "published".into(),
                points: vec![
                    point("SimpleNet", 13.0, 99.6),
                    point("PatchCore", 104.0, 99.1),
                    point("RD", 26.0, 98.46),
                    point("RD++", 28.0, 99.44),
                    point("FastFlow", 29.0, 96.3),
                ],
            },
            ScatterGroup {
                name: "here, 2 CPU threads".into(),
                points: vec![
                    point("SimpleNet WRN50", 95.0, 99.0),
                    point("SimpleNet ResNet18", 21.0, 97.1),
                ],
            },
        ],
    }
}

fn figures() -> [(&'static str, Figure); 3] {
    [
        ("lines", Figure::Lines(noise())),
        ("histogram", Figure::Histogram(histogram())),
        ("scatter", Figure::Scatter(scatter())),
    ]
}

/// Where to draw: a folder that vanishes, or the one named by the variable, to look at the pictures.
fn gallery() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(folder) = std::env::var_os("SIMPLENET_REPORT_GALLERY") {
        fs::create_dir_all(&folder).expect("a folder");
        return (folder.into(), None);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    (folder.path().to_owned(), Some(folder))
}

fn is_png_of(path: &Path, width: u32, height: u32) {
    let bytes = fs::read(path).expect("a file");
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(bytes[16..20], width.to_be_bytes());
    assert_eq!(bytes[20..24], height.to_be_bytes());
}

#[test]
fn figures_are_written_and_the_same_each_time() {
    let (folder, _keep) = gallery();
    for (name, figure) in figures() {
        let svg = folder.join(format!("{name}.svg"));
        let png = folder.join(format!("{name}.png"));
        figure.write(&svg).expect("an SVG");
        figure.write(&png).expect("a PNG");
        let text = fs::read_to_string(&svg).expect("text");
        assert_eq!(text, figure.svg().expect("an SVG"));
        assert!(text.contains(figure.title()) && text.trim_end().ends_with("</svg>"));
        is_png_of(&png, 1600, 960);
        let first = fs::read(&png).expect("bytes");
        figure.write(&png).expect("a PNG");
        assert_eq!(fs::read(&png).expect("bytes"), first);
    }
}

#[test]
fn a_chart_names_its_axes_lines_and_marks() {
    let svg = Figure::Lines(noise()).svg().expect("an SVG");
    for text in [
        "image AUROC (%)",
        "σ of the generator",
        "best epoch on test",
        "paper: 0.015",
        "0.25",
    ] {
        assert!(
            svg.contains(&format!("\n{text}\n")) || svg.contains(&format!(">\n{text}")),
            "{text} is missing"
        );
    }
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let message = |figure: Figure| figure.svg().expect_err("refused").to_string();
    let with_point = |x, y| {
        let mut chart = noise();
        chart.series[0].points = vec![Point::at(x, y)];
        Figure::Lines(chart)
    };
    assert!(message(with_point(0.1, f64::NAN)).contains("image AUROC holds NaN"));
    assert!(message(with_point(f64::INFINITY, 1.0)).contains("holds inf"));
    assert!(message(with_point(0.0, 1.0)).contains("logarithmic"));
    assert!(
        message(Figure::Lines(LineChart {
            series: vec![],
            ..noise()
        }))
        .contains("nothing to show")
    );
    let mut unsorted = noise();
    unsorted.series[0].points.reverse();
    assert!(message(Figure::Lines(unsorted)).contains("left to right"));
    let backwards = LineChart {
        y: Axis::linear("y", "").with_range(2.0, 1.0),
        ..noise()
    };
    assert!(message(Figure::Lines(backwards)).contains("2 to 1"));
    assert!(message(Figure::Histogram(Histogram { bins: 0, ..histogram() })).contains("nothing to show"));
    let mut nan = histogram();
    nan.groups[1].values.push(f64::NAN);
    assert!(message(Figure::Histogram(nan)).contains("holds NaN"));
    assert!(
        message(Figure::Scatter(Scatter {
            groups: vec![],
            ..scatter()
        }))
        .contains("nothing to show")
    );
    let error = Figure::Lines(noise())
        .write(Path::new("chart.pdf"))
        .expect_err("refused");
    assert!(error.to_string().contains("neither .svg nor .png"));
}

#[test]
fn a_single_point_can_be_drawn() {
    let mut chart = noise();
    chart.series.truncate(1);
    chart.series[0].points.truncate(1);
    chart.marks.clear();
    Figure::Lines(chart).svg().expect("an SVG");
}

struct Example {
    width: usize,
    height: usize,
    image: Vec<u8>,
    map: Vec<f32>,
    truth: Vec<bool>,
}

/// A striped surface with a dark spot at `(x, y)`, given as shares of the sides.
fn example(width: usize, height: usize, x: f32, y: f32) -> Example {
    let mut made = Example {
        width,
        height,
        image: Vec::new(),
        map: Vec::new(),
        truth: Vec::new(),
    };
    for index in 0..width * height {
        let (column, line) = (
            (index % width) as f32 / width as f32,
            (index / width) as f32 / height as f32,
        );
        let distance = ((column - x).powi(2) + (line - y).powi(2)).sqrt();
        let stripe = if ((column + line) * 24.0) as i32 % 2 == 0 {
            190
        } else {
            150
        };
        let spot = distance < 0.12;
        made.image.extend(if spot {
            [70, 40, 30]
        } else {
            [stripe, stripe - 20, stripe - 60]
        });
        made.map.push(-1.0 + 1.6 * (-(distance / 0.15).powi(2)).exp());
        made.truth.push(spot);
    }
    made
}

impl Example {
    fn row<'a>(&'a self, caption: &'a str, file: &'a str) -> SheetRow<'a> {
        let image = Rgb8 {
            width: self.width,
            height: self.height,
            data: &self.image,
        };
        SheetRow {
            caption,
            file,
            score: 0.6,
            image,
            map: &self.map,
            threshold: -0.2,
            truth: Some(&self.truth),
        }
    }
}

#[test]
fn a_sheet_is_written_and_the_same_each_time() {
    let (folder, _keep) = gallery();
    let [square, wide, small] = [
        example(320, 320, 0.3, 0.6),
        example(300, 180, 0.7, 0.4),
        example(32, 32, 0.5, 0.5),
    ];
    let unknown = SheetRow {
        truth: None,
        ..small.row("unlabelled", "camera/2026-03-01/line-4/frame_000123.png")
    };
    let misses = [square.row("scratch_neck", "test/scratch_neck/000.png"), unknown];
    let hits = [wide.row("broken_large", "test/broken_large/012.png")];
    let sections = [
        SheetSection {
            title: "Worst misses",
            rows: &misses,
        },
        SheetSection {
            title: "Best hits",
            rows: &hits,
        },
    ];
    let path = folder.join("sheet.png");
    sheet(&path, "screw: SimpleNet, protocol paper, seed 0", &sections).expect("a sheet");
    is_png_of(&path, 1284, 810);
    let first = fs::read(&path).expect("bytes");
    sheet(&path, "screw: SimpleNet, protocol paper, seed 0", &sections).expect("a sheet");
    assert_eq!(fs::read(&path).expect("bytes"), first);
}

#[test]
fn a_sheet_with_wrong_sizes_is_refused() {
    let (folder, _keep) = gallery();
    let path = folder.join("refused.png");
    let good = example(9, 7, 0.5, 0.5);
    let row = good.row("spot", "000.png");
    let message = |row: SheetRow<'_>| {
        let rows = [row];
        let sections = [SheetSection { title: "", rows: &rows }];
        sheet(&path, "sheet", &sections).expect_err("refused").to_string()
    };
    assert!(
        message(SheetRow {
            map: &good.map[1..],
            ..row
        })
        .contains("has 62 values for an image of 9 x 7")
    );
    assert!(
        message(SheetRow {
            truth: Some(&[]),
            ..row
        })
        .contains("ground truth has 0 values")
    );
    assert!(message(SheetRow { score: f32::NAN, ..row }).contains("000.png (spot): a score is NaN"));
    let image = Rgb8 {
        data: &good.image[3..],
        ..row.image
    };
    assert!(message(SheetRow { image, ..row }).contains("189 bytes, not 186"));
    let image = Rgb8 {
        width: 0,
        height: 0,
        data: &[],
    };
    assert!(message(SheetRow { image, ..row }).contains("0 x 0"));
    assert!(matches!(sheet(&path, "sheet", &[]), Err(Error::Empty { .. })));
    assert!(!path.exists());
    let rows = [row];
    let sections = [SheetSection { title: "", rows: &rows }];
    let error = sheet(&folder.join("no/such/folder.png"), "sheet", &sections).expect_err("refused");
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
