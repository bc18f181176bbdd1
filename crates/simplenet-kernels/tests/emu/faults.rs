//! The emulator finds what it is there to find: kernels/emu/faults.cu has kernels with one mistake each.

use half::bf16;

use crate::harness::{Argument, Array, Launch, ORDERS, Shape, arguments, launch, launch_all};

fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| i as f32 + 1.0).collect()
}

/// Runs a kernel `(from, to, fault)` in all orders; the error, or whether all results were as `want`.
fn run(kernel: &str, shape: Shape, from: &[f32], want: &[f32], fault: i32) -> Vec<Result<bool, String>> {
    let from = Array::new(from);
    ORDERS
        .iter()
        .map(|&order| {
            let to = Array::filled(want.len(), 0.0_f32);
            launch(kernel, shape, order, &arguments![&from, &to, fault])?;
            Ok(to.to_vec() == want)
        })
        .collect()
}

fn reversed_blocks(from: &[f32], block: usize) -> Vec<f32> {
    from.chunks(block).flat_map(|part| part.iter().rev().copied()).collect()
}

fn all_right(runs: &[Result<bool, String>]) -> bool {
    runs.iter().all(|run| *run == Ok(true))
}

fn some_wrong(runs: &[Result<bool, String>]) -> bool {
    runs.contains(&Ok(false))
}

fn all_say(runs: &[Result<bool, String>], text: &str) -> bool {
    runs.iter()
        .all(|run| run.as_ref().is_err_and(|error| error.contains(text)))
}

#[test]
fn a_correct_kernel_passes_in_every_order() {
    let from = ramp(3 * 96);
    let want = reversed_blocks(&from, 96);
    assert!(all_right(&run("reverse_block", Shape::line(3, 96), &from, &want, 0)));
    let shape = Shape {
        shared: 4 * 4 * 64,
        ..Shape::line(2, 64)
    };
    let from = ramp(2 * 256);
    assert!(all_right(&run(
        "reverse_copied",
        shape,
        &from,
        &reversed_blocks(&from, 256),
        0
    )));
    let swapped: Vec<f32> = (0..64_usize).map(|i| from[i ^ 1]).collect();
    assert!(all_right(&run(
        "swap_neighbours",
        Shape::line(1, 64),
        &from[..64],
        &swapped,
        0
    )));
}

#[test]
fn a_missing_barrier_shows_as_wrong_results() {
    let from = ramp(3 * 96);
    let want = reversed_blocks(&from, 96);
    let runs = run("reverse_block", Shape::line(3, 96), &from, &want, 1);
    assert!(some_wrong(&runs), "{runs:?}");
    let swapped: Vec<f32> = (0..64_usize).map(|i| from[i ^ 1]).collect();
    let runs = run("swap_neighbours", Shape::line(1, 64), &from[..64], &swapped, 1);
    assert!(some_wrong(&runs), "{runs:?}");
}

#[test]
fn a_barrier_that_some_lanes_miss_is_an_error() {
    let from = ramp(96);
    let want = reversed_blocks(&from, 96);
    let runs = run("reverse_block", Shape::line(1, 96), &from, &want, 2);
    assert!(all_say(&runs, "which 95 threads ended without"), "{runs:?}");
    let runs = run("swap_neighbours", Shape::line(1, 64), &ramp(64), &ramp(64), 2);
    assert!(all_say(&runs, "leaves it out"), "{runs:?}");
    let runs = run("swap_neighbours", Shape::line(1, 64), &ramp(64), &ramp(64), 3);
    assert!(all_right(&runs) || some_wrong(&runs), "{runs:?}"); // the others exit, and only the living count
}

#[test]
fn an_index_outside_a_shared_array_is_an_error() {
    let from = ramp(256);
    let runs = run(
        "reverse_block",
        Shape::line(1, 256),
        &from,
        &reversed_blocks(&from, 256),
        3,
    );
    assert!(
        all_say(&runs, "thread (0, 0, 0): index outside a static array"),
        "{runs:?}"
    );
}

#[test]
fn asynchronous_copies_count_only_when_waited_for() {
    let shape = Shape {
        shared: 4 * 4 * 64,
        ..Shape::line(2, 64)
    };
    let from = ramp(2 * 256);
    let want = reversed_blocks(&from, 256);
    for (fault, what) in [(1, "no wait"), (2, "no barrier"), (3, "a copy while others read")] {
        let runs = run("reverse_copied", shape, &from, &want, fault);
        assert!(some_wrong(&runs), "{what}: {runs:?}");
    }
}

