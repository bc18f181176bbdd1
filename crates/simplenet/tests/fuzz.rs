//! A short run of `examples/fuzz`: no input may make a reader panic.

#[path = "../examples/fuzz/targets.rs"]
mod targets;

use targets::{Fuzzer, Target};

fn run(target: Target, rounds: u64) -> u64 {
    let fuzzer = Fuzzer::new(target).expect("the seeds can be made");
    let taken = (0..rounds).filter(|&round| fuzzer.round(0, round).expect("files can be written"));
    taken.count() as u64
}

#[test]
fn changed_detector_files_are_refused_or_work() {
    let taken = run(Target::Model, 150);
    // Both sides of the door were seen: a file whose weights changed a little is whole.
    assert!(taken > 0 && taken < 150, "{taken} of 150 were taken");
}

#[test]
fn changed_pictures_are_refused_or_judged() {
    let taken = run(Target::Image, 150);
    assert!(taken > 0 && taken < 150, "{taken} of 150 were taken");
}

#[test]
fn changed_data_sets_are_refused_or_read() {
    let taken = run(Target::Dataset, 40);
    assert!(taken < 40, "{taken} of 40 were taken");
}
