//! Sidecars where the box is no container: services in sessions of their own.

use super::{Call, Done, Stop, failed, malformed};
use crate::domain::{Event, Progress, SessionName, Status};
use crate::terminal::Opening;
use crate::tools::{shell, tmux};

impl Call<'_> {
    pub(super) async fn start_session(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Done {
        let name = self.name()?;
        if self.args.image.is_some() {
            return Err(failed(
                "not started: this box is no container and has no images\n\
                 hint: leave `image` out and say by `command` what runs the service; a person can run with `--image`",
            ));
        }
        let Some(command) = self.args.command.clone() else {
            return Err(malformed("command: is missing: in this box a sidecar is a service in a session of its own"));
        };
        let session = self.session()?;
        let open = self.terminal.sessions().await?;
        if open.iter().any(|info| info.session == session) {
            return Err(failed(format!(
                "not started: there is a session `{name}`; stop it first, or take another name"
            )));
        }
        let opening = Opening { env: self.env()?, ..Opening::default() };
        self.terminal.open_as(&session, opening).await?;
        let args = shell::Args {
            command: Some(command),
            session: Some(name.to_string()),
            cwd: None,
            expected_s: None,
            // Long enough to see a service that can't even begin.
            yield_s: Some(if self.args.ready.is_some() { 0.0 } else { 1.0 }),
            service: Some(true),
            ready: self.args.ready.clone(),
        };
        let mut outcome = shell::run(&args, self.names, self.terminal, progress, self.attention).await?;
        if outcome.status == Status::Malformed {
            return Ok((outcome, Vec::new()));
        }
        let started = Event::SidecarStarted { name: name.to_string(), image: None, id: name.to_string() };
        outcome.text = format!("[sidecar {name} is the session {name}; reach it at 127.0.0.1]\n{}", outcome.text);
        Ok((outcome, vec![started]))
    }

    pub(super) async fn stop_session(&self) -> Done {
        let name = self.name()?;
        let session = self.session()?;
        if self.terminal.sessions().await?.iter().any(|info| info.session == session && info.command.is_some()) {
            let stop = tmux::Args { signal: Some(tmux::Signal::Ladder), ..tmux_args(tmux::Verb::Signal, &name) };
            tmux::run(&stop, self.names.work, self.run, self.terminal, self.attention).await?;
        }
        let close = tmux_args(tmux::Verb::Close, &name);
        let outcome = tmux::run(&close, self.names.work, self.run, self.terminal, self.attention).await?;
        let stopped = (outcome.status == Status::Ok)
            .then(|| Event::SidecarStopped { name: name.to_string(), why: "it was stopped as asked".to_owned() });
        Ok((outcome, stopped.into_iter().collect()))
    }

    pub(super) async fn inspect_session(&self) -> Done {
        let name = self.name()?;
        let look = tmux_args(tmux::Verb::Screen, &name);
        let outcome = tmux::run(&look, self.names.work, self.run, self.terminal, self.attention).await?;
        Ok((outcome, Vec::new()))
    }

    pub(super) async fn session_logs(&self) -> Done {
        let name = self.name()?;
        let lines = i64::from(self.lines()?);
        let log = tmux::Args { from_line: Some(-lines), lines: Some(lines), ..tmux_args(tmux::Verb::Log, &name) };
        let outcome = tmux::run(&log, self.names.work, self.run, self.terminal, self.attention).await?;
        Ok((outcome, Vec::new()))
    }

    fn session(&self) -> Result<SessionName, Stop> {
        SessionName::new(self.name()?.as_str()).map_err(|error| malformed(format!("name: {error}")))
    }
}

fn tmux_args(action: tmux::Verb, name: &crate::sandbox::SidecarName) -> tmux::Args {
    tmux::Args {
        action,
        session: Some(name.to_string()),
        command: None,
        cwd: None,
        env: None,
        cols: None,
        rows: None,
        text: None,
        enter: None,
        keys: None,
        from_line: None,
        lines: None,
        from_byte: None,
        bytes: None,
        pattern: None,
        ignore_case: None,
        context: None,
        signal: None,
    }
}
