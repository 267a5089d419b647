//! Which files are run, or obeyed, on the host by programs that a person starts for something else: hooks, settings of
//! editors and shells. A box that wants out would plant them.

use std::path::Path;

/// Names that count wherever they stand, as file or directory, with what obeys them.
const ANYWHERE: [(&str, &str); 42] = [
    (".bash_aliases", "shells run it"),
    (".bash_login", "shells run it"),
    (".bash_logout", "shells run it"),
    (".bash_profile", "shells run it"),
    (".bashrc", "shells run it"),
    (".profile", "shells run it"),
    (".inputrc", "shells obey it"),
    (".zlogin", "shells run it"),
    (".zlogout", "shells run it"),
    (".zprofile", "shells run it"),
    (".zshenv", "shells run it"),
    (".zshrc", "shells run it"),
    (".envrc", "direnv runs it"),
    (".mise.toml", "mise runs it"),
    (".tmux.conf", "tmux runs it"),
    (".vimrc", "vim runs it"),
    (".exrc", "vi runs it"),
    (".nvimrc", "vim runs it"),
    (".nvim.lua", "vim runs it"),
    (".emacs", "emacs runs it"),
    (".dir-locals.el", "emacs obeys it"),
    (".gdbinit", "gdb runs it"),
    (".lldbinit", "lldb runs it"),
    (".gitconfig", "git obeys it"),
    (".hgrc", "Mercurial obeys it"),
    (".hg", "Mercurial obeys it"),
    (".npmrc", "npm obeys it"),
    (".yarnrc", "yarn obeys it"),
    (".yarnrc.yml", "yarn obeys it"),
    (".pnpmfile.cjs", "pnpm runs it"),
    (".pre-commit-config.yaml", "git runs it before commits"),
    ("lefthook.yml", "git runs it before commits"),
    (".husky", "git runs it before commits"),
    (".vscode", "editors run tasks from it"),
    (".idea", "editors run tasks from it"),
    (".fleet", "editors run tasks from it"),
    (".devcontainer", "editors run it"),
    (".claude", "agents run hooks from it"),
    (".cursor", "agents obey it"),
    (".codex", "agents obey it"),
    (".mcp.json", "agents run servers from it"),
    (".longhaul", "agent obeys it"),
];

/// Names that count below a directory of another name.
const BELOW: [(&str, &str, &str); 13] = [
    (".cargo", "config", "cargo runs programs from it"),
    (".cargo", "config.toml", "cargo runs programs from it"),
    (".github", "workflows", "the forge runs it"),
    (".github", "actions", "the forge runs it"),
    (".config", "autostart", "the desktop runs it"),
    (".config", "environment.d", "the system's manager obeys it"),
    (".config", "fish", "shells run it"),
    (".config", "git", "git obeys it"),
    (".config", "nvim", "vim runs it"),
    (".config", "systemd", "the system's manager runs it"),
    (".config", "direnv", "direnv runs it"),
    (".local", "bin", "it may stand before the system's programs"),
    (".ssh", "", "ssh obeys it"),
];

/// Others of forges, which count at the top.
const AT_TOP: [(&str, &str); 4] = [
    (".gitlab-ci.yml", "the forge runs it"),
    (".circleci", "the forge runs it"),
    (".travis.yml", "the forge runs it"),
    ("jenkinsfile", "the forge runs it"),
];

/// What of a repository is data; everything else in it is obeyed.
const GIT_DATA: [&str; 15] = [
    "objects",
    "refs",
    "logs",
    "index",
    "head",
    "orig_head",
    "fetch_head",
    "merge_head",
    "packed-refs",
    "commit_editmsg",
    "merge_msg",
    "description",
    "shallow",
    "branches",
    "index.lock",
];

/// Who runs or obeys the file at `path`; None for ordinary files. Names count in any case, as some file systems see them.
pub(super) fn runs_itself(path: &Path) -> Option<&'static str> {
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().to_ascii_lowercase()).collect();
    let top = parts.first().and_then(|first| AT_TOP.iter().find(|(name, _)| name == first));
    if let Some((_, who)) = top {
        return Some(who);
    }
    for (at, part) in parts.iter().enumerate() {
        let next = parts.get(at + 1).map(String::as_str);
        if part == ".git" || part.ends_with(".git") || part == "git~1" {
            match next {
                // A file of this name, or a link, leads git to another directory.
                None if part != ".git" => {}
                None => return Some("git obeys it"),
                Some("info") if parts.get(at + 2).is_some_and(|name| name == "exclude") => return None,
                Some(name) if GIT_DATA.contains(&name) => return None,
                Some(_) => return Some("git obeys it"),
            }
        }
        if let Some((_, who)) = ANYWHERE.iter().find(|(name, _)| name == part) {
            return Some(who);
        }
        let below = |(dir, name, _): &&(&str, &str, &str)| dir == part && (name.is_empty() || next == Some(name));
        if let Some((.., who)) = BELOW.iter().find(below) {
            return Some(who);
        }
    }
    None
}

/// Whether `path` is in a repository without a working tree, which any directory with these names is to git.
pub(super) fn in_bare_repository(path: &Path, is_there: impl Fn(&Path) -> bool) -> bool {
    let is_repository = |dir: &Path| ["HEAD", "objects", "refs"].iter().all(|name| is_there(&dir.join(name)));
    let dir = path.parent().unwrap_or(Path::new(""));
    let named = |name: &str| path.file_name().is_some_and(|own| own.eq_ignore_ascii_case(name));
    let in_hooks = dir.file_name().is_some_and(|name| name.eq_ignore_ascii_case("hooks"));
    (named("config") && is_repository(dir)) || (in_hooks && dir.parent().is_some_and(is_repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_and_settings_are_known_in_any_case_and_depth() {
        for path in [
            ".git/hooks/pre-commit",
            ".git/config",
            ".GIT/Config",
            "sub/.git",
            "sub/.git/modules/x/config",
            ".git/info/attributes",
            "mirror.git/config",
            ".envrc",
            "deep/er/.envrc",
            ".vscode/tasks.json",
            "sub/.vscode/settings.json",
            ".idea/workspace.xml",
            ".github/workflows/ci.yml",
            ".husky/pre-push",
            ".cargo/config.toml",
            ".pre-commit-config.yaml",
            ".bashrc",
            ".ssh/rc",
            ".config/systemd/user/x.service",
            ".longhaul/config.toml",
            ".gitlab-ci.yml",
        ] {
            assert!(runs_itself(Path::new(path)).is_some(), "{path}");
        }
    }

    #[test]
    fn ordinary_files_are_left_alone() {
        for path in [
            "src/main.rs",
            "Makefile",
            "package.json",
            ".gitignore",
            ".gitattributes",
            ".git/objects/ab/cdef",
            ".git/refs/heads/main",
            ".git/HEAD",
            ".git/index",
            ".git/info/exclude",
            ".github/ISSUE_TEMPLATE.md",
            ".cargo/audit.toml",
            "docs/hooks/readme.md",
            "config",
            "sub/.gitlab-ci.yml",
        ] {
            assert_eq!(runs_itself(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_directory_is_a_repository_by_what_is_in_it() {
        let is_there = |path: &Path| ["x/HEAD", "x/objects", "x/refs"].iter().any(|name| Path::new(name) == path);
        assert!(in_bare_repository(Path::new("x/config"), is_there));
        assert!(in_bare_repository(Path::new("x/hooks/post-checkout"), is_there));
        assert!(!in_bare_repository(Path::new("y/config"), is_there));
        assert!(!in_bare_repository(Path::new("x/other"), is_there));
    }
}
