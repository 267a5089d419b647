//! What checkpoints need of a box beside its files: the sessions as they are, and like ones opened again; services
//! started again; a command that has programs write down what they hold in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::{Job, Outcome, SessionState, Snapshot, Status};
use crate::guest::{CommandState, Phase, RunCommand, SessionInfo, Start};
use crate::sandbox::SnapshotWish;
use crate::terminal::{CommandSpec, JobWish, Opening, TerminalError};

use super::workbench::told;
use super::{Attention, Workbench, WorkbenchError, facts};

/// How long a session may take to write down its variables.
const NOTING: Duration = Duration::from_secs(3);
/// How long the command before a checkpoint may take.
const BEFORE: Duration = Duration::from_secs(120);
/// How long a box that is given up gets to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on a box whose shells are idle is ended and made anew rather than copied: copying so much takes more than a
/// second, and the other a tenth of one.
const MUCH_BYTES: u64 = 512 << 20;
/// The same of files.
const MUCH_FILES: u64 = 30_000;
/// Most bytes of a session's variables.
const LARGEST_ENV: u64 = 1 << 20;

/// Variables that belong to a shell or its terminal and not to the work.
const OWN: [&str; 12] = [
    "_",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "TERM",
    "COLUMNS",
    "LINES",
    "ENV",
    "BASH_ENV",
    "TMUX",
    "TMUX_PANE",
    "PROMPT_COMMAND",
];

/// What becomes of a box that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It goes on as if nothing had happened.
    GoesOn,
    /// It goes: nothing has to be copied.
    Ends,
}

impl Workbench {
    /// Keeps the files of the box as they are at one instant. What has to be copied is given up when a person interrupts.
    ///
    /// # Errors
    /// [`WorkbenchError::NoBox`]: nothing is kept then, and the box goes on.
    pub async fn snapshot(
        &self,
        layer: String,
        after: After,
        attention: &Attention,
    ) -> Result<Snapshot, WorkbenchError> {
        let wish = SnapshotWish { layer, last: after == After::Ends, unwanted: attention.token().clone() };
        Ok(self.sandbox().snapshot(&wish).await?)
    }