/// Doubles twice, in two launches of which the second may overlap the first; the second has the fault.
fn double_twice(order: u32, fault: i32) -> Result<Vec<f32>, String> {
    let blocks = 8;
    let shape = Shape::line(blocks, 64);
    let len = 64 * blocks as usize;
    let (from, once, twice) = (
        Array::new(&ramp(len)),
        Array::filled(len, 0.0_f32),
        Array::filled(len, 0.0_f32),
    );
    let first = arguments![&from, &once, 0];
    // Fault 3 writes to what the first launch reads.
    let second = arguments![&once, if fault == 3 { &from } else { &twice }, fault];
    let launch = |overlaps, arguments| Launch {
        kernel: "double_overlapping",
        shape,
        order,
        overlaps,
        arguments,
    };
    launch_all(&[launch(false, &first), launch(true, &second)])?;
    Ok(if fault == 3 { once } else { twice }.to_vec())
}

#[test]
fn an_overlapping_launch_waits_in_every_thread() {
    let want: Vec<f32> = ramp(512).iter().map(|value| 4.0 * value).collect();
    for order in ORDERS {
        assert_eq!(double_twice(order, 0), Ok(want.clone()));
        let error = double_twice(order, 1).unwrap_err();
        assert!(
            error.contains("thread (40, 0, 0): ends without having waited"),
            "{error}"
        );
    }
}

#[test]
fn what_an_overlapping_launch_does_too_early_shows_as_wrong_results() {
    for order in ORDERS {
        // It reads what the first launch is going to write, or spoils what that one is going to read.
        for (fault, factor) in [(2, 4.0), (3, 2.0)] {
            let want: Vec<f32> = ramp(512).iter().map(|value| factor * value).collect();
            assert_ne!(
                double_twice(order, fault).unwrap(),
                want,
                "fault {fault}, order {order}"
            );
        }
    }
}

#[test]
fn blocks_that_meet_see_what_all_of_them_wrote() {
    let run = |order: u32, blocks: u32, fault: i32| {
        let (parts, arrivals) = (Array::filled(blocks as usize, f32::NAN), Array::filled(1, 0_i32));
        let sums = Array::filled(32 * blocks as usize, 0.0_f32);
        // Twice, since the first time leaves the count of arrivals to the second.
        for _ in 0..2 {
            let arguments = arguments![&parts, &arrivals, &sums, fault];
            launch("sum_of_blocks", Shape::line(blocks, 32), order, &arguments)?;
        }
        let want = (blocks * (blocks + 1) / 2) as f32;
        Ok::<_, String>(sums.to_vec().iter().all(|sum| *sum == want) && arrivals.to_vec() == [0])
    };
    for order in ORDERS {
        for blocks in [1, 2, 5, 6] {
            assert_eq!(run(order, blocks, 0), Ok(true), "{blocks} blocks, order {order}");
        }
        let error = run(order, 5, 2).unwrap_err();
        assert!(
            error.contains("for other blocks, which never come; 5 of 5 have begun"),
            "{error}"
        );
        // More than there are processors.
        let error = run(order, 8, 0).unwrap_err();
        assert!(error.contains("6 of 8 have begun, and 6 can be under way"), "{error}");
    }
}

#[test]
fn blocks_that_do_not_meet_miss_what_others_write() {
    for order in ORDERS {
        let (parts, arrivals) = (Array::filled(5, f32::NAN), Array::filled(1, 0_i32));
        let sums = Array::filled(32 * 5, 0.0_f32);
        launch(
            "sum_of_blocks",
            Shape::line(5, 32),
            order,
            &arguments![&parts, &arrivals, &sums, 1],
        )
        .unwrap();
        assert!(sums.to_vec().iter().any(|sum| sum.is_nan()), "order {order}");
    }
}

#[test]
fn arrays_and_dynamic_shared_memory_are_guarded() {
    let shape = Shape {
        shared: 4 * 4 * 64,
        ..Shape::line(2, 64)
    };
    let from = ramp(2 * 256);
    let want = reversed_blocks(&from, 256);
    for fault in [4, 5] {
        let runs = run("reverse_copied", shape, &from, &want, fault);
        assert!(all_say(&runs, "access outside its arrays"), "{fault}: {runs:?}");
    }
    // Too few bytes for a page: the canary beside the array tells.
    let from = ramp(4);
    let to = Array::filled(3, 0.0_f32);
    let shape = Shape {
        shared: 16,
        ..Shape::line(1, 1)
    };
    let error = launch("reverse_copied", shape, 0, &arguments![&Array::new(&from), &to, 0]);
    assert!(error.is_err_and(|error| error.contains("beside the array of argument 1")));
}

