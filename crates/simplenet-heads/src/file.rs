//! A head as safetensors: the tensors of [`Head::tensors`], and `standardize.mean|scale` where it standardises.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::config::{Adaptor, HeadConfig};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::layout::Layout;
use crate::scalar::Scalar;
use crate::standardize::Standardizer;

const MEAN: &str = "standardize.mean";
const SCALE: &str = "standardize.scale";
const RUNNING_MEAN: &str = "disc.bn.running_mean";
const RUNNING_VAR: &str = "disc.bn.running_var";

/// A tensor ready to be written: name, shape, little-endian bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Type of the values.
    pub dtype: Dtype,
    /// Values.
    pub bytes: Vec<u8>,
}

impl<T: Scalar> Head<T> {
    /// Every tensor that makes this head, each name behind `prefix`, for a file that holds other things as well.
    pub fn stored_tensors(&self, prefix: &str) -> Vec<StoredTensor> {
        let mut stored: Vec<StoredTensor> = self
            .tensors()
            .map(|tensor| store(format!("{prefix}{}", tensor.name), tensor.shape, tensor.data))
            .collect();
        if let Some(standardizer) = self.standardizer() {
            let shape = || vec![standardizer.dim()];
            stored.push(store(format!("{prefix}{MEAN}"), shape(), standardizer.mean()));
            stored.push(store(format!("{prefix}{SCALE}"), shape(), standardizer.scale()));
        }
        stored
    }

    /// A safetensors file with this head and nothing else.
    ///
    /// # Errors
    /// [`Error::Safetensors`] where the writer refuses.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let stored = self.stored_tensors("");
        let views: Vec<(&str, TensorView<'_>)> = stored
            .iter()
            .map(|tensor| {
                let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?;
                Ok((tensor.name.as_str(), view))
            })
            .collect::<Result<_>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// The head of a file that [`Head::to_safetensors`] made.
    ///
    /// # Errors
    /// [`Error::Safetensors`] where it is no safetensors file, else as [`Head::from_tensors`].
    pub fn from_safetensors(bytes: &[u8]) -> Result<Head<T>> {
        Head::from_tensors(&SafeTensors::deserialize(bytes)?, "")
    }

    /// The head whose tensors begin with `prefix`. Its shape is read off them; values are converted from f32 or f64.
    ///
    /// # Errors
    /// [`Error::NotAHead`] where a tensor is missing, superfluous, of the wrong shape or type, or has unusable values.
    pub fn from_tensors(file: &SafeTensors<'_>, prefix: &str) -> Result<Head<T>> {
        let names: Vec<&str> = file
            .names()
            .into_iter()
            .filter_map(|name| name.strip_prefix(prefix))
            .collect();
        let config = infer_config(file, prefix, &names)?;
        let layout = Layout::new(&config);
        let mut parameters = vec![T::ZERO; layout.len()];
        for entry in &layout.entries {
            let values = read(file, prefix, &entry.name, &entry.shape)?;
            parameters[entry.place.clone()].copy_from_slice(&values);
        }
        let running_mean = read(file, prefix, RUNNING_MEAN, &[config.hidden])?;
        let running_var: Vec<T> = read(file, prefix, RUNNING_VAR, &[config.hidden])?;
        if running_var.iter().any(|&variance| variance < T::ZERO) {
            return Err(Error::NotAHead(format!(
                "{prefix}{RUNNING_VAR} has a negative variance"
            )));
        }
        let standardizes = names.contains(&MEAN) || names.contains(&SCALE);
        let standardizer = if standardizes {
            let mean = read(file, prefix, MEAN, &[config.dim])?;
            let scale = read(file, prefix, SCALE, &[config.dim])?;
            Some(Standardizer::from_parts(mean, scale)?)
        } else {
            None
        };
        let known = |name: &str| {
            let statistics = [RUNNING_MEAN, RUNNING_VAR, MEAN, SCALE];
            statistics.contains(&name) || layout.entries.iter().any(|entry| entry.name == name)
        };
        if let Some(name) = names.iter().filter(|name| !known(name)).min() {
            return Err(Error::NotAHead(format!(
                "{prefix}{name} belongs to no head of shape {config:?}"
            )));
        }
        Ok(Head {
            config,
            layout,
            parameters,
            running_mean,
            running_var,
            standardizer,
        })
    }
}

fn infer_config(file: &SafeTensors<'_>, prefix: &str, names: &[&str]) -> Result<HeadConfig> {
    let first = view(file, prefix, "disc.fc1.weight")?;
    let &[hidden, dim] = first.shape() else {
        let shape = first.shape();
        return Err(Error::NotAHead(format!(
            "{prefix}disc.fc1.weight has shape {shape:?}, expected [hidden, dim]"
        )));
    };
    let adaptor = match (names.contains(&"adaptor.0.weight"), names.contains(&"adaptor.1.weight")) {
        (false, false) => Adaptor::None,
        (true, false) => Adaptor::Linear {
            bias: names.contains(&"adaptor.0.bias"),
        },
        (true, true) => Adaptor::Mlp,
        (false, true) => return Err(Error::NotAHead(format!("{prefix}adaptor.0.weight is missing"))),
    };
    let config = HeadConfig { dim, hidden, adaptor };
    config.check()?;
    // The file holds `hidden` rows of the discriminator, but an adaptor is a square: look before room is made for one.
    let layers = match adaptor {
        Adaptor::None => &[][..],
        Adaptor::Linear { .. } => &["adaptor.0.weight"],
        Adaptor::Mlp => &["adaptor.0.weight", "adaptor.1.weight"],
    };
    for name in layers {
        check_shape(view(file, prefix, name)?.shape(), prefix, name, &[dim, dim])?;
    }
    Ok(config)
}

fn view<'a>(file: &SafeTensors<'a>, prefix: &str, name: &str) -> Result<TensorView<'a>> {
    let missing = |_| Error::NotAHead(format!("{prefix}{name} is missing"));
    file.tensor(&format!("{prefix}{name}")).map_err(missing)
}

