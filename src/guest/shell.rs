//! What shells are told: the start-up file that makes them say where they stand, and the file around each command.
//!
//! A command is a file that the shell reads with `.`, so nothing in it can break the channel: not quotes, not heredocs,
//! not length. The end of a command is told by the prompt and not by a line after the command, so a syntax error,
//! Ctrl-C or `return` is told as well. The nonce stands in a shell variable that is never exported.

use std::path::{Path, PathBuf};

/// Longest piece of a command that is shown to a person in its place.
const SHOWN: usize = 150;

/// How a shell has to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// GNU bash.
    Bash,
    /// dash and whatever else is just POSIX.
    Posix,
    /// busybox: POSIX with a line editor of its own.
    Busybox,
}

/// A shell inside the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shell {
    /// Its path.
    pub(super) path: PathBuf,
    /// How it has to be spoken to.
    pub(super) dialect: Dialect,
}

impl Shell {
    /// The shell at `path`, if there is a program.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let real = path.canonicalize().ok().filter(|real| real.is_file())?;
        let dialect = dialect_of(real.file_name()?.to_str()?).unwrap_or(Dialect::Posix);
        // bash under the name `sh` would be another shell.
        let path = if dialect == Dialect::Bash { real } else { path.to_owned() };
        Some(Self { path, dialect })
    }

    /// The best shell that the directories of `search` (as in `PATH`) and the usual ones have.
    pub(super) fn best(search: &str) -> Option<Self> {
        let dirs: Vec<&str> =
            search.split(':').filter(|dir| dir.starts_with('/')).chain(["/bin", "/usr/bin"]).collect();
        let names = ["bash", "dash", "ash", "sh"];
        names.iter().find_map(|name| dirs.iter().find_map(|dir| Self::at(&Path::new(dir).join(name))))
    }

    /// Program and arguments of an interactive shell that reads `rc` first, and the variable that makes it.
    pub(super) fn interactive(&self, rc: &str) -> (Vec<String>, Option<(String, String)>) {
        let path = self.path.to_string_lossy().into_owned();
        match self.dialect {
            Dialect::Bash => {
                (["--noediting", "--rcfile", rc, "-i"].iter().fold(vec![path], |words, word| with(words, word)), None)
            }
            Dialect::Posix => (vec![path, "-i".into()], Some(("ENV".into(), rc.into()))),
            Dialect::Busybox => {
                let applet = self.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("busybox"));
                let words = if applet { vec![path, "ash".into(), "-i".into()] } else { vec![path, "-i".into()] };
                (words, Some(("ENV".into(), rc.into())))
            }
        }
    }

    /// Program and arguments that run the file at `script` without a terminal.
    pub(super) fn batch(&self, script: &str) -> Vec<String> {
        let path = self.path.to_string_lossy().into_owned();
        let applet = self.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("busybox"));
        if applet { vec![path, "ash".into(), script.into()] } else { vec![path, script.into()] }
    }

    /// The start-up file: the user's own first (`user_rc`), then the marks.
    pub(super) fn rc(&self, nonce: &str, user_rc: Option<&str>) -> String {
        let user = match (user_rc, self.dialect) {
            (None, _) => String::new(),
            (Some(file), _) => format!("if [ -r {0} ]; then . {0}; fi\n", quote(file)),
        };
        format!("{user}{}", self.arm(nonce))
    }

    /// Lines that set the marks in a shell that has none.
    fn arm(&self, nonce: &str) -> String {
        self.arm_with(nonce, 0, "", "")
    }

    /// Lines that set the marks anew in a shell that has lost them while it ran the command of that number. Its next
    /// prompt tells that command's exit, or that it is unknown: another shell in its place knows neither the nonce nor
    /// the number, which are in variables that are never exported.
    pub(super) fn rearm(&self, nonce: &str, seq: u64) -> String {
        let first = format!(
            "__lh_s=$? __lh_k=r\n\
             if [ \"${{__lh_n-}}.${{__lh_q-}}\" = {nonce}.{seq} ]; then __lh_k=; fi\n\
             \\command exec </dev/tty >/dev/tty 2>/dev/tty\n"
        );
        let last = format!("{} \"$__lh_s\"\n", self.own("return"));
        format!("{}{last}", self.arm_with(nonce, seq, "$__lh_k", &first))
    }

    // The end of input is ignored: a command may leave the terminal so that every read without a key looks like it.
    fn arm_with(&self, nonce: &str, seq: u64, flag: &str, first: &str) -> String {
        let bash = match self.dialect {
            Dialect::Bash => format!(
                "\\builtin unalias builtin command . return 2>/dev/null\n\
                 \\builtin trap - DEBUG RETURN ERR\n\
                 \\builtin set +o history\n\
                 \\builtin unset HISTFILE PROMPT_COMMAND\n\
                 PROMPT_COMMAND='{PROMPT_COMMAND}' PS0='' IGNOREEOF=1000\n"
            ),
            Dialect::Posix | Dialect::Busybox => "unset ENV\n".to_owned(),
        };
        format!(
            "{first}{{ \\command set +eux; \\command set -o ignoreeof; }} 2>/dev/null\n\
             {bash}\
             [ \"${{__lh_n-}}\" = {nonce} ] || \\command readonly __lh_n={nonce}\n\
             __lh_q={seq} __lh_a={flag} PS2='> ' PS4='+ '\n\
             __lh_p='{PROMPT}'\n\
             __lh_r() {{ \\command return \"$1\"; }}\n\
             PS1=$__lh_p\n"
        )
    }

    /// A builtin by a name that a command may have taken for a function of its own.
    fn own(&self, builtin: &str) -> String {
        match self.dialect {
            Dialect::Bash => format!("\\builtin {builtin}"),
            // Special builtins come before functions there.
            Dialect::Posix | Dialect::Busybox => format!("\\{builtin}"),
        }
    }

    /// What is typed so that the file at `path` is read.
    pub(super) fn type_in(&self, path: &str) -> String {
        // ^U takes away what a person may have left in the line. busybox' editor takes up to 15 keys for the rest of an
        // escape sequence that it doesn't know, such as a terminal's answer to a program that has ended meanwhile.
        let clear = if self.may_edit() { 16 } else { 1 };
        format!("{} \\. {path}\n", "\x15".repeat(clear))
    }

    /// Whether it may read its lines with an editor: the others are told not to, or have none.
    pub(super) fn may_edit(&self) -> bool {
        self.dialect == Dialect::Busybox
    }

    /// The file around a command: says that it begins, goes to `cwd`, reads the command at `body`. A shell that closed
    /// its input or output has the terminal back before and after it.
    pub(super) fn wrapper(&self, command: &Wrapped<'_>) -> String {
        let shown = quote(&format!("$ {}", title(command.text)));
        let mark = format!("'\\033[A\\r\\033[J%s\\n\\033]133;C;%s;{}\\007' {shown} \"$__lh_n\"", command.seq);
        let begins = match self.dialect {
            // Builtins can be switched off.
            Dialect::Bash => format!("{{ \\builtin printf {mark} || \\command printf {mark}; }}"),
            Dialect::Posix | Dialect::Busybox => format!("\\command printf {mark}"),
        };
        let sane = if command.heal { "\\command stty sane\n" } else { "" };
        let cd = command.cwd.map_or(String::new(), |dir| {
            let cd = if self.dialect == Dialect::Bash { "\\builtin cd" } else { "\\command cd" };
            format!("{cd} -- {} || {} 1\n", quote(dir), self.own("return"))
        });
        let status = match command.last_status {
            0 => String::new(),
            last => format!("case $- in *e*) ;; *) __lh_r {last} ;; esac\n"),
        };
        let prompt_command = match self.dialect {
            Dialect::Bash => format!("PROMPT_COMMAND='{PROMPT_COMMAND}'; "),
            Dialect::Posix | Dialect::Busybox => String::new(),
        };
        format!(
            "{{ __lh_q={seq} __lh_a=\n{sane}\
             {stdout}\n\
             {begins} >/dev/tty; }} 2>/dev/null\n\
             {cd}{status}\
             \\. {body}\n\
             {{ __lh_s=$?; {stdin}; {stdout}; PS1=$__lh_p; {prompt_command}{back} \"$__lh_s\"; }} 2>/dev/null\n",
            back = self.own("return"),
            seq = command.seq,
            stdin = "\\command [ -t 0 ] || \\command exec </dev/tty",
            stdout = "\\command [ -t 1 ] || \\command exec >/dev/tty",
            body = quote(command.body),
        )
    }
}

