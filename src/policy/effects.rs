//! The effect of a call, by its tool and, for commands, by a small table of patterns.
//!
//! Nobody is kept from anything by this: it decides what is said and asked when a call was under way and nobody knows
//! how far it came. What is not in the table is taken to change the box and nothing else.

use serde_json::Value;

use super::words::{Simple, simple_commands};
use crate::domain::{Effect, ToolCall};

/// Programs that change nothing.
const READING: &[&str] = &[
    "[",
    "basename",
    "cal",
    "cat",
    "cd",
    "cmp",
    "column",
    "comm",
    "cut",
    "date",
    "df",
    "diff",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "exit",
    "export",
    "expr",
    "false",
    "fgrep",
    "file",
    "fold",
    "free",
    "getent",
    "grep",
    "groups",
    "head",
    "hexdump",
    "hostname",
    "id",
    "jq",
    "join",
    "less",
    "ls",
    "lsblk",
    "lscpu",
    "md5sum",
    "nl",
    "nproc",
    "nvidia-smi",
    "od",
    "paste",
    "pgrep",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rg",
    "seq",
    "set",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    "sleep",
    "stat",
    "strings",
    "tac",
    "tail",
    "test",
    "tr",
    "tree",
    "true",
    "type",
    "ulimit",
    "uname",
    "uniq",
    "uptime",
    "wait",
    "wc",
    "which",
    "who",
    "whoami",
    "xxd",
];

/// Programs whose only purpose is the world outside.
const OUTSIDE: &[&str] = &[
    "ansible",
    "ansible-playbook",
    "firebase",
    "flyctl",
    "ftp",
    "heroku",
    "mail",
    "mailx",
    "msmtp",
    "mutt",
    "nc",
    "ncat",
    "netlify",
    "scp",
    "sendmail",
    "sftp",
    "ssh",
    "swaks",
    "telnet",
    "vercel",
];

/// What stands before a command without being it.
const PREFIXES: &[&str] =
    &["command", "doas", "env", "exec", "nice", "nohup", "setsid", "stdbuf", "sudo", "time", "timeout", "xargs"];

/// Words that say that something is only looked at.
const LOOKING: &[&str] = &[
    "describe", "diff", "explain", "get", "history", "list", "logs", "ls", "plan", "show", "status", "top", "validate",
    "version", "view",
];

/// Words that say that something goes for good.
const DESTROYING: &[&str] =
    &["delete", "destroy", "drop", "purge", "rb", "remove", "rm", "terminate", "uninstall", "unpublish"];

/// How far a call reaches at most.
pub fn effect_of(call: &ToolCall) -> Effect {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    match call.name.as_str() {
        "read_file" | "wait" | "finish" | "ask_human" => Effect::None,
        "shell" => text("command").map_or(Effect::None, of_command),
        "tmux" => match text("action") {
            Some("read" | "screen" | "log" | "grep" | "list") => Effect::None,
            Some("open") => {
                text("command").map_or(Effect::Workspace, |command| of_command(command).max(Effect::Workspace))
            }
            Some("send") => text("text").map_or(Effect::Workspace, |line| of_command(line).max(Effect::Workspace)),
            Some(_) | None => Effect::Workspace,
        },
        "container" => match text("action") {
            Some("info" | "inspect" | "logs") => Effect::None,
            Some(_) | None => Effect::Workspace,
        },
        _ => Effect::Workspace,
    }
}

fn of_command(text: &str) -> Effect {
    simple_commands(text).iter().map(of_simple).max().unwrap_or(Effect::None)
}

fn of_simple(command: &Simple) -> Effect {
    let by_redirection = if command.writes { Effect::Workspace } else { Effect::None };
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    by_redirection.max(of_words(&words))
}

