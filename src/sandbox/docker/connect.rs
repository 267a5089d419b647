//! Finding a container engine and getting it to answer. Where to look comes from the caller's environment, never from
//! this process's own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use sha2::{Digest as _, Sha256};

use crate::sandbox::SandboxError;

/// Longest time for one answer of the engine. A commit or an upload of gigabytes takes minutes and is one request.
const ANSWER_SECONDS: u64 = 1_800;

/// Longest time for the first answer of all.
const GREETING: Duration = Duration::from_secs(10);

/// Where an engine may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A socket on this machine.
    Unix(PathBuf),
    /// Host and port, unencrypted.
    Tcp(String),
    /// Host and port, with the directory of `ca.pem`, `cert.pem` and `key.pem`.
    Tls(String, PathBuf),
}

impl Endpoint {
    /// The text for `DOCKER_HOST` that means this endpoint.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls(address, _) => format!("tcp://{address}"),
        }
    }
}

/// What of the caller's surroundings says where engines are.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The caller's environment.
    pub(super) env: &'a BTreeMap<String, String>,
    /// The caller's home directory.
    pub(super) home: Option<&'a Path>,
}

impl Surroundings<'_> {
    fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The endpoints to try, best first, and whether someone named the only one.
    ///
    /// # Errors
    /// When the one that was named can't be understood.
    pub(super) fn endpoints(&self) -> Result<(Vec<Endpoint>, Named), SandboxError> {
        for name in ["DOCKER_HOST", "CONTAINER_HOST"] {
            if let Some(host) = self.var(name) {
                return Ok((vec![self.endpoint(host, name)?], Named::Yes));
            }
        }
        if let Some(host) = self.context_host() {
            return Ok((vec![self.endpoint(&host, "the current Docker context")?], Named::Yes));
        }
        let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
        if let Some(runtime) = self.var("XDG_RUNTIME_DIR") {
            sockets.push(Path::new(runtime).join("docker.sock"));
        }
        if let Some(home) = self.home {
            sockets.push(home.join(".docker/run/docker.sock"));
            sockets.push(home.join(".docker/desktop/docker.sock"));
        }
        if let Some(runtime) = self.var("XDG_RUNTIME_DIR") {
            sockets.push(Path::new(runtime).join("podman/podman.sock"));
        }
        sockets.push(PathBuf::from("/run/podman/podman.sock"));
        Ok((sockets.into_iter().map(Endpoint::Unix).collect(), Named::No))
    }

    fn endpoint(&self, host: &str, named_by: &str) -> Result<Endpoint, SandboxError> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let address = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"));
        if let Some(address) = address.or_else(|| host.strip_prefix("https://")) {
            let address = address.trim_end_matches('/').to_owned();
            return Ok(match self.certificates(host) {
                Some(dir) => Endpoint::Tls(address, dir),
                None => Endpoint::Tcp(address),
            });
        }
        Err(match host.strip_prefix("ssh://") {
            Some(target) => SandboxError {
                what: format!("cannot reach a container engine through `{host}`"),
                because: Some(format!("{named_by} asks for ssh, which has to be set up as a tunnel first")),
                hint: Some(format!(
                    "run `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock {}` in another terminal and set \
                     `DOCKER_HOST=unix:///tmp/engine.sock`",
                    target.trim_end_matches('/')
                )),
            },
            None => SandboxError {
                what: format!("cannot understand `{host}` as the address of a container engine"),
                because: Some(format!("it comes from {named_by}")),
                hint: Some("use `unix:///path/to.sock` or `tcp://host:port`".to_owned()),
            },
        })
    }

    fn certificates(&self, host: &str) -> Option<PathBuf> {
        if self.var("DOCKER_TLS_VERIFY").is_none() && !host.starts_with("https://") {
            return None;
        }
        let named = self.var("DOCKER_CERT_PATH").or_else(|| self.var("DOCKER_CONFIG")).map(PathBuf::from);
        Some(named.or_else(|| Some(self.home?.join(".docker"))).unwrap_or_default())
    }

    /// The host of the Docker context in use, unless it is the default one.
    fn context_host(&self) -> Option<String> {
        let config_dir = match self.var("DOCKER_CONFIG") {
            Some(dir) => PathBuf::from(dir),
            None => self.home?.join(".docker"),
        };
        let read =
            |path: PathBuf| -> Option<serde_json::Value> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
        let name = match self.var("DOCKER_CONTEXT") {
            Some(name) => name.to_owned(),
            None => read(config_dir.join("config.json"))?.get("currentContext")?.as_str()?.to_owned(),
        };
        if name == "default" {
            return None;
        }
        let key: String = Sha256::digest(&name).iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = read(config_dir.join("contexts/meta").join(key).join("meta.json"))?;
        Some(meta.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
    }
}

