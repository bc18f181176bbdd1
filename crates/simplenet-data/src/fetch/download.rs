use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use super::http::{self, Failure};
use super::part::{Note, Part};
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

    let mut transfer = Transfer {
        what,
        agent: http::agent(),
        part: Part::open(what.folder, what.name)?,
        contact: false,
    };
    let completed = transfer.complete(progress);
    let part = transfer.part;
    if completed.is_err() && part.length()? == 0 {
        part.remove()?;
    }
    completed?;
    match what.sum {
        Some(sum) => check_sum(what, &part, sum, progress)?,
        None => files::write(&record, &format!("{}\n", sha256(&part.path, progress)?))?,
    }
    part.finish(&target)?;
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

fn check_sum(what: &Download<'_>, part: &Part, expected: &Sum, progress: Progress<'_>) -> Result<()> {
    let received = expected.of_same_kind(&part.path, progress)?;
    if received == *expected {
        return Ok(());
    }
    let mut first = [0];
    let read = File::open(&part.path).and_then(|mut file| file.read(&mut first));
    let is_page = read.map_err(Error::io("read", &part.path))? == 1 && first[0] == b'<';
    let bytes = part.length()?;
    part.remove()?;
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

struct Transfer<'a> {
    what: &'a Download<'a>,
    agent: Agent,
    part: Part,
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
        let (mut furthest, mut tries, mut pause) = (self.part.length()?, 0, self.what.retry.pause);
        loop {
            let (reason, wait) = match self.request(progress) {
                Ok(()) => return self.part.sync(),
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::Again { reason, wait }) => (reason, wait),
            };
            let length = self.part.length()?;
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
        let mut have = self.part.length()?;
        if have > 0 && !self.can_resume(have) {
            self.restart("what is there may be of another file", progress)?;
            have = 0;
        }
        let total = self.part.note.as_ref().and_then(|note| note.total);
        if have > 0 && total == Some(have) {
            return Ok(());
        }
        let validator = self.part.note.as_ref().and_then(Note::validator);
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
        self.part.begin(Note::new(self.what.url, response.headers(), total))?;
        self.receive(response, total, progress)
    }

    /// The answer should be what is missing.
    fn rest(&mut self, have: u64, response: Response<Body>, progress: Progress<'_>) -> Result<(), Interruption> {
        let (first, total) = http::content_range(response.headers());
        self.check_size(total)?;
        let offered = Note::new(self.what.url, response.headers(), total);
        let is_other = self.part.note.as_ref().is_some_and(|note| note.contradicts(&offered));
        if first != Some(have) || is_other {
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
        let mut bytes = self.part.length()?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(again(&format!("the connection broke off: {error}"))),
            };
            self.part.append(&buffer[..read])?;
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

    /// Bytes of which nothing is known may only be completed when a sum tells in the end.
    fn can_resume(&self, have: u64) -> bool {
        let has_sum = self.what.sum.is_some();
        let note = self.part.note.as_ref();
        note.map_or(has_sum, |note| note.allows_resuming(self.what.url, have, has_sum))
    }

    fn restart(&mut self, reason: &str, progress: Progress<'_>) -> Result<()> {
        progress(Event::Restarting {
            name: self.what.name,
            reason,
        });
        self.part.clear()
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
