//! PatchCore's scoring of an image against the same step in PyTorch: the same memory, the same patches, one after the other
//! in one run, and whether they agree.
//!
//! `cargo run -p simplenet --example patchcore_peer -- PYTHON CATEGORY-FOLDER WEIGHTS [FRACTION]`
//!
//! PYTHON has torch and numpy (`pip install torch numpy`), CATEGORY-FOLDER is one of MVTec AD's, WEIGHTS a checkpoint of
//! ResNet-18. The step is what anomalib's `PatchcoreModel` does after the backbone: Euclidean distances by matrix product,
//! the nearest memory vector of every patch, and the image's score weighted over 9 neighbours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use simplenet::{BankMemory, DetectorConfig, Pipeline};
use simplenet_backbone::{Arch, Backbone, Stage};
use simplenet_data::mvtec;
use simplenet_heads::patchcore::{Coreset, Distance, PatchCore, Reweight, Sampler, Scoring, coreset_rows};

/// Images that both sides score.
const IMAGES: usize = 20;

#[expect(clippy::print_stdout, reason = "the numbers are what this program is for")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (python, category, weights, fraction) = match &arguments[..] {
        [python, category, weights] => (python, category, weights, 0.1),
        [python, category, weights, fraction] => (python, category, weights, fraction.parse()?),
        _ => bail!("expected PYTHON CATEGORY-FOLDER WEIGHTS [FRACTION]"),
    };
    let category = PathBuf::from(category);
    let name = category
        .file_name()
        .context("the folder has no name")?
        .to_string_lossy();
    let dataset = mvtec::load(category.parent().unwrap_or(Path::new(".")), &name)?;
    let config = DetectorConfig::for_backbone(Arch::ResNet18).model;
    let backbone = Backbone::load(Arch::ResNet18, Path::new(weights), Stage::Layer3)?;
    let pipeline = Pipeline::new(&config, &backbone)?;
    let memory = BankMemory::new(4 << 30);
    let quiet = |_| Ok::<(), simplenet::Error>(());
    let (train, _) = pipeline.bank(&dataset.train, &memory, quiet)?;
    let tested = &dataset.test[..IMAGES.min(dataset.test.len())];
    let (test, _) = pipeline.bank(tested, &memory, quiet)?;

    let coreset = Coreset {
        fraction,
        sampler: Sampler::ApproximateGreedy { starting_points: 10 },
        projection: 128,
    };
    let start = Instant::now();
    let rows = coreset_rows(&train, &coreset, 0)?;
    let selecting = start.elapsed().as_secs_f64();
    let scoring = Scoring {
        nearest: 1,
        distance: Distance::Euclidean,
        reweight: Reweight::Paper { neighbours: 9 },
    };
    let patchcore = PatchCore::of_rows(&train, &rows, scoring)?;
    let threads = rayon::current_num_threads();
    println!(
        "{name}: {} of {} patches of {} channels in {selecting:.1} s; {} images of {} patches; {threads} threads",
        patchcore.vectors(),
        train.rows(),
        train.dim(),
        test.images(),
        test.rows_per_image()
    );

    let mut ours = Vec::new();
    let mut times = Vec::new();
    for image in std::iter::once(0).chain(0..test.images()) {
        let start = Instant::now();
        let scored = patchcore.score_image(test.image(image))?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        ours.push(scored);
    }
    // The first one warmed up.
    let (ours, mut times) = (&ours[1..], times.split_off(1));
    times.sort_by(f64::total_cmp);
    println!("ours     {:8.2} ms per image (median)", times[times.len() / 2]);

    let folder = tempfile::tempdir()?;
    let put = |name: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(folder.path().join(name), bytes).with_context(|| format!("failed to write `{name}`"))
    };
    put("memory", patchcore.memory().vectors())?;
    let queries: Vec<f32> = (0..test.images())
        .flat_map(|image| test.image(image).to_vec())
        .collect();
    put("queries", &queries)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/patchcore_peer/peer.py");
    let status = Command::new(python)
        .arg(&script)
        .arg(folder.path())
        .args([test.dim(), test.rows_per_image(), threads].map(|number| number.to_string()))
        .status()
        .with_context(|| format!("failed to start `{python}`"))?;
    ensure!(status.success(), "`{}` failed", script.display());

    let theirs = fs::read(folder.path().join("scores"))?;
    let (theirs, _) = theirs.as_chunks::<4>();
    let theirs: Vec<f32> = theirs.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let per_image = test.rows_per_image() + 1;
    ensure!(
        theirs.len() == ours.len() * per_image,
        "the other side scored other images"
    );
    let mut largest = 0.0_f32;
    for (ours, theirs) in ours.iter().zip(theirs.chunks_exact(per_image)) {
        for (ours, theirs) in ours.patches.iter().chain([&ours.image]).zip(theirs) {
            largest = largest.max((ours - theirs).abs() / theirs.abs().max(1.0));
        }
    }
    println!("largest relative difference of a score: {largest:.1e}");
    Ok(())
}
