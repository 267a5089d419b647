//! The private network of a run: only its box and its sidecars are on it. Made when the first sidecar is wanted.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};

use super::connect::words_of;
use super::engine::{Engine, Make, RUN_LABEL, refusal, status};
use crate::guest::{CheckCommand, Client};
use crate::sandbox::{BoxSpec, Network, SandboxError, SidecarName};

/// Takes away the bridge's own address, by which containers could reach what listens on the host.
const NO_WAY_TO_THE_HOST: &str = "com.docker.network.bridge.inhibit_ipv4";
/// How long the box may take to note a name down.
const NOTING: u64 = 10_000;

/// The network of one run.
#[derive(Debug)]
pub(super) struct Private {
    engine: Engine,
    name: String,
    /// The box's container.
    container: String,
    guest: Client,
    /// Whether the box sees nothing else, and so its sidecars neither.
    only: bool,
    labels: HashMap<String, String>,
}

impl Private {
    /// Names it.
    pub(super) fn of(
        engine: Engine,
        spec: &BoxSpec,
        container: String,
        guest: Client,
        labels: HashMap<String, String>,
    ) -> Self {
        let name = format!("longhaul-{}", spec.run.short());
        Self { engine, name, container, guest, only: spec.network == Network::None, labels }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes it, if it is not there, and has the box join it, if it has not.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn join(&self) -> Result<(), SandboxError> {
        let what = "cannot make a private network for the box and its sidecars";
        let docker = &self.engine.docker;
        if self.only && self.engine.make == Make::Podman {
            return Err(SandboxError {
                what: what.to_owned(),
                because: Some("Podman can't connect a container that was made without any network".to_owned()),
                hint: Some("run with Docker, or without `--network none`".to_owned()),
            });
        }
        match docker.inspect_network(&self.name, None).await {
            Ok(found) => {
                let run = found.labels.and_then(|labels| labels.get(RUN_LABEL).cloned());
                if run.as_ref() != self.labels.get(RUN_LABEL) {
                    let because = Some(format!("the network {} is another's", self.name));
                    return Err(SandboxError { what: what.to_owned(), because, hint: None });
                }
            }
            Err(error) if status(&error) == Some(404) => {
                let options = (self.only && self.engine.make == Make::Docker)
                    .then(|| HashMap::from([(NO_WAY_TO_THE_HOST.to_owned(), "true".to_owned())]));
                let request = NetworkCreateRequest {
                    name: self.name.clone(),
                    driver: Some("bridge".to_owned()),
                    internal: Some(self.only),
                    options,
                    labels: Some(self.labels.clone()),
                    ..NetworkCreateRequest::default()
                };
                docker.create_network(request).await.map_err(|error| refusal(what, &error))?;
            }
            Err(error) => return Err(refusal(what, &error)),
        }
        self.connect_box().await.map_err(|error| refusal("cannot connect the box with its sidecars", &error))
    }

    async fn connect_box(&self) -> Result<(), bollard::errors::Error> {
        let docker = &self.engine.docker;
        let found = docker.inspect_container(&self.container, None).await?;
        let on = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        if on.contains_key(&self.name) {
            return Ok(());
        }
        if on.contains_key("none") {
            // Nothing else can be joined from there.
            let leave = NetworkDisconnectRequest { container: self.container.clone(), force: Some(false) };
            docker.disconnect_network("none", leave).await?;
        }
        let join = NetworkConnectRequest {
            container: self.container.clone(),
            endpoint_config: Some(EndpointSettings::default()),
        };
        docker.connect_network(&self.name, join).await
    }

    /// A container's address on it.
    pub(super) async fn address_of(&self, container: &str) -> Option<String> {
        let found = self.engine.docker.inspect_container(container, None).await.ok()?;
        let mut networks = found.network_settings?.networks?;
        networks.remove(&self.name)?.ip_address.filter(|address| !address.is_empty())
    }

    /// Lets the box know a sidecar by name where the engine does not: Podman may come without any resolver.
    pub(super) async fn tell_name(&self, name: &SidecarName, address: &str) {
        if self.engine.make != Make::Podman {
            return;
        }
        // Written in place: the file is a mount of its own.
        let command = format!(
            "others=$(grep -v '[[:space:]]{name}$' /etc/hosts); printf '%s\\n%s\\t%s\\n' \"$others\" {address} {name} >/etc/hosts"
        );
        let id = format!("sidecar-{name}-{:016x}", fastrand::u64(..));
        let check =
            CheckCommand { id: id.clone(), cwd: Some("/".to_owned()), env: BTreeMap::new(), timeout_ms: NOTING };
        if self.guest.check(check, command.as_bytes()).await.is_ok() {
            let _ = self.guest.ended(&id).await;
        }
    }

    /// Removes it, once the box and the sidecars are gone; what could not be removed, in words.
    pub(super) async fn remove(&self) -> Option<String> {
        let error = self.engine.remove_network(&self.name).await.err()?;
        Some(format!("network {}: {}", self.name, words_of(&error)))
    }
}
