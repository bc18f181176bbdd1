//! `cargo xtask bench cpu`, from a folder that is not the project.

use std::process::Command;

use simplenet_report::benchmarks;

#[test]
fn timings_become_rows_outside_the_project_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args([
                "bench",
                "cpu",
                "--quick",
                "--only",
                "metrics",
                "--threads",
                "1",
                "--cache",
                "cache",
            ])
            .current_dir(folder.path())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = run();
    let rows = benchmarks::read_or_empty(&folder.path().join("bench/cpu.csv")).expect("readable");
    let [row] = &rows[..] else {
        panic!("one row, not {rows:?}");
    };
    assert_eq!((&*row.subject, &*row.engine, row.threads), ("metrics", "simplenet", 1));
    assert!(row.best_ms <= row.p50_ms && row.p50_ms <= row.p99_ms, "{row:?}");
    assert!(text.contains("metrics") && text.contains("bench/cpu.csv"), "{text}");
    run();
    let again = benchmarks::read_or_empty(&folder.path().join("bench/cpu.csv")).expect("readable");
    assert_eq!(again.len(), 1, "a repeated timing takes the place of the old one");
}

#[test]
fn what_cannot_be_run_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stderr = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["bench", "cpu", "--only", "metrics", "--cache", "cache"])
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .expect("the program starts");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(stderr(&["--threads", "0"]).contains("at least one"));
    assert!(stderr(&["--weights", "resnet18"]).contains("BACKBONE=FILE"));
    let missing = stderr(&["--weights", "resnet18=none.safetensors"]);
    assert!(missing.contains("none.safetensors"), "{missing}");
}
