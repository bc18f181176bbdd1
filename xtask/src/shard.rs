//! Splitting a plan over machines that know nothing of one another.

use crate::plan::Cell;

/// Cost of extracting the features of a bank, in epochs of training on it: what it is on a processor with ResNet-18.
const EXTRACTION_IN_EPOCHS: usize = 10;

/// Part `index` of `count`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

impl Shard {
    /// Parses `i/n`.
    pub(crate) fn parse(text: &str) -> Result<Shard, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            Some((index, count)) => Err(format!("part {index} of {count} does not exist; parts count from 0")),
            None => Err("expected I/N, for example 0/3".into()),
        }
    }

    /// As in file names.
    pub(crate) fn name(self) -> String {
        format!("shard-{}-of-{}", self.index, self.count)
    }

    /// The cells of this part. It depends on the plan alone, not on what is done: every machine cuts the same way. Cells
    /// that train on one feature bank stay together, unless there are more parts than banks; the largest bundles go first, each
    /// to the part that has least.
    pub(crate) fn select(self, cells: Vec<Cell>) -> Vec<Cell> {
        let mut bundles: Vec<Vec<Cell>> = Vec::new();
        for cell in cells {
            match bundles.last_mut() {
                Some(bundle) if bundle[0].shares_bank(&cell) => bundle.push(cell),
                _ => bundles.push(vec![cell]),
            }
        }
        if bundles.len() < self.count {
            bundles = bundles.into_iter().flatten().map(|cell| vec![cell]).collect();
        }
        let cost = |bundle: &[Cell]| {
            let epochs: usize = bundle.iter().map(|cell| cell.config.train.epochs).sum();
            EXTRACTION_IN_EPOCHS + epochs
        };
        let mut order: Vec<usize> = (0..bundles.len()).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(cost(&bundles[index])), index));
        let mut loads = vec![0; self.count];
        let mut mine = vec![false; bundles.len()];
        for index in order {
            let lightest = (0..self.count).min_by_key(|&part| loads[part]).unwrap_or(0);
            loads[lightest] += cost(&bundles[index]);
            mine[index] = lightest == self.index;
        }
        let kept = bundles
            .into_iter()
            .zip(mine)
            .filter_map(|(bundle, mine)| mine.then_some(bundle));
        kept.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Shard;

    #[test]
    fn a_part_is_below_the_number_of_parts() {
        assert_eq!(Shard::parse("2/3"), Ok(Shard { index: 2, count: 3 }));
        for wrong in ["3/3", "0/0", "1", "a/2", "-1/2"] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
