//! What of a person's home directory no box may see, whichever way the box is made.

use std::path::{Path, PathBuf};

/// Files and directories with credentials, relative to the home directory.
const IN_HOME: &[&str] = &[
    ".aws",
    ".azure",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".claude",
    ".codex",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/longhaul",
    ".config/op",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".local/share/keyrings",
    ".mozilla",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pgpass",
    ".pypirc",
    ".ssh",
    ".terraform.d",
    ".vault-token",
];

/// The secrets of `home` that exist.
pub(super) fn in_home(home: &Path) -> Vec<PathBuf> {
    IN_HOME.iter().map(|name| home.join(name)).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Those secrets of `home`, and `state_dir`, that lie below `dir`: what has to be masked where `dir` is shown.
pub(super) fn below(dir: &Path, home: Option<&Path>, state_dir: &Path) -> Vec<PathBuf> {
    let secrets = home.map(in_home).unwrap_or_default();
    let state = state_dir.is_dir().then(|| state_dir.to_owned());
    secrets.into_iter().chain(state).filter(|path| path.starts_with(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_below_the_directory_is_masked() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        for dir in [".ssh", "project", "state"] {
            std::fs::create_dir(home.path().join(dir)).unwrap();
        }
        let masked = below(home.path(), Some(home.path()), &state);
        assert_eq!(masked, [home.path().join(".ssh"), state.clone()]);
        assert!(below(&home.path().join("project"), Some(home.path()), &state).is_empty());
    }
}
