//! The list of commands that are asked for without any rule: what cannot be undone, or reaches further than it looks.
//!
//! Every entry has a name by which people find it and a reason that they are shown. It is asked for in the modes `auto` and
//! `ask`, whatever its effect; `plan` denies it. A speed bump, not a wall: the box is the boundary.

use super::commands::{Command, SHELLS, base, variable};
use super::hosts::{Named, hosts};

/// An entry of the list.
#[derive(Debug)]
pub struct Entry {
    /// What it is, as a command would be named.
    pub name: &'static str,
    /// Why it is asked for: what comes of it.
    pub why: &'static str,
    matches: When,
}

/// When an entry matches a command.
#[derive(Debug)]
enum When {
    /// Any of these programs, given any of these words.
    Word(&'static [&'static str], &'static [&'static str]),
    /// Any of these programs, given a word that is or begins with any of these and a hyphen: `delete-stack`.
    Verb(&'static [&'static str], &'static [&'static str]),
    /// Any of these programs, whatever it is given.
    Program(&'static [&'static str]),
    /// What has to be looked at more closely.
    Looked(fn(&Command) -> bool),
}

impl Entry {
    /// Whether a command is of this kind.
    pub(super) fn is(&self, command: &Command) -> bool {
        let is_program = |programs: &[&str]| programs.contains(&command.program.as_str());
        match &self.matches {
            When::Word(programs, words) => is_program(programs) && words.iter().any(|word| command.has(word)),
            When::Verb(programs, verbs) => {
                let is = |arg: &str, verb: &str| {
                    arg == verb || arg.strip_prefix(verb).is_some_and(|rest| rest.starts_with('-'))
                };
                is_program(programs) && command.operands().any(|arg| verbs.iter().any(|verb| is(arg, verb)))
            }
            When::Program(programs) => is_program(programs),
            When::Looked(look) => look(command),
        }
    }
}

const fn entry(name: &'static str, why: &'static str, matches: When) -> Entry {
    Entry { name, why, matches }
}

/// The list.
pub const BUILT_IN: &[Entry] = &[
    entry(
        "terraform apply, destroy",
        "changes or removes real infrastructure",
        When::Word(&["terraform", "tofu", "terragrunt"], &["apply", "destroy", "apply-all", "destroy-all"]),
    ),
    entry(
        "pulumi up, destroy; cdk deploy, destroy",
        "changes or removes real infrastructure",
        When::Word(&["pulumi", "cdk", "cdktf"], &["up", "destroy", "deploy"]),
    ),
    entry(
        "kubectl delete, drain",
        "takes objects of a cluster away, with what they hold",
        When::Word(&["kubectl", "oc"], &["delete", "drain"]),
    ),
    entry("helm uninstall", "takes a release and its objects away", When::Word(&["helm"], &["uninstall", "delete"])),
    entry(
        "aws … delete, terminate, rb, rm",
        "removes resources of an account",
        When::Verb(&["aws"], &["delete", "terminate", "deregister", "rb", "rm", "purge"]),
    ),
    entry(
        "gcloud … delete; az … delete; doctl … delete",
        "removes resources of an account",
        When::Verb(&["gcloud", "az", "doctl", "gsutil", "ibmcloud"], &["delete", "purge", "rm", "rb"]),
    ),
    entry("DROP, TRUNCATE, DELETE without WHERE", "takes data of a database away", When::Looked(destroys_data)),
    entry("dropdb, dropuser", "removes a whole database or its user", When::Program(&["dropdb", "dropuser"])),
    entry("git push --force", "rewrites or removes what others have", When::Looked(forces_a_push)),
    entry("git reset --hard", "throws changes away that nothing else holds", When::Looked(resets_hard)),
    entry("git clean -f", "removes files that git does not know, for good", When::Looked(cleans)),
    entry(
        "rm -r of /, ~, .git or an unset variable",
        "may remove far more than is meant",
        When::Looked(removes_too_much),
    ),
    entry(
        "docker volume rm, prune",
        "removes data of containers",
        When::Looked(|command| {
            matches!(command.program.as_str(), "docker" | "podman")
                && (command.has("volume") && (command.has("rm") || command.has("prune") || command.has("remove"))
                    || command.has("prune") && command.has("--volumes"))
        }),
    ),
    entry("mkfs", "makes a new file system over what is there", When::Looked(makes_file_system)),
    entry("dd of=/dev/…", "writes over a disk", When::Looked(writes_over_a_device)),
    entry("chmod, chown -R of /", "changes who may do what on the whole system", When::Looked(opens_everything)),
    entry(
        "crontab -r",
        "removes all jobs of a user",
        When::Looked(|command| command.program == "crontab" && command.has_option('r', "--remove")),
    ),
    entry("publishing a package", "puts it where everybody can have it, for good", When::Looked(publishes)),
    entry(
        "backfill with --reset-dagruns",
        "runs past jobs again over their results",
        When::Looked(|command| {
            let names_it =
                command.args.iter().any(|arg| arg.contains("backfill")) || command.program.contains("backfill");
            let resets = command.args.iter().any(|arg| arg.starts_with("--reset-dagruns") || arg == "--reset-dag-runs");
            names_it && (resets || command.program.starts_with("spark"))
        }),
    ),
    entry(
        "airflow db reset, dags delete",
        "removes the history of all jobs",
        When::Looked(|command| {
            command.program == "airflow"
                && (command.has("db") && (command.has("reset") || command.has("clean"))
                    || command.has("dags") && command.has("delete"))
        }),
    ),
    entry("a shell that runs decoded text", "hides what it runs", When::Looked(|command| command.is_hidden)),
    entry(
        "a host that is no host name",
        "is read in different ways by different programs",
        When::Looked(|command| hosts(command).iter().any(|named| matches!(named, Named::Odd(_)))),
    ),
];

