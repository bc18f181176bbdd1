//! The text of tables, from fixed rows.

mod common;

use std::fs;
use std::path::Path;

use common::row;
use simplenet_report::Selection::{Best, Last};
use simplenet_report::{
    CategoryKind, CategoryKinds, Dimension, Error, Metric, Pivot, Published, PublishedColumn, Row, pivot, table1,
};

fn paper(name: &str) -> Published {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/paper")).join(name);
    Published::read(&path).expect("published numbers")
}

fn small_kinds() -> CategoryKinds {
    let kinds = CategoryKinds::new().with("carpet", CategoryKind::Texture);
    kinds
        .with("bottle", CategoryKind::Object)
        .with("screw", CategoryKind::Object)
}

#[test]
fn table1_of_one_seed() {
    let rows = [
        row("carpet", 0, Last, 0.9712, 0.98),
        row("carpet", 0, Best, 0.9970, 0.979),
        row("bottle", 0, Last, 1.0, 0.975),
        row("bottle", 0, Best, 1.0, 0.98),
        row("screw", 0, Last, 0.9, 0.99),
        row("screw", 0, Best, 0.95, 0.992),
    ];
    let table = table1(
        &rows,
        &small_kinds(),
        &paper("table1.csv"),
        &["SimpleNet", "PatchCore 1%"],
    )
    .expect("a table");
    insta::assert_snapshot!(table.to_markdown(), @r#"
    | I-AUROC / P-AUROC, % |            last |            best |             gap | SimpleNet (published) | PatchCore 1% (published) |
    | -------------------- | --------------: | --------------: | --------------: | --------------------: | -----------------------: |
    | *textures*           |                 |                 |                 |                       |                          |
    | carpet               |     97.1 / 98.0 |     99.7 / 97.9 |     +2.6 / -0.1 |             99.7§ / – |            98.0§ / 98.9§ |
    | **average textures** | **97.1 / 98.0** | **99.7 / 97.9** | **+2.6 / -0.1** |          **99.8 / –** |                    **–** |
    | *objects*            |                 |                 |                 |                       |                          |
    | bottle               |    100.0 / 97.5 |    100.0 / 98.0 |      0.0 / +0.5 |                     – |           100.0§ / 98.5§ |
    | screw                |     90.0 / 99.0 |     95.0 / 99.2 |     +5.0 / +0.2 |                     – |            96.4§ / 99.2§ |
    | **average objects**  | **95.0 / 98.2** | **97.5 / 98.6** | **+2.5 / +0.4** |       **99.5 / 98.4** |                    **–** |
    | **average**          | **95.7 / 98.2** | **98.2 / 98.4** | **+2.5 / +0.2** |       **99.6 / 98.1** |                    **–** |

    § as quoted or measured by others
    "#);
    insta::assert_snapshot!(table.to_text(), @r#"
    I-AUROC / P-AUROC, %          last          best          gap  SimpleNet (published)  PatchCore 1% (published)
    --------------------------------------------------------------------------------------------------------------
    [textures]
    carpet                 97.1 / 98.0   99.7 / 97.9  +2.6 / -0.1              99.7§ / –             98.0§ / 98.9§
    average textures       97.1 / 98.0   99.7 / 97.9  +2.6 / -0.1               99.8 / –                         –
    [objects]
    bottle                100.0 / 97.5  100.0 / 98.0   0.0 / +0.5                      –            100.0§ / 98.5§
    screw                  90.0 / 99.0   95.0 / 99.2  +5.0 / +0.2                      –             96.4§ / 99.2§
    average objects        95.0 / 98.2   97.5 / 98.6  +2.5 / +0.4            99.5 / 98.4                         –
    average                95.7 / 98.2   98.2 / 98.4  +2.5 / +0.2            99.6 / 98.1                         –
    --------------------------------------------------------------------------------------------------------------
    § as quoted or measured by others
    "#);
}

/// A mean over fewer categories than its neighbour says so.
#[test]
fn a_category_without_masks_is_counted_for_each_metric() {
    let without_masks = Row {
        pixel_auroc: None,
        ..row("screw", 0, Last, 0.9, 0.0)
    };
    let rows = [
        row("carpet", 0, Last, 0.99, 0.975),
        row("bottle", 0, Last, 0.97, 0.985),
        without_masks,
    ];
    let text = table1(&rows, &small_kinds(), &Published::default(), &[])
        .expect("a table")
        .to_text();
    assert!(text.contains("93.5 / 98.5 (2, 1 of 2)"), "{text}");
    assert!(text.contains("95.3 / 98.0 (3, 2 of 3)"), "{text}");
    let by_dataset = Pivot {
        rows: Dimension::Dataset,
        columns: Dimension::Selection,
        metrics: &[Metric::ImageAuroc, Metric::PixelAuroc],
        published: None,
    };
    let text = pivot(&rows, &by_dataset).expect("a table").to_text();
    assert!(text.contains("95.3 / 98.0 (3, 2 of 3)"), "{text}");
}

#[test]
fn table1_of_two_seeds_with_a_failure_and_another_dataset() {
    let failed = |seed, selection| Row {
        error: Some("loss is NaN at step 12\n\nhint: lower the learning rate".into()),
        ..row("screw", seed, selection, 0.0, 0.0)
    };
    let toy = |category: &str, seed| Row {
        dataset: "toy".into(),
        ..row(category, seed, Last, 0.9, 0.8)
    };
    let rows = [
        row("bottle", 0, Last, 0.99, 0.975),
        row("bottle", 1, Last, 1.0, 0.977),
        row("bottle", 0, Best, 1.0, 0.98),
        row("bottle", 1, Best, 1.0, 0.974),
        row("screw", 0, Last, 0.9, 0.99),
        row("screw", 0, Best, 0.95, 0.992),
        failed(1, Last),
        failed(1, Best),
        toy("dots", 0),
        toy("stripes", 0),
    ];
    let kinds = CategoryKinds::mvtec().with("carpet", CategoryKind::Texture);
    let table = table1(&rows, &kinds, &Published::default(), &[]).expect("a table");
    insta::assert_snapshot!(table.to_text(), @r#"
    I-AUROC / P-AUROC, %                     last                      best          gap
    ------------------------------------------------------------------------------------
    [textures]
    carpet                                      –                         –            –
    grid                                        –                         –            –
    leather                                     –                         –            –
    tile                                        –                         –            –
    wood                                        –                         –            –
    average textures                            –                         –            –
    [objects]
    bottle                99.5 ± 0.7 / 97.6 ± 0.1  100.0 ± 0.0 / 97.7 ± 0.4  +0.5 / +0.1
    cable                                       –                         –            –
    capsule                                     –                         –            –
    hazelnut                                    –                         –            –
    metal_nut                                   –                         –            –
    pill                                        –                         –            –
    screw                         90.0 / 99.0 [1]           95.0 / 99.2 [1]  +5.0 / +0.2
    toothbrush                                  –                         –            –
    transistor                                  –                         –            –
    zipper                                      –                         –            –
    average objects         94.8 / 98.3 (2 of 10)     97.5 / 98.4 (2 of 10)  +2.8 / +0.1
    average                 94.8 / 98.3 (2 of 15)     97.5 / 98.4 (2 of 15)  +2.8 / +0.1
    [toy]
    dots                              90.0 / 80.0                         –            –
    stripes                           90.0 / 80.0                         –            –
    average toy                       90.0 / 80.0                         –            –
    ------------------------------------------------------------------------------------
    [1] failed: screw, seed 1: loss is NaN at step 12
    "#);
    let every_seed_failed = [failed(0, Last), failed(1, Last)];
    let table = table1(&every_seed_failed, &small_kinds(), &Published::default(), &[]).expect("a table");
    insta::assert_snapshot!(table.to_text(), @r#"
    I-AUROC / P-AUROC, %       last  best  gap
    ------------------------------------------
    [textures]
    carpet                        –     –    –
    average textures              –     –    –
    [objects]
    bottle                        –     –    –
    screw                 ✗ [1] [2]     –    –
    average objects               –     –    –
    average                       –     –    –
    ------------------------------------------
    [1] failed: screw, seed 0: loss is NaN at step 12
    [2] failed: screw, seed 1: loss is NaN at step 12
    "#);
}

#[test]
fn averages_of_seeds_are_those_of_complete_runs() {
    let kinds = CategoryKinds::new()
        .with("a", CategoryKind::Object)
        .with("b", CategoryKind::Object);
    // Seed 0 averages 0.8, seed 1 averages 0.9: mean 85.0, sample standard deviation 7.07.
    let rows = [
        row("a", 0, Last, 0.7, 0.5),
        row("b", 0, Last, 0.9, 0.5),
        row("a", 1, Last, 0.8, 0.5),
        row("b", 1, Last, 1.0, 0.5),
    ];
    let text = table1(&rows, &kinds, &Published::default(), &[])
        .expect("a table")
        .to_text();
    assert!(text.contains("85.0 ± 7.1 / 50.0 ± 0.0"), "{text}");
    // Without one cell, the deviation would mix seeds with categories and is left out.
    let text = table1(&rows[..3], &kinds, &Published::default(), &[])
        .expect("a table")
        .to_text();
    assert!(text.contains("82.5 / 50.0"), "{text}");
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let kinds = small_kinds();
    let first = row("bottle", 0, Last, 0.9, 0.9);
    let table = |other: Row| table1(&[first.clone(), other], &kinds, &Published::default(), &[]);
    let other = Row {
        protocol: "code".into(),
        ..row("screw", 0, Last, 0.9, 0.9)
    };
    let message = table(other).expect_err("refused").to_string();
    assert!(message.contains("protocol `paper` and `code`"), "{message}");
    let other = Row {
        config_sha256: "ffff".into(),
        ..first.clone()
    };
    let message = table(other).expect_err("refused").to_string();
    assert!(message.contains("config_sha256 `1234567890` and `ffff`"), "{message}");
    assert!(matches!(
        table1(&[], &kinds, &Published::default(), &[]),
        Err(Error::Empty { .. })
    ));
}

#[test]
fn pivot_of_an_ablation() {
    let of = |variant: &str, category: &str, selection, image, pixel| Row {
        variant: variant.into(),
        ..row(category, 0, selection, image, pixel)
    };
    let rows = [
        of("Ours", "bottle", Last, 1.0, 0.98),
        of("Ours", "screw", Last, 0.95, 0.99),
        of("Ours", "bottle", Best, 1.0, 0.981),
        of("Ours", "screw", Best, 0.98, 0.992),
        of("Ours-CE", "bottle", Last, 0.99, 0.97),
        Row {
            error: Some("stopped".into()),
            ..of("Ours-CE", "screw", Last, 0.0, 0.0)
        },
        of("Ours-w/o-FA", "bottle", Last, 0.97, 0.96),
        of("Ours-w/o-FA", "screw", Last, 0.87, 0.98),
    ];
    let published = paper("table3.csv");
    let spec = Pivot {
        rows: Dimension::Variant,
        columns: Dimension::Selection,
        metrics: &[Metric::ImageAuroc, Metric::PixelAuroc],
        published: Some(PublishedColumn {
            published: &published,
            column: "SimpleNet",
        }),
    };
    let table = pivot(&rows, &spec).expect("a table");
    insta::assert_snapshot!(table.to_text(), @r#"
    variant (I-AUROC / P-AUROC)                      last         best  SimpleNet (published)
    -----------------------------------------------------------------------------------------
    Ours                                      97.5 / 98.5  99.0 / 98.7            99.6 / 98.1
    Ours-CE                      99.0 / 97.0 (1 of 2) [1]            –          99.4* / 97.8*
    Ours-w/o-FA                               92.0 / 97.0            –                      –
    -----------------------------------------------------------------------------------------
    * derived from numbers that the paper states
    [1] failed: screw, seed 0: stopped
    "#);
    insta::assert_snapshot!(table.to_markdown(), @r#"
    | variant (I-AUROC / P-AUROC) |                     last |        best | SimpleNet (published) |
    | --------------------------- | -----------------------: | ----------: | --------------------: |
    | Ours                        |              97.5 / 98.5 | 99.0 / 98.7 |           99.6 / 98.1 |
    | Ours-CE                     | 99.0 / 97.0 (1 of 2) [1] |           – |         99.4* / 97.8* |
    | Ours-w/o-FA                 |              92.0 / 97.0 |           – |                     – |

    * derived from numbers that the paper states

    [1] failed: screw, seed 0: stopped
    "#);
    let mixed = pivot(
        &rows,
        &Pivot {
            columns: Dimension::Protocol,
            ..spec
        },
    )
    .expect_err("last and best in one cell");
    assert!(mixed.to_string().contains("selection `last` and `best`"), "{mixed}");
}

#[test]
fn every_file_of_published_numbers_reads() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/paper"));
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("docs/paper") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "csv") {
            assert!(
                !Published::read(&path).expect("reads").values().is_empty(),
                "{}",
                path.display()
            );
            files += 1;
        }
    }
    assert!(files > 0);
}