/// A command that is about to be typed.
#[derive(Debug)]
pub(super) struct Wrapped<'a> {
    /// Its number within the session.
    pub(super) seq: u64,
    /// The file it stands in.
    pub(super) body: &'a str,
    /// Its text, to be shown.
    pub(super) text: &'a [u8],
    /// Where to go before, absolute.
    pub(super) cwd: Option<&'a str>,
    /// What `$?` was at the last prompt.
    pub(super) last_status: i32,
    /// Whether the terminal has to be set right first.
    pub(super) heal: bool,
}

/// How the shell of that name has to be spoken to; `None` if it is not known to be a shell.
pub(super) fn dialect_of(program: &str) -> Option<Dialect> {
    match program {
        "bash" => Some(Dialect::Bash),
        "sh" | "dash" | "ash" => Some(Dialect::Posix),
        name if name.starts_with("busybox") => Some(Dialect::Busybox),
        _ => None,
    }
}

/// What bash does before each prompt: the marks are in the prompt, which must be expanded, and the next command comes
/// from the terminal.
const PROMPT_COMMAND: &str =
    "PS1=$__lh_p; \\builtin shopt -s promptvars; \\builtin [ -t 0 ] || \\builtin exec </dev/tty";

/// The prompt: the end mark (`$?` is expanded as it is shown), what a careless program may have left switched on, and
/// what a person sees.
const PROMPT: &str = "\x1b]133;D;$?;${__lh_n};${__lh_q};${__lh_a}\x07\x1b[?47l\x1b[0m\x1b[?25h${PWD} $ ";

/// The beginning of a command's first line without control characters.
pub(super) fn title(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(&command[..command.len().min(SHOWN * 4)]);
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if shown.len() < text.len() || command.len() > SHOWN * 4 {
        shown.push_str(" …");
    }
    shown
}

/// The text as one word of any shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn with(mut words: Vec<String>, word: &str) -> Vec<String> {
    words.push(word.to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_harmless_line() {
        assert_eq!(title(b"  ls -l\n"), "ls -l");
        assert_eq!(title(b"echo a\x1b]0;x\x07\necho b"), "echo a]0;x …");
        assert_eq!(title(&[b'x'; 1000]), format!("{} …", "x".repeat(SHOWN)));
        assert_eq!(title(b"printf '\xff'"), "printf '\u{fffd}'");
    }

    #[test]
    fn quotes_hold_quotes() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
