//! Workflow files: what is wrong with them is told at its place, what is right is drawn.

use std::fs;
use std::path::Path;
use std::time::Instant;

use longhaul::domain::ExitReason;
use longhaul::workflow::{MistakeKind, read, schema};

use crate::replay::agent;

const BROKEN: &str = include_str!("../workflows/broken.txt");

const GOOD: &str = r#"
version: 1
name: nightly
x-owner: data
inputs:
  day: { type: string, required: true }
  sizes: { default: "[1, 2]" }
secrets: [WAREHOUSE_URL]
concurrency: 2
defaults: { timeout: 1h30m, retry: { max: 3, when: [network] } }
stages:
  extract:
    run: python extract.py --day ${{ inputs.day }} --region ${{ matrix.region }}
    strategy: { matrix: { region: [eu, us], n: "${{ fromJSON(inputs.sizes) }}" }, fail-fast: false }
    artifacts: { out: [raw/] }
  transform:
    needs: extract
    if: needs.extract.result == 'passed' || always()
    run: python transform.py
    goal: Mend what a changed column broke.
    protect: ["checks/**"]
    verify:
      - python checks/all.py
      - { files: [clean/a.parquet] }
      - metric: { name: rejected, from: "clean/stats.json#/rejected", max: 0.01, baseline: last-success, max-regression: 0.005 }
    outputs: { rows: "7" }
    artifacts: { in: ["extract:raw/"], out: [clean/] }
  load:
    needs: [transform]
    run: "echo ${{ needs.transform.outputs.rows }} | python load.py --batch ${{ run.id }}"
    secrets: [WAREHOUSE_URL]
    env: { URL: "${{ secrets.WAREHOUSE_URL }}", TRIES: 3, DRY: false }
    effects: external
    probe: python load.py --probe
    undo: python load.py --delete
    approve: { at: before, prompt: "Load ${{ inputs.day }}?", timeout: 24h }
    on-failure: rollback
"#;

fn broken() -> impl Iterator<Item = (&'static str, &'static str)> {
    BROKEN.split("=== ").skip(1).map(|case| case.split_once('\n').unwrap())
}

#[test]
fn every_mistake_is_told_at_its_place() {
    let mut told = String::new();
    for (name, text) in broken() {
        let result = read(text);
        assert!(result.errors() > 0 && result.workflow.is_none(), "{name}");
        told.push_str(&format!("=== {name}\n"));
        for mistake in &result.mistakes {
            let (line, column) = mistake.place(text);
            assert!(line <= text.lines().count().max(1) + 1, "{name}: line {line}");
            assert!(text.get(mistake.span.clone()).is_some(), "{name}: {:?}", mistake.span);
            let hint = mistake.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            told.push_str(&format!("{line}:{column}: {}{hint}\n", mistake.what));
        }
    }
    assert!(broken().count() >= 60);
    insta::assert_snapshot!("broken_workflows", told);
}

#[test]
fn a_mistake_is_shown_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "version: 1\nname: w\nstages:\n  build: { run: make }\n  test: { run: \"\u{1b}]0;x\u{7}\", needs: buidl }\n";
    fs::write(dir.path().join("w.yaml"), text).unwrap();
    let (result, shown) = agent(dir.path(), &["validate", "w.yaml"]);
    assert_eq!(result, Ok(ExitReason::Usage));
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    fs::write(dir.path().join("w.yaml"), text.replace("\u{1b}]0;x\u{7}", "make test")).unwrap();
    let (_, shown) = agent(dir.path(), &["validate", "w.yaml"]);
    insta::assert_snapshot!("broken_workflow_shown", shown);
    let (_, json) = agent(dir.path(), &["validate", "--json", "w.yaml"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["valid"], &json["mistakes"][0]["line"]), (&false.into(), &5.into()));
    let (result, _) = agent(dir.path(), &["graph", "w.yaml"]);
    assert!(result.unwrap_err().because[0].starts_with("5:"));
}

#[test]
fn a_good_file_is_valid_and_drawn() {
    let result = read(GOOD);
    assert_eq!(result.mistakes, [], "{:?}", result.mistakes);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("w.yaml"), GOOD).unwrap();
    let (result, text) = agent(dir.path(), &["validate", "w.yaml"]);
    assert_eq!(
        (result, text.trim_end()),
        (Ok(ExitReason::Done), "w.yaml is valid: 3 stages, 2 of them without a model, 3 checks")
    );
    let (_, text) = agent(dir.path(), &["graph", "w.yaml"]);
    insta::assert_snapshot!("workflow_graph", text);
    let (_, dot) = agent(dir.path(), &["graph", "--format", "dot", "w.yaml"]);
    assert!(dot.contains("\"extract\" -> \"transform\";"), "{dot}");
}

#[test]
fn the_schema_for_editors_is_the_one_that_files_are_held_against() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workflow.schema.json");
    let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert_eq!(
        fs::read_to_string(&kept).unwrap_or_default(),
        made,
        "`agent validate --schema > docs/workflow.schema.json`"
    );
}

#[test]
fn what_is_no_file_of_ours_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("latin"), b"version: 1\nname: caf\xe9\n").unwrap();
    let (result, _) = agent(dir.path(), &["validate", "latin"]);
    let failure = result.unwrap_err();
    assert_eq!((failure.reason, failure.because[0].contains("line 2")), (ExitReason::Usage, true), "{failure:?}");
    let (result, _) = agent(dir.path(), &["validate", "nowhere.yaml"]);
    assert_eq!(result.unwrap_err().what, "cannot read nowhere.yaml");
    // Ten thousand stages, and ten thousand levels.
    let stages: String = (0..10_000).map(|nth| format!("  s{nth}: {{ run: x, needs: s{} }}\n", nth + 1)).collect();
    let began = Instant::now();
    let many = read(&format!("version: 1\nname: w\nstages:\n{stages}"));
    assert!(
        many.mistakes.iter().any(|mistake| mistake.what.contains("10000 stages are more than")),
        "{:?}",
        many.mistakes.first()
    );
    let deep = read(&"[".repeat(10_000));
    assert_eq!(deep.mistakes[0].kind, MistakeKind::Syntax);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}
