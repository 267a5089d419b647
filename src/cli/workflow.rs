//! `agent validate`, `agent graph`: a workflow file before it is run.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::{Stop, finished};
use super::{Failure, Place};
use crate::domain::ExitReason;
use crate::report::visible;
use crate::workflow::{Mistake, Workflow, as_dot, as_mermaid, as_text, read, schema, text_of};

/// `agent validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The workflow file
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// Prints the JSON Schema of workflow files, for editors
    #[arg(long, conflicts_with_all = ["file", "json"])]
    schema: bool,
}

/// `agent graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The workflow file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// text; dot for Graphviz; mermaid for documents
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GraphFormat {
    /// For a terminal.
    Text,
    /// For Graphviz.
    Dot,
    /// For documents that draw Mermaid's diagrams.
    Mermaid,
}

impl ValidateArgs {
    /// Runs `agent validate`.
    ///
    /// # Errors
    /// [`Failure`] when the file can't be read.
    pub fn run(&self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        finished(print_validation(self, place, out))
    }
}

impl GraphArgs {
    /// Runs `agent graph`.
    ///
    /// # Errors
    /// [`Failure`] when the file can't be read or is no valid workflow.
    pub fn run(&self, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
        finished(print_graph(self, place, out))
    }
}

fn print_validation(args: &ValidateArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let Some(path) = &args.file else {
        serde_json::to_writer_pretty(&mut *out, &schema()).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(ExitReason::Done);
    };
    let (shown, text) = open(path, place)?;
    let result = read(&text);
    let errors = result.errors();
    if args.json {
        let mistakes: Vec<_> = result.mistakes.iter().map(|mistake| mistake.json(&text)).collect();
        let stages = result.workflow.as_ref().map(|workflow| workflow.stages.len());
        let told = json!({ "file": shown, "valid": errors == 0, "stages": stages, "mistakes": mistakes });
        serde_json::to_writer_pretty(&mut *out, &told).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print_mistakes(&result.mistakes, &shown, &text, place.colour(place.stdout_tty), out)?;
        match &result.workflow {
            Some(workflow) => writeln!(out, "{}", valid_words(workflow, &shown))?,
            None => writeln!(out, "{}: {}", visible(&shown), count(errors, "error"))?,
        }
    }
    Ok(if errors == 0 { ExitReason::Done } else { ExitReason::Usage })
}

fn valid_words(workflow: &Workflow, shown: &str) -> String {
    let checks: usize = workflow.stages.values().map(|stage| stage.checks().len()).sum();
    let without_model = workflow.stages.values().filter(|stage| stage.goal.is_none()).count();
    format!(
        "{} is valid: {}, {} of them without a model, {}",
        visible(shown),
        count(workflow.stages.len(), "stage"),
        without_model,
        count(checks, "check")
    )
}

fn count(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

fn print_graph(args: &GraphArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let (shown, text) = open(&args.file, place)?;
    let result = read(&text);
    let Some(workflow) = result.workflow else {
        let failure = Failure::new(ExitReason::Usage, format!("{shown} is no valid workflow"));
        let first = result.mistakes.iter().find(|mistake| mistake.is_error()).map(|mistake| {
            let (line, column) = mistake.place(&text);
            format!("{line}:{column}: {}", mistake.what)
        });
        let failure = first.into_iter().fold(failure, Failure::because);
        return Err(failure.hint(format!("see all that is wrong: `agent validate {shown}`")).into());
    };
    let drawn = match args.format {
        GraphFormat::Text => as_text(&workflow).expect("a valid workflow has no cycle"),
        GraphFormat::Dot => as_dot(&workflow),
        GraphFormat::Mermaid => as_mermaid(&workflow),
    };
    write!(out, "{}", visible(&drawn))?;
    Ok(ExitReason::Done)
}

fn print_mistakes(
    mistakes: &[Mistake],
    shown: &str,
    text: &str,
    colour: bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let tame = tame(text);
    for mistake in mistakes {
        let safe = Mistake { what: visible(&mistake.what).into_owned(), ..mistake.clone() };
        let safe = Mistake { hint: mistake.hint.as_deref().map(|hint| visible(hint).into_owned()), ..safe };
        writeln!(out, "{}\n", safe.render(&visible(shown), &tame, colour))?;
    }
    Ok(())
}

/// The text with what a terminal would obey, or would not show, as so many question marks: places stay what they are.
fn tame(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    for c in text.chars() {
        let mut alone = [0; 4];
        let alone: &str = c.encode_utf8(&mut alone);
        match c == '\n' || c == '\t' || visible(alone) == alone {
            true => tame.push(c),
            false => tame.extend(std::iter::repeat_n('?', c.len_utf8())),
        }
    }
    tame
}

/// The file's name as it was said, and its text.
fn open(path: &Path, place: &Place) -> Result<(String, String), Failure> {
    let shown = path.to_string_lossy().into_owned();
    let text = text_of(&place.cwd.join(path));
    let text = text.map_err(|why| Failure::new(ExitReason::Usage, format!("cannot read {shown}")).because(why))?;
    Ok((shown, text))
}
