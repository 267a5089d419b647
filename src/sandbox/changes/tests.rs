//! Diff and apply held against a model of the file system: any tree, made of any other by a box, comes to the host whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::*;
use crate::sandbox::launch::record::KEPT;
use crate::sandbox::launch::wire::{Layer, WORKSPACE_KEY};
use crate::sandbox::layers::Store;

/// A file system, as small as can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tree {
    File(Vec<u8>, u32),
    Link(String),
    Directory(BTreeMap<String, Tree>, u32),
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let content = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..4), Just(vec![7; 70_000])];
    let file = (content, prop_oneof![Just(0o644), Just(0o755), Just(0o600)]).prop_map(|(c, mode)| Tree::File(c, mode));
    let link = prop_oneof![Just("a"), Just("b/c"), Just("nowhere")].prop_map(|target| Tree::Link(target.to_owned()));
    prop_oneof![3 => file, 1 => link].prop_recursive(3, 24, 4, |inner| {
        (any_names(inner), prop_oneof![Just(0o755), Just(0o700)]).prop_map(|(below, mode)| Tree::Directory(below, mode))
    })
}

fn any_names(inner: impl Strategy<Value = Tree>) -> impl Strategy<Value = BTreeMap<String, Tree>> {
    // Few names, so that the two trees often have one in common.
    prop::collection::btree_map(prop_oneof!["a", "b", "c", "d\n\u{1b}", "-rf"], inner, 0..5)
}

fn any_root() -> impl Strategy<Value = Tree> {
    any_names(any_tree()).prop_map(|below| Tree::Directory(below, 0o755))
}

fn make(tree: &Tree, at: &Path) {
    match tree {
        Tree::File(content, mode) => {
            fs::write(at, content).expect("written");
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).expect("a mode");
        }
        Tree::Link(target) => symlink(target, at).expect("a link"),
        Tree::Directory(below, mode) => {
            fs::create_dir(at).expect("a directory");
            below.iter().for_each(|(name, tree)| make(tree, &at.join(name)));
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).expect("a mode");
        }
    }
}

fn read(at: &Path) -> Tree {
    let meta = fs::symlink_metadata(at).expect("there");
    let mode = meta.mode() & 0o7777;
    if meta.is_symlink() {
        Tree::Link(fs::read_link(at).expect("a link").to_string_lossy().into_owned())
    } else if meta.is_dir() {
        let entries = fs::read_dir(at).expect("readable").map(|entry| entry.expect("an entry"));
        Tree::Directory(
            entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path()))).collect(),
            mode,
        )
    } else {
        Tree::File(fs::read(at).expect("readable"), mode)
    }
}

/// Makes the layer that an overlay over `base` has when it shows `new`. Where both have a directory, it is merged or made
/// anew, as `anew` says in turn.
fn lay(base: &Tree, new: &Tree, at: &Path, anew: &mut impl FnMut() -> bool) {
    let (Tree::Directory(old, _), Tree::Directory(below, mode)) = (base, new) else {
        if base != new {
            make(new, at);
        }
        return;
    };
    fs::create_dir(at).expect("a directory");
    if anew() {
        below.iter().for_each(|(name, tree)| make(tree, &at.join(name)));
        let name = if rustix::process::geteuid().is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        rustix::fs::setxattr(at, name, b"y", XattrFlags::empty()).expect("an attribute");
    } else {
        for name in old.keys().filter(|name| !below.contains_key(*name)) {
            rustix::fs::mknodat(CWD, at.join(name), FileType::CharacterDevice, Mode::empty(), 0).expect("a whiteout");
        }
        for (name, tree) in below {
            match old.get(name) {
                Some(base) => lay(base, tree, &at.join(name), anew),
                None => make(tree, &at.join(name)),
            }
        }
    }
    fs::set_permissions(at, fs::Permissions::from_mode(*mode)).expect("a mode");
}

/// A host with a workspace and a run's directory.
struct Stage {
    place: tempfile::TempDir,
}

impl Stage {
    fn of(base: &Tree) -> Self {
        let stage = Self { place: tempfile::tempdir_in("/var/tmp").expect("a place") };
        fs::create_dir_all(stage.run().join("box/u")).expect("directories");
        make(base, &stage.work());
        stage
    }

    fn run(&self) -> PathBuf {
        self.place.path().join("state/runs/run")
    }

    fn work(&self) -> PathBuf {
        self.place.path().join("work")
    }

    /// Notes the host's state, as a box does when it is opened.
    fn open(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listing = Listing::begin(&self.run().join("box"), &self.work(), &[], Maker::Own).expect("begun");
        runtime.block_on(listing.settle());
    }

    fn changes(&self) -> Changes {
        let wanted = Wanted { run_dir: self.run(), workspace: self.work(), started_ns: None };
        Changes::read(&wanted).expect("readable")
    }

