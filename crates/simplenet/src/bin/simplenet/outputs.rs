//! What a run will write: found to be writable, and to replace nothing of value, before any work is done.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use simplenet_files::folder_of;

use crate::inputs::Input;
use crate::picture;

/// What an image is called that must stay as it is.
pub(crate) const JUDGED: &str = "the image to judge";

/// Folders for pictures, by the option that names them.
pub(crate) type Folders<'a> = [(&'static str, Option<&'a Path>); 2];

/// Places that are taken, by what is or will be there.
#[derive(Default)]
pub(crate) struct Outputs {
    taken: HashMap<PathBuf, Taken>,
}

enum Taken {
    /// It must stay as it is.
    Kept(String),
    /// A picture that one of the folders gets, of the image at this place.
    Picture { folder: PathBuf, image: PathBuf },
}

impl Outputs {
    /// A file that must stay as it is, with what it is, such as "the detector".
    pub(crate) fn keep(&mut self, path: &Path, what: &str) {
        let what = format!("{what} {}", path.display());
        // Under a link lies the file that counts.
        for place in [Some(place(path)), path.canonicalize().ok()].into_iter().flatten() {
            self.taken.entry(place).or_insert_with(|| Taken::Kept(what.clone()));
        }
    }

    /// A file that an option names, to be written when all is done.
    pub(crate) fn file(&mut self, option: &str, path: &Path) -> Result<()> {
        writable(option, path)?;
        if let Some(Taken::Kept(what)) = self.taken.get(&place(path)) {
            bail!(
                "`{option}` {} would replace {what}\n\nhint: name another file",
                path.display()
            );
        }
        self.keep(path, &format!("the file of `{option}`,"));
        Ok(())
    }

    /// Makes folders for pictures.
    pub(crate) fn folders(&mut self, folders: Folders) -> Result<()> {
        if let [(first, Some(one)), (second, Some(other))] = folders
            && resolved(one) == resolved(other)
        {
            bail!(
                "`{first}` and `{second}` are both {}, where their pictures would have the same names\n\nhint: name two folders",
                one.display()
            );
        }
        for (option, folder) in folders {
            if let Some(folder) = folder {
                make(option, folder)?;
            }
        }
        Ok(())
    }

    /// Takes the places of an image's pictures. An error, and nothing is to be written, where something else is there.
    pub(crate) fn claim(&mut self, folders: Folders, input: &Input) -> Result<()> {
        let image = place(&input.path);
        for (option, folder) in folders {
            let Some(folder) = folder else { continue };
            let target = picture::path(folder, &input.label);
            let refuse = |what: &str, hint: &str| {
                anyhow!(
                    "the picture of {} in `{option}` would be {}, and replace {what}\n\nhint: {hint}",
                    input.path.display(),
                    target.display()
                )
            };
            match self.taken.entry(place(&target)) {
                Entry::Vacant(entry) => {
                    entry.insert(Taken::Picture {
                        folder: folder.to_owned(),
                        image: image.clone(),
                    });
                }
                Entry::Occupied(entry) => match entry.get() {
                    Taken::Kept(what) => return Err(refuse(what, "name a folder that holds nothing else")),
                    Taken::Picture {
                        folder: there,
                        image: of,
                    } if there != folder || *of != image => {
                        return Err(refuse(
                            &format!("that of {}", of.display()),
                            "judge them in two runs, into two folders",
                        ));
                    }
                    Taken::Picture { .. } => {}
                },
            }
        }
        Ok(())
    }

    /// Refuses what one of the pictures' places is already meant for, without taking any.
    pub(crate) fn check(&self, folders: Folders, input: &Input) -> Result<()> {
        for (option, folder) in folders {
            let Some(folder) = folder else { continue };
            let target = picture::path(folder, &input.label);
            if let Some(Taken::Kept(what)) = self.taken.get(&place(&target)) {
                bail!(
                    "the picture of `{option}` would be {} and replace {what}",
                    target.display()
                );
            }
        }
        Ok(())
    }

    /// Claims the pictures of an image whose followers are not known yet. An error where it is itself to be replaced.
    pub(crate) fn admit(&mut self, folders: Folders, input: &Input) -> Result<()> {
        if let Some(Taken::Kept(what)) = self.taken.get(&place(&input.path))
            && !what.starts_with(JUDGED)
        {
            bail!("{} is {what}\n\nhint: name an image", input.path.display());
        }
        self.keep(&input.path, JUDGED);
        self.claim(folders, input)
    }
}

/// Refuses a file that could not be written, by the name that was typed.
pub(crate) fn writable(option: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    let refuse = |reason: &str, hint: &str| anyhow!("cannot write `{option}` {shown}: {reason}\n\nhint: {hint}");
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(refuse("it is a folder", "name a file in it")),
        // Renaming over a device or a pipe would replace it.
        Ok(there) if !there.is_file() => return Err(refuse("it is no ordinary file", "name another file")),
        _ => {}
    }
    let folder = folder_of(path);
    let in_it = format!("in its folder {}", folder.display());
    match std::fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(refuse(
            &format!("the folder {} is not there", folder.display()),
            "make the folder first, or name another one",
        )),
        Err(error) => Err(refuse(&format!("{in_it}: {error}"), "name a file in another folder")),
        Ok(there) if !there.is_dir() => Err(refuse(
            &format!("{} is no folder", folder.display()),
            "name a file in another folder",
        )),
        Ok(_) => try_file_in(folder)
            .map_err(|reason| refuse(&format!("{in_it}: {reason}"), "name a folder that you may write to")),
    }
}

/// Makes a folder that an option names, and sees whether a file can be made in it.
pub(crate) fn make(option: &str, folder: &Path) -> Result<()> {
    let refuse = |reason: String| {
        anyhow!(
            "cannot write into `{option}` {}: {reason}\n\nhint: name a folder that you may write to",
            folder.display()
        )
    };
    if folder.exists() && !folder.is_dir() {
        return Err(refuse("it is no folder".into()));
    }
    std::fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
    try_file_in(folder).map_err(refuse)
}

/// The reason why no file can be made in a folder; the file is gone at once.
fn try_file_in(folder: &Path) -> Result<(), String> {
    // By our own call, whose reason does not name the temporary file.
    let open = |path: &Path| File::options().write(true).create_new(true).open(path);
    let builder = &mut tempfile::Builder::new();
    let made = builder.prefix(".").suffix(".tmp").make_in(folder, open);
    made.map(drop).map_err(|error| error.to_string())
}

/// Where a path lies: links among its folders are followed, its own name stands, since a file is replaced by renaming.
pub(crate) fn place(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) => resolved(folder_of(path)).join(name),
        None => resolved(path),
    }
}

/// A folder by its real path, as far as it is there.
pub(crate) fn resolved(folder: &Path) -> PathBuf {
    for ancestor in folder.ancestors() {
        let here = if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        };
        if let (Ok(real), Ok(rest)) = (here.canonicalize(), folder.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    folder.to_owned()
}
