//! `agent diff`: what a run changed, against the host as it is now.

use std::io::Write;

use serde_json::{Value, json};

use super::args::DiffArgs;
use super::changes::{Asked, Found, as_json, find, shown, shown_bytes};
use super::output::{Stop, finished};
use super::{Failure, Place, patch};
use crate::domain::ExitReason;
use crate::report::visible_json;
use crate::sandbox::changes::{Change, ChangeKind, SystemChanges, system_changes};

/// Runs `agent diff`, printing to `out`.
pub(super) fn run(args: &DiffArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let asked = match find(&args.run, &args.paths, place)? {
        Found::Changes(asked) => asked,
        Found::Nothing(why) => return finished(nothing(args, &why, out)),
    };
    asked.print_notes();
    let colour = place.colour(place.stdout_tty);
    let system = args.all.then(|| system_changes(asked.run.path()));
    finished(
        if args.json {
            print_json(&asked, system.flatten().as_ref(), out)
        } else {
            print_text(args, &asked, colour, out).and_then(|()| match system {
                Some(system) => print_system(system.as_ref(), out),
                None => Ok(()),
            })
        }
        .map(|()| ExitReason::Done),
    )
}

fn nothing(args: &DiffArgs, why: &str, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if args.json {
        writeln!(out, "[]")?;
    }
    let _ = writeln!(std::io::stderr(), "{why}");
    Ok(ExitReason::Done)
}

fn print_json(asked: &Asked, system: Option<&SystemChanges>, out: &mut dyn Write) -> Result<(), Stop> {
    let inside = asked.changes.list.iter().filter(|change| asked.is_asked(change)).map(as_json);
    let outside = system.into_iter().flat_map(|system| &system.changes).map(|change| {
        json!({
            "path": change.path,
            "path_base64": null,
            "kind": change.kind,
            "old": null,
            "new": change.size_bytes.map(|size| json!({"type": "file", "mode": null, "size_bytes": size, "target": null})),
            "changed_on_host": false,
            "trouble": "it is outside the workspace",
            "outside": true,
        })
    });
    let all: Vec<Value> = inside.chain(outside).collect();
    writeln!(out, "{}", visible_json(&Value::from(all)))?;
    Ok(out.flush()?)
}

fn print_text(args: &DiffArgs, asked: &Asked, colour: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let changes = &asked.changes;
    let meant: Vec<&Change> = changes.list.iter().filter(|change| asked.is_asked(change)).collect();
    for change in &meant {
        match args.stat {
            true => {
                let figures = patch::figures(changes, change);
                writeln!(out, "{:<8} {}  {figures}", change.kind.word(), shown(&change.path))?;
            }
            false => out.write_all(patch::full(changes, change, colour).as_bytes())?,
        }
    }
    if args.stat {
        writeln!(out, "{}", totals(&meant))?;
    }
    Ok(out.flush()?)
}

/// `3 added, 1 deleted`, or that there is nothing.
pub(super) fn totals(changes: &[&Change]) -> String {
    let kinds = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Deleted, ChangeKind::Mode, ChangeKind::Type];
    let count = |kind: ChangeKind| changes.iter().filter(|change| change.kind == kind).count();
    let counted: Vec<String> = kinds
        .into_iter()
        .map(|kind| (kind, count(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.word()))
        .collect();
    if counted.is_empty() { "no changes".to_owned() } else { counted.join(", ") }
}

fn print_system(system: Option<&SystemChanges>, out: &mut dyn Write) -> Result<(), Stop> {
    let Some(system) = system else {
        writeln!(out, "outside the workspace: not known for this run")?;
        return Ok(());
    };
    writeln!(out, "outside the workspace, which goes with the box and can't be applied:")?;
    for change in &system.changes {
        writeln!(out, "  {:<8} {}", change.kind, shown_bytes(change.path.as_bytes()))?;
    }
    match (system.changes.len(), system.left_out) {
        (0, _) => writeln!(out, "  nothing")?,
        (_, 0) => {}
        (_, more) => writeln!(out, "  [... {more} more]")?,
    }
    Ok(out.flush()?)
}
