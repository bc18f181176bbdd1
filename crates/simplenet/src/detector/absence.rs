//! Whether an image shows what good images show.
//!
//! The score of a patch says that something is there which should not be. Where nothing is there at all, as on an empty table, no
//! patch need be odd: good images show the table as well. So the question is put the other way round. Some patches of good images,
//! as unlike one another as can be, are *landmarks*. How far it is from each of them to the nearest patch of an image is the image's
//! *profile*; where a part is not there, its landmarks are far. An image lacks what a good image shows by the root mean square of
//! what its profile has more, and nothing is taken off for what it has less; what it lacks of the good image that it resembles most
//! is its *absence*.
//!
//! It is told in units of what good images that were held out lack of the others, so that the limit is 1.

use rayon::prelude::*;
use simplenet_heads::patchcore::{Landmarks, greedy_k_center};

use super::card::{AbsenceCard, Lacking};
use super::settings::DetectorConfig;
use super::training::Images;
use crate::error::Error;
use crate::pipeline::BankMemory;

/// Landmarks. What is unlike all others comes first, so a small part on a large ground gets more of them than its size.
const LANDMARKS: usize = 128;
/// Patches that they are chosen among.
const CANDIDATES: usize = 1 << 15;
/// Profiles that are kept, evenly spaced over the images.
const PROFILES: usize = 1024;
/// An image is defective where it lacks so many times as much as the median of held-out good ones. In the sets of
/// results/detector/absence.csv other good ones lack less than half of that, and empty pictures lie beyond it, but for those of a texture
/// whose corner looks like all of it.
const FACTOR: f32 = 5.0;
/// And so many times as much as any of them. Where that decides, one of them is odd, or of a kind that there are few of, whose next one
/// is no better known.
const MARGIN: f32 = 1.5;

/// What good images show.
#[derive(Debug)]
pub(super) struct Absence {
    pub(super) landmarks: Landmarks,
    /// `[images, landmarks]`.
    pub(super) profiles: Vec<f32>,
    /// What counts as 1.
    unit: f32,
}

/// What a training finds out.
pub(super) struct Fitted {
    pub(super) absence: Absence,
    pub(super) card: AbsenceCard,
    /// Held-out images that lack so much that they decide what is too much; those that lack the most first.
    pub(super) lacking: Vec<Lacking>,
}

/// How far the nearest patch of an image is from each landmark, of those patches that were seen.
#[derive(Debug, Clone)]
pub(super) struct Profile(Vec<f32>);

impl Absence {
    /// From training images, and what those lack that were held out of each part. `None` where images are so much alike that none
    /// lacks anything.
    pub(super) fn fit(images: &Images, config: &DetectorConfig) -> Result<Option<Fitted>, Error> {
        let count = images.names.len();
        let mut absence = Absence {
            landmarks: Landmarks::new(landmarks(images, config)?, images.learnt().dim())?,
            profiles: Vec::new(),
            unit: 1.0,
        };
        let mut profiles = Vec::with_capacity(count);
        for image in 0..count {
            let mut profile = absence.profile();
            for rows in images.learnt_rows(image) {
                absence.see(&mut profile, rows)?;
            }
            profiles.push(profile);
        }
        let kept: Vec<usize> = match count {
            few if few <= PROFILES => (0..few).collect(),
            many => (0..PROFILES).map(|index| index * many / PROFILES).collect(),
        };
        let fold = |image: usize| ((image + 1) * config.folds - 1) / count;
        let held_out: Vec<f32> = (0..count)
            .into_par_iter()
            .map(|image| {
                let others = kept.iter().filter(|&&other| fold(other) != fold(image));
                let lacks = others.map(|&other| lack(&profiles[image].0, &profiles[other].0));
                lacks.fold(f32::INFINITY, f32::min)
            })
            .collect();
        let mut sorted = held_out.clone();
        sorted.sort_by(f32::total_cmp);
        let (median, highest) = (sorted[count / 2], sorted[count - 1]);
        if median <= 0.0 || !highest.is_finite() {
            return Ok(None);
        }
        absence.unit = (FACTOR * median).max(MARGIN * highest);
        absence.profiles = kept
            .iter()
            .flat_map(|&image| profiles[image].0.iter().copied())
            .collect();
        let named = held_out
            .iter()
            .zip(&images.names)
            .filter(|(lacks, _)| MARGIN * **lacks > FACTOR * median);
        let mut lacking: Vec<Lacking> = named
            .map(|(&lacks, file)| Lacking {
                file: file.clone(),
                times_usual: lacks / median,
            })
            .collect();
        lacking.sort_by(|a, b| b.times_usual.total_cmp(&a.times_usual));
        Ok(Some(Fitted {
            card: AbsenceCard {
                unit: absence.unit,
                highest: highest / absence.unit,
                limit: Some(1.0),
            },
            absence,
            lacking,
        }))
    }

    /// As a file has it, with a value for each landmark in each profile; `None` where there is no profile, or a value is not usable.
    pub(super) fn from_parts(landmarks: Landmarks, profiles: Vec<f32>, unit: f32) -> Option<Absence> {
        let finite = !profiles.is_empty() && profiles.iter().all(|value| value.is_finite());
        (finite && unit > 0.0 && unit.is_finite()).then_some(Absence {
            landmarks,
            profiles,
            unit,
        })
    }

    /// The profile of an image of which no patch was seen yet.
    pub(super) fn profile(&self) -> Profile {
        Profile(vec![f32::INFINITY; self.landmarks.count()])
    }

    /// Takes the patches `[patches, dim]` of an image, or of a part of it, into its profile.
    pub(super) fn see(&self, profile: &mut Profile, rows: &[f32]) -> Result<(), Error> {
        let nearest = self.landmarks.nearest(rows)?;
        for (distance, squared) in profile.0.iter_mut().zip(nearest) {
            *distance = distance.min(squared.sqrt());
        }
        Ok(())
    }

    /// What an image lacks of the good one that it resembles most.
    pub(super) fn of(&self, profile: &Profile) -> f32 {
        let good = self.profiles.chunks_exact(self.landmarks.count());
        let lacks = good.map(|good| lack(&profile.0, good));
        lacks.fold(f32::INFINITY, f32::min) / self.unit
    }
}

/// The root mean square of how much farther the landmarks are than in a good image.
fn lack(profile: &[f32], good: &[f32]) -> f32 {
    let farther = profile
        .iter()
        .zip(good)
        .map(|(mine, its)| f64::from((mine - its).max(0.0)));
    (farther.map(|farther| farther * farther).sum::<f64>() / profile.len() as f64).sqrt() as f32
}

/// Patches of all images, as unlike one another as can be: each next one is the one that is farthest from all before.
fn landmarks(images: &Images, config: &DetectorConfig) -> Result<Vec<f32>, Error> {
    let (bank, memory) = (images.learnt(), BankMemory::new(config.memory));
    let some = (CANDIDATES / bank.images()).clamp(1, bank.rows_per_image());
    let sampled = bank.sample(some, config.seed, memory.budget, &memory.spill)?;
    // Some of very many entries.
    let (dim, entries) = (
        bank.dim(),
        (0..sampled.images()).step_by(sampled.images().div_ceil(CANDIDATES)),
    );
    let candidates: Vec<f32> = entries.flat_map(|entry| sampled.image(entry).iter().copied()).collect();
    let bounds = vec![f32::INFINITY; candidates.len() / dim];
    let chosen = greedy_k_center(&candidates, dim, bounds, LANDMARKS)?;
    Ok(chosen
        .iter()
        .flat_map(|&row| &candidates[row * dim..][..dim])
        .copied()
        .collect())
}