    /// Whether the box is kept much sooner by ending it and making it anew: there is much to copy, and nothing runs in it
    /// but shells at their prompts.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn is_better_sealed(&self) -> Result<bool, WorkbenchError> {
        let Some(copy) = self.sandbox().to_copy().await else { return Ok(false) };
        if copy.bytes < MUCH_BYTES && copy.files < MUCH_FILES {
            return Ok(false);
        }
        let infos = self.terminal().sessions().await.map_err(WorkbenchError::Gone)?;
        let open: Vec<&SessionInfo> = infos.iter().filter(|info| info.pid != 0).collect();
        let is_idle = |info: &&SessionInfo| info.ready && !info.command.as_ref().is_some_and(is_under_way);
        Ok(open.iter().all(is_idle) && copy.processes == open.len())
    }

    /// Removes the box without asking its jobs to end; what could not be removed, in words.
    pub async fn give_up(&self) -> Vec<String> {
        self.sandbox().destroy(PATIENCE).await.left
    }

    /// The sessions as they are. `nonce` tells this look from every other in the run.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn sessions(&self, nonce: &str) -> Result<Vec<SessionState>, WorkbenchError> {
        let infos = self.terminal().sessions().await.map_err(WorkbenchError::Gone)?;
        let open = infos.into_iter().filter(|info| info.pid != 0);
        Ok(join_all(open.map(|info| self.session(info, nonce))).await)
    }

    async fn session(&self, info: SessionInfo, nonce: &str) -> SessionState {
        let noted = match info.ready && info.command.is_none() {
            true => tokio::time::timeout(NOTING, self.exported(&info, nonce)).await.ok().flatten(),
            false => None,
        };
        let env = match noted {
            Some(env) => env,
            None => self.variables(&format!("/proc/{}/environ", info.pid)).await.unwrap_or_default(),
        };
        let command = info.command.as_ref().filter(|command| is_under_way(command));
        SessionState {
            shell: info.shell,
            cwd: info.cwd,
            env,
            command: command.map(|command| command.title.clone()),
            log: format!("{}/{}", self.terminal().logs(), info.log),
            log_offset: info.log_size,
            session: info.session,
        }
    }

    /// What the session's shell exports now: written down by itself, in a way that leaves `$?` as it was.
    async fn exported(&self, info: &SessionInfo, nonce: &str) -> Option<BTreeMap<String, String>> {
        let guest = self.terminal().guest();
        let dir = Some(guest.welcome().runtime_dir.clone()).filter(|dir| !dir.is_empty())?;
        let (file, id) = (format!("{dir}/env-{}", info.session), format!("env-{nonce}-{}", info.session));
        let command = format!(
            "# the harness notes the session's variables for a checkpoint\n\
             ( s=$?; cat /proc/self/environ >'{file}' 2>/dev/null; exit $s )"
        );
        let run = RunCommand { id: id.clone(), session: info.session.clone(), cwd: None };
        match guest.run(run, command.as_bytes()).await.ok()? {
            Start::Started(_) => {}
            Start::Known(_) | Start::Busy(_) => return None,
        }
        guest.ended(&id).await.ok()?;
        self.variables(&file).await.filter(|env| !env.is_empty())
    }

    /// The variables in a file of the form of `/proc/self/environ`.
    async fn variables(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let (_, bytes) = self.terminal().guest().read_file(path, 0, LARGEST_ENV).await.ok()?;
        Some(read_variables(&bytes))
    }

    /// Opens a session as it was. What is not as it was, in words.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn reopen(&self, state: &SessionState) -> Result<Option<String>, WorkbenchError> {
        let opening = |cwd| Opening { cwd, env: state.env.clone(), size: None };
        let opened = self.terminal().open_as(&state.session, opening(state.cwd.clone())).await;
        let Err(error) = opened else { return Ok(None) };
        let why = refused(error)?;
        let again = self.terminal().open_as(&state.session, opening(None)).await;
        Ok(Some(match again {
            Ok(_) => format!("session {} begins in {}: {why}", state.session, self.terminal().workspace()),
            Err(error) => format!("session {} could not be opened again: {}", state.session, refused(error)?),
        }))
    }

    /// Starts a service as its job says, under a new name of work; the job that it is now.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`]; that it does not run is the inner error, in words.
    pub async fn start_again(&self, job: &Job, work: &str) -> Result<Result<Job, String>, WorkbenchError> {
        let spec = CommandSpec {
            id: work.to_owned(),
            session: job.session.clone(),
            command: job.command.clone().into_bytes(),
            cwd: job.cwd.clone(),
            yield_after: Duration::ZERO,
        };
        let report = match self.terminal().run(spec, &mut |_| {}, Attention::new().token()).await {
            Ok(report) => report,
            Err(error) => return Ok(Err(refused(error)?)),
        };
        let wish = JobWish { expected_s: job.expected_s, service: job.service, readiness: job.readiness.clone() };
        let kept = self.terminal().board().keep(&report, &job.session, wish);
        Ok(kept.ok_or_else(|| facts::command_outcome(&report).text))
    }

    /// Runs the command that belongs before a checkpoint, in a fresh shell. `nonce` tells it from every other.
    ///
    /// # Errors
    /// [`WorkbenchError::Gone`].
    pub async fn before_checkpoint(
        &self,
        command: &str,
        nonce: &str,
        attention: &Attention,
    ) -> Result<Outcome, WorkbenchError> {
        let id = format!("before-{nonce}");
        let report = self.terminal().check(&id, command.as_bytes(), None, BEFORE, attention.token()).await;
        told(report.map(|report| facts::command_outcome(&report)))
    }
}

fn is_under_way(command: &CommandState) -> bool {
    matches!(command.phase, Phase::Queued | Phase::Running | Phase::Deaf { .. })
}

/// What was refused, in words.
fn refused(error: TerminalError) -> Result<String, WorkbenchError> {
    told(Err(error)).map(|outcome| {
        debug_assert_ne!(outcome.status, Status::Ok, "an error is no success");
        outcome.text
    })
}

fn read_variables(bytes: &[u8]) -> BTreeMap<String, String> {
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    let of_the_work = |name: &str| {
        !name.is_empty()
            && !OWN.contains(&name)
            && !name.starts_with("LONGHAUL_")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    pairs.filter(|(name, _)| of_the_work(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_work_are_kept_and_those_of_the_shell_are_not() {
        let read =
            read_variables(b"A=1\0B=x=y\0PWD=/p\0_=/bin/cat\0LONGHAUL_X=1\0BASH_FUNC_f%%=() {\0bad\0=\0U=\xff\0");
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
    }
}
