//! What a detector says about an image.

use std::ops::Range;

use serde::{Deserialize, Serialize, Serializer};
use simplenet_metrics::{MapShape, Regions};

use super::Scored;
use super::geometry::{Geometry, PixelBox};
use super::roi::Roi;
use crate::error::Error;

/// Good or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The score is below the threshold, or no region is as large as a defect must be.
    Good,
    /// The score is at or above the threshold, or too much is absent.
    Defect,
}

/// What a detector says about an image. All coordinates are those of the upright source image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The largest patch score; higher = more anomalous.
    pub score: f32,
    /// From here on a score is a defect.
    pub threshold: f32,
    /// How much the image lacks of what good ones show, in units of what is too much; `None` where that is not measured.
    pub absence: Option<f32>,
    /// Whether that is too much, and the image a defect whatever its score is.
    pub is_absent: bool,
    /// The decision.
    pub verdict: Verdict,
    /// Where the defect is, the most anomalous region first; empty for a good image. Where too much is absent and there is no
    /// other region, because the score is below the threshold or all are too small, it is all that is judged.
    pub regions: Vec<Region>,
    /// How many regions more there would be, were they as large as a defect must be. Why an image whose score is at or
    /// above the threshold may be good.
    pub too_small: usize,
    /// The anomaly map.
    pub map: AnomalyMap,
}

/// A connected area (8 neighbours) of an anomaly map at or above the pixel threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Region {
    /// The smallest box around it.
    #[serde(rename = "box")]
    pub bounds: PixelBox,
    /// Its area in source pixels, rounded; at least 1, also where many pixels of the map lie in one of the source.
    pub area: u64,
    /// Its most anomalous point.
    pub peak: Peak,
    /// The mean of its pixels' centres: column, row.
    #[serde(serialize_with = "tenths_of_both")]
    pub centroid: [f64; 2],
}

/// The most anomalous point of a region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Peak {
    /// Column.
    #[serde(serialize_with = "tenths")]
    pub x: f64,
    /// Row.
    #[serde(serialize_with = "tenths")]
    pub y: f64,
    /// Value of the anomaly map there.
    pub score: f32,
}

/// A coordinate for people and machines: a tenth of a pixel is finer than any map.
fn tenths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    ((value * 10.0).round() / 10.0).serialize(serializer)
}

fn tenths_of_both<S: Serializer>(values: &[f64; 2], serializer: S) -> Result<S::Ok, S::Error> {
    values.map(|value| (value * 10.0).round() / 10.0).serialize(serializer)
}

/// The anomaly map of an image: patch scores, enlarged to the resized image and smoothed.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyMap {
    /// `[rows, columns]` values of the geometry, row by row; higher = more anomalous.
    pub values: Vec<f32>,
    /// Where it lies in the source.
    pub geometry: Geometry,
    /// Which pixels lie in a region, as `values`.
    pub in_region: Vec<bool>,
}

/// What decides between good and defective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decision {
    pub(crate) threshold: f32,
    pub(crate) pixel_threshold: f32,
    /// Source pixels.
    pub(crate) min_area: u64,
    /// From here on too much is absent.
    pub(crate) max_absence: Option<f32>,
}

/// Of the way from a usual pixel of a map to a summit, where the region around that begins. A network sees more than a patch, and
/// the map is smoothed, so a defect raises the scores around it, farther the stronger it is: at the pixel threshold alone a hole of
/// a few pixels would be as large as its surroundings. Half the height is where a blurred edge lies.
const HALF: f32 = 0.5;

/// How far up from the median to the maximum a summit begins.
const SUMMIT: f32 = 0.75;

