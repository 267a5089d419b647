//! What a program that waits for input wants, told from its name, the terminal's modes and what stands on the screen.

use super::screen::screen_of;
use super::{Terminal, TerminalError};
use crate::domain::{InputKind, SessionName};
use crate::guest::{Client, Foreground};

/// Longest piece of a prompt that is told, in characters.
const LONGEST: usize = 200;

/// Most that may stand behind a question for yes or no, in characters: further choices, and what was typed.
const BEHIND_QUESTION: usize = 30;

const EDITORS: [&str; 22] = [
    "vi",
    "vim",
    "nvim",
    "view",
    "vimdiff",
    "ex",
    "nano",
    "rnano",
    "pico",
    "emacs",
    "emacsclient",
    "mg",
    "jed",
    "joe",
    "micro",
    "hx",
    "helix",
    "kak",
    "ne",
    "ed",
    "mcedit",
    "tilde",
];

const PAGERS: [&str; 7] = ["less", "more", "most", "pg", "lv", "bat", "batcat"];

const SHELLS: [&str; 8] = ["bash", "sh", "dash", "ash", "zsh", "fish", "ksh", "busybox"];

/// Programs that go on line by line with a person.
const CLIENTS: [&str; 35] = [
    "python",
    "ipython",
    "bpython",
    "node",
    "deno",
    "bun",
    "psql",
    "mysql",
    "mariadb",
    "sqlite",
    "duckdb",
    "gdb",
    "lldb",
    "irb",
    "ruby",
    "pry",
    "ghci",
    "ghc",
    "iex",
    "erl",
    "beam.smp",
    "lua",
    "luajit",
    "R",
    "julia",
    "php",
    "redis-cli",
    "mongo",
    "mongosh",
    "ftp",
    "sftp",
    "lftp",
    "octave",
    "java",
    "tclsh",
];

/// What an interactive language or client begins a line with; nothing else does.
const CLIENT_PROMPTS: [&str; 12] =
    [">>>", "...", "In [", "(gdb)", "(lldb)", "(Pdb)", "(dlv)", "ipdb>", "sqlite>", "mysql>", "irb(", "MariaDB ["];

/// Programs whose questions are for yes or no even where they do not say so.
const ASKING: [&str; 5] = ["rm", "mv", "cp", "ln", "gzip"];

const SECRETS: [&str; 9] =
    ["password", "passwd", "passphrase", "pass phrase", "passcode", "pin", "verification code", "one-time code", "otp"];

/// A session as a person would see it who looks whether it waits for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What is in the foreground.
    pub foreground: Foreground,
    /// What it wants and what stands where the cursor is, if it waits for input.
    pub input: Option<(InputKind, String)>,
}

impl Terminal {
    /// Looks whether the foreground of a session waits for input, and for what.
    ///
    /// # Errors
    /// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
    pub async fn look(&self, session: &SessionName) -> Result<Look, TerminalError> {
        look(self.guest(), session).await
    }
}

/// Looks whether the foreground of a session waits for input, and for what.
///
/// # Errors
/// [`TerminalError::Guest`], `Refused` with `Unknown` for a session that is not open.
pub(super) async fn look(client: &Client, session: &SessionName) -> Result<Look, TerminalError> {
    let foreground = client.foreground(session).await?;
    if foreground.at_prompt || foreground.waits_for_input == Some(false) {
        return Ok(Look { foreground, input: None });
    }
    let screen = screen_of(client, session).await?;
    let shown = if screen.alternate { screen.lines.len() } else { screen.cursor.1 + 1 };
    let lines = &screen.lines[..shown.min(screen.lines.len())];
    let input = classify(&foreground, lines, screen.alternate);
    Ok(Look { foreground, input })
}

/// What a program that waits for input wants, and what stands where the cursor is; None if nothing waits.
///
/// `last_lines` are the screen's lines down to the one with the cursor. Where the terminal takes whole lines and does
/// not show them, it is a password whatever else it looks like.
pub fn classify(foreground: &Foreground, last_lines: &[String], alternate_screen: bool) -> Option<(InputKind, String)> {
    let mut shown = last_lines.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    let (last, before) = (shown.next().unwrap_or_default(), shown.next().unwrap_or_default());
    let hidden = foreground.lines && !foreground.echo;
    let secret = asks_for_secret(last) || (alternate_screen && last_lines.iter().any(|line| has_secret_field(line)));
    // Where the kernel does not say whether it waits, a question for a password that hides what is typed is believed.
    let waits = foreground.waits_for_input.unwrap_or(hidden && secret);
    if foreground.at_prompt || !waits {
        return None;
    }
    let name = plain_name(&foreground.program);
    let kind = if hidden {
        InputKind::Password
    } else if EDITORS.contains(&name) {
        InputKind::Editor
    } else if PAGERS.contains(&name) {
        InputKind::Pager
    } else if asks_yes_or_no(foreground, last, before) {
        InputKind::YesNo
    } else if secret {
        InputKind::Password
    } else if !foreground.lines && asks_for_page(last) {
        InputKind::Pager
    } else if asks_for_next_line(name, last) {
        InputKind::Repl
    } else {
        InputKind::Other
    };
    Some((kind, excerpt(last)))
}

