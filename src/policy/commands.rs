//! The commands that a text comes to, as far as can be seen: through prefixes such as `sudo`, through shells that are
//! given a text, through variables that the same text sets.

use std::collections::BTreeMap;

use super::words::{Simple, simple_commands};

/// How deep texts that are run may lie within each other.
const DEEPEST: usize = 8;
/// So many commands are looked at; a text with more is judged as one that can't be seen through.
const MOST: usize = 4_000;
/// Bytes of what a variable stands for, at most: a text may double it with every line.
const LONGEST_VALUE: usize = 4 << 10;

/// The shells.
pub(super) const SHELLS: [&str; 9] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox-sh"];

/// A command that may be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// All of its words, with what stands before the program.
    pub(super) words: Vec<String>,
    /// The program's name, without its directory.
    pub(super) program: String,
    /// The program as it is called.
    pub(super) called: String,
    /// What it is given.
    pub(super) args: Vec<String>,
    /// The files that its output goes to.
    pub(super) writes: Vec<String>,
    /// The files that its input comes from.
    pub(super) reads: Vec<String>,
    /// What it is given to read, as far as the text tells.
    pub(super) input: Option<String>,
    /// Whether what it runs is made by another program, so that nobody sees it.
    pub(super) is_hidden: bool,
}

impl Command {
    /// The arguments that are no options.
    pub(super) fn operands(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-'))
    }

    /// Whether it is given this word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.args.iter().any(|arg| arg == word)
    }

    /// Whether it is given this option: the long one, or the short one, alone or among others.
    pub(super) fn has_option(&self, short: char, long: &str) -> bool {
        let is_among = |arg: &str| arg.starts_with('-') && !arg.starts_with("--") && arg[1..].contains(short);
        self.args.iter().take_while(|arg| *arg != "--").any(|arg| arg == long || is_among(arg))
    }

    /// Its words as they were written.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// The commands of a text.
pub(super) fn commands(text: &str) -> Vec<Command> {
    let mut finder = Finder::default();
    finder.text(text, 0);
    finder.found
}

#[derive(Default)]
struct Finder {
    found: Vec<Command>,
    /// What the variables stand for that the text sets.
    known: BTreeMap<String, Vec<String>>,
}

impl Finder {
    fn text(&mut self, text: &str, depth: usize) {
        let all = simple_commands(text);
        for (at, simple) in all.iter().enumerate() {
            if self.found.len() >= MOST {
                return self.give_up();
            }
            let last = at.checked_sub(1).map(|at| &all[at]);
            if last.is_some_and(|last| last.words.first().is_some_and(|word| word == "mktemp")) {
                self.take_temporary(simple);
            }
            self.simple(simple, last.filter(|_| simple.is_piped), depth);
        }
    }

    /// There is more than is looked at.
    fn give_up(&mut self) {
        if !self.found.last().is_some_and(|last| last.is_hidden) {
            self.found.push(Command { is_hidden: true, ..Command::default() });
        }
    }

    /// `X=$(mktemp -d)`: what such a variable stands for is known well enough.
    fn take_temporary(&mut self, simple: &Simple) {
        if let [word] = &simple.words[..]
            && let Some((name, "$()")) = assignment(word)
        {
            self.known.insert(name.to_owned(), vec!["/tmp/temporary".to_owned()]);
        }
    }

    fn simple(&mut self, simple: &Simple, before: Option<&Simple>, depth: usize) {
        let words = self.resolved(&simple.words);
        let Some(words) = self.without_keywords(words) else { return };
        let printed = before.and_then(|before| self.printed(before));
        let input = simple.input.clone().or(printed.clone());
        let (writes, reads) = (self.resolved(&simple.writes), self.resolved(&simple.reads));
        let mut rest = &words[..];
        while let Some((name, value)) = rest.first().and_then(|word| assignment(word)) {
            if rest.len() == 1 && !value.contains("$()") {
                self.learn(name, vec![value.to_owned()]);
            }
            rest = &rest[1..];
        }
        let command = Command { words: words.clone(), writes, reads, input, ..Command::default() };
        let is_decoded = before.is_some_and(decodes);
        self.program(rest, command, printed.as_deref(), is_decoded, depth);
    }

