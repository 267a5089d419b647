//! Which layer wins, what a project may do, and what is said of nonsense.

use super::*;
use crate::domain::{Check, Comparison};

struct Files {
    dir: tempfile::TempDir,
    sources: Sources,
}

fn files(user: &str, project: &str) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let sources = Sources {
        system: Some(dir.path().join("none.toml")),
        user: path("user.toml", user),
        project: path("project.toml", project),
        ..Sources::default()
    };
    Files { dir, sources }
}

#[test]
fn later_layers_win_and_say_where_a_value_comes_from() {
    let mut files = files("model = 'a'\nsandbox = 'local'\nmax_turns = 9\ncpus = 1.5\nmemory = '4GiB'", "");
    files.sources.variables.insert("LONGHAUL_MODEL".into(), "b".into());
    files.sources.variables.insert("OPENAI_BASE_URL".into(), "http://127.0.0.1:1/v1/".into());
    files.sources.flags.push((Key::MaxTurns, Value::Count(3)));
    let config = load(&files.sources).unwrap();
    assert_eq!(config.model.value.as_deref(), Some("b"));
    assert_eq!(config.model.origin, Origin::Variable("LONGHAUL_MODEL".into()));
    assert_eq!(config.base_url.value.as_deref(), Some("http://127.0.0.1:1/v1"));
    assert_eq!((config.max_turns.value, config.max_turns.origin), (3, Origin::Flag));
    assert_eq!(config.sandbox.value, SandboxChoice::Local);
    assert_eq!(config.sandbox.origin, Origin::File(files.dir.path().join("user.toml")));
    assert_eq!((config.cpus.value, config.memory_bytes.value), (Some(1.5), Some(4 << 30)));
    assert_eq!((config.api_key_env.value.as_str(), config.api_key_env.origin), ("OPENAI_API_KEY", Origin::Default));
    assert!(config.network.value && config.warnings.is_empty());
}

#[test]
fn a_project_can_only_make_a_run_narrower() {
    let files = files(
        "max_turns = 50\npids = 100",
        "base_url = 'https://evil.example'\napi_key_env = 'AWS_SECRET'\nimage = 'x'\nmodel = 'm'\nsandbox = 'host'\n\
         network = 'none'\nmax_turns = 60\npids = 20\nmemory = '1g'\nchecks = ['make test']",
    );
    let config = load(&files.sources).unwrap();
    assert_eq!((config.base_url.value, config.image.value, config.model.value), (None, None, None));
    assert_eq!(config.api_key_env.value, "OPENAI_API_KEY");
    assert_eq!(config.sandbox.value, SandboxChoice::Auto);
    assert!(!config.network.value);
    assert_eq!((config.max_turns.value, config.pids.value), (50, Some(20)));
    assert_eq!(
        (config.memory_bytes.value, config.checks.value),
        (Some(1 << 30), vec![Check::Command("make test".to_owned())])
    );
    let named: Vec<&str> = config.warnings.iter().filter_map(|warning| warning.split('`').nth(1)).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["api_key_env", "base_url", "image", "max_turns", "model", "sandbox"]);
}

#[test]
fn a_project_cannot_leave_the_box_that_the_user_chose() {
    let files = files("sandbox = 'docker'\nnetwork = 'none'", "sandbox = 'local'\nnetwork = 'open'");
    let config = load(&files.sources).unwrap();
    assert_eq!((config.sandbox.value, config.network.value), (SandboxChoice::Docker, false));
    assert_eq!(config.warnings.len(), 2);
}

