//! tmux for people in images that have none: installed once by the image's own package manager, or not at all.

use std::process::Command;
use std::time::Duration;

use longhaul::sandbox::{Backend as _, BoxSpec, Sandbox};

use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Engine, PODMAN, Project, run};

const PATIENCE: Duration = Duration::from_secs(10);

/// A package manager that notes what it was told, and makes a program named tmux.
const APK: &str = "#!/bin/sh\necho \"$*\" >>/installs\necho \"$https_proxy\" >/seen\n\
                   mkdir -p /usr/bin; printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/tmux; chmod 755 /usr/bin/tmux\n";
const FAILING: &str = "#!/bin/sh\necho fetching the index\necho 'ERROR: tmux (no such package)' >&2\nexit 99\n";

/// An image made for one test, removed with all that was derived from it.
struct Made {
    engine: Engine,
    name: String,
}

impl Made {
    /// `base` with a file, after a command if there is one.
    fn of(engine: Engine, base: &str, command: Option<&[&str]>, file: Option<(&str, &str)>) -> Self {
        let name = format!("longhaul-test:made-{}", ulid::Ulid::generate()).to_lowercase();
        let container = name.replace(':', "-");
        let made = Self { engine, name };
        let make = if command.is_some() { "run" } else { "create" };
        let begin = [make, "--network", "none", "--name", &container, base];
        made.tell(&[&begin, command.unwrap_or(&["true"])].concat());
        if let Some((path, content)) = file {
            let dir = tempfile::tempdir().unwrap();
            let local = dir.path().join("file");
            std::fs::write(&local, content).unwrap();
            std::fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            made.tell(&["cp", local.to_str().unwrap(), &format!("{container}:{path}")]);
        }
        made.tell(&["commit", &container, &made.name]);
        made.tell(&["rm", &container]);
        made
    }

    fn tell(&self, words: &[&str]) -> String {
        let (is_done, said) = self.ask(words);
        assert!(is_done, "{words:?}: {said}");
        said
    }

    fn ask(&self, words: &[&str]) -> (bool, String) {
        let done = Command::new(self.engine.program).args(words).output().unwrap();
        let said = if done.status.success() { done.stdout } else { done.stderr };
        (done.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Images that carry this one's id as their base.
    fn derived(&self) -> Vec<String> {
        let (true, id) = self.ask(&["image", "inspect", "--format", "{{.Id}}", &self.name]) else { return Vec::new() };
        let id = if id.starts_with("sha256:") { id } else { format!("sha256:{id}") };
        let bare = id.trim_start_matches("sha256:");
        let list = |base: &str| self.ask(&["images", "-q", "--filter", &format!("label=longhaul.base={base}")]).1;
        [list(&id), list(bare)].join("\n").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let derived = self.derived();
        let all = derived.iter().chain([&self.name]);
        let _ = Command::new(self.engine.program).args(["rmi", "-f"]).args(all).output();
        // There only where the test failed half-way.
        let _ = Command::new(self.engine.program).args(["rm", "-f", &self.name.replace(':', "-")]).output();
    }
}

fn wish(project: &Project, image: &str) -> BoxSpec {
    BoxSpec { tmux: true, ..project.spec(image) }
}

async fn gone(engine: Engine, spec: &BoxSpec, sandbox: Box<dyn Sandbox>) {
    assert_eq!(sandbox.destroy(PATIENCE).await.left, [""; 0]);
    assert_eq!(engine.left_of(&spec.run), [""; 0]);
}

#[tokio::test]
async fn tmux_is_installed_once_and_found_again() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let image = Made::of(engine, BUSYBOX, None, Some(("/bin/apk", APK)));
        let project = Project::on(engine);
        let mut spec = wish(&project, &image.name);
        spec.env.insert("https_proxy".to_owned(), "http://me:hidden@127.0.0.1:9".to_owned());
        let sandbox = project.backend().create(&spec).await.expect("a box");
        assert_eq!(sandbox.guest().welcome().tmux.as_deref(), Some("/usr/bin/tmux"));
        let tmux = sandbox.facts().capabilities.iter().find(|one| one.name == "tmux").expect("told");
        assert_eq!(tmux.missing, None);
        let (_, said) = run(&*sandbox, "cat /installs; cat /seen").await;
        assert_eq!(said, "add --no-cache tmux\nhttp://me:hidden@127.0.0.1:9\n", "{}", engine.program);
        gone(engine, &spec, sandbox).await;
        let derived = image.derived();
        assert_eq!(derived.len(), 1, "{}: {derived:?}", engine.program);
        // Who looks at the image learns nothing of the way out.
        let about =
            image.tell(&["image", "inspect", &derived[0]]) + &image.tell(&["history", "--no-trunc", &derived[0]]);
        assert!(about.contains("longhaul.tmux") && !about.contains("hidden"), "{about}");

        let spec = wish(&project, &image.name);
        let sandbox = project.backend().create(&spec).await.expect("a second box");
        assert_eq!(run(&*sandbox, "cat /installs").await.1, "add --no-cache tmux\n", "it was installed again");
        gone(engine, &spec, sandbox).await;
        assert_eq!(image.derived(), derived);
    }
}