    /// Finds the program among `words`, and what it runs in its turn.
    fn program(
        &mut self,
        words: &[String],
        mut command: Command,
        printed: Option<&str>,
        is_decoded: bool,
        depth: usize,
    ) {
        let mut words = words.to_vec();
        while let Some((first, rest)) = words.split_first() {
            let name = base(first);
            let Some(rest) = after_prefix(name, rest) else { break };
            let more = printed.into_iter().filter(|_| name == "xargs").flat_map(str::split_whitespace);
            words = rest.iter().cloned().chain(more.map(str::to_owned)).collect();
            while words.first().is_some_and(|word| assignment(word).is_some()) {
                words.remove(0);
            }
        }
        if let Some((first, rest)) = words.split_first() {
            command.called.clone_from(first);
            command.program = base(first).to_owned();
            command.args = rest.to_vec();
        }
        let scripts = self.scripts(&command);
        command.is_hidden = is_decoded && SHELLS.contains(&command.program.as_str());
        self.found.push(command);
        for script in scripts {
            match depth < DEEPEST {
                true => self.text(&script, depth + 1),
                false => self.give_up(),
            }
        }
    }

    /// The texts that a command runs.
    fn scripts(&self, command: &Command) -> Vec<String> {
        let args = &command.args;
        let after = |option: &str| {
            let at = args.iter().position(|arg| arg == option)?;
            args.get(at + 1).cloned()
        };
        match command.program.as_str() {
            program if SHELLS.contains(&program) => {
                let by_option = |arg: &String| arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with('c');
                let given = args.iter().position(by_option).and_then(|at| args.get(at + 1)).cloned();
                given.or_else(|| command.input.clone()).into_iter().collect()
            }
            "eval" | "trap" | "." | "source" => match command.program.as_str() {
                "eval" => vec![args.join(" ")],
                "trap" => args.first().cloned().into_iter().collect(),
                _ => Vec::new(),
            },
            "su" | "runuser" | "script" | "flock" => after("-c").or_else(|| after("--command")).into_iter().collect(),
            "alias" => args.iter().filter_map(|arg| Some(arg.split_once('=')?.1.to_owned())).collect(),
            // The first word that is no option, or an option's number.
            "watch" | "parallel" => {
                let is_own = |arg: &&String| arg.starts_with('-') || arg.parse::<f64>().is_ok();
                vec![args.iter().skip_while(is_own).cloned().collect::<Vec<_>>().join(" ")]
            }
            "env" => after("-S").or_else(|| after("--split-string")).into_iter().collect(),
            "ssh" => {
                let rest = &args[values_of("ssh", args)..];
                rest.get(1..).filter(|rest| !rest.is_empty()).map(|rest| rest.join(" ")).into_iter().collect()
            }
            "find" => executed(args),
            _ => Vec::new(),
        }
    }

    /// What a command prints, where that can be told.
    fn printed(&self, simple: &Simple) -> Option<String> {
        let words = self.resolved(&simple.words);
        let (first, rest) = words.split_first()?;
        match base(first) {
            "echo" | "printf" => {
                let options =
                    rest.iter().take_while(|word| matches!(word.as_str(), "-e" | "-n" | "-en" | "-ne" | "--"));
                Some(rest[options.count()..].join(" ").replace("\\n", "\n"))
            }
            "cat" | "tee" => simple.input.clone(),
            _ => None,
        }
    }

    /// The words with what is known in the place of variables, and braces taken apart.
    fn resolved(&self, words: &[String]) -> Vec<String> {
        let one = |word: &String| -> Vec<String> {
            let braces =
                word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|rest| rest.contains(','));
            if let Some(inside) = braces {
                return inside.split(',').map(str::to_owned).collect();
            }
            let Some((before, name, after)) = variable(word) else { return vec![word.clone()] };
            let Some(values) = self.known.get(name) else { return vec![word.clone()] };
            let whole = before.is_empty() && after.is_empty();
            let split = values.iter().flat_map(|value| match whole {
                true => value.split_whitespace().map(str::to_owned).collect(),
                false => vec![self.resolved_once(&format!("{before}{value}{after}"))],
            });
            split.collect()
        };
        words.iter().flat_map(one).collect()
    }

    /// A word in which a variable was replaced may hold another one.
    fn resolved_once(&self, word: &str) -> String {
        match variable(word) {
            Some((before, name, after)) => match self.known.get(name).and_then(|values| values.first()) {
                Some(value) => format!("{before}{value}{after}"),
                None => word.to_owned(),
            },
            None => word.to_owned(),
        }
    }

    /// What a variable stands for from here on.
    fn learn(&mut self, name: &str, values: Vec<String>) {
        match values.iter().map(|value| value.len() + 1).sum::<usize>() > LONGEST_VALUE {
            true => self.known.remove(name),
            false => self.known.insert(name.to_owned(), values),
        };
    }

    /// What follows the words of the shell's own language; None where nothing does.
    fn without_keywords(&mut self, mut words: Vec<String>) -> Option<Vec<String>> {
        loop {
            match words.first().map(String::as_str) {
                Some("{" | "}" | "then" | "do" | "else" | "elif" | "if" | "while" | "until" | "!" | "coproc") => {
                    words.remove(0);
                }
                Some("function") => drop(words.drain(..2.min(words.len()))),
                Some("for" | "select") => {
                    let values = words.split_off(3.min(words.len()));
                    if let Some(name) = words.get(1) {
                        self.learn(name, values);
                    }
                    return None;
                }
                Some("case") => return None,
                Some("done" | "fi" | "esac") => words.truncate(0),
                Some("[[") => {
                    words.truncate(1);
                    return Some(words);
                }
                Some("export" | "local" | "declare" | "readonly" | "typeset") => {
                    let set = words.iter().skip(1).filter_map(|word| assignment(word));
                    set.for_each(|(name, value)| self.learn(name, vec![value.to_owned()]));
                    return Some(words);
                }
                Some(_) | None => return Some(words),
            }
        }
    }
}

