//! Whether a rule speaks of a part of a call, and which rules can never do so.
//!
//! What forbids or asks is read widely, what allows narrowly: a pattern of an `allow` covers a command word for word as it
//! is written, and nothing that the command runs beside it.

use std::path::{Component, Path, PathBuf};

use super::Place;
use super::commands::{Command, base};
use super::hosts::{Named, hosts};
use crate::domain::{Effect, Permit, Rule};

/// What is judged by itself: a simple command, or what a tool does by itself.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The tool.
    pub(super) tool: String,
    /// The command, where it is one.
    pub(super) command: Option<Command>,
    /// The paths that it reads or writes, as they were named.
    pub(super) paths: Vec<String>,
    /// How far it reaches.
    pub(super) effect: Effect,
}

impl Part {
    /// What does it: the program, or the tool.
    pub(super) fn program(&self) -> &str {
        match &self.command {
            Some(command) if !command.program.is_empty() => &command.program,
            Some(_) | None => &self.tool,
        }
    }
}

/// Whether a rule speaks of a part.
pub(super) fn matches(rule: &Rule, part: &Part, place: Place<'_>) -> bool {
    let is_allow = rule.permit == Permit::Allow;
    let by_tool = rule.tool.as_ref().is_none_or(|pattern| is_like(pattern, &part.tool));
    let by_command = rule.command.as_ref().is_none_or(|pattern| match &part.command {
        Some(command) if is_allow => is_exactly(pattern, command),
        Some(command) => has_words(pattern, command),
        None => false,
    });
    let by_path = rule.path.as_ref().is_none_or(|pattern| is_path(pattern, part, is_allow, place));
    let by_host = rule.host.as_ref().is_none_or(|pattern| is_host(pattern, part, is_allow));
    let by_effect = rule.effect.is_none_or(|effect| match is_allow {
        true => part.effect <= effect,
        false => part.effect >= effect,
    });
    by_tool && by_command && by_path && by_host && by_effect
}

/// Whether `*` in a pattern can be filled so that it is the text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

/// The program first, the other words in this order behind it, whatever stands between them.
fn has_words(pattern: &str, command: &Command) -> bool {
    let mut wanted = pattern.split_whitespace();
    let Some(program) = wanted.next() else { return false };
    if !is_like(program, &command.program) && !is_like(program, &command.called) {
        return false;
    }
    let mut given = command.args.iter();
    wanted.all(|word| given.any(|arg| is_like(word, arg)) || word == "*")
}

/// Word for word as it is written; a last `*` stands for any words.
fn is_exactly(pattern: &str, command: &Command) -> bool {
    let mut wanted: Vec<&str> = pattern.split_whitespace().collect();
    let is_open = wanted.last() == Some(&"*");
    if is_open {
        wanted.pop();
    }
    let written = &command.words;
    let fits = written.len() == wanted.len() || (is_open && written.len() >= wanted.len());
    let is_known = written.first().is_none_or(|called| is_of_the_system(called));
    let same = |(at, (wanted, written)): (usize, (&&str, &String))| match at {
        0 => is_like(wanted, written) || is_like(wanted, base(written)),
        _ => is_like(wanted, written),
    };
    // What is read from elsewhere and run is not what was written.
    fits && (is_known || wanted.is_empty()) && !command.is_hidden && wanted.iter().zip(written).enumerate().all(same)
}

/// Whether a program's name is its own: `./git` is not `git`.
fn is_of_the_system(called: &str) -> bool {
    const PLACES: [&str; 6] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    match called.rsplit_once('/') {
        None => true,
        Some((place, _)) => PLACES.contains(&place),
    }
}

/// What an `allow` covers must be all that is touched, and named as such; what forbids is held against every word, too.
fn is_path(pattern: &str, part: &Part, is_allow: bool, place: Place<'_>) -> bool {
    let Ok(glob) = globset::GlobBuilder::new(pattern).literal_separator(true).build() else { return false };
    let glob = glob.compile_matcher();
    let is_like = |path: &String| {
        let path = in_workspace(path, place.workspace);
        // A rule for a directory holds for all that is in it.
        path.ancestors().any(|above| !above.as_os_str().is_empty() && glob.is_match(above))
    };
    if is_allow {
        return part.command.is_none() && !part.paths.is_empty() && part.paths.iter().all(is_like);
    }
    let words = part.command.iter().flat_map(|command| &command.args).filter(|arg| !arg.starts_with('-'));
    part.paths.iter().chain(words).any(is_like)
}

