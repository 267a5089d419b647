//! Containers that are kept, found again, and made from what was kept.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use longhaul::domain::{Consistency, Snapshot};
use longhaul::guest::{CheckCommand, Phase};
use longhaul::sandbox::{Backend as _, BoxSpec, Found, Sandbox, SandboxError, SnapshotWish};

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN, Project, left_of_kind, run};

const PATIENCE: Duration = Duration::from_secs(10);

fn told(error: &SandboxError) -> String {
    format!("{error}: {:?}; {:?}", error.because, error.hint)
}

fn alive(found: Result<Found, SandboxError>) -> Box<dyn Sandbox> {
    match found {
        Ok(Found::Alive(sandbox)) => sandbox,
        Ok(Found::Restarted(_, why)) => panic!("restarted: {why}"),
        Ok(Found::Gone(why)) => panic!("gone: {why}"),
        Err(error) => panic!("{}", told(&error)),
    }
}

#[tokio::test]
async fn a_box_is_found_as_its_driver_left_it() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let first = project.backend().create(&spec).await.expect("a box");
        run(&*first, "echo here >made").await;
        let long = CheckCommand { id: "long".into(), cwd: None, env: BTreeMap::new(), timeout_ms: 600_000 };
        first.guest().check(long, b"sleep 600").await.expect("it begins");
        let facts = first.facts().clone();
        drop(first);
        // A later driver draws another token.
        let later = BoxSpec { token: "another".to_owned(), ..spec.clone() };
        let again = alive(project.backend().find(&later).await);
        assert_eq!(*again.facts(), facts);
        assert_eq!(run(&*again, "cat made").await.1, "here\n");
        let state = again.guest().command("long").await.expect("it is known");
        assert!(!matches!(state.phase, Phase::Ended(_)), "{state:?}");
        assert!(again.guest().welcome().logs_on_host);
        assert_eq!(again.destroy(PATIENCE).await.left, Vec::<String>::new());
        assert_eq!(engine.left_of(&spec.run), [""; 0]);
        assert!(matches!(project.backend().find(&later).await, Ok(Found::Gone(_))));
    }
}

#[tokio::test]
async fn a_container_that_was_stopped_is_started_again_with_its_files() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let first = project.backend().create(&spec).await.expect("a box");
        run(&*first, "echo here >made; echo there >/etc/changed").await;
        let name = first.facts().id.clone();
        drop(first);
        assert!(Command::new(engine.program).args(["kill", &name]).output().expect("it runs").status.success());
        let Ok(Found::Restarted(again, why)) = project.backend().find(&spec).await else { panic!("not restarted") };
        assert_eq!(why, "it had ended with code 137");
        assert_eq!(run(&*again, "cat made /etc/changed").await.1, "here\nthere\n");
        again.destroy(PATIENCE).await;
        assert_eq!(engine.left_of(&spec.run), [""; 0]);
    }
}

#[tokio::test]
async fn what_is_not_there_or_half_made_or_held_is_told_apart() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let spec = project.spec(BUSYBOX);
    let nothing = project.backend().find(&spec).await;
    assert!(matches!(nothing, Ok(Found::Gone(why)) if why == "no container was made"));
    let first = project.backend().create(&spec).await.expect("a box");
    let name = first.facts().id.clone();
    drop(first);
    let docker = |words: &[&str]| {
        assert!(Command::new("docker").args(words).output().expect("it runs").status.success(), "{words:?}");
    };
    docker(&["pause", &name]);
    let held = alive(project.backend().find(&spec).await);
    assert_eq!(run(&*held, "echo goes on").await.1, "goes on\n");
    drop(held);
    docker(&["rm", "-f", "-v", &name]);
    let gone = project.backend().find(&spec).await;
    assert!(matches!(gone, Ok(Found::Gone(why)) if why.ends_with("is not there any more")));
    // Another's container of the same name is none of ours.
    docker(&["create", "--name", &name, BUSYBOX, "true"]);
    let others = project.backend().find(&spec).await;
    assert!(matches!(others, Ok(Found::Gone(why)) if why.ends_with("is another's")));
    docker(&["rm", "-f", &name]);
    project.backend().sweep(&|_| false).await;
    assert_eq!(DOCKER.left_of(&spec.run), [""; 0]);
}

