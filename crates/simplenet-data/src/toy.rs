//! A sample set that is computed instead of downloaded: four categories in the layout of MVTec AD.
//!
//! A [`Category`] knows what its good parts look like and which defects they can have. A [`Shot`] names one photograph
//! of a category; [`render`] makes it and, for a defective part, the mask of its defect. [`generate`] writes the whole
//! set under a cache folder, once.
//!
//! The pictures are rendered from height fields with light, shadow, lens and sensor noise, so that a detector meets
//! what it meets in a factory: good parts that differ in position, rotation, light and surface, and defects from hardly
//! visible to obvious. The set shows that everything works and what results look like. It is no benchmark: its numbers
//! cannot be compared with those of any published data set.
//!
//! The same seed gives the same bytes on every machine and for any number of threads: see `random.rs`.
//!
//! ```
//! use simplenet_data::toy::{CATEGORIES, Shot, render, render_before_damage};
//!
//! let ring = &CATEGORIES[2];
//! assert_eq!([ring.name, ring.defects[1]], ["ring", "chip"]);
//! let chipped = Shot::Defective { defect: 1, index: 0 };
//! let photograph = render(0, ring, chipped);
//! let before = render_before_damage(0, ring, chipped);
//!
//! let mask = photograph.mask.expect("a defective part has a mask");
//! let inside = mask.enumerate_pixels().find(|(_, _, pixel)| pixel.0[0] == 255);
//! let (x, y, _) = inside.expect("a mask is never empty");
//! assert_ne!(photograph.image.get_pixel(x + 1, y + 1), before.get_pixel(x + 1, y + 1));
//! ```

mod camera;
mod grain;
mod lettering;
mod photograph;
mod plate;
mod plate_defect;
mod plate_part;
mod random;
mod ring;
mod shape;
mod weave;
mod weave_defect;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, GrayImage, ImageEncoder, RgbImage};
use rayon::prelude::*;

use camera::Camera;
use photograph::{Canvas, Light, SIDE};
use random::Random;

/// Grows with every change to the pictures, so that a cache of another version is never taken for this one.
pub const VERSION: u32 = 1;

/// The categories in the order of every table: two textures, two objects.
pub const CATEGORIES: [Category; 4] = [weave::CATEGORY, grain::CATEGORY, ring::CATEGORY, plate::CATEGORY];

/// Whether a category fills the picture or lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryKind {
    /// A material that fills the picture.
    Texture,
    /// One part on a background.
    Object,
}

/// One kind of product.
#[derive(Clone, Copy, Debug)]
pub struct Category {
    /// Folder name.
    pub name: &'static str,
    /// Texture or object.
    pub kind: CategoryKind,
    /// What it shows, in a few words.
    pub description: &'static str,
    /// Folder names of its defects.
    pub defects: &'static [&'static str],
    paint: fn(&Random, Option<&Damage>) -> (Canvas, Light),
}

/// Which photograph of a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shot {
    /// `train/good/<index>.png`.
    Train {
        /// Number of the photograph.
        index: usize,
    },
    /// `test/good/<index>.png`: no training photograph, but from the same distribution.
    Good {
        /// Number of the photograph.
        index: usize,
    },
    /// `test/<defect>/<index>.png`.
    Defective {
        /// Position in [`Category::defects`].
        defect: usize,
        /// Number of the photograph: 0 is subtle, 4 obvious, 5 subtle again.
        index: usize,
    },
}

/// A rendered photograph.
#[derive(Clone, Debug)]
pub struct Photograph {
    /// 256 by 256 pixels, sRGB.
    pub image: RgbImage,
    /// For [`Shot::Defective`]: 255 where the defect is, else 0; as large as the photograph.
    pub mask: Option<GrayImage>,
}

/// How many photographs of each sort a set has, per category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Good parts to train on.
    pub train: usize,
    /// Good parts to test on.
    pub good: usize,
    /// Defective parts to test on, per defect.
    pub defective: usize,
}