/// Whether an endpoint was named by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// It was: no other may be taken.
    Yes,
    /// The usual places are tried in turn.
    No,
}

/// Takes the first engine that answers.
///
/// # Errors
/// What stands in the way, with the remedy for the most telling of the obstacles.
pub(super) async fn connect(around: &Surroundings<'_>) -> Result<(Docker, Endpoint), SandboxError> {
    let (endpoints, named) = around.endpoints()?;
    let mut obstacles = Vec::new();
    for endpoint in endpoints {
        match reach(&endpoint).await {
            Ok(docker) => return Ok((docker, endpoint)),
            Err(obstacle) => obstacles.push((endpoint, obstacle)),
        }
    }
    Err(unreachable_engine(&obstacles, named))
}

#[derive(Debug)]
struct Obstacle {
    kind: ErrorKind,
    words: String,
}

impl Obstacle {
    fn of(error: &bollard::errors::Error) -> Self {
        Self { kind: ErrorKind::Other, words: words_of(error) }
    }
}

async fn reach(endpoint: &Endpoint) -> Result<Docker, Obstacle> {
    let docker = match endpoint {
        Endpoint::Unix(path) => {
            // The client library tells neither a missing permission nor a dead socket apart, so the socket is tried
            // by itself first.
            tokio::net::UnixStream::connect(path)
                .await
                .map_err(|error| Obstacle { kind: error.kind(), words: plain_words(&error) })?;
            Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION)
        }
        Endpoint::Tcp(address) => Docker::connect_with_http(address, ANSWER_SECONDS, API_DEFAULT_VERSION),
        Endpoint::Tls(address, dir) => {
            // Done already, unless nothing else in the process has needed TLS yet.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let file = |name: &str| dir.join(name);
            Docker::connect_with_ssl(
                address,
                &file("key.pem"),
                &file("cert.pem"),
                &file("ca.pem"),
                ANSWER_SECONDS,
                API_DEFAULT_VERSION,
            )
        }
    };
    let docker = docker.map_err(|error| Obstacle::of(&error))?;
    match tokio::time::timeout(GREETING, docker.negotiate_version()).await {
        Ok(answer) => answer.map_err(|error| Obstacle::of(&error)),
        Err(_) => Err(Obstacle { kind: ErrorKind::TimedOut, words: "no answer within ten seconds".to_owned() }),
    }
}

fn unreachable_engine(obstacles: &[(Endpoint, Obstacle)], named: Named) -> SandboxError {
    let with = |kind| obstacles.iter().find(|(_, obstacle)| obstacle.kind == kind);
    let said = |(endpoint, obstacle): &(Endpoint, Obstacle)| format!("{}: {}", endpoint.host(), obstacle.words);
    let what = "cannot reach a container engine".to_owned();
    if let Some(denied) = with(ErrorKind::PermissionDenied) {
        return SandboxError {
            what,
            because: Some(said(denied)),
            hint: Some(
                "join the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again), use rootless \
                 Podman (`systemctl --user start podman.socket`), or run with `--sandbox local`"
                    .to_owned(),
            ),
        };
    }
    let telling = obstacles.iter().find(|(_, obstacle)| obstacle.kind != ErrorKind::NotFound);
    let because = match (telling, named) {
        (Some(obstacle), _) => said(obstacle),
        (None, Named::Yes) => obstacles.iter().map(said).collect::<Vec<_>>().join("; "),
        (None, Named::No) => {
            let places: Vec<_> = obstacles.iter().map(|(endpoint, _)| endpoint.host()).collect();
            format!("no socket at {}", places.join(", "))
        }
    };
    SandboxError {
        what,
        because: Some(because),
        hint: Some(
            "start Docker (`sudo systemctl start docker`) or Podman (`systemctl --user start podman.socket`), name one by \
             `DOCKER_HOST`, or run with `--sandbox local`"
                .to_owned(),
        ),
    }
}

fn plain_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    }
}

