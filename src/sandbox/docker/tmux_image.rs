//! An image with tmux for people: derived once from an image without it, by the image's own package manager.
//!
//! It is named by the base's id and found again by that name, so what was installed once is there for every later run
//! until the base changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerConfig, ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, TagImageOptionsBuilder};
use futures_util::TryStreamExt as _;

use super::connect::words_of;
use super::engine::{Engine, Image, Make, RUN_LABEL, STATE_LABEL, refusal};
use super::open::own_limits;
use super::shape::{CAPABILITIES, ulimits};
use crate::sandbox::{BoxSpec, SandboxError};

/// The repository of derived images.
const REPOSITORY: &str = "longhaul-tmux";
/// The label that says how tmux came into an image.
const TMUX_LABEL: &str = "longhaul.tmux";
/// The label that carries the base's id.
const BASE_LABEL: &str = "longhaul.base";
/// How long an installation may take. The container that it runs in ends by itself soon after.
const INSTALLING: Duration = Duration::from_secs(600);
/// Lines of the package manager's last words.
const LAST_WORDS: usize = 5;
/// What is kept of them while they come.
const HEARD: usize = 16 << 10;

/// Before the exit code that the script prints last: engines differ in what they say of a process that they ran.
const EXIT_MARK: &str = "longhaul-exit:";
/// The script's exit where the image has tmux already.
const IS_THERE: i32 = 100;
/// The script's exit where it knows no package manager of the image.
const NO_MANAGER: i32 = 101;

