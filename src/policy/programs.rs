//! What a check runs, by its words: the programs, and the scripts that interpreters are given.

use super::words::simple_commands;

/// Programs that run a file that they are given.
const INTERPRETERS: [&str; 10] = ["ash", "bash", "dash", "ksh", "node", "perl", "php", "ruby", "sh", "zsh"];
/// Words that stand before a program.
const BEFORE: [&str; 9] = ["!", "command", "do", "else", "env", "exec", "if", "then", "time"];
/// Flags of interpreters after which no file follows that is run.
const NO_FILE: [&str; 3] = ["-c", "-e", "-m"];

/// The programs that a command runs, as they are looked for: by name, or by a path with a `/` in it. Each once.
pub fn programs_of(command: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for simple in simple_commands(command) {
        let is_before = |word: &str| BEFORE.contains(&word) || is_assignment(word);
        let mut words = simple.words.iter().map(String::as_str).skip_while(|word| is_before(word));
        let Some(program) = words.next() else { continue };
        found.push(program.to_owned());
        let name = program.rsplit('/').next().unwrap_or(program);
        if !INTERPRETERS.contains(&name) && !name.starts_with("python") {
            continue;
        }
        let script = words.take_while(|word| !NO_FILE.contains(word)).find(|word| !word.starts_with('-'));
        found.extend(script.map(|path| if path.contains('/') { path.to_owned() } else { format!("./{path}") }));
    }
    let mut once = Vec::new();
    for program in found {
        if !once.contains(&program) {
            once.push(program);
        }
    }
    once
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name).unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::programs_of;

    #[test]
    fn programs_and_scripts_are_named_as_they_are_looked_for() {
        assert_eq!(programs_of("sh evaluate.sh 0.9"), ["sh", "./evaluate.sh"]);
        assert_eq!(
            programs_of("A=1 python3 -u tests/run.py && ./check; grep -q x y"),
            ["python3", "tests/run.py", "./check", "grep"]
        );
        assert_eq!(programs_of("python -m pytest tests; bash -c 'x'"), ["python", "bash"]);
        assert_eq!(programs_of("if ! make; then exit 1; fi"), ["make", "exit", "fi"]);
        assert!(programs_of("").is_empty());
    }
}
