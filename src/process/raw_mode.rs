//! Standard input as single keys.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Gives keys one by one and unseen, until dropped; then standard input is as it was. Without a terminal: nothing.
#[derive(Debug)]
pub struct RawMode(Option<Termios>);

impl RawMode {
    /// Takes the terminal's own handling of keys away. One that refuses stays as it is.
    pub fn enter() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(io::stdin(), OptionalActions::Now, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // What was typed and not read was not meant for whoever reads next.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
