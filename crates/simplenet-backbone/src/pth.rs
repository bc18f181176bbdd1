//! PyTorch's checkpoints, read without running them.
//!
//! A `.pth` is a pickle, which is a program. candle's reader interprets the few instructions that build dictionaries and
//! tuples, turns every call into data, and calls nothing; here that data is searched for tensors. A file made to do harm
//! cannot run anything, and what it may nest and copy is bounded.

use std::collections::BTreeMap;
use std::io::{BufRead, Cursor};

use candle_core::pickle::{Object, Stack};
use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use crate::checkpoint::Entry;

/// How a file of PyTorch before 1.6 begins: a pickle of the number 0x1950a86a20f9469cfc6c.
pub(crate) const LEGACY_MAGIC: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

/// A state dictionary has a few hundred tensors of about 200 bytes each; a pickle that is larger is something else.
const LONGEST_PICKLE: usize = 16 << 20;

/// Objects in objects in objects: dropping them takes a stack as deep. The tensors of a state dictionary lie six deep.
const DEEPEST_PICKLE: usize = 2000;

/// Objects that a pickle may copy: what is taken from its memo is copied whole, and two of one in a third, again and again, are
/// more than any memory holds. A checkpoint of a thousand tensors with an optimiser's state copies fewer.
const MOST_COPIES: usize = 4 << 20;

/// A tensor as the pickle describes it, its values in the storage called `storage`.
struct Described {
    storage: String,
    dtype: Dtype,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// A range of bytes of the file.
struct Storage {
    start: usize,
    length: usize,
}

/// Reads the zip format: `NAME/data.pkl` and one uncompressed member `NAME/data/KEY` per storage.
pub(crate) fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut storages = BTreeMap::new();
    let mut pickle = None;
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = member.name().map_err(|error| error.to_string())?.into_owned();
        let range = member.data_start().map(|start| start as usize);
        let range = range.and_then(|start| Some((start, start.checked_add(member.size() as usize)?)));
        let Some((start, end)) = range.filter(|(_, end)| *end <= bytes.len()) else {
            return Err(format!("its member {name} reaches beyond the end of the file"));
        };
        if member.compression() != CompressionMethod::Stored {
            return Err(format!("its member {name} is compressed"));
        }
        let content = &bytes[start..end];
        let Some((_, inner)) = name.split_once('/') else {
            continue;
        };
        match inner {
            "data.pkl" => pickle = Some(content),
            "byteorder" if content != b"little" => return Err("its numbers are big-endian".to_string()),
            _ => {
                if let Some(key) = inner.strip_prefix("data/") {
                    let length = end - start;
                    storages.insert(key.to_string(), Storage { start, length });
                }
            }
        }
    }
    let pickle = pickle.ok_or("it is a zip file without data.pkl")?;
    resolve(described(unpickle(&mut Cursor::new(pickle))?)?, &storages)
}

/// Reads the format before 1.6: pickles of a magic number, a version, the system, the tensors and the storages' keys,
/// then each storage as its length and its elements.
pub(crate) fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let mut reader = Cursor::new(bytes);
    reader.set_position(LEGACY_MAGIC.len() as u64);
    let _version = unpickle(&mut reader)?;
    let system = unpickle(&mut reader)?;
    if member(&system, "little_endian") == Some(&Object::Bool(false)) {
        return Err("its numbers are big-endian".to_string());
    }
    let tensors = described(unpickle(&mut reader)?)?;
    let Object::List(keys) = unpickle(&mut reader)? else {
        return Err("its storages are not listed".to_string());
    };

    let sizes: BTreeMap<&str, usize> = tensors
        .values()
        .map(|tensor| (tensor.storage.as_str(), tensor.dtype.bitsize() / 8))
        .collect();
    let mut storages = BTreeMap::new();
    let mut start = reader.position() as usize;
    for key in keys {
        let Object::Unicode(key) = key else {
            return Err("the key of a storage is not a string".to_string());
        };
        // Nothing else tells the size of an element; all tensors of a dictionary share the storages they list.
        let Some(&size) = sizes.get(key.as_str()) else {
            return Err(
                "it is in the format before torch 1.6 and holds more than a dictionary of tensors; save the state_dict alone, \
                 or all of it again with a later torch"
                    .to_string(),
            );
        };
        let count = bytes.get(start..).and_then(|rest| rest.first_chunk::<8>());
        let count = count
            .map(|count| u64::from_le_bytes(*count))
            .and_then(|count| usize::try_from(count).ok());
        let length = count.and_then(|count| count.checked_mul(size));
        let end = length
            .and_then(|length| (start + 8).checked_add(length))
            .filter(|end| *end <= bytes.len());
        let (Some(length), Some(end)) = (length, end) else {
            return Err("the file ends inside a storage".to_string());
        };
        storages.insert(
            key,
            Storage {
                start: start + 8,
                length,
            },
        );
        start = end;
    }
    resolve(tensors, &storages)
}

