//! `agent gc`: what nothing needs any more, listed, and removed where that was asked for. What a run that is still there
//! may need, above all one that can be taken up again, is never in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::args::GcArgs;
use super::open_box::Backends;
use super::output::{Stop, finished};
use super::target::store;
use super::{Failure, Place, launch};
use crate::domain::{Consistency, ExitReason, RunId, SandboxKind, Snapshot};
use crate::journal::{DiskUse, References, RunStore};
use crate::report::{size_words, visible_json, visible_line};

/// What is younger may be in the making, by a process that nothing tells of yet.
const YOUNG: Duration = Duration::from_secs(60 * 60);
/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Something that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waste {
    kind: &'static str,
    what: String,
    size_bytes: Option<u64>,
    way: Way,
}

/// How it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// As a layer.
    Layer(String),
    /// With everything below it.
    Tree(PathBuf),
    /// As an empty directory of the kernel's.
    Cgroup(PathBuf),
    /// By the backends, with all else of that run.
    Sweep,
}

/// Runs `agent gc`.
///
/// # Errors
/// When there is no telling where runs are kept.
pub(super) async fn run(args: GcArgs, place: &Place, out: &mut dyn Write) -> Result<ExitReason, Failure> {
    let store = store(place)?;
    let backends = Backends::new(store.state_dir().to_owned(), None, launch::utf8_vars(place), place.home());
    let found = find(&store, &backends).await;
    let mut failed = Vec::new();
    let mut removed = Vec::new();
    if args.apply {
        for waste in &found {
            match remove(waste, &backends).await {
                Ok(()) => removed.push(waste.what.clone()),
                Err(why) => failed.push(format!("{}: {why}", waste.what)),
            }
        }
        if found.iter().any(|waste| waste.way == Way::Sweep) {
            failed.extend(sweep(&store, &backends).await);
        }
    }
    finished(match args.json {
        true => print_json(&found, args.apply, &failed, out),
        false => print(&found, args.apply, &failed, out),
    })
}

/// Removes what drivers that were killed have left half-made, in the background: nothing that anybody could take up again,
/// and nothing that has to be asked an engine for. What can't be removed is `agent gc`'s to tell of.
pub(super) fn at_start(store: RunStore) {
    let sweep = move || {
        let runs = store.ids().unwrap_or_default();
        let driven: Vec<String> = runs.iter().filter(|run| store.is_driven(run)).map(RunId::short).collect();
        for waste in unfinished(&store, &driven).into_iter().chain(cgroups(&runs)) {
            let removed = match &waste.way {
                Way::Tree(path) => remove_tree(path),
                Way::Cgroup(path) => fs::remove_dir(path),
                Way::Layer(_) | Way::Sweep => Ok(()),
            };
            tracing::debug!(what = waste.what, ?removed, "swept");
        }
    };
    // A thread that can't be had now may be had the next time.
    drop(std::thread::Builder::new().name("sweep".to_owned()).spawn(sweep));
}

async fn find(store: &RunStore, backends: &Backends) -> Vec<Waste> {
    let runs = store.ids().unwrap_or_default();
    let driven: Vec<String> = runs.iter().filter(|run| store.is_driven(run)).map(RunId::short).collect();
    let mut found = layers(store, &driven);
    found.extend(unfinished(store, &driven));
    if driven.is_empty() && !runs.iter().any(|run| store.run(run).path().join("box/init.json").exists()) {
        found.extend(bundles(store));
    }
    found.extend(cgroups(&runs));
    found.extend(boxes(store, backends).await);
    found
}

/// Layers that neither a checkpoint nor a box names.
fn layers(store: &RunStore, driven: &[String]) -> Vec<Waste> {
    let dir = store.state_dir().join("layers");
    // Named first: what is named later belongs to a run that is driven now.
    let there = names(&dir);
    let named = References::of(store, None).layers;
    let is_ours = |name: &String| !name.starts_with(".tmp-") && !named.contains(name) && !is_of(name, driven);
    let waste = |name: String| Waste {
        kind: "layer",
        what: format!("layer {name}"),
        size_bytes: Some(DiskUse::of(&dir.join(&name)).size_bytes),
        way: Way::Layer(name),
    };
    there.into_iter().filter(is_ours).map(waste).collect()
}

/// What was being made when its maker was killed.
fn unfinished(store: &RunStore, driven: &[String]) -> Vec<Waste> {
    let layers = store.state_dir().join("layers");
    let mut places = vec![layers, store.state_dir().join("guest")];
    for run in store.ids().unwrap_or_default().into_iter().filter(|run| !store.is_driven(run)) {
        places.push(store.run(&run).path().join("checkpoints"));
    }
    let in_the_making = |name: &str| name.starts_with(".tmp-") || name.starts_with(".making-");
    let mut found = Vec::new();
    for place in places {
        for name in names(&place).into_iter().filter(|name| in_the_making(name)) {
            let path = place.join(&name);
            if is_of(name.trim_start_matches(".tmp-"), driven) || is_young(&path) {
                continue;
            }
            found.push(tree("unfinished", path));
        }
    }
    found
}

/// Copies of this program for boxes; made again when one is needed.
fn bundles(store: &RunStore) -> Vec<Waste> {
    let dir = store.state_dir().join("guest");
    let names = names(&dir).into_iter().filter(|name| !name.starts_with('.'));
    names.map(|name| dir.join(name)).filter(|path| !is_young(path)).map(|path| tree("guest", path)).collect()
}

