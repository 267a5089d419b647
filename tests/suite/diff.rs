//! `agent diff`: what a box changed, told rightly and harmlessly, whatever kind of box it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN};
use crate::stage::{Ran, Stage, contents};

/// A script for a model that runs one command.
fn script(stage: &Stage, command: &str) -> String {
    assert!(!command.contains("'''"));
    let path = stage.home().join("script.toml");
    let turns = format!(
        "[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = {{ command = '''{command}''' }}\n[[turn]]\nsay = \"done\"\n"
    );
    fs::write(&path, turns).unwrap();
    format!("script:{}", path.display())
}

/// A run in a local box whose only command is this one.
#[track_caller]
pub(crate) fn ran(stage: &Stage, command: &str) -> Ran {
    let model = script(stage, command);
    let ran = stage.run(&["do", "x", "--model", &model, "--sandbox", "local"]).exits_with(0);
    assert!(ran.stderr.contains("exit 0"), "{}", ran.stderr);
    ran
}

/// The same in a container.
#[track_caller]
pub(crate) fn ran_in(stage: &Stage, engine: Engine, image: &str, command: &str) {
    let model = script(stage, command);
    let mut program = stage.agent(&["do", "x", "--model", &model, "--image", image]);
    program.env("DOCKER_HOST", format!("unix://{}", engine.socket));
    let ran = Ran::of(&program.output().unwrap()).exits_with(0);
    assert!(ran.stderr.contains("exit 0"), "{}", ran.stderr);
}

/// `kind path` of each change.
#[track_caller]
pub(crate) fn changes(stage: &Stage) -> Vec<String> {
    let ran = stage.run(&["diff", "last", "--json"]).exits_with(0);
    let list: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    let words = |value: &Value| format!("{} {}", value["kind"].as_str().unwrap(), value["path"].as_str().unwrap());
    list.iter().map(words).collect()
}

/// A project with something to change in every way.
pub(crate) fn project(stage: &Stage) {
    let project = stage.project();
    for dir in ["gone/deep", "merged", "swapped"] {
        fs::create_dir_all(project.join(dir)).unwrap();
    }
    for file in ["same", "mode", "gone/a", "gone/deep/b", "merged/kept", "merged/removed", "swapped/x", "to_dir"] {
        fs::write(project.join(file), format!("{file}\n")).unwrap();
    }
    std::os::unix::fs::symlink("same", project.join("link")).unwrap();
}

/// Changes it in every way. Busybox knows all of this.
pub(crate) const EVERY_WAY: &str = "sed -i s/two/TWO/ data.txt; chmod 755 mode; rm -r gone; rm merged/removed; \
    echo new >merged/new; rm -r swapped; echo file >swapped; rm to_dir; mkdir to_dir; echo in >to_dir/in; \
    rm link; ln -s mode link; cat same >/tmp/x; cat /tmp/x >same; mkdir anew; echo 1 >anew/1; rm -r merged/nothing; \
    mkdir 'a b'; true";

pub(crate) const EVERY_CHANGE: [&str; 16] = [
    "added a b",
    "added anew",
    "added anew/1",
    "changed data.txt",
    "deleted gone",
    "deleted gone/a",
    "deleted gone/deep",
    "deleted gone/deep/b",
    "changed link",
    "added merged/new",
    "deleted merged/removed",
    "mode mode",
    "type swapped",
    "deleted swapped/x",
    "type to_dir",
    "added to_dir/in",
];

#[test]
fn every_kind_of_change_is_told_and_what_is_as_before_is_not() {
    let stage = Stage::new();
    project(&stage);
    let before = contents(&stage.project());
    ran(&stage, EVERY_WAY);
    assert_eq!(changes(&stage), EVERY_CHANGE);
    assert_eq!(contents(&stage.project()), before);
    let shown = stage.run(&["diff", "last", "data.txt", "mode", "swapped"]).exits_with(0).stdout;
    assert_eq!(
        shown,
        "changed data.txt  14 B -> 14 B\n--- a/data.txt\n+++ b/data.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n\
         mode mode  mode 0644 -> 0755\n\
         type swapped  directory -> file, mode 0755 -> 0644\n--- a/swapped\n+++ b/swapped\n@@ -0,0 +1,1 @@\n+file\n\
         deleted swapped/x  file 0644, 10 B\n--- a/swapped/x\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-swapped/x\n"
    );
    let stat = stage.run(&["diff", "last", "--stat", "merged"]).exits_with(0).stdout;
    assert_eq!(stat, "added    merged/new  +1 -0\ndeleted  merged/removed  +0 -1\n1 added, 1 deleted\n");
}

#[track_caller]
fn is_told_in(engine: Engine, image: &str) {
    if !engine.is_there() {
        return;
    }
    let stage = Stage::new();
    project(&stage);
    ran_in(&stage, engine, image, EVERY_WAY);
    assert_eq!(changes(&stage), EVERY_CHANGE);
}

#[test]
fn a_docker_box_tells_the_same() {
    is_told_in(DOCKER, DEBIAN);
}