/// The programs that speak to databases.
const DATABASES: &[&str] = &[
    "psql",
    "mysql",
    "mariadb",
    "sqlite3",
    "sqlite",
    "sqlcmd",
    "clickhouse-client",
    "clickhouse",
    "duckdb",
    "bq",
    "sqlplus",
    "cockroach",
    "snowsql",
    "mongosh",
    "mongo",
    "redis-cli",
    "cqlsh",
    "beeline",
    "trino",
    "spark-sql",
    "hive",
];

fn destroys_data(command: &Command) -> bool {
    if !DATABASES.contains(&command.program.as_str()) {
        return false;
    }
    let said = format!("{} ; {}", command.args.join(" "), command.input.as_deref().unwrap_or_default());
    let without_comments =
        said.lines().map(|line| line.split("--").next().filter(|_| line.contains("-- ")).unwrap_or(line));
    let text = without_comments.collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    text.split(';').any(statement_destroys)
        || ["DROPDATABASE", "DELETEMANY({})", ".DROP()", "FLUSHALL", "FLUSHDB"].iter().any(|word| text.contains(word))
}

/// Whether one statement, in upper case, takes away more than rows that it names.
fn statement_destroys(statement: &str) -> bool {
    let bare = statement.replace(['"', '\'', '(', ')'], " ");
    let words: Vec<&str> = bare.split_whitespace().collect();
    let follows = |verb: &str, nouns: &[&str]| words.windows(2).any(|pair| pair[0] == verb && nouns.contains(&pair[1]));
    let things =
        ["TABLE", "DATABASE", "SCHEMA", "VIEW", "INDEX", "KEYSPACE", "COLLECTION", "USER", "ROLE", "MATERIALIZED"];
    follows("DROP", &things)
        || words.contains(&"TRUNCATE")
        || (follows("DELETE", &["FROM"]) && !words.contains(&"WHERE"))
}

/// The words after git's own options, the verb first.
fn git(command: &Command) -> Option<&[String]> {
    if command.program != "git" {
        return None;
    }
    let args = &command.args;
    let is_value = |at: usize| at > 0 && matches!(args[at - 1].as_str(), "-C" | "-c" | "--git-dir" | "--work-tree");
    let verb = (0..args.len()).find(|&at| !args[at].starts_with('-') && !is_value(at))?;
    Some(&args[verb..])
}

fn forces_a_push(command: &Command) -> bool {
    let Some([verb, args @ ..]) = git(command) else { return false };
    let is_short = |arg: &str| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(['f', 'd']);
    let forces = |arg: &str| {
        arg.starts_with("--force")
            || matches!(arg, "--mirror" | "--delete" | "--prune")
            || is_short(arg)
            || arg.starts_with(['+', ':'])
    };
    verb == "push" && args.iter().any(|arg| forces(arg))
}

fn resets_hard(command: &Command) -> bool {
    matches!(git(command), Some([verb, args @ ..]) if verb == "reset" && args.iter().any(|arg| arg == "--hard"))
}

fn cleans(command: &Command) -> bool {
    let Some([verb, args @ ..]) = git(command) else { return false };
    let has = |short: char, long: &str| {
        args.iter().any(|arg| arg == long || (arg.starts_with('-') && !arg.starts_with("--") && arg.contains(short)))
    };
    verb == "clean" && has('f', "--force") && !has('n', "--dry-run")
}

