//! One HTTP request, and which of its failures are worth another try.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Long enough for a slow server, short enough that a dead connection is noticed.
const SILENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
pub(super) enum Failure {
    /// Another try may succeed.
    Passing(String),
    /// The server was not found or refused. It may come back, but not if it was never there.
    NoServer(String),
    /// Another try will fail in the same way.
    Lasting { reason: String, hint: &'static str },
}

pub(super) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // The sum is that of the file, and a range counts its bytes: no encoding on the way. The rest of an
        // encoded file would not decode, so a server that encodes all the same fails there or at the sum.
        .accept_encoding("identity")
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .tls_config(TlsConfig::builder().root_certs(root_certificates()).build())
        .build()
        .into()
}

/// Asks for `url` from byte `from` on; `validator` is the version of the file that the bytes before came from.
pub(super) fn get(agent: &Agent, url: &str, from: u64, validator: Option<&str>) -> Result<Response<Body>, Failure> {
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
        if let Some(validator) = validator {
            request = request.header("If-Range", validator);
        }
    }
    request.call().map_err(failure)
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// First byte and size of the whole file from `Content-Range`: `bytes 5-9/10`, or `bytes */10` after a 416.
pub(super) fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let parse = || {
        let (range, total) = header(headers, "content-range")?
            .strip_prefix("bytes ")?
            .split_once('/')?;
        let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
        Some((first, total.parse().ok()))
    };
    parse().unwrap_or((None, None))
}

fn failure(error: ureq::Error) -> Failure {
    const CERTIFICATE: &str = "the server's certificate is not trusted; behind a proxy with its own authority, set SSL_CERT_FILE to its certificates";
    let reason = error.to_string();
    let lasting = |hint| Failure::Lasting {
        reason: reason.clone(),
        hint,
    };
    match &error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Failure::NoServer(reason),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => lasting("a source is an address such as https://host/file"),
        ureq::Error::InvalidProxyUrl => lasting("look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            lasting("the address leads nowhere; name another source with `--url`")
        }
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => lasting(CERTIFICATE),
        ureq::Error::Io(io) => match io.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted => Failure::Passing(reason),
            // rustls reports a refused certificate through the handshake's reads.
            ErrorKind::InvalidData => lasting(CERTIFICATE),
            // Refused, no route, and names that do not resolve, which have no kind of their own.
            _ => Failure::NoServer(reason),
        },
        _ => Failure::Passing(reason),
    }
}

/// The system's certificates where there are any, so that an authority added by the administrator of a factory's network is
/// trusted; else Mozilla's, which are part of this program, so that a bare container can download too. On Linux the
/// verifier of the system needs files at one of these places; on other systems it is always there.
fn root_certificates() -> RootCerts {
    const STORES: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if !cfg!(target_os = "linux") || named || STORES.iter().any(|store| Path::new(store).is_file()) {
        RootCerts::PlatformVerifier
    } else {
        RootCerts::WebPki
    }
}