/// An error of the engine in its own words, what the system says where that is the root, all causes otherwise: in one
/// line.
pub(super) fn words_of(error: &bollard::errors::Error) -> String {
    if let bollard::errors::Error::DockerResponseServerError { message, .. } = error {
        return message.trim().to_owned();
    }
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(refusal) = cause.downcast_ref::<std::io::Error>().filter(|error| error.raw_os_error().is_some()) {
            return plain_words(refusal);
        }
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        next = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn endpoints(pairs: &[(&str, &str)], home: Option<&Path>) -> Result<(Vec<Endpoint>, Named), SandboxError> {
        Surroundings { env: &vars(pairs), home }.endpoints()
    }

    #[test]
    fn a_named_host_is_the_only_one() {
        let named = |host| endpoints(&[("DOCKER_HOST", host), ("CONTAINER_HOST", "unix:///x")], None).unwrap();
        assert_eq!(named("unix:///a/b.sock"), (vec![Endpoint::Unix("/a/b.sock".into())], Named::Yes));
        assert_eq!(named("tcp://box:2375/"), (vec![Endpoint::Tcp("box:2375".into())], Named::Yes));
        let tls = [("DOCKER_HOST", "tcp://box:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        assert_eq!(endpoints(&tls, None).unwrap().0, [Endpoint::Tls("box:2376".into(), "/certs".into())]);
    }

    #[test]
    fn the_usual_sockets_are_tried_in_turn_and_an_empty_variable_counts_as_none() {
        let env = [("DOCKER_HOST", ""), ("XDG_RUNTIME_DIR", "/run/user/1000")];
        let (found, named) = endpoints(&env, Some(Path::new("/home/a"))).unwrap();
        let hosts: Vec<_> = found.iter().map(Endpoint::host).collect();
        assert_eq!(named, Named::No);
        assert_eq!(
            hosts,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/1000/docker.sock",
                "unix:///home/a/.docker/run/docker.sock",
                "unix:///home/a/.docker/desktop/docker.sock",
                "unix:///run/user/1000/podman/podman.sock",
                "unix:///run/podman/podman.sock",
            ]
        );
    }

    #[test]
    fn a_docker_context_is_honoured() {
        let home = tempfile::tempdir().unwrap();
        // The directory's name is the SHA-256 of `rootless`.
        let key: String = Sha256::digest("rootless").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = home.path().join(".docker/contexts/meta").join(key);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"unix:///run/x.sock"}}}"#).unwrap();
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext":"rootless"}"#).unwrap();
        assert_eq!(endpoints(&[], Some(home.path())).unwrap().0, [Endpoint::Unix("/run/x.sock".into())]);
        let back = endpoints(&[("DOCKER_CONTEXT", "default")], Some(home.path())).unwrap();
        assert_eq!(back.1, Named::No);
    }

    #[test]
    fn ssh_and_nonsense_are_refused_with_a_remedy() {
        let ssh = endpoints(&[("DOCKER_HOST", "ssh://me@far")], None).unwrap_err();
        assert!(ssh.hint.unwrap().contains("ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock me@far"));
        let odd = endpoints(&[("DOCKER_HOST", "npipe://x")], None).unwrap_err();
        assert!(odd.what.contains("npipe://x"));
    }

    #[tokio::test]
    async fn an_absent_and_a_dead_socket_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let env = vars(&[("DOCKER_HOST", &format!("unix://{}", path.display()))]);
        let around = Surroundings { env: &env, home: None };
        let absent = connect(&around).await.unwrap_err();
        assert!(absent.because.unwrap().ends_with("engine.sock: no such file"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let dead = connect(&around).await.unwrap_err();
        assert!(dead.because.unwrap().ends_with("engine.sock: nothing listens there"));
        assert!(dead.hint.unwrap().contains("`--sandbox local`"));
    }

    #[test]
    fn a_socket_that_is_not_ours_is_the_most_telling_obstacle() {
        let obstacle = |kind, words: &str| Obstacle { kind, words: words.to_owned() };
        let found = [
            (Endpoint::Unix("/a".into()), obstacle(ErrorKind::NotFound, "no such file")),
            (Endpoint::Unix("/b".into()), obstacle(ErrorKind::PermissionDenied, "permission denied")),
        ];
        let error = unreachable_engine(&found, Named::No);
        assert_eq!(error.because.as_deref(), Some("unix:///b: permission denied"));
        assert!(error.hint.unwrap().contains("usermod -aG docker"));
    }
}