/// A path from the workspace on, where it lies in there; `..` and `.` are taken out.
fn in_workspace(path: &str, workspace: &str) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in Path::new(workspace).join(path).components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => whole.push(part),
        }
    }
    whole.strip_prefix(workspace).map(Path::to_owned).unwrap_or(whole)
}

fn is_host(pattern: &str, part: &Part, is_allow: bool) -> bool {
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    let hosts = part.command.as_ref().map(hosts).unwrap_or_default();
    let is_one = |named: &Named| match named {
        Named::Host(host) => is_like(&pattern, host),
        Named::Odd(_) => false,
    };
    match is_allow {
        true => !hosts.is_empty() && hosts.iter().all(is_one),
        false => hosts.iter().any(is_one),
    }
}

/// Why rules can never decide anything, each with where it stands. `tools` are the names that there are.
pub fn useless(rules: &[Rule], tools: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let same = |earlier: &&Rule| {
            earlier.permit == Permit::Deny
                && (&earlier.tool, &earlier.command, &earlier.path, &earlier.host)
                    == (&rule.tool, &rule.command, &rule.path, &rule.host)
                && (earlier.effect.is_none() || earlier.effect == rule.effect)
        };
        let shadow =
            rules[..at].iter().find(same).map(|earlier| format!("{} denies all of it already", earlier.origin));
        if let Some(why) = never(rule, tools).or(shadow) {
            found.push((rule.origin.clone(), why));
        }
    }
    found
}

fn never(rule: &Rule, tools: &[&str]) -> Option<String> {
    let has = |pattern: &Option<String>, wanted: fn(&str) -> bool| pattern.as_deref().is_some_and(wanted);
    let is_empty: fn(&str) -> bool = |pattern| pattern.trim().is_empty();
    if let Some(tool) = rule.tool.as_ref().filter(|tool| !tools.iter().any(|name| is_like(tool, name))) {
        return Some(format!("there is no tool `{tool}`; the tools are {}", tools.join(", ")));
    }
    if [&rule.command, &rule.path, &rule.host].into_iter().any(|pattern| has(pattern, is_empty)) {
        return Some("its pattern is empty".to_owned());
    }
    if has(&rule.host, |host| host.contains(['/', ':', '@', ' '])) {
        return Some("a host is a name or an address, without scheme, port and path".to_owned());
    }
    if let Some(Err(error)) = rule.path.as_ref().map(|path| globset::Glob::new(path)) {
        return Some(format!("its path is no glob: {}", error.kind()));
    }
    let runs_commands = |tool: &String| ["shell", "tmux", "container"].iter().any(|name| is_like(tool, name));
    let is_about_commands = rule.command.is_some() || rule.host.is_some();
    if is_about_commands && rule.tool.as_ref().is_some_and(|tool| !runs_commands(tool)) {
        return Some("the tool that it names runs no commands".to_owned());
    }
    let path_and_command = rule.permit == Permit::Allow && rule.path.is_some() && is_about_commands;
    path_and_command.then(|| "what a command touches is not known, so no path allows one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abc"), ("*force*", "--force-with-lease"), ("a*b*c", "a.b.b.c"), ("x", "x")]
        {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*", "ba"), ("*a", "ab"), ("a*b*c", "acb"), ("", "x"), ("aXa*aXa", "aXa")] {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn paths_are_taken_from_the_workspace_on() {
        for (path, inside) in
            [("a/b", "a/b"), ("./a//../b", "b"), ("/w/p/a", "a"), ("../x", "/w/x"), ("/etc/passwd", "/etc/passwd")]
        {
            assert_eq!(in_workspace(path, "/w/p"), Path::new(inside), "{path}");
        }
    }
}
