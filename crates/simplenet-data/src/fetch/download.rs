use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::http::{self, Failure};
use super::sum::{Sum, sha256};
use super::{Error, Event, Progress, Result, files};

/// A file to download.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// Where it lies.
    pub url: &'a str,
    /// Folder that it goes to; made if it is not there.
    pub folder: &'a Path,
    /// Its name in that folder. While it is incomplete, it is `NAME.part`.
    pub name: &'a str,
    /// The sum it must have. Without one, the sum of the first download is kept in `NAME.sha256`.
    pub sum: Option<&'a Sum>,
    /// Its size, if known.
    pub bytes: Option<u64>,
    /// What to do when the connection fails.
    pub retry: Retry,
}

/// How often and how patiently to try again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries without a byte gained, before giving up.
    pub attempts: u32,
    /// Pause after the first failure. It doubles each time, up to half a minute.
    pub pause: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 6,
            pause: Duration::from_secs(1),
        }
    }
}

/// Downloads a file, going on from what an earlier run left, and checks its sum. A file that is already there and has its
/// sum is left alone.
///
/// Bytes of two versions of a file are never put together: the version (`ETag` or `Last-Modified`) is kept beside the part
/// and sent with the request for the rest, and a server that answers with another version, or that cannot send ranges,
/// makes the download begin again.
pub fn download(what: &Download<'_>, progress: Progress<'_>) -> Result<PathBuf> {
    files::create_folder(what.folder)?;
    let _lock = files::lock(&what.folder.join(format!("{}.lock", what.name)))?;
    let target = what.folder.join(what.name);
    let record = what.folder.join(format!("{}.sha256", what.name));
    if target.is_file() {
        if has_sum(&target, what.sum, &record, progress)? {
            return Ok(target);
        }
        progress(Event::Restarting {
            name: what.name,
            reason: "the file that is there has a wrong sum",
        });
        files::remove(&target)?;
        files::remove(&record)?;
    }

    let part = what.folder.join(format!("{}.part", what.name));
    let mut transfer = Transfer {
        what,
        agent: http::agent(),
        file: OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(Error::io("write", &part))?,
        note_path: what.folder.join(format!("{}.part.toml", what.name)),
        note: None,
        part,
        contact: false,
    };
    transfer.complete(progress)?;
    let Transfer { part, note_path, .. } = transfer;

    match what.sum {
        Some(sum) => check_sum(what, &part, sum, progress).inspect_err(|_| drop(files::remove(&note_path)))?,
        None => files::write(&record, &format!("{}\n", sha256(&part, progress)?))?,
    }
    files::rename(&part, &target)?;
    files::remove(&note_path)?;
    Ok(target)
}

/// Whether a file has the sum that is known or was recorded. A file of which nothing is known is taken as it is, and its
/// sum is recorded.
pub(super) fn has_sum(path: &Path, known: Option<&Sum>, record: &Path, progress: Progress<'_>) -> Result<bool> {
    let Some(expected) = known.cloned().or(recorded(record)?) else {
        files::write(record, &format!("{}\n", sha256(path, progress)?))?;
        return Ok(true);
    };
    Ok(expected.of_same_kind(path, progress)? == expected)
}

/// The sum of an earlier download.
pub(super) fn recorded(path: &Path) -> Result<Option<Sum>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let sum = Sum::try_from(text.trim().to_owned()).map_err(|reason| Error::Manifest {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Some(sum))
}

fn check_sum(what: &Download<'_>, part: &Path, expected: &Sum, progress: Progress<'_>) -> Result<()> {
    let received = expected.of_same_kind(part, progress)?;
    if received == *expected {
        return Ok(());
    }
    let mut file = File::open(part).map_err(Error::io("read", part))?;
    let bytes = file.metadata().map_err(Error::io("read", part))?.len();
    let mut first = [0];
    let is_page = file.read(&mut first).map_err(Error::io("read", part))? == 1 && first[0] == b'<';
    files::remove(part)?;
    Err(Error::WrongSum {
        url: what.url.to_owned(),
        expected: expected.clone(),
        received,
        bytes,
        hint: if is_page {
            "the server answered with a web page; open the address in a browser, or name another source with `--url`"
        } else {
            "run it again; if the same sum comes back, the source has changed: name another with `--url`"
        },
    })
}

