//! What a session may be: how many there are at once, which sizes terminals have, what an environment can hold.

use std::collections::BTreeMap;

use super::Session;
use crate::guest::facts::{OpenSession, Refusal, RefusalKind, TermSize};
use crate::guest::supervisor::{Supervisor, refuse};

/// Most sessions that are open at once.
const MOST: usize = 64;

/// Names that a refusal lists.
const LISTED: usize = 8;

impl Session {
    /// Whether one more session like this can be opened.
    ///
    /// # Errors
    /// When too many are open, the size is no terminal's, or a variable can't be one.
    pub(super) fn may_open(boss: &Supervisor, ask: &OpenSession) -> Result<(), Refusal> {
        check_size(ask.size)?;
        check_env(&ask.env)?;
        let open = boss.sessions.borrow();
        if open.len() < MOST {
            return Ok(());
        }
        let at_rest = open.iter().filter(|(_, session)| session.is_at_rest()).map(|(name, _)| name.as_str());
        let names: Vec<&str> = at_rest.take(LISTED).collect();
        let advice = match names.as_slice() {
            [] => "a command runs in each; wait for one, or end one, and close its session".to_owned(),
            names => format!("close one in which nothing runs, such as {}", names.join(", ")),
        };
        Err(refuse(RefusalKind::Full, format!("{MOST} sessions are open, which is the most at once: {advice}")))
    }
}

/// Whether a terminal can have this size.
///
/// # Errors
/// When it can't.
pub(super) fn check_size(size: TermSize) -> Result<(), Refusal> {
    if (10..=1000).contains(&size.cols) && (2..=500).contains(&size.rows) {
        return Ok(());
    }
    let what = format!("a terminal has 10 to 1000 columns and 2 to 500 rows, not {} and {}", size.cols, size.rows);
    Err(refuse(RefusalKind::Invalid, what))
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let bad =
        |(name, value): &(&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
    let Some((name, _)) = env.iter().find(bad) else { return Ok(()) };
    let shown: String = name.escape_debug().take(100).collect();
    let what = format!("`{shown}` can't be a variable: a name has no `=`, and neither it nor its value has NUL");
    Err(refuse(RefusalKind::Invalid, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_no_terminal_and_names_of_no_variable_are_refused() {
        for (cols, rows) in [(0, 0), (9, 24), (1001, 24), (80, 1), (80, 501), (u16::MAX, u16::MAX)] {
            assert_eq!(check_size(TermSize { cols, rows }).expect_err("refused").kind, RefusalKind::Invalid);
        }
        assert_eq!(check_size(TermSize { cols: 80, rows: 24 }), Ok(()));
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            let refusal = check_env(&BTreeMap::from([(name.to_owned(), value.to_owned())])).expect_err("refused");
            assert!(refusal.what.contains("variable") && !refusal.what.contains('\0'), "{refusal}");
        }
        assert_eq!(check_env(&BTreeMap::from([("A".to_owned(), "b=c".to_owned())])), Ok(()));
    }
}
