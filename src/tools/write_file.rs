//! `write_file`: a whole file, all of it or nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Outcome, Status};
use crate::guest::{Client, GuestError, RefusalKind};
use crate::terminal::TerminalError;

use super::facts::size;
use super::path::resolve;

/// Arguments of `write_file`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Absolute, or relative to the project directory.
    pub path: String,
    /// The whole new content.
    pub content: String,
    /// Make it executable; null for as it was.
    #[serde(default)]
    pub executable: Option<bool>,
}

/// Writes the file.
pub(super) async fn run(args: &Args, workspace: &str, guest: &Client) -> Result<Outcome, TerminalError> {
    let path = resolve(workspace, &args.path);
    let before = match guest.stat(&path).await {
        Ok(info) => Some(info),
        Err(GuestError::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let was = before.as_ref().map_or(0o644, |info| info.mode & 0o7777);
    let mode = match args.executable {
        None => before.is_none().then_some(0o644),
        Some(true) => Some(was | 0o111),
        Some(false) => Some(was & !0o111),
    };
    let after = guest.write_file(&path, args.content.as_bytes(), mode).await?;
    let change = match before {
        None => "new".to_owned(),
        Some(info) => format!("replaced {}", size(info.size)),
    };
    Ok(Outcome::words(
        Status::Ok,
        format!("[{path} · {} · {change} · mode {:03o}]", size(after.size), after.mode & 0o7777),
    ))
}
