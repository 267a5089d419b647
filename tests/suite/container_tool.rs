//! The tool `container`: what the box is, and real services beside it.

use std::sync::Arc;
use std::time::Duration;

use longhaul::clock::SystemClock;
use longhaul::domain::{Event, Status};
use longhaul::sandbox::{Backend as _, BoxSpec, Limits, Network};
use serde_json::{Value, json};

use crate::desk::{Called, Desk};
use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN, left_of_kind};
use crate::goal::{finish, server_of, shell};
use crate::sandbox_contract::Bench;
use crate::stage::{Ran, Stage};

/// A desk in a container.
async fn desk(engine: Engine, network: Network) -> Desk {
    let place = Bench::new();
    let limits = Limits { pids: Some(200), ..Limits::default() };
    let spec = BoxSpec { image: Some(DEBIAN.to_owned()), network, limits, ..place.spec() };
    let sandbox = engine.backend(place.state_dir()).create(&spec).await.expect("a box");
    Desk::in_box(place, sandbox, Arc::new(SystemClock::new()))
}

async fn call(desk: &Desk, arguments: Value) -> Called {
    desk.call("container", arguments).await
}

/// A web server with one page.
fn web(name: &str) -> Value {
    json!({
        "action": "start", "name": name, "image": BUSYBOX,
        "command": "mkdir -p /www && echo \"hello $GREETED\" >/www/page && echo serving && exec httpd -f -p 8000 -h /www",
        "env": ["GREETED=you there"], "ready": {"port": 8000, "within_s": 30},
    })
}

const GET: &str = "exec 3<>/dev/tcp/web/8000 && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";

