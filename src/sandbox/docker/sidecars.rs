//! Sidecars as containers: on a private network that is made when the first one is wanted, without ports of the host,
//! with no more rights than the box, found by the run's labels and by nothing else.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings, ExecConfig, HostConfig,
    NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::connect::words_of;
use super::engine::{Engine, Image, Make, RUN_LABEL, STATE_LABEL, refusal};
use super::greet::death;
use super::network::Private;
use super::open::own_limits;
use super::shape::{CAPABILITIES, DEFAULT_PIDS, ulimits};
use crate::domain::RunId;
use crate::guest::Client;
use crate::sandbox::{
    BoxSpec, Limits, SandboxError, Sidecar, SidecarEnd, SidecarName, SidecarSaid, SidecarSpec, Sidecars, TarStream,
};

/// The label that carries a sidecar's name.
pub(super) const SIDECAR_LABEL: &str = "longhaul.sidecar";
/// Most that a run may have at a time.
const MOST: usize = 16;
/// Most bytes of a sidecar's words that are kept in one piece.
const MOST_WORDS: usize = 64 << 10;
/// How much of the last words is told with an end.
const LAST_WORDS: usize = 400;

/// The sidecars of one run.
#[derive(Debug)]
pub(super) struct Companions {
    engine: Engine,
    run: RunId,
    state_dir: PathBuf,
    limits: Limits,
    network: Private,
    ended: mpsc::UnboundedSender<SidecarEnd>,
    news: tokio::sync::Mutex<mpsc::UnboundedReceiver<SidecarEnd>>,
    watchers: Mutex<BTreeMap<SidecarName, AbortHandle>>,
}

impl Drop for Companions {
    fn drop(&mut self) {
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        watchers.values().for_each(AbortHandle::abort);
    }
}

impl Companions {
    /// Those of the run of this box, which need not have any.
    pub(super) fn of(engine: Engine, spec: &BoxSpec, container: String, guest: Client) -> Self {
        let (ended, news) = mpsc::unbounded_channel();
        let labels = labels(&spec.run, &spec.state_dir);
        Self {
            network: Private::of(engine.clone(), spec, container, guest, labels),
            engine,
            run: spec.run.clone(),
            state_dir: spec.state_dir.clone(),
            limits: spec.limits,
            ended,
            news: tokio::sync::Mutex::new(news),
            watchers: Mutex::default(),
        }
    }

    /// Takes charge of those that an earlier driver has started; where `again`, those that have ended are started again.
    pub(super) async fn take_back(&self, again: bool) {
        for one in self.list().await.unwrap_or_default() {
            if again && !one.is_up {
                // What does not start is told as ended.
                let _ = self.engine.docker.start_container(&one.id, None).await;
            }
            self.watch(&one.name);
        }
    }

    /// Ends all of them and removes the network, which the box must have left; what could not be removed, in words.
    pub(super) async fn end_all(&self) -> Vec<String> {
        let mut left = Vec::new();
        match self.list().await {
            Ok(all) => {
                for one in all {
                    self.unwatch(&one.name);
                    if let Err(error) = self.engine.remove_container(&one.id).await {
                        left.push(format!("sidecar {}: {}", one.name, words_of(&error)));
                    }
                }
            }
            Err(error) => left.push(format!("the sidecars: {}", error.because.unwrap_or(error.what))),
        }
        left.extend(self.network.remove().await);
        left
    }

    fn container(&self, name: &SidecarName) -> String {
        format!("longhaul-{}-{name}", self.run.short())
    }

    fn watch(&self, name: &SidecarName) {
        let (engine, container, name) = (self.engine.clone(), self.container(name), name.clone());
        let (tell, key) = (self.ended.clone(), name.clone());
        let watcher = tokio::spawn(async move {
            let why = end_words(&death(&engine, &container).await);
            let _ = tell.send(SidecarEnd { name, why });
        });
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = watchers.insert(key, watcher.abort_handle()) {
            old.abort();
        }
    }