/// Interprets one pickle, up to and including its end.
fn unpickle(reader: &mut Cursor<&[u8]>) -> Result<Object, String> {
    let message = |error: candle_core::Error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().to_string()
    };
    let mut stack = Stack::empty();
    let mut shapes = Shapes::default();
    let start = reader.position() as usize;
    loop {
        let rest = reader.fill_buf().map_err(|error| error.to_string())?;
        match *rest {
            // candle would shift a LONG1 of more than 8 bytes out of its 64 bits; a state dictionary has none.
            [0x8a, length, ..] if length > 8 => {
                return Err("its pickle holds a number of more than 64 bits".to_string());
            }
            // A BINUNICODE is given memory before it is read.
            [b'X', a, b, c, d, ref text @ ..] if u32::from_le_bytes([a, b, c, d]) as usize > text.len() => {
                return Err("its pickle holds a string that is longer than the file".to_string());
            }
            _ => {}
        }
        let instruction: [u8; 5] = std::array::from_fn(|index| rest.get(index).copied().unwrap_or_default());
        shapes.copies = shapes.copies.saturating_add(shapes.copied_by(instruction));
        if shapes.copies > MOST_COPIES {
            return Err(format!("its pickle copies more than {MOST_COPIES} objects"));
        }
        let is_done = stack.read(reader).map_err(message)?;
        if shapes.follow(instruction, stack.stack().len()) > DEEPEST_PICKLE {
            return Err(format!("its pickle nests more than {DEEPEST_PICKLE} objects"));
        }
        if is_done {
            return stack.finalize().map_err(message);
        }
        if reader.position() as usize - start > LONGEST_PICKLE {
            return Err(format!("its pickle is longer than {LONGEST_PICKLE} bytes"));
        }
    }
}

/// How deep the objects on a pickle's stack and in its memo are, and how many they hold, at most: one that an instruction has made
/// of others is one deeper than the deepest of these.
#[derive(Default)]
struct Shapes {
    stack: Vec<Shape>,
    memo: BTreeMap<u32, Shape>,
    /// Objects that were copied to the memo and from it.
    copies: usize,
}

#[derive(Clone, Copy, Default)]
struct Shape {
    depth: usize,
    objects: usize,
}

impl Shapes {
    /// How many objects an instruction will copy.
    fn copied_by(&self, instruction: [u8; 5]) -> usize {
        match memo_place(instruction) {
            Some((true, _)) => self.top().objects,
            Some((false, place)) => self.memo.get(&place).map_or(0, |shape| shape.objects),
            None => 0,
        }
    }

    /// The depth of the topmost object after an instruction that has left `length` objects on the stack.
    fn follow(&mut self, instruction: [u8; 5], length: usize) -> usize {
        match memo_place(instruction) {
            Some((true, place)) => {
                self.memo.insert(place, self.top());
            }
            Some((false, place)) => {
                self.stack.push(self.memo.get(&place).copied().unwrap_or_default());
            }
            None => {
                let kept = self.stack.len().min(length.saturating_sub(1));
                let used = self.stack.split_off(kept);
                let made = used.into_iter().fold(Shape::default(), |all, one| Shape {
                    depth: all.depth.max(one.depth),
                    objects: all.objects.saturating_add(one.objects),
                });
                self.stack.push(Shape {
                    depth: made.depth + 1,
                    objects: made.objects.saturating_add(1),
                });
            }
        }
        self.top().depth
    }

    fn top(&self) -> Shape {
        self.stack.last().copied().unwrap_or_default()
    }
}

/// Whether an instruction puts the topmost object into the memo (BINPUT, LONG_BINPUT) or takes one out (BINGET, LONG_BINGET), and
/// at which place; `None` for every other one.
fn memo_place([code, index @ ..]: [u8; 5]) -> Option<(bool, u32)> {
    let (short, long) = (u32::from(index[0]), u32::from_le_bytes(index));
    match code {
        b'q' => Some((true, short)),
        b'r' => Some((true, long)),
        b'h' => Some((false, short)),
        b'j' => Some((false, long)),
        _ => None,
    }
}

