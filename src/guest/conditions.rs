//! Waits for something in the box: input, ports, URLs, files, idleness. Each lasts until it is met or given up.

mod file;
mod idle;
mod input;
mod net;

use std::rc::Rc;
use std::time::Duration;

use super::facts::{Refusal, RefusalKind};
use super::sight::{Condition, Met, Tried};
use super::supervisor::{Supervisor, refuse};

/// A condition that makes sense and can be waited for.
pub(super) enum Watch {
    /// A session waits for input.
    Input(Rc<super::session::Session>),
    /// A port or a URL.
    Net(net::Target),
    /// A path.
    File(file::Target),
    /// Little is done.
    Idle(idle::Target),
}

impl Watch {
    /// Reads a condition.
    ///
    /// # Errors
    /// When it makes no sense, or names a session that is not open.
    pub(super) fn new(boss: &Supervisor, condition: Condition) -> Result<Self, Refusal> {
        Ok(match condition {
            Condition::Input { session } => Self::Input(boss.session(&session)?),
            Condition::Port { host, port } => Self::Net(net::Target::port(host, port)?),
            Condition::Http { url, status } => Self::Net(net::Target::http(&url, status)?),
            Condition::File { path, change } => Self::File(file::Target::new(path, change)?),
            Condition::CpuIdle { below_percent, for_ms } => {
                Self::Idle(idle::Target::cpu(below_percent, Duration::from_millis(for_ms))?)
            }
            Condition::GpuIdle { below_percent, for_ms } => {
                Self::Idle(idle::Target::gpu(below_percent, Duration::from_millis(for_ms))?)
            }
        })
    }

    /// Waits until it is met.
    ///
    /// # Errors
    /// When it can't be met any more, such as after the end of its session.
    pub(super) async fn met(self, boss: &Supervisor) -> Result<Met, Refusal> {
        let what = match self {
            Self::Input(session) => input::met(&session).await?,
            Self::Net(target) => target.met().await,
            Self::File(target) => target.met().await?,
            Self::Idle(target) => target.met(boss).await?,
        };
        Ok(Met { what })
    }

    /// Looks once.
    ///
    /// # Errors
    /// When one look can't tell.
    pub(super) async fn tried(self) -> Result<Tried, Refusal> {
        Ok(match self {
            Self::Input(session) => match session.waits_for_input() {
                Some(program) => Tried { met: true, what: format!("{program} waits for input") },
                None => Tried { met: false, what: "nothing waits for input".into() },
            },
            Self::Net(target) => match target.attempt().await {
                Ok(what) => Tried { met: true, what },
                Err(what) => Tried { met: false, what },
            },
            Self::File(target) => target.tried(),
            Self::Idle(_) => return Err(refuse(RefusalKind::Invalid, "one look can't tell whether anything is idle")),
        })
    }
}