fn asks_for_next_line(name: &str, last: &str) -> bool {
    // Without blanks, so that `Enter a value >` is none.
    let plain = last.len() <= 60 && !last.contains(' ');
    let client = CLIENTS.contains(&name) && plain && last.ends_with(['>', '#', '$', '%']);
    let shell = SHELLS.contains(&name) && last.ends_with(['$', '#', '%', '>']);
    let database = plain && ["=#", "=>", "-#", "->"].iter().any(|end| last.ends_with(end));
    client || shell || database || CLIENT_PROMPTS.iter().any(|prompt| last.starts_with(prompt))
}

fn asks_for_page(last: &str) -> bool {
    last == ":" || last.ends_with("(END)") || last.contains("--More--") || last.starts_with("Manual page ")
}

fn asks_for_secret(line: &str) -> bool {
    let line = line.trim_end_matches(['*', '•', ' ']).to_lowercase();
    let Some(question) = line.strip_suffix([':', '>']) else { return false };
    SECRETS.iter().any(|word| {
        let whole = |(at, _): (usize, &str)| {
            let (before, after) = (&question[..at], &question[at + word.len()..]);
            !before.ends_with(char::is_alphanumeric)
                && !after.starts_with(char::is_alphanumeric)
                && !after.contains('?')
        };
        question.match_indices(word).any(whole)
    })
}

/// Whether a line of a full-screen form has a field for a password.
fn has_secret_field(line: &str) -> bool {
    let line = line.to_lowercase();
    ["password:", "passphrase:", "passwd:"].iter().any(|field| line.contains(field))
}

fn asks_yes_or_no(foreground: &Foreground, last: &str, before: &str) -> bool {
    if ends_in_yes_or_no(last) || (ASKING.contains(&foreground.program.as_str()) && last.ends_with('?')) {
        return true;
    }
    // A question that was broken at the terminal's edge.
    let count = |brackets: [char; 2]| before.matches(brackets).count();
    let open = count(['(', '[']) > count([')', ']']);
    let broken = foreground.lines && open && last.chars().count() < BEHIND_QUESTION;
    broken && ends_in_yes_or_no(&format!("{before}{last}"))
}

/// Whether a line ends in such as `[Y/n]`, `(yes/no/[fingerprint])?`, `([y]/n)?`, `(yes)`, `yes or no`.
fn ends_in_yes_or_no(line: &str) -> bool {
    let line = line.to_lowercase();
    let told = line.trim_end_matches(['?', ':', ' ']);
    if told.ends_with("(yes)") || told.ends_with("(no)") {
        return true;
    }
    [("/", true), ("|", true), (" or ", false)].iter().any(|(between, brackets)| {
        line.match_indices(between).any(|(at, _)| {
            let (left, right) = (&line[..at], &line[at + between.len()..]);
            let (left, right) = match brackets {
                true => (left.trim_end_matches([']', ')', ' ']), right.trim_start_matches(['[', '(', ' '])),
                false => (left, right),
            };
            let left = &left[left.trim_end_matches(char::is_alphanumeric).len()..];
            let rest = right.trim_start_matches(char::is_alphanumeric);
            let right = &right[..right.len() - rest.len()];
            let answers = |yes: &str, no: &str| matches!(yes, "y" | "yes") && matches!(no, "n" | "no");
            (answers(left, right) || answers(right, left)) && rest.chars().count() <= BEHIND_QUESTION
        })
    })
}

/// The name without a version: `python3.11` is `python`, `vim.basic` is `vim`.
fn plain_name(program: &str) -> &str {
    let known = |name: &str| EDITORS.contains(&name) || CLIENTS.contains(&name);
    if known(program) {
        return program;
    }
    let first = program.split('.').next().unwrap_or(program);
    let name = first.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
    if known(name) { name } else { program }
}