fn check_shape(found: &[usize], prefix: &str, name: &str, expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::NotAHead(format!(
        "{prefix}{name} has shape {found:?}, expected {expected:?}"
    )))
}

pub(crate) fn read<T: Scalar>(file: &SafeTensors<'_>, prefix: &str, name: &str, shape: &[usize]) -> Result<Vec<T>> {
    let view = view(file, prefix, name)?;
    check_shape(view.shape(), prefix, name, shape)?;
    let values: Vec<T> = match view.dtype() {
        Dtype::F32 => {
            let (chunks, _) = view.data().as_chunks::<4>();
            chunks
                .iter()
                .map(|&bytes| T::from_f32(f32::from_le_bytes(bytes)))
                .collect()
        }
        Dtype::F64 => {
            let (chunks, _) = view.data().as_chunks::<8>();
            chunks
                .iter()
                .map(|&bytes| T::from_f64(f64::from_le_bytes(bytes)))
                .collect()
        }
        other => {
            return Err(Error::NotAHead(format!(
                "{prefix}{name} is of type {other:?}, expected F32 or F64"
            )));
        }
    };
    if let Some(index) = values.iter().position(|value| !value.to_f64().is_finite()) {
        return Err(Error::NotAHead(format!(
            "{prefix}{name} has {:?} at index {index}",
            values[index]
        )));
    }
    Ok(values)
}

pub(crate) fn store<T: Scalar>(name: String, shape: Vec<usize>, values: &[T]) -> StoredTensor {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    values.iter().for_each(|value| value.push_bytes(&mut bytes));
    StoredTensor {
        name,
        shape,
        dtype: T::DTYPE,
        bytes,
    }
}

/// The shape of a tensor.
pub(crate) fn shape(file: &SafeTensors<'_>, prefix: &str, name: &str) -> Result<Vec<usize>> {
    Ok(view(file, prefix, name)?.shape().to_vec())
}

/// Refuses a file that has other tensors with this prefix.
pub(crate) fn only_known(file: &SafeTensors<'_>, prefix: &str, known: &[&str]) -> Result<()> {
    let names = file.names().into_iter().filter_map(|name| name.strip_prefix(prefix));
    match names.filter(|name| !known.contains(name)).min() {
        Some(name) => Err(Error::NotAHead(format!(
            "{prefix}{name} belongs to no head of this kind"
        ))),
        None => Ok(()),
    }
}

/// A one-dimensional tensor of indices.
pub(crate) fn read_indices(file: &SafeTensors<'_>, prefix: &str, name: &str) -> Result<Vec<usize>> {
    let view = view(file, prefix, name)?;
    if view.dtype() != Dtype::I64 || view.shape().len() != 1 {
        let (dtype, shape) = (view.dtype(), view.shape());
        return Err(Error::NotAHead(format!(
            "{prefix}{name} is {dtype:?} {shape:?}, expected I64 and one dimension"
        )));
    }
    let (chunks, _) = view.data().as_chunks::<8>();
    let values = chunks.iter().map(|&bytes| usize::try_from(i64::from_le_bytes(bytes)));
    let negative = |_| Error::NotAHead(format!("{prefix}{name} has a negative value"));
    values.collect::<std::result::Result<_, _>>().map_err(negative)
}
