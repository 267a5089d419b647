//! `agent apply`: what comes to the host, what does not, and that the host is unchanged by what does not.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::diff::{EVERY_WAY, changes, project, ran, ran_in};
use crate::engines::{BUSYBOX, DOCKER};
use crate::goal::until;
use crate::stage::{Ran, Stage, contents};

/// Names of files that applying has not finished.
fn unfinished(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| path.to_string_lossy().contains(".longhaul-apply-");
    contents(dir).into_keys().filter(is_ours).collect()
}

#[track_caller]
fn the_host_is_as_the_box_was(stage: &Stage) {
    let at = |path: &str| stage.project().join(path);
    let text = |path: &str| fs::read_to_string(at(path)).unwrap();
    assert_eq!(text("data.txt"), "one\nTWO\nthree\n");
    assert_eq!(
        (text("swapped"), text("to_dir/in"), text("merged/new")),
        ("file\n".into(), "in\n".into(), "new\n".into())
    );
    assert_eq!(
        (text("merged/kept"), text("same"), text("anew/1")),
        ("merged/kept\n".into(), "same\n".into(), "1\n".into())
    );
    assert!(!at("gone").exists() && !at("merged/removed").exists() && at("a b").is_dir());
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("mode"));
    assert_eq!(fs::metadata(at("mode")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(unfinished(&stage.project()).is_empty());
}

#[test]
fn the_host_becomes_what_the_box_was_and_a_second_time_does_nothing() {
    let stage = Stage::new();
    project(&stage);
    ran(&stage, EVERY_WAY);
    let before = contents(&stage.project());
    let said = stage.run(&["apply", "last", "--dry-run"]).exits_with(0).stdout;
    assert!(said.contains("would apply deleted gone/deep/b\n") && said.ends_with("16 to apply\n"), "{said}");
    assert_eq!(contents(&stage.project()), before);
    let said = stage.run(&["apply"]).exits_with(0).stdout;
    assert!(said.ends_with("16 applied\n"), "{said}");
    the_host_is_as_the_box_was(&stage);
    let applied: Vec<Value> = serde_json::from_slice(&fs::read(stage.run_dir().join("applied.json")).unwrap()).unwrap();
    let data = applied.iter().find(|one| one["path"] == "data.txt").unwrap();
    let sum = std::process::Command::new("sha256sum").arg(stage.project().join("data.txt")).output().unwrap();
    assert_eq!(data["sha256"].as_str().unwrap(), String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap());
    assert_eq!((applied.len(), data["kind"].as_str()), (16, Some("changed")));
    let after = contents(&stage.project());
    assert_eq!(stage.run(&["apply"]).exits_with(0).stdout, "0 applied\n");
    assert_eq!(contents(&stage.project()), after);
    stage.verifies();
}

#[test]
fn what_a_container_made_as_root_is_applied_too() {
    if !DOCKER.is_there() {
        return;
    }
    let stage = Stage::new();
    project(&stage);
    ran_in(&stage, DOCKER, BUSYBOX, EVERY_WAY);
    stage.run(&["apply"]).exits_with(0);
    the_host_is_as_the_box_was(&stage);
    assert_eq!(changes(&stage), [""; 0]);
}

#[test]
fn only_what_is_named_is_applied_with_the_directories_that_it_needs() {
    let stage = Stage::new();
    project(&stage);
    ran(&stage, EVERY_WAY);
    let said = stage.run(&["apply", "last", "to_dir/in", "anew/1", "merged"]).exits_with(0).stdout;
    assert!(said.ends_with("6 applied\n"), "{said}");
    let at = |path: &str| stage.project().join(path);
    assert!(at("to_dir/in").exists() && at("anew/1").exists() && !at("merged/removed").exists());
    assert!(at("gone/a").exists() && at("swapped").is_dir());
    assert_eq!(fs::read_to_string(at("data.txt")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn what_the_host_changed_meanwhile_stops_everything_until_it_is_forced_or_left_out() {
    let stage = Stage::new();
    project(&stage);
    ran(&stage, EVERY_WAY);
    let at = |path: &str| stage.project().join(path);
    fs::write(at("data.txt"), "the host's\n").unwrap();
    fs::remove_file(at("mode")).unwrap();
    fs::write(at("gone/late"), "late\n").unwrap();
    fs::create_dir(at("merged/sub")).unwrap();
    fs::write(at("merged/new"), "the host's too\n").unwrap();
    let before = contents(&stage.project());
    for args in [&["apply"][..], &["apply", "last", "-n"]] {
        let ran = stage.run(args).exits_with(3);
        for path in ["changed data.txt", "added mode", "deleted gone/late", "changed merged/new"] {
            assert!(
                ran.stdout.contains(&format!("conflict    {path}: the host has changed it")),
                "{path}: {}",
                ran.stdout
            );
        }
        assert!(ran.stdout.ends_with("4 in conflict\n") || ran.stdout.contains("4 in conflict, "), "{}", ran.stdout);
        assert!(ran.stderr.contains("nothing was applied"), "{}", ran.stderr);
        assert_eq!(contents(&stage.project()), before);
    }
    stage.run(&["apply", "last", "swapped", "to_dir"]).exits_with(0);
    assert!(at("swapped").is_file());
    stage.run(&["apply", "last", "--force"]).exits_with(0);
    assert_eq!(fs::read_to_string(at("data.txt")).unwrap(), "one\nTWO\nthree\n");
    assert!(!at("gone").exists() && at("mode").exists() && at("merged/sub").is_dir());
    assert_eq!(fs::read_to_string(at("merged/new")).unwrap(), "new\n");
}

#[test]
fn links_that_lead_out_and_special_files_are_refused_and_the_rest_comes() {
    let stage = Stage::new();
    fs::create_dir(stage.project().join("dir")).unwrap();
    fs::write(stage.project().join("dir/file"), "in dir\n").unwrap();
    fs::write(stage.home().join("precious"), "precious\n").unwrap();
    let command = "mv dir moved; ln -s ../home dir; ln -s /etc/passwd abs; ln -s ../home/precious up; ln -s moved/../.. odd; \
         mkfifo pipe; perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"sock\", Listen => 1)'; \
         ln -s moved/file good; ln data.txt hard; chmod 6755 data.txt; test -S sock";
    let before = contents(&stage.home());
    ran(&stage, command);
    let said = stage.run(&["apply"]).exits_with(6).stdout;
    for path in ["type dir", "added abs", "added up", "added odd", "added pipe", "added sock"] {
        assert!(said.contains(&format!("refused     {path}: ")), "{path}: {said}");
    }
    assert!(said.contains("waits       deleted dir/file: "), "{said}");
    assert!(said.contains("without its setuid, setgid or sticky bit"), "{said}");
    let at = |path: &str| stage.project().join(path);
    assert_eq!(fs::read_to_string(at("dir/file")).unwrap(), "in dir\n");
    assert_eq!(fs::read_to_string(at("good")).unwrap(), "in dir\n");
    assert_eq!(fs::read_to_string(at("hard")).unwrap(), "one\ntwo\nthree\n");
    for path in ["hard", "data.txt"] {
        assert_eq!(fs::metadata(at(path)).unwrap().mode() & 0o7777, 0o755, "{path}");
    }
    for path in ["abs", "up", "odd", "pipe", "sock"] {
        assert!(fs::symlink_metadata(at(path)).is_err(), "{path}");
    }
    let is_plain = |path: &PathBuf| {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        !kind.is_fifo() && !kind.is_socket()
    };
    assert!(contents(&stage.project()).keys().all(is_plain));
    let mut after = contents(&stage.home());
    // The script of the model itself was written there.
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn a_directory_of_the_host_that_became_a_link_is_not_followed() {
    let stage = Stage::new();
    let at = |path: &str| stage.project().join(path);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/file"), "old\n").unwrap();
    ran(&stage, "echo new >dir/file; echo more >dir/more; mkdir other; echo x >other/y");
    let outside = stage.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious\n").unwrap();
    fs::remove_dir_all(at("dir")).unwrap();
    symlink(&outside, at("dir")).unwrap();
    symlink(&outside, at("other")).unwrap();
    let before = (contents(&stage.project()), contents(&outside));
    stage.run(&["apply"]).exits_with(3);
    assert_eq!((contents(&stage.project()), contents(&outside)), before);
    // Forced, the links give way to the box's directories; what they led to stays.
    stage.run(&["apply", "last", "--force"]).exits_with(0);
    assert_eq!(contents(&outside), before.1);
    assert!(!at("dir").is_symlink() && !at("other").is_symlink());
    assert_eq!(fs::read_to_string(at("dir/file")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(at("other/y")).unwrap(), "x\n");
}

#[test]
fn files_that_run_by_themselves_come_only_when_they_are_named() {
    let stage = Stage::new();
    let command = "mkdir -p .git/hooks .vscode sub .GitHub/workflows; echo evil >.git/hooks/pre-commit; echo x >.git/HEAD; \
         echo evil >.git/config; echo evil >sub/.envrc; echo '{}' >.vscode/tasks.json; echo evil >.GitHub/workflows/ci.yml; \
         echo 'gitdir: ../evil' >sub/.git; mkdir -p bare/objects bare/refs bare/hooks; echo x >bare/HEAD; \
         echo evil >bare/config; echo evil >bare/hooks/post-checkout; echo fine >fine";
    ran(&stage, command);
    let held = [
        ".git/hooks/pre-commit",
        ".git/config",
        "sub/.envrc",
        ".vscode/tasks.json",
        ".GitHub/workflows/ci.yml",
        "sub/.git",
        "bare/config",
        "bare/hooks/post-checkout",
    ];
    let at = |path: &str| stage.project().join(path);
    let ran = stage.run(&["apply", "last", "."]).exits_with(4);
    for path in held {
        assert!(
            ran.stdout.contains(&format!("held back   added {path}: it runs by itself on the host: ")),
            "{path}: {}",
            ran.stdout
        );
        assert!(!at(path).exists(), "{path}");
    }
    assert!(at("fine").exists() && at(".git/HEAD").exists() && at("bare/HEAD").exists());
    stage.run(&["apply", "last", "sub/.envrc", ".git/hooks"]).exits_with(0);
    assert!(at("sub/.envrc").exists() && at(".git/hooks/pre-commit").exists() && !at(".git/config").exists());
    stage.run(&["apply", "last", "--include-active"]).exits_with(0);
    assert!(held.iter().all(|path| at(path).exists()));
}

#[test]
fn names_of_every_kind_come_as_they_are() {
    let stage = Stage::new();
    let long = "x".repeat(255);
    let command = format!(
        r#"echo 1 >"$(printf 'new\nline')"; echo 2 >'a  b'; echo 3 >./-rf; echo 4 >{long}; echo 5 >"$(printf 'bad\377')"; mkdir "$(printf '\033[2J')"; echo 6 >"$(printf '\033[2J/x')"; mkdir '*'; echo 7 >'*/?'"#
    );
    ran(&stage, &command);
    stage.run(&["apply"]).exits_with(0);
    let names: [&[u8]; 7] = [b"new\nline", b"a  b", b"-rf", long.as_bytes(), b"bad\xff", b"\x1b[2J/x", b"*/?"];
    for (nth, name) in names.into_iter().enumerate() {
        let path = stage.project().join(OsStr::from_bytes(name));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", nth + 1), "{}", path.display());
    }
    let applied: Vec<Value> = serde_json::from_slice(&fs::read(stage.run_dir().join("applied.json")).unwrap()).unwrap();
    assert!(applied.iter().any(|one| one["path_base64"] == "YmFk/w=="), "{applied:?}");
}

#[test]
fn holes_stay_holes_and_what_the_host_gave_a_file_stays_with_it() {
    let stage = Stage::new();
    let at = |path: &str| stage.project().join(path);
    let tag = rustix::fs::setxattr(at("data.txt"), "user.origin", b"host", rustix::fs::XattrFlags::empty());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at("data.txt"), Some(12_345), Some(12_345)).unwrap();
    }
    let owner = fs::metadata(at("data.txt")).unwrap().uid();
    ran(
        &stage,
        "truncate -s 1T huge; printf end >>huge; truncate -s 64M part; echo x | dd of=part bs=1 seek=33554432 conv=notrunc; echo y >>data.txt",
    );
    let begun = std::time::Instant::now();
    stage.run(&["apply"]).exits_with(0);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let huge = fs::metadata(at("huge")).unwrap();
    assert_eq!(huge.len(), (1 << 40) + 3);
    assert!(huge.blocks() * 512 < 1 << 20 && fs::metadata(at("part")).unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(fs::metadata(at("data.txt")).unwrap().uid(), owner);
    if tag.is_ok() {
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(at("data.txt"), "user.origin", &mut value[..]), Ok(4));
    }
    assert_eq!(changes(&stage), [""; 0]);
}

#[test]
fn an_apply_that_is_killed_leaves_each_file_old_or_new_and_is_finished_by_the_next() {
    const FILES: usize = 400;
    let stage = Stage::new();
    let name = |nth: usize| stage.project().join(format!("d{}/f{nth}", nth % 7));
    for nth in 0..FILES {
        fs::create_dir_all(name(nth).parent().unwrap()).unwrap();
        fs::write(name(nth), format!("old {nth}\n")).unwrap();
    }
    ran(&stage, "for f in d*/*; do echo new >$f; done; rm d6/*; mkdir anew; echo 1 >anew/1");
    let news = || (0..FILES).filter(|&nth| fs::read_to_string(name(nth)).is_ok_and(|text| text == "new\n")).count();
    let pending = || stage.run_dir().join("applying.json");
    let mut kills = 0;
    for round in 0..20 {
        let mut apply = stage
            .agent(&["apply"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Each round is let a little further; a round that came to its end is none.
        let begun = std::time::Instant::now();
        let goal = 20 * round;
        while apply.try_wait().unwrap().is_none() && (!pending().exists() || news() < goal) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not come on");
        }
        apply.kill().unwrap();
        let ended = apply.wait().unwrap();
        kills += usize::from(ended.code().is_none());
        for nth in 0..FILES {
            let text = fs::read_to_string(name(nth)).ok();
            let fits = match text.as_deref() {
                Some("new\n") => nth % 7 != 6,
                None => nth % 7 == 6,
                Some(old) => old == format!("old {nth}\n"),
            };
            assert!(fits, "{nth}: {text:?}");
        }
        if ended.success() {
            break;
        }
    }
    assert!(kills > 0, "it was never killed at work");
    stage.run(&["apply"]).exits_with(0);
    assert_eq!(news(), (0..FILES).filter(|nth| nth % 7 != 6).count());
    assert_eq!((changes(&stage), unfinished(&stage.project())), (Vec::new(), Vec::new()));
    assert!(!pending().exists() && !stage.project().join("d6").read_dir().unwrap().any(|_| true));
}

#[test]
fn two_at_once_are_one_too_many_and_a_run_at_work_is_waited_for() {
    let stage = Stage::new();
    ran(&stage, "echo new >new");
    let lock = File::create(stage.run_dir().join("apply.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let busy = stage.run(&["apply"]).exits_with(2);
    assert!(busy.stderr.contains("being applied by another process"), "{}", busy.stderr);
    drop(lock);
    assert!(!stage.project().join("new").exists());

    let script = stage.home().join("waits.toml");
    let turn = "[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = { command = 'echo new >now; sleep 600' }\n";
    fs::write(&script, turn).unwrap();
    let model = format!("script:{}", script.display());
    let mut driver = stage.agent(&["do", "x", "--model", &model, "--sandbox", "local"]).spawn().unwrap();
    until(|| {
        let ran = stage.run(&["diff", "last", "--stat"]);
        ran.code == 0 && ran.stdout.contains("added    now  +1 -0\n")
    });
    let told = stage.run(&["diff"]).exits_with(0);
    assert!(told.stderr.contains("the box is up"), "{}", told.stderr);
    let refused = stage.run(&["apply"]).exits_with(2);
    assert!(refused.stderr.contains("is driven by process"), "{}", refused.stderr);
    std::process::Command::new("kill").args(["-INT", &driver.id().to_string()]).status().unwrap();
    driver.wait().unwrap();
    stage.run(&["apply"]).exits_with(0);
    assert!(stage.project().join("now").exists());
}

#[test]
fn a_disk_that_is_full_stops_it_with_every_file_old_or_new() {
    let Some(disk) = crate::small_disk::SmallDisk::mount() else { return };
    let stage = Stage::new();
    let work = disk.path.join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("a"), "old\n").unwrap();
    let script = stage.home().join("fills.toml");
    let command = "echo new >a; head -c 300000 /dev/zero >b; head -c 300000 /dev/zero >c";
    let turns = format!(
        "[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = {{ command = '{command}' }}\n[[turn]]\nsay = \"done\"\n"
    );
    fs::write(&script, turns).unwrap();
    let model = format!("script:{}", script.display());
    let mut program = stage.agent(&["do", "x", "--model", &model, "--sandbox", "local", "-C"]);
    Ran::of(&program.arg(&work).output().unwrap()).exits_with(0);
    let full = stage.run(&["apply"]).exits_with(3);
    assert!(full.stderr.contains("stopped at c") && full.stderr.contains("No space left"), "{}", full.stderr);
    assert!(["old\n", "new\n"].contains(&fs::read_to_string(work.join("a")).unwrap().as_str()));
    assert!(unfinished(&work).is_empty());
    stage.run(&["apply", "last", "a"]).exits_with(0);
    assert_eq!(fs::read_to_string(work.join("a")).unwrap(), "new\n");
}

#[test]
fn a_run_applies_at_its_end_when_every_check_has_passed_and_only_then() {
    for (check, code, says) in [
        (Some("grep -q new made"), 0, "applied     added made"),
        (Some("false"), 4, "not applied: no check has proved the result"),
        (None, 0, "not applied: no check has proved the result"),
    ] {
        let stage = Stage::new();
        let script = stage.home().join("script.toml");
        let finish = "[[turn]]\n[[turn.call]]\ntool = \"finish\"\narguments = { summary = \"done\" }\n".repeat(4);
        let make = "[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = { command = 'echo new >made' }\n";
        fs::write(&script, format!("{make}{finish}")).unwrap();
        let model = format!("script:{}", script.display());
        let args = ["do", "x", "--apply", "--model", &model, "--sandbox", "local"];
        let checks = check.map(|check| vec!["--check", check]).unwrap_or_default();
        let ran = stage.run(&[&args[..], &checks].concat()).exits_with(code);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert_eq!(stage.project().join("made").exists(), says.starts_with("applied"));
        stage.verifies();
    }
}

#[test]
fn what_can_not_all_be_applied_at_the_end_of_a_run_decides_its_exit_code() {
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    let make = "[[turn]]\n[[turn.call]]\ntool = \"shell\"\narguments = { command = 'echo new >made; mkfifo pipe' }\n";
    let finish = "[[turn]]\n[[turn.call]]\ntool = \"finish\"\narguments = { summary = \"done\" }\n";
    fs::write(&script, format!("{make}{finish}")).unwrap();
    let model = format!("script:{}", script.display());
    let args = [
        "do",
        "x",
        "--apply",
        "--check",
        "test -e made",
        "--output-format",
        "json",
        "--model",
        &model,
        "--sandbox",
        "local",
    ];
    let ran = stage.run(&args).exits_with(6);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(result["verdict"], "verified");
    assert!(ran.stderr.contains("refused     added pipe: it is a fifo"), "{}", ran.stderr);
    assert!(stage.project().join("made").exists());
}