/// The name without its directories.
pub(super) fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// `NAME=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let is_name = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some((name, value))
}

/// The first variable of a word, with what stands before and after it.
pub(super) fn variable(word: &str) -> Option<(&str, &str, &str)> {
    let at = word.find('$')?;
    let (before, rest) = (&word[..at], &word[at + 1..]);
    if let Some(inside) = rest.strip_prefix('{') {
        let end = inside.find('}')?;
        return Some((before, &inside[..end], &inside[end + 1..]));
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some((before, &rest[..end], &rest[end..]))
}

/// Programs that run what follows them, with those of their options that take a value, and how many words of their own
/// come before the program.
const PREFIXES: &[(&str, &[&str], usize)] = &[
    ("builtin", &[], 0),
    ("busybox", &[], 0),
    ("chroot", &["--userspec", "--groups"], 1),
    ("chrt", &[], 1),
    ("command", &[], 0),
    ("doas", &["-u", "-C"], 0),
    ("env", &["-u", "-C", "--unset", "--chdir"], 0),
    ("exec", &["-a"], 0),
    ("firejail", &[], 0),
    ("flock", &["-w", "-E", "--timeout"], 1),
    ("ionice", &["-c", "-n", "-p"], 0),
    ("nice", &["-n"], 0),
    ("nohup", &[], 0),
    ("nsenter", &["-t"], 0),
    ("numactl", &[], 0),
    ("pkexec", &["--user"], 0),
    ("proxychains", &["-f"], 0),
    ("setarch", &[], 1),
    ("setpriv", &[], 0),
    ("setsid", &[], 0),
    ("stdbuf", &["-i", "-o", "-e"], 0),
    ("strace", &["-e", "-o", "-p", "-s"], 0),
    ("sudo", &["-u", "-g", "-h", "-p", "-C", "-r", "-t", "-U", "-D", "-R", "-T"], 0),
    ("systemd-run", &["-p", "-u", "--unit"], 0),
    ("taskset", &[], 1),
    ("time", &["-f", "-o"], 0),
    ("timeout", &["-s", "-k", "--signal", "--kill-after"], 1),
    ("toybox", &[], 0),
    ("unshare", &[], 0),
    ("xargs", &["-I", "-n", "-P", "-L", "-d", "-a", "-E", "-s"], 0),
];

/// The options of `ssh` that take a value.
const SSH_VALUES: &[&str] = &[
    "-B", "-b", "-c", "-D", "-E", "-e", "-F", "-I", "-i", "-J", "-L", "-l", "-m", "-O", "-o", "-p", "-Q", "-R", "-S",
    "-W", "-w",
];

/// What a program that runs others runs; None for any other program, and where it runs nothing.
fn after_prefix<'w>(name: &str, rest: &'w [String]) -> Option<&'w [String]> {
    let is_loader = name.starts_with("ld-linux") || name.starts_with("ld-musl");
    if !is_loader && !PREFIXES.iter().any(|(prefix, ..)| *prefix == name) {
        return None;
    }
    let runs_a_text = |word: &String| match name {
        "env" => word.starts_with("-S") || word.starts_with("--split-string"),
        "flock" => word == "-c",
        _ => false,
    };
    let rest = &rest[values_of(name, rest)..];
    (!rest.is_empty() && !rest.iter().take(1).any(runs_a_text)).then_some(rest)
}

/// How many of the words are the options of `name`, their values, and what else comes before a program.
fn values_of(name: &str, words: &[String]) -> usize {
    let found = PREFIXES.iter().find(|(prefix, ..)| *prefix == name);
    let (values, own) = match (name, found) {
        ("ssh", _) => (SSH_VALUES, 0),
        (_, Some((_, values, own))) => (*values, *own),
        (_, None) => (&[][..], 0),
    };
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        if matches!((name, word.as_str()), ("env", "-S") | ("flock", "-c")) {
            return at;
        }
        at += if values.contains(&word.as_str()) { 2 } else { 1 };
        if word == "--" {
            break;
        }
    }
    let assigned = words.iter().skip(at).take_while(|word| assignment(word).is_some()).count();
    (at + assigned + own).min(words.len())
}