    fn leave_layer(&self, base: &Tree, new: &Tree, anew: &mut impl FnMut() -> bool) {
        lay(base, new, &self.run().join("box/u/workspace"), anew);
        let layers = [Layer { at: self.work().canonicalize().expect("there"), key: WORKSPACE_KEY.to_owned() }];
        let json = serde_json::to_vec(&layers).expect("plain data");
        fs::write(self.run().join("box").join(KEPT), json).expect("written");
    }

    /// Leaves a box that has made `trees` out of `base`, one after the other, and was kept after each but the last.
    /// With `merged` the kept layers have become one.
    fn leave_stack(&self, base: &Tree, trees: &[Tree], merged: bool, anew: &mut impl FnMut() -> bool) {
        let part = Layer { at: self.work().canonicalize().expect("there"), key: WORKSPACE_KEY.to_owned() };
        let rootful = rustix::process::geteuid().is_root();
        let (mut below, mut from) = (base, Vec::new());
        for (nth, tree) in trees.iter().enumerate() {
            if nth + 1 == trees.len() {
                lay(below, tree, &self.run().join("box/u/workspace"), anew);
                continue;
            }
            let dir = self.place.path().join(format!("state/layers/run-k{nth}"));
            fs::create_dir_all(dir.join("files")).expect("directories");
            lay(below, tree, &dir.join("files/workspace"), anew);
            let meta = serde_json::json!({"parts": [part], "rootful": rootful, "boot_id": ""});
            fs::write(dir.join("meta.json"), meta.to_string()).expect("written");
            below = tree;
            from.insert(0, format!("run-k{nth}"));
        }
        if merged && from.len() > 1 {
            Store::of(&self.place.path().join("state")).merge("run-c1", &from).expect("merged");
            from = vec!["run-c1".to_owned()];
        }
        let kept = serde_json::json!({"layers": [part], "from": from});
        fs::write(self.run().join("box").join(KEPT), kept.to_string()).expect("written");
    }

    fn leave_tar(&self, new: &Tree) {
        let copy = self.place.path().join("copy");
        make(new, &copy);
        let mut tar = tar::Builder::new(File::create(self.run().join("box").join(TAR)).expect("a file"));
        tar.follow_symlinks(false);
        tar.append_dir_all("work", &copy).and_then(|()| tar.finish()).expect("written");
    }

    fn apply(&self, changes: &Changes) -> Plan {
        let plan = plan(changes, |_| true, &Consent::default());
        let applying = Applying::begin(&self.run()).expect("nobody else is at it");
        let done = applying.apply(changes, &plan.clear(), jiff::Timestamp::UNIX_EPOCH).expect("noted");
        assert_eq!(done.stopped, None);
        plan
    }
}

/// Turns of a choice, over and over.
fn turns(choices: &[bool]) -> impl FnMut() -> bool {
    let mut turns = choices.iter().copied().cycle();
    // The workspace itself is what is mounted, and can't be made anew.
    let mut first = true;
    move || !std::mem::take(&mut first) && turns.next().unwrap_or(false)
}

