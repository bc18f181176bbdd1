//! PyTorch's checkpoints, read without running them.
//!
//! A `.pth` is a pickle, which is a program. candle's reader interprets the few instructions that build dictionaries and
//! tuples, turns every call into data, and calls nothing; here that data is searched for tensors. A file made to do harm
//! can still ask for much memory; it cannot run anything.

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
        let size = *sizes.get(key.as_str()).ok_or("a storage belongs to no tensor")?;
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
    let mut depths = Depths::default();
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
        let is_done = stack.read(reader).map_err(message)?;
        if depths.follow(instruction, stack.stack().len()) > DEEPEST_PICKLE {
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

/// How deep the objects on a pickle's stack and in its memo are, at most: one that an instruction has made of others is one
/// deeper than the deepest of these.
#[derive(Default)]
struct Depths {
    stack: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

impl Depths {
    /// The depth of the topmost object after an instruction that has left `length` objects on the stack.
    fn follow(&mut self, [code, index @ ..]: [u8; 5], length: usize) -> usize {
        let (short, long) = (u32::from(index[0]), u32::from_le_bytes(index));
        let top = |stack: &[usize]| stack.last().copied().unwrap_or_default();
        match code {
            // BINPUT and LONG_BINPUT.
            b'q' | b'r' => {
                let place = if code == b'q' { short } else { long };
                self.memo.insert(place, top(&self.stack));
            }
            // BINGET and LONG_BINGET.
            b'h' | b'j' => {
                let place = if code == b'h' { short } else { long };
                self.stack.push(self.memo.get(&place).copied().unwrap_or_default());
            }
            _ => {
                let kept = self.stack.len().min(length.saturating_sub(1));
                let used = self.stack.split_off(kept);
                self.stack.push(1 + used.into_iter().max().unwrap_or_default());
            }
        }
        top(&self.stack)
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
