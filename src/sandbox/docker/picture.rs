//! Images made of containers: what a checkpoint keeps of one, and what a person keeps at the end of a run.

use bollard::models::{ContainerConfig, ContainerCreateBody, ImageConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptions, RemoveImageOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::connect::words_of;
use super::engine::{Engine, Make, refusal, status};
use crate::guest::SETUP_VAR;
use crate::sandbox::SandboxError;

/// The label of a checkpoint's image: the name of its layer.
pub(super) const CHECKPOINT_LABEL: &str = "longhaul.checkpoint";
/// The label that says how the workspace was kept from the host, and so whether it is in the image.
pub(super) const WORKSPACE_LABEL: &str = "longhaul.workspace";
/// The label of an image that a person asked for: the run it was made by.
pub(super) const SAVED_LABEL: &str = "longhaul.saved";
/// What the names of containers begin with that are there only to make one layer of many.
pub(super) const FLAT: &str = "longhaul-flat-";

/// What is to be made of a container.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    /// Whose container it is.
    pub(super) engine: &'a Engine,
    /// The container's name.
    pub(super) container: &'a str,
    /// The image's repository.
    pub(super) repo: &'a str,
    /// The image's tag.
    pub(super) tag: &'a str,
    /// Labels; an empty value takes one away that the container has.
    pub(super) labels: &'a [(&'static str, String)],
}

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// Its id.
    pub(super) id: String,
    /// What it takes beyond the container's own image.
    pub(super) new_bytes: u64,
}

impl Picture<'_> {
    /// Makes the image. It is configured as the container's own image is, not as the container.
    ///
    /// # Errors
    /// What the engine says; there is no image then.
    pub(super) async fn take(&self) -> Result<Made, SandboxError> {
        let docker = &self.engine.docker;
        let what = "cannot keep the container as an image";
        // An image whose name is refused would be made all the same.
        if !is_tag(self.tag) {
            return Err(SandboxError {
                what: what.to_owned(),
                because: Some(format!("`{}` can't be an image's tag", self.tag)),
                hint: None,
            });
        }
        let container = docker.inspect_container(self.container, None).await.map_err(|error| refusal(what, &error))?;
        let base = container.image.unwrap_or_default();
        let base = docker.inspect_image(&base).await.map_err(|error| refusal(what, &error))?;
        let mut changes = own_changes(&base.config.clone().unwrap_or_default());
        changes.extend(self.labels.iter().map(|(name, value)| format!("LABEL {name}={}", quoted(value))));
        let changes = changes.join("\n");
        // With its name at once: whoever asked may be gone before the engine is done.
        let options = CommitContainerOptionsBuilder::new()
            .container(self.container)
            .repo(self.repo)
            .tag(self.tag)
            .pause(true)
            .changes(&changes)
            .build();
        let committed = docker.commit_container(options, ContainerConfig::default()).await;
        let id = with_algorithm(committed.map_err(|error| refusal(what, &error))?.id);
        let made = docker.inspect_image(&id).await.map_err(|error| refusal(what, &error))?;
        let grown = made.size.unwrap_or(0).saturating_sub(base.size.unwrap_or(0));
        let new_bytes = u64::try_from(grown).unwrap_or(0);
        let layers = made.root_fs.and_then(|root| root.layers).map_or(0, |layers| layers.len());
        // Podman's storage takes five hundred.
        if layers <= self.engine.most_layers || self.engine.make == Make::Podman {
            return Ok(Made { id, new_bytes });
        }
        tracing::info!(layers, "making one layer of all");
        let flat = self.flatten(&id, &made.config.unwrap_or_default()).await;
        match flat {
            Ok(flat) => {
                // It has no name any more; what is left of it when this fails is found by its labels.
                let _ = self.engine.remove_image(&id).await;
                Ok(Made { id: flat, new_bytes })
            }
            Err(error) => {
                let _ = self.engine.remove_image(&id).await;
                Err(error)
            }
        }
    }

    /// Makes an image of one layer, with the same files, configuration and name.
    async fn flatten(&self, id: &str, config: &ImageConfig) -> Result<String, SandboxError> {
        let what = "cannot make one layer of an image's many";
        let docker = &self.engine.docker;
        let name = format!("{FLAT}{}", self.tag.to_lowercase());
        let labels = self.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let body = ContainerCreateBody {
            image: Some(id.to_owned()),
            entrypoint: Some(vec!["/nothing".to_owned()]),
            labels: Some(labels.collect()),
            ..ContainerCreateBody::default()
        };
        let _ = self.engine.remove_container(&name).await;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        docker.create_container(Some(options), body).await.map_err(|error| refusal(what, &error))?;
        let files = docker.export_container(&name).map_err(std::io::Error::other);
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(self.repo.to_owned()),
            tag: Some(self.tag.to_owned()),
            changes: all_changes(config),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_try_stream(files);
        let imported = docker.create_image(Some(options), Some(body), None);
        let imported: Result<Vec<_>, _> = imported.try_collect().await;
        let removed = self.engine.remove_container(&name).await;
        imported.map_err(|error| refusal(what, &error))?;
        removed.map_err(|error| refusal(what, &error))?;
        let name = format!("{}:{}", self.repo, self.tag);
        let found = docker.inspect_image(&name).await.map_err(|error| refusal(what, &error))?;
        Ok(with_algorithm(found.id.unwrap_or_default()))
    }
}

