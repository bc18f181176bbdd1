//! PatchCore on banks of any size.

use simplenet_heads::patchcore::{PatchCore, PatchCoreConfig};
use simplenet_heads::{Bank, BankBuilder};

use super::settings::DetectorConfig;
use crate::error::Error;
use crate::method::Model;
use crate::pipeline::BankMemory;

/// PatchCore chooses its memory among about so many patches: choosing holds all of them, in 1 GiB.
const MOST_ROWS: usize = 1 << 21;

/// PatchCore with no more patches than it may remember, chosen among no more than fit in memory.
pub(super) fn fit(bank: &Bank, patchcore: &PatchCoreConfig, config: &DetectorConfig) -> Result<Model, Error> {
    let thinned = match bank.rows().div_ceil(MOST_ROWS) {
        1 => None,
        step => Some(thin(bank, config, step)?),
    };
    let bank = thinned.as_ref().unwrap_or(bank);
    let mut wanted = *patchcore;
    let most = config.max_vectors as f64 / bank.rows() as f64;
    wanted.coreset.fraction = wanted.coreset.fraction.min(most);
    let fitted = PatchCore::fit(bank, &wanted, config.seed)?;
    Ok(Model::PatchCore(Box::new(fitted)))
}

/// Every `step`th square of a bank.
fn thin(bank: &Bank, config: &DetectorConfig, step: usize) -> Result<Bank, Error> {
    let memory = BankMemory::new(config.memory);
    let mut thinned = BankBuilder::new(bank.dim(), bank.rows_per_image(), memory.budget, &memory.spill)?;
    for square in (0..bank.images()).step_by(step) {
        thinned.push(bank.image(square))?;
    }
    Ok(thinned.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bank_is_thinned_evenly() -> Result<(), Error> {
        let mut bank = BankBuilder::new(1, 4, 1 << 20, &std::env::temp_dir())?;
        for square in 0..10 {
            bank.push(&[square as f32; 4])?;
        }
        let thinned = thin(&bank.finish()?, &DetectorConfig::default(), 3)?;
        let kept: Vec<f32> = (0..thinned.images()).map(|square| thinned.image(square)[0]).collect();
        assert_eq!(kept, [0.0, 3.0, 6.0, 9.0]);
        Ok(())
    }
}
