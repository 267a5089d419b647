//! Sidecars that are containers: started, looked at, stopped.

use std::time::Duration;

use super::{Call, Done, Stop, failed, malformed, ready, told};
use crate::domain::{Event, Outcome, Status};
use crate::sandbox::{Sidecar, SidecarSpec, Sidecars};

/// How long one gets to stop in order.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most text of a log that is shown.
const LARGEST_LOG: usize = 12 << 10;

impl Call<'_> {
    pub(super) async fn start(&self, beside: &dyn Sidecars) -> Done {
        let name = self.name()?;
        let Some(image) = self.args.image.clone().filter(|image| !image.trim().is_empty()) else {
            return Err(malformed("image: is missing: a sidecar is a container of its own"));
        };
        if self.args.command.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(malformed("command: is empty; null is what the image runs by itself"));
        }
        // Read before anything is started, with the sidecar's own name as the host that is meant.
        if let Some(ready) = &self.args.ready {
            ready.read().map_err(malformed)?;
        }
        let spec = SidecarSpec { name: name.clone(), image, command: self.args.command.clone(), env: self.env()? };
        let one = tokio::select! {
            started = beside.start(&spec) => started?,
            () = self.attention.cancelled() => return Err(failed("given up: a person interrupted; look with `info`")),
        };
        let started =
            Event::SidecarStarted { name: name.to_string(), image: Some(one.image.clone()), id: one.id.clone() };
        let address = one.address.as_deref().unwrap_or("no address");
        let first = format!("[sidecar {name} is up · {} · {address}; the box reaches it as `{name}`]", one.image);
        let Some(ready) = &self.args.ready else {
            return Ok((Outcome::words(Status::Ok, first), vec![started]));
        };
        let (status, words) = ready::wait(self, beside, &one, ready).await?;
        let mut text = format!("{first}\n[{words}]");
        if status != Status::Ok {
            let said = beside.logs(&name, 20).await.unwrap_or_default();
            text.push_str(&format!("\n{}", said.trim_end()));
        }
        Ok((Outcome::words(status, text), vec![started]))
    }

    pub(super) async fn stop(&self, beside: &dyn Sidecars) -> Done {
        let one = self.find(beside).await?;
        beside.stop(&one.name, PATIENCE).await?;
        let stopped = Event::SidecarStopped { name: one.name.to_string(), why: "it was stopped as asked".to_owned() };
        Ok((Outcome::words(Status::Ok, format!("[sidecar {} is stopped and removed]", one.name)), vec![stopped]))
    }

    pub(super) async fn inspect(&self, beside: &dyn Sidecars) -> Done {
        let Sidecar { name, image, id, address, state, is_up } = self.find(beside).await?;
        let up = if is_up { "is up" } else { "is not up" };
        let address = address.unwrap_or_else(|| "none".to_owned());
        told(format!("sidecar {name} {up}: {state}\nimage: {image}\ncontainer: {id}\naddress: {address}"))
    }

    pub(super) async fn logs(&self, beside: &dyn Sidecars) -> Done {
        let lines = self.lines()?;
        let one = self.find(beside).await?;
        let said = beside.logs(&one.name, lines).await?;
        told(format!("[sidecar {} · last {lines} lines]\n{}", one.name, end_of(&plain(&said))))
    }
}

/// Without what steers terminals.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

fn end_of(text: &str) -> &str {
    let text = text.trim_end();
    let from = text.len().saturating_sub(LARGEST_LOG);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[from..]
}

impl From<String> for Stop {
    fn from(words: String) -> Self {
        failed(words)
    }
}