    fn unwatch(&self, name: &SidecarName) {
        if let Some(watcher) = self.watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            watcher.abort();
        }
    }

    /// The one of this name.
    async fn named(&self, name: &SidecarName) -> Result<Sidecar, SandboxError> {
        let all = self.list().await?;
        let names = all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        all.into_iter().find(|one| one.name == *name).ok_or_else(|| SandboxError {
            what: format!("this run has no sidecar `{name}`"),
            because: Some(if names.is_empty() { "it has none".to_owned() } else { format!("it has {names}") }),
            hint: None,
        })
    }

    fn body(&self, spec: &SidecarSpec, image: &Image) -> ContainerCreateBody {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut labels = labels(&self.run, &self.state_dir);
        labels.insert(SIDECAR_LABEL.to_owned(), spec.name.to_string());
        let endpoint = EndpointSettings { aliases: Some(vec![spec.name.to_string()]), ..EndpointSettings::default() };
        let shell = spec.command.as_ref().map(|command| vec!["sh".to_owned(), "-c".to_owned(), command.clone()]);
        ContainerCreateBody {
            image: Some(image.name.clone()),
            hostname: Some(spec.name.to_string()),
            cmd: shell.as_ref().map(|_| Vec::new()),
            entrypoint: shell,
            env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(labels),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.name().to_owned(), endpoint)])),
            }),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.name().to_owned()),
                cap_drop: Some(vec!["ALL".to_owned()]),
                cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                pids_limit: Some(signed(self.limits.pids.unwrap_or(DEFAULT_PIDS))),
                memory: self.limits.memory_bytes.map(signed),
                memory_swap: self.limits.memory_bytes.map(signed),
                #[expect(clippy::cast_possible_truncation, reason = "a few processors")]
                nano_cpus: self.limits.cpus.map(|cpus| (cpus * 1e9) as i64),
                ulimits: (self.engine.make == Make::Podman).then(own_limits).map(ulimits),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

#[async_trait::async_trait]
impl Sidecars for Companions {
    async fn start(&self, spec: &SidecarSpec) -> Result<Sidecar, SandboxError> {
        let what = format!("cannot start the sidecar `{}`", spec.name);
        let refused = |because: String, hint: &str| SandboxError {
            what: what.clone(),
            because: Some(because),
            hint: Some(hint.to_owned()),
        };
        let all = self.list().await?;
        match all.iter().find(|one| one.name == spec.name) {
            Some(one) if one.is_up => return Err(refused("it is up already".to_owned(), "stop it first")),
            Some(one) => {
                self.unwatch(&one.name);
                self.engine.remove_container(&one.id).await.map_err(|error| refusal(&what, &error))?;
            }
            None if all.len() >= MOST => {
                return Err(refused(format!("the run has {MOST} already"), "stop one that is not needed"));
            }
            None => {}
        }
        let image = self.engine.image_or_pull(&spec.image).await?;
        self.network.join().await?;
        let container = self.container(&spec.name);
        let options = CreateContainerOptionsBuilder::new().name(&container).build();
        let docker = &self.engine.docker;
        docker
            .create_container(Some(options), self.body(spec, &image))
            .await
            .map_err(|error| refusal(&what, &error))?;
        if let Err(error) = docker.start_container(&container, None).await {
            let _ = self.engine.remove_container(&container).await;
            return Err(refusal(&what, &error));
        }
        self.watch(&spec.name);
        let started = self.named(&spec.name).await?;
        if let Some(address) = &started.address {
            self.network.tell_name(&spec.name, address).await;
        }
        Ok(started)
    }

    async fn stop(&self, name: &SidecarName, patience: Duration) -> Result<(), SandboxError> {
        let what = format!("cannot stop the sidecar `{name}`");
        let one = self.named(name).await?;
        self.unwatch(name);
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        // What does not stop in order is removed by force.
        let _ = self.engine.docker.stop_container(&one.id, Some(options)).await;
        self.engine.remove_container(&one.id).await.map_err(|error| refusal(&what, &error))
    }

    async fn list(&self) -> Result<Vec<Sidecar>, SandboxError> {
        let ours = format!("{RUN_LABEL}={}", self.run);
        let state = format!("{STATE_LABEL}={}", self.state_dir.display());
        let filters = HashMap::from([("label", vec![ours.as_str(), state.as_str(), SIDECAR_LABEL])]);
        let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.engine.docker.list_containers(Some(all)).await;
        let listed = listed.map_err(|error| refusal("cannot list the sidecars", &error))?;
        let mut found: Vec<Sidecar> = listed.into_iter().filter_map(|one| self.sidecar(one)).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for one in found.iter_mut().filter(|one| one.is_up && one.address.is_none()) {
            one.address = self.network.address_of(&one.id).await;
        }
        Ok(found)
    }