impl Decision {
    /// Decides by an image's score and by what is absent, and finds the regions of its map within the region of interest.
    pub(super) fn judge(&self, scored: Scored, geometry: Geometry, roi: Option<&Roi>) -> Result<Prediction, Error> {
        let Scored {
            score,
            map: values,
            absence,
        } = scored;
        let is_inside = |pixel: usize| roi.is_none_or(|roi| roi.is_inside(pixel));
        let mut in_region = vec![false; values.len()];
        let mut regions = Vec::new();
        let mut too_small = 0;
        if score >= self.threshold {
            let inside = values.iter().enumerate().filter(|(pixel, _)| is_inside(*pixel));
            let level = self.level(inside.map(|(_, value)| *value).collect());
            let pixels = values.iter().enumerate();
            let mut marked: Vec<bool> = pixels
                .map(|(pixel, &value)| value >= level.lowest && is_inside(pixel))
                .collect();
            let shape = MapShape {
                images: 1,
                height: geometry.rows,
                width: geometry.columns,
            };
            let wide = Regions::find(&marked, shape)?;
            for (run, cut) in level.cuts(&wide, &values) {
                for (marked, value) in marked[run.clone()].iter_mut().zip(&values[run]) {
                    *marked = *value >= cut;
                }
            }
            let found = Regions::find(&marked, shape)?;
            let mut sums: Vec<Sums> = found.areas.iter().map(|_| Sums::new()).collect();
            for run in &found.runs {
                sums[run.region as usize].add(run.start..run.end, &values, geometry.columns);
            }
            let described: Vec<Region> = sums.iter().map(|sums| sums.region(&geometry)).collect();
            let is_marked = |region: &Region| level.only.is_none_or(|only| region.peak.score >= only);
            let is_kept = |region: &Region| region.area >= self.min_area && is_marked(region);
            too_small = described
                .iter()
                .filter(|&region| is_marked(region) && !is_kept(region))
                .count();
            for run in &found.runs {
                in_region[run.start..run.end].fill(is_kept(&described[run.region as usize]));
            }
            regions = described;
            regions.retain(is_kept);
            regions.sort_by(|a, b| b.peak.score.total_cmp(&a.peak.score));
        }
        let lacks = absence
            .zip(self.max_absence)
            .is_some_and(|(absence, most)| absence >= most);
        if lacks && regions.is_empty() {
            let mut all = Sums::new();
            for row in 0..geometry.rows {
                for pixel in (row * geometry.columns..(row + 1) * geometry.columns).filter(|&pixel| is_inside(pixel)) {
                    all.add(pixel..pixel + 1, &values, geometry.columns);
                    in_region[pixel] = true;
                }
            }
            regions.push(all.region(&geometry));
        }
        let verdict = if regions.is_empty() {
            Verdict::Good
        } else {
            Verdict::Defect
        };
        Ok(Prediction {
            score,
            threshold: self.threshold,
            absence,
            is_absent: lacks,
            verdict,
            regions,
            too_small,
            map: AnomalyMap {
                values,
                geometry,
                in_region,
            },
        })
    }

    /// Which pixels of a defective image's map are in a region: those from the pixel threshold on, and of each connected lot of
    /// them the ones from [`HALF`] of the way up to its summit. The image's score is the largest *raw* patch score, so a defect of
    /// one patch may pass while the smoothed map stays below the pixel threshold; it still has to be somewhere, and that is the
    /// summit of the map: the region around its maximum, from [`SUMMIT`] of the way up.
    fn level(&self, mut values: Vec<f32>) -> Level {
        let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let middle = values.len() / 2;
        let (_, &mut median, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
        // Where most of an image is anomalous its median is no usual pixel, and what is above the threshold stays above it.
        let base = median.min(self.pixel_threshold);
        match highest >= self.pixel_threshold {
            true => Level {
                lowest: self.pixel_threshold,
                base,
                only: None,
            },
            false => Level {
                lowest: base + SUMMIT * (highest - base),
                base,
                only: Some(highest),
            },
        }
    }
}

/// What makes pixels a region.
struct Level {
    /// Values from here on.
    lowest: f32,
    /// What a usual pixel of the image has, from where summits rise.
    base: f32,
    /// Where only the summit counts: its value.
    only: Option<f32>,
}

impl Level {
    /// For every run of pixels of the regions at [`Level::lowest`] the value from which on they stay.
    fn cuts(&self, regions: &Regions, values: &[f32]) -> Vec<(Range<usize>, f32)> {
        let mut summits = vec![f32::NEG_INFINITY; regions.areas.len()];
        for run in &regions.runs {
            let highest = values[run.start..run.end].iter().copied();
            let summit = &mut summits[run.region as usize];
            *summit = highest.fold(*summit, f32::max);
        }
        let cut = |summit: f32| self.lowest.max(self.base + HALF * (summit - self.base));
        let runs = regions.runs.iter();
        runs.map(|run| (run.start..run.end, cut(summits[run.region as usize])))
            .collect()
    }
}

/// What is summed up over a region, in pixels of the map.
struct Sums {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
    count: u64,
    x: f64,
    y: f64,
    peak: (usize, usize, f32),
}

impl Sums {
    fn new() -> Sums {
        Sums {
            left: usize::MAX,
            right: 0,
            top: usize::MAX,
            bottom: 0,
            count: 0,
            x: 0.0,
            y: 0.0,
            peak: (0, 0, f32::NEG_INFINITY),
        }
    }

