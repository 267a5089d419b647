//! Waits until the foreground of a session waits for input, and has for a moment.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::guest::facts::{Refusal, RefusalKind};
use crate::guest::session::Session;
use crate::guest::supervisor::refuse;

/// Silence that comes before it is believed: a program that still prints is not done asking.
const QUIET: Duration = Duration::from_millis(300);

/// The time between two looks. The kernel has no event for a process that begins to wait for input, so while somebody
/// asks, and only then, it is looked.
const STEP: Duration = Duration::from_millis(100);

/// The same once nothing has happened for long.
const LONG_STEP: Duration = Duration::from_millis(250);

/// How long that is.
const LONG: Duration = Duration::from_secs(60);

/// Answers with what waits.
///
/// # Errors
/// When the session is closed.
pub(super) async fn met(session: &Session) -> Result<String, Refusal> {
    let mut growth = session.log.growth();
    let mut quiet_since = Instant::now();
    let mut waiting_since = None;
    loop {
        growth.mark_unchanged();
        let step = if quiet_since.elapsed() < LONG { STEP } else { LONG_STEP };
        tokio::select! {
            biased;
            () = session.closed() => return Err(refuse(RefusalKind::Unknown, "the session is closed")),
            _ = growth.changed() => {
                // Many pieces of a flood are one.
                sleep(STEP / 4).await;
                quiet_since = Instant::now();
                waiting_since = None;
                continue;
            }
            () = sleep(step) => {}
        }
        let now = Instant::now();
        let Some(program) = session.waits_for_input() else {
            waiting_since = None;
            continue;
        };
        let since = *waiting_since.get_or_insert(now);
        // Seen twice, so that a look just between two steps of a program does not count.
        if now - quiet_since >= QUIET && now > since {
            return Ok(format!("{program} waits for input"));
        }
    }
}