    async fn logs(&self, name: &SidecarName, lines: u32) -> Result<String, SandboxError> {
        let one = self.named(name).await?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut pieces = self.engine.docker.logs(&one.id, Some(options));
        let mut said = Vec::new();
        let what = format!("cannot read what the sidecar `{name}` has printed");
        while let Some(piece) = pieces.try_next().await.map_err(|error| refusal(&what, &error))? {
            take(&mut said, piece);
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    async fn run(&self, name: &SidecarName, command: &str) -> Result<SidecarSaid, SandboxError> {
        let one = self.named(name).await?;
        let docker = &self.engine.docker;
        let what = format!("cannot run a command in the sidecar `{name}`");
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()]),
            ..ExecConfig::default()
        };
        let made = docker.create_exec(&one.id, config).await.map_err(|error| refusal(&what, &error))?;
        let started = docker.start_exec(&made.id, Some(StartExecOptions::default())).await;
        let mut said = Vec::new();
        if let StartExecResults::Attached { mut output, .. } = started.map_err(|error| refusal(&what, &error))? {
            while let Some(piece) = output.try_next().await.map_err(|error| refusal(&what, &error))? {
                take(&mut said, piece);
            }
        }
        let ended = docker.inspect_exec(&made.id).await.map_err(|error| refusal(&what, &error))?;
        Ok(SidecarSaid { code: ended.exit_code.unwrap_or(-1), text: String::from_utf8_lossy(&said).into_owned() })
    }

    async fn says(&self, name: &SidecarName, pattern: &regex::Regex) -> Result<String, SandboxError> {
        let one = self.named(name).await?;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).tail("all").build();
        let mut pieces = self.engine.docker.logs(&one.id, Some(options));
        let what = format!("cannot follow what the sidecar `{name}` prints");
        let mut open = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(|error| refusal(&what, &error))? {
            open.extend_from_slice(&piece.into_bytes());
            while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = open.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if pattern.is_match(&line) {
                    return Ok(line);
                }
            }
            open.drain(..open.len().saturating_sub(MOST_WORDS));
        }
        Err(SandboxError { what: format!("the sidecar `{name}` prints no more"), because: None, hint: None })
    }

    async fn ended(&self, name: &SidecarName) -> String {
        end_words(&death(&self.engine, &self.container(name)).await)
    }

    async fn put(&self, name: &SidecarName, tar: TarStream) -> Result<(), SandboxError> {
        let one = self.named(name).await?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let sent = self.engine.docker.upload_to_container(&one.id, Some(options), bollard::body_try_stream(tar));
        sent.await.map_err(|error| refusal(&format!("cannot copy into the sidecar `{name}`"), &error))
    }

    async fn fetch(&self, name: &SidecarName, path: &str) -> Result<TarStream, SandboxError> {
        let one = self.named(name).await?;
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let mut pieces = self.engine.docker.download_from_container(&one.id, Some(options)).boxed();
        let what = format!("cannot copy `{path}` out of the sidecar `{name}`");
        // The engine says with its first word that there is nothing.
        let first = pieces.try_next().await.map_err(|error| refusal(&what, &error))?;
        let first = futures_util::stream::iter(first.map(Ok));
        Ok(first.chain(pieces.map_err(std::io::Error::other)).boxed())
    }

    async fn news(&self) -> SidecarEnd {
        match self.news.lock().await.recv().await {
            Some(end) => end,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }
}

impl Companions {
    fn sidecar(&self, one: ContainerSummary) -> Option<Sidecar> {
        let labels = one.labels.as_ref()?;
        let name = SidecarName::new(labels.get(SIDECAR_LABEL)?).ok()?;
        let is_up = matches!(one.state, Some(ContainerSummaryStateEnum::RUNNING));
        let networks = one.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.get(self.network.name()).and_then(|on| on.ip_address.clone());
        Some(Sidecar {
            id: self.container(&name),
            name,
            image: one.image.unwrap_or_default(),
            address: address.filter(|address| is_up && !address.is_empty()),
            state: one.status.unwrap_or_default(),
            is_up,
        })
    }
}

fn labels(run: &RunId, state_dir: &std::path::Path) -> HashMap<String, String> {
    HashMap::from([(RUN_LABEL.to_owned(), run.to_string()), (STATE_LABEL.to_owned(), state_dir.display().to_string())])
}

fn take(said: &mut Vec<u8>, piece: LogOutput) {
    said.extend_from_slice(&piece.into_bytes());
    said.drain(..said.len().saturating_sub(MOST_WORDS));
}

/// Not more of its last words than are of use.
fn end_words(words: &str) -> String {
    let short: String = words.chars().take(LAST_WORDS).collect();
    if short.len() < words.len() { format!("{short}…") } else { short }
}