#[test]
fn a_podman_box_tells_the_same() {
    is_told_in(PODMAN, BUSYBOX);
}

#[test]
fn a_workspace_that_was_copied_tells_the_same() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    project(&stage);
    // No overlay of an engine can name this one.
    let odd = stage.project().with_file_name("a, b: c");
    fs::rename(stage.project(), &odd).unwrap();
    fs::create_dir(stage.project()).unwrap();
    let model = script(&stage, EVERY_WAY);
    let mut program = stage.agent(&["do", "x", "--model", &model, "--image", BUSYBOX, "-C"]);
    program.arg(&odd).env("DOCKER_HOST", format!("unix://{}", DOCKER.socket));
    Ran::of(&program.output().unwrap()).exits_with(0);
    assert!(stage.run_dir().join("box/u/workspace.tar").exists());
    assert_eq!(changes(&stage), EVERY_CHANGE);
    // What the host alone changes is no change of the box, though the copy has the old one.
    fs::write(odd.join("merged/kept"), "the host's\n").unwrap();
    assert_eq!(changes(&stage), EVERY_CHANGE);
    stage.run(&["apply"]).exits_with(0);
    assert_eq!(fs::read_to_string(odd.join("merged/kept")).unwrap(), "the host's\n");
    assert!(odd.join("to_dir/in").exists() && !odd.join("gone").exists());
    assert_eq!(changes(&stage), [""; 0]);
}

#[test]
fn names_and_contents_can_do_a_terminal_no_harm() {
    let stage = Stage::new();
    ran(
        &stage,
        r#"printf 'x\033]52;c;eA==\007\r\n\302\2331m' >"$(printf 'a\033[2J\nb\377')"; printf '\033[2J' >>data.txt; ln -s "$(printf '\033[2J')" l"#,
    );
    for args in [&["diff"][..], &["diff", "last", "--stat"], &["diff", "last", "--json"], &["apply", "last", "-n"]] {
        let mut program = stage.agent(args);
        let output = program.env("FORCE_COLOR", "1").output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        let rest =
            ["0", "1", "31", "32", "36"].iter().fold(text, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
        assert!(!rest.chars().any(|c| c.is_control() && c != '\n'), "{args:?}: {rest:?}");
    }
    let shown = stage.run(&["diff"]).exits_with(0).stdout;
    assert!(shown.contains(r"added a\e[2J\nb\xff") && shown.contains(r"+x\e]52;c;eA==\x07\r"), "{shown}");
}

#[test]
fn binary_and_large_files_are_told_by_their_sizes() {
    let stage = Stage::new();
    ran(&stage, "printf 'a\\0b' >bin; yes | head -c 3000000 >large; truncate -s 1T huge");
    let stat = stage.run(&["diff", "last", "--stat"]).exits_with(0).stdout;
    assert_eq!(
        stat,
        "added    bin  binary: 3 B\nadded    huge  binary: 1099.5 GB\nadded    large  large: 3.0 MB\n3 added\n"
    );
    let shown = stage.run(&["diff", "last", "large"]).exits_with(0).stdout;
    assert_eq!(shown, "added large  file 0644, 3.0 MB\n  too large to show: 3.0 MB\n");
}

#[test]
fn what_was_changed_outside_the_workspace_is_listed_and_can_not_be_applied() {
    let stage = Stage::new();
    let name = format!("longhaul-test-{}", fastrand::u64(..));
    ran(&stage, &format!("echo x >~/{name}; echo y >/tmp/{name}; echo z >new"));
    assert_eq!(changes(&stage), ["added new"]);
    let all = stage.run(&["diff", "last", "--all", "--stat"]).exits_with(0).stdout;
    assert!(all.contains(&format!("added    {}/{name}\n", stage.home().display())), "{all}");
    assert!(!all.contains("/tmp/longhaul-test-") || !all.contains(&format!(" /tmp/{name}")), "{all}");
    stage.run(&["apply"]).exits_with(0);
    assert!(!stage.home().join(&name).exists() && stage.project().join("new").exists());
    if !DOCKER.is_there() {
        return;
    }
    ran_in(&stage, DOCKER, BUSYBOX, "echo x >/etc/made; rm /etc/passwd; echo z >new");
    let all = stage.run(&["diff", "last", "--all", "--json"]).exits_with(0).stdout;
    let all: Vec<Value> = serde_json::from_str(&all).unwrap();
    let outside: Vec<_> = all.iter().filter(|change| change["outside"] == true).collect();
    assert!(outside.iter().any(|change| change["path"] == "/etc/made" && change["kind"] == "added"), "{outside:?}");
    assert!(!outside.iter().any(|change| change["path"] == "/etc"), "{outside:?}");
}

#[test]
fn a_run_that_wrote_through_has_nothing_to_bring() {
    for flags in [&["--sandbox", "local", "--workspace", "bind"][..], &["--sandbox", "host"]] {
        let stage = Stage::new();
        let model = script(&stage, "echo new >new");
        stage.run(&[&["do", "x", "--model", &model], flags].concat()).exits_with(0);
        for args in [&["diff"][..], &["apply"]] {
            let ran = stage.run(args).exits_with(0);
            assert!(ran.stderr.contains("this run wrote to the workspace itself"), "{}", ran.stderr);
        }
        assert_eq!(stage.run(&["diff", "last", "--json"]).exits_with(0).stdout, "[]\n");
    }
}

#[test]
fn what_can_not_be_told_is_an_error_that_says_why() {
    let stage = Stage::new();
    let ran_none = stage.run(&["diff"]).exits_with(2);
    assert!(ran_none.stderr.contains("there are no runs yet"), "{}", ran_none.stderr);
    ran(&stage, "echo new >new");
    let outside = stage.run(&["diff", "last", "/etc/passwd"]).exits_with(2);
    assert!(outside.stderr.contains("is not in the workspace"), "{}", outside.stderr);
    let typed_wrong = stage.run(&["apply", "last", "nwe"]).exits_with(0);
    assert!(typed_wrong.stderr.contains("nothing is changed at nwe"), "{}", typed_wrong.stderr);
    let away = stage.project().with_file_name("away");
    fs::rename(stage.project(), &away).unwrap();
    let mut program = stage.agent(&["diff"]);
    let gone = Ran::of(&program.current_dir(stage.home()).output().unwrap()).exits_with(2);
    assert!(gone.stderr.contains("cannot read the workspace"), "{}", gone.stderr);
    std::os::unix::fs::symlink(&away, stage.project()).unwrap();
    let mut program = stage.agent(&["apply"]);
    let led = Ran::of(&program.current_dir(stage.home()).output().unwrap()).exits_with(2);
    assert!(led.stderr.contains("leads elsewhere") && !away.join("new").exists(), "{}", led.stderr);
    fs::remove_file(stage.project()).unwrap();
    fs::rename(&away, stage.project()).unwrap();
    for part in ["box/u", "box"] {
        fs::remove_dir_all(stage.run_dir().join(part)).unwrap();
        let removed = stage.run(&["diff"]).exits_with(2);
        assert!(removed.stderr.contains("is not here"), "{}", removed.stderr);
    }
    let removed = stage.run(&["apply"]).exits_with(2);
    assert!(removed.stderr.contains("is not here"), "{}", removed.stderr);
}

#[test]
fn secrets_that_the_box_was_not_shown_are_neither_deleted_nor_overwritten_nor_shown() {
    let stage = Stage::new();
    let secrets = stage.home().join(".ssh");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("id"), "SECRET-KEY\n").unwrap();
    fs::write(stage.home().join(".netrc"), "SECRET-PASSWORD\n").unwrap();
    // The home is the workspace: what is hidden lies in it.
    let model = script(&stage, "rm -rf .ssh; mkdir .ssh; echo mine >.ssh/id; echo mine >.netrc; echo new >new");
    let mut program = stage.agent(&["do", "x", "--model", &model, "--sandbox", "local", "-C"]);
    Ran::of(&program.arg(stage.home()).output().unwrap()).exits_with(0);
    let told = stage.run(&["diff"]).exits_with(0);
    assert!(!told.stdout.contains("SECRET") && !told.stdout.contains("deleted"), "{}", told.stdout);
    let applied = stage.run(&["apply", "last", "--force", "--include-active"]).exits_with(6);
    assert!(applied.stdout.contains("applied     added new\n"), "{}", applied.stdout);
    assert_eq!(fs::read_to_string(secrets.join("id")).unwrap(), "SECRET-KEY\n");
    assert_eq!(fs::read_to_string(stage.home().join(".netrc")).unwrap(), "SECRET-PASSWORD\n");
}

