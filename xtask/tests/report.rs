//! Shards, `report` and `compare`, in a project of their own.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{cells, data, stderr};
use tempfile::TempDir;

const DOCUMENT: &str = "# Results\n\nProse.\n\n<!-- BEGIN: table3-here -->\n<!-- END: table3-here -->\n\nMore.\n\
                        <!-- BEGIN: fig6-elsewhere -->\nkept\n<!-- END: fig6-elsewhere -->\n";

/// Experiments, documents and a data set of two categories, and nothing else of the project.
struct Project {
    folder: TempDir,
    data: PathBuf,
}

impl Project {
    fn new() -> Project {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&here.join("experiments"), &root.join("xtask/experiments"));
        copy(&here.join("../docs/paper"), &root.join("docs/paper"));
        fs::create_dir_all(root.join("docs/figures")).unwrap();
        fs::create_dir(root.join("data")).unwrap();
        fs::copy(here.join("../data/manifest.toml"), root.join("data/manifest.toml")).unwrap();
        fs::create_dir(root.join("results")).unwrap();
        fs::write(root.join("docs/reproduction.md"), DOCUMENT).unwrap();
        fs::write(root.join("README.md"), "# Readme\n").unwrap();
        let data = data(root, &["grain", "ring"]);
        Project { folder, data }
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("MVTEC_AD");
        command.output().unwrap()
    }

    fn reproduce(&self, run: &str, more: &[&str]) -> Output {
        let (out, data) = (format!("results/{run}"), self.data.to_str().unwrap());
        let fixed = [
            "reproduce",
            "table3",
            "--backbone",
            "efficientnet_lite0",
            "--epochs",
            "2",
            "--data",
            data,
            "--out",
            &out,
        ];
        let output = self.xtask(&[&fixed[..], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Everything but times.
const NUMBERS: [&str; 10] = [
    "variant",
    "category",
    "selection",
    "epoch",
    "image_auroc",
    "pixel_auroc",
    "aupro",
    "image_f1_max",
    "pixel_ap",
    "config_sha256",
];

#[test]
fn shards_are_disjoint_and_their_union_is_the_whole_row_for_row() {
    let project = Project::new();
    project.reproduce("whole", &[]);
    for shard in ["0/3", "1/3", "2/3"] {
        project.reproduce("parts", &["--shard", shard]);
    }
    let sizes = [0, 1, 2].map(|part| {
        let csv = project.path(&format!("results/parts/table3.shard-{part}-of-3.csv"));
        cells(&csv, &NUMBERS).len()
    });
    // 8 cells on 2 banks: fewer banks than parts, so the cells themselves are dealt.
    assert_eq!(sizes.iter().sum::<usize>(), 16);
    assert!(sizes.iter().all(|size| (4..=6).contains(size)), "{sizes:?}");

    let output = project.xtask(&["report"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = |run: &str| {
        let mut rows = cells(&project.path(&format!("results/{run}/table3.csv")), &NUMBERS);
        rows.sort();
        rows
    };
    assert_eq!(rows("whole"), rows("parts"));
    let tables = |run: &str| {
        project
            .text(&format!("results/{run}/reproduction.md"))
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(tables("whole"), tables("parts"));

    let again = project.reproduce("parts", &["--list"]);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        text.contains("8 cells on 2 feature banks, 0 to do"),
        "shards are finished cells: {text}"
    );
}

#[test]
fn documents_are_renewed_from_rows_and_the_check_fails_when_they_are_stale() {
    let project = Project::new();
    project.reproduce("here", &[]);
    let document = project.text("docs/reproduction.md");
    assert!(
        document.contains("    cargo xtask reproduce table3 --backbone efficientnet_lite0"),
        "{document}"
    );
    assert!(
        document.contains("Ours-w/o-FA") && document.contains("kept"),
        "{document}"
    );
    let differs = document
        .lines()
        .find(|line| line.starts_with("Other than in protocol `paper`"));
    let differs = differs.unwrap_or_else(|| panic!("{document}"));
    assert!(differs.contains("train.epochs = 2 (there 160)"), "{differs}");
    assert!(
        !differs.contains("features.backbone") && !differs.contains("loss"),
        "the variants are meant to differ: {differs}"
    );
    let check = || project.xtask(&["report", "--check"]);
    assert!(check().status.success(), "{}", stderr(&check()));
    assert!(
        stderr(&check()).contains("not checked: block fig6-elsewhere"),
        "{}",
        stderr(&check())
    );

    fs::write(
        project.path("docs/reproduction.md"),
        document.replace("| Ours-CE", "| Ours-ce"),
    )
    .unwrap();
    let stale = check();
    assert_eq!(stale.status.code(), Some(1));
    assert!(
        stderr(&stale).contains("docs/reproduction.md (block table3-here)"),
        "{}",
        stderr(&stale)
    );
    let printed = || {
        let output = project.xtask(&["report", "here"]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(printed(), "written: docs/reproduction.md (block table3-here)\n");
    assert_eq!(project.text("docs/reproduction.md"), document);
    assert_eq!(printed(), "as the rows say: docs/reproduction.md, README.md\n");
    assert!(check().status.success());

    let output = project.xtask(&["report", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there are here"), "{}", stderr(&output));
}

#[test]
fn a_run_of_ones_own_leaves_the_documents_alone_until_they_are_told_to_show_it() {
    let project = Project::new();
    project.reproduce("local-mine", &["--only", "variant=cross-entropy"]);
    assert_eq!(project.text("docs/reproduction.md"), DOCUMENT);
    let own = project.text("results/local-mine/reproduction.md");
    assert!(own.contains("Table 3") && own.contains("Ours-CE"), "{own}");

    let output = project.xtask(&["report", "local-mine", "--as", "here"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document = project.text("docs/reproduction.md");
    assert!(document.contains("Ours-CE") && document.contains("kept"), "{document}");

    let output = project.xtask(&["report", "local-mine", "local-mine", "--as", "here"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("stands for one run"), "{}", stderr(&output));
}

#[test]
fn the_largest_differences_come_first_and_part_of_the_categories_is_not_the_paper() {
    let project = Project::new();
    project.reproduce("a", &["--only", "variant=linear-adaptor"]);
    project.reproduce("b", &["--only", "variant=linear-adaptor", "--set", "train.noise=3"]);
    let output = project.xtask(&["compare", "a", "b"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let differences: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with("table3"))
        .map(|line| line.split_whitespace().last().unwrap().parse::<f64>().unwrap().abs())
        .collect();
    assert_eq!(differences.len(), 20, "2 categories, 2 selections, 5 metrics: {text}");
    assert!(
        differences.windows(2).all(|pair| pair[0] >= pair[1]) && differences[0] > 0.0,
        "{text}"
    );
    let noted = text
        .lines()
        .find(|line| line.starts_with("Not alike: "))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(
        noted.contains("table3 linear-adaptor with train.noise = ") && !noted.contains("seeds"),
        "{noted}"
    );
    project.reproduce("c", &["--only", "variant=linear-adaptor", "--seeds", "1"]);
    let output = project.xtask(&["compare", "a", "c"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("Not alike: table3 linear-adaptor with seeds 0 and 1.\n"),
        "{text}"
    );

    let output = project.xtask(&["compare", "a", "paper"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("nothing of `a` can be compared with `paper`"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("hint: the numbers in docs/paper are of MVTec AD"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_choice_that_no_experiment_has_is_an_error() {
    let project = Project::new();
    let output = project.xtask(&["reproduce", "all", "--quick", "--list", "--only", "category=nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.contains("skipped: ") && message.contains("error: `--only category=nowhere` matches nothing"),
        "{message}"
    );
}

#[test]
fn an_average_over_all_categories_stands_beside_the_paper() {
    let project = Project::new();
    project.reproduce("a", &["--only", "variant=linear-adaptor"]);
    let rows = project.text("results/a/table3.csv");
    let mut lines = rows.lines();
    let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
    let columns: Vec<&str> = header.split(',').collect();
    let with = |category: &str, variant: &str, seed: &str, auroc: &str| {
        let mut row: Vec<&str> = row.split(',').collect();
        for (column, value) in [
            ("experiment", "table1"),
            ("variant", variant),
            ("protocol", "paper"),
            ("dataset", "mvtec"),
            ("category", category),
            ("selection", "best"),
            ("seed", seed),
            ("image_auroc", auroc),
        ] {
            row[columns.iter().position(|name| *name == column).unwrap()] = value;
        }
        row.join(",")
    };
    let mvtec = [
        "bottle",
        "cable",
        "capsule",
        "carpet",
        "grid",
        "hazelnut",
        "leather",
        "metal_nut",
        "pill",
        "screw",
        "tile",
        "toothbrush",
        "transistor",
        "wood",
        "zipper",
    ];
    let compare = |categories: &[&str]| {
        let mut text = vec![header.to_string()];
        for category in categories {
            text.extend([with(category, "simplenet", "0", "1"), with(category, "padim", "0", "1")]);
            // As many seeds of one category do not make it count more.
            if *category == "screw" {
                text.extend(["1", "2", "3"].map(|seed| with(category, "simplenet", seed, "0")));
            }
        }
        let folder = project.path("results/full");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("table1.csv"), text.join("\n") + "\n").unwrap();
        project.xtask(&["compare", "full"])
    };
    let output = compare(&mvtec);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    let average = text
        .lines()
        .find(|line| line.contains(" average ") && line.contains("I-AUROC"));
    let average = average.unwrap_or_else(|| panic!("{text}"));
    assert!(
        average.contains("95.00") && average.contains("99.60") && average.contains("-4.60"),
        "{text}"
    );
    assert!(!text.contains("padim"), "{text}");

    let output = compare(&mvtec[..2]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("which rests on 2 of 15 categories"), "{message}");
}
