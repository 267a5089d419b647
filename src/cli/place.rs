//! Where the program was started: environment, directories, terminals. Read once in `main`, passed down from here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The surroundings of one start of the program.
#[derive(Debug, Clone)]
pub struct Place {
    /// The environment.
    pub vars: BTreeMap<OsString, OsString>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Whether standard input is a terminal.
    pub stdin_tty: bool,
    /// Whether standard output is a terminal.
    pub stdout_tty: bool,
    /// Whether standard error is a terminal.
    pub stderr_tty: bool,
}

impl Place {
    /// Reads the surroundings of this process.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn of_this_process() -> std::io::Result<Self> {
        use std::io::IsTerminal as _;
        Ok(Self {
            vars: std::env::vars_os().collect(),
            cwd: std::env::current_dir()?,
            stdin_tty: std::io::stdin().is_terminal(),
            stdout_tty: std::io::stdout().is_terminal(),
            stderr_tty: std::io::stderr().is_terminal(),
        })
    }

    /// The same place for a process that shows nothing on a terminal.
    #[must_use]
    pub fn without_terminal(&self) -> Self {
        Self { stdin_tty: false, stdout_tty: false, stderr_tty: false, ..self.clone() }
    }

    /// A variable that is set, not empty and valid UTF-8.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(std::ffi::OsStr::new(name))?.to_str().filter(|value| !value.is_empty())
    }

    /// The home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// Where runs are kept: `LONGHAUL_STATE_DIR`, else `$XDG_STATE_HOME/longhaul`, else `~/.local/state/longhaul`.
    pub fn state_dir(&self) -> Option<PathBuf> {
        if let Some(dir) = self.var("LONGHAUL_STATE_DIR") {
            return Some(self.cwd.join(dir));
        }
        let xdg = self.var("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        xdg.or_else(|| Some(self.home()?.join(".local/state"))).map(|base| base.join("longhaul"))
    }

    /// Whether a stream that is a terminal (`tty`) may be coloured.
    pub fn colour(&self, tty: bool) -> bool {
        let forced = self.var("CLICOLOR_FORCE").or(self.var("FORCE_COLOR")).is_some_and(|value| value != "0");
        let refused = self.var("NO_COLOR").is_some() || self.var("TERM") == Some("dumb");
        !refused && (tty || forced)
    }
}