/// The tensors of a state dictionary, or of the one that a training script has put under `state_dict` or `model`.
fn described(top: Object) -> Result<BTreeMap<String, Described>, String> {
    let nested = ["state_dict", "model"].into_iter().find_map(|key| member(&top, key));
    let dictionary = match nested {
        Some(nested @ Object::Dict(_)) => nested,
        _ => &top,
    };
    let Object::Dict(items) = dictionary else {
        return Err("its pickle is not a dictionary of tensors".to_string());
    };
    let mut tensors = BTreeMap::new();
    for (name, value) in items {
        if let (Object::Unicode(name), Some(tensor)) = (name, rebuilt(value)) {
            tensors.insert(name.clone(), tensor.map_err(|reason| format!("`{name}`: {reason}"))?);
        }
    }
    Ok(tensors)
}

fn member<'a>(dictionary: &'a Object, key: &str) -> Option<&'a Object> {
    let Object::Dict(items) = dictionary else { return None };
    let found = items
        .iter()
        .find(|(name, _)| matches!(name, Object::Unicode(name) if name == key));
    found.map(|(_, value)| value)
}

/// The arguments of a call of one of torch's functions; `None` for every other object.
fn call<'a>(object: &'a Object, function: &str) -> Option<&'a [Object]> {
    let Object::Reduce { callable, args } = object else {
        return None;
    };
    match (&**callable, &**args) {
        (
            Object::Class {
                module_name,
                class_name,
            },
            Object::Tuple(args),
        ) => (module_name == "torch._utils" && class_name == function).then_some(args),
        _ => None,
    }
}

/// The tensor that an object stands for; `None` where it stands for something else.
fn rebuilt(object: &Object) -> Option<Result<Described, String>> {
    if let Some([data, ..]) = call(object, "_rebuild_parameter") {
        return rebuilt(data);
    }
    let args = call(object, "_rebuild_tensor_v2")?;
    Some(tensor(args).unwrap_or_else(|| Err("its description is not understood".to_string())))
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, ..)`; `None` where the arguments are of other kinds.
fn tensor(args: &[Object]) -> Option<Result<Described, String>> {
    let [Object::PersistentLoad(storage), offset, shape, strides, ..] = args else {
        return None;
    };
    // ("storage", type, key, place, length, and in old files a view, which is none)
    let Object::Tuple(storage) = &**storage else {
        return None;
    };
    let [
        _,
        Object::Class { class_name, .. },
        Object::Unicode(key),
        _,
        _,
        view @ ..,
    ] = storage.as_slice()
    else {
        return None;
    };
    if !matches!(view, [] | [Object::None]) {
        return None;
    }
    let dtype = match class_name.as_str() {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        other => return Some(Err(format!("it is of type {other}"))),
    };
    let (offset, shape, strides) = (count(offset)?, counts(shape)?, counts(strides)?);
    let storage = key.clone();
    (shape.len() == strides.len()).then_some(Ok(Described {
        storage,
        dtype,
        offset,
        shape,
        strides,
    }))
}

fn count(object: &Object) -> Option<usize> {
    match object {
        Object::Int(value) => usize::try_from(*value).ok(),
        Object::Long(value) => usize::try_from(*value).ok(),
        _ => None,
    }
}

fn counts(object: &Object) -> Option<Vec<usize>> {
    let Object::Tuple(items) = object else { return None };
    items.iter().map(count).collect()
}

fn resolve(
    tensors: BTreeMap<String, Described>,
    storages: &BTreeMap<String, Storage>,
) -> Result<BTreeMap<String, Entry>, String> {
    let entry = |(name, tensor): (String, Described)| {
        let Described {
            storage,
            dtype,
            offset,
            shape,
            strides,
        } = tensor;
        let found = storages
            .get(&storage)
            .ok_or(format!("the storage of `{name}` is missing"))?;
        let skip = offset
            .checked_mul(dtype.bitsize() / 8)
            .filter(|skip| *skip <= found.length);
        let skip = skip.ok_or(format!("`{name}` begins beyond the end of its storage"))?;
        let entry = Entry::new(dtype, shape, strides, found.start + skip, found.length - skip);
        Ok((name.clone(), entry.map_err(|reason| format!("`{name}`: {reason}"))?))
    };
    tensors.into_iter().map(entry).collect()
}