/// Removes the image of a checkpoint: at once, or where a container was made from it its name, so that it goes with
/// that one.
///
/// # Errors
/// What the engine says, in words.
pub(super) async fn remove_checkpoint(engine: &Engine, id: &str) -> Result<(), String> {
    let tags = match engine.docker.inspect_image(id).await {
        Ok(found) => found.repo_tags.unwrap_or_default(),
        Err(error) if status(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(words_of(&error)),
    };
    let own = tags.iter().filter(|tag| tag.contains("longhaul/"));
    for name in own {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let removed = engine.docker.remove_image(name, Some(options), None).await;
        removed.map_err(|error| words_of(&error))?;
    }
    match engine.docker.inspect_image(id).await {
        // Nameless, and no container was made from it.
        Ok(found) if found.repo_tags.as_ref().is_none_or(Vec::is_empty) => {
            let _ = engine.remove_image(id).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a container's own configuration differs in from its image's, taken back.
fn own_changes(config: &ImageConfig) -> Vec<String> {
    // Without either the engine would take the container's.
    let has_none = config.entrypoint.as_ref().is_none_or(Vec::is_empty);
    let shell = ["sh".to_owned()];
    vec![
        format!("ENV {SETUP_VAR}="),
        format!("ENTRYPOINT {}", words(config.entrypoint.as_deref())),
        format!("CMD {}", words(config.cmd.as_deref().or(has_none.then_some(&shell)))),
        format!("USER {}", config.user.as_deref().filter(|user| !user.is_empty()).unwrap_or("0:0")),
        format!("WORKDIR {}", quoted(config.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/"))),
    ]
}

/// A whole configuration, for an image that comes without any.
fn all_changes(config: &ImageConfig) -> Vec<String> {
    let mut changes = own_changes(config);
    let env = config.env.iter().flatten().filter_map(|pair| pair.split_once('='));
    changes.extend(env.map(|(name, value)| format!("ENV {name}={}", quoted(value))));
    let labels = config.labels.iter().flatten();
    changes.extend(labels.map(|(name, value)| format!("LABEL {}={}", quoted(name), quoted(value))));
    changes.extend(config.exposed_ports.iter().flatten().map(|port| format!("EXPOSE {port}")));
    changes.extend(
        config.volumes.iter().flatten().map(|path| format!("VOLUME {}", words(Some(std::slice::from_ref(path))))),
    );
    changes.extend(config.stop_signal.iter().map(|signal| format!("STOPSIGNAL {signal}")));
    changes
}

fn words(list: Option<&[String]>) -> String {
    serde_json::to_string(list.unwrap_or_default()).expect("words become JSON")
}

/// A value as these instructions take it: nothing in it is expanded.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/-@+".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::from('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(if c == '\n' { ' ' } else { c });
    }
    out.push('"');
    out
}

/// Whether engines take it as the tag of an image.
pub(super) fn is_tag(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    text.len() <= 128 && text.chars().all(inner) && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// Podman tells ids without the algorithm.
fn with_algorithm(id: String) -> String {
    if id.contains(':') { id } else { format!("sha256:{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_configured_as_its_base_and_knows_nothing_of_the_guest() {
        let config = ImageConfig {
            entrypoint: Some(vec!["/entry".into(), "a \"b\"".into()]),
            cmd: None,
            working_dir: Some("/a b".into()),
            ..ImageConfig::default()
        };
        assert_eq!(
            own_changes(&config),
            [
                "ENV LONGHAUL_GUEST=",
                "ENTRYPOINT [\"/entry\",\"a \\\"b\\\"\"]",
                "CMD []",
                "USER 0:0",
                "WORKDIR \"/a b\""
            ]
        );
    }

    #[test]
    fn nothing_in_a_value_is_expanded() {
        assert_eq!(quoted("/var/lib:x-1"), "/var/lib:x-1");
        assert_eq!(quoted("a $HOME \"b\" \\"), "\"a \\$HOME \\\"b\\\" \\\\\"");
        assert_eq!(quoted(""), "");
    }

    #[test]
    fn tags_are_told_from_other_words() {
        assert!(is_tag("ab-k1-7") && is_tag("_1.0") && !is_tag("-k1") && !is_tag("") && !is_tag("a:b"));
    }

    #[test]
    fn an_id_always_names_its_algorithm() {
        assert_eq!(with_algorithm("ab".into()), "sha256:ab");
        assert_eq!(with_algorithm("sha256:ab".into()), "sha256:ab");
    }
}
