//! Builds the box's file tree: the host's files under overlays, everything that is the kernel's or secret made anew.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::masks::{self, Mask};
use super::mount::{self, Layers, Marks, Sync};
use super::plan;
use crate::domain::Capability;
use crate::sandbox::launch::mountinfo::{self, Mount, holds_files};
use crate::sandbox::launch::record::remove_tree;
use crate::sandbox::launch::step::{During, StepError};
use crate::sandbox::launch::wire::{Layer, Plan, Standing, WORKSPACE_KEY};
use crate::sandbox::layers;

/// The key of the layer of temporary files.
const TMP_KEY: &str = "tmp";

/// The layers that a box stands on, from the top down: each its directory and its parts.
struct Stack(Vec<(PathBuf, Vec<Layer>)>);

impl Stack {
    fn read(dirs: &[PathBuf]) -> io::Result<Self> {
        let read = |dir: &PathBuf| Ok((dir.clone(), layers::parts_of(dir)?));
        dirs.iter().map(read).collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// What they hold for an overlay: found by its place, since keys are only names of the time.
    fn parts(&self, at: &Path, key: &str) -> Vec<PathBuf> {
        let fits = |part: &&Layer| part.at == at && layers::is_workspace(&part.key) == layers::is_workspace(key);
        let found = self.0.iter().filter_map(|(dir, parts)| Some((dir, parts.iter().find(fits)?)));
        found.map(|(dir, part)| layers::part_in(dir, &part.key)).collect()
    }

    /// The places that they hold something for, without those of a workspace's own.
    fn places(&self) -> Vec<PathBuf> {
        let parts = self.0.iter().flat_map(|(_, parts)| parts);
        let mut places: Vec<PathBuf> =
            parts.filter(|part| !layers::is_workspace(&part.key)).map(|part| part.at.clone()).collect();
        places.sort();
        places.dedup();
        places
    }
}

/// A box's tree as it grows.
pub(super) struct Tree<'a> {
    plan: &'a Plan,
    marks: Marks,
    masks: Vec<Mask>,
    /// Memory for what is neither the host's nor to be kept: masks, made-up directories, and the root's mount point.
    scratch: PathBuf,
    /// Where the tree grows; the root of the box later.
    pub(super) root: PathBuf,
    standing: Standing,
    /// What it stands on.
    stack: Stack,
}

impl<'a> Tree<'a> {
    /// Builds the whole tree in this process's own mount namespace.
    ///
    /// # Errors
    /// The first step that the system refused.
    pub(super) fn build(plan: &'a Plan) -> Result<(PathBuf, Standing), StepError> {
        let mountinfo = fs::read("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo".to_owned())?;
        mount::keep_private().during(|| "keep mounts to itself".to_owned())?;
        let scratch = plan.dir.join("mnt");
        mount::tmpfs(&scratch, mount::PLAIN, c"mode=0755,size=64m")
            .during(|| format!("mount memory at {}", scratch.display()))?;
        let homes = plan.home.iter().cloned();
        let homes: Vec<_> = if plan.rootful { homes.chain(masks::all_homes()).collect() } else { homes.collect() };
        let mut tree = Self {
            plan,
            marks: if plan.rootful { Marks::Trusted } else { Marks::User },
            masks: masks::present(&homes, &plan.state_dir),
            root: scratch.join("root"),
            scratch,
            standing: Standing::default(),
            stack: Stack::read(&plan.stack).during(|| "read the layers that it stands on".to_owned())?,
        };
        fs::create_dir(&tree.root).during(|| "make the root's mount point".to_owned())?;
        tree.overlays(&mountinfo)?;
        super::fresh::build(&tree.root, plan)?;
        tree.temporary()?;
        tree.workspace(&mountinfo)?;
        tree.home()?;
        tree.standing.masked = tree.masks.iter().map(|mask| mask.path.clone()).collect();
        Ok((tree.root, tree.standing))
    }

