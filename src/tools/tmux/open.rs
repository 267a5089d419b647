//! Opening a session, with a command if one is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Call, Done, Stop, malformed, shown};
use crate::domain::{Outcome, SessionName, Status};
use crate::guest::TermSize;
use crate::terminal::{CommandSpec, JobWish, Opening};
use crate::tools::facts::{command_outcome, job_outcome};

/// Columns and rows that make sense.
const COLS: std::ops::RangeInclusive<i64> = 10..=1000;
const ROWS: std::ops::RangeInclusive<i64> = 2..=500;

impl Call<'_> {
    pub(super) async fn open(&self) -> Done {
        let name = self.name()?;
        let (size, env) = (self.size()?, self.env()?);
        if self.args.command.as_deref().is_some_and(|command| command.trim().is_empty()) {
            return Err(malformed("command: is empty; null opens the session without one"));
        }
        let open = self.terminal.sessions().await?;
        let was_open = open.iter().any(|info| info.session == name);
        let info = self.terminal.open_as(&name, Opening { cwd: self.args.cwd.clone(), env, size }).await?;
        let TermSize { cols, rows } = info.size;
        let cwd = info.cwd.as_deref().unwrap_or("?");
        let first = match was_open {
            true => format!("[session {name} was open already and is as it was · {cwd} · {cols}×{rows}]"),
            false => format!("[session {name} is open · {} · {cwd} · {cols}×{rows}]", info.shell),
        };
        let Some(command) = &self.args.command else { return Ok(Outcome::words(Status::Ok, first)) };
        let mut outcome = self.start(&name, command, was_open).await?;
        outcome.text = format!("{first}\n{}", outcome.text);
        Ok(outcome)
    }

    /// Starts a command and returns at once; it is a job from then on.
    async fn start(&self, session: &SessionName, command: &str, was_open: bool) -> Done {
        let spec = CommandSpec {
            id: self.work.to_owned(),
            session: session.clone(),
            command: command.as_bytes().to_vec(),
            // A session that was open is somewhere else by now.
            cwd: self.args.cwd.clone().filter(|_| was_open),
            yield_after: Duration::ZERO,
        };
        let report = self.terminal.run(spec, &mut |_| {}, self.attention.token()).await?;
        Ok(match self.terminal.board().keep(&report, session, JobWish::default()) {
            Some(job) => job_outcome(&report, job.id),
            None => command_outcome(&report),
        })
    }

    fn size(&self) -> Result<Option<TermSize>, Stop> {
        let (cols, rows) = (self.args.cols, self.args.rows);
        if cols.is_none() && rows.is_none() {
            return Ok(None);
        }
        let usual = TermSize::default();
        let within = |what: &str, given: Option<i64>, usual: u16, range: std::ops::RangeInclusive<i64>| {
            let value = given.unwrap_or(usual.into());
            let sized = u16::try_from(value).ok().filter(|_| range.contains(&value));
            sized.ok_or_else(|| malformed(format!("{what}: {value} is not from {} to {}", range.start(), range.end())))
        };
        let (cols, rows) = (within("cols", cols, usual.cols, COLS)?, within("rows", rows, usual.rows, ROWS)?);
        Ok(Some(TermSize { cols, rows }))
    }

    fn env(&self) -> Result<BTreeMap<String, String>, Stop> {
        let mut env = BTreeMap::new();
        for variable in self.args.env.iter().flatten() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_name = name.chars().all(plain) && name.starts_with(|c: char| !c.is_ascii_digit());
            if !is_name || !variable.contains('=') || value.contains('\0') {
                return Err(malformed(format!("env: {} is not of the form NAME=value", shown(variable))));
            }
            env.insert(name.to_owned(), value.to_owned());
        }
        Ok(env)
    }
}
