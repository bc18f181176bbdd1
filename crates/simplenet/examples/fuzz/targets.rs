//! Inputs that are nearly right, and who reads them.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, RgbImage};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use simplenet::{Detector, DetectorConfig, LoadOptions, Method, Rgb8, Source, open_upright};
use simplenet_data::cifar10::Cifar10;
use simplenet_data::toy::{CATEGORIES, Counts, Shot, generate_counts, render};
use simplenet_data::{MaskRule, Preprocess, folder, load_images, load_masks, mvtec};

/// Who reads the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Model,
    Image,
    Dataset,
}

pub(crate) struct Fuzzer {
    target: Target,
    /// Whole inputs that rounds begin with.
    seeds: Vec<Vec<u8>>,
    picture: Rgb8,
    /// Reads images.
    detector: Detector,
    folder: tempfile::TempDir,
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

impl Fuzzer {
    pub(crate) fn new(target: Target) -> Result<Fuzzer> {
        let folder = tempfile::tempdir()?;
        let mut images = Vec::new();
        for index in 0..6 {
            let path = folder.path().join(format!("{index}.png"));
            render(0, &CATEGORIES[2], Shot::Train { index }).image.save(&path)?;
            images.push(Source::File(path));
        }
        let detectors = [Method::SimpleNet, Method::patchcore(), Method::padim()].map(|method| {
            let mut config = DetectorConfig {
                steps: Some(4),
                folds: 2,
                max_vectors: 40,
                ..DetectorConfig::default()
            };
            config.model.method = method;
            config.model.preprocess.resize = 64;
            config.model.preprocess.crop = 64;
            config.overlap = Some(16);
            Detector::train(&images, &config, |_| {})
        });
        let detectors: Vec<Detector> = detectors.into_iter().collect::<Result<_, _>>()?;
        let seeds = match target {
            Target::Model => detectors.iter().map(Detector::to_bytes).collect::<Result<_, _>>()?,
            Target::Image => pictures()?,
            Target::Dataset => Vec::new(),
        };
        Ok(Fuzzer {
            target,
            seeds,
            picture: Rgb8::new(90, 70, vec![120; 90 * 70 * 3])?,
            detector: detectors.into_iter().next().context("there are three")?,
            folder,
        })
    }

    /// One input. Whether its reader took it for good; an error here is one of the round itself.
    pub(crate) fn round(&self, seed: u64, round: u64) -> Result<bool> {
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(round));
        random.next();
        match self.target {
            Target::Model => Ok(self.model(&mut random)),
            Target::Image => self.image(&mut random),
            Target::Dataset => dataset(&mut random),
        }
    }

    fn model(&self, random: &mut Random) -> bool {
        let mut bytes = self.seeds[random.below(self.seeds.len())].clone();
        match random.below(4) {
            0 => mutate(&mut bytes, random, usize::MAX),
            1 => mutate(&mut bytes, random, 3000), // the header
            // A file that is whole, but says something else: only its meaning can be checked.
            2 => change_metadata(&mut bytes, random),
            _ => {
                let start = bytes.len() / 2;
                for _ in 0..=random.below(8) {
                    let place = start + random.below(bytes.len() - start);
                    bytes[place] = random.next() as u8;
                }
            }
        }
        seal(&mut bytes);
        let options = LoadOptions {
            allow_drift: random.below(2) == 0,
            ..LoadOptions::default()
        };
        let Ok(detector) = Detector::from_bytes(&bytes, Path::new("fuzz.simplenet"), &options) else {
            return false;
        };
        // Whether it can judge is not the question: it must not fall over.
        let _ = detector.predict(&self.picture);
        let _ = detector.to_bytes();
        true
    }

    fn image(&self, random: &mut Random) -> Result<bool> {
        let mut bytes = self.seeds[random.below(self.seeds.len())].clone();
        match random.below(3) {
            0 => mutate(&mut bytes, random, usize::MAX),
            1 => mutate(&mut bytes, random, 64),
            _ => {
                let other = &self.seeds[random.below(self.seeds.len())];
                let (cut, from) = (random.below(bytes.len()), random.below(other.len()));
                bytes.truncate(cut);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        let path = self.folder.path().join("fuzz");
        fs::write(&path, &bytes)?;
        let Ok(image) = open_upright(&path) else {
            return Ok(false);
        };
        let _ = self.detector.predict(&image);
        Ok(true)
    }
}

/// Overwrites, flips, cuts out, repeats or inserts, in the first `range` bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random, range: usize) {
    const TELLING: [u64; 9] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, u64::MAX];
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let place = random.below(bytes.len().min(range));
        let length = (1 + random.below(16)).min(bytes.len() - place);
        match random.below(6) {
            0 => bytes[place] ^= 1 << random.below(8),
            1 => bytes[place] = random.next() as u8,
            2 => {
                let value = TELLING[random.below(TELLING.len())].to_le_bytes();
                let value = if random.below(2) == 0 {
                    value
                } else {
                    u64::from_le_bytes(value).to_be_bytes()
                };
                let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - place);
                bytes[place..place + width].copy_from_slice(&value[..width]);
            }
            3 => drop(bytes.drain(place..place + length)),
            4 => {
                let part = bytes[place..place + length].to_vec();
                bytes.splice(place..place, part);
            }
            _ => bytes.truncate(bytes.len() - random.below(bytes.len().min(range))),
        }
    }
}