#[test]
fn an_ordinary_user_tells_and_applies_what_his_box_made() {
    if !rustix::process::geteuid().is_root() {
        return; // The other tests ran as one.
    }
    const USER: &str = "12345";
    let stage = Stage::new();
    project(&stage);
    let place = stage.project().parent().unwrap().to_owned();
    let model = script(&stage, EVERY_WAY);
    Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(&place).status().unwrap();
    let agent = place.join("agent");
    fs::copy(env!("CARGO_BIN_EXE_agent"), &agent).unwrap();
    let as_user = |args: &[&str]| {
        let mut program = Command::new("setpriv");
        program.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all", "--"]).arg(&agent);
        Ran::of(&stage.as_it_is(program, args).output().unwrap())
    };
    as_user(&["do", "x", "--model", &model, "--sandbox", "local"]).exits_with(0);
    let told = as_user(&["diff", "last", "--json"]).exits_with(0).stdout;
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    let words = told.iter().map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["path"].as_str().unwrap()));
    assert_eq!(words.collect::<Vec<_>>(), EVERY_CHANGE);
    as_user(&["apply"]).exits_with(0);
    let made = fs::metadata(stage.project().join("to_dir/in")).unwrap();
    assert_eq!((made.uid().to_string().as_str(), made.permissions().mode() & 0o777), (USER, 0o644));
    assert!(!Path::new(&stage.project().join("gone")).exists());
    assert_eq!(as_user(&["diff", "last", "--json"]).exits_with(0).stdout, "[]\n");
}
