use std::path::{Path, PathBuf};

use crate::mask::MaskRule;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a path and its pixels. Every variant names the file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read a file or folder.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// A folder or file that the layout of a data set needs is not there.
    #[error("{} is not there\n\nhint: {hint}", path.display())]
    NotThere {
        /// What was looked for.
        path: PathBuf,
        /// The layout that was expected.
        hint: String,
    },

    /// A folder that must hold images holds none.
    #[error("no images in {}\n\nhint: {hint}", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// What is expected there.
        hint: String,
    },

    /// A folder fits two layouts at once.
    #[error("{} can be read in two ways: {first}, or {second}\n\nhint: keep one of them in this folder", path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// One reading.
        first: &'static str,
        /// The other.
        second: &'static str,
    },

    /// A folder's name is not Unicode, so it cannot name a category or defect.
    #[error("the name of folder {} is not Unicode\n\nhint: rename it", path.display())]
    FolderName {
        /// The folder.
        path: PathBuf,
    },

    /// The bytes are of no image format that is read here.
    #[error("{} is not an image that can be read\n\nhint: PNG, JPEG, BMP and TIFF are recognised by their content", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },

    /// The decoder gave up.
    #[error("cannot decode {}: {source}\n\nhint: the file is damaged, cut short or of a rare kind; copy or export it again", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },

    /// A JPEG without its end marker; decoders fill the rest with grey and say nothing.
    #[error("{} is cut short: its {bytes} bytes hold no end of image\n\nhint: copy the file again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },

    /// Pixels that are neither 8 nor 16 bits wide.
    #[error("{} has {pixels:?} pixels\n\nhint: export it with 8 or 16 bits per channel", path.display())]
    PixelType {
        /// The file.
        path: PathBuf,
        /// The pixel type found.
        pixels: image::ColorType,
    },

    /// More pixels than one image may have.
    #[error("{} is {width} x {height} pixels, more than the limit of {limit}\n\nhint: split or reduce the image", path.display())]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The most pixels accepted.
        limit: u64,
    },

    /// More bytes than one image file may have.
    #[error("{} has {bytes} bytes, more than the limit of {limit}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size accepted.
        limit: u64,
    },

    /// A pixel buffer does not fit the shape it was given.
    #[error("a buffer of {bytes} bytes is no image of {width} x {height} pixels with {channels} channels")]
    Shape {
        /// Length of the buffer.
        bytes: usize,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Bytes per pixel.
        channels: usize,
    },

    /// Sizes or normalisation that no image can be prepared with.
    #[error("cannot prepare images: {reason}")]
    Preprocess {
        /// The setting and its value.
        reason: String,
    },

    /// A mask and its image differ in size, so no pixel of one can be found in the other.
    #[error(
        "mask {} is {} x {} pixels but its image {image} is {} x {}\n\nhint: a mask has the size of the image it belongs to",
        mask.display(), mask_size.0, mask_size.1, image_size.0, image_size.1
    )]
    MaskSize {
        /// The mask file.
        mask: PathBuf,
        /// Width and height of the mask.
        mask_size: (usize, usize),
        /// The image.
        image: String,
        /// Width and height of the image.
        image_size: (usize, usize),
    },

    /// A mask that marks something, but nothing that its rule could ever count as defect.
    #[error(
        "no pixel of mask {} can count as defect: its largest value is {largest}, and the rule is {rule}\n\nhint: masks are 0 where the part is normal and 255 where it is not",
        mask.display()
    )]
    MaskValues {
        /// The mask file.
        mask: PathBuf,
        /// Its largest value.
        largest: u8,
        /// The rule that was asked for.
        rule: MaskRule,
    },

    /// A mask of 16 bits per channel whose upper 8, which are what is read, are all 0.
    #[error(
        "mask {} has 16 bits and no value above {largest} of 65535, so it would be black\n\nhint: save it with 8 bits",
        mask.display()
    )]
    MaskDepth {
        /// The mask file.
        mask: PathBuf,
        /// Its largest value.
        largest: u16,
    },

    /// A mask was asked for, but the sample has none.
    #[error("anomalous image {image} has no mask\n\nhint: without masks only image metrics are defined")]
    NoMask {
        /// The image.
        image: String,
    },

    /// A file of CIFAR-10 records ends inside a record.
    #[error(
        "{} has {bytes} bytes: {records} records of {record_bytes} bytes and {rest} bytes more\n\nhint: the download was cut short, or the file is not of CIFAR-10's binary version",
        path.display()
    )]
    PartialRecord {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// Whole records in it.
        records: usize,
        /// Size of one record.
        record_bytes: usize,
        /// Bytes behind the last whole record.
        rest: usize,
    },

    /// A CIFAR-10 record whose label is no class.
    #[error("record {record} of {} has label {label}; the classes are 0 to 9\n\nhint: CIFAR-100 has two label bytes per record and is not read here", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The record, from 0.
        record: usize,
        /// The label found.
        label: u8,
    },

    /// A class that CIFAR-10 does not have.
    #[error("CIFAR-10 has no class `{class}`\n\nhint: the classes are {}", crate::cifar10::CLASSES.join(", "))]
    Class {
        /// What was asked for.
        class: String,
    },
}

impl Error {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Error {
        Error::Read {
            path: path.to_owned(),
            source,
        }
    }
}
