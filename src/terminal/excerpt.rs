//! What is shown of an output: its head, its tail, the lines in between that look like errors.

/// How much of an output is shown, in bytes of rendered text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExcerptBudget {
    /// From its beginning.
    pub head_bytes: usize,
    /// From its end.
    pub tail_bytes: usize,
    /// Of lines from the middle that look like errors.
    pub error_bytes: usize,
}

impl Default for ExcerptBudget {
    fn default() -> Self {
        Self { head_bytes: 3 << 10, tail_bytes: 5 << 10, error_bytes: 2 << 10 }
    }
}

/// An output as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// Rendered text; where something is left out, it says so.
    pub text: String,
    /// Bytes of the rendered text that are left out; raw bytes where the output was too large to be rendered whole.
    pub omitted_bytes: u64,
    /// Lines of the rendered output; an estimate by line feeds where it was too large to be rendered whole.
    pub lines: u64,
}
