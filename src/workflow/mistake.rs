//! What is wrong with a workflow file: where, what, and what would be right.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Of which kind.
    pub kind: MistakeKind,
    /// Where, in bytes of the file.
    pub span: Range<usize>,
    /// What is wrong, in a sentence without a stop.
    pub what: String,
    /// What would be right, where that can be told.
    pub hint: Option<String>,
}

/// Of which kind a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MistakeKind {
    /// The file is no YAML.
    Syntax,
    /// A value is not what belongs there.
    Shape,
    /// All is where it belongs, and it makes no sense.
    Meaning,
    /// It would run, and hardly as it was meant.
    Warning,
}

impl MistakeKind {
    fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Shape => "shape",
            Self::Meaning => "meaning",
            Self::Warning => "warning",
        }
    }
}

impl Mistake {
    /// A mistake at this place.
    pub fn new(kind: MistakeKind, span: Range<usize>, what: impl Into<String>) -> Self {
        Self { kind, span, what: what.into(), hint: None }
    }

    /// With what would be right.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With what would be right, where there is something.
    #[must_use]
    pub fn hint_if(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// Whether the file can't be run because of it.
    pub fn is_error(&self) -> bool {
        self.kind != MistakeKind::Warning
    }

    /// Line and column in the file, from 1; columns count characters.
    pub fn place(&self, text: &str) -> (usize, usize) {
        let before = &text[..text.floor_char_boundary(self.span.start.min(text.len()))];
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }

    /// For people: what, the line with the place marked, what would be right. `path` names the file.
    pub fn render(&self, path: &str, text: &str, colour: bool) -> String {
        let level = if self.is_error() { Level::ERROR } else { Level::WARNING };
        let start = text.floor_char_boundary(self.span.start.min(text.len()));
        // More than the line on which it begins shows nothing more.
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = text.ceil_char_boundary(self.span.end.clamp(start, line_end));
        let snippet = Snippet::source(text).path(path).annotation(AnnotationKind::Primary.span(start..end));
        let group = level.primary_title(&self.what).element(snippet);
        let hint = self.hint.as_ref().map(|hint| Level::HELP.message(hint.as_str()));
        let report = &[match hint {
            Some(hint) => group.element(hint),
            None => group,
        }];
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(report)
    }

    /// For programs: `kind`, `line`, `column`, `what`, `hint`.
    pub fn json(&self, text: &str) -> Value {
        let (line, column) = self.place(text);
        json!({ "kind": self.kind.name(), "line": line, "column": column, "what": self.what, "hint": self.hint })
    }
}
