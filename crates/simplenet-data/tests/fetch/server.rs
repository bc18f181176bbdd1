//! A server that does exactly what a test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Serves until the process ends.
pub(crate) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

/// What it gets.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    cut: Option<usize>,
}

impl Server {
    /// `answer` gets the number of the request, from 0.
    pub(crate) fn start(answer: impl Fn(usize, &Request) -> Answer + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = read(&stream);
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                answer(number, &request).send(stream);
            }
        });
        Server { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// A status and a body with its true length.
    pub(crate) fn new(status: u16, body: &[u8]) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Length", body.len().to_string())],
            body: body.to_vec(),
            cut: None,
        }
    }

    /// A file as a good server sends it: whole, or the range that was asked for if the version is still the same.
    pub(crate) fn file(body: &[u8], etag: &str, request: &Request) -> Answer {
        let same = request.header("If-Range").is_none_or(|version| version == etag);
        let range = request.header("Range").filter(|_| same);
        let first = range.map(|range| {
            let first = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
            first.unwrap().parse::<usize>().unwrap()
        });
        let total = body.len();
        let answer = match first {
            None => Answer::new(200, body),
            Some(first) if first >= total => Answer::new(416, b"").with("Content-Range", &format!("bytes */{total}")),
            Some(first) => {
                Answer::new(206, &body[first..]).with("Content-Range", &format!("bytes {first}-{}/{total}", total - 1))
            }
        };
        answer.with("ETag", etag)
    }

    /// Sets a header, in place of one of the same name.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.retain(|(key, _)| *key != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self
    }

    /// A client that hangs up early is no failure here; its own test tells.
    fn send(&self, mut stream: TcpStream) {
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = &self.body[..self.cut.unwrap_or(self.body.len())];
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        let _ = stream.write_all(body);
        let _ = stream.shutdown(Shutdown::Write);
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(": ")
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect();
    Request {
        path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
        headers,
    }
}