#[test]
fn a_project_cannot_raise_a_default() {
    let files = files("", "max_turns = 1000");
    assert_eq!(load(&files.sources).unwrap().max_turns.value, 200);
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    for (text, message) in [
        ("\nmodle = 'a'", "user.toml:2:1: there is no setting `modle`; did you mean `model`?"),
        ("maxturns = 3", "user.toml:1:1: there is no setting `maxturns`; did you mean `max_turns`?"),
        ("colour = 'red'", "user.toml:1:1: there is no setting `colour`"),
        ("model = 'a'\nmax_turns = 0", "user.toml:2:1: `max_turns` must be a whole number above zero"),
        ("sandbox = 'vm'", "user.toml:1:1: `sandbox` must be auto, docker, local or host"),
        ("pids = true", "user.toml:1:1: `pids` must be a whole number, and 16 at least"),
        ("checks = 'x'", "user.toml:1:1: `checks` must be a list of checks"),
        ("cpus = nan", "user.toml:1:1: `cpus` must be a number above zero such as 1.5"),
    ] {
        let files = files(text, "");
        let error = load(&files.sources).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    }
    let broken = files("model = 'a'\n= 3", "");
    assert!(matches!(load(&broken.sources), Err(ConfigError::Syntax { line: 2, .. })));
    let mut variable = files("", "");
    variable.sources.variables.insert("LONGHAUL_CPUS".into(), "many".into());
    let error = load(&variable.sources).unwrap_err().to_string();
    assert_eq!(error, "LONGHAUL_CPUS: `cpus` must be a number above zero such as 1.5");
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let mut files = files("", "");
    files.sources.user = Some(files.dir.path().to_owned());
    assert!(matches!(load(&files.sources), Err(ConfigError::Read { .. })));
}

#[test]
fn checks_are_commands_files_and_metrics_and_a_project_adds_to_what_is_protected() {
    let files = files(
        "protect = ['a']\ncheck_timeout = '10m'\nbaseline = false",
        "protect = ['tests/**']\ncheck_timeout = '20m'\n\
         checks = ['make', { file = 'out.csv' }, { metric = 'e.json#/loss<0.5' }]",
    );
    let config = load(&files.sources).unwrap();
    let metric =
        Check::Metric { metric: "e.json".to_owned(), pointer: "/loss".to_owned(), is: Comparison::Below, than: 0.5 };
    let file = Check::File { file: "out.csv".to_owned() };
    assert_eq!(config.checks.value, [Check::Command("make".to_owned()), file, metric]);
    assert_eq!(config.protect.value, ["a", "tests/**"]);
    assert_eq!((config.check_timeout_s.value, config.baseline.value), (Some(600), false));
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn a_check_that_makes_no_sense_is_named_with_its_place() {
    let said = |checks: &str| load(&files(&format!("\nchecks = {checks}"), "").sources).unwrap_err().to_string();
    assert!(said("['a', 3]").contains("user.toml:2: check 2: a command, { file"), "{}", said("['a', 3]"));
    let metric = said("[{ metric = 'e.json#/x>=good' }]");
    assert!(metric.ends_with("check 1: `e.json#/x>=good`: column 12: a number such as 0.9 is expected"), "{metric}");
    assert!(said("[{ file = 1 }]").ends_with("`file` must be a string"));
    assert!(said("'make'").ends_with("`checks` must be a list of checks"));
}

#[test]
fn rules_come_with_their_place_and_a_project_allows_nothing() {
    use crate::domain::{ActMode, OnSilence, Permit, Silence};

    let mut files = files(
        "mode = 'ask'\non_silence = 'pause'\nanswer_within = '1h'\n[[rule]]\npermit = 'allow'\ncommand = 'make *'\n",
        "mode = 'auto'\non_silence = 'wait'\n[[rule]]\npermit = 'deny'\ncommand = 'x'\n[[rule]]\npermit = 'allow'\n",
    );
    files.sources.policy = Some(files.dir.path().join("rules.toml"));
    std::fs::write(files.sources.policy.as_ref().unwrap(), "[[rule]]\npermit = 'ask'\nwithin = '5m'\n").unwrap();
    let config = load(&files.sources).unwrap();
    assert_eq!(config.mode.value, ActMode::Ask, "a project may only have less done");
    let silence = Silence { then: OnSilence::Pause, within_s: Some(3_600) };
    assert_eq!(config.silence, silence);
    let told: Vec<_> = config
        .rules
        .iter()
        .map(|rule| (rule.permit, rule.origin.rsplit('/').next().unwrap_or_default(), rule.silence))
        .collect();
    let own = Silence { within_s: Some(300), ..silence };
    let expected = [
        (Permit::Allow, "user.toml:4", None),
        (Permit::Deny, "project.toml:3", None),
        (Permit::Ask, "rules.toml:1", Some(own)),
    ];
    assert_eq!(told, expected);
    let about = ["`mode`", "`on_silence`", "the rule at"];
    assert!(about.iter().all(|words| config.warnings.iter().any(|warning| warning.starts_with(words))), "{config:?}");
    let strict = load(&Sources { project: files.sources.user, ..Sources::default() }).unwrap();
    assert_eq!((strict.mode.value, strict.rules.len()), (ActMode::Ask, 0));
}
