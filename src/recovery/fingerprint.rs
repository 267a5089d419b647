//! The mark by which the same failure is known again: class, shape of the command, last error without what changes.

use sha2::{Digest as _, Sha256};

use crate::domain::FailureClass;

/// Words that only prepare the ground for the program after them.
const PREFIXES: [&str; 8] = ["sudo", "env", "time", "nice", "nohup", "exec", "command", "timeout"];
/// Programs whose first word says what they do.
const WITH_VERBS: [&str; 18] = [
    "apt",
    "apt-get",
    "aws",
    "cargo",
    "conda",
    "docker",
    "gcloud",
    "git",
    "go",
    "helm",
    "kubectl",
    "npm",
    "npx",
    "pip",
    "pip3",
    "podman",
    "terraform",
    "uv",
];

/// The mark of a failure.
pub(super) fn fingerprint(class: FailureClass, command: &str, evidence: &str) -> String {
    let shape = shape(command);
    let digest = Sha256::digest(format!("{class}\n{shape}\n{}", without_what_changes(evidence)));
    let digits: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{class}/{shape}/{digits}")
}

/// The programs of a command without their arguments: `cd x && FOO=1 git push origin main | tee log` is `git push|tee`.
pub(super) fn shape(command: &str) -> String {
    let segments = command.split(['|', ';', '&', '\n']).map(program).filter(|word| !word.is_empty() && word != "cd");
    let mut programs: Vec<String> = Vec::new();
    for program in segments {
        if !programs.contains(&program) && programs.len() < 3 {
            programs.push(program);
        }
    }
    if programs.is_empty() { "-".to_owned() } else { programs.join("|") }
}

fn program(segment: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || "._+-".contains(c);
    let assigns = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    let mut words = segment.split_whitespace().skip_while(|word| {
        assigns(word) || PREFIXES.contains(word) || word.starts_with('-') || word.parse::<f64>().is_ok() || *word == "("
    });
    let clean = |word: &str| {
        word.rsplit('/').next().unwrap_or(word).chars().filter(|c| is_name(*c)).take(30).collect::<String>()
    };
    let first = words.next().map(clean).unwrap_or_default();
    let verb = words.find(|word| !word.starts_with('-')).filter(|_| WITH_VERBS.contains(&first.as_str())).map(clean);
    match verb {
        Some(verb) if !verb.is_empty() => format!("{first} {verb}"),
        _ => first,
    }
}

/// Numbers, addresses, times and directories differ each time.
fn without_what_changes(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let file = word.rsplit('/').next().unwrap_or(word);
        let is_hex = file.len() >= 7 && file.chars().all(|c| c.is_ascii_hexdigit());
        let mut clean = String::new();
        for c in file.chars() {
            match c.is_ascii_digit() {
                true if clean.ends_with('#') => {}
                true => clean.push('#'),
                false => clean.extend(c.to_lowercase()),
            }
        }
        words.push(if is_hex { "#".to_owned() } else { clean });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_has_the_same_mark_whatever_changes_around_it() {
        let of = |command: &str, line: &str| fingerprint(FailureClass::Network, command, line);
        let first = of("cd /a && pip install x==1", "[12:01:07] Connection refused to /tmp/abc/8f00bb21 after 12 ms");
        assert_eq!(first, of("pip install y", "[13:44:59] connection refused to /var/00ffe8199 after 7 ms"));
        assert_ne!(first, of("pip install y", "Name or service not known"));
        assert_ne!(first, of("npm install y", "[12:01:07] Connection refused to /tmp/abc/8f00bb21 after 12 ms"));
        assert!(first.starts_with("network/pip install/"), "{first}");
    }

    #[test]
    fn a_command_has_the_shape_of_its_programs() {
        assert_eq!(shape("FOO=1 sudo -E git push origin main | tee log; cd x"), "git push|tee");
        assert_eq!(shape("timeout 5 /usr/bin/python3 train.py"), "python3");
        assert_eq!(shape(""), "-");
    }
}
