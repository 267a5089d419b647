//! Which transcript is meant: a run by its id or `last`, a file, or standard input.

use std::path::PathBuf;

use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::journal::{ReadError, ReadProblem, RunDir, RunStore, StoreError};

const WHAT_CAN_BE_READ: &str = "give a run's id, its directory, or a journal.jsonl file";

/// A transcript that is named on the command line.
pub(super) enum Target {
    /// A run of the store.
    Run(RunDir),
    /// A file or directory.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl Target {
    /// Finds what `name` means: `-`, `last`, an existing path, else the beginning of a run's id.
    pub(super) fn find(name: &str, place: &Place) -> Result<Self, Failure> {
        if name == "-" {
            return Ok(Self::Stdin);
        }
        let path = place.cwd.join(name);
        if name.contains('/') || (name != "last" && path.exists()) {
            return Ok(Self::Path(path));
        }
        store(place)?.find(name).map(Self::Run).map_err(|error| of_store(&error))
    }

    /// The path to read; None for standard input.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Run(run) => Some(run.path().to_owned()),
            Self::Path(path) => Some(path.clone()),
            Self::Stdin => None,
        }
    }
}

/// The store of runs of this place.
pub(super) fn store(place: &Place) -> Result<RunStore, Failure> {
    let dir = place.state_dir().ok_or_else(|| {
        Failure::new(ExitReason::Usage, "cannot tell where runs are kept")
            .because("neither LONGHAUL_STATE_DIR nor XDG_STATE_HOME nor HOME is set")
            .hint("set LONGHAUL_STATE_DIR to a directory")
    })?;
    Ok(RunStore::new(dir))
}

/// A failure of the store in words.
pub(super) fn of_store(error: &StoreError) -> Failure {
    match error {
        StoreError::NoSuchRun(_) => {
            Failure::new(ExitReason::Usage, error.to_string()).hint("see what there is: `agent runs ls`")
        }
        StoreError::NoRuns => Failure::new(ExitReason::Usage, error.to_string()).hint("make one: `agent demo`"),
        StoreError::Ambiguous { .. } => {
            Failure::new(ExitReason::Usage, error.to_string()).hint("give more of the id, or `last`")
        }
        StoreError::Driven { .. } => {
            Failure::new(ExitReason::Usage, error.to_string()).hint("wait until it has ended, or stop that process")
        }
        StoreError::NotWritable { .. } => Failure::new(ExitReason::Usage, error.to_string())
            .because_of_source(error)
            .hint("set LONGHAUL_STATE_DIR to a directory that you can write to"),
        StoreError::Io { .. } => Failure::new(ExitReason::Usage, error.to_string())
            .because_of_source(error)
            .hint("set LONGHAUL_STATE_DIR to a directory that you can read"),
    }
}

/// A failure to read a transcript in words.
pub(super) fn of_read(error: &ReadError) -> Failure {
    match error {
        ReadError::Open { .. } => Failure::new(ExitReason::Usage, error.to_string())
            .because_of_source(error)
            .hint("see what there is: `agent runs ls`"),
        ReadError::NoRun(_) => Failure::new(ExitReason::Usage, error.to_string()).hint(WHAT_CAN_BE_READ),
        ReadError::Empty => Failure::new(ExitReason::Failed, error.to_string()).hint(WHAT_CAN_BE_READ),
        ReadError::Line { line, problem } => {
            let failure =
                Failure::new(ExitReason::Failed, format!("the transcript cannot be read from line {line} on"))
                    .because_of(problem);
            match problem {
                ReadProblem::Newer { .. } => failure.hint("use the version of longhaul that wrote it, or a later one"),
                ReadProblem::NotJson | ReadProblem::Layout if *line == 1 => failure.hint(WHAT_CAN_BE_READ),
                _ => failure.hint("see all that is wrong with `agent verify`"),
            }
        }
    }
}
