//! `agent apply`: brings what a run changed to the host.

use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;

use super::args::ApplyArgs;
use super::changes::{Asked, Found, difference, find, shown};
use super::output::{Stop, finished};
use super::target::{of_store, store};
use super::{Failure, Place, patch};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::{ExitReason, Verdict};
use crate::journal::{RunState, RunSummary, StoreError};
use crate::sandbox::changes::{ApplyError, Applying, Change, Consent, Done, Plan, Standing, plan};

/// Runs `agent apply`, printing to `out`.
pub(super) fn run(args: &ApplyArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    if args.interactive && !place.stdin_tty {
        return Err(Failure::new(ExitReason::Usage, "cannot ask: standard input is no terminal")
            .hint("see what would be done with `agent apply --dry-run`, or name the paths to apply"));
    }
    let run = store(place)?.find(&args.run).map_err(|error| of_store(&error))?;
    if let RunState::Running { pid } = RunSummary::read(&run).state {
        return Err(of_store(&StoreError::Driven { run: run.id().clone(), pid }));
    }
    // Held until the end: what is compared below stays what another process has left.
    let applying = Applying::begin(run.path()).map_err(|error| of_apply(&error))?;
    let mut asked = match find(&args.run, &args.paths, place)? {
        Found::Changes(asked) => asked,
        Found::Nothing(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            return Ok(ExitReason::Done);
        }
    };
    asked.print_notes();
    if !args.dry_run {
        applying.tidy(&mut asked.changes).map_err(|error| of_apply(&error))?;
    }
    finished(go(args, place, &asked, &applying, out))
}

/// Applies all at the end of a run whose checks have passed, and says on standard error what came of it.
pub(super) fn at_end(run: &str, verdict: Verdict, place: &Place) -> Result<ExitReason, Failure> {
    if verdict != Verdict::Verified {
        let _ = writeln!(io::stderr(), "not applied: no check has proved the result; see `agent diff {run}`");
        return Ok(ExitReason::Done);
    }
    let args = ApplyArgs {
        run: run.to_owned(),
        paths: Vec::new(),
        interactive: false,
        dry_run: false,
        force: false,
        include_active: false,
    };
    self::run(&args, place, &mut io::stderr())
}

fn go(
    args: &ApplyArgs,
    place: &Place,
    asked: &Asked,
    applying: &Applying,
    out: &mut dyn Write,
) -> Result<ExitReason, Stop> {
    let changes = &asked.changes;
    let consent = Consent { force: args.force, include_active: args.include_active, named: &asked.named };
    let mut plan = plan(changes, |change| asked.is_asked(change), &consent);
    if args.interactive {
        plan = asked_one_by_one(asked, &plan, &consent, place, out)?;
    }
    let conflicts = plan.of(|standing| *standing == Standing::Conflict).count();
    // All or nothing: half of what belongs together may be worse than none. Who is asked of each decides himself.
    let clear = if conflicts > 0 && !args.interactive { Vec::new() } else { plan.clear() };
    let done = match args.dry_run {
        true => Done { applied: clear, stopped: None },
        false => applying.apply(changes, &clear, SystemClock::new().now()).map_err(|error| of_apply(&error))?,
    };
    print(args, asked, &plan, &done, out)?;
    if let Some((index, why)) = &done.stopped {
        return Err(stopped(asked, *index, why, done.applied.len()).into());
    }
    Ok(reason(&plan))
}

/// The exit code's reason: what weighs most of what was not applied.
fn reason(plan: &Plan) -> ExitReason {
    let any = |wanted: fn(&Standing) -> bool| plan.standings.iter().any(wanted);
    if any(|standing| matches!(standing, Standing::Conflict)) {
        ExitReason::Failed
    } else if any(|standing| matches!(standing, Standing::Refused(_))) {
        ExitReason::Refused
    } else if any(|standing| matches!(standing, Standing::Held(_))) {
        ExitReason::NeedsHuman
    } else {
        ExitReason::Done
    }
}

fn print(args: &ApplyArgs, asked: &Asked, plan: &Plan, done: &Done, out: &mut dyn Write) -> Result<(), Stop> {
    let list = &asked.changes.list;
    let word = if args.dry_run { "would apply" } else { "applied" };
    for &index in &done.applied {
        writeln!(out, "{word:<11} {} {}", list[index].kind.word(), shown(&list[index].path))?;
        if list[index].new.as_ref().is_some_and(|new| new.mode & 0o7000 != 0) {
            writeln!(out, "            without its setuid, setgid or sticky bit")?;
        }
    }
    let mut say = |word: &str, index: usize, why: &str| {
        writeln!(out, "{word:<11} {} {}: {why}", list[index].kind.word(), shown(&list[index].path))
    };
    for (index, standing) in plan.standings.iter().enumerate() {
        match standing {
            Standing::Clear | Standing::NotAsked => {}
            Standing::Conflict => say("conflict", index, "the host has changed it since the run began")?,
            Standing::Refused(why) => say("refused", index, &crate::report::visible_line(why))?,
            Standing::Held(who) => say("held back", index, &format!("it runs by itself on the host: {who}"))?,
            Standing::Waits(why) => say("waits", index, why)?,
            Standing::Idle => say("nothing", index, "only setuid, setgid or sticky bits differ")?,
        }
    }
    writeln!(out, "{}", summary(args, plan, done))?;
    out.flush()?;
    hints(args, plan);
    Ok(())
}

