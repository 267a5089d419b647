//! Looks for the box of a run whose driver has gone.

use std::io;
use std::path::Path;

use super::record::Record;
use super::running::Running;
use super::start;
use crate::domain::{BoxFacts, SandboxKind};
use crate::process::{Identity, boot_id};
use crate::sandbox::{BoxSpec, SandboxError, leave_token};

/// How the first process of a box stands.
pub(in crate::sandbox) enum Life {
    /// It is alive, and its guest answers.
    Answers(Box<Running>),
    /// It has ended, as far as it ever began. Why, in words.
    Ended(String),
}

/// Takes charge of the box with that record, if it is alive.
///
/// # Errors
/// When its guest is there and does not let this program in.
pub(in crate::sandbox) async fn take_charge(
    dir: &Path,
    spec: &BoxSpec,
    record: Record,
    kind: SandboxKind,
) -> Result<Life, SandboxError> {
    let Some(process) = &record.process else {
        return Ok(Life::Ended("the making of the box had not been finished".to_owned()));
    };
    let Some(held) = process.hold() else { return Ok(Life::Ended(why_ended(process))) };
    // Its layers and groups may not be on record yet, and nothing has run in it.
    let is_half_made = record.facts.is_none() && !record.uncontained;
    if is_half_made || start::connect(dir).is_err_and(|error| is_absence(&error)) {
        // It was being made when the driver went, and waits for nobody.
        held.kill();
        held.ended().await;
        return Ok(Life::Ended("the making of the box had not been finished".to_owned()));
    }
    let client = super::reach(dir, spec, &record).await?;
    // The guest knows the token that it was started with, whatever this driver's is.
    let _ = leave_token(&spec.run_dir, &record.token);
    let facts = record.facts.clone().unwrap_or_else(|| bare_facts(spec, &record, kind));
    let groups = record.groups.clone();
    Ok(Life::Answers(Box::new(Running::new(facts, client, dir.to_owned(), record, groups, None))))
}

fn why_ended(process: &Identity) -> String {
    match boot_id() {
        Ok(boot) if boot != process.boot_id => {
            "the machine was restarted; what was not on its disk by then is missing".to_owned()
        }
        Ok(_) | Err(_) => "its first process was killed".to_owned(),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// What can be said of a box whose driver went before it had noted its facts.
fn bare_facts(spec: &BoxSpec, record: &Record, kind: SandboxKind) -> BoxFacts {
    BoxFacts {
        kind,
        why: spec.why.clone(),
        id: record.process.as_ref().map_or_else(String::new, |process| process.pid.to_string()),
        image: None,
        image_digest: None,
        workspace: record.workspace.display().to_string(),
        workspace_mode: if record.written_through { "bind" } else { "overlay" }.to_owned(),
        capabilities: Vec::new(),
    }
}