#[tokio::test]
async fn nothing_that_an_engine_tells_of_an_image_or_container_has_the_secret() {
    let secret = "s3cr3t-0f-th1s-b0x";
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = BoxSpec { token: secret.to_owned(), ..project.spec(BUSYBOX) };
        let sandbox = project.backend().create(&spec).await.expect("a box");
        let snapshot = kept(&*sandbox, &wish(&spec, 1)).await;
        let image = snapshot.image.clone().expect("an image");
        let name = sandbox.facts().id.clone();
        for words in [
            &["image", "inspect", &image][..],
            &["history", "--no-trunc", &image],
            &["inspect", &name],
            // Nor is it in a file, once the guest has read it.
            &["exec", &name, "sh", "-c", "env; find /run/longhaul -name token"],
        ] {
            let done = Command::new(engine.program).args(words).output().expect("it runs");
            let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            assert!(done.status.success(), "{words:?}: {err}");
            assert!(!out.contains(secret) && !out.contains("/token"), "{} {words:?}: {out}", engine.program);
        }
        sandbox.destroy(PATIENCE).await;
        assert_eq!(project.backend().discard(&snapshot).await, [""; 0]);
        nothing_is_left(engine, &project, &spec.run).await;
    }
}

/// Keeps a box as an image for people; what the image is like.
async fn is_saved(engine: Engine) {
    if !engine.is_there() {
        return;
    }
    let name = format!("lh-test-{}:1", ulid::Ulid::generate().to_string().to_lowercase());
    let project = Project::on(engine);
    let spec = project.spec(DEBIAN);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    run(&*sandbox, "echo tool >/usr/local/tool; echo work >made").await;
    let saved = sandbox.save_image(&name).await.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(saved.left_out, [format!("the workspace {}", spec.workspace.display())]);
    assert!(saved.id.starts_with("sha256:"), "{}", saved.id);
    // Its own again, so it may be made anew; the box goes on.
    run(&*sandbox, "echo more >>/usr/local/tool").await;
    sandbox.save_image(&name).await.expect("an image");
    for bad in ["longhaul/x:1", "Bad", DEBIAN] {
        let refused = sandbox.save_image(bad).await.expect_err("it is refused");
        assert!(refused.hint.is_some(), "{bad}: {}", told(&refused));
    }
    assert_eq!(sandbox.destroy(PATIENCE).await.left, Vec::<String>::new());
    let of = |format: &str| {
        let done = Command::new(engine.program).args(["image", "inspect", "--format", format, &name]).output();
        String::from_utf8_lossy(&done.expect("it runs").stdout).trim().to_owned()
    };
    let (config, all) = (of("{{json .Config}}"), of("{{json .}}"));
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["Labels"]["longhaul.saved"], spec.run.as_str(), "{config}");
    assert!(config["Labels"]["longhaul.run"].as_str().is_none_or(str::is_empty), "{config}");
    assert!(!config["Entrypoint"].to_string().contains("longhaul"), "{config}");
    assert!(!all.contains("secret"), "the secret of the box is in its image: {all}");
    let next = project.spec(&name);
    let sandbox = project.backend().create(&next).await.expect("a box of it");
    assert_eq!(
        run(&*sandbox, "cat /usr/local/tool; ls made; env | grep LONGHAUL").await.1.lines().take(2).collect::<Vec<_>>(),
        ["tool", "more"]
    );
    sandbox.destroy(PATIENCE).await;
    let removed = Command::new(engine.program).args(["rmi", &name]).output().expect("it runs");
    assert!(removed.status.success());
}

#[tokio::test]
async fn a_docker_box_is_kept_as_an_image() {
    is_saved(DOCKER).await;
}

#[tokio::test]
async fn a_podman_box_is_kept_as_an_image() {
    is_saved(PODMAN).await;
}

fn wish(spec: &BoxSpec, nth: u32) -> SnapshotWish {
    SnapshotWish { layer: format!("{}-k{nth}", spec.run.short()), ..SnapshotWish::default() }
}

