//! How persons are told of a run: the wiring of `notify`, and `agent notify --test`.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::args::TestNotifyArgs;
use super::launch::{Over, Prepared};
use super::observers::Shared;
use super::output::{Stop, finished};
use super::settings::{Flags, Settings};
use super::{Failure, Place};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::ExitReason;
use crate::notify::{Message, Notifier, deliver};
use crate::report::{Live, visible_json, visible_line};

/// Begins to tell persons of a run. What does not work is said in its view, and so in its log where it has no terminal.
pub(super) fn begin<W: Write + Send + 'static>(prepared: &Prepared, live: Shared<Live<W>>) -> Option<Notifier> {
    let say = move |text: &str| live.with(|live| live.say(text));
    Notifier::start(prepared.notify().clone(), prepared.entries(), Arc::new(say))
}

/// The run is over: what is on its way has a short time.
pub(super) async fn end(notifier: Option<Notifier>, over: &Result<Over, Failure>) {
    let Some(notifier) = notifier else { return };
    let trouble = over.as_ref().err().map(|failure| (failure.reason, failure.what.clone()));
    notifier.finish(trouble, SystemClock::new().now()).await;
}

/// How a test went on one channel.
#[derive(Debug, Serialize)]
struct Tried {
    channel: String,
    works: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Runs `agent notify --test`. Exits with 3 where a channel does not work.
pub(super) async fn test(args: TestNotifyArgs, place: &Place) -> Result<ExitReason, Failure> {
    let flags = Flags { notify: Some(&args.notify), ..Flags::default() };
    let plan = Settings::resolve(&flags, place)?.notify;
    if plan.channels.is_empty() {
        return Err(Failure::new(ExitReason::Usage, "nobody is notified")
            .because("neither `--notify` nor the configuration names a way")
            .hint("name one: `agent notify --test --notify bell`"));
    }
    let message = Message::test(SystemClock::new().now());
    let mut tried = Vec::new();
    for channel in &plan.channels {
        let why = deliver(channel, &message, &plan.ground).await.err();
        tried.push(Tried { channel: channel.name(), works: why.is_none(), why });
    }
    finished(print(&tried, args.json, &mut io::stdout()))
}

fn print(tried: &[Tried], json: bool, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    if json {
        writeln!(out, "{}", visible_json(&serde_json::json!(tried)))?;
    } else {
        for one in tried {
            let mark = if one.works { "ok    " } else { "failed" };
            let why = one.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(out, "{mark}  {}", visible_line(&format!("{}{why}", one.channel)))?;
        }
    }
    out.flush()?;
    Ok(if tried.iter().all(|one| one.works) { ExitReason::Done } else { ExitReason::Failed })
}
