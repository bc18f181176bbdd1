//! PatchCore on banks of any size.

use simplenet_heads::Bank;
use simplenet_heads::patchcore::{PatchCore, PatchCoreConfig};

use super::settings::DetectorConfig;
use crate::error::Error;
use crate::method::Model;
use crate::pipeline::BankMemory;

/// PatchCore chooses its memory among about so many patches: choosing holds all of them, in 1 GiB.
const MOST_ROWS: usize = 1 << 21;

/// PatchCore with no more patches than it may remember, chosen among no more than fit in memory.
pub(super) fn fit(bank: &Bank, patchcore: &PatchCoreConfig, config: &DetectorConfig) -> Result<Model, Error> {
    let sampled = match rows_per_square(bank.images(), bank.rows_per_image(), MOST_ROWS) {
        all if all == bank.rows_per_image() => None,
        some => {
            let memory = BankMemory::new(config.memory);
            Some(bank.sample(some, config.seed, memory.budget, &memory.spill)?)
        }
    };
    let bank = sampled.as_ref().unwrap_or(bank);
    let mut wanted = *patchcore;
    let most = config.max_vectors as f64 / bank.rows() as f64;
    wanted.coreset.fraction = wanted.coreset.fraction.min(most);
    let fitted = PatchCore::fit(bank, &wanted, config.seed)?;
    Ok(Model::PatchCore(Box::new(fitted)))
}

/// How many patches of every square are chosen among, so that there are no more than `most`: every square keeps some, because
/// squares are places of pictures, and a place that is not learnt from is a defect in every picture.
fn rows_per_square(squares: usize, rows: usize, most: usize) -> usize {
    (most / squares).clamp(1, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_square_keeps_patches() {
        for (squares, rows, expected) in [
            (2048, 1024, 1024),
            (2049, 1024, 1023),
            (4500, 1024, 466),
            (1 << 22, 1024, 1),
        ] {
            assert_eq!(rows_per_square(squares, rows, 1 << 21), expected, "{squares} squares");
        }
    }
}