    fn overlays(&mut self, mountinfo: &[u8]) -> Result<(), StepError> {
        let visible = mountinfo::visible(mountinfo);
        let hidden: Vec<PathBuf> = self.masks.iter().map(|mask| mask.path.clone()).collect();
        let hidden: Vec<&Path> = hidden.iter().map(PathBuf::as_path).collect();
        let places = if self.plan.rootful {
            plan::whole(&visible, &hidden)
        } else {
            self.skeleton(mountinfo, &visible, &hidden)?
        };
        let places = self.with_kept(places);
        for (index, at) in places.iter().enumerate() {
            if at == Path::new("/") {
                self.overlay(at, at, "root", &places)?;
                continue;
            }
            // A mount below one that is not shown, such as below a second `/sys` or another chroot's `/dev`.
            if !self.inside(at).exists() {
                continue;
            }
            match self.overlay(at, at, &format!("m{index}"), &places) {
                // Somebody took it away since the table of mounts was read.
                Err(_) if at.try_exists().is_ok_and(|exists| !exists) => {}
                Err(refused) => self.show_read_only(at, &refused)?,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Adds the places that a layer holds something for and that have no overlay of their own now, such as a disk that is
    /// not mounted any more.
    fn with_kept(&mut self, mut places: Vec<PathBuf>) -> Vec<PathBuf> {
        let known = |at: &Path| at == Path::new("/") || at == Path::new("/tmp");
        for at in self.stack.places().into_iter().filter(|at| !known(at)) {
            if places.contains(&at) {
                continue;
            }
            if at.is_dir() && self.plan.rootful {
                places.push(at);
            } else {
                self.standing.capabilities.push(Capability {
                    name: format!("what was kept of {}", at.display()),
                    missing: Some("there is no such file system now".to_owned()),
                });
            }
        }
        places.sort();
        places
    }

    /// The made-up directories of a tree that is split, with an overlay of their own as the root.
    fn skeleton(&mut self, mountinfo: &[u8], visible: &[Mount], empty: &[&Path]) -> Result<Vec<PathBuf>, StepError> {
        let kernel: Vec<&Path> =
            visible.iter().filter(|mount| !holds_files(&mount.fs)).map(|mount| mount.at.as_path()).collect();
        let split = plan::split(Path::new("/"), &mountinfo::mount_points(mountinfo), empty, &kernel);
        let bones = self.scratch.join("skeleton");
        self.bones(&bones, &split).during(|| "make the tree's directories".to_owned())?;
        self.overlay(&bones, Path::new("/"), "root", &split.overlays)?;
        for file in &split.files {
            let place = self.inside(file);
            // A file that its owner keeps to himself is not shown.
            if mount::bind(file, &place).is_ok() {
                mount::read_only(&place, mount::Reach::One).during(|| format!("make {} read-only", file.display()))?;
            }
        }
        Ok(split.overlays)
    }

    fn bones(&self, bones: &Path, split: &plan::Split) -> io::Result<()> {
        let place = |path: &Path| bones.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir(bones)?;
        for dir in &split.directories {
            fs::create_dir(place(dir))?;
            masks::copy_attributes(dir, &place(dir), self.marks)?;
        }
        for (at, to) in &split.links {
            std::os::unix::fs::symlink(to, place(at))?;
        }
        for file in &split.files {
            fs::write(place(file), "")?;
        }
        Ok(())
    }

    /// Mounts an overlay over `lower` at `at`, with masks for what it must not show; deeper `places` see to themselves.
    fn overlay(&mut self, lower: &Path, at: &Path, key: &str, places: &[PathBuf]) -> Result<(), StepError> {
        let owner = |path: &Path| {
            places.iter().filter(|place| path.starts_with(place)).max_by_key(|place| place.as_os_str().len())
        };
        let is_ours = |mask: &&Mask| {
            lower == at
                && mask.path.starts_with(at)
                && mask.path != at
                && owner(&mask.path).is_none_or(|place| place == at)
        };
        let masks: Vec<&Mask> = self.masks.iter().filter(is_ours).collect();
        let mut lowers = Vec::new();
        if !masks.is_empty() {
            let layer = self.scratch.join(format!("mask-{key}"));
            let written = fs::create_dir(&layer).and_then(|()| masks::write_layer(&layer, at, &masks, self.marks));
            written
                .and_then(|()| mount::name(&layer))
                .map(|fd| lowers.push(fd))
                .during(|| "write the masks".to_owned())?;
        }
        let mounted = self.mount_overlay(lowers, lower, at, key);
        mounted.during(|| format!("mount an overlay over {}", at.display()))?;
        self.standing.layers.push(Layer { at: at.to_owned(), key: key.to_owned() });
        Ok(())
    }

    fn mount_overlay(&self, masks: Vec<OwnedFd>, base: &Path, at: &Path, key: &str) -> io::Result<()> {
        let (upper, work) = (self.plan.dir.join("u").join(key), self.plan.dir.join("w").join(key));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let stack = self.stack.parts(at, key);
        masks::copy_attributes(stack.first().map_or(base, PathBuf::as_path), &upper, self.marks)?;
        let mount = |base: &Path| {
            let mut lowers = stack.iter().map(|part| mount::name(part)).collect::<io::Result<Vec<_>>>()?;
            lowers.extend(masks.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?);
            lowers.push(mount::name(base)?);
            let layers = Layers { lowers, upper: mount::name(&upper)?, work: mount::name(&work)? };
            mount::overlay(&layers, &self.inside(at), self.marks, self.sync(at, key))
        };
        match mount(base) {
            // The kernel wants no layer below another: as a file system of its own, the base is above none.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) && !stack.is_empty() => {
                // The try has left its mark there.
                remove_tree(&work)?;
                fs::create_dir(&work)?;
                mount(&self.apart(base, key)?)
            }
            other => other,
        }
    }

    /// Shows `base` as a file system of its own.
    fn apart(&self, base: &Path, key: &str) -> io::Result<PathBuf> {
        let (empty, place) = (self.scratch.join("empty"), self.scratch.join(format!("base-{key}")));
        fs::DirBuilder::new().recursive(true).create(&empty)?;
        fs::create_dir(&place)?;
        mount::read_only_overlay(&[mount::name(&empty)?, mount::name(base)?], &place, self.marks)?;
        Ok(place)
    }

    /// What may hold changes of the workspace outlives the box, so it is as safe on disk as programs believe.
    fn sync(&self, at: &Path, key: &str) -> Sync {
        let near =
            |workspace: &PathBuf| at != Path::new("/") && (workspace.starts_with(at) || at.starts_with(workspace));
        let kept =
            key.starts_with(WORKSPACE_KEY) || (!self.plan.rootful && self.plan.workspace.as_ref().is_some_and(near));
        if kept { Sync::Kept } else { Sync::Skipped }
    }

    /// For a file, and for a file system that can't be the lower of an overlay.
    fn show_read_only(&mut self, at: &Path, refused: &StepError) -> Result<(), StepError> {
        let place = self.inside(at);
        let shown = mount::bind(at, &place).and_then(|()| mount::read_only(&place, mount::Reach::One));
        shown.during(|| format!("show {} read-only", at.display()))?;
        if at.is_dir() {
            self.standing.capabilities.push(Capability {
                name: format!("changes below {}", at.display()),
                missing: Some(format!("shown read-only: {refused}: {}", refused.source)),
            });
        }
        Ok(())
    }

    /// `/tmp` on disk, where big files belong, in a layer of its own.
    fn temporary(&mut self) -> Result<(), StepError> {
        let (at, place) = (Path::new("/tmp"), self.root.join("tmp"));
        let open = |dir: &Path| {
            fs::create_dir(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o1777))
        };
        let mounted = (|| {
            if !place.is_dir() {
                fs::create_dir(&place)?;
            }
            if self.stack.parts(at, TMP_KEY).is_empty() {
                let upper = self.plan.dir.join("u").join(TMP_KEY);
                return open(&upper).and_then(|()| mount::bind(&upper, &place));
            }
            let nothing = self.scratch.join("nothing");
            open(&nothing)?;
            self.mount_overlay(Vec::new(), &nothing, at, TMP_KEY)
        })();
        mounted.during(|| "mount /tmp".to_owned())?;
        self.standing.layers.push(Layer { at: at.to_owned(), key: TMP_KEY.to_owned() });
        Ok(())
    }

    fn workspace(&mut self, mountinfo: &[u8]) -> Result<(), StepError> {
        let Some(asked) = &self.plan.workspace else { return Ok(()) };
        let real = asked.canonicalize().during(|| format!("find the workspace {}", asked.display()))?;
        self.like_host(&real).during(|| format!("make a place for the workspace {}", real.display()))?;
        if self.plan.bind_workspace {
            let place = self.inside(&real);
            mount::bind_all(&real, &place).during(|| format!("show the workspace {}", real.display()))?;
            self.cover_masks(&real)?;
        } else {
            let mounted = mountinfo::mount_points(mountinfo);
            let has_mounts = mounted.iter().any(|at| at != &real && at.starts_with(&real));
            let covered = !plan::is_within(&real, plan::FRESH.map(Path::new));
            // Where mounts lie below it, the overlays of the split tree do the same for its parts.
            if self.plan.rootful || !has_mounts || !covered {
                self.overlay(&real, &real, WORKSPACE_KEY, &[])?;
            }
            self.mounts_below_workspace(mountinfo, &real)?;
        }
        let named = self.inside(asked);
        if asked != &real && !named.exists() {
            let linked = asked.parent().map_or(Ok(()), |parent| self.like_host(parent));
            linked
                .and_then(|()| std::os::unix::fs::symlink(&real, &named))
                .during(|| format!("make the link {}", asked.display()))?;
        }
        Ok(())
    }

    /// The workspace's overlay hides the overlays of file systems mounted below it: root mounts those again.
    fn mounts_below_workspace(&mut self, mountinfo: &[u8], workspace: &Path) -> Result<(), StepError> {
        if !self.plan.rootful {
            return Ok(());
        }
        let hidden: Vec<PathBuf> = self.masks.iter().map(|mask| mask.path.clone()).collect();
        let hidden: Vec<&Path> = hidden.iter().map(PathBuf::as_path).collect();
        let visible = mountinfo::visible(mountinfo);
        let below = |at: &&PathBuf| at.as_path() != workspace && at.starts_with(workspace);
        let places: Vec<PathBuf> = plan::whole(&visible, &hidden).iter().filter(below).cloned().collect();
        for (index, at) in places.iter().enumerate() {
            if let Err(refused) = self.overlay(at, at, &format!("{WORKSPACE_KEY}-{index}"), &places) {
                self.show_read_only(at, &refused)?;
            }
        }
        Ok(())
    }

    /// In a workspace that is written through there is no layer to hide things in, so they are covered.
    fn cover_masks(&self, workspace: &Path) -> Result<(), StepError> {
        for mask in self.masks.iter().filter(|mask| mask.path.starts_with(workspace) && mask.path != workspace) {
            let place = self.inside(&mask.path);
            let covered = if place.is_dir() {
                mount::tmpfs(&place, mount::DATA | rustix::mount::MountFlags::RDONLY, c"mode=0700,size=4k")
            } else {
                mount::bind(&self.root.join("dev/null"), &place)
            };
            covered.during(|| format!("hide {}", mask.path.display()))?;
        }
        Ok(())
    }

    /// A home that lies in a fresh place would be missing.
    fn home(&self) -> Result<(), StepError> {
        let Some(home) = self.plan.home.as_ref().and_then(|home| home.canonicalize().ok()) else { return Ok(()) };
        self.like_host(&home).during(|| format!("make the home {}", home.display()))
    }

    /// Makes the directories down to `path` that the tree lacks, with the host's modes and owners.
    fn like_host(&self, path: &Path) -> io::Result<()> {
        let mut host = PathBuf::from("/");
        for step in path.strip_prefix("/").unwrap_or(path).components() {
            host.push(step);
            let inside = self.inside(&host);
            if fs::symlink_metadata(&inside).is_err() {
                fs::create_dir(&inside)?;
                let own = fs::metadata(&host)?.uid() == rustix::process::geteuid().as_raw() || self.plan.rootful;
                if own {
                    masks::copy_attributes(&host, &inside, self.marks)?;
                }
            }
        }
        Ok(())
    }

    /// Where a path of the host lies in the growing tree.
    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
