//! Paths as the model writes them.

/// `path` as an absolute path inside the box: relative ones begin at the workspace. Nothing is looked up.
pub(super) fn resolve(workspace: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", workspace.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_begin_at_the_workspace() {
        assert_eq!(resolve("/p", "a/b"), "/p/a/b");
        assert_eq!(resolve("/", "a"), "/a");
        assert_eq!(resolve("/p", "/etc/hosts"), "/etc/hosts");
    }
}