/// How far a simple command reaches by its words, wherever its output goes.
pub(super) fn of_words(words: &[&str]) -> Effect {
    let is_assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let Some((first, rest)) = words.split_first() else { return Effect::None };
    if is_assignment(first) {
        return of_words(rest);
    }
    let program = first.rsplit('/').next().unwrap_or(first);
    if PREFIXES.contains(&program) && !rest.is_empty() {
        // Options of the prefix, and their values, are passed over: the first word that names a known program counts.
        let from = rest.iter().position(|word| !word.starts_with('-') && !is_assignment(word) && !is_amount(word));
        return from.map_or(Effect::None, |from| of_words(&rest[from..]));
    }
    match program {
        "sh" | "bash" | "dash" | "zsh" | "eval" => of_script(rest),
        "git" => of_git(rest),
        "curl" | "wget" | "http" | "https" => of_web(program, rest),
        "rsync" | "rclone" | "gsutil" | "s3cmd" => of_copying(program, rest),
        "kubectl" | "helm" | "terraform" | "tofu" | "pulumi" | "aws" | "az" | "gcloud" | "gh" | "glab" | "doctl" => {
            of_cloud(rest)
        }
        "docker" | "podman" | "skopeo" => match rest.first() {
            Some(&("push" | "login" | "copy")) => Effect::External,
            _ => Effect::Workspace,
        },
        "npm" | "yarn" | "pnpm" | "cargo" | "twine" | "gem" | "poetry" | "uv" => match rest.first() {
            Some(&("publish" | "unpublish" | "upload" | "push" | "yank")) => Effect::Irreversible,
            _ => Effect::Workspace,
        },
        "psql" | "mysql" | "mariadb" | "mongosh" | "redis-cli" | "sqlcmd" => of_database(rest),
        "find" => match rest.iter().any(|word| {
            matches!(*word, "-delete" | "-exec" | "-execdir" | "-ok" | "-okdir") || word.starts_with("-fprint")
        }) {
            true => Effect::Workspace,
            false => Effect::None,
        },
        "sort" if !rest.iter().any(|word| word.starts_with("-o") || word.starts_with("--output")) => Effect::None,
        program if OUTSIDE.contains(&program) => Effect::External,
        program if READING.contains(&program) => Effect::None,
        _ => Effect::Workspace,
    }
}

/// `sh -c '…'` and `eval '…'`: what the text does; a script file may do anything in the box.
fn of_script(rest: &[&str]) -> Effect {
    let inner = rest.iter().filter(|word| word.contains(' ')).map(|word| of_command(word)).max();
    inner.map_or(Effect::Workspace, |inner| inner.max(Effect::Workspace))
}

fn of_git(rest: &[&str]) -> Effect {
    let is_value = |at: usize| at > 0 && matches!(rest[at - 1], "-C" | "-c");
    let verb = (0..rest.len()).find(|&at| !rest[at].starts_with('-') && !is_value(at));
    let Some((verb, args)) = verb.map(|at| (rest[at], &rest[at + 1..])) else { return Effect::None };
    match verb {
        "push" => {
            let is_forced = |word: &&str| word.starts_with(':') || word.starts_with('+') || word.contains("force");
            let goes = |word: &&str| is_forced(word) || matches!(*word, "-f" | "-d" | "--delete" | "--mirror");
            if args.iter().any(goes) { Effect::Irreversible } else { Effect::External }
        }
        "send-email" => Effect::External,
        "blame" | "describe" | "diff" | "grep" | "log" | "ls-files" | "rev-parse" | "shortlog" | "show" | "status" => {
            Effect::None
        }
        "branch" | "remote" | "tag" if args.iter().all(|word| word.starts_with("-v") || *word == "-a") => Effect::None,
        _ => Effect::Workspace,
    }
}

fn of_web(program: &str, rest: &[&str]) -> Effect {
    let method = rest.iter().enumerate().find_map(|(at, word)| match *word {
        "-X" | "--request" => rest.get(at + 1).copied(),
        word => word
            .strip_prefix("-X")
            .or_else(|| word.strip_prefix("--request="))
            .or_else(|| word.strip_prefix("--method=")),
    });
    let sends = |word: &&str| {
        let long = ["--data", "--form", "--json", "--upload-file", "--post-", "--body-"];
        // `wget -d` and `-F` mean something else.
        let short = program == "curl" && ["-d", "-F", "-T"].iter().any(|flag| word.starts_with(flag));
        short || long.iter().any(|flag| word.starts_with(flag))
    };
    let by_name =
        program.starts_with("http") && rest.first().is_some_and(|word| word.chars().all(|c| c.is_ascii_uppercase()));
    let method = if by_name { rest.first().copied() } else { method };
    match method.map(str::to_ascii_uppercase).as_deref() {
        Some("DELETE") => Effect::Irreversible,
        Some("GET" | "HEAD" | "OPTIONS") => Effect::None,
        Some(_) => Effect::External,
        None if rest.iter().any(sends) => Effect::External,
        None if program == "wget"
            || rest.iter().any(|word| word.starts_with("-o") || *word == "-O" || word.starts_with("--output")) =>
        {
            Effect::Workspace
        }
        None => Effect::None,
    }
}

fn of_copying(program: &str, rest: &[&str]) -> Effect {
    let is_remote = |word: &&str| {
        let before_slash = word.split('/').next().unwrap_or_default();
        word.contains("://") || (!word.starts_with('-') && before_slash.contains(':'))
    };
    if program == "rsync" && !rest.iter().any(is_remote) {
        return Effect::Workspace;
    }
    match rest.iter().any(|word| DESTROYING.contains(word) || word.starts_with("--delete")) {
        true => Effect::Irreversible,
        false => Effect::External,
    }
}

