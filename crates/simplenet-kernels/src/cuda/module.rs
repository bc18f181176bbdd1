//! Our kernels' machine code: loaded when first asked for, kept until the program ends.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, Result, bail};

include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));

/// What is loaded, by the ordinal of the device: all handles of one GPU share its primary context.
#[derive(Default)]
struct Loaded {
    modules: HashMap<(usize, &'static str), Arc<CudaModule>>,
    functions: HashMap<(usize, &'static str, &'static str), CudaFunction>,
}

static LOADED: LazyLock<Mutex<Loaded>> = LazyLock::new(Mutex::default);

/// The kernel `name` of `kernels/<module>.cu`.
///
/// # Errors
/// Where there is no such file or kernel, or the driver refuses the code.
pub(crate) fn function(device: &CudaDevice, module: &'static str, name: &'static str) -> Result<CudaFunction> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let ordinal = context.ordinal();
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = loaded.functions.get(&(ordinal, module, name)) {
        return Ok(function.clone());
    }
    let code = match loaded.modules.get(&(ordinal, module)) {
        Some(code) => code.clone(),
        None => {
            let Some((_, image)) = FATBINS.iter().find(|(stem, _)| *stem == module) else {
                bail!("there is no `kernels/{module}.cu`");
            };
            let code = context.load_module(Ptx::from_binary(image.to_vec())).w()?;
            loaded.modules.insert((ordinal, module), code.clone());
            code
        }
    };
    let function = match code.load_function(name) {
        Ok(function) => function,
        Err(error) => bail!("`kernels/{module}.cu` has no kernel `{name}`: {error}"),
    };
    loaded.functions.insert((ordinal, module, name), function.clone());
    Ok(function)
}
