//! Overhead per tool call against a bare loop.

fn main() {}
