//! What is ours in an engine: found by its labels, so that whatever a driver that was killed has left can be removed.

use std::collections::HashMap;
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

use super::engine::{Engine, RUN_LABEL, STATE_LABEL, status};
use crate::domain::RunId;

/// What kind of thing it is, in the order in which they can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A container: a box, or a sidecar.
    Container,
    /// The private network of a run.
    Network,
    /// A volume.
    Volume,
    /// The image of a checkpoint.
    Image,
}

impl Kind {
    /// The word for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Image => "image",
        }
    }
}

/// Something of ours in the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    /// What it is.
    pub(super) kind: Kind,
    /// Its name, or its id where it has none.
    pub(super) name: String,
    /// The id of an image, with its algorithm; empty for anything else.
    pub(super) id: String,
    /// The run it was made for.
    pub(super) run: RunId,
}

impl Engine {
    /// Everything that was made for runs of this state directory, in the order in which it can be removed.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn owned(&self, state_dir: &Path) -> Result<Vec<Owned>, Error> {
        let ours = format!("{STATE_LABEL}={}", state_dir.display());
        let filters = HashMap::from([("label", vec![ours.as_str()])]);
        let mut found = Vec::new();
        let mut note = |kind: Kind, name: Option<&str>, id: &str, labels: Option<&HashMap<String, String>>| {
            let run = labels.and_then(|labels| labels.get(RUN_LABEL)).and_then(|run| RunId::new(run.clone()).ok());
            if let (Some(name), Some(run)) = (name, run) {
                found.push(Owned { kind, name: name.trim_start_matches('/').to_owned(), id: id.to_owned(), run });
            }
        };
        let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        for one in self.docker.list_containers(Some(all)).await? {
            let name = one.names.iter().flatten().next().or(one.id.as_ref());
            note(Kind::Container, name.map(String::as_str), "", one.labels.as_ref());
        }
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for one in self.docker.list_networks(Some(networks)).await? {
            note(Kind::Network, one.name.as_deref(), "", one.labels.as_ref());
        }
        let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
        for one in self.docker.list_volumes(Some(volumes)).await?.volumes.unwrap_or_default() {
            note(Kind::Volume, Some(&one.name), "", Some(&one.labels));
        }
        let images = ListImagesOptionsBuilder::new().filters(&filters).build();
        for one in self.docker.list_images(Some(images)).await? {
            let tag = one.repo_tags.iter().find(|tag| !tag.contains("<none>")).unwrap_or(&one.id);
            let id = if one.id.contains(':') { one.id.clone() } else { format!("sha256:{}", one.id) };
            note(Kind::Image, Some(tag), &id, Some(&one.labels));
        }
        Ok(found)
    }

    /// Removes it; fine if it is gone.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn remove(&self, one: &Owned) -> Result<(), Error> {
        match one.kind {
            Kind::Container => self.remove_container(&one.name).await,
            Kind::Network => self.remove_network(&one.name).await,
            Kind::Volume => self.remove_volume(&one.name).await,
            Kind::Image => self.remove_image(&one.name).await,
        }
    }

    /// Kills and removes a container; fine if there is none.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn remove_container(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        gone_is_fine(self.docker.remove_container(name, Some(options)).await)
    }

    /// Removes a volume; fine if there is none.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        gone_is_fine(self.docker.remove_volume(name, Some(options)).await)
    }

    /// Removes a network that nothing is on any more; fine if there is none.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) async fn remove_network(&self, name: &str) -> Result<(), Error> {
        gone_is_fine(self.docker.remove_network(name).await)
    }

    /// Removes an image, or its name where it has others; fine if there is none.
    ///
    /// # Errors
    /// What the engine says: such as that a container was made from it.
    pub(super) async fn remove_image(&self, name: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::new().build();
        gone_is_fine(self.docker.remove_image(name, Some(options), None).await.map(drop))
    }
}

fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if status(&error) == Some(404) => Ok(()),
        other => other,
    }
}