/// Installs tmux with whatever the image has. apt's lists go again where the image came without any.
const SCRIPT: &str = r#"
has() { command -v "$1" >/dev/null 2>&1; }
install() {
    has tmux && return 100
    if has apt-get; then
        lists=$(ls /var/lib/apt/lists 2>/dev/null | wc -l)
        export DEBIAN_FRONTEND=noninteractive
        apt-get -o Acquire::Retries=2 update && apt-get install -y --no-install-recommends tmux || return 1
        apt-get clean
        [ "$lists" -gt 2 ] || rm -rf /var/lib/apt/lists/*
    elif has apk; then apk add --no-cache tmux || return 1
    elif has dnf; then dnf install -y tmux && dnf clean all || return 1
    elif has microdnf; then microdnf install -y tmux && microdnf clean all || return 1
    elif has yum; then yum install -y tmux && yum clean all || return 1
    elif has zypper; then zypper --non-interactive install --no-recommends tmux || return 1
    elif has pacman; then pacman -Sy --noconfirm tmux || return 1
    else return 101
    fi
    has tmux
}
exec 2>&1
install
echo "longhaul-exit:$?"
"#;

/// Variables by which package managers find the way out; they are told to the installation and kept nowhere.
const PROXIES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// The image itself if it has tmux, else the one derived from it, which is made if it is not there yet.
///
/// # Errors
/// When tmux can't be installed: the package manager's last words, and how to go without.
pub(super) async fn with_tmux(engine: &Engine, image: Image, spec: &BoxSpec) -> Result<Image, SandboxError> {
    let what = format!("cannot install tmux into the image `{}`", image.name);
    let failed = |because: String| SandboxError {
        what: what.clone(),
        because: Some(because),
        hint: Some("leave `--tmux` out: sessions and `agent attach` work without tmux".to_owned()),
    };
    let found = engine.docker.inspect_image(&image.name).await.map_err(|error| failed(words_of(&error)))?;
    let base = found.id.ok_or_else(|| failed("the engine does not tell its id".to_owned()))?;
    let tag = tag_of(&base);
    let derived = format!("{REPOSITORY}:{tag}");
    // Held until it is made, so that runs that begin together make it once.
    let _lock = lock(&spec.state_dir, &tag).await.map_err(|error| failed(error.to_string()))?;
    if let Some(known) = engine.image(&derived).await? {
        return Ok(known);
    }
    tracing::info!(image = image.name, derived, "installing tmux");
    let name = format!("{REPOSITORY}-{}", spec.run.short());
    let made = Install { engine, image: &image, spec, base: &base, tag: &tag, name: &name }.run().await;
    let removed = engine.remove_container(&name).await;
    made.map_err(failed)?;
    removed.map_err(|error| refusal("cannot remove the container in which tmux was installed", &error))?;
    engine.image(&derived).await?.ok_or_else(|| failed("the engine has lost it again".to_owned()))
}

/// The beginning of the base's id: long enough that no two images share it.
fn tag_of(base: &str) -> String {
    base.trim_start_matches("sha256:").chars().take(24).collect()
}

async fn lock(state_dir: &Path, tag: &str) -> io::Result<File> {
    let path = state_dir.join(format!("{REPOSITORY}-{tag}.lock"));
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await.map_err(io::Error::other)?
}

/// One installation.
struct Install<'a> {
    engine: &'a Engine,
    image: &'a Image,
    spec: &'a BoxSpec,
    base: &'a str,
    tag: &'a str,
    name: &'a str,
}

impl Install<'_> {
    async fn run(&self) -> Result<(), String> {
        let words = |error: bollard::errors::Error| words_of(&error);
        let docker = &self.engine.docker;
        // A driver that was killed may have left one of this name.
        self.engine.remove_container(self.name).await.map_err(words)?;
        let options = CreateContainerOptionsBuilder::new().name(self.name).build();
        docker.create_container(Some(options), self.body()).await.map_err(words)?;
        docker.start_container(self.name, None).await.map_err(words)?;
        let heard = tokio::time::timeout(INSTALLING, self.install()).await;
        let heard = heard.map_err(|_| format!("it takes longer than {} minutes", INSTALLING.as_secs() / 60))??;
        match exit_of(&heard) {
            Some(0) => self.commit().await,
            Some(IS_THERE) => {
                let options = TagImageOptionsBuilder::new().repo(REPOSITORY).tag(self.tag).build();
                docker.tag_image(&self.image.name, Some(options)).await.map_err(words)
            }
            Some(NO_MANAGER) => Err("it has none of apt-get, apk, dnf, microdnf, yum, zypper and pacman".to_owned()),
            Some(_) | None => Err(last_words(&heard)),
        }
    }

    /// Waits for the installation. Its main process ends by itself, whatever becomes of this one.
    fn body(&self) -> ContainerCreateBody {
        let limit = format!("sleep {}", INSTALLING.as_secs() + 60);
        ContainerCreateBody {
            image: Some(self.image.name.clone()),
            user: Some("0:0".to_owned()),
            entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned(), limit]),
            cmd: Some(Vec::new()),
            working_dir: Some("/".to_owned()),
            labels: Some(HashMap::from([
                (RUN_LABEL.to_owned(), self.spec.run.to_string()),
                (STATE_LABEL.to_owned(), self.spec.state_dir.display().to_string()),
            ])),
            host_config: Some(HostConfig {
                cap_drop: Some(vec!["ALL".to_owned()]),
                cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                ulimits: (self.engine.make == Make::Podman).then(own_limits).map(ulimits),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Runs the script; what it printed last.
    async fn install(&self) -> Result<String, String> {
        let words = |error: bollard::errors::Error| words_of(&error);
        let docker = &self.engine.docker;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(proxies(&self.spec.env)),
            cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned()]),
            ..ExecConfig::default()
        };
        let made = docker.create_exec(self.name, config).await.map_err(words)?;
        let started = docker.start_exec(&made.id, Some(StartExecOptions::default())).await.map_err(words)?;
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err("the engine did not attach to the installation".to_owned());
        };
        let mut heard = Vec::new();
        while let Some(piece) = output.try_next().await.map_err(words)? {
            if let LogOutput::StdOut { message } | LogOutput::StdErr { message } = piece {
                heard.extend_from_slice(&message);
                heard.drain(..heard.len().saturating_sub(HEARD));
            }
        }
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }

    async fn commit(&self) -> Result<(), String> {
        let changes = format!(
            "LABEL {TMUX_LABEL}=installed\nLABEL {BASE_LABEL}={}\nLABEL {RUN_LABEL}=\nLABEL {STATE_LABEL}=\n\
             ENTRYPOINT []\nCMD [\"sh\"]",
            self.base
        );
        let comment = format!("{} with tmux", self.image.name);
        let options = CommitContainerOptionsBuilder::new()
            .container(self.name)
            .repo(REPOSITORY)
            .tag(self.tag)
            .comment(&comment)
            .changes(&changes)
            .build();
        let committed = self.engine.docker.commit_container(options, ContainerConfig::default()).await;
        committed.map(|_| ()).map_err(|error| words_of(&error))
    }
}

fn proxies(env: &BTreeMap<String, String>) -> Vec<String> {
    PROXIES.iter().filter_map(|name| Some(format!("{name}={}", env.get(*name)?))).collect()
}

/// The exit code that the script printed, which must be the last thing that it said.
fn exit_of(heard: &str) -> Option<i32> {
    heard.trim_end().lines().next_back()?.strip_prefix(EXIT_MARK)?.trim().parse().ok()
}

/// The last lines with words in them.
fn last_words(heard: &str) -> String {
    let lines: Vec<&str> =
        heard.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(EXIT_MARK)).collect();
    match &lines[lines.len().saturating_sub(LAST_WORDS)..] {
        [] => "its package manager failed without a word".to_owned(),
        last => last.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_is_only_what_the_script_says_last() {
        assert_eq!(exit_of("longhaul-exit:0\nmore\n"), None);
        assert_eq!(exit_of("Reading…\r\nlonghaul-exit:101\n"), Some(NO_MANAGER));
        assert_eq!(exit_of(""), None);
    }

    #[test]
    fn last_words_are_few_and_without_the_mark() {
        assert_eq!(last_words("a\nb\n\nc\nd\ne\nf\nlonghaul-exit:1\n"), "b; c; d; e; f");
        assert_eq!(last_words("\nlonghaul-exit:1"), "its package manager failed without a word");
    }

    #[test]
    fn only_proxies_of_the_callers_environment_are_told() {
        let env = BTreeMap::from([("https_proxy", "http://p:1"), ("AWS_SECRET", "x")]);
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(proxies(&env), ["https_proxy=http://p:1"]);
    }
}
