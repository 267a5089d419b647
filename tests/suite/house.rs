//! The rules of the house: what may import what, how large a file may grow, manuals and schemas in step with the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use longhaul::domain::RunMode;
use longhaul::tools::Registry;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A row of the module table: what the module may import; `later` rows have no code.
struct Row {
    imports: Vec<String>,
    later: bool,
}

fn table() -> BTreeMap<String, Row> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = cells[0].trim_end_matches('`').to_owned();
        let imports = cells[1].split_whitespace().filter(|word| *word != "–").map(str::to_owned).collect();
        (name, Row { imports, later: cells[2].starts_with("later:") })
    })
    .collect()
}

/// The modules that a file's `crate::` paths name, in code or in a grouped `use`.
fn imported(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        assert!(!rest.starts_with('{'), "`use crate::{{…}}` hides what is imported: one line per module");
        found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
    }
    found
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for (module, row) in &table {
        let dir = root().join("src").join(module);
        assert_eq!(dir.is_dir(), !row.later, "src/{module}: the table and the tree disagree");
        if row.later || row.imports.iter().any(|name| name == "all") {
            continue;
        }
        for file in rust_files(&dir) {
            for name in imported(&fs::read_to_string(&file).expect("readable")) {
                if name != *module && !row.imports.contains(&name) {
                    wrong.push(format!("{}: {module} -> {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the table in src/lib.rs does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module_and_points_only_downwards() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let table = table();
    for module in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(table.contains_key(module), "`{module}` is not in the table");
    }
    let order: Vec<_> =
        lib.lines().filter_map(|line| line.strip_prefix("//! | `")).filter_map(|row| row.split('`').next()).collect();
    for (place, name) in order.iter().enumerate() {
        for import in table[*name].imports.iter().filter(|import| *import != "all") {
            let target = order.iter().position(|other| other == import);
            assert!(
                target.is_some_and(|target| target < place),
                "`{name}` may import `{import}`, which is not above it"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_none_outgrows_a_mind() {
    let mut wrong = Vec::new();
    for dir in ["src", "tests", "benches"] {
        for file in rust_files(&root().join(dir)) {
            let text = fs::read_to_string(&file).expect("readable");
            if !text.starts_with("//! ") {
                wrong.push(format!("{}: does not begin with `//!`", file.display()));
            }
            let lines = text.lines().count();
            if lines > 600 {
                wrong.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_tool_has_a_manual_and_a_schema_in_step_with_the_code() {
    let dir = root().join("tools");
    let registry = Registry::for_mode(RunMode::Goal);
    for tool in registry.tools() {
        let manual = fs::read_to_string(dir.join(format!("{}.md", tool.name))).expect("the manual");
        assert_eq!(manual.trim_end(), tool.manual, "{}.md", tool.name);
        for part in ["Arguments\n", "Result\n", "Examples\n", "Risk: "] {
            assert!(manual.contains(part), "{}.md has no part `{}`", tool.name, part.trim_end());
        }
        let written = format!("{}\n", serde_json::to_string_pretty(&tool.parameters).expect("a schema is JSON"));
        let path = dir.join(format!("{}.schema.json", tool.name));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &written).expect("writable");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, written, "{} is out of step: run the tests with UPDATE_SCHEMAS=1", path.display());
    }
    let files = fs::read_dir(&dir).expect("tools/").count();
    assert_eq!(files, registry.tools().len() * 2, "tools/ holds one manual and one schema per tool and nothing else");
}

#[test]
fn every_example_in_a_manual_is_a_well_formed_call() {
    let registry = Registry::for_mode(RunMode::Goal);
    for tool in registry.tools() {
        let examples = tool.manual.lines().filter_map(|line| line.strip_prefix("- {"));
        let calls: Vec<_> = examples
            .enumerate()
            .map(|(nth, rest)| longhaul::domain::ToolCall {
                id: nth.to_string(),
                name: tool.name.to_owned(),
                arguments: format!("{{{rest}"),
            })
            .collect();
        assert!(!calls.is_empty(), "{} has no example", tool.name);
        assert!(registry.read(&calls).is_ok(), "{}: {:?}", tool.name, registry.read(&calls));
    }
}

#[test]
fn no_placeholder_is_left_in_the_code() {
    let marks = ["todo!(", "unimplemented!(", "FIXME", "XXX"];
    for file in rust_files(&root().join("src")) {
        let text = fs::read_to_string(&file).expect("readable");
        for mark in marks {
            assert!(!text.contains(mark), "{} holds `{mark}`", file.display());
        }
    }
}