    fn add(&mut self, run: std::ops::Range<usize>, values: &[f32], width: usize) {
        let (y, first) = (run.start / width, run.start % width);
        self.left = self.left.min(first);
        self.right = self.right.max(first + run.len());
        self.top = self.top.min(y);
        self.bottom = self.bottom.max(y + 1);
        for (x, &value) in (first..).zip(&values[run]) {
            self.count += 1;
            self.x += x as f64 + 0.5;
            self.y += y as f64 + 0.5;
            if value > self.peak.2 {
                self.peak = (x, y, value);
            }
        }
    }

    fn region(&self, geometry: &Geometry) -> Region {
        let count = self.count as f64;
        let (peak_x, peak_y, score) = self.peak;
        let [x, y] = geometry.to_source(peak_x as f64 + 0.5, peak_y as f64 + 0.5);
        Region {
            bounds: geometry.box_to_source(self.left, self.top, self.right, self.bottom),
            area: ((count * geometry.pixel_area()).round() as u64).max(1),
            peak: Peak { x, y, score },
            centroid: geometry.to_source(self.x / count, self.y / count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECISION: Decision = Decision {
        threshold: 1.0,
        pixel_threshold: 0.5,
        min_area: 0,
        max_absence: Some(1.0),
    };

    fn scored(score: f32, map: Vec<f32>) -> Scored {
        Scored {
            score,
            map,
            absence: None,
        }
    }

    /// A crop of 4 × 4 that is the middle of 6 × 6, from a source of 18 × 12: every pixel is 2 × 2 source pixels.
    fn geometry() -> Geometry {
        Geometry::middle([18, 12], 6, [4, 4])
    }

    fn map() -> Vec<f32> {
        #[rustfmt::skip]
        let values = vec![
            0.9, 0.0, 0.0, 0.0,
            0.0, 0.6, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.7,
        ];
        values
    }

    #[test]
    fn regions_touch_by_corners_and_are_measured_in_source_pixels() -> Result<(), Error> {
        let prediction = DECISION.judge(scored(1.0, map()), geometry(), None)?;
        assert_eq!(prediction.verdict, Verdict::Defect);
        let [diagonal, single] = &prediction.regions[..] else {
            panic!("two regions, not {:?}", prediction.regions);
        };
        // The crop begins at column (9 - 4) / 2 = 2 and row 1 of the resized image.
        let expected = PixelBox {
            x: 4,
            y: 2,
            width: 4,
            height: 4,
        };
        assert_eq!((diagonal.bounds, diagonal.area), (expected, 8));
        assert_eq!(diagonal.centroid, [6.0, 4.0]);
        assert_eq!([diagonal.peak.x, diagonal.peak.y], [5.0, 3.0]);
        assert_eq!((single.area, single.peak.score), (4, 0.7));
        Ok(())
    }

    /// What a strong defect does to its surroundings is not the defect, and a weaker one elsewhere is not measured by it.
    #[test]
    fn a_region_ends_halfway_down_from_its_own_summit() -> Result<(), Error> {
        #[rustfmt::skip]
        let values = vec![
            4.0, 2.1, 1.9, 0.0,
            2.1, 1.9, 0.6, 0.0,
            0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.6,
        ];
        let prediction = DECISION.judge(scored(4.0, values), geometry(), None)?;
        let areas: Vec<u64> = prediction.regions.iter().map(|region| region.area).collect();
        assert_eq!(areas, [3 * 4, 4]);
        let pixels = (0..16).filter(|&pixel| prediction.map.in_region[pixel]);
        assert_eq!(pixels.collect::<Vec<_>>(), [0, 1, 4, 15]);
        Ok(())
    }

    /// As where a lamp is out: the whole picture is the defect, and not its noise.
    #[test]
    fn a_picture_that_is_anomalous_throughout_is_one_region() -> Result<(), Error> {
        let mut values = vec![2.0; 16];
        values[5] = 2.2;
        values[10] = 0.8;
        let prediction = DECISION.judge(scored(2.2, values), geometry(), None)?;
        let areas: Vec<u64> = prediction.regions.iter().map(|region| region.area).collect();
        assert_eq!(areas, [15 * 4]);
        Ok(())
    }

    #[test]
    fn small_regions_are_no_defects() -> Result<(), Error> {
        let larger = Decision {
            min_area: 5,
            ..DECISION
        };
        let prediction = larger.judge(scored(1.0, map()), geometry(), None)?;
        assert_eq!(prediction.regions.len(), 1);
        assert_eq!(prediction.map.in_region.iter().filter(|&&inside| inside).count(), 2);
        assert_eq!(prediction.too_small, 1);
        let none = Decision {
            min_area: 9,
            ..DECISION
        };
        let prediction = none.judge(scored(1.0, map()), geometry(), None)?;
        assert_eq!((prediction.verdict, prediction.too_small), (Verdict::Good, 2));
        assert_eq!(none.judge(scored(0.9, map()), geometry(), None)?.too_small, 0);
        Ok(())
    }

    /// A strip whose shorter side is enlarged: a pixel of it is many of the map.
    #[test]
    fn a_region_has_an_area() -> Result<(), Error> {
        let strip = Geometry::middle([20, 4000], 256, [4, 4]);
        let prediction = DECISION.judge(scored(1.0, map()), strip, None)?;
        assert_eq!(prediction.regions.len(), 2);
        for region in prediction.regions {
            assert!(
                region.area == 1 && region.bounds.width > 0 && region.bounds.height > 0,
                "{region:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_defect_that_smoothing_flattens_is_still_somewhere() -> Result<(), Error> {
        let weak: Vec<f32> = map().iter().map(|value| 0.1 * value).collect();
        let prediction = DECISION.judge(scored(1.2, weak), geometry(), None)?;
        assert_eq!(prediction.verdict, Verdict::Defect);
        let [summit] = &prediction.regions[..] else {
            panic!("one region, not {:?}", prediction.regions);
        };
        assert_eq!((summit.peak.score, summit.area), (0.1 * 0.9, 4));
        Ok(())
    }

    /// The right half is not judged, and the left one is anomalous throughout: what stands for the pixels outside, the
    /// lowest value inside, would be marked as well.
    #[test]
    fn regions_stay_in_the_region_of_interest() -> Result<(), Error> {
        let half: Vec<u8> = (0..16).map(|pixel| if pixel % 4 < 2 { 255 } else { 0 }).collect();
        let roi = Roi::new(half, &geometry(), [4, 4]).expect("half of the patches are left");
        for values in [vec![0.8; 16], vec![0.3; 16]] {
            let prediction = DECISION.judge(scored(1.0, values), geometry(), Some(&roi))?;
            let [region] = &prediction.regions[..] else {
                panic!("one region, not {:?}", prediction.regions);
            };
            assert_eq!((region.bounds.width, region.area), (4, 32));
            let outside = (0..16).filter(|&pixel| !roi.is_inside(pixel));
            assert_eq!(outside.filter(|&pixel| prediction.map.in_region[pixel]).count(), 0);
        }
        Ok(())
    }
}