/// Which version of which file the bytes of a part belong to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    total: Option<u64>,
}

impl Note {
    /// What `If-Range` may hold: a weak `ETag` does not promise equal bytes.
    fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }

    fn of(url: &str, response: &Response<Body>, total: Option<u64>) -> Note {
        let text = |name| http::header(response.headers(), name).map(str::to_owned);
        Note {
            url: url.to_owned(),
            etag: text("etag"),
            last_modified: text("last-modified"),
            total,
        }
    }
}

struct Transfer<'a> {
    what: &'a Download<'a>,
    agent: Agent,
    part: PathBuf,
    file: File,
    note_path: PathBuf,
    note: Option<Note>,
    /// Whether a server has ever answered.
    contact: bool,
}

/// Why one request did not complete the file.
enum Interruption {
    /// Try again after a pause, at least as long as the server asks for.
    Again { reason: String, wait: Duration },
    /// Give up.
    Failed(Error),
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Interruption {
        Interruption::Failed(error)
    }
}

impl Transfer<'_> {
    /// Requests until every byte is there. Tries are bounded as long as none of them takes the file further than it ever
    /// was, so a server that always begins again and always breaks off ends this too.
    fn complete(&mut self, progress: Progress<'_>) -> Result<()> {
        const LONGEST_PAUSE: Duration = Duration::from_secs(30);
        self.note = self.read_note()?;
        let (mut furthest, mut tries, mut pause) = (self.length()?, 0, self.what.retry.pause);
        loop {
            let (reason, wait) = match self.request(progress) {
                Ok(()) => return self.file.sync_all().map_err(Error::io("write", &self.part)),
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::Again { reason, wait }) => (reason, wait),
            };
            let length = self.length()?;
            if length > furthest {
                (furthest, tries, pause) = (length, 0, self.what.retry.pause);
            }
            tries += 1;
            if tries >= self.what.retry.attempts {
                return Err(Error::GaveUp {
                    url: self.what.url.to_owned(),
                    attempts: tries,
                    reason,
                    bytes: length,
                });
            }
            let wait = wait.max(pause);
            progress(Event::Retrying {
                name: self.what.name,
                reason: &reason,
                wait,
                attempt: tries + 1,
                attempts: self.what.retry.attempts,
            });
            std::thread::sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request for what is missing.
    fn request(&mut self, progress: Progress<'_>) -> Result<(), Interruption> {
        let mut have = self.length()?;
        if have > 0 && !self.can_resume(have) {
            self.restart("what is there may be of another file", progress)?;
            have = 0;
        }
        let total = self.note.as_ref().and_then(|note| note.total);
        if have > 0 && total == Some(have) {
            return Ok(());
        }
        let validator = self.note.as_ref().and_then(Note::validator);
        progress(Event::Requested {
            name: self.what.name,
            url: self.what.url,
        });
        let response =
            http::get(&self.agent, self.what.url, have, validator).map_err(|failure| self.failed(failure))?;
        self.contact = true;
        match response.status().as_u16() {
            200 => self.whole(have, response, progress),
            206 => self.rest(have, response, progress),
            416 => {
                if have > 0 && http::content_range(response.headers()).1 == Some(have) {
                    return Ok(());
                }
                self.restart("the server has fewer bytes than are here", progress)?;
                Err(again("the server refused the range"))
            }
            status @ (408 | 425 | 429 | 500..=599) => {
                const LONGEST_WAIT: u64 = 60;
                let seconds = http::header(response.headers(), "retry-after").and_then(|value| value.parse().ok());
                Err(Interruption::Again {
                    reason: format!("the server answered {status}"),
                    wait: Duration::from_secs(seconds.unwrap_or(0).min(LONGEST_WAIT)),
                })
            }
            status => Err(Interruption::Failed(Error::Status {
                url: self.what.url.to_owned(),
                status,
                hint: match status {
                    401 | 403 => {
                        "the server wants to know who asks; download it by hand, or name another source with `--url`"
                    }
                    404 | 410 => "the file has moved; look for its new address and name it with `--url`",
                    _ => "name another source with `--url`",
                },
            })),
        }
    }

    /// The answer is the whole file, asked for or not.
    fn whole(&mut self, have: u64, response: Response<Body>, progress: Progress<'_>) -> Result<(), Interruption> {
        let total = response.body().content_length();
        self.check_size(total)?;
        if have > 0 {
            self.restart("the server sends the file from its beginning", progress)?;
        }
        let note = Note::of(self.what.url, &response, total);
        let text = toml::to_string(&note).map_err(|error| Error::Manifest {
            path: self.note_path.clone(),
            reason: error.to_string(),
        })?;
        // Before the first byte, so that no byte is without its note.
        files::write(&self.note_path, &text)?;
        self.note = Some(note);
        self.receive(response, total, progress)
    }

    /// The answer should be what is missing.
    fn rest(&mut self, have: u64, response: Response<Body>, progress: Progress<'_>) -> Result<(), Interruption> {
        let (first, total) = http::content_range(response.headers());
        self.check_size(total)?;
        let offered = Note::of(self.what.url, &response, total);
        let known = self.note.as_ref();
        let differs = |of: fn(&Note) -> Option<&String>| {
            let known = known.and_then(of);
            known.is_some() && of(&offered).is_some() && known != of(&offered)
        };
        let other_total = known
            .and_then(|note| note.total)
            .is_some_and(|known| total.is_some_and(|total| total != known));
        if first != Some(have)
            || other_total
            || differs(|note| note.etag.as_ref())
            || differs(|note| note.last_modified.as_ref())
        {
            self.restart("the file has changed on the server", progress)?;
            return Err(again("the server sent a part of another version"));
        }
        progress(Event::Resuming {
            name: self.what.name,
            bytes: have,
        });
        self.receive(response, total, progress)
    }

    /// Appends what comes.
    fn receive(
        &mut self,
        response: Response<Body>,
        total: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<(), Interruption> {
        let mut bytes = self
            .file
            .seek(SeekFrom::End(0))
            .map_err(Error::io("write", &self.part))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(again(&format!("the connection broke off: {error}"))),
            };
            self.file
                .write_all(&buffer[..read])
                .map_err(Error::io("write", &self.part))?;
            bytes += read as u64;
            progress(Event::Received {
                name: self.what.name,
                bytes,
                total: total.or(self.what.bytes),
            });
        }
        match total {
            Some(total) if bytes < total => Err(again(&format!("the connection ended after {bytes} of {total} bytes"))),
            _ => Ok(()),
        }
    }

    fn check_size(&self, total: Option<u64>) -> Result<()> {
        match (self.what.bytes, total) {
            (Some(expected), Some(offered)) if expected != offered => Err(Error::Size {
                url: self.what.url.to_owned(),
                expected,
                offered,
            }),
            _ => Ok(()),
        }
    }

    /// Bytes of which the version is not known may only be completed when a sum tells in the end.
    fn can_resume(&self, have: u64) -> bool {
        let has_sum = self.what.sum.is_some();
        match &self.note {
            Some(note) => {
                note.url == self.what.url
                    && (has_sum || note.validator().is_some())
                    && note.total.is_none_or(|total| have <= total)
            }
            None => has_sum,
        }
    }

    fn restart(&mut self, reason: &str, progress: Progress<'_>) -> Result<()> {
        progress(Event::Restarting {
            name: self.what.name,
            reason,
        });
        self.file.set_len(0).map_err(Error::io("write", &self.part))?;
        self.note = None;
        files::remove(&self.note_path)
    }

    /// A note that cannot be understood is no note.
    fn read_note(&self) -> Result<Option<Note>> {
        match std::fs::read_to_string(&self.note_path) {
            Ok(text) => Ok(toml::from_str(&text).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &self.note_path)(error)),
        }
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io("read", &self.part))?.len())
    }

    /// A server that was never there is most likely a wrong address or no network, which no patience mends.
    fn failed(&self, failure: Failure) -> Interruption {
        let (reason, hint) = match failure {
            Failure::Passing(reason) => return again(&reason),
            Failure::NoServer(reason) if self.contact => return again(&reason),
            Failure::NoServer(reason) => (
                reason,
                "look at the network and HTTPS_PROXY; run the same command again later, or name another source with `--url`",
            ),
            Failure::Lasting { reason, hint } => (reason, hint),
        };
        Interruption::Failed(Error::Unreachable {
            url: self.what.url.to_owned(),
            reason,
            hint,
        })
    }
}

fn again(reason: &str) -> Interruption {
    Interruption::Again {
        reason: reason.to_owned(),
        wait: Duration::ZERO,
    }
}
