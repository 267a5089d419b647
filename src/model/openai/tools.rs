//! The tools as JSON, made once and not with every request: they stay the same for a whole run.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::model::ToolSpec;

/// How one tool is told, and whether `strict` is said of it.
pub(super) type Entry = fn(&ToolSpec, bool) -> Value;

/// The JSON of the tools of the last request.
#[derive(Debug, Default)]
pub(super) struct Tools {
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    tools: Arc<[ToolSpec]>,
    entry: Entry,
    strict: bool,
    json: Arc<RawValue>,
}

impl Tools {
    /// These tools in this form.
    pub(super) fn json(&self, tools: &Arc<[ToolSpec]>, entry: Entry, strict: bool) -> Arc<RawValue> {
        let mut kept = self.kept.lock().expect("no one panics with the tools");
        let is_same = |kept: &&Kept| {
            Arc::ptr_eq(&kept.tools, tools) && std::ptr::fn_addr_eq(kept.entry, entry) && kept.strict == strict
        };
        if let Some(kept) = kept.as_ref().filter(is_same) {
            return Arc::clone(&kept.json);
        }
        let list: Vec<Value> = tools.iter().map(|tool| entry(tool, strict)).collect();
        let json: Arc<RawValue> = to_raw_value(&list).expect("tools are JSON").into();
        *kept = Some(Kept { tools: Arc::clone(tools), entry, strict, json: Arc::clone(&json) });
        json
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(tool: &ToolSpec, strict: bool) -> Value {
        json!([tool.name, strict])
    }

    fn tools() -> Arc<[ToolSpec]> {
        let tool = |name: &str| ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: Value::Null,
            strict: false,
        };
        [tool("a"), tool("b")].into()
    }

    #[test]
    fn the_same_tools_are_made_into_json_once() {
        let (made, all) = (Tools::default(), tools());
        let first = made.json(&all, name, true);
        assert_eq!(first.get(), r#"[["a",true],["b",true]]"#);
        assert!(Arc::ptr_eq(&first, &made.json(&all, name, true)));
        assert_eq!(made.json(&all, name, false).get(), r#"[["a",false],["b",false]]"#);
        assert!(!Arc::ptr_eq(&first, &made.json(&tools(), name, true)));
    }
}
