//! Globs over paths below a directory: `*` stays within a name, `**` does not, and what names a directory means all of it.

use std::path::PathBuf;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Why a glob can't be used, in words; None where it can.
pub fn glob_error(glob: &str) -> Option<String> {
    if let Some(why) = unfit(glob) {
        return Some(why.to_owned());
    }
    build([glob]).err().map(|error| error.kind().to_string())
}

fn unfit(glob: &str) -> Option<&'static str> {
    match glob.trim_matches('/') {
        "" => Some("it names nothing"),
        _ if glob.starts_with('/') => Some("it must be a path from the project's directory on"),
        trimmed if trimmed.split('/').any(|part| part == "..") => Some("it leads out of the project"),
        _ => None,
    }
}

/// Makes one matcher of all of them.
///
/// # Errors
/// For the first one that is none.
pub(super) fn build<'g>(globs: impl IntoIterator<Item = &'g str>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let path = glob.trim_start_matches("./").trim_end_matches('/');
        for pattern in [path.to_owned(), format!("{path}/**")] {
            set.add(GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build()?);
        }
    }
    set.build()
}

/// Where what a glob matches begins: its path up to the first name with something in it that is matched.
pub(super) fn base(glob: &str) -> PathBuf {
    let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    glob.split('/').filter(|part| !matches!(*part, "" | ".")).take_while(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_means_what_people_mean_by_it() {
        let hits = |glob: &str, path: &str| build([glob]).unwrap().is_match(path);
        assert!(hits("tests", "tests/a/b.py") && hits("tests/", "tests/x") && hits("./a.txt", "a.txt"));
        assert!(
            hits("*.py", "a.py") && !hits("*.py", "x/a.py") && hits("**/*.py", "x/y/a.py") && hits("**/*.py", "a.py")
        );
        assert!(hits("{a,b}/t?.c", "b/t1.c") && !hits("tests", "tests2/a"));
    }

    #[test]
    fn a_glob_is_looked_for_where_it_begins() {
        let base = |glob: &str| base(glob).to_string_lossy().into_owned();
        assert_eq!([base("./a/b/*.py"), base("**/x"), base("a.txt"), base("t/")], ["a/b", "", "a.txt", "t"]);
    }

    #[test]
    fn a_glob_that_can_not_be_used_is_told() {
        for bad in ["", "/", "/etc/passwd", "../x", "a/../../x", "a[", "{a"] {
            assert!(glob_error(bad).is_some(), "{bad:?}");
        }
        assert_eq!(glob_error("tests/**"), None);
    }
}
