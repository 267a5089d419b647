//! A shell text taken apart into the simple commands that it may run. No shell: nothing is run or looked up, and whoever
//! judges what comes out must not take what can't be told for harmless.

use std::iter::Peekable;
use std::str::Chars;

/// How deep substitutions may lie within each other; what lies deeper is taken for text.
const DEEPEST: usize = 32;

/// A simple command: its words without quotes, what it reads and where it writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    /// The words. What a variable stands for is not known: `$NAME` and `${…}` stay, a substitution is `$()`.
    pub(super) words: Vec<String>,
    /// The files to which its output goes.
    pub(super) writes: Vec<String>,
    /// The files from which its input comes.
    pub(super) reads: Vec<String>,
    /// What it is given to read by the text itself.
    pub(super) input: Option<String>,
    /// Whether it reads what the command before it prints.
    pub(super) is_piped: bool,
}

/// The simple commands of `text`, those in substitutions and subshells included: these before the command they belong to.
pub(super) fn simple_commands(text: &str) -> Vec<Simple> {
    let mut scanner = Scanner::of(text, 0);
    while scanner.chars.peek().is_some() {
        scanner.list(None);
    }
    scanner.done()
}

/// Reads a text once from its beginning to its end.
struct Scanner<'a> {
    chars: Peekable<Chars<'a>>,
    depth: usize,
    found: Vec<(Simple, Option<usize>)>,
    /// The here-documents whose text comes after the end of this line.
    pending: Vec<HereDocument>,
    /// Their texts, in order.
    bodies: Vec<String>,
}

struct HereDocument {
    end: String,
    is_indented: bool,
    is_quoted: bool,
}

/// What the next word is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Word,
    Writes,
    Reads,
    /// A descriptor, or a file that is written.
    Copies,
    HereString,
    HereDocument {
        is_indented: bool,
    },
}

#[derive(Default)]
struct Reading {
    command: Simple,
    word: Option<String>,
    is_quoted: bool,
    next: Next,
    document: Option<usize>,
}

impl Reading {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn push_str(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    /// `2>` is a descriptor and no word.
    fn drop_number(&mut self) {
        self.word.take_if(|word| word.len() == 1 && word.starts_with(|c: char| c.is_ascii_digit()));
    }
}

impl<'a> Scanner<'a> {
    fn of(text: &'a str, depth: usize) -> Self {
        Self { chars: text.chars().peekable(), depth, found: Vec::new(), pending: Vec::new(), bodies: Vec::new() }
    }

    fn done(self) -> Vec<Simple> {
        let bodies = self.bodies;
        let whole = |(simple, document): (Simple, Option<usize>)| Simple {
            input: document.and_then(|at| bodies.get(at).cloned()).or(simple.input),
            ..simple
        };
        self.found.into_iter().map(whole).collect()
    }

