//! `agent doctor`: tries what this machine can do, and says for each thing that is missing what to do about it.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::args::DoctorArgs;
use super::open_box::Backends;
use super::output::{Stop, finished};
use super::settings::{Flags, Settings};
use super::target::store;
use super::{Failure, Place, launch};
use crate::domain::{Capability, ExitReason, SandboxKind};
use crate::model;
use crate::sandbox::Probe;

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Finding {
    /// What.
    name: String,
    /// Whether it works.
    works: bool,
    /// What was found, or why it does not work.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// What it can do and what not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<Capability>,
}

impl Finding {
    fn works(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), works: true, detail: detail.into(), hint: None, capabilities: Vec::new() }
    }

    fn lacks(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { works: false, hint: Some(hint.into()), ..Self::works(name, detail) }
    }
}

/// Runs `agent doctor`. Exits with 7 where no box can be made, with 0 otherwise.
pub(super) async fn run(args: DoctorArgs, place: &Place) -> Result<ExitReason, Failure> {
    let mut findings = vec![state_dir(place)];
    let env = launch::utf8_vars(place);
    let state = store(place)?.state_dir().to_owned();
    let backends = Backends::new(state, None, env, place.home());
    for kind in [SandboxKind::Local, SandboxKind::Docker] {
        findings.push(sandbox(backends.of(kind).probe().await));
    }
    let boxes = findings.iter().filter(|finding| finding.name.starts_with("sandbox")).any(|finding| finding.works);
    findings.extend([tmux(place), model_choice(&args, place), terminal(place)]);
    findings.extend(other_agent(place));
    finished(print(&findings, args.json, &mut io::stdout()))?;
    Ok(if boxes { ExitReason::Done } else { ExitReason::SandboxUnavailable })
}

fn state_dir(place: &Place) -> Finding {
    const NAME: &str = "state directory";
    let Some(dir) = place.state_dir() else {
        return Finding::lacks(NAME, "nothing says where it is", "set LONGHAUL_STATE_DIR or HOME");
    };
    let made = std::fs::create_dir_all(&dir).and_then(|()| tempfile::tempfile_in(&dir));
    match made {
        Ok(_) => Finding::works(NAME, dir.display().to_string()),
        Err(error) => Finding::lacks(
            NAME,
            format!("{}: {error}", dir.display()),
            "set LONGHAUL_STATE_DIR to a directory of yours",
        ),
    }
}

fn sandbox(probe: Probe) -> Finding {
    let name = match probe.kind {
        SandboxKind::Local => "sandbox local",
        SandboxKind::Docker => "sandbox docker",
        SandboxKind::Host => "sandbox host",
    };
    let capabilities = probe.capabilities;
    match probe.missing {
        None => Finding { capabilities, ..Finding::works(name, "works") },
        Some(missing) => {
            let because = missing.because.map(|cause| format!(": {cause}")).unwrap_or_default();
            let detail = format!("{}{because}", missing.what);
            Finding { hint: missing.hint, works: false, capabilities, ..Finding::works(name, detail) }
        }
    }
}

fn tmux(place: &Place) -> Finding {
    match on_path("tmux", place).first() {
        Some(path) => {
            let local = path.display();
            Finding::works(
                "tmux",
                format!("in local and host boxes {local}; in containers the image's, or by `--tmux`"),
            )
        }
        None => Finding::lacks(
            "tmux",
            "none for local and host boxes: sessions work all the same, `agent attach` shows them one at a time; in \
             containers the image's, or by `--tmux`",
            "install it with the system's packages, such as `apt-get install tmux`",
        ),
    }
}

fn model_choice(args: &DoctorArgs, place: &Place) -> Finding {
    const NAME: &str = "model";
    let flags = Flags { model: Some(&args.model), ..Flags::default() };
    let choice = match Settings::resolve(&flags, place) {
        Ok(settings) => settings.model,
        Err(failure) => return Finding::lacks(NAME, failure.what, failure.hints.join("; ")),
    };
    match model::open(&choice) {
        Ok(_) => {
            let key = if choice.api_key.is_some() { "with a key" } else { "without a key" };
            Finding::works(NAME, format!("{} at {} ({key}; not asked)", choice.name, choice.shown_base_url()))
        }
        Err(error) => Finding::lacks(NAME, error.what, error.hint.unwrap_or_default()),
    }
}

fn terminal(place: &Place) -> Finding {
    let term = place.var("TERM").unwrap_or("not set");
    let tty = if place.stderr_tty { "a terminal" } else { "no terminal" };
    let colour = if place.colour(place.stderr_tty) { "colour" } else { "no colour" };
    Finding::works("terminal", format!("{tty}, TERM {term}, {colour}"))
}

/// Another program of the same name that a shell would find before this one.
fn other_agent(place: &Place) -> Option<Finding> {
    let own = std::fs::canonicalize("/proc/self/exe").ok()?;
    let first = on_path("agent", place).into_iter().next()?;
    let other = first.canonicalize().ok().filter(|path| *path != own)?;
    Some(Finding::lacks(
        "name",
        format!("`agent` in your PATH is {}, not {}", other.display(), own.display()),
        "put this program's directory first in PATH, or give it an alias",
    ))
}

fn on_path(program: &str, place: &Place) -> Vec<PathBuf> {
    let dirs = std::env::split_paths(place.var("PATH").unwrap_or_default());
    dirs.map(|dir| dir.join(program)).filter(|path| path.is_file()).collect()
}

fn print(findings: &[Finding], json: bool, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if json {
        serde_json::to_writer_pretty(&mut *out, findings).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(ExitReason::Done);
    }
    for finding in findings {
        let mark = if finding.works { "ok     " } else { "missing" };
        writeln!(out, "{mark}  {:16} {}", finding.name, finding.detail)?;
        for capability in finding.capabilities.iter() {
            match &capability.missing {
                None => writeln!(out, "           + {}", capability.name)?,
                Some(why) => writeln!(out, "           - {}: {why}", capability.name)?,
            }
        }
        for line in finding.hint.iter().flat_map(|hint| hint.lines()) {
            writeln!(out, "           hint: {line}")?;
        }
    }
    Ok(ExitReason::Done)
}