async fn kept(sandbox: &dyn Sandbox, wish: &SnapshotWish) -> Snapshot {
    sandbox.snapshot(wish).await.unwrap_or_else(|error| panic!("{}", told(&error)))
}

async fn from(project: &Project, spec: &BoxSpec, snapshot: &Snapshot) -> Box<dyn Sandbox> {
    let spec = BoxSpec { from: Some(snapshot.clone()), ..spec.clone() };
    project.backend().create(&spec).await.unwrap_or_else(|error| panic!("{}", told(&error)))
}

/// What a driver writes when it has kept a box: an image that nothing tells of is taken for half made.
fn record(spec: &BoxSpec, snapshot: &Snapshot) {
    let dir = spec.run_dir.join("checkpoints");
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = serde_json::json!({"checkpoint": {"snapshot": snapshot}});
    std::fs::write(dir.join("k1.json"), file.to_string()).expect("a file");
}

async fn nothing_is_left(engine: Engine, project: &Project, run: &longhaul::domain::RunId) {
    assert_eq!(engine.left_of(run), [""; 0]);
    assert_eq!(left_of_kind(engine, "image", run), [""; 0], "images");
    let layers = std::fs::read_dir(project.state().join("layers")).into_iter().flatten().count();
    assert_eq!(layers, 0, "layers");
}

/// A box that destroys itself is had back, and goes on; so is what came of that.
async fn is_restored(engine: Engine) {
    if !engine.is_there() {
        return;
    }
    let project = Project::on(engine);
    std::fs::create_dir(project.dir().join("dir")).expect("a directory");
    std::fs::write(project.dir().join("dir/inner"), "host's").expect("a file");
    let spec = project.spec(DEBIAN);
    let first = project.backend().create(&spec).await.expect("a box");
    run(&*first, "rm kept; rm -r dir; mkdir dir; echo own >dir/new; ln -s new dir/link; echo sys >/etc/sys; mkfifo p")
        .await;
    run(&*first, "truncate -s 1G sparse; ln dir/new hard; chmod 4751 hard").await;
    let (one, two) = (wish(&spec, 1), wish(&spec, 2));
    let early = kept(&*first, &one).await;
    assert_eq!(early.layers, std::slice::from_ref(&one.layer));
    assert!(early.image.as_ref().is_some_and(|id| id.starts_with("sha256:")) && early.new_files >= 1, "{early:?}");
    assert!(
        matches!(&early.consistency, Consistency::Frozen { by, .. } if by == "signals and container pause"),
        "{early:?}"
    );
    assert_eq!(early.left_out, [""; 0]);
    // It goes on as if nothing had happened, and to its end.
    assert_eq!(run(&*first, "cat dir/new && rm -rf /usr /bin /lib dir; echo *").await.1, "own\nhard p sparse\n");
    assert_eq!(first.destroy(PATIENCE).await.left, [""; 0]);

    let look = "ls /usr >/dev/null && cat /etc/sys dir/new dir/link; ls -A . dir; stat -c '%a %h %b' hard sparse; test -p p; echo $?";
    let wanted = "sys\nown\nown\n.:\ndir\nhard\np\nsparse\n\ndir:\nlink\nnew\n4751 2 8\n644 1 0\n0\n";
    let again = from(&project, &spec, &early).await;
    assert_eq!(again.facts().workspace_mode, "overlay");
    assert_eq!(run(&*again, look).await.1, wanted, "{}", engine.program);
    assert_eq!(run(&*again, "env | grep LONGHAUL_GUEST").await.0, Some(1), "nothing of an earlier guest is seen");
    // What comes after is kept on top of it.
    run(&*again, "echo later >later; rm dir/link; echo two >>/etc/sys").await;
    let late = kept(&*again, &two).await;
    again.destroy(PATIENCE).await;
    let third = from(&project, &spec, &late).await;
    assert_eq!(run(&*third, "cat later /etc/sys; ls dir").await.1, "later\nsys\ntwo\nnew\n");
    // The earlier one is as it was; the box that stands on the later one is not in its way.
    assert_eq!(project.backend().discard(&early).await, [""; 0]);
    third.destroy(PATIENCE).await;
    assert_eq!(project.backend().discard(&late).await, [""; 0]);
    assert_eq!(std::fs::read_to_string(project.dir().join("kept")).expect("the host's"), "as it was");
    assert_eq!(std::fs::read_to_string(project.dir().join("dir/inner")).expect("the host's"), "host's");
    project.backend().forget(&spec.run).await;
    std::fs::remove_dir_all(&spec.run_dir).expect("the run's directory");
    assert_eq!(project.backend().discard(&early).await, [""; 0]);
    assert_eq!(project.backend().discard(&late).await, [""; 0]);
    nothing_is_left(engine, &project, &spec.run).await;
}

