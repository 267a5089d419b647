//! Services beside the box: containers of the run's own, on a private network that only the box and they are on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::SandboxError;

/// Files on their way into a sidecar or out of it, as an uncompressed tar.
pub type TarStream = BoxStream<'static, std::io::Result<Bytes>>;

/// A service that is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarSpec {
    /// Its name, which is also its host name for the box.
    pub name: SidecarName,
    /// The image.
    pub image: String,
    /// What a shell runs in it in place of what the image runs by itself.
    pub command: Option<String>,
    /// Variables on top of the image's.
    pub env: BTreeMap<String, String>,
}

/// The name of a sidecar: also a host name, so of lower-case letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SidecarName(String);

impl SidecarName {
    /// Most characters.
    const LONGEST: usize = 32;

    /// Takes a name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !text.chars().all(fits) || text.ends_with('-') || text.len() > Self::LONGEST {
            let shown: String = text.escape_debug().take(40).collect();
            let rule = "lower-case letters, digits and hyphens, a letter first, at most 32";
            return Err(format!("`{shown}` is no name for a sidecar: {rule}"));
        }
        if matches!(text, "localhost" | "longhaul" | "host") {
            return Err(format!("`{text}` is a name that the box needs for itself"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SidecarName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service beside the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Its name.
    pub name: SidecarName,
    /// The image.
    pub image: String,
    /// The container's name.
    pub id: String,
    /// Its address on the private network, while it is up.
    pub address: Option<String>,
    /// How it stands, in words: `up since …`, `ended with code 1`.
    pub state: String,
    /// Whether it is up.
    pub is_up: bool,
}

/// A sidecar that has ended without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarEnd {
    /// Its name.
    pub name: SidecarName,
    /// Why, with its last words.
    pub why: String,
}

/// What a command in a sidecar led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarSaid {
    /// Its exit code.
    pub code: i64,
    /// The end of what it printed.
    pub text: String,
}

/// The services beside one box. Nothing that is not this run's can be named here.
#[async_trait::async_trait]
pub trait Sidecars: Send + Sync {
    /// Starts one. One of this name that has ended goes first.
    ///
    /// # Errors
    /// [`SandboxError`]: nothing is left of it then.
    async fn start(&self, spec: &SidecarSpec) -> Result<Sidecar, SandboxError>;

    /// Stops one and removes it; by force after `patience`.
    ///
    /// # Errors
    /// [`SandboxError`] where there is none of this name, or it does not go.
    async fn stop(&self, name: &SidecarName, patience: Duration) -> Result<(), SandboxError>;

    /// All there are, by name.
    ///
    /// # Errors
    /// [`SandboxError`] where the engine does not answer.
    async fn list(&self) -> Result<Vec<Sidecar>, SandboxError>;

    /// The last lines that one has printed.
    ///
    /// # Errors
    /// [`SandboxError`] where there is none of this name.
    async fn logs(&self, name: &SidecarName, lines: u32) -> Result<String, SandboxError>;

    /// Runs a command in one by its shell.
    ///
    /// # Errors
    /// [`SandboxError`] where there is none of this name, or it has no shell.
    async fn run(&self, name: &SidecarName, command: &str) -> Result<SidecarSaid, SandboxError>;

    /// Waits until a line that it prints, or has printed, matches.
    ///
    /// # Errors
    /// [`SandboxError`] where its output ends before.
    async fn says(&self, name: &SidecarName, pattern: &regex::Regex) -> Result<String, SandboxError>;

    /// Waits until it has ended; why, with its last words.
    async fn ended(&self, name: &SidecarName) -> String;

    /// Unpacks files in one, from its root on.
    ///
    /// # Errors
    /// [`SandboxError`] where there is none of this name, or it does not take them.
    async fn put(&self, name: &SidecarName, tar: TarStream) -> Result<(), SandboxError>;

    /// Packs a file or a directory of one; paths begin with its last name.
    ///
    /// # Errors
    /// [`SandboxError`] where there is none of this name.
    async fn fetch(&self, name: &SidecarName, path: &str) -> Result<TarStream, SandboxError>;

    /// The next one that ends by itself. May be dropped and called again: nothing is lost.
    async fn news(&self) -> SidecarEnd;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_name_that_is_free() {
        for good in ["db", "redis-7", "a"] {
            assert_eq!(SidecarName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "7up", "Db", "a_b", "a.b", "a b", "-a", "a-", "localhost", "longhaul", &"a".repeat(33)] {
            assert!(SidecarName::new(bad).is_err(), "{bad}");
        }
    }
}