/// Control groups in which nothing is, of runs that are not here.
fn cgroups(runs: &[RunId]) -> Vec<Waste> {
    let here: BTreeSet<String> = runs.iter().map(|run| format!("longhaul-{}", run.short())).collect();
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from(CGROUPS), 0)];
    while let Some((dir, depth)) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let is_ours = name.strip_prefix("longhaul-").is_some_and(|short| short.len() == 8);
            if !is_ours {
                if depth < 2 {
                    open.push((path, depth + 1));
                }
                continue;
            }
            let is_empty = fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|procs| procs.trim().is_empty());
            if is_empty && !here.contains(&name) && !is_young(&path) {
                let what = format!("control group {}", path.display());
                found.push(Waste { kind: "cgroup", what, size_bytes: None, way: Way::Cgroup(path) });
            }
        }
    }
    found
}

/// Boxes, and what belongs to them in engines, of runs that are not here any more.
async fn boxes(store: &RunStore, backends: &Backends) -> Vec<Waste> {
    let orphans = Mutex::new(BTreeSet::new());
    // Looks on: it says of each that it is kept.
    let look = |run: &RunId| {
        if !is_here(store, run) {
            orphans.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(run.clone());
        }
        true
    };
    // Boxes of the other kinds are recorded in their runs' directories, and go with them.
    backends.of(SandboxKind::Docker).sweep(&look).await;
    let orphans = orphans.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let waste = |run: RunId| Waste {
        kind: "box",
        what: format!("containers, images, networks and volumes of run {run}, which is gone"),
        size_bytes: None,
        way: Way::Sweep,
    };
    orphans.into_iter().map(waste).collect()
}

fn is_here(store: &RunStore, run: &RunId) -> bool {
    store.run(run).path().exists()
}

/// Removes the boxes of runs that are gone; what could not be removed, in words.
async fn sweep(store: &RunStore, backends: &Backends) -> Vec<String> {
    let is_kept = |run: &RunId| is_here(store, run);
    let mut told = Vec::new();
    for kind in [SandboxKind::Docker, SandboxKind::Local, SandboxKind::Host] {
        told.extend(backends.of(kind).sweep(&is_kept).await);
    }
    told.retain(|line| line.starts_with("could not") || line.contains("can't be"));
    told
}

async fn remove(waste: &Waste, backends: &Backends) -> Result<(), String> {
    match &waste.way {
        Way::Layer(name) => {
            let snapshot = Snapshot {
                kind: SandboxKind::Local,
                layers: vec![name.clone()],
                image: None,
                consistency: Consistency::Stopped,
                took_ms: 0,
                new_files: 0,
                new_bytes: 0,
                left_out: Vec::new(),
            };
            let left = backends.of(SandboxKind::Local).discard(&snapshot).await;
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        }
        Way::Tree(path) => remove_tree(path).map_err(|error| error.to_string()),
        Way::Cgroup(path) => fs::remove_dir(path).map_err(|error| error.to_string()),
        Way::Sweep => Ok(()),
    }
}

/// Removes a tree in which directories may be closed to their own owner.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return fs::remove_file(path);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        remove_tree(&entry?.path())?;
    }
    fs::remove_dir(path)
}

fn print(found: &[Waste], apply: bool, failed: &[String], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    for waste in found {
        let size = waste.size_bytes.map(size_words).unwrap_or_default();
        writeln!(out, "{size:>10}  {}", visible_line(&waste.what))?;
    }
    let sum = size_words(found.iter().filter_map(|waste| waste.size_bytes).sum());
    match (found.len(), apply) {
        (0, _) => writeln!(out, "nothing to remove")?,
        (_, false) => writeln!(out, "{sum:>10}  in all; nothing was removed: `agent gc --apply` does that")?,
        (_, true) => writeln!(out, "{sum:>10}  in all, removed")?,
    }
    for one in failed {
        writeln!(out, "not removed: {}", visible_line(one))?;
    }
    out.flush()?;
    Ok(if failed.is_empty() { ExitReason::Done } else { ExitReason::Failed })
}

fn print_json(found: &[Waste], apply: bool, failed: &[String], out: &mut dyn Write) -> Result<ExitReason, Stop> {
    let all: Vec<Value> = found
        .iter()
        .map(|waste| json!({ "kind": waste.kind, "what": waste.what, "size_bytes": waste.size_bytes }))
        .collect();
    writeln!(out, "{}", visible_json(&json!({ "found": all, "removed": apply, "not_removed": failed })))?;
    out.flush()?;
    Ok(if failed.is_empty() { ExitReason::Done } else { ExitReason::Failed })
}

fn tree(kind: &'static str, path: PathBuf) -> Waste {
    let size_bytes = match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => DiskUse::of(&path).size_bytes,
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    Waste { kind, what: path.display().to_string(), size_bytes: Some(size_bytes), way: Way::Tree(path) }
}

/// Whether a layer's name begins with one of these short ids.
fn is_of(name: &str, shorts: &[String]) -> bool {
    shorts.iter().any(|short| name.strip_prefix(short.as_str()).is_some_and(|rest| rest.starts_with('-')))
}

fn is_young(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    // What can't be told is left alone.
    changed.map_or(true, |changed| SystemTime::now().duration_since(changed).unwrap_or_default() < YOUNG)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
