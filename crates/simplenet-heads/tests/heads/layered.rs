//! Layers that are multiplied on their own grids, against rows that were joined first.

use proptest::prelude::*;
use simplenet_heads::{Adaptor, Error, Head, Precision, Standardizer};
use simplenet_kernels::engine::FeatureMap;
use simplenet_kernels::patch::{Layer, code_embed, code_layers, mean_embed, mean_layers};

use crate::support::{ADAPTORS, bank_of, floats, head, largest, largest_difference};

fn map(n: usize, h: usize, w: usize, c: usize, seed: u64) -> FeatureMap {
    let data = floats(n * h * w * c, seed);
    FeatureMap { n, h, w, c, data }
}

/// A head for `dim` channels that standardises them.
fn trained(dim: usize, adaptor: Adaptor, seed: u64) -> Head {
    let mut head: Head = head(dim, 37, adaptor, seed);
    let bank = bank_of(4, 30, dim, 0.7, seed);
    head.set_standardizer(Standardizer::fit(&bank))
        .expect("as many channels");
    head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Both embeddings, grids that divide and that do not, more images than are scored at once.
    #[test]
    fn layers_have_the_scores_of_joined_rows(
        n in prop::sample::select(vec![1usize, 2, 9]), (h, w) in prop::sample::select(vec![(4usize, 6usize), (7, 5), (20, 20)]),
        depth in 1usize..4, patch in prop::sample::select(vec![1usize, 3]), code in any::<bool>(), seed in 0u64..1000,
    ) {
        let sizes = [(h, w, 7), (h.div_ceil(2), w.div_ceil(2), 12), (3, 2, 5)];
        let maps: Vec<FeatureMap> = sizes[..depth].iter().zip(seed..).map(|(&(h, w, c), seed)| map(n, h, w, c, seed)).collect();
        let maps: Vec<&FeatureMap> = maps.iter().collect();
        // 17 and 13 do not divide: bins overlap, within layers and between them.
        let (rows, layers) = match code {
            true => (code_embed(&maps, patch, 17, 13), code_layers(&maps, patch, 17, 13)),
            false => (mean_embed(&maps, patch), mean_layers(&maps, patch)),
        };
        let (rows, layers) = (rows.expect("maps that fit"), layers.expect("maps that fit"));
        let columns: Vec<_> = layers.iter().map(|layer| layer.columns.clone()).collect();
        for adaptor in ADAPTORS {
            let head = trained(rows.dim, adaptor, seed);
            let Some(scorer) = head.layered_scorer(&columns, Precision::F32).expect("columns of the head") else {
                prop_assert!(adaptor == Adaptor::Mlp, "{adaptor:?} is linear");
                continue;
            };
            let expected = head.score(&rows.data).expect("rows of the head");
            let found = scorer.score(&layers).expect("the layers");
            let distance = largest_difference(&found, &expected);
            prop_assert!(distance < 1e-5 * largest(&expected).max(1.0), "{adaptor:?}: {distance:e}");
        }
    }
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let head = trained(9, Adaptor::Linear { bias: false }, 1);
    for ends in [&[(0, 4)][..], &[(1, 9)], &[(0, 4), (5, 9)], &[]] {
        let columns: Vec<_> = ends.iter().map(|&(start, end)| start..end).collect();
        let refused = head.layered_scorer(&columns, Precision::F32);
        assert!(
            matches!(refused, Err(Error::Columns { .. })),
            "{columns:?} leave channels out"
        );
    }
    let refused = head.layered_scorer(&[0..4, 4..10], Precision::F32);
    let message = refused.expect_err("ten columns of nine").to_string();
    assert_eq!(
        message,
        "the layers are to have columns [0..4, 4..10], which do not make up the 9 channels of the head"
    );

    let scorer = head
        .layered_scorer(&[0..4, 4..9], Precision::F32)
        .expect("its columns")
        .expect("a linear adaptor");
    let layer = |c: usize, columns| Layer {
        share: map(1, 2, 2, c, 3),
        columns,
    };
    let other = scorer.score(&[layer(4, 0..4)]).expect_err("a layer is missing");
    assert_eq!(
        other.to_string(),
        "the layers have columns [0..4], but the scorer was made for [0..4, 4..9]"
    );
    let mut infinite = layer(5, 4..9);
    infinite.share.data[7] = f32::NAN;
    assert!(matches!(
        scorer.score(&[layer(4, 0..4), infinite]),
        Err(Error::ScoreNotFinite { .. })
    ));
}