fn excerpt(line: &str) -> String {
    let count = line.chars().count();
    line.chars().skip(count.saturating_sub(LONGEST)).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKED: (bool, bool) = (true, true);
    const HIDDEN: (bool, bool) = (false, true);
    const RAW: (bool, bool) = (false, false);

    fn seen(program: &str, (echo, lines): (bool, bool)) -> Foreground {
        Foreground {
            group: 9,
            program: program.into(),
            waits_for_input: Some(true),
            echo,
            lines,
            ..Foreground::default()
        }
    }

    fn kind(program: &str, modes: (bool, bool), screen: &str) -> Option<InputKind> {
        let lines: Vec<String> = screen.lines().map(str::to_owned).collect();
        classify(&seen(program, modes), &lines, false).map(|(kind, _)| kind)
    }

    #[test]
    fn questions_are_told_apart() {
        use InputKind::{Editor, Other, Pager, Password, Repl, YesNo};
        let table = [
            (
                "apt-get",
                COOKED,
                "After this operation, 3 MB of space will be used.\nDo you want to continue? [Y/n]",
                YesNo,
            ),
            ("apt-get", COOKED, "Do you want to continue? [Y/n] y", YesNo),
            ("ssh", COOKED, "Are you sure you want to continue connecting (yes/no/[fingerprint])?", YesNo),
            ("ssh", COOKED, "Are you sure you want to continue connecting (yes/no/[finge\nrprint])?", YesNo),
            ("ssh", COOKED, "Please type 'yes', 'no' or the fingerprint:", Other),
            ("conda", COOKED, "Proceed ([y]/n)?", YesNo),
            ("npm", RAW, "Is this OK? (yes)", YesNo),
            ("fsck", RAW, "Fix<y>?", Other),
            ("rm", COOKED, "rm: remove regular file 'a'?", YesNo),
            ("script", COOKED, "Reset the password? [y/N]:", YesNo),
            ("script", COOKED, "Keep it (N/y)?", YesNo),
            ("script", COOKED, "path/no such directory, name:", Other),
            ("dpkg", COOKED, "*** conf (Y/I/N/O/D/Z) [default=N] ?", Other),
            ("sudo", HIDDEN, "[sudo] password for user:", Password),
            ("sudo", RAW, "[sudo] password for user: ****", Password),
            ("ssh", HIDDEN, "Enter passphrase for key '/home/u/.ssh/id':", Password),
            ("program", HIDDEN, "Say friend and enter", Password),
            ("program", HIDDEN, "Continue? [y/n]", Password),
            ("gpg-card", COOKED, "PIN:", Password),
            ("program", COOKED, "spinning:", Other),
            ("less", RAW, ":", Pager),
            ("git", RAW, "(END)", Pager),
            ("program", RAW, "--More--(12%)", Pager),
            ("vim.basic", RAW, "~", Editor),
            ("nano", RAW, "^X Exit", Editor),
            ("python3.11", RAW, ">>>", Repl),
            ("python3", RAW, ">>> print(1", Repl),
            ("python3", COOKED, "name:", Other),
            ("python3", COOKED, "Enter a value >", Other),
            ("python3", RAW, "(Pdb) n", Repl),
            ("ipython3", RAW, "In [3]:", Repl),
            ("node", RAW, ">", Repl),
            ("psql", RAW, "postgres=#", Repl),
            ("sqlite3", COOKED, "sqlite>", Repl),
            ("gdb", RAW, "(gdb)", Repl),
            ("redis-cli", RAW, "127.0.0.1:6379>", Repl),
            ("bash", COOKED, "root@box:/# ", Repl),
            ("bash", COOKED, "Your name:", Other),
            ("cat", COOKED, "", Other),
            ("cat", COOKED, "Continue? [y/N] y\n$ cat", Other),
        ];
        for (program, modes, screen, expected) in table {
            assert_eq!(kind(program, modes, screen), Some(expected), "{program}: {screen}");
        }
    }

    #[test]
    fn nothing_is_wanted_where_nothing_waits() {
        let lines = ["Continue? [y/n]".to_owned()];
        let busy = Foreground { waits_for_input: Some(false), ..seen("apt", COOKED) };
        assert_eq!(classify(&busy, &lines, false), None);
        let unknown = Foreground { waits_for_input: None, ..seen("apt", COOKED) };
        assert_eq!(classify(&unknown, &lines, false), None);
        let at_prompt = Foreground { at_prompt: true, ..seen("bash", COOKED) };
        assert_eq!(classify(&at_prompt, &lines, false), None);
    }

    #[test]
    fn a_hidden_question_for_a_password_is_believed_without_the_kernel() {
        let unknown = Foreground { waits_for_input: None, ..seen("sudo", HIDDEN) };
        let asked = |line: &str| classify(&unknown, &[line.to_owned()], false).map(|(kind, _)| kind);
        assert_eq!(asked("[sudo] password for user:"), Some(InputKind::Password));
        assert_eq!(asked("working"), None);
    }

    #[test]
    fn a_box_that_asks_for_a_passphrase_on_a_full_screen_is_a_password() {
        let lines = ["│ Please unlock the key │", "│ Passphrase: ____      │", "│  <OK>   <Cancel>      │"];
        let lines = lines.map(str::to_owned);
        let (kind, prompt) = classify(&seen("pinentry-curses", RAW), &lines, true).expect("it waits");
        assert_eq!((kind, prompt.as_str()), (InputKind::Password, lines[2].as_str()));
    }

    #[test]
    fn an_editor_that_shows_a_password_is_an_editor() {
        let lines = ["user: me", "password: x", "-- INSERT --"].map(str::to_owned);
        assert_eq!(classify(&seen("vim", RAW), &lines, true).map(|(kind, _)| kind), Some(InputKind::Editor));
    }

    #[test]
    fn a_prompt_is_told_by_its_end_and_without_control_characters() {
        let lines = [format!("{}\u{1b}[31mend", "x".repeat(1000))];
        let (_, prompt) = classify(&seen("cat", COOKED), &lines, false).expect("it waits");
        assert!(prompt.chars().count() <= LONGEST && prompt.ends_with("[31mend") && !prompt.contains('\u{1b}'));
    }
}
