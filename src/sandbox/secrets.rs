//! What of a person's home directory no box may see, whichever way the box is made.

use std::path::{Path, PathBuf};

/// Files and directories with credentials or histories, and container stores, relative to the home directory.
pub(super) const IN_HOME: &[&str] = &[
    ".aws",
    ".azure",
    ".bash_history",
    ".boto",
    ".cache/huggingface/token",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".claude",
    ".codex",
    ".composer/auth.json",
    ".config/BraveSoftware",
    ".config/chromium",
    ".config/composer/auth.json",
    ".config/containers/auth.json",
    ".config/doctl",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/glab-cli",
    ".config/google-chrome",
    ".config/hub",
    ".config/kaggle/kaggle.json",
    ".config/longhaul",
    ".config/op",
    ".config/rclone",
    ".config/sops",
    ".docker",
    ".gem/credentials",
    ".git-credentials",
    ".gnupg",
    ".huggingface/token",
    ".kaggle/kaggle.json",
    ".kube",
    ".lesshst",
    ".local/share/containers",
    ".local/share/docker",
    ".local/share/keyrings",
    ".mozilla",
    ".my.cnf",
    ".mysql_history",
    ".netrc",
    ".npmrc",
    ".oci",
    ".password-store",
    ".pgpass",
    ".psql_history",
    ".pypirc",
    ".python_history",
    ".s3cfg",
    ".ssh",
    ".terraform.d",
    ".thunderbird",
    ".vault-token",
    ".zsh_history",
];

/// The secrets of `home` that exist.
pub(super) fn in_home(home: &Path) -> Vec<PathBuf> {
    IN_HOME.iter().map(|name| home.join(name)).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Those secrets of `home`, and `state_dir`, that lie below `dir`, by their paths there: what has to be masked where only
/// `dir` is shown. Links are followed, so that none leads around a mask; what lies below another mask is left out.
pub(super) fn below(dir: &Path, home: Option<&Path>, state_dir: &Path) -> Vec<PathBuf> {
    let Ok(real_dir) = dir.canonicalize() else { return Vec::new() };
    let secrets = home.map(in_home).unwrap_or_default().into_iter().chain([state_dir.to_owned()]);
    let shown = |path: PathBuf| Some(dir.join(path.canonicalize().ok()?.strip_prefix(&real_dir).ok()?));
    let mut masks: Vec<PathBuf> = secrets.filter_map(shown).collect();
    masks.sort();
    // Sorted, what lies below a path comes after it.
    masks.dedup_by(|later, earlier| later.starts_with(earlier));
    masks
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
        assert_eq!(below(home.path(), Some(home.path()), &home.path().join(".ssh/state")), [home.path().join(".ssh")]);
        assert!(below(&home.path().join("project"), Some(home.path()), &state).is_empty());
    }

    #[test]
    fn a_link_leads_around_no_mask() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("real/keys")).unwrap();
        std::os::unix::fs::symlink(at("real"), at("home")).unwrap();
        std::os::unix::fs::symlink(at("real/keys"), at("real/.ssh")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", at("real/.netrc")).unwrap();
        assert_eq!(below(&at("real"), Some(&at("home")), &at("none")), [at("real/keys")]);
        assert_eq!(below(&at("home"), Some(&at("home")), &at("none")), [at("home/keys")]);
    }
}