#[tokio::test]
async fn a_docker_box_that_destroys_itself_is_restored() {
    is_restored(DOCKER).await;
}

#[tokio::test]
async fn a_podman_box_that_destroys_itself_is_restored() {
    is_restored(PODMAN).await;
}

#[tokio::test]
async fn a_box_of_a_far_engine_has_its_workspace_in_its_image() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let forwarder = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::UnixStream::connect(engine.socket).await.expect("the engine");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        let project = Project::at(format!("tcp://{address}"));
        let spec = project.spec(BUSYBOX);
        let first = project.backend().create(&spec).await.expect("a box");
        run(&*first, "rm kept; echo new >made").await;
        let snapshot = kept(&*first, &wish(&spec, 1)).await;
        assert_eq!(snapshot.layers, [""; 0]);
        record(&spec, &snapshot);
        drop(first);
        // Found again through the engine alone, and as it was.
        let found = alive(project.backend().find(&spec).await);
        assert_eq!(run(&*found, "ls").await.1, "made\n");
        found.destroy(PATIENCE).await;
        let again = from(&project, &spec, &snapshot).await;
        assert_eq!(run(&*again, "ls; cat made").await.1, "made\nnew\n", "{}", engine.program);
        again.destroy(PATIENCE).await;
        assert_eq!(project.backend().discard(&snapshot).await, [""; 0]);
        nothing_is_left(engine, &project, &spec.run).await;
        forwarder.abort();
    }
}

#[tokio::test]
async fn a_box_that_goes_is_kept_as_it_ends() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let spec = project.spec(BUSYBOX);
    let first = project.backend().create(&spec).await.expect("a box");
    run(&*first, "echo new >made; echo sys >/etc/sys").await;
    let snapshot = kept(&*first, &SnapshotWish { last: true, ..wish(&spec, 1) }).await;
    assert!(matches!(snapshot.consistency, Consistency::Frozen { .. }), "{snapshot:?}");
    assert_eq!(first.destroy(PATIENCE).await.left, [""; 0]);
    let again = from(&project, &spec, &snapshot).await;
    assert_eq!(run(&*again, "cat made /etc/sys").await.1, "new\nsys\n");
    again.destroy(PATIENCE).await;
    project.backend().discard(&snapshot).await;
    project.backend().forget(&spec.run).await;
    assert_eq!(left_of_kind(DOCKER, "image", &spec.run), [""; 0]);
}

#[tokio::test]
async fn a_snapshot_that_fails_leaves_nothing_and_the_box_goes_on() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let sandbox = project.backend().create(&spec).await.expect("a box");
        run(&*sandbox, "echo new >made").await;
        for last in [false, true] {
            // No tag of an image begins like this.
            let refused = sandbox
                .snapshot(&SnapshotWish { layer: "-k1".to_owned(), last, ..SnapshotWish::default() })
                .await
                .expect_err("no tag");
            assert_eq!(refused.what, "cannot keep the container as an image", "{}", told(&refused));
            assert!(refused.because.is_some());
            assert_eq!(run(&*sandbox, "cat made").await.1, "new\n", "it goes on, even where it was to go");
        }
        // Nor is the same layer made twice.
        let snapshot = kept(&*sandbox, &wish(&spec, 1)).await;
        assert!(sandbox.snapshot(&wish(&spec, 1)).await.is_err());
        sandbox.destroy(PATIENCE).await;
        assert_eq!(project.backend().discard(&snapshot).await, [""; 0]);
        nothing_is_left(engine, &project, &spec.run).await;
    }
}

