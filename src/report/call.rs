//! A tool call in words.

use serde_json::Value;

use super::style::size;
use super::visible;
use crate::domain::{ToolCall, seconds_words};

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
    if let ("wait", Some(Value::Object(members))) = (call.name.as_str(), &arguments) {
        return visible(&wait_words(members)).into_owned();
    }
    if let (Some(what), Some(Value::Object(members))) = (text("do"), &arguments) {
        return visible(&done_words(&call.name, what, members)).into_owned();
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

/// `checkpoint restore before-training`, `container logs db, lines 50`: words as they are, numbers with their names.
fn done_words(tool: &str, what: &str, members: &serde_json::Map<String, Value>) -> String {
    let mut words = format!("{tool} {what}");
    for (name, value) in members.iter().filter(|(name, value)| *name != "do" && !value.is_null()) {
        match value {
            Value::String(text) => words.push_str(&format!(" {text}")),
            other => words.push_str(&format!(", {name} {}", inner(other))),
        }
    }
    super::style::one_line(&words, 200).into_owned()
}

/// `wait for the end of j1 or j2; port 8000; at most 4 h; expected 6 h`.
fn wait_words(members: &serde_json::Map<String, Value>) -> String {
    let seconds = |value: &Value| value.as_f64().and_then(seconds_words).unwrap_or_else(|| value.to_string());
    let (mut parts, mut limits) = (Vec::new(), Vec::new());
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "deadline_s" => limits.push(format!("at most {}", seconds(value))),
            "expected_s" => limits.push(format!("expected {}", seconds(value))),
            "until" => limits.push(format!("until {}", inner(value))),
            "wake_on" => limits.push(format!("wake on {}", inner(value))),
            "exit" => parts.push(format!("the end of {}", listed(value, " or "))),
            "all" => parts.push(format!("the end of {}", listed(value, " and "))),
            "ready" => parts.push(format!("{} to be ready", inner(value))),
            "input" => parts.push(format!("{} to want input", inner(value))),
            name => parts.push(format!("{name} {}", inner(value))),
        }
    }
    if parts.is_empty() {
        parts.push("the end of any job".to_owned());
    }
    parts.extend(limits);
    super::style::one_line(&format!("wait for {}", parts.join("; ")), 200).into_owned()
}

fn listed(value: &Value, between: &str) -> String {
    match value {
        Value::Array(items) => items.iter().map(inner).collect::<Vec<_>>().join(between),
        other => inner(other),
    }
}

/// A value without the signs of JSON.
fn inner(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(inner).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            members.values().filter(|value| !value.is_null()).map(inner).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
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
        let wait =
            r#"{"exit":["j1","j2"],"port":{"port":80,"host":null},"deadline_s":14400,"expected_s":90,"file":null}"#;
        assert_eq!(line("wait", wait), "wait for the end of j1 or j2; port 80; at most 4 h; expected 1 min 30 s");
        assert_eq!(line("wait", r#"{"deadline_s":60,"exit":["j1"]}"#), "wait for the end of j1; at most 1 min");
        assert_eq!(line("wait", r#"{"expected_s":60}"#), "wait for the end of any job; expected 1 min");
        assert_eq!(line("checkpoint", r#"{"do":"restore","checkpoint":"k2"}"#), "checkpoint restore k2");
        assert_eq!(line("checkpoint", r#"{"do":"list","checkpoint":null}"#), "checkpoint list");
        assert_eq!(line("container", r#"{"do":"logs","name":"db","lines":50}"#), "container logs db, lines 50");
        assert_eq!(line("\u{1b}x", "{}"), "\\ex");
    }
}
