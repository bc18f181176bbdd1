use std::fmt;

use crate::{Error, Gray8, Preprocess, Result, Sample};

/// Which pixels of a resized mask are defect. Resizing leaves fractions at the edges of a defect, and published pixel
/// AUROCs differ in what they make of them. On the scale 0 to 1, where a pixel is its byte / 255; in settings files the
/// names are `half`, `one` and `any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskRule {
    /// More than half: `> 0.5`.
    #[default]
    Half,
    /// Wholly covered: `== 1`. What SimpleNet's and PatchCore's code does (`metrics.py`: `masks.astype(int)`).
    One,
    /// Touched at all: `> 0`. What anomalib does.
    Any,
}

impl MaskRule {
    /// Whether a pixel of a resized mask is defect.
    pub fn is_defect(self, value: u8) -> bool {
        value >= self.threshold()
    }

    /// Whether each pixel of a resized mask is defect.
    pub fn apply(self, mask: &Gray8) -> Vec<bool> {
        mask.data().iter().map(|&value| self.is_defect(value)).collect()
    }

    /// The least byte that is defect.
    fn threshold(self) -> u8 {
        match self {
            MaskRule::Half => 128, // 127 / 255 < 0.5 < 128 / 255
            MaskRule::One => 255,
            MaskRule::Any => 1,
        }
    }
}

/// As in a formula: `> 0.5`, `== 1`, `> 0`.
impl fmt::Display for MaskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MaskRule::Half => "> 0.5",
            MaskRule::One => "== 1",
            MaskRule::Any => "> 0",
        })
    }
}

pub(crate) fn load(sample: &Sample, preprocess: &Preprocess, rule: MaskRule) -> Result<Vec<bool>> {
    Ok(match open_mask(sample, rule)? {
        Some(mask) => rule.apply(&preprocess.crop_image(&mask)),
        None => vec![false; preprocess.crop() * preprocess.crop()],
    })
}

/// The mask of a sample as it is stored; `None` for a normal sample, which has no defect anywhere.
///
/// Fails when an anomalous sample has no mask, or its mask cannot be decoded, is not of its image's size, or could not
/// mark anything under `rule`.
pub fn open_mask(sample: &Sample, rule: MaskRule) -> Result<Option<Gray8>> {
    if !sample.anomalous {
        return Ok(None);
    }
    let Some(path) = &sample.mask else {
        return Err(Error::NoMask {
            image: sample.source.to_string(),
        });
    };
    let mask = Gray8::open_mask(path)?;
    let (mask_size, image_size) = ((mask.width(), mask.height()), sample.source.dimensions()?);
    if mask_size != image_size {
        let image = sample.source.to_string();
        return Err(Error::MaskSize {
            mask: path.clone(),
            mask_size,
            image,
            image_size,
        });
    }
    // Masks that number their defects 1, 2, 3 would lose them all without a word.
    let largest = mask.data().iter().copied().max().unwrap_or(0);
    if largest > 0 && !rule.is_defect(largest) {
        return Err(Error::MaskValues {
            mask: path.clone(),
            largest,
            rule,
        });
    }
    Ok(Some(mask))
}