impl Counts {
    /// The sample set: 40 and 20 good parts, 20 defective ones.
    pub const FULL: Self = Self {
        train: 40,
        good: 20,
        defective: 5,
    };
}

/// Why the sample set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ToyError {
    /// The cache folder cannot be created or written.
    #[error("cannot make the sample set in {}: {source}\n\nhint: name a cache folder that can be written", .folder.display())]
    Cache {
        /// The cache folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One file of the set cannot be written.
    #[error("cannot write {}: {source}\n\nhint: the whole set takes about 35 MB", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the encoder or the system said.
        source: io::Error,
    },
}

/// Photographs of one defect run through this many steps from subtle to obvious.
const SEVERITIES: usize = 5;

/// What happens to a part: which defect, how bad, and the numbers it is drawn from.
struct Damage {
    kind: usize,
    /// From 0 (subtle) to 1 (obvious).
    severity: f32,
    random: Random,
}

/// The folder of the sample set for `seed` under `cache`, made first if it is not there.
///
/// # Errors
///
/// [`ToyError`] when a folder or file cannot be written. Nothing is then left under the returned name: the set is made
/// in a temporary folder beside it and renamed when it is complete.
pub fn generate(cache: &Path, seed: u64) -> Result<PathBuf, ToyError> {
    generate_counts(cache, seed, Counts::FULL)
}

/// As [`generate`], with other [`Counts`]; they are part of the folder's name.
///
/// # Errors
///
/// As [`generate`].
pub fn generate_counts(cache: &Path, seed: u64, counts: Counts) -> Result<PathBuf, ToyError> {
    let Counts { train, good, defective } = counts;
    let name = format!("toy-v{VERSION}-seed{seed}-{train}x{good}x{defective}");
    complete_or_nothing(cache, &name, |folder| write_set(folder, seed, counts))
}

/// Renders one photograph.
///
/// # Panics
///
/// When `shot` names a defect that `category` does not have.
pub fn render(seed: u64, category: &Category, shot: Shot) -> Photograph {
    let (random, damage) = draw(seed, category, shot);
    let (image, canvas) = photograph(category, &random, damage.as_ref());
    Photograph {
        image,
        mask: damage.map(|_| mask(&canvas)),
    }
}

/// The same part in the same light, with the same sensor noise, before it was damaged.
///
/// # Panics
///
/// As [`render`].
pub fn render_before_damage(seed: u64, category: &Category, shot: Shot) -> RgbImage {
    let (random, _) = draw(seed, category, shot);
    photograph(category, &random, None).0
}

/// The numbers that a photograph is drawn from.
fn draw(seed: u64, category: &Category, shot: Shot) -> (Random, Option<Damage>) {
    let product = Random::new(seed).stream(category.name);
    match shot {
        Shot::Train { index } => (product.stream("train").nth(index), None),
        Shot::Good { index } => (product.stream("good").nth(index), None),
        Shot::Defective { defect, index } => {
            let random = product.stream(category.defects[defect]).nth(index);
            let mut own = random.stream("damage");
            let severity = ((index % SEVERITIES) as f32 + own.between(0.0, 1.0)) / SEVERITIES as f32;
            (
                random,
                Some(Damage {
                    kind: defect,
                    severity,
                    random: own,
                }),
            )
        }
    }
}

fn photograph(category: &Category, random: &Random, damage: Option<&Damage>) -> (RgbImage, Canvas) {
    let camera = Camera::vary(&mut random.stream("camera"));
    let (canvas, light) = (category.paint)(random, damage);
    (camera.develop(&light.expose(&canvas)), canvas)
}

fn mask(canvas: &Canvas) -> GrayImage {
    let damaged = canvas.damaged();
    GrayImage::from_fn(SIDE as u32, SIDE as u32, |column, row| {
        let flag = damaged[row as usize * SIDE + column as usize];
        image::Luma([if flag { 255 } else { 0 }])
    })
}

