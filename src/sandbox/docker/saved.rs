//! A box kept as an image under a name that a person chose.

use super::engine::{Engine, RUN_LABEL, STATE_LABEL, refusal, status};
use super::picture::{CHECKPOINT_LABEL, Picture, SAVED_LABEL, WORKSPACE_LABEL, is_tag, remove_checkpoint};
use super::running::Running;
use super::shape::{DRIVER_LABEL, Keep};
use crate::sandbox::{SandboxError, SavedImage};

/// A name for an image, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    repo: String,
    tag: String,
}

impl Name {
    /// Reads a name such as `team/tool:1` or `registry:5000/team/tool`.
    fn read(text: &str) -> Result<Self, String> {
        let last = text.rsplit('/').next().unwrap_or(text);
        let (repo, tag) = match last.rsplit_once(':') {
            Some((_, tag)) => (&text[..text.len() - tag.len() - 1], tag),
            None => (text, "latest"),
        };
        let part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
        let host = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?";
        let repo_fits = regex::Regex::new(&format!("^{host}{part}(?:/{part})*$")).expect("a fixed expression");
        if text.contains('@') {
            return Err("a digest is what the engine gives".to_owned());
        }
        if repo.len() > 255 || !repo_fits.is_match(repo) || !is_tag(tag) {
            return Err("names are of lower-case letters and digits, such as `team/tool:1`".to_owned());
        }
        if repo == "longhaul" || repo.starts_with("longhaul/") || repo.starts_with("longhaul-tmux") {
            return Err("names that begin with longhaul/ are those of checkpoints".to_owned());
        }
        Ok(Self { repo: repo.to_owned(), tag: tag.to_owned() })
    }
}

fn read(name: &str) -> Result<Name, SandboxError> {
    Name::read(name).map_err(|because| SandboxError {
        what: format!("`{name}` can't be the name of an image"),
        because: Some(because),
        hint: Some("name it as in `--save-image team/tool:1`".to_owned()),
    })
}

/// Says whether it can be the name of an image at all.
///
/// # Errors
/// [`SandboxError`] when it can't.
pub(super) fn check(name: &str) -> Result<(), SandboxError> {
    read(name).map(drop)
}

/// Says why no image of this name may be made; the id of the one that has it, where that is one of ours.
///
/// # Errors
/// [`SandboxError`]: no name for an image, or the name of an image that was not made by us.
pub(super) async fn may_save(engine: &Engine, name: &str) -> Result<Option<String>, SandboxError> {
    let Name { repo, tag } = read(name)?;
    let there = match engine.docker.inspect_image(&format!("{repo}:{tag}")).await {
        Ok(there) => there,
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(refusal(&format!("cannot look up the image `{name}`"), &error)),
    };
    let labels = there.config.and_then(|config| config.labels).unwrap_or_default();
    if labels.get(SAVED_LABEL).is_some_and(|run| !run.is_empty()) {
        return Ok(there.id);
    }
    Err(SandboxError {
        what: format!("the image `{name}` is there already"),
        because: Some("it was not made by `--save-image`, and is not overwritten".to_owned()),
        hint: Some(format!("choose another name, or remove it with `{} rmi {name}`", engine.make.program())),
    })
}

impl Running {
    /// Keeps the container as an image that knows nothing of the run but its label.
    pub(super) async fn save_as(&self, name: &str) -> Result<SavedImage, SandboxError> {
        let former = may_save(self.engine(), name).await?;
        let Name { repo, tag } = read(name)?;
        let labels = [
            (SAVED_LABEL, self.origin().run.to_string()),
            (RUN_LABEL, String::new()),
            (STATE_LABEL, String::new()),
            (DRIVER_LABEL, String::new()),
            (CHECKPOINT_LABEL, String::new()),
            (WORKSPACE_LABEL, String::new()),
        ];
        let picture = Picture {
            engine: self.engine(),
            container: &self.record().container,
            repo: &repo,
            tag: &tag,
            labels: &labels,
        };
        let mut left_out = self.left_out().await?;
        if self.record().keep == Keep::Overlay {
            left_out.push(format!("the workspace {}", self.workspace()));
        }
        let id = picture.take().await?.id;
        if let Some(former) = former.filter(|former| *former != id) {
            // Without its name nobody looks for it any more.
            let _ = remove_checkpoint(self.engine(), &former).await;
        }
        Ok(SavedImage { id, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_taken_apart() {
        let name = |repo: &str, tag: &str| Ok(Name { repo: repo.to_owned(), tag: tag.to_owned() });
        assert_eq!(Name::read("tool"), name("tool", "latest"));
        assert_eq!(Name::read("team/tool:1.0-rc"), name("team/tool", "1.0-rc"));
        assert_eq!(Name::read("localhost:5000/a/b"), name("localhost:5000/a/b", "latest"));
        for bad in ["", "Tool", "a b", "a/:1", "a:", "a@sha256:00", "-x", "a//b", "longhaul/x", "a:b c", "$(x)"] {
            assert!(Name::read(bad).is_err(), "{bad}");
        }
    }
}
