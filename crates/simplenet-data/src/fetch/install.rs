use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::ApiBuilder;

use super::download::{has_sum, recorded};
use super::manifest::{Licence, is_plain_name};
use super::verify::{State, category, cifar10_files};
use super::{Download, Error, Event, Limits, Manifest, Progress, Result, Retry, download, extract, files};

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Another source than the manifest's. Its sum must still be the manifest's, except for an archive of one category of
    /// MVTec AD: exactly one of `categories`, and another file name than the whole archive's.
    pub url: Option<&'a str>,
    /// Only these categories of MVTec AD; empty for all.
    pub categories: &'a [String],
    /// The user accepts the licence.
    pub accept_licence: bool,
    /// What to do when the connection fails.
    pub retry: Retry,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nothing: the target is there and whole.
    Already(PathBuf),
    /// The target is there now.
    New {
        /// Folder of the data.
        target: PathBuf,
        /// The archive, kept so that the rest of it can be extracted later. It may be deleted.
        archive: PathBuf,
    },
}

/// Brings MVTec AD, or some of its categories, to `data/mvtec`. Categories that are there and whole are left alone.
pub fn mvtec(manifest: &Manifest, data: &Path, options: &Options<'_>, progress: Progress<'_>) -> Result<Installed> {
    let source = &manifest.mvtec;
    let target = data.join(&source.target);
    let wanted: Vec<&str> = if options.categories.is_empty() {
        source.images.keys().map(String::as_str).collect()
    } else {
        options.categories.iter().map(String::as_str).collect()
    };
    let mut needed = Vec::new();
    for name in wanted {
        if !matches!(
            category(&target.join(name), name, manifest.category(name)?),
            State::Ok(_)
        ) && !needed.contains(&name)
        {
            needed.push(name);
        }
    }
    if needed.is_empty() {
        return Ok(Installed::Already(target));
    }
    check_licence(&source.title, &source.licence, options)?;

    let _lock = lock(data, &source.target)?;
    let own_archive = match (options.url, options.categories) {
        (Some(url), [_]) => Some((url, url_name(url))).filter(|(_, name)| *name != source.archive.name),
        _ => None,
    };
    let archive = match own_archive {
        Some((url, name)) => download_unknown(url, name, data, options, progress)?,
        None => download_archive(&source.archive, data, options, progress)?,
    };

    let is_own = own_archive.is_some();
    let installed = install_categories(manifest, &archive, is_own, &needed, data, progress);
    if is_own
        && installed
            .as_ref()
            .is_err_and(|error| !matches!(error, Error::Io { .. }))
    {
        // Nothing vouches for this archive: kept, it would be taken again from here and fail again.
        files::remove(&archive)?;
        files::remove(&archive.with_added_extension("sha256"))?;
    }
    installed?;
    Ok(Installed::New { target, archive })
}

/// Extracts categories, checks them, and gives each its name.
fn install_categories(
    manifest: &Manifest,
    archive: &Path,
    is_own_archive: bool,
    needed: &[&str],
    data: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let target = data.join(&manifest.mvtec.target);
    let staging = files::Staging::beside(&target)?;
    // The whole archive has the categories at its top or in one folder, beside a licence and a readme.
    let keep = |path: &Path| {
        let mut names = path.iter().take(2);
        let is_note = path.extension() == Some(OsStr::new("txt")) && path.iter().count() <= 2;
        is_own_archive || is_note || names.any(|name| needed.iter().any(|needed| name == OsStr::new(needed)))
    };
    extract(archive, staging.path(), Limits::default(), &keep, progress)?;

    files::create_folder(&target)?;
    for name in needed {
        let counts = manifest.category(name)?;
        let folder = find_category(staging.path(), name, is_own_archive);
        let problem = match folder.as_deref().map(|folder| category(folder, name, counts)) {
            Some(State::Ok(_)) => None,
            Some(State::Damaged(problems)) => Some(problems.join("; ")),
            Some(State::Missing(_)) | None => Some(format!("there is no folder `{name}` with train/good in it")),
        };
        contents(archive, &format!("category `{name}`"), problem)?;
        if let Some(folder) = folder {
            replace(&folder, &target.join(name), data, progress)?;
        }
    }
    for note in ["license.txt", "readme.txt"] {
        let found = find(staging.path(), 1, &|folder| folder.join(note).is_file());
        if let Some(folder) = found.filter(|_| !target.join(note).exists()) {
            files::rename(&folder.join(note), &target.join(note))?;
        }
    }
    Ok(())
}