#[tokio::test]
async fn a_failing_installation_says_why_and_how_to_go_without() {
    for engine in [DOCKER, PODMAN] {
        if !engine.is_there() {
            continue;
        }
        let image = Made::of(engine, BUSYBOX, None, Some(("/bin/apk", FAILING)));
        let project = Project::on(engine);
        for (name, because) in [
            (image.name.as_str(), "fetching the index; ERROR: tmux (no such package)"),
            (BUSYBOX, "it has none of apt-get, apk, dnf, microdnf, yum, zypper and pacman"),
        ] {
            let spec = wish(&project, name);
            let error = project.backend().create(&spec).await.err().expect("no box");
            assert_eq!(error.what, format!("cannot install tmux into the image `{name}`"));
            assert_eq!(error.because.as_deref(), Some(because), "{}", engine.program);
            assert!(error.hint.is_some_and(|hint| hint.contains("leave `--tmux` out")));
            assert_eq!(engine.left_of(&spec.run), [""; 0]);
            // Without it the same image does.
            let spec = project.spec(name);
            let sandbox = project.backend().create(&spec).await.expect("a box");
            let tmux = sandbox.facts().capabilities.iter().find(|one| one.name == "tmux").expect("told");
            assert!(tmux.missing.as_ref().is_some_and(|why| why.contains("--tmux")));
            gone(engine, &spec, sandbox).await;
        }
        assert_eq!(image.derived(), [""; 0]);
    }
}

#[tokio::test]
async fn an_image_that_has_tmux_is_taken_as_it_is() {
    if !DOCKER.is_there() {
        return;
    }
    let image = Made::of(DOCKER, DEBIAN, None, None);
    let project = Project::on(DOCKER);
    let spec = wish(&project, &image.name);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    let id = |name: &str| image.tell(&["image", "inspect", "--format", "{{.Id}}", name]);
    let taken = sandbox.facts().image.clone().expect("an image");
    assert_eq!(id(&taken), id(&image.name));
    gone(DOCKER, &spec, sandbox).await;
    assert_eq!(image.derived(), [""; 0]);
    image.tell(&["rmi", &taken]);
}

#[tokio::test]
#[ignore = "containers must reach a Debian mirror, which not every machine has"]
async fn debian_gets_its_own_tmux_which_shows_the_sessions() {
    if !DOCKER.is_there() {
        return;
    }
    let image = Made::of(DOCKER, DEBIAN, Some(&["dpkg", "--remove", "--force-depends", "tmux"]), None);
    let project = Project::on(DOCKER);
    let spec = wish(&project, &image.name);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    assert_eq!(sandbox.guest().welcome().tmux.as_deref(), Some("/usr/bin/tmux"));
    let tmux = sandbox.guest().tmux().await.expect("a server");
    let (code, said) = run(&*sandbox, &format!("{} -S {} list-windows", tmux.program, tmux.socket)).await;
    assert!(code == Some(0) && said.contains("shell"), "{said}");
    gone(DOCKER, &spec, sandbox).await;
    assert_eq!(image.derived().len(), 1);
}