/// What `find` runs for each file: the file's name is not known.
fn executed(args: &[String]) -> Vec<String> {
    let is_exec = |arg: &&String| matches!(arg.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir");
    let starts = args.iter().enumerate().filter(|(_, arg)| is_exec(arg)).map(|(at, _)| at + 1);
    let quoted = |word: &String| match word.as_str() {
        "{}" => "found".to_owned(),
        word => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let one = |from: usize| {
        let words = args[from..].iter().take_while(|word| !matches!(word.as_str(), ";" | "+"));
        words.map(quoted).collect::<Vec<_>>().join(" ")
    };
    starts.map(one).collect()
}

/// Whether what a command prints was made unreadable before.
fn decodes(simple: &Simple) -> bool {
    let mut words = simple.words.iter().map(String::as_str);
    let has = |wanted: &[&str]| simple.words.iter().any(|word| wanted.contains(&word.as_str()));
    match words.next().map(base) {
        Some("base64" | "base32" | "basenc") => has(&["-d", "-D", "--decode", "-di"]),
        Some("xxd") => has(&["-r", "-rp", "-p"]),
        Some("openssl") => has(&["-d", "base64", "enc"]),
        Some("rev" | "uudecode" | "gpg") => true,
        Some("tr") => simple.words.len() > 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let said = |command: Command| {
            let args = command.args.join(" ");
            format!("{}{} {args}", command.program, if command.is_hidden { "?" } else { "" }).trim().to_owned()
        };
        commands(text).into_iter().map(said).collect()
    }

    #[test]
    fn what_runs_in_the_end_is_found_behind_what_runs_it() {
        for text in [
            "rm -r x",
            "/bin/rm -r x",
            "/proc/self/root/usr/bin/rm -r x",
            "sudo -u bob rm -r x",
            "sudo -n -- rm -r x",
            "A=1 B=2 env -u C D=3 rm -r x",
            "timeout -k 5 10m nice -n 5 rm -r x",
            "nohup setsid stdbuf -o L rm -r x",
            "busybox rm -r x",
            "/lib64/ld-linux-x86-64.so.2 /bin/rm -r x",
            "if true; then rm -r x; fi",
            "while true; do rm -r x; done",
            "f() { rm -r x; }; f",
            "function f { rm -r x; }",
            "! rm -r x",
            "echo x | xargs -n 1 rm -r",
            "C=rm; $C -r x",
            "C='rm -r'; $C x",
            "export D=x; rm -r \"$D\"",
            "{rm,-r,x}",
            "sh -c 'rm -r x'",
            "bash -ec \"sudo sh -c 'rm -r x'\"",
            "eval rm -r x",
            "env -S 'rm -r x'",
            "su - bob -c 'rm -r x'",
            "echo rm -r x | sh",
            "sh <<E\nrm -r x\nE",
            "cat <<'E' | sudo bash -s\nrm -r x\nE",
            "sh <<< 'rm -r x'",
            "alias y='rm -r x'",
            "ssh -p 22 host rm -r x",
            "watch -n5 rm -r x",
            "trap 'rm -r x' EXIT",
            "diff <(rm -r x) y",
        ] {
            assert!(found(text).iter().any(|one| one == "rm -r x"), "{text}: {:?}", found(text));
        }
        assert!(found("find . -name a -exec rm -r {} +").contains(&"rm -r found".to_owned()));
        assert!(found("for d in a b; do rm -r $d; done").contains(&"rm -r a b".to_owned()));
    }

    #[test]
    fn text_that_is_only_text_is_no_command() {
        for text in ["echo 'rm -r x'", "cat > s.sh <<'E'\nrm -r x\nE", "git commit -m 'rm -r x'", "# rm -r x"] {
            assert!(!found(text).iter().any(|one| one.starts_with("rm")), "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn what_was_decoded_and_run_is_told_as_hidden() {
        for text in ["echo cm0= | base64 -d | sh", "base64 --decode f | sudo bash", "xxd -r -p f | sh"] {
            assert!(found(text).iter().any(|one| one.contains('?')), "{text}: {:?}", found(text));
        }
        assert!(!found("base64 -d f | tar x").iter().any(|one| one.contains('?')));
    }

    #[test]
    fn texts_within_texts_come_to_an_end() {
        let mut text = "true".to_owned();
        for _ in 0..20 {
            text = format!("eval {text}");
        }
        assert!(commands(&text).len() < 20);
        let many = "a;".repeat(MOST * 2);
        assert!(commands(&many).last().is_some_and(|last| last.is_hidden));
        commands(&"X=$X$X;".repeat(200));
    }
}
