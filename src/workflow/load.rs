//! From a file's text to a workflow, with all that is wrong with it.

use std::path::Path;

use super::definition::{Workflow, schema};
use super::meaning;
use super::mistake::{Mistake, MistakeKind};
use super::shape;
use super::tree::Node;

/// What reading a file has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The workflow, unless something is wrong with it.
    pub workflow: Option<Workflow>,
    /// What is wrong or odd, in the order of the file.
    pub mistakes: Vec<Mistake>,
}

impl Read {
    /// How many of the mistakes keep it from being run.
    pub fn errors(&self) -> usize {
        self.mistakes.iter().filter(|mistake| mistake.is_error()).count()
    }
}

/// Reads a workflow.
pub fn read(text: &str) -> Read {
    let mut mistakes = Vec::new();
    let workflow = of_text(text, &mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.span.start);
    let is_wrong = mistakes.iter().any(Mistake::is_error);
    Read { workflow: workflow.filter(|_| !is_wrong), mistakes }
}

fn of_text(text: &str, mistakes: &mut Vec<Mistake>) -> Option<Workflow> {
    let root = Node::parse(text).map_err(|mistake| mistakes.push(mistake)).ok()?;
    mistakes.extend(shape::mistakes(&root, &schema()));
    if !mistakes.is_empty() {
        return None;
    }
    let workflow: Workflow = serde_path_to_error::deserialize(root.value())
        .map_err(|error| mistakes.push(Mistake::new(MistakeKind::Shape, root.span.clone(), error.to_string())))
        .ok()?;
    mistakes.extend(meaning::mistakes(&workflow, &root));
    Some(workflow)
}

/// The text of a file.
///
/// # Errors
/// Why it can't be read, in words.
pub fn text_of(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("it is not UTF-8: line {line} has a byte that is none")
    })
}
