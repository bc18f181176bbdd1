//! A file of named tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::error::BackboneError;
use crate::pth;

/// A file of named tensors, in memory: `.safetensors`, or PyTorch's `.pth` in its zip format or the one before 1.6.
///
/// The format is told by the content, never by the name. Tensors are converted to f32 as they are asked for.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    identity: String,
    bytes: Cow<'static, [u8]>,
    tensors: BTreeMap<String, Entry>,
}

/// Where a tensor lies in the file. Every element is inside: checked when the entry was made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Steps between neighbours along each axis, in elements.
    pub(crate) strides: Vec<usize>,
    /// First byte.
    pub(crate) start: usize,
}

impl Checkpoint {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Checkpoint, BackboneError> {
        let bytes = std::fs::read(path).map_err(|source| {
            let path = path.to_path_buf();
            BackboneError::Read { path, source }
        })?;
        Checkpoint::from_bytes(path, bytes)
    }

    /// Reads a file's content; `path` is what errors call it.
    pub fn from_bytes(path: &Path, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Checkpoint, BackboneError> {
        let bytes = bytes.into();
        let path = path.to_path_buf();
        let tensors = match &*bytes {
            zip if zip.starts_with(b"PK\x03\x04") => pth::read_zip(zip),
            legacy if legacy.starts_with(&pth::LEGACY_MAGIC) => pth::read_legacy(legacy),
            other => read_safetensors(other),
        };
        let tensors = match tensors {
            Ok(tensors) if tensors.is_empty() => Err("it holds no tensors".to_string()),
            tensors => tensors,
        };
        let tensors = tensors.map_err(|reason| {
            let path = path.clone();
            BackboneError::Malformed { path, reason }
        })?;
        let identity = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Checkpoint {
            path,
            identity,
            bytes,
            tensors,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the file, in lower-case hexadecimal: two backbones with the same identity give the same features.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, or `None` where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's values, row-major, or `None` where there is no such tensor. Fails where it is of another shape, no
    /// floating-point type, or not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, BackboneError> {
        let Some(entry) = self.tensors.get(name) else {
            return Ok(None);
        };
        let path = || self.path.clone();
        let tensor = || name.to_string();
        if entry.shape != shape {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            let (path, tensor) = (path(), tensor());
            return Err(BackboneError::WrongShape {
                path,
                tensor,
                found,
                expected,
            });
        }
        let values = match entry.dtype {
            Dtype::F32 => entry.gather(&self.bytes, f32::from_le_bytes),
            Dtype::F16 => entry.gather(&self.bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => entry.gather(&self.bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => entry.gather(&self.bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            other => {
                let found = other.to_string();
                let (path, tensor) = (path(), tensor());
                return Err(BackboneError::WrongType { path, tensor, found });
            }
        };
        if !values.iter().all(|value| value.is_finite()) {
            let (path, tensor) = (path(), tensor());
            return Err(BackboneError::NotFinite { path, tensor });
        }
        Ok(Some(values))
    }

    /// The backbone that the names and shapes speak for, if it is one we know.
    pub fn looks_like(&self) -> Option<Arch> {
        let has = |name: &str| self.tensors.contains_key(name);
        if has("conv_stem.weight") && has("blocks.0.0.conv_dw.weight") {
            // EfficientNets that are not Lite squeeze and excite.
            return (!has("blocks.0.0.se.conv_reduce.weight")).then_some(Arch::EfficientNetLite0);
        }
        let blocks = (0..)
            .take_while(|block| has(&format!("layer3.{block}.conv1.weight")))
            .count();
        let width = self.shape("layer1.0.conv1.weight")?.first().copied()?;
        match (has("layer1.0.conv3.weight"), width, blocks) {
            (false, 64, 2) => Some(Arch::ResNet18),
            (false, 64, 6) => Some(Arch::ResNet34),
            // A ResNeXt has the width of the wide one and grouped convolutions.
            _ if self.shape("layer1.0.conv2.weight")?.get(1) != Some(&width) => None,
            (true, 64, 6) => Some(Arch::ResNet50),
            (true, 64, 23) => Some(Arch::ResNet101),
            (true, 128, 6) => Some(Arch::WideResNet50_2),
            _ => None,
        }
    }
}

impl Entry {
    /// An entry of `length` bytes from `start`, refused where its last element lies outside of them.
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        start: usize,
        length: usize,
    ) -> Result<Entry, String> {
        if !shape.contains(&0) {
            let last = shape.iter().zip(&strides).try_fold(0usize, |last, (side, stride)| {
                (side - 1).checked_mul(*stride).and_then(|step| last.checked_add(step))
            });
            let needed = last.and_then(|last| last.checked_add(1)?.checked_mul(dtype.bitsize() / 8));
            let inside = needed.is_some_and(|needed| needed <= length);
            let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
            // A stride of 0 would let a few bytes claim any number of elements.
            if !inside || count.is_none_or(|count| count > length) {
                return Err(format!("a tensor of shape {shape:?} does not fit its {length} bytes"));
            }
        }
        Ok(Entry {
            dtype,
            shape,
            strides,
            start,
        })
    }

    fn gather<const SIZE: usize>(&self, bytes: &[u8], read: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
        let count: usize = self.shape.iter().product();
        if self.strides == row_major(&self.shape) {
            let (elements, _) = bytes[self.start..][..count * SIZE].as_chunks::<SIZE>();
            return elements.iter().map(|element| read(*element)).collect();
        }
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let offset: usize = index.iter().zip(&self.strides).map(|(at, stride)| at * stride).sum();
            let mut element = [0; SIZE];
            element.copy_from_slice(&bytes[self.start + offset * SIZE..][..SIZE]);
            values.push(read(element));
            for (at, side) in index.iter_mut().zip(&self.shape).rev() {
                *at += 1;
                if *at < *side {
                    break;
                }
                *at = 0;
            }
        }
        values
    }
}

/// Steps between neighbours of a row-major array.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let entries = file.iter().map(|(name, view)| {
        let data = view.data();
        let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
        let shape = view.shape().to_vec();
        let entry = Entry::new(view.dtype(), shape.clone(), row_major(&shape), start, data.len())?;
        Ok((name.to_string(), entry))
    });
    entries.collect()
}
