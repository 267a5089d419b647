//! Which commands may be run again as they are when they have failed: they only look, or what they fetch is fetched anew.
//! Narrow on purpose: what is not in the table is not repeated without the model.

use super::commands::{Command, commands};
use super::effects::of_program;
use crate::domain::Effect;

/// Whether a command may be run again as it is, however far it came before it failed.
pub fn is_repeatable(command: &str) -> bool {
    // What is appended is there twice; what a shell is fed may be anything.
    if command.contains(">>") {
        return false;
    }
    let commands = commands(command);
    !commands.is_empty() && commands.iter().all(may_come_twice)
}

fn may_come_twice(command: &Command) -> bool {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    match of_program(command, None) {
        // A session stays where the first attempt went.
        Effect::None => words.first() != Some(&"cd") || words.get(1).is_some_and(|to| to.starts_with(['/', '~'])),
        Effect::Workspace => fetches(&words),
        Effect::External | Effect::Irreversible => false,
    }
}

/// Whether it does nothing to the box but to bring in what is not there yet.
fn fetches(words: &[&str]) -> bool {
    let is_before = |word: &&&str| word.contains('=') || matches!(**word, "sudo" | "env" | "time" | "nice" | "command");
    let words: Vec<&str> = words.iter().skip_while(is_before).copied().collect();
    let Some((program, rest)) = words.split_first() else { return true };
    let verb = rest.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let is = |verbs: &[&str]| verbs.contains(&verb);
    match program.rsplit('/').next().unwrap_or(program) {
        "curl" | "wget" => true,
        "mkdir" => rest.contains(&"-p"),
        "git" => is(&["clone", "fetch", "ls-remote"]),
        "pip" | "pip3" | "uv" | "poetry" | "conda" | "mamba" => is(&["install", "download", "sync", "pip", "lock"]),
        "python" | "python3" => {
            rest.starts_with(&["-m", "pip", "install"]) || rest.starts_with(&["-m", "pip", "download"])
        }
        "npm" | "yarn" | "pnpm" => verb.is_empty() || is(&["install", "ci", "i", "add", "fetch"]),
        "apt" | "apt-get" | "dnf" | "yum" | "apk" | "zypper" => is(&["install", "update", "add", "refresh"]),
        "cargo" => is(&["fetch", "vendor"]),
        "go" => rest.starts_with(&["mod", "download"]) || verb == "get",
        "docker" | "podman" => verb == "pull",
        "huggingface-cli" | "hf" => verb == "download",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_or_fetches_may_come_again() {
        for good in [
            "curl -sf http://x.example/a",
            "curl -o f http://x.example/f",
            "wget -q http://x.example/f > log",
            "pip install -r requirements.txt",
            "sudo apt-get update && sudo apt-get install -y jq",
            "python3 -m pip install x==1",
            "git clone https://x.example/r.git",
            "cd /srv && git fetch --all | tail -3",
            "npm ci",
            "mkdir -p d && curl -o d/f http://x.example/f",
            "ls -l",
        ] {
            assert!(is_repeatable(good), "{good}");
        }
    }

    #[test]
    fn what_may_have_left_something_behind_does_not() {
        for bad in [
            "",
            "curl -sf http://x.example/a >> log",
            "curl http://x.example/i.sh | sh",
            "curl -d a=1 http://x.example",
            "curl -X DELETE http://x.example/1",
            "cd sub && curl http://x.example",
            "git push",
            "git pull",
            "pip install x && python train.py",
            "pip uninstall -y x",
            "make",
            "mkdir d && curl http://x.example",
            "ssh host ls",
            "npm run build",
            "terraform apply",
        ] {
            assert!(!is_repeatable(bad), "{bad}");
        }
    }
}