/// Lets `write` fill a temporary folder and gives it its `name` when that succeeded.
fn complete_or_nothing(
    cache: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<(), ToyError>,
) -> Result<PathBuf, ToyError> {
    let complete = cache.join(name);
    if complete.is_dir() {
        return Ok(complete);
    }
    let cache_error = |source| ToyError::Cache {
        folder: cache.to_owned(),
        source,
    };
    fs::create_dir_all(cache).map_err(cache_error)?;
    let unfinished = tempfile::Builder::new()
        .prefix(".toy-")
        .tempdir_in(cache)
        .map_err(cache_error)?;
    write(unfinished.path())?;
    match fs::rename(unfinished.path(), &complete) {
        Ok(()) => {
            // Nothing is left to remove under the temporary name.
            let _renamed = unfinished.keep();
            Ok(complete)
        }
        // Another process was faster; its set has the same bytes.
        Err(_) if complete.is_dir() => Ok(complete),
        Err(source) => Err(cache_error(source)),
    }
}

fn write_set(folder: &Path, seed: u64, counts: Counts) -> Result<(), ToyError> {
    let mut jobs = Vec::new();
    for category in &CATEGORIES {
        let root = folder.join(category.name);
        let mut folders = vec![root.join("train/good"), root.join("test/good")];
        for defect in category.defects {
            folders.push(root.join("test").join(defect));
            folders.push(root.join("ground_truth").join(defect));
        }
        for path in folders {
            fs::create_dir_all(&path).map_err(|source| ToyError::Write { path, source })?;
        }
        jobs.extend((0..counts.train).map(|index| (category, Shot::Train { index })));
        jobs.extend((0..counts.good).map(|index| (category, Shot::Good { index })));
        for defect in 0..category.defects.len() {
            jobs.extend((0..counts.defective).map(|index| (category, Shot::Defective { defect, index })));
        }
    }
    jobs.into_par_iter()
        .try_for_each(|(category, shot)| write_shot(folder, seed, category, shot))
}

fn write_shot(folder: &Path, seed: u64, category: &Category, shot: Shot) -> Result<(), ToyError> {
    let root = folder.join(category.name);
    let photograph = render(seed, category, shot);
    let path = match shot {
        Shot::Train { index } => root.join(format!("train/good/{index:03}.png")),
        Shot::Good { index } => root.join(format!("test/good/{index:03}.png")),
        Shot::Defective { defect, index } => root.join(format!("test/{}/{index:03}.png", category.defects[defect])),
    };
    write_png(&path, photograph.image.as_raw(), ExtendedColorType::Rgb8)?;
    let (Shot::Defective { defect, index }, Some(mask)) = (shot, photograph.mask) else {
        return Ok(());
    };
    let path = root.join(format!("ground_truth/{}/{index:03}_mask.png", category.defects[defect]));
    write_png(&path, mask.as_raw(), ExtendedColorType::L8)
}

fn write_png(path: &Path, bytes: &[u8], colour: ExtendedColorType) -> Result<(), ToyError> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create_new(path)?);
        let side = SIDE as u32;
        PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive)
            .write_image(bytes, side, side, colour)
            .map_err(io::Error::other)?;
        file.flush()?;
        file.get_ref().sync_all()
    };
    write().map_err(|source| ToyError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_fails_half_way_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let outcome = complete_or_nothing(cache.path(), "set", |folder| {
            fs::write(folder.join("first.png"), "half").unwrap();
            assert!(
                !cache.path().join("set").exists(),
                "the final name appears only when the set is complete"
            );
            Err(ToyError::Write {
                path: folder.join("second.png"),
                source: io::ErrorKind::StorageFull.into(),
            })
        });
        assert!(matches!(outcome, Err(ToyError::Write { .. })));
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_slower_of_two_processes_takes_the_set_of_the_faster() {
        let cache = tempfile::tempdir().unwrap();
        let complete = complete_or_nothing(cache.path(), "set", |folder| {
            let rival = |folder: &Path| {
                fs::write(folder.join("image.png"), "same").unwrap();
                Ok(())
            };
            complete_or_nothing(cache.path(), "set", rival)?;
            rival(folder)
        });
        assert_eq!(fs::read_to_string(complete.unwrap().join("image.png")).unwrap(), "same");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }
}
