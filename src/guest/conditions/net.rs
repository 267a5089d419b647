//! Waits until a port accepts connections or a URL answers, tried from inside the box.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::guest::facts::{Refusal, RefusalKind};
use crate::guest::supervisor::refuse;

/// The time between two tries: nobody tells when a server begins to listen.
const STEP: Duration = Duration::from_millis(150);

/// The same after many tries.
const LONG_STEP: Duration = Duration::from_millis(250);

/// How many those are.
const MANY: u32 = 200;

/// How long one try may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// How long an answer may take: servers that are loading may accept and stay silent.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What is tried.
#[derive(Debug)]
pub(in crate::guest) enum Target {
    /// A host and a port.
    Port(String, u16),
    /// A URL, the status that it must answer with, and what asks.
    Http(Url, Option<u16>, reqwest::Client),
}

impl Target {
    /// A TCP port.
    ///
    /// # Errors
    /// For port 0 and for what is no host.
    pub(in crate::guest) fn port(host: String, port: u16) -> Result<Self, Refusal> {
        if port == 0 {
            return Err(invalid("port 0 is no port that a server can be reached at; ports are 1 to 65535"));
        }
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(invalid(format!(
                "`{}` is not a host name or an address, such as 127.0.0.1",
                host.escape_debug()
            )));
        }
        Ok(Self::Port(host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
    }

    /// A URL.
    ///
    /// # Errors
    /// For what is no URL of HTTP, and for a status that there is not.
    pub(in crate::guest) fn http(url: &str, status: Option<u16>) -> Result<Self, Refusal> {
        let shown: String = url.escape_debug().take(200).collect();
        let example = "such as http://127.0.0.1:8080/health";
        let parsed = Url::parse(url).map_err(|error| invalid(format!("`{shown}` is not a URL {example}: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(invalid(format!("`{shown}` is not a URL of http or https, {example}")));
        }
        if parsed.port() == Some(0) {
            return Err(invalid(format!("`{shown}` names port 0; ports are 1 to 65535")));
        }
        if status.is_some_and(|status| !(100..=599).contains(&status)) {
            return Err(invalid("a status is a number from 100 to 599"));
        }
        let client = client().map_err(|error| refuse(RefusalKind::System, format!("no HTTP client: {error}")))?;
        Ok(Self::Http(parsed, status, client))
    }

    /// Tries until it works.
    pub(super) async fn met(self) -> String {
        let mut tries = 1;
        loop {
            if let Ok(what) = self.attempt().await {
                return if tries == 1 { what } else { format!("{what} after {tries} tries") };
            }
            sleep(if tries < MANY { STEP } else { LONG_STEP }).await;
            tries += 1;
        }
    }

    /// Tries once; what was seen, or what was met instead.
    pub(super) async fn attempt(&self) -> Result<String, String> {
        match self {
            Self::Port(host, port) => connect(host, *port).await,
            Self::Http(url, status, client) => get(client, url, *status).await,
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<String, String> {
    let place = format!("{host} port {port}");
    let tried = timeout(CONNECT_TIME, async {
        match host {
            // Images without a resolver's files know it too.
            "localhost" => TcpStream::connect(&loopback(port)[..]).await,
            _ => TcpStream::connect((host, port)).await,
        }
    });
    match tried.await {
        Ok(Ok(_stream)) => Ok(format!("{place} accepts connections")),
        Ok(Err(error)) => Err(format!("{place}: {}", words(&error))),
        Err(_elapsed) => Err(format!("{place}: no answer within {} s", CONNECT_TIME.as_secs())),
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    // Fails where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME)
        .timeout(ANSWER_TIME)
        .pool_max_idle_per_host(0)
        .resolve_to_addrs("localhost", &loopback(0))
        .build()
}

async fn get(client: &reqwest::Client, url: &Url, wanted: Option<u16>) -> Result<String, String> {
    let answer = match client.get(url.clone()).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_timeout() => return Err(format!("no answer within {} s", ANSWER_TIME.as_secs())),
        Err(error) => return Err(cause(&error)),
    };
    let status = answer.status();
    let fits = match wanted {
        Some(wanted) => status.as_u16() == wanted,
        None => status.is_success() || status.is_redirection(),
    };
    let what = format!("HTTP {}", status.as_u16());
    if fits { Ok(what) } else { Err(what) }
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// The innermost reason, which is the one that helps.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(error) => words(error),
        None => innermost.to_string(),
    }
}

/// The system's words without the number that Rust adds.
fn words(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn invalid(what: impl Into<String>) -> Refusal {
    refuse(RefusalKind::Invalid, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_make_no_sense_are_refused_with_words_that_help() {
        for (host, port, word) in
            [("127.0.0.1", 0, "65535"), ("", 80, "127.0.0.1"), ("a b", 80, "a b"), ("a/b", 80, "host")]
        {
            let refusal = Target::port(host.into(), port).expect_err("refused");
            assert!(refusal.kind == RefusalKind::Invalid && refusal.what.contains(word), "{refusal}");
        }
        for url in ["", "localhost:80", "ftp://x/", "http://", "http://x:70000/", "http://x:0/", "http://a b/"] {
            let refusal = Target::http(url, None).expect_err(url);
            assert_eq!(refusal.kind, RefusalKind::Invalid, "{url}");
        }
        assert!(Target::http("http://x/", Some(700)).is_err());
        assert!(Target::port("[::1]".into(), 80).is_ok() && Target::http("https://[::1]:8443/a?b", Some(503)).is_ok());
    }
}