/// Brings the binary version of CIFAR-10 to `data/cifar10`.
pub fn cifar10(manifest: &Manifest, data: &Path, options: &Options<'_>, progress: Progress<'_>) -> Result<Installed> {
    let source = &manifest.cifar10;
    let target = data.join(&source.target);
    if matches!(cifar10_files(&target, &source.files), State::Ok(_)) {
        return Ok(Installed::Already(target));
    }
    check_licence(&source.title, &source.licence, options)?;

    let _lock = lock(data, &source.target)?;
    let archive = download_archive(&source.archive, data, options, progress)?;
    let staging = files::Staging::beside(&target)?;
    extract(&archive, staging.path(), Limits::default(), &|_| true, progress)?;
    let has_files = |folder: &Path| source.files.keys().any(|name| folder.join(name).is_file());
    let folder = find(staging.path(), 2, &has_files).unwrap_or_else(|| staging.path().to_owned());
    let problem = match cifar10_files(&folder, &source.files) {
        State::Ok(_) => None,
        State::Missing(_) => Some("none of its files is there".to_owned()),
        State::Damaged(problems) => Some(problems.join("; ")),
    };
    contents(&archive, &source.title, problem)?;
    replace(&folder, &target, data, progress)?;
    Ok(Installed::New { target, archive })
}

/// The weights of a network: `data/weights/ARCH/model.safetensors`, downloaded if they are not there. Their sum is checked
/// each time.
pub fn weights(manifest: &Manifest, arch: &str, data: &Path, progress: Progress<'_>) -> Result<PathBuf> {
    weights_with(manifest, arch, data, &Options::default(), progress)
}

/// [`weights`] from another source or with other patience.
pub fn weights_with(
    manifest: &Manifest,
    arch: &str,
    data: &Path,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<PathBuf> {
    let source = manifest.weights(arch)?;
    let folder = data.join("weights").join(arch);
    let target = folder.join("model.safetensors");
    let record = folder.join("model.safetensors.sha256");
    if target.is_file() && has_sum(&target, source.sum.as_ref(), &record, progress)? {
        return Ok(target);
    }
    check_licence(arch, &source.licence, options)?;

    let known = source.sum.clone().or(recorded(&record)?);
    let url = match options.url {
        Some(url) => url.to_owned(),
        None => hub_url(&source.repository, &source.file, data)?,
    };
    let request = Download {
        url: &url,
        folder: &data.join(".download"),
        name: &format!("{arch}.safetensors"),
        sum: known.as_ref(),
        bytes: None,
        retry: options.retry,
    };
    let file = download(&request, progress)?;
    let its_record = file.with_added_extension("sha256");
    if !is_safetensors(&file)? {
        files::remove(&file)?;
        files::remove(&its_record)?;
        return Err(Error::NotSafetensors { url });
    }
    files::create_folder(&folder)?;
    if its_record.is_file() {
        files::rename(&its_record, &record)?;
    }
    replace(&file, &target, data, progress)?;
    Ok(target)
}

/// Where the hub has a file. hf-hub knows the hub's addresses; its own download is not used, because it keeps no validator
/// with a partial file, takes an answer from byte 0 for the rest where a server ignores ranges, and checks no sum. It honours
/// `HF_ENDPOINT` only together with a cache below the home folder, which need not exist here, so that is read here.
fn hub_url(repository: &str, file: &str, data: &Path) -> Result<String> {
    let mut builder = ApiBuilder::from_cache(Cache::new(data.join(".download"))).with_progress(false);
    if let Ok(endpoint) = std::env::var("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let api = builder.build().map_err(|error| Error::Unreachable {
        url: repository.to_owned(),
        reason: error.to_string(),
        hint: "look at HF_ENDPOINT and HTTPS_PROXY",
    })?;
    Ok(api.model(repository.to_owned()).url(file))
}