fn removes_too_much(command: &Command) -> bool {
    let is_recursive = command.has_option('r', "--recursive") || command.has_option('R', "--recursive");
    match command.program.as_str() {
        "rm" if is_recursive => command.operands().any(holds_much),
        "find" => {
            let removes = command.has("-delete")
                || command.args.windows(2).any(|two| two[0].starts_with("-exec") && base(&two[1]) == "rm");
            let roots = command.args.iter().take_while(|arg| !arg.starts_with('-'));
            removes && roots.map(String::as_str).any(|path| holds_much(path) && !matches!(path, "." | "./"))
        }
        _ => false,
    }
}

/// Whether what stands at a path may be more than anybody means to remove: the system, a home, a repository, or who knows.
fn holds_much(path: &str) -> bool {
    for (name, meant) in [("$HOME", "~"), ("${HOME}", "~"), ("$PWD", "."), ("${PWD}", ".")] {
        if let Some(rest) = path.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            return holds_much(&format!("{meant}{rest}"));
        }
    }
    let bare = path.trim_end_matches(['/', '*']);
    let bare = bare.strip_suffix("/.").unwrap_or(bare);
    if path.starts_with('/') && bare.is_empty() {
        return true;
    }
    let is_top = bare.starts_with('/') && bare.matches('/').count() == 1 && bare != "/tmp";
    let is_home = bare.starts_with('~') && !bare.contains('/')
        || (bare.starts_with("/home/") || bare.starts_with("/Users/")) && bare.matches('/').count() == 2;
    let is_here = matches!(path, "." | ".." | "./" | "../" | "./*" | "../*" | "*" | "./." | ".*");
    let is_repository = bare == ".git" || bare.ends_with("/.git");
    let climbs = !bare.is_empty() && bare.split('/').all(|part| part == "..");
    is_top || is_home || is_here || is_repository || climbs || is_unknown(path)
}

/// Whether a path rests on a variable that may be empty. `${NAME:?}` never is.
fn is_unknown(path: &str) -> bool {
    variable(path).is_some_and(|(before, name, after)| {
        let is_said = name.contains(":?") || name.contains(":-") && !name.ends_with(":-");
        // What is named before the variable bounds what can go.
        let is_bounded = before.trim_matches(['/', '.']).len() > 1 && before.contains('/') && !is_system(before);
        (!is_said && !is_bounded) || is_unknown(after)
    })
}

/// Whether a path leads no further than to a directory of the system.
fn is_system(before: &str) -> bool {
    before.starts_with('/') && before.trim_end_matches('/').matches('/').count() <= 1 && !before.starts_with("/tmp/")
}

fn makes_file_system(command: &Command) -> bool {
    command.program.starts_with("mkfs")
        || matches!(command.program.as_str(), "wipefs" | "mkswap" | "sgdisk" | "blkdiscard")
}

fn writes_over_a_device(command: &Command) -> bool {
    let is_device = |path: &str| {
        let harmless = ["null", "zero", "full", "stdout", "stderr", "tty", "shm/", "fd/", "pts/"];
        path.strip_prefix("/dev/").is_some_and(|name| !harmless.iter().any(|known| name.starts_with(known)))
    };
    let by_dd = command.program == "dd" && command.args.iter().filter_map(|arg| arg.strip_prefix("of=")).any(is_device);
    let by_name = matches!(command.program.as_str(), "shred" | "tee" | "cp") && command.operands().any(is_device);
    by_dd || by_name || command.writes.iter().any(|path| is_device(path))
}

fn opens_everything(command: &Command) -> bool {
    let is_recursive = command.has_option('R', "--recursive");
    let is_top = |path: &str| path.starts_with(['/', '~', '$']) && holds_much(path);
    matches!(command.program.as_str(), "chmod" | "chown" | "chgrp")
        && is_recursive
        && command.operands().skip(1).any(is_top)
}

fn publishes(command: &Command) -> bool {
    let verb = command.operands().next().unwrap_or_default();
    match command.program.as_str() {
        "npm" | "yarn" | "pnpm" | "bun" | "lerna" => command.has("publish") || command.has("unpublish"),
        "cargo" => matches!(verb, "publish" | "yank"),
        "twine" => verb == "upload",
        "gem" => matches!(verb, "push" | "yank"),
        "poetry" | "uv" | "hatch" | "flit" | "pdm" => verb == "publish",
        "mvn" | "gradle" | "gradlew" | "mvnw" => {
            command.args.iter().any(|arg| arg == "deploy" || arg.contains("publish"))
        }
        "gh" => verb == "release" && command.has("create"),
        "python" | "python3" => {
            command.args.windows(3).any(|three| three[0] == "-m" && three[1] == "twine" && three[2] == "upload")
        }
        "dotnet" => command.has("push"),
        program => SHELLS.contains(&program) && command.args.iter().any(|arg| base(arg) == "publish.sh"),
    }
}

#[cfg(test)]
mod tests;