/// Every path below a tree that is no directory.
fn leaves(tree: &Tree, at: &Path, out: &mut BTreeSet<PathBuf>) {
    match tree {
        Tree::Directory(below, _) => below.iter().for_each(|(name, tree)| leaves(tree, &at.join(name), out)),
        Tree::File(..) | Tree::Link(_) => _ = out.insert(at.to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_comes_to_the_host_whole(base in any_root(), new in any_root(), anew in prop::collection::vec(any::<bool>(), 1..6)) {
        let stage = Stage::of(&base);
        stage.open();
        stage.leave_layer(&base, &new, &mut turns(&anew));
        let changes = stage.changes();
        prop_assert_eq!(changes.list.is_empty(), base == new);
        let plan = stage.apply(&changes);
        prop_assert!(plan.standings.iter().all(|standing| *standing == Standing::Clear), "{:?}", plan);
        prop_assert_eq!(read(&stage.work()), new);
        // Nothing is left to do.
        prop_assert_eq!(stage.changes().list.len(), 0);
    }

    #[test]
    fn layers_on_top_of_each_other_come_to_the_host_as_the_kernel_shows_them(
        base in any_root(),
        trees in prop::collection::vec(any_root(), 1..=4),
        merged in any::<bool>(),
        anew in prop::collection::vec(any::<bool>(), 1..6),
    ) {
        let stage = Stage::of(&base);
        stage.open();
        stage.leave_stack(&base, &trees, merged, &mut turns(&anew));
        let new = trees.last().expect("at least one");
        let changes = stage.changes();
        prop_assert_eq!(changes.list.is_empty(), base == *new);
        stage.apply(&changes);
        prop_assert_eq!(&read(&stage.work()), new);
        prop_assert_eq!(stage.changes().list.len(), 0);
    }

    #[test]
    fn a_copy_comes_to_the_host_whole(base in any_root(), new in any_root()) {
        let stage = Stage::of(&base);
        stage.open();
        stage.leave_tar(&new);
        let plan = stage.apply(&stage.changes());
        prop_assert!(plan.standings.iter().all(|standing| *standing == Standing::Clear), "{:?}", plan);
        prop_assert_eq!(read(&stage.work()), new);
        prop_assert_eq!(stage.changes().list.len(), 0);
    }

    #[test]
    fn what_the_host_changed_meanwhile_is_a_conflict_and_nothing_else_is(
        base in any_root(),
        new in any_root(),
        edits in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let stage = Stage::of(&base);
        stage.open();
        stage.leave_layer(&base, &new, &mut turns(&[false]));
        let mut paths = BTreeSet::new();
        leaves(&base, Path::new(""), &mut paths);
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let edited: BTreeSet<&PathBuf> =
            edits.iter().filter(|_| !paths.is_empty()).map(|index| index.get(&paths)).collect();
        for path in &edited {
            let at = stage.work().join(path);
            fs::remove_file(&at).expect("there");
            fs::write(&at, "the host's own").expect("written");
        }
        let changes = stage.changes();
        let told: BTreeSet<&PathBuf> =
            changes.list.iter().filter(|change| change.meanwhile).map(|change| &change.path).collect();
        let concerned: BTreeSet<&PathBuf> =
            changes.list.iter().map(|change| &change.path).filter(|path| edited.contains(path)).collect();
        prop_assert_eq!(told, concerned.clone());
        let plan = plan(&changes, |_| true, &Consent::default());
        prop_assert_eq!(plan.of(|standing| *standing == Standing::Conflict).count(), concerned.len());
        let before = read(&stage.work());
        let forced = super::plan(&changes, |_| true, &Consent { force: true, ..Consent::default() });
        prop_assert!(forced.standings.iter().all(|standing| *standing == Standing::Clear), "{:?}", forced);
        prop_assert_eq!(read(&stage.work()), before, "planning changes nothing");
    }
}

#[test]
fn hostile_entries_of_a_copy_are_refused() {
    let stage = Stage::of(&Tree::Directory(BTreeMap::new(), 0o755));
    stage.open();
    let file = File::create(stage.run().join("box").join(TAR)).expect("a file");
    let mut tar = tar::Builder::new(file);
    let mut entry = |name: &[u8], kind: tar::EntryType, link: Option<&str>, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        link.into_iter().for_each(|link| header.set_link_name(link).expect("a short link"));
        header.set_cksum();
        tar.append(&header, content).expect("written");
    };
    use tar::EntryType::{Block, Fifo, Link, Regular, Symlink};
    entry(b"work/../../escaped", Regular, None, b"x");
    entry(b"/srv/absolute", Regular, None, b"x");
    entry(b"work/link", Symlink, Some("/etc"), b"");
    entry(b"work/link/below", Regular, None, b"x");
    entry(b"work/hard", Link, Some("/etc/passwd"), b"");
    entry(b"work/fifo", Fifo, None, b"");
    entry(b"work/disk", Block, None, b"");
    entry(b"work/fine", Regular, None, b"fine");
    entry(b"work/same", Link, Some("work/fine"), b"");
    tar.finish().expect("written");
    drop(tar);
    let changes = stage.changes();
    let plan = stage.apply(&changes);
    let applied: Vec<_> = plan.clear().into_iter().map(|index| changes.list[index].path.clone()).collect();
    assert_eq!(applied, [PathBuf::from("fine"), PathBuf::from("same")], "{:?}", plan.standings);
    let names: Vec<_> =
        fs::read_dir(stage.place.path()).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name == "escaped"), "{names:?}");
    assert_eq!(fs::read(stage.work().join("same")).expect("there"), b"fine");
    assert!(!stage.work().join("link").exists());
}

#[test]
fn a_layer_with_links_in_its_way_is_not_followed() {
    // As if the box had swapped directories of its own layer for links while it is read.
    let stage = Stage::of(&Tree::Directory(BTreeMap::new(), 0o755));
    stage.open();
    stage.leave_layer(
        &Tree::Directory(BTreeMap::new(), 0o755),
        &Tree::Directory(BTreeMap::from([("a".to_owned(), Tree::File(b"mine".to_vec(), 0o644))]), 0o755),
        &mut || false,
    );
    let changes = stage.changes();
    let upper = stage.run().join("box/u/workspace");
    fs::remove_file(upper.join("a")).expect("there");
    symlink("/etc/passwd", upper.join("a")).expect("a link");
    assert!(changes.new_content(&changes.list[0]).is_err());
    let plan = plan(&changes, |_| true, &Consent::default());
    assert!(matches!(plan.standings[0], Standing::Refused(_)), "{:?}", plan.standings);
}