#[test]
fn wrong_arguments_and_shapes_are_refused() {
    let array = Array::filled(32, 0.0_f32);
    let say = |arguments: &[Argument<'_>], shape| launch("reverse_block", shape, 0, arguments).unwrap_err();
    assert_eq!(
        say(&arguments![&array, &array, 0_i64], Shape::line(1, 32)),
        "reverse_block takes p8 p8 i4 , not p8 p8 i8 "
    );
    assert!(say(&arguments![&array, &array], Shape::line(1, 32)).contains("not p8 p8 "));
    assert!(say(&arguments![&array, &array, 0], Shape::line(1, 1025)).contains("cannot be launched"));
    assert!(
        launch("nobody", Shape::line(1, 1), 0, &[])
            .unwrap_err()
            .contains("no such kernel")
    );
}

fn numbers(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * step) % 23) as f32 * 0.25 - 2.0).collect()
}

fn narrow(values: &[f32]) -> Array<bf16> {
    Array::new(&values.iter().map(|&value| bf16::from_f32(value)).collect::<Vec<_>>())
}

/// Each with more digits than TF32 has, which the matrix units do not see.
fn with_more_digits(values: &[f32]) -> Array<f32> {
    let more = |value: &f32| f32::from_bits(value.to_bits() | 0x1fff);
    Array::new(&values.iter().map(more).collect::<Vec<_>>())
}

/// a [rows, depth] times b [columns, depth] transposed.
fn product(a: &[f32], b: &[f32], rows: usize, columns: usize, depth: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            let pairs = a[row * depth..][..depth].iter().zip(&b[column * depth..][..depth]);
            out.push(pairs.map(|(x, y)| x * y).sum());
        }
    }
    out
}

#[test]
fn matrix_instructions_multiply_matrices() {
    let (a, b) = (numbers(256, 7), numbers(128, 5));
    let want = product(&a, &b, 16, 8, 16); // exact: small multiples of 1/16
    let (a, b) = (narrow(&a), narrow(&b));
    for order in ORDERS {
        let d = Array::filled(128, 0.0_f32);
        let run = |threads| {
            launch(
                "multiply_tile_bf16",
                Shape::line(1, threads),
                order,
                &arguments![&a, &b, &d],
            )
        };
        run(32).unwrap();
        assert_eq!(d.to_vec(), want);
        assert!(run(16).is_err());
    }
    let (a, b) = (numbers(128, 7), numbers(64, 5));
    let want = product(&a, &b, 16, 8, 8);
    let (a, b) = (with_more_digits(&a), with_more_digits(&b));
    for order in ORDERS {
        let d = Array::filled(128, 0.0_f32);
        let run = |threads| {
            launch(
                "multiply_tile_tf32",
                Shape::line(1, threads),
                order,
                &arguments![&a, &b, &d],
            )
        };
        run(32).unwrap();
        assert_eq!(d.to_vec(), want);
        assert!(run(16).is_err());
    }
}

#[test]
fn a_warpgroup_multiplies_when_waited_for() {
    for (kernel, depth) in [("multiply_tiles_bf16", 64), ("multiply_tiles_tf32", 32)] {
        let (a, b) = (numbers(64 * depth, 7), numbers(64 * depth, 5));
        let want = product(&a, &b, 64, 64, depth);
        let (narrow_a, narrow_b) = (narrow(&a), narrow(&b));
        let (wide_a, wide_b) = (with_more_digits(&a), with_more_digits(&b));
        let run = |fault: i32| {
            let mut right = 0;
            for order in ORDERS {
                let d = Array::filled(4096, 0.0_f32);
                let arguments = match depth {
                    64 => arguments![&narrow_a, &narrow_b, &d, fault],
                    _ => arguments![&wide_a, &wide_b, &d, fault],
                };
                launch(kernel, Shape::line(1, 128), order, &arguments).unwrap();
                right += usize::from(d.to_vec() == want);
            }
            right
        };
        assert_eq!(run(0), ORDERS.len(), "{kernel}");
        assert!(run(1) < ORDERS.len(), "{kernel}: sums read before the wait");
        assert!(run(2) < ORDERS.len(), "{kernel}: a tile overwritten before the wait");
    }
}

#[test]
fn shuffles_votes_and_sums() {
    let from: Vec<f32> = (0..64).map(|i| if i % 3 == 0 { -1.0 } else { i as f32 }).collect();
    let array = Array::new(&from);
    for order in ORDERS {
        let to = Array::filled(64 * 6, 0.0_f32);
        launch("collect", Shape::line(1, 64), order, &arguments![&array, &to]).unwrap();
        for (thread, row) in to.to_vec().chunks(6).enumerate() {
            let warp = &from[thread / 32 * 32..][..32];
            let half = &from[thread / 16 * 16..][..16];
            let positive = |values: &[f32]| values.iter().filter(|value| **value > 0.0).count() as f32;
            let lower_half = if thread % 32 < 16 { half.iter().sum() } else { 0.0 };
            let want = [
                warp.iter().sum(),
                half.iter().sum(),
                warp[..=thread % 32].iter().sum(),
                positive(warp),
                positive(&from),
                lower_half,
            ];
            assert_eq!(row, want, "thread {thread}, order {order}");
        }
    }
}
