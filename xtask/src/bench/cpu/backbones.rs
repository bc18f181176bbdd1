//! Images to feature maps of layer2 and layer3, beside the peers on the same weights and images.

use anyhow::{Result, bail};
use simplenet_backbone::{Precision, Stage};
use simplenet_kernels::engine::{Engine, EngineConfig, FeatureMap};
use simplenet_kernels::noise::{NoiseKey, fill_normal};
use simplenet_report::Benchmark;

use super::{BATCHES, Bench, Network, PRECISIONS, SIDE, pool, precision_name};
use crate::bench::measure::{Contestant, alternate, contestant};
use crate::bench::peers::{self, distance, write_network};

/// How far another engine's feature maps may lie from ours in f32 (relative L2), by precision: beyond that it is not the
/// same network.
const TOLERANCES: [(&str, f64); 2] = [("f32", 1e-4), ("bf16", 5e-2)];

pub(super) fn run(bench: &mut Bench, network: &Network) -> Result<()> {
    let outputs = [
        network.backbone.tap(Stage::Layer2)?,
        network.backbone.tap(Stage::Layer3)?,
    ];
    let graph = network.backbone.graph();
    let isa = bench.isa;
    let compile = |precision| Engine::compile(graph, &outputs, EngineConfig { precision, isa });
    let engines = [compile(Precision::F32)?, compile(Precision::Bf16)?];
    for threads in bench.threads.clone() {
        for batch in BATCHES {
            let shape = [batch, 3, SIDE, SIDE];
            let images = images(batch);
            let pool = pool(threads)?;
            let reference = planes(&pool.install(|| engines[0].run(&images, shape))?);
            let peers = bench.peers(threads)?;
            let mut contestants: Vec<Contestant<'_>> = Vec::new();
            let mut rows = Vec::new();
            let row = |precision| Benchmark {
                model: format!("{} to layer3", network.arch),
                weights: network.weights.clone(),
                gflop: graph.macs(shape).ok().map(|macs| 2.0 * macs as f64 / 1e9),
                ..bench.row("backbone", precision, threads, batch)
            };
            for (engine, precision) in engines.iter().zip(PRECISIONS) {
                let found = planes(&pool.install(|| engine.run(&images, shape))?);
                let difference = (precision != Precision::F32).then(|| distance(&found, &reference));
                rows.push(Benchmark {
                    difference,
                    ..row(precision)
                });
                let (pool, images) = (&pool, &images);
                contestants.push(contestant(move || Ok(pool.install(|| engine.run(images, shape))?)));
            }
            if let Some(peers) = &peers {
                let folder = tempfile::tempdir()?;
                let described = write_network(folder.path(), graph, &outputs, &images, shape)?;
                peers.borrow_mut().load(&described)?;
                let known = peers.borrow().engines.clone();
                for peers::Engine { name, isa, precisions } in known {
                    for precision in PRECISIONS {
                        let written = precision_name(precision);
                        if !precisions.iter().any(|known| known == written) {
                            continue;
                        }
                        let found = peers.borrow_mut().outputs(&name, written, folder.path())?;
                        let difference = distance(&found, &reference);
                        check(&name, written, difference)?;
                        rows.push(Benchmark {
                            engine: name.clone(),
                            isa: isa.clone(),
                            difference: Some(difference),
                            ..row(precision)
                        });
                        let (name, peers) = (name.clone(), peers.clone());
                        contestants.push(Box::new(move || peers.borrow_mut().run(&name, written)));
                    }
                }
            }
            let timings = alternate(bench.budget, &mut contestants)?;
            drop(contestants);
            let rows = timings.into_iter().zip(rows);
            bench.push(rows.map(|(timing, row)| timing.fill(row)).collect())?;
        }
    }
    Ok(())
}

fn check(engine: &str, precision: &str, difference: f64) -> Result<()> {
    let tolerance = TOLERANCES.iter().find(|(name, _)| *name == precision);
    if tolerance.is_some_and(|&(_, tolerance)| difference <= tolerance) {
        return Ok(());
    }
    bail!("feature maps of {engine} in {precision} are {difference:.1e} from ours: not the same network")
}

/// Maps one after the other, `[n, c, h, w]` each, as the peers write them.
fn planes(maps: &[FeatureMap]) -> Vec<f32> {
    let mut all = Vec::new();
    for map in maps {
        let pixels = map.h * map.w;
        for image in map.data.chunks_exact(pixels * map.c) {
            for channel in 0..map.c {
                all.extend((0..pixels).map(|pixel| image[pixel * map.c + channel]));
            }
        }
    }
    all
}

/// Normalised images `[batch, 3, SIDE, SIDE]`: normal noise, as whitened pixels are.
pub(super) fn images(batch: usize) -> Vec<f32> {
    let mut images = vec![0.0; batch * 3 * SIDE * SIDE];
    fill_normal(&mut images, NoiseKey { seed: 1, stream: 0 }, 0, 1.0);
    images
}