/// Tools of clouds: what they do is in their words.
fn of_cloud(rest: &[&str]) -> Effect {
    let words: Vec<&str> = rest.iter().map(|word| word.trim_start_matches('-')).collect();
    let has = |list: &[&str]| {
        words.iter().any(|word| list.iter().any(|verb| word == verb || word.starts_with(&format!("{verb}-"))))
    };
    if has(DESTROYING) {
        return Effect::Irreversible;
    }
    if has(LOOKING) && !has(&["apply", "create", "put", "set", "update"]) {
        return Effect::None;
    }
    Effect::External
}

fn of_database(rest: &[&str]) -> Effect {
    let is_away = rest.iter().any(|word| word.starts_with("-h") || word.starts_with("--host") || word.contains("://"));
    let said = rest.join(" ").to_ascii_lowercase();
    let destroys = ["drop ", "truncate ", "delete ", "flushall", "flushdb"].iter().any(|words| said.contains(words));
    match (is_away, destroys) {
        (true, true) => Effect::Irreversible,
        (true, false) => Effect::External,
        (false, _) => Effect::Workspace,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A time or a number, as `timeout 5m` and `nice -n 10` take them.
fn is_amount(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_reach_as_far_as_their_worst_part() {
        let table: &[(Effect, &[&str])] = &[
            (
                Effect::None,
                &[
                    "",
                    "ls -l | grep x",
                    "cat a 2>/dev/null",
                    "git status && git log -3",
                    "FOO=1 env",
                    "find . -name '*.rs'",
                    "curl -s http://localhost:80/health",
                    "kubectl get pods",
                    "terraform plan",
                    "aws s3 ls",
                    "sudo -n ls /root",
                    "curl -X GET https://x.example",
                    "cd /tmp && pwd",
                    "gh pr view 3",
                ],
            ),
            (
                Effect::Workspace,
                &[
                    "echo x >> f",
                    "make -j4",
                    "python train.py",
                    "rm -rf build",
                    "sed -i s/a/b/ f",
                    "git commit -m 'push it'",
                    "find . -delete",
                    "curl -o f http://x.example",
                    "rsync -a a/ b/",
                    "docker build .",
                    "npm install",
                    "bash run.sh",
                    "psql mine",
                    "timeout 5m make",
                ],
            ),
            (
                Effect::External,
                &[
                    "git push",
                    "git -C x push origin main",
                    "curl -d a=1 https://x.example",
                    "curl -XPOST https://x.example",
                    "ssh host ls",
                    "scp a host:",
                    "rsync -a a host:b",
                    "kubectl apply -f x.yaml",
                    "helm upgrade a b",
                    "terraform apply",
                    "aws s3 cp a s3://b",
                    "gcloud run deploy x",
                    "docker push x",
                    "psql -h db -c 'select 1'",
                    "mail -s hi a@x.example",
                    "make && git push",
                    "sudo ssh host",
                    "bash -c 'git push'",
                    "echo $(git push)",
                    "timeout 5 ssh host",
                    "echo \"`ssh host`\"",
                    "gh release create v1",
                ],
            ),
            (
                Effect::Irreversible,
                &[
                    "terraform destroy -auto-approve",
                    "kubectl delete ns x",
                    "helm uninstall x",
                    "aws s3 rm s3://b/x",
                    "aws ec2 terminate-instances --instance-ids i-1",
                    "gcloud sql instances delete x",
                    "curl -X DELETE https://x.example",
                    "git push origin --delete x",
                    "git push --force",
                    "git push origin :x",
                    "psql -h db -c 'drop table x'",
                    "cargo publish",
                    "rsync -a --delete a host:b",
                    "terraform apply -destroy",
                ],
            ),
        ];
        for (effect, commands) in table {
            for command in *commands {
                assert_eq!(of_command(command), *effect, "{command}");
            }
        }
    }

    #[test]
    fn calls_reach_as_far_as_their_tool() {
        let effect = |name: &str, arguments: &str| {
            effect_of(&ToolCall { id: "a".to_owned(), name: name.to_owned(), arguments: arguments.to_owned() })
        };
        assert_eq!(effect("read_file", "{}"), Effect::None);
        assert_eq!(effect("shell", "{}"), Effect::None, "it goes on waiting");
        assert_eq!(effect("shell", r#"{"command":"git push"}"#), Effect::External);
        assert_eq!(effect("tmux", r#"{"action":"screen"}"#), Effect::None);
        assert_eq!(effect("tmux", r#"{"action":"send","text":"terraform destroy"}"#), Effect::Irreversible);
        assert_eq!(effect("tmux", r#"{"action":"keys"}"#), Effect::Workspace);
        assert_eq!(effect("write_file", "no JSON"), Effect::Workspace);
        assert_eq!(effect("something new", "{}"), Effect::Workspace);
    }
}
