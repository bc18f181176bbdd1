//! How long PatchCore and PaDiM take, on random features of the size of a category of MVTec AD.
//!
//! `cargo run -p simplenet-heads --example neighbours_rate [-- IMAGES PATCHES DIM]` (209 784 384: bottle at 224 px, ResNet-18)
//!
//! Two kinds of features: independent normals, where every row is about as far from every other and no search can skip
//! anything, and points near a surface of 8 dimensions, as features of photographs are.

use std::hint::black_box;
use std::time::Instant;

use simplenet_heads::padim::{Padim, PadimConfig};
use simplenet_heads::patchcore::{Coreset, Distance, PatchCore, Reweight, Sampler, Scoring, coreset_rows};
use simplenet_heads::{Bank, BankBuilder};
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm};
use simplenet_kernels::noise::{NoiseKey, fill_normal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Dimensions of the surface.
const SURFACE: usize = 8;

#[expect(clippy::print_stdout, reason = "the numbers are what this program is for")]
fn main() -> Result<()> {
    let mut sizes = [209, 784, 384];
    for (size, argument) in sizes.iter_mut().zip(std::env::args().skip(1)) {
        *size = argument.parse()?;
    }
    let [images, patches, dim] = sizes;
    let threads = rayon::current_num_threads();
    println!("{images} images of {patches} patches, {dim} channels, {threads} threads\n");
    println!("| features | method | kept | fit s | image ms |");
    println!("|---|---|---|---|---|");
    for surface in [false, true] {
        let bank = bank(images, patches, dim, surface)?;
        let kind = if surface { "surface" } else { "normal" };
        for fraction in [0.01, 0.1, 0.25] {
            let coreset = Coreset {
                fraction,
                sampler: Sampler::ApproximateGreedy { starting_points: 10 },
                projection: 128,
            };
            let scoring = Scoring {
                nearest: 1,
                distance: Distance::Euclidean,
                reweight: Reweight::Paper { neighbours: 9 },
            };
            let start = Instant::now();
            let rows = coreset_rows(&bank, &coreset, 0)?;
            let fit = start.elapsed().as_secs_f64();
            let patchcore = PatchCore::of_rows(&bank, &rows, scoring)?;
            let image = fastest(|| Ok(patchcore.score_image(bank.image(0))?))?;
            println!(
                "| {kind} | PatchCore {fraction} | {} | {fit:.2} | {image:.2} |",
                rows.len()
            );
        }
        // Of ResNet-18 and of WideResNet-50, as far as there are so many.
        for channels in [100, 550].into_iter().filter(|&channels| channels <= dim) {
            let config = PadimConfig {
                channels,
                regularisation: 0.01,
            };
            let start = Instant::now();
            let padim = Padim::fit(&bank, &config, 0)?;
            let fit = start.elapsed().as_secs_f64();
            let image = fastest(|| Ok(padim.score_image(bank.image(0))?))?;
            println!(
                "| {kind} | PaDiM {channels} | {} | {fit:.2} | {image:.2} |",
                padim.positions()
            );
        }
    }
    Ok(())
}

/// A bank of random features, the same each time.
fn bank(images: usize, patches: usize, dim: usize, surface: bool) -> Result<Bank> {
    let mut bank = BankBuilder::new(dim, patches, u64::MAX, &std::env::temp_dir())?;
    let key = |stream| NoiseKey { seed: 7, stream };
    let mut directions = vec![0.0; SURFACE * dim];
    fill_normal(&mut directions, key(0), 0, 1.0);
    let directions = MatRef::new(&directions, SURFACE, dim)?;
    let mut rows = vec![0.0; patches * dim];
    let mut places = vec![0.0; patches * SURFACE];
    for image in 0..images {
        fill_normal(
            &mut rows,
            key(1),
            (image * patches * dim) as u64,
            if surface { 0.05 } else { 1.0 },
        );
        if surface {
            fill_normal(&mut places, key(2), (image * patches * SURFACE) as u64, 0.5);
            let places = MatRef::new(&places, patches, SURFACE)?;
            gemm(
                places,
                directions,
                MatMut::new(&mut rows, patches, dim)?,
                Accumulate::Add,
            )?;
            rows.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        bank.push(&rows)?;
    }
    Ok(bank.finish()?)
}

/// Milliseconds of the fastest of some runs.
fn fastest<T>(mut run: impl FnMut() -> Result<T>) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        black_box(run()?);
        fastest = fastest.min(1e3 * start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
