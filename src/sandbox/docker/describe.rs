//! What a container is, for the model: its limits, mounts and networks, as the engine tells them.

use bollard::models::ContainerInspectResponse;

use super::running::Running;
use super::shape::{CONTROL_DIR, PROGRAM_DIR};

impl Running {
    /// The project directory, inside as outside.
    pub(super) fn workspace(&self) -> &str {
        &crate::sandbox::Sandbox::facts(self).workspace
    }

    /// One line each; none where the engine does not answer.
    pub(super) async fn describe(&self) -> Vec<String> {
        let found = self.engine().docker.inspect_container(&self.record().container, None).await;
        found.map(|found| lines(&found)).unwrap_or_default()
    }
}

fn lines(found: &ContainerInspectResponse) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(config) = &found.host_config {
        let had = |value: Option<i64>| value.filter(|value| *value > 0);
        let limits = [
            had(config.memory).map(|bytes| format!("{} MiB of memory", bytes >> 20)),
            had(config.nano_cpus).map(|nano| format!("{} processors", nano as f64 / 1e9)),
            had(config.pids_limit).map(|pids| format!("{pids} processes")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        lines.push(format!("limits: {}", if limits.is_empty() { "none".to_owned() } else { limits.join(", ") }));
    }
    let ours = |path: &str| [PROGRAM_DIR, CONTROL_DIR].contains(&path);
    let mounts = found.mounts.iter().flatten().filter_map(|mount| {
        let at = mount.destination.as_deref().filter(|at| !ours(at))?;
        let kind = match mount.typ.as_deref() {
            Some("bind") => "of the host",
            Some("tmpfs") => "in memory",
            _ => "volume",
        };
        Some(format!("{at} ({kind}{})", if mount.rw == Some(false) { ", read-only" } else { "" }))
    });
    let mounts: Vec<String> = mounts.collect();
    if !mounts.is_empty() {
        lines.push(format!("mounts: {}", mounts.join(", ")));
    }
    let networks = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let mut networks: Vec<String> = networks
        .into_iter()
        .flatten()
        .map(|(name, on)| match on.ip_address.as_deref().filter(|address| !address.is_empty()) {
            Some(address) => format!("{name} as {address}"),
            None => name.clone(),
        })
        .collect();
    networks.sort();
    lines.push(format!("networks: {}", if networks.is_empty() { "none".to_owned() } else { networks.join(", ") }));
    lines
}
