//! Makes recorded text safe to print.

use std::borrow::Cow;

/// `text` with every control or invisible character but the line feed as a visible escape.
pub fn visible(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// As [`visible`], on one line.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}
