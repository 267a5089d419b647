//! One container engine that answers: what it is, and the images it has.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ImageInspect, SystemInfo};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;

use super::connect::{self, Endpoint, Surroundings, words_of};
use crate::domain::Capability;
use crate::guest::SETUP_VAR;
use crate::sandbox::SandboxError;

/// The label that carries the run's id.
pub(super) const RUN_LABEL: &str = "longhaul.run";
/// The label that carries the state directory, so that nobody removes what another one's runs have made.
pub(super) const STATE_LABEL: &str = "longhaul.state";

/// Engines refuse images of more than about 125 layers.
const MOST_LAYERS: usize = 60;
/// Longest time to ask a registry whether it has an image.
const REGISTRY: Duration = Duration::from_secs(10);

/// Whose engine it is; they differ where the notes in the code say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// Docker, or something that can't be told from it.
    Docker,
    /// Podman's compatible service.
    Podman,
}

impl Make {
    /// The command line program that speaks to it.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// An engine that answers.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    /// Its API.
    pub(super) docker: Docker,
    /// Whose it is.
    pub(super) make: Make,
    /// Whether it may see other files than this process: over the network, or in a virtual machine.
    pub(super) far: bool,
    /// What its machine can do and what not.
    pub(super) capabilities: Vec<Capability>,
    /// An image that has more layers than this is made one of a single layer.
    pub(super) most_layers: usize,
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The name it was asked for by.
    pub(super) name: String,
    /// Its id, or its digest in the registry it came from.
    pub(super) digest: Option<String>,
    /// The environment that it sets.
    pub(super) env: BTreeMap<String, String>,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
}

impl Engine {
    /// Finds the engine and asks what it is.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub(super) async fn reach(around: &Surroundings<'_>) -> Result<Self, SandboxError> {
        let (docker, endpoint) = connect::connect(around).await?;
        let asked = tokio::try_join!(docker.version(), docker.info());
        let (version, info) = asked.map_err(|error| refusal("the container engine does not say what it is", &error))?;
        let podman = version.components.iter().flatten().any(|component| component.name.contains("Podman"));
        let desktop = info.operating_system.as_deref().is_some_and(|name| name.contains("Docker Desktop"));
        Ok(Self {
            docker,
            make: if podman { Make::Podman } else { Make::Docker },
            far: desktop || !matches!(endpoint, Endpoint::Unix(_)),
            capabilities: limits_of(&info),
            most_layers: MOST_LAYERS,
        })
    }

    /// Finds an image, `None` where the engine does not have it.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn image(&self, name: &str) -> Result<Option<Image>, SandboxError> {
        match self.docker.inspect_image(name).await {
            Ok(found) => Ok(Some(image_of(name, found))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(refusal(&format!("cannot look up the image `{name}`"), &error)),
        }
    }

    /// Finds an image, or has the engine pull it.
    ///
    /// # Errors
    /// When it is not there and can't be pulled: says how to bring it in.
    pub(super) async fn image_or_pull(&self, name: &str) -> Result<Image, SandboxError> {
        if let Some(image) = self.image(name).await? {
            return Ok(image);
        }
        tracing::info!(image = name, "pulling");
        let options = CreateImageOptionsBuilder::new().from_image(&with_tag(name)).build();
        let pull = self.docker.create_image(Some(options), None, None);
        let pulled = pull.try_for_each(|_| std::future::ready(Ok(()))).await;
        let found = self.image(name).await?;
        found.ok_or_else(|| self.absent(name, pulled.err().map(|error| words_of(&error))))
    }

    /// Says why an image that is not there won't come, if that can be found out without pulling it.
    pub(super) async fn obstacle_to_pull(&self, name: &str) -> Option<SandboxError> {
        match self.make {
            // It has no such question in its API.
            Make::Podman => None,
            Make::Docker => {
                let name = with_tag(name);
                let asked = self.docker.inspect_registry_image(&name, None);
                match tokio::time::timeout(REGISTRY, asked).await {
                    Ok(Ok(_)) => None,
                    Ok(Err(error)) => Some(self.absent(&name, Some(words_of(&error)))),
                    Err(_) => Some(self.absent(&name, Some("the registry does not answer".to_owned()))),
                }
            }
        }
    }

    fn absent(&self, name: &str, because: Option<String>) -> SandboxError {
        let program = self.make.program();
        SandboxError {
            what: format!("there is no image `{name}` and it can't be pulled"),
            because,
            hint: Some(format!(
                "bring it in with `{program} pull {name}` or `{program} load -i FILE`, name one that is there with \
                 `--image` (`{program} images` lists them), or run with `--sandbox local`"
            )),
        }
    }
}

/// The status code with which the engine refused, if it did.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// An error of the engine for people, with a remedy where one is known.
pub(super) fn refusal(what: &str, error: &Error) -> SandboxError {
    let because = words_of(error);
    let full = because.contains("no space left on device");
    let hint = full.then(|| "make room on the engine's disk: `docker system df` shows what takes it".to_owned());
    SandboxError { what: what.to_owned(), because: Some(because), hint }
}

/// A name without tag and digest means every tag to the engine when it pulls.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

fn image_of(name: &str, found: ImageInspect) -> Image {
    let config = found.config.unwrap_or_default();
    let env = config.env.unwrap_or_default();
    // What an earlier box's guest was told is no business of this one's.
    let env = env.iter().filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name != SETUP_VAR);
    let in_registry = found.repo_digests.into_iter().flatten().next();
    Image {
        name: name.to_owned(),
        digest: in_registry.or(found.id),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    }
}

fn limits_of(info: &SystemInfo) -> Vec<Capability> {
    let limits = [
        ("memory limit", info.memory_limit),
        ("process limit", info.pids_limit),
        ("processor limit", info.cpu_cfs_quota),
    ];
    let missing = "the engine's cgroups don't offer it; rootless engines need cgroup v2 with delegation";
    limits
        .into_iter()
        .map(|(name, had)| Capability {
            name: name.to_owned(),
            missing: (had == Some(false)).then(|| missing.to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_gets_one_before_it_is_pulled() {
        assert_eq!(with_tag("debian"), "debian:latest");
        assert_eq!(with_tag("registry:5000/team/tool"), "registry:5000/team/tool:latest");
        assert_eq!(with_tag("debian:bookworm"), "debian:bookworm");
        assert_eq!(with_tag("debian@sha256:aa"), "debian@sha256:aa");
    }
}
