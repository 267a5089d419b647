//! The flags that say what proves that a goal is reached.

use clap::Args;

use crate::domain::{Check, CheckError};
use crate::guest::glob_error;

/// What proves that a goal is reached.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ProofArgs {
    /// A command that must exit with 0 for the run to count as done; may be repeated [config: checks]
    #[arg(long, value_name = "CMD")]
    pub(in crate::cli) check: Vec<String>,
    /// A file that must be there then and not be empty; may be repeated [config: checks]
    #[arg(long, value_name = "PATH", value_parser = check_file)]
    pub(in crate::cli) check_file: Vec<Check>,
    /// A number in a JSON file that must keep a bound, such as 'eval.json#/accuracy>=0.9' (>=, >, <=, <, ==); may be
    /// repeated [config: checks]
    #[arg(long, value_name = "METRIC", value_parser = check_metric)]
    pub(in crate::cli) check_metric: Vec<Check>,
    /// How long one check may take, such as 90s or 2h [default: 30m] [config: check_timeout]
    #[arg(long, value_name = "DURATION")]
    pub(in crate::cli) check_timeout: Option<String>,
    /// Does not run the checks once before any work; then nobody knows whether they prove anything [config: baseline = "off"]
    #[arg(long)]
    pub(in crate::cli) no_baseline: bool,
    /// Files that the run must leave as they are, such as 'tests/**'; may be repeated [config: protect]
    #[arg(long, value_name = "GLOB", value_parser = protected)]
    pub(in crate::cli) protect: Vec<String>,
}

impl ProofArgs {
    /// The checks: commands, then files, then metrics.
    pub(in crate::cli) fn checks(&self) -> impl Iterator<Item = Check> {
        let commands = self.check.iter().cloned().map(Check::Command);
        commands.chain(self.check_file.iter().cloned()).chain(self.check_metric.iter().cloned())
    }
}

fn check_file(text: &str) -> Result<Check, CheckError> {
    Check::file(text)
}

fn check_metric(text: &str) -> Result<Check, CheckError> {
    Check::metric(text)
}

fn protected(text: &str) -> Result<String, String> {
    glob_error(text).map_or_else(|| Ok(text.to_owned()), Err)
}