    /// Reads commands up to `end`, or to the end of the text.
    fn list(&mut self, end: Option<char>) {
        let mut reading = Reading::default();
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == end => break,
                '\\' => {
                    if let Some(c) = self.chars.next().filter(|c| *c != '\n') {
                        reading.is_quoted = true;
                        reading.push(c);
                    }
                }
                '\'' => {
                    reading.is_quoted = true;
                    reading.push_str("");
                    self.chars.by_ref().take_while(|c| *c != '\'').for_each(|c| reading.push(c));
                }
                '"' => self.quoted(&mut reading, Some('"')),
                '`' => self.nested(&mut reading, '`'),
                '$' => self.dollar(&mut reading, false),
                '#' if reading.word.is_none() => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '(' => self.open(&mut reading),
                ')' | ';' => self.end_command(&mut reading),
                '\n' => {
                    self.end_command(&mut reading);
                    self.here_documents();
                }
                '|' => {
                    let is_or = self.chars.next_if_eq(&'|').is_some();
                    self.chars.next_if_eq(&'&');
                    self.end_command(&mut reading);
                    reading.command.is_piped = !is_or;
                }
                '&' if self.chars.peek() == Some(&'>') => self.end_word(&mut reading),
                '&' => self.end_command(&mut reading),
                '>' | '<' => self.redirection(&mut reading, c),
                c if c.is_whitespace() => self.end_word(&mut reading),
                c => reading.push(c),
            }
        }
        self.end_command(&mut reading);
    }

    /// The inside of double quotes, or of a here-document without an `end`.
    fn quoted(&mut self, reading: &mut Reading, end: Option<char>) {
        reading.is_quoted = true;
        reading.push_str("");
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == end => return,
                '\\' => match self.chars.next() {
                    Some('\n') | None => {}
                    Some(c) if matches!(c, '"' | '\\' | '`' | '$') => reading.push(c),
                    Some(c) => reading.word.get_or_insert_default().extend(['\\', c]),
                },
                '`' => self.nested(reading, '`'),
                '$' => self.dollar(reading, true),
                c => reading.push(c),
            }
        }
    }

    /// A substitution: what it prints is not known, what it runs is.
    fn nested(&mut self, reading: &mut Reading, end: char) {
        reading.push_str("$()");
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        self.list(Some(end));
        self.depth -= 1;
    }

    /// A parenthesis: a function's, a subshell's, an array's or that of a sum.
    fn open(&mut self, reading: &mut Reading) {
        if self.chars.next_if_eq(&'(').is_some() {
            self.sum();
        } else if reading.word.is_some() && self.chars.next_if_eq(&')').is_some() {
            // The name of a function: what it is made of comes next.
            *reading = Reading::default();
        } else {
            self.end_command(reading);
            if self.depth < DEEPEST {
                self.depth += 1;
                self.list(Some(')'));
                self.depth -= 1;
            }
        }
    }

    /// Passes over a sum up to its two closing parentheses.
    fn sum(&mut self) {
        while let Some(c) = self.chars.next() {
            if c == ')' && self.chars.next_if_eq(&')').is_some() {
                return;
            }
        }
    }

    fn dollar(&mut self, reading: &mut Reading, is_quoted: bool) {
        match self.chars.peek() {
            Some('(') => {
                self.chars.next();
                if self.chars.next_if_eq(&'(').is_some() {
                    reading.push('0');
                    return self.sum();
                }
                self.nested(reading, ')');
            }
            Some('{') => {
                self.chars.next();
                let inside = self.braces();
                match inside.starts_with("IFS") && !is_quoted {
                    true => self.end_word(reading),
                    false => reading.push_str(&format!("${{{inside}}}")),
                }
            }
            Some('\'') if !is_quoted => {
                self.chars.next();
                self.escapes(reading);
            }
            Some('"') if !is_quoted => {}
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
                let mut name = String::new();
                while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                match name == "IFS" && !is_quoted {
                    true => self.end_word(reading),
                    false => reading.push_str(&format!("${name}")),
                }
            }
            Some(_) | None => reading.push('$'),
        }
    }

    /// What stands between braces. What is substituted in there is run, too.
    fn braces(&mut self) -> String {
        let (mut inside, mut open) = (String::new(), 1);
        for c in self.chars.by_ref() {
            open += i32::from(c == '{') - i32::from(c == '}');
            if open == 0 {
                break;
            }
            inside.push(c);
        }
        self.substitutions_of(&inside);
        inside
    }

    /// Takes in what is run within a text that is otherwise none of the commands'.
    fn substitutions_of(&mut self, text: &str) {
        if self.depth >= DEEPEST || !text.contains(['`', '$']) {
            return;
        }
        let mut inner = Scanner::of(text, self.depth + 1);
        inner.quoted(&mut Reading::default(), None);
        self.found.extend(inner.done().into_iter().map(|simple| (simple, None)));
    }

    /// `$'…'`, with its escapes for what they mean.
    fn escapes(&mut self, reading: &mut Reading) {
        reading.is_quoted = true;
        reading.push_str("");
        while let Some(c) = self.chars.next().filter(|c| *c != '\'') {
            let escaped = if c == '\\' { self.chars.next() } else { None };
            let meant = match escaped {
                None => Some(c),
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('r') => Some('\r'),
                Some('x') => self.number(16, 2, 0),
                Some('u') => self.number(16, 4, 0),
                Some('U') => self.number(16, 8, 0),
                Some(digit @ '0'..='7') => self.number(8, 2, digit.to_digit(8).unwrap_or_default()),
                Some(c) => Some(c),
            };
            meant.into_iter().for_each(|c| reading.push(c));
        }
    }

    fn number(&mut self, radix: u32, most: usize, mut value: u32) -> Option<char> {
        for _ in 0..most {
            let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            self.chars.next();
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        char::from_u32(value)
    }

    fn redirection(&mut self, reading: &mut Reading, sign: char) {
        reading.drop_number();
        self.end_word(reading);
        if self.chars.next_if_eq(&'(').is_some() {
            return self.nested(reading, ')');
        }
        reading.next = match sign {
            '>' => {
                while self.chars.next_if(|c| matches!(c, '>' | '|')).is_some() {}
                if self.chars.next_if_eq(&'&').is_some() { Next::Copies } else { Next::Writes }
            }
            _ if self.chars.next_if_eq(&'<').is_some() => match self.chars.next_if(|c| matches!(c, '<' | '-')) {
                Some('<') => Next::HereString,
                dash => Next::HereDocument { is_indented: dash.is_some() },
            },
            _ if self.chars.next_if_eq(&'&').is_some() => Next::Copies,
            _ if self.chars.next_if_eq(&'>').is_some() => Next::Writes,
            _ => Next::Reads,
        };
    }

    fn end_word(&mut self, reading: &mut Reading) {
        let Some(word) = reading.word.take() else { return };
        let is_quoted = std::mem::take(&mut reading.is_quoted);
        match std::mem::take(&mut reading.next) {
            Next::Word => reading.command.words.push(word),
            Next::Copies if word == "-" || word.bytes().all(|byte| byte.is_ascii_digit()) => {}
            Next::Writes | Next::Copies => {
                if !matches!(word.as_str(), "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty") {
                    reading.command.writes.push(word);
                }
            }
            Next::Reads => reading.command.reads.push(word),
            Next::HereString => reading.command.input = Some(word),
            Next::HereDocument { is_indented } => {
                reading.document = Some(self.bodies.len() + self.pending.len());
                self.pending.push(HereDocument { end: word, is_indented, is_quoted });
            }
        }
    }

    fn end_command(&mut self, reading: &mut Reading) {
        self.end_word(reading);
        let Reading { command, document, .. } = std::mem::take(reading);
        let is_nothing = command.words.is_empty() && command.writes.is_empty() && command.reads.is_empty();
        if !is_nothing {
            self.found.push((command, document));
        }
    }

    /// Reads the texts of the here-documents that were named in the line before.
    fn here_documents(&mut self) {
        for document in std::mem::take(&mut self.pending) {
            let mut body = String::new();
            while self.chars.peek().is_some() {
                let line: String = self.chars.by_ref().take_while(|c| *c != '\n').collect();
                let bare = if document.is_indented { line.trim_start_matches('\t') } else { &line };
                if bare == document.end {
                    break;
                }
                body.push_str(bare);
                body.push('\n');
            }
            if !document.is_quoted {
                self.substitutions_of(&body);
            }
            self.bodies.push(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        simple_commands(text).into_iter().map(|command| command.words.join(" ")).collect()
    }

    #[test]
    fn commands_are_told_apart_as_a_shell_would() {
        assert_eq!(words("a 'b; c' && d | e\nf # g; h"), ["a b; c", "d", "e", "f"]);
        assert_eq!(words("echo \"$(rm -rf x)\" `date` end"), ["rm -rf x", "date", "echo $() $() end"]);
        assert_eq!(words("(cd a; ls) & wait"), ["cd a", "ls", "wait"]);
        assert_eq!(words("kubectl $(flags) delete ns"), ["flags", "kubectl $() delete ns"]);
        assert_eq!(words("echo $((1 + (2)))"), ["echo 0"]);
        assert_eq!(words("f() { git push; }; f"), ["{ git push", "}", "f"]);
        assert_eq!(words("echo ${X:-$(git push)}"), ["git push", "echo ${X:-$(git push)}"]);
    }

    #[test]
    fn quotes_in_all_their_forms_hide_nothing() {
        for text in ["rm -rf /", "r\\m -rf /", "'r'm \"-rf\" /", "rm${IFS}-rf$IFS/", "$'\\x72m' -rf /", "rm \\\n -rf /"]
        {
            assert_eq!(words(text), ["rm -rf /"], "{text}");
        }
    }

    #[test]
    fn redirections_are_no_words_and_those_to_files_are_told() {
        let writes = |text: &str| simple_commands(text).iter().any(|command| !command.writes.is_empty());
        assert!(writes("echo x >> f") && writes("a >f") && writes("a &> f") && writes("a 2>err") && writes("a >& f"));
        assert!(!writes("a 2>&1") && !writes("a >/dev/null 2>&1") && !writes("a < f") && !writes("a &>/dev/null"));
        assert_eq!(words("a 2>&1 b"), ["a b"]);
        assert_eq!(simple_commands("a <f")[0].reads, ["f"]);
    }

    #[test]
    fn a_here_document_is_what_its_command_reads_and_no_command() {
        let found = simple_commands("cat <<'A' | sh; cat <<-B >f\nrm -rf / $(x)\nA\n\tb $(y)\n\tB\nz");
        let told: Vec<_> = found.iter().map(|one| (one.words.join(" "), one.input.as_deref())).collect();
        let expected =
            [("cat", Some("rm -rf / $(x)\n")), ("sh", None), ("cat", Some("b $(y)\n")), ("y", None), ("z", None)];
        assert_eq!(told, expected.map(|(words, input)| (words.to_owned(), input)));
        assert!(found[1].is_piped && found[2].writes == ["f"]);
        assert_eq!(simple_commands("sh <<< 'git push'")[0].input.as_deref(), Some("git push"));
    }

    #[test]
    fn what_lies_too_deep_ends_the_reading_and_not_the_program() {
        for text in ["$(", "`", "(", "${", "\"$(", "<<"] {
            simple_commands(&text.repeat(20_000));
        }
    }

    proptest! {
        #[test]
        fn odd_text_is_no_trouble(text in "[a-c $(){}`'\"\\\\;|&<>#\n-]{0,60}") {
            simple_commands(&text);
        }

        #[test]
        fn plain_words_stay_what_they_are(all in proptest::collection::vec("[a-z/.-]{1,8}", 1..6)) {
            prop_assert_eq!(words(&all.join(" ")), vec![all.join(" ")]);
        }
    }
}
