//! Failures made for real: commands that fail are run in a box, and what they left is classified by its evidence.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use longhaul::domain::{Exit, FailureClass};
use longhaul::recovery::{Classifier, Evidence};
use longhaul::sandbox::{BoxSpec, Limits, Sandbox};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::sandbox_contract::{Bench, close, open, run_in};
use crate::sandbox_local::local;

/// How many must have been run, whatever the machine lacks.
const LEAST: usize = 200;
/// How many run at a time where they do not get into each other's way.
const AT_A_TIME: usize = 4;

#[derive(Debug, Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
struct Case {
    class: FailureClass,
    run: String,
}

impl Case {
    /// Whether it uses up what all in the box share.
    fn is_greedy(&self) -> bool {
        matches!(self.class, FailureClass::Oom | FailureClass::ResourceLimit)
    }
}

/// What came of a case.
#[derive(Debug)]
struct Came {
    case: Case,
    exit: Option<Exit>,
    output: String,
    taken_for: Option<(FailureClass, String)>,
}

/// A server that answers `/status/N` with that status, and otherwise as its paths say.
fn faulty_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || misbehave(stream));
        }
    });
    url
}

fn misbehave(mut stream: TcpStream) -> Option<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        request.extend(&piece[..read]);
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1)?;
    let mut words = path.trim_start_matches('/').split('/');
    let (kind, what) = (words.next()?, words.next().unwrap_or_default());
    let (status, body) = match (kind, what) {
        ("close", _) => return None,
        ("slow", _) => {
            std::thread::sleep(Duration::from_secs(5));
            return None;
        }
        ("truncated", _) => {
            let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly so much";
            return stream.write_all(begin).ok();
        }
        ("status", status) => (status.to_owned(), "{}"),
        ("body", "429") => ("429".to_owned(), r#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#),
        ("body", "quota") => {
            ("429".to_owned(), r#"{"error":{"code":"insufficient_quota","message":"You have run out"}}"#)
        }
        ("body", _) => ("401".to_owned(), r#"{"error":{"code":"invalid_api_key","message":"no such key"}}"#),
        _ => ("200".to_owned(), "{}"),
    };
    let reason = match status.as_str() {
        "401" => "Unauthorized",
        "402" => "Payment Required",
        "403" => "Forbidden",
        "404" => "Not Found",
        "429" => "Too Many Requests",
        "500" => "Internal Server Error",
        "502" => "Bad Gateway",
        "503" => "Service Unavailable",
        "504" => "Gateway Timeout",
        _ => "Status",
    };
    let ask = if status == "401" { "WWW-Authenticate: Basic realm=\"r\"\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\n{ask}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

/// The box: as much of the machine's programs as this test itself has.
fn spec(bench: &Bench) -> BoxSpec {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let path = std::env::var("PATH").expect("there is one");
    let rustup = std::env::var("RUSTUP_HOME").unwrap_or_else(|_| format!("{home}/.rustup"));
    let env = [
        ("PATH", path.as_str()),
        ("HOME", "/tmp/home"),
        ("RUSTUP_HOME", &rustup),
        ("CARGO_HOME", "/tmp/cargo"),
        ("LC_ALL", "C.UTF-8"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ];
    BoxSpec {
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limits: Limits { memory_bytes: Some(700 << 20), pids: Some(400), ..Limits::default() },
        ..bench.spec()
    }
}

async fn fail(sandbox: &dyn Sandbox, url: &str, number: usize, case: Case) -> Came {
    let place = format!("export URL={url}; mkdir -p /tmp/home /tmp/f{number} && cd /tmp/f{number} || exit 0\n");
    let before = sandbox.counters().await.oom_kills.unwrap_or(0);
    let (exit, output) = run_in(sandbox.guest(), &format!("{place}{}", case.run)).await;
    let after = sandbox.counters().await.oom_kills.unwrap_or(0);
    let oom_kills = if case.is_greedy() { after - before } else { 0 };
    let evidence = Evidence { command: &case.run, exit, output: &output, oom_kills, forks_denied: 0, full: None };
    let failure = Classifier::builtin().classify(&evidence);
    Came { case, exit, output, taken_for: failure.map(|failure| (failure.class, failure.evidence)) }
}

/// Rows: what it was. Columns: what it was taken for.
fn matrix(all: &[Came]) -> String {
    let mut counts: BTreeMap<(FailureClass, Option<FailureClass>), usize> = BTreeMap::new();
    for came in all {
        *counts.entry((came.case.class, came.taken_for.as_ref().map(|taken| taken.0))).or_default() += 1;
    }
    let mut text = String::new();
    for class in FailureClass::ALL {
        let row: Vec<String> = counts
            .iter()
            .filter(|((was, _), _)| *was == class)
            .map(|((_, taken), count)| format!("{} {count}", taken.map_or("no failure", FailureClass::name)))
            .collect();
        if !row.is_empty() {
            text.push_str(&format!("{:<20} {}\n", class.name(), row.join(", ")));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "the figures are for whoever reads the test's output")]
async fn what_failed_for_real_is_known_by_its_evidence() {
    let table: Table = toml::from_str(include_str!("../failures/commands.toml")).expect("a table");
    let bench = Bench::new();
    let sandbox: Arc<dyn Sandbox> = open(&local(&bench), &spec(&bench)).await.into();
    let url = faulty_server();
    let (greedy, modest): (Vec<_>, Vec<_>) = table.case.into_iter().enumerate().partition(|(_, case)| case.is_greedy());
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = tokio::task::JoinSet::new();
    for (number, case) in modest {
        let (sandbox, url, turns) = (sandbox.clone(), url.clone(), turns.clone());
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            fail(&*sandbox, &url, number, case).await
        });
    }
    let mut all = running.join_all().await;
    for (number, case) in greedy {
        all.push(fail(&*sandbox, &url, number, case).await);
    }
    close(&*sandbox).await;
    let is_right = |came: &&Came| came.taken_for.as_ref().is_some_and(|taken| taken.0 == came.case.class);
    let right = all.iter().filter(is_right).count();
    eprintln!("{right} of {} failures known for what they were\n{}", all.len(), matrix(&all));
    let wrong = all.iter().filter(|came| !is_right(came));
    let told: Vec<String> = wrong
        .map(|came| {
            format!(
                "{} {:?} taken for {:?}: {}\n{}",
                came.case.class, came.exit, came.taken_for, came.case.run, came.output
            )
        })
        .collect();
    eprintln!("{}", told.join("\n---\n"));
    assert!(all.len() >= LEAST, "{} cases", all.len());
    assert!(right * 100 >= all.len() * 95, "{right} of {}", all.len());
    let for_a_person = [FailureClass::Auth, FailureClass::Quota, FailureClass::Permission];
    let blind: Vec<_> = all
        .iter()
        .filter(|came| for_a_person.contains(&came.case.class))
        .filter(|came| came.taken_for.as_ref().is_some_and(|taken| taken.0.may_pass()))
        .collect();
    assert!(blind.is_empty(), "tried again blindly: {blind:?}");
}