/// Whether a file begins like a safetensors file: the length of a JSON object, then the object.
fn is_safetensors(path: &Path) -> Result<bool> {
    use std::io::Read;
    const LONGEST_HEADER: u64 = 100_000_000;
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let total = file.metadata().map_err(Error::io("read", path))?.len();
    if total < 10 {
        return Ok(false);
    }
    let mut start = [0; 9];
    file.read_exact(&mut start).map_err(Error::io("read", path))?;
    let [length @ .., first] = start;
    let length = u64::from_le_bytes(length);
    Ok(first == b'{' && length <= LONGEST_HEADER && length <= total - 8)
}

fn check_licence(title: &str, licence: &Licence, options: &Options<'_>) -> Result<()> {
    match &licence.accept {
        Some(terms) if !options.accept_licence => Err(Error::Licence {
            title: title.to_owned(),
            licence: licence.name.clone(),
            url: licence.url.clone(),
            terms: terms.clone(),
        }),
        _ => Ok(()),
    }
}

fn lock(data: &Path, target: &str) -> Result<std::fs::File> {
    let folder = data.join(".download");
    files::create_folder(&folder)?;
    files::lock(&folder.join(format!("{target}.lock")))
}

fn download_archive(
    archive: &super::Archive,
    data: &Path,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<PathBuf> {
    let request = Download {
        url: options.url.unwrap_or(&archive.url),
        folder: &data.join(".download"),
        name: &archive.name,
        sum: Some(&archive.sum),
        bytes: Some(archive.bytes),
        retry: options.retry,
    };
    download(&request, progress)
}

/// Downloads a file of which the manifest knows nothing.
fn download_unknown(
    url: &str,
    name: &str,
    data: &Path,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<PathBuf> {
    if !is_plain_name(name) {
        return Err(Error::Unreachable {
            url: url.to_owned(),
            reason: "the address has no file name".to_owned(),
            hint: "a source is an address such as https://host/file",
        });
    }
    let request = Download {
        url,
        folder: &data.join(".download"),
        name,
        sum: None,
        bytes: None,
        retry: options.retry,
    };
    download(&request, progress)
}

/// The last segment of an address's path.
fn url_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

fn contents(archive: &Path, wanted: &str, problem: Option<String>) -> Result<()> {
    problem.map_or(Ok(()), |problem| {
        Err(Error::Contents {
            path: archive.to_owned(),
            wanted: wanted.to_owned(),
            problem,
        })
    })
}

/// The folder of a category in an extracted archive. In the archive of one category that folder may have any name, or be the
/// top.
fn find_category(staging: &Path, name: &str, is_own_archive: bool) -> Option<PathBuf> {
    let is_category = |folder: &Path| folder.join("train").join("good").is_dir();
    let named = find(staging, 1, &|folder| is_category(&folder.join(name)));
    match named {
        Some(root) => Some(root.join(name)),
        None if is_own_archive => find(staging, 2, &is_category),
        None => None,
    }
}

/// The first folder that fits: `root` itself, or one at most `depth` levels below it.
fn find(root: &Path, depth: usize, fits: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    if fits(root) {
        return Some(root.to_owned());
    }
    let inner = depth.checked_sub(1)?;
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().find_map(|folder| find(folder, inner, fits))
}

/// Gives something new its final name. What has that name now goes to `data/.download/aside`.
fn replace(from: &Path, to: &Path, data: &Path, progress: Progress<'_>) -> Result<()> {
    if to.symlink_metadata().is_ok() {
        let aside = data.join(".download").join("aside");
        files::create_folder(&aside)?;
        let name = super::file_name(to);
        let free = (1..)
            .map(|number| aside.join(format!("{name}.{number}")))
            .find(|path| path.symlink_metadata().is_err());
        if let Some(free) = free {
            files::rename(to, &free)?;
            progress(Event::MovedAside { from: to, to: &free });
        }
    }
    files::rename(from, to)
}