async fn leads_a_whole_life(engine: Engine, network: Network) {
    if !engine.is_there() {
        return;
    }
    let desk = desk(engine, network).await;
    let run = desk.place.run().clone();
    let started = call(&desk, web("web")).await;
    let text = &started.outcome.text;
    assert_eq!(started.outcome.status, Status::Ok, "{text}");
    assert!(text.starts_with("[sidecar web is up · ") && text.contains("[ready after "), "{text}");
    let image = Some(BUSYBOX.to_owned());
    let id = format!("longhaul-{}-web", run.short());
    assert!(
        started.facts.iter().any(|fact| matches!(fact, Event::SidecarStarted { name, image: of, id: its }
            if name == "web" && of.as_ref().is_some_and(|of| image.as_ref().is_some_and(|image| of.ends_with(image))) && *its == id)),
        "{:?}",
        started.facts
    );

    // The box reaches it by name; it has the variables that were said.
    let got = desk.call("shell", json!({"command": format!("bash -c {}", quoted(GET)), "yield_s": 30})).await;
    assert!(got.outcome.text.contains("hello you there"), "{}", got.outcome.text);
    let info = call(&desk, json!({"action": "info"})).await.outcome.text;
    assert!(info.contains("- web · ") && info.contains("limits: 200 processes") && info.contains(DEBIAN), "{info}");
    assert!(info.contains(&format!("networks: longhaul-{}", run.short())) || network == Network::Open, "{info}");
    let stands = call(&desk, json!({"action": "inspect", "name": "web"})).await.outcome.text;
    assert!(stands.starts_with("sidecar web is up"), "{stands}");
    let said = call(&desk, json!({"action": "logs", "name": "web", "lines": 5})).await.outcome.text;
    assert!(said.ends_with("\nserving"), "{said}");

    // Files go both ways, directories too, and nowhere else.
    desk.call("write_file", json!({"path": "site/page", "content": "another page\n"})).await;
    desk.call("shell", json!({"command": "ln -s /etc/shadow site/link"})).await;
    let copied = call(&desk, json!({"action": "copy_in", "name": "web", "from": "site", "to": "/www"})).await.outcome;
    assert!(copied.text.contains("1 files, 13 bytes") && copied.text.contains("site/link"), "{}", copied.text);
    let got = desk.call("shell", json!({"command": format!("bash -c {}", quoted(GET)), "yield_s": 30})).await;
    assert!(got.outcome.text.contains("another page"), "{}", got.outcome.text);
    let copied = call(&desk, json!({"action": "copy_out", "name": "web", "from": "/www", "to": "back/www"})).await;
    assert_eq!(copied.outcome.status, Status::Ok, "{}", copied.outcome.text);
    let back = desk.call("read_file", json!({"path": "back/www/page"})).await.outcome.text;
    assert!(back.contains("another page"), "{back}");
    for bad in ["relative", "/", "/a/../../b"] {
        let refused = call(&desk, json!({"action": "copy_out", "name": "web", "from": bad, "to": "x"})).await.outcome;
        assert_eq!(refused.status, Status::Malformed, "{bad}: {}", refused.text);
    }

    let again = call(&desk, web("web")).await.outcome;
    assert!(again.text.contains("it is up already") && again.status == Status::Failed, "{}", again.text);
    let stopped = call(&desk, json!({"action": "stop", "name": "web"})).await;
    assert_eq!(stopped.outcome.text, "[sidecar web is stopped and removed]");
    assert!(matches!(&stopped.facts[..], [Event::SidecarStopped { name, .. }] if name == "web"));
    let gone = call(&desk, json!({"action": "logs", "name": "web"})).await.outcome;
    assert_eq!((gone.status, gone.text.as_str()), (Status::Failed, "this run has no sidecar `web`; there is none"));

    // One more, which goes with the box.
    assert_eq!(call(&desk, web("web")).await.outcome.status, Status::Ok);
    desk.close().await;
    assert_eq!(engine.left_of(&run), [""; 0]);
    assert_eq!(left_of_kind(engine, "network", &run), [""; 0]);
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[tokio::test]
async fn a_sidecar_in_docker_leads_a_whole_life() {
    leads_a_whole_life(DOCKER, Network::Open).await;
}

#[tokio::test]
async fn a_sidecar_of_a_box_without_network_leads_a_whole_life() {
    leads_a_whole_life(DOCKER, Network::None).await;
}

#[tokio::test]
async fn a_sidecar_in_podman_leads_a_whole_life() {
    leads_a_whole_life(PODMAN, Network::Open).await;
}

#[tokio::test]
async fn podman_says_that_a_box_without_network_has_no_sidecars() {
    if !PODMAN.is_there() {
        return;
    }
    let desk = desk(PODMAN, Network::None).await;
    let refused = call(&desk, web("web")).await.outcome;
    assert_eq!(refused.status, Status::Failed);
    assert!(refused.text.contains("because: Podman can't connect"), "{}", refused.text);
    desk.close().await;
}

#[tokio::test]
async fn a_box_without_network_reaches_its_sidecars_and_nothing_else() {
    if !DOCKER.is_there() {
        return;
    }
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port of the host");
    let port = listener.local_addr().expect("an address").port();
    let desk = desk(DOCKER, Network::None).await;
    assert_eq!(call(&desk, web("web")).await.outcome.status, Status::Ok);
    // The bridge's own address would be the first of the network.
    let reach = format!(
        "ip=$(getent hosts web | cut -d' ' -f1); timeout 3 bash -c \"echo >/dev/tcp/${{ip%.*}}.1/{port}\" 2>&1; echo code $?"
    );
    let tried = desk.call("shell", json!({"command": reach, "yield_s": 20})).await.outcome.text;
    assert!(!tried.contains("code 0"), "{tried}");
    desk.close().await;
}

#[tokio::test]
async fn readiness_is_tried_in_every_way_and_what_fails_is_told() {
    if !DOCKER.is_there() {
        return;
    }
    let desk = desk(DOCKER, Network::Open).await;
    let with = |name: &str, ready: Value, command: &str| json!({"action": "start", "name": name, "image": BUSYBOX, "command": command, "ready": ready});
    let serve = "mkdir -p /w; echo x >/w/p; echo now serving; exec httpd -f -p 80 -h /w";
    for (name, ready) in [
        ("by-url", json!({"url": "http://by-url/p", "within_s": 30})),
        ("by-pattern", json!({"pattern": "now s.*g", "within_s": 30})),
        ("by-command", json!({"command": "wget -qO- http://127.0.0.1/p", "within_s": 30})),
    ] {
        let outcome = call(&desk, with(name, ready, serve)).await.outcome;
        assert_eq!(outcome.status, Status::Ok, "{name}: {}", outcome.text);
    }
    let late = call(&desk, with("late", json!({"port": 81, "within_s": 1}), serve)).await.outcome;
    assert_eq!(late.status, Status::Failed);
    assert!(late.text.contains("not ready within 1 s") && late.text.contains("runs on"), "{}", late.text);
    let dead = call(&desk, with("dead", json!({"port": 80}), "echo cannot begin >&2; exit 3")).await.outcome;
    assert_eq!(dead.status, Status::Failed);
    assert!(dead.text.contains("it ended with code 3: cannot begin"), "{}", dead.text);
    let both = call(&desk, with("both", json!({"port": 80, "pattern": "x"}), serve)).await.outcome;
    assert_eq!(both.status, Status::Malformed, "{}", both.text);
    desk.close().await;
}

#[tokio::test]
async fn a_sidecar_that_ends_by_itself_is_told_of() {
    if !DOCKER.is_there() {
        return;
    }
    let desk = desk(DOCKER, Network::Open).await;
    let start = json!({"action": "start", "name": "short", "image": BUSYBOX, "command": "sleep 1; echo bye; exit 4"});
    assert_eq!(call(&desk, start).await.outcome.status, Status::Ok);
    let told = async {
        loop {
            if let Event::SidecarStopped { name, why } = desk.news().await {
                break (name, why);
            }
        }
    };
    let (name, why) = tokio::time::timeout(Duration::from_secs(20), told).await.expect("news");
    assert_eq!((name.as_str(), why.as_str()), ("short", "it ended with code 4: bye"));
    desk.close().await;
}

#[tokio::test]
async fn nothing_that_is_not_the_runs_own_can_be_named() {
    if !DOCKER.is_there() {
        return;
    }
    let (desk, other) = (desk(DOCKER, Network::Open).await, desk(DOCKER, Network::Open).await);
    assert_eq!(call(&other, web("web")).await.outcome.status, Status::Ok);
    let theirs = format!("longhaul-{}-web", other.place.run().short());
    for action in ["stop", "inspect", "logs"] {
        let outcome = call(&desk, json!({"action": action, "name": "web"})).await.outcome;
        assert_eq!(outcome.status, Status::Failed, "{action}: {}", outcome.text);
    }
    for name in [theirs.as_str(), "../web", "WEB", "a b", "longhaul"] {
        let outcome = call(&desk, json!({"action": "stop", "name": name})).await.outcome;
        assert_ne!(outcome.status, Status::Ok, "{name}: {}", outcome.text);
    }
    let absent = json!({"action": "start", "name": "x", "image": "127.0.0.1:9/no/such:image"});
    let absent = call(&desk, absent).await.outcome;
    assert!(absent.text.contains("there is no image") && absent.text.contains("hint: "), "{}", absent.text);
    // A sidecar has no more rights than the box and no ports of the host.
    let inspected = std::process::Command::new("docker").args(["inspect", &theirs]).output().expect("docker");
    let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    let config = &inspected[0]["HostConfig"];
    assert_eq!(config["CapDrop"], json!(["ALL"]));
    assert_eq!(config["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(config["PidsLimit"], 200);
    assert!(config["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "{config}");
    assert_eq!(inspected[0]["Mounts"], json!([]));
    other.close().await;
    desk.close().await;
}

#[tokio::test]
async fn where_the_box_is_no_container_a_sidecar_is_a_service_session() {
    let desk = Desk::new().await;
    let image = call(&desk, json!({"action": "start", "name": "web", "image": "x", "command": "sleep 9"})).await;
    assert!(image.outcome.text.contains("has no images"), "{}", image.outcome.text);
    let none = call(&desk, json!({"action": "start", "name": "web"})).await;
    assert_eq!(none.outcome.status, Status::Malformed, "{}", none.outcome.text);
    let start = json!({
        "action": "start", "name": "web", "command": "echo up for $WHOM; sleep 600", "env": ["WHOM=all of us"],
        "ready": {"pattern": "up for all of us"},
    });
    let started = call(&desk, start).await;
    assert_eq!(started.outcome.status, Status::Ok, "{}", started.outcome.text);
    assert!(started.facts.iter().any(|fact| matches!(fact, Event::SidecarStarted { image: None, .. })));
    let said = call(&desk, json!({"action": "logs", "name": "web"})).await.outcome.text;
    assert!(said.contains("up for all of us"), "{said}");
    let info = call(&desk, json!({"action": "info"})).await.outcome.text;
    assert!(info.contains("no box: the host itself"), "{info}");
    let stopped = call(&desk, json!({"action": "stop", "name": "web"})).await;
    assert_eq!(stopped.outcome.status, Status::Ok, "{}", stopped.outcome.text);
    assert!(stopped.facts.iter().any(|fact| matches!(fact, Event::SidecarStopped { .. })));
    desk.close().await;
}

#[test]
fn a_box_is_kept_as_an_image_at_the_end_and_what_cannot_be_is_refused_before() {
    if !DOCKER.is_there() {
        return;
    }
    let name = format!("lh-test-{}", ulid::Ulid::generate().to_string().to_lowercase());
    let stage = Stage::new();
    for (flags, words) in [
        (["--sandbox", "local", "--save-image", &name], "only a container can be kept as an image"),
        (["--image", BUSYBOX, "--save-image", DEBIAN], "is there already"),
        (["--image", BUSYBOX, "--save-image", "No Name"], "can't be the name of an image"),
    ] {
        let server = server_of(Vec::new());
        let ran = Ran::of(&stage.asking(&server, &[&["do", "x"], &flags[..]].concat()).output().unwrap()).exits_with(2);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
    let server = server_of(vec![shell("echo tool >/tool"), finish("made it")]);
    let flags = ["do", "make a tool", "--image", BUSYBOX, "--save-image", &name];
    Ran::of(&stage.asking(&server, &flags).output().unwrap()).exits_with(0);
    let saved = stage.events_of("image_saved").remove(0);
    assert_eq!(saved["name"], name.as_str());
    assert_eq!(saved["left_out"][0], format!("the workspace {}", stage.project().display()));
    stage.verifies();
    let said = std::process::Command::new("docker").args(["run", "--rm", &name, "cat", "/tool"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "tool\n", "{}", String::from_utf8_lossy(&said.stderr));
    assert!(std::process::Command::new("docker").args(["rmi", &name]).output().unwrap().status.success());
}
