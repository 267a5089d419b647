//! A tool call in words.

use serde_json::Value;

use super::style::size;
use super::visible;
use crate::domain::ToolCall;

/// A call as people read it, safe to print: `$ command` for a shell (the whole command, on as many lines as it has), the
/// path for a file tool, the bare name for `finish` (what it claims is told elsewhere), else name and arguments.
pub fn call_line(call: &ToolCall) -> String {
    let arguments: Option<Value> = serde_json::from_str(&call.arguments).ok();
    let text = |name: &str| arguments.as_ref()?.get(name)?.as_str();
    if let Some(command) = text("command") {
        let session = text("session").filter(|session| *session != "main").map(|session| format!("[{session}] "));
        return visible(&format!("$ {}{}", session.unwrap_or_default(), command.trim_end_matches('\n'))).into_owned();
    }
    if let Some(path) = text("path") {
        let added = text("content").map(|content| format!(" ({})", size(content.len() as u64)));
        return visible(&format!("{} {path}{}", call.name, added.unwrap_or_default())).into_owned();
    }
    if call.name == "finish" && text("summary").is_some() {
        return call.name.clone();
    }
    let arguments = match arguments {
        Some(Value::Object(members)) if members.is_empty() => String::new(),
        _ => super::style::one_line(&call.arguments, 200).into_owned(),
    };
    visible(format!("{} {arguments}", call.name).trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, arguments: &str) -> String {
        call_line(&ToolCall { id: "1".into(), name: name.into(), arguments: arguments.into() })
    }

    #[test]
    fn a_call_is_shown_whole_and_safe() {
        assert_eq!(line("shell", r#"{"command":"a\nb \u001b[2K"}"#), "$ a\nb \\e[2K");
        assert_eq!(line("shell", r#"{"command":"make","session":"train"}"#), "$ [train] make");
        assert_eq!(line("write_file", r#"{"path":"a/b","content":"12345"}"#), "write_file a/b (5 B)");
        assert_eq!(line("finish", r#"{"summary":"done"}"#), "finish");
        assert_eq!(line("finish", r#"{"summry":"done"}"#), r#"finish {"summry":"done"}"#);
        assert_eq!(line("x", "{"), "x {");
        assert_eq!(line("\u{1b}x", "{}"), "\\ex");
    }
}