fn summary(args: &ApplyArgs, plan: &Plan, done: &Done) -> String {
    let applied = if args.dry_run { "to apply" } else { "applied" };
    let mut parts = vec![format!("{} {applied}", done.applied.len())];
    let mut count = |word: &str, wanted: fn(&Standing) -> bool| {
        let number = plan.of(wanted).count();
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    };
    count("in conflict", |standing| matches!(standing, Standing::Conflict));
    count("refused", |standing| matches!(standing, Standing::Refused(_)));
    count("held back", |standing| matches!(standing, Standing::Held(_)));
    count("waiting", |standing| matches!(standing, Standing::Waits(_)));
    parts.join(", ")
}

fn hints(args: &ApplyArgs, plan: &Plan) {
    let mut stderr = io::stderr();
    let any = |wanted: fn(&Standing) -> bool| plan.standings.iter().any(wanted);
    if any(|standing| matches!(standing, Standing::Conflict)) && !args.interactive {
        let _ = writeln!(
            stderr,
            "hint: nothing was applied; name the paths that you want (`agent apply {} PATH`), or overwrite what the host \
             has with `--force`",
            args.run
        );
    }
    if any(|standing| matches!(standing, Standing::Held(_))) {
        let _ = writeln!(stderr, "hint: read what was held back; apply it by its name, or all with `--include-active`");
    }
}

fn stopped(asked: &Asked, index: usize, why: &str, applied: usize) -> Failure {
    let path = shown(&asked.changes.list[index].path);
    Failure::new(ExitReason::Failed, format!("stopped at {path}, after {applied} had been applied"))
        .because(why)
        .hint("every file is either old or new; when the cause is gone, the same command applies the rest")
}

fn of_apply(error: &ApplyError) -> Failure {
    match error {
        ApplyError::Busy => Failure::new(ExitReason::Usage, error.to_string()).hint("wait until that has ended"),
        ApplyError::Record { .. } => Failure::new(ExitReason::Failed, error.to_string())
            .because_of_source(error)
            .hint("make room, or run it as the user who ran the run"),
    }
}

/// Shows each change and asks; what is not agreed to stays as it is.
fn asked_one_by_one(
    asked: &Asked,
    first: &Plan,
    consent: &Consent<'_>,
    place: &Place,
    out: &mut dyn Write,
) -> Result<Plan, Stop> {
    let list = &asked.changes.list;
    let (mut agreed, mut named) = (vec![false; list.len()], asked.named.clone());
    let mut all = false;
    for (index, standing) in first.standings.iter().enumerate() {
        let held = match standing {
            Standing::Clear => None,
            Standing::Held(who) => Some(who),
            Standing::NotAsked | Standing::Waits(_) => continue,
            // To be told of at the end.
            Standing::Conflict | Standing::Refused(_) | Standing::Idle => {
                agreed[index] = true;
                continue;
            }
        };
        if all && held.is_none() {
            agreed[index] = true;
            continue;
        }
        out.write_all(patch::full(&asked.changes, &list[index], place.colour(place.stdout_tty)).as_bytes())?;
        if let Some(who) = held {
            writeln!(out, "careful: it runs by itself on the host: {who}")?;
        }
        match ask(&list[index], out)? {
            Answer::Yes => {
                agreed[index] = true;
                if held.is_some() {
                    named.push(list[index].path.clone());
                }
            }
            Answer::No => {}
            Answer::All => {
                all = true;
                agreed[index] = held.is_none();
            }
            Answer::Quit => break,
        }
    }
    let wanted: std::collections::HashSet<&PathBuf> =
        list.iter().zip(&agreed).filter(|(_, agreed)| **agreed).map(|(change, _)| &change.path).collect();
    let consent = Consent { named: &named, ..*consent };
    Ok(plan(&asked.changes, |change| wanted.contains(&change.path), &consent))
}

/// What a person says to one change.
enum Answer {
    Yes,
    No,
    /// This and all that follow, but for what runs by itself.
    All,
    Quit,
}

fn ask(change: &Change, out: &mut dyn Write) -> Result<Answer, Stop> {
    let words = difference(change);
    let about = if words.is_empty() { String::new() } else { format!(" ({words})") };
    loop {
        write!(out, "apply {}{about}? [y]es, [n]o, [a]ll, [q]uit: ", shown(&change.path))?;
        out.flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Ok(Answer::Quit);
        }
        match line.trim() {
            "y" | "yes" => return Ok(Answer::Yes),
            "n" | "no" | "" => return Ok(Answer::No),
            "a" | "all" => return Ok(Answer::All),
            "q" | "quit" => return Ok(Answer::Quit),
            _ => {}
        }
    }
}
