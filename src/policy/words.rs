//! A shell command taken apart into the simple commands that it may run. No shell: what can't be told is left as it is,
//! and whoever judges it must not take it for harmless.

/// A simple command: its words without quotes, and whether it writes to a file by redirection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    /// The words.
    pub(super) words: Vec<String>,
    /// Whether its output goes to a file.
    pub(super) writes: bool,
}

/// The simple commands of `text`, those in substitutions and subshells included.
pub(super) fn simple_commands(text: &str) -> Vec<Simple> {
    let mut found = Vec::new();
    let mut reading = Reading::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, reading.quote) {
            ('\\', None | Some('"')) => reading.extend(chars.next()),
            ('\'', None) | ('"', None) => reading.open(c),
            (c, Some(quote)) if c == quote => reading.quote = None,
            // A substitution runs within double quotes, too: it is looked at as a command of its own.
            ('`', None | Some('"')) => {
                found.extend(reading.end_command());
                match reading.ticks.take() {
                    Some(before) => reading.quote = before,
                    None => reading.ticks = Some(reading.quote.take()),
                }
            }
            ('$', None | Some('"')) if chars.peek() == Some(&'(') => {
                chars.next();
                found.extend(reading.end_command());
                let before = reading.quote.take();
                reading.nested.push(before);
            }
            (c, Some(_)) => reading.extend(Some(c)),
            ('#', None) if reading.word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            ('(', None) => {
                found.extend(reading.end_command());
                reading.nested.push(None);
            }
            (')', None) => {
                found.extend(reading.end_command());
                reading.quote = reading.nested.pop().flatten();
            }
            (';' | '|' | '\n', None) => found.extend(reading.end_command()),
            ('&', None) if chars.peek() == Some(&'>') || reading.is_redirecting => {
                reading.is_redirecting = false;
                reading.is_number_next = chars.peek() != Some(&'>');
            }
            ('&', None) => found.extend(reading.end_command()),
            ('>', None) => {
                reading.drop_number();
                reading.end_word();
                while chars.next_if(|c| matches!(c, '>' | '|')).is_some() {}
                reading.is_redirecting = true;
            }
            ('<', None) => {
                reading.drop_number();
                reading.end_word();
            }
            (c, None) if c.is_whitespace() => reading.end_word(),
            (c, None) => reading.extend(Some(c)),
        }
    }
    found.extend(reading.end_command());
    found
}

#[derive(Default)]
struct Reading {
    command: Simple,
    word: Option<String>,
    quote: Option<char>,
    /// The quotes around the parentheses that are open.
    nested: Vec<Option<char>>,
    /// The quote around the backquotes, while they are open.
    ticks: Option<Option<char>>,
    /// The next word is where the output goes.
    is_redirecting: bool,
    /// The next word is a descriptor.
    is_number_next: bool,
}

impl Reading {
    fn open(&mut self, quote: char) {
        self.quote = Some(quote);
        self.word.get_or_insert_default();
    }

    fn extend(&mut self, c: Option<char>) {
        self.word.get_or_insert_default().extend(c);
    }

    /// `2>` is a descriptor and no word.
    fn drop_number(&mut self) {
        self.word.take_if(|word| word.len() == 1 && word.starts_with(|c: char| c.is_ascii_digit()));
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if std::mem::take(&mut self.is_number_next) {
            return;
        }
        if std::mem::take(&mut self.is_redirecting) {
            self.command.writes |= !matches!(word.as_str(), "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty");
            return;
        }
        self.command.words.push(word);
    }

    fn end_command(&mut self) -> Option<Simple> {
        self.end_word();
        self.is_redirecting = false;
        let command = std::mem::take(&mut self.command);
        (!command.words.is_empty() || command.writes).then_some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        simple_commands(text).into_iter().map(|command| command.words.join(" ")).collect()
    }

    #[test]
    fn commands_are_told_apart_as_a_shell_would() {
        assert_eq!(words("a 'b; c' && d | e\nf # g; h"), ["a b; c", "d", "e", "f"]);
        assert_eq!(words("echo \"$(rm -rf x)\" `date`"), ["echo ", "rm -rf x", "date"]);
        assert_eq!(words("(cd a; ls) & wait"), ["cd a", "ls", "wait"]);
    }

    #[test]
    fn redirections_are_no_words_and_those_to_files_are_told() {
        let writes = |text: &str| simple_commands(text).iter().any(|command| command.writes);
        assert!(writes("echo x >> f") && writes("a >f") && writes("a &> f") && writes("a 2>err"));
        assert!(!writes("a 2>&1") && !writes("a >/dev/null 2>&1") && !writes("a < f") && !writes("a &>/dev/null"));
        assert_eq!(words("a 2>&1 b"), ["a b"]);
    }
}
