//! A small data set, and the files of a run as text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use simplenet_data::toy::{self, Counts};

/// A small data set in MVTec AD's layout with the categories named.
pub(crate) fn data(folder: &Path, categories: &[&str]) -> PathBuf {
    let counts = Counts {
        train: 6,
        good: 3,
        defective: 1,
    };
    let made = toy::generate_counts(folder, 7, counts).unwrap();
    let root = folder.join("set");
    for category in categories {
        fs::create_dir_all(&root).unwrap();
        fs::rename(made.join(category), root.join(category)).unwrap();
    }
    root
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Columns of a row by name; no cell of these files holds a comma.
pub(crate) fn cells(csv: &Path, columns: &[&str]) -> Vec<Vec<String>> {
    let text = fs::read_to_string(csv).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let places: Vec<usize> = columns
        .iter()
        .map(|name| header.iter().position(|column| column == name).unwrap())
        .collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            places.iter().map(|&place| cells[place].to_string()).collect()
        })
        .collect()
}
