//! What the box is, in words.

use super::{Call, Done, told};
use crate::domain::SandboxKind;
use crate::tools::facts::size;

impl Call<'_> {
    pub(super) async fn info(&self) -> Done {
        let facts = self.sandbox.facts();
        let kind = match facts.kind {
            SandboxKind::Docker => "a container",
            SandboxKind::Local => "namespaces over the host's own root",
            SandboxKind::Host => "no box: the host itself",
        };
        let mut lines = vec![format!("box: {kind}, {}", facts.id)];
        if let Some(image) = &facts.image {
            let id = facts.image_digest.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
            lines.push(format!("image: {image}{id}"));
        }
        lines.push(format!("workspace: {} ({})", facts.workspace, facts.workspace_mode));
        lines.extend(self.sandbox.described().await);
        for had in &facts.capabilities {
            lines.push(match &had.missing {
                None => format!("has: {}", had.name),
                Some(why) => format!("has not: {} ({why})", had.name),
            });
        }
        let counters = self.sandbox.counters().await;
        let uses = [
            counters.memory_bytes.map(|bytes| format!("{} of memory", size(bytes))),
            counters.pids.map(|pids| format!("{pids} processes and threads")),
            counters.oom_kills.map(|kills| format!("{kills} killed for want of memory")),
        ];
        let uses: Vec<String> = uses.into_iter().flatten().collect();
        if !uses.is_empty() {
            lines.push(format!("uses: {}", uses.join(", ")));
        }
        match self.sandbox.sidecars() {
            None => lines.push("sidecars: services in sessions of their own, at 127.0.0.1".to_owned()),
            Some(beside) => {
                let all = beside.list().await?;
                lines.push(if all.is_empty() { "sidecars: none".to_owned() } else { "sidecars:".to_owned() });
                lines.extend(all.iter().map(|one| {
                    let address = one.address.as_deref().unwrap_or("no address");
                    format!("- {} · {} · {address} · {}", one.name, one.image, one.state)
                }));
            }
        }
        told(lines.join("\n"))
    }
}