#[tokio::test]
async fn what_a_snapshot_needs_and_is_not_there_is_named() {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let spec = project.spec(BUSYBOX);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    let snapshot = kept(&*sandbox, &wish(&spec, 1)).await;
    sandbox.destroy(PATIENCE).await;
    let layer = project.state().join("layers").join(&snapshot.layers[0]);
    std::fs::rename(&layer, project.root().join("aside")).expect("removed by hand");
    let lacking = BoxSpec { from: Some(snapshot.clone()), ..spec.clone() };
    let refused = project.backend().create(&lacking).await.err().expect("no layer");
    assert_eq!(refused.what, format!("the checkpoint's layer {} is not there", snapshot.layers[0]));
    std::fs::rename(project.root().join("aside"), &layer).expect("brought back");
    assert_eq!(project.backend().discard(&snapshot).await, [""; 0]);
    let refused = project.backend().create(&lacking).await.err().expect("no image");
    assert_eq!(refused.what, "the checkpoint's image is not there any more");
    assert_eq!(DOCKER.left_of(&spec.run), [""; 0]);
}

#[tokio::test]
async fn an_image_of_many_layers_becomes_one_of_a_single_layer() {
    // Podman takes many more, and so has no need of it.
    let engine = DOCKER;
    {
        if !engine.is_there() {
            return;
        }
        let project = Project::on(engine);
        let spec = project.spec(DEBIAN);
        let sandbox = project.backend().create(&spec).await.expect("a box");
        run(&*sandbox, "echo sys >/etc/sys; chown 33:33 /etc/sys").await;
        let early = kept(&*sandbox, &wish(&spec, 1)).await;
        sandbox.destroy(PATIENCE).await;
        let again = BoxSpec { from: Some(early.clone()), ..spec.clone() };
        let sandbox = project.backend().with_most_layers(2).create(&again).await.expect("a box");
        run(&*sandbox, "echo more >>/etc/sys").await;
        let late = kept(&*sandbox, &wish(&spec, 2)).await;
        sandbox.destroy(PATIENCE).await;
        let id = late.image.clone().expect("an image");
        let inspect = |format: &str| {
            let done = Command::new(engine.program).args(["image", "inspect", "--format", format, &id]).output();
            String::from_utf8_lossy(&done.expect("it runs").stdout).trim().to_owned()
        };
        assert_eq!(inspect("{{len .RootFS.Layers}}"), "1", "{}", engine.program);
        assert_eq!(inspect("{{index .Config.Labels \"longhaul.run\"}}"), spec.run.as_str());
        let sandbox = from(&project, &spec, &late).await;
        assert_eq!(
            run(&*sandbox, "cat /etc/sys; stat -c %u /etc/sys; echo $PATH").await.1.lines().take(3).collect::<Vec<_>>(),
            ["sys", "more", "33"]
        );
        sandbox.destroy(PATIENCE).await;
        // A box's list of what it stood on keeps it.
        std::fs::remove_dir_all(&spec.run_dir).expect("the run's directory");
        for snapshot in [late, early] {
            assert_eq!(project.backend().discard(&snapshot).await, [""; 0]);
        }
        project.backend().forget(&spec.run).await;
        nothing_is_left(engine, &project, &spec.run).await;
    }
}

#[tokio::test]
async fn images_stay_as_long_as_their_run_is_there() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let project = Project::on(engine);
        let spec = project.spec(BUSYBOX);
        let sandbox = project.backend().create(&spec).await.expect("a box");
        kept(&*sandbox, &wish(&spec, 1)).await;
        drop(sandbox);
        project.backend().sweep(&|_| false).await;
        assert_eq!(engine.left_of(&spec.run), [""; 0], "the box goes");
        assert_eq!(left_of_kind(engine, "image", &spec.run).len(), 1, "its checkpoint stays");
        std::fs::remove_dir_all(&spec.run_dir).expect("the run goes");
        project.backend().sweep(&|_| false).await;
        assert_eq!(left_of_kind(engine, "image", &spec.run), [""; 0], "{}", engine.program);
    }
}
