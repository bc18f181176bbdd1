use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Error, Event, Progress, Result};

/// The sum that a file must have, in lower-case hexadecimal digits. Written `sha256:...` or `md5:...`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Sum {
    /// 64 digits.
    Sha256(String),
    /// 32 digits, where nothing better is published.
    Md5(String),
}

impl Sum {
    /// The sum of a file by the same algorithm as this one. Reports [`Event::Hashed`].
    pub fn of_same_kind(&self, path: &Path, progress: Progress<'_>) -> Result<Sum> {
        Ok(match self {
            Sum::Sha256(_) => sha256(path, progress)?,
            Sum::Md5(_) => Sum::Md5(digest::<Md5>(path, progress)?),
        })
    }
}

/// The SHA-256 of a file. Reports [`Event::Hashed`].
pub fn sha256(path: &Path, progress: Progress<'_>) -> Result<Sum> {
    Ok(Sum::Sha256(digest::<Sha256>(path, progress)?))
}

impl fmt::Display for Sum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sum::Sha256(digits) => write!(formatter, "sha256:{digits}"),
            Sum::Md5(digits) => write!(formatter, "md5:{digits}"),
        }
    }
}

impl TryFrom<String> for Sum {
    type Error = String;

    fn try_from(text: String) -> Result<Sum, String> {
        let of = |digits: &str, length: usize| {
            (digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .then(|| digits.to_ascii_lowercase())
                .ok_or_else(|| format!("`{text}` must have {length} hexadecimal digits"))
        };
        match text.split_once(':') {
            Some(("sha256", digits)) => Ok(Sum::Sha256(of(digits, 64)?)),
            Some(("md5", digits)) => Ok(Sum::Md5(of(digits, 32)?)),
            _ => Err(format!("`{text}` must begin with `sha256:` or `md5:`")),
        }
    }
}

fn digest<D: Digest>(path: &Path, progress: Progress<'_>) -> Result<String> {
    let name = super::file_name(path);
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let total = file.metadata().map_err(Error::io("read", path))?.len();
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        progress(Event::Hashed {
            name: &name,
            bytes,
            total,
        });
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
