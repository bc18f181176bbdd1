use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::EntryType;
use xz2::bufread::XzDecoder;
use xz2::stream::{CONCATENATED, Stream};

use super::{Error, Event, Progress, Result, files};

/// The most that an archive may hold. The defaults are several times what MVTec AD holds (6800 entries, 5.4 GB).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files and folders.
    pub entries: u64,
    /// Bytes after decompression, headers and skipped entries included.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 100_000,
            bytes: 32 << 30,
        }
    }
}

/// Extracts a tar file, compressed with xz or gzip, into `folder`, which must be empty or new.
///
/// Only regular files and folders below `folder` are made: an entry with an absolute path, a `..`, a link or a device is an
/// error, and so is a second entry of the same name. `keep` decides by the path in the archive what is written; all the rest
/// is read and checked too. Times, owners and permissions are not taken over. Reports [`Event::Extracted`] in bytes of the
/// archive.
pub fn extract(
    archive: &Path,
    folder: &Path,
    limits: Limits,
    keep: &dyn Fn(&Path) -> bool,
    progress: Progress<'_>,
) -> Result<()> {
    let name = super::file_name(archive);
    let damaged = |source: io::Error| Error::DamagedArchive {
        path: archive.to_owned(),
        source,
    };
    let too_many = |what, limit| Error::ArchiveLimit {
        path: archive.to_owned(),
        what,
        limit,
    };
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let total = file.metadata().map_err(Error::io("read", archive))?.len();
    let position = Cell::new(0);
    let left = Cell::new(limits.bytes);
    let decoder = Bounded {
        inner: decoder(file, archive, &position)?,
        left: &left,
    };
    // The decoder says "other error" when the limit is reached; only the counter knows that it was the limit.
    let failed = |error: io::Error| match left.get() {
        0 => too_many("bytes", limits.bytes),
        _ => damaged(error),
    };

    files::create_folder(folder)?;
    let mut tar = tar::Archive::new(decoder);
    let mut written = Vec::new();
    for (count, entry) in tar.entries().map_err(failed)?.enumerate() {
        let mut entry = entry.map_err(failed)?;
        if count as u64 >= limits.entries {
            return Err(too_many("entries", limits.entries));
        }
        let path = entry.path().map_err(failed)?.into_owned();
        let refused = |reason: String| Error::RefusedEntry {
            path: archive.to_owned(),
            entry: path.display().to_string(),
            reason,
        };
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let inside = relative(&path).map_err(|reason| refused(reason.to_owned()))?;
        let is_folder = match kind {
            EntryType::Directory => true,
            EntryType::Regular | EntryType::Continuous => false,
            EntryType::Symlink | EntryType::Link => return Err(refused("links are not extracted".to_owned())),
            other => return Err(refused(format!("only files and folders are extracted, not {other:?}"))),
        };
        if !keep(&inside) {
            continue;
        }
        let target = folder.join(&inside);
        if is_folder {
            files::create_folder(&target)?;
            continue;
        }
        if let Some(parent) = target.parent() {
            files::create_folder(parent)?;
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&target) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refused("it is there twice".to_owned()));
            }
            Err(error) => return Err(Error::io("write", &target)(error)),
        };
        let size = entry.size();
        let copied = copy(&mut entry, &mut file, failed, Error::io("write", &target))?;
        if copied != size {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        written.push(target);
        progress(Event::Extracted {
            name: &name,
            bytes: position.get(),
            total,
        });
    }
    // What follows the last entry holds the checksums of the compression.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(failed)?;
    sync(&written)
}

/// The path below the folder of extraction.
fn relative(path: &Path) -> Result<PathBuf, &'static str> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("its path has `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute"),
        }
    }
    Ok(inside)
}

/// Like [`io::copy`], which does not tell whose error it was: the archive's or the disk's.
fn copy(
    from: &mut impl Read,
    to: &mut impl io::Write,
    read_error: impl FnOnce(io::Error) -> Error,
    write_error: impl FnOnce(io::Error) -> Error,
) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => match to.write_all(&buffer[..read]) {
                Ok(()) => bytes += read as u64,
                Err(error) => return Err(write_error(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
}

/// After everything is written: by then most of it is on its way to the disk already, and no file has to wait alone.
fn sync(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("sync", path))?;
    }
    Ok(())
}

fn decoder<'a>(mut file: File, archive: &Path, position: &'a Cell<u64>) -> Result<Box<dyn Read + 'a>> {
    /// xz's strongest preset takes 65 MiB; a stream that asks for much more is made to exhaust the memory.
    const XZ_MEMORY: u64 = 512 << 20;
    let mut magic = [0; 6];
    let mut length = 0;
    while length < magic.len() {
        match file.read(&mut magic[length..]).map_err(Error::io("read", archive))? {
            0 => break,
            read => length += read,
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io("read", archive))?;
    let file = BufReader::with_capacity(1 << 20, Counted { inner: file, position });
    match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream =
                Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(|error| Error::DamagedArchive {
                    path: archive.to_owned(),
                    source: error.into(),
                })?;
            Ok(Box::new(XzDecoder::new_stream(file, stream)))
        }
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(file))),
        _ => Err(Error::ArchiveFormat {
            path: archive.to_owned(),
        }),
    }
}

/// Tells how far the archive is read.
struct Counted<'a> {
    inner: File,
    position: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}

/// Ends with an error where a small archive grows without end.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)? as u64;
        let left = self.left.get();
        self.left.set(left.saturating_sub(read));
        if read >= left && read > 0 {
            return Err(io::Error::other("the limit is reached"));
        }
        Ok(read as usize)
    }
}
