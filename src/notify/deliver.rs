//! Brings one message over one channel, within bounds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::channel::{Channel, is_loopback};
use super::message::Message;
use crate::domain::Exit;
use crate::process::{Finished, Program};

/// The time that a command has; then it is killed with all that it has started.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// What is looked at of a command's words; the rest is read and dropped.
const COMMAND_OUTPUT: usize = 4 << 10;
/// The time that one try of a webhook has.
const TRY_TIME: Duration = Duration::from_secs(10);
/// How often a webhook is tried.
const TRIES: u32 = 5;
/// The wait after the first try; it doubles from there.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Variables that a command is given where they are set: what it needs to find programs and the desktop, and no key.
const PASSED_ON: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Where commands run, and with what.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// The environment, of which only a few variables are passed on.
    pub env: BTreeMap<OsString, OsString>,
    /// The working directory.
    pub cwd: PathBuf,
}

/// Brings `message` over `channel`. Takes half a minute at most for a command, and some minutes for a webhook whose
/// server is in trouble; when the future is dropped, nothing of it goes on.
///
/// # Errors
/// Why it has not arrived, in words.
pub async fn deliver(channel: &Channel, message: &Message, ground: &Ground) -> Result<(), String> {
    match channel {
        Channel::Command(command) => {
            let argv = ["/bin/sh", "-c", command].map(OsString::from);
            let program = Program {
                stdin: (message.json() + "\n").into_bytes(),
                cwd: Some(ground.cwd.clone()),
                cap_bytes: COMMAND_OUTPUT,
                limit: COMMAND_TIME,
                ..Program::new(argv, ground.passed_on())
            };
            run(&program).await
        }
        Channel::Desktop => {
            let urgency = if message.event.is_urgent() { "critical" } else { "normal" };
            // Notification servers read a little HTML.
            let body = message.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let argv = [
                "notify-send".to_owned(),
                "--app-name=longhaul".to_owned(),
                format!("--urgency={urgency}"),
                "--".to_owned(),
                plain(&message.headline()),
                plain(&body),
            ];
            run(&Program { cap_bytes: COMMAND_OUTPUT, ..Program::new(argv, ground.passed_on()) }).await
        }
        Channel::Bell => {
            let text = plain(&format!("{}: {}", message.headline(), message.text));
            let rung = tokio::task::spawn_blocking(move || ring(&text)).await;
            rung.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        }
        Channel::Webhook(url) => post(url, message).await,
    }
}

impl Ground {
    fn passed_on(&self) -> BTreeMap<OsString, OsString> {
        let is_passed_on = |name: &OsString| name.to_str().is_some_and(|name| PASSED_ON.contains(&name));
        self.env
            .iter()
            .filter(|(name, _)| is_passed_on(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

async fn run(program: &Program) -> Result<(), String> {
    let Finished { exit, stderr, .. } = program.run().await.map_err(|error| in_words(&error))?;
    let words = String::from_utf8_lossy(&stderr);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).map(plain);
    let said = last.map(|line| format!(": {line}")).unwrap_or_default();
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(code)) => Err(format!("exit {code}{said}")),
        Some(Exit::Signal(signal)) => Err(format!("ended by signal {signal}{said}")),
        None => Err(format!("killed after {} s", program.limit.as_secs())),
    }
}

/// Rings, where standard error is a terminal now; it may have gone away meanwhile.
fn ring(text: &str) -> std::io::Result<()> {
    let stderr = std::io::stderr();
    match rustix::termios::isatty(&stderr) {
        true => write!(stderr.lock(), "\u{7}\u{1b}]9;{text}\u{1b}\\"),
        false => Ok(()),
    }
}

async fn post(url: &reqwest::Url, message: &Message) -> Result<(), String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread has just installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let client = reqwest::Client::builder()
        .timeout(TRY_TIME)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")));
    // A proxy can't see this machine's own servers.
    let client = if is_loopback(url) { client.no_proxy() } else { client };
    let client = client.build().map_err(|error| in_words(&error.without_url()))?;
    let body = message.json();
    let mut wait = BACK_OFF;
    for attempt in 1.. {
        let request = client.post(url.clone()).header("content-type", "application/json");
        let tried = request.header("idempotency-key", &message.id).body(body.clone()).send().await;
        let (asked, why) = match tried {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) if may_pass(response.status()) => {
                (retry_after(&response), format!("the server says {}", response.status()))
            }
            Ok(response) => return Err(format!("the server says {}", response.status())),
            Err(error) if error.is_builder() => return Err(in_words(&error.without_url())),
            Err(error) => (None, in_words(&error.without_url())),
        };
        if attempt == TRIES {
            return Err(format!("{why}, {TRIES} times"));
        }
        let jitter = Duration::from_millis(fastrand::u64(0..250));
        tokio::time::sleep(asked.unwrap_or(wait) + jitter).await;
        wait *= 2;
    }
    unreachable!("the last try returns")
}

fn may_pass(status: reqwest::StatusCode) -> bool {
    status.is_server_error() || status == 429 || status == 408
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    plain(&words)
}

/// One line without anything that a terminal or a notification server would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