/// Changes one value of the configuration or the card.
fn change_metadata(bytes: &mut Vec<u8>, random: &mut Random) {
    let changed = (|| {
        let (header_bytes, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let text = metadata.metadata().as_ref()?.get("simplenet")?;
        let mut value: Value = serde_json::from_str(text).ok()?;
        let mut places = Vec::new();
        pointers(&value, String::new(), &mut places);
        let place = places.swap_remove(random.below(places.len()));
        let telling = [
            Value::Null,
            0.into(),
            1.into(),
            (-1).into(),
            7.into(),
            65_536.into(),
            (1_u64 << 40).into(),
            u64::MAX.into(),
            1e300.into(),
            "padim".into(),
            Value::Array(Vec::new()),
        ];
        *value.pointer_mut(&place)? = telling[random.below(telling.len())].clone();
        let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).ok()?;
        let mut header = header;
        header["__metadata__"]["simplenet"] = value.to_string().into();
        let mut text = header.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text);
        file.extend_from_slice(&bytes[8 + header_bytes..]);
        Some(file)
    })();
    if let Some(changed) = changed {
        *bytes = changed;
    }
}

fn pointers(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointers(value, format!("{at}/{name}"), places);
            }
        }
        // One entry stands for all of a list.
        Value::Array(entries) => entries
            .iter()
            .take(1)
            .for_each(|value| pointers(value, format!("{at}/0"), places)),
        _ => {}
    }
    places.push(at);
}

/// Writes the checksum that fits, so that what lies behind it is reached.
fn seal(bytes: &mut [u8]) {
    let place = (|| {
        let (header_bytes, header) = SafeTensors::read_metadata(bytes).ok()?;
        let (start, end) = header.info("sha256")?.data_offsets;
        let place = 8 + header_bytes + start..8 + header_bytes + end;
        (place.len() == 32 && place.end <= bytes.len()).then_some(place)
    })();
    if let Some(place) = place {
        bytes[place.clone()].fill(0);
        let digest = Sha256::digest(&*bytes);
        bytes[place].copy_from_slice(&digest);
    }
}

/// One small picture in every format and depth that is read.
fn pictures() -> Result<Vec<Vec<u8>>> {
    let color = RgbImage::from_fn(37, 29, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, (x * y) as u8]));
    let grey = GrayImage::from_fn(41, 23, |x, y| Luma([(x * 5 + y) as u8]));
    let deep = ImageBuffer::<Luma<u16>, _>::from_fn(19, 31, |x, y| Luma([(x * 3000 + y * 7) as u16]));
    let alpha = DynamicImage::from(color.clone()).to_rgba16();
    let mut files = Vec::new();
    let mut add = |image: DynamicImage, format| -> Result<()> {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format)?;
        files.push(file.into_inner());
        Ok(())
    };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff] {
        add(color.clone().into(), format)?;
        add(grey.clone().into(), format)?;
    }
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        add(deep.clone().into(), format)?;
        add(alpha.clone().into(), format)?;
    }
    Ok(files)
}

/// A data set with something wrong, read as a whole.
fn dataset(random: &mut Random) -> Result<bool> {
    let temporary = tempfile::tempdir()?;
    let counts = Counts {
        train: 1,
        good: 1,
        defective: 1,
    };
    // Drawing pictures costs more than reading them: the set is drawn once, and copied.
    static SET: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    if SET.get().is_none() {
        let drawn = tempfile::tempdir()?;
        generate_counts(drawn.path(), 0, counts)?;
        let _ = SET.set(drawn);
    }
    let drawn = generate_counts(SET.get().context("it is drawn")?.path(), 0, counts)?;
    let category = ["weave", "grain", "ring", "plate"][random.below(4)];
    let root = temporary.path().join(category);
    copy(&drawn.join(category), &root)?;
    let mut files = Vec::new();
    list(&root, &mut files)?;
    for _ in 0..=random.below(4) {
        let path = &files[random.below(files.len())];
        let Ok(mut bytes) = fs::read(path) else { continue };
        match random.below(7) {
            0 => fs::remove_file(path)?,
            1 => fs::rename(path, path.with_extension("txt"))?,
            2 => {
                fs::remove_file(path)?;
                fs::create_dir(path)?;
            }
            3 => {
                fs::remove_file(path)?;
                #[cfg(unix)]
                std::os::unix::fs::symlink(root.join(["gone", "test", "."][random.below(3)]), path)?;
            }
            4 => {
                let other =
                    root.join(["test/0.png", "train/0.png", "x.png", "test/good/é\u{202e}.png"][random.below(4)]);
                fs::write(other, &bytes)?;
            }
            5 => fs::write(path, b"")?,
            _ => {
                mutate(&mut bytes, random, 200);
                fs::write(path, bytes)?;
            }
        }
    }
    // Records of CIFAR-10 of any length.
    for name in ["data_batch_1.bin", "test_batch.bin"] {
        let length = [0, 3073, 6146, random.below(7000)][random.below(4)];
        let record: Vec<u8> = (0..length).map(|_| random.below(11) as u8).collect();
        fs::write(temporary.path().join(name), record)?;
    }
    if let Ok(cifar) = Cifar10::open(temporary.path()) {
        let _ = cifar.is_complete();
    }
    let _ = mvtec::categories(temporary.path());
    let _ = mvtec::load(temporary.path(), category);
    for folder in [&root, &root.join("test"), &root.join("test/good"), temporary.path()] {
        let _ = folder::labelled(folder);
    }
    let Ok(dataset) = folder::load(&root) else {
        return Ok(false);
    };
    let preprocess = Preprocess::new(32, 28, [0.5; 3], [0.5; 3])?;
    let images = load_images(&dataset.train, &preprocess).is_ok() && load_images(&dataset.test, &preprocess).is_ok();
    let masks = load_masks(&dataset.test, &preprocess, MaskRule::Half).is_ok();
    Ok(images && masks)
}

fn list(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
