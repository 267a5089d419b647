//! Makes one layer of several, so that no box has to stand on too many. Nothing is copied: the files are the same ones.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::content;
use super::{Store, is_workspace};
use crate::sandbox::changes::beneath::{Beneath, Node, OpenDir, join};
use crate::sandbox::launch::wire::Layer;

/// The layers of one directory, from the top down.
struct Merge {
    froms: Vec<(PathBuf, Beneath)>,
    to: PathBuf,
    /// The attribute that says that a directory hides all that is below.
    opaque: CString,
}

/// Which layers can be seen at a path, as the kernel sees them.
#[derive(Debug, Clone)]
struct Sight {
    layers: Vec<usize>,
    opaque: bool,
}

impl Store {
    /// Makes the layers `names`, from the top down, one layer `name` that shows the same.
    ///
    /// # Errors
    /// When one can't be read or the disk does not take it; nothing is left then.
    pub(in crate::sandbox) fn merge(&self, name: &str, names: &[String]) -> io::Result<()> {
        let mut parts: Vec<(Layer, Vec<PathBuf>)> = Vec::new();
        let mut rootful = true;
        for layer in names {
            let meta = self.meta(layer)?;
            rootful = meta.rootful;
            for part in meta.parts {
                let from = self.part(layer, &part.key)?;
                let same = |known: &Layer| known.at == part.at && is_workspace(&known.key) == is_workspace(&part.key);
                match parts.iter_mut().find(|(known, _)| same(known)) {
                    Some((_, froms)) => froms.push(from),
                    None => parts.push((part, vec![from])),
                }
            }
        }
        let new = self.begin(name)?;
        let mut layers = Vec::new();
        for (nth, (part, froms)) in parts.into_iter().enumerate() {
            // Keys are of different times, and may be the same for different places.
            let key = if is_workspace(&part.key) { format!("{}-{nth}", part.key) } else { format!("p{nth}") };
            let froms = froms.into_iter().map(|from| Ok((from.clone(), Beneath::open(&from)?)));
            let opaque = if rootful { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" };
            let froms = froms.collect::<io::Result<Vec<_>>>()?;
            Merge { froms, to: new.part(&key), opaque: opaque.to_owned() }.run()?;
            layers.push(Layer { at: part.at, key });
        }
        new.finish(layers, rootful)
    }
}

impl Merge {
    fn run(&self) -> io::Result<()> {
        let all = Sight { layers: (0..self.froms.len()).collect(), opaque: false };
        let mut open = vec![(PathBuf::new(), self.sight(&all, Path::new(""))?)];
        let mut made = Vec::new();
        while let Some((path, sight)) = open.pop() {
            fs::DirBuilder::new().mode(0o700).create(self.to.join(&path))?;
            let mut found = BTreeMap::new();
            for layer in &sight.layers {
                let dir = self.froms[*layer].1.dir(&path)?;
                for name in dir.names()? {
                    if let Entry::Vacant(place) = found.entry(name) {
                        let Some(stat) = dir.stat(place.key())? else { continue };
                        place.insert((*layer, stat));
                    }
                }
            }
            for (name, (layer, stat)) in found {
                let inside = join(&path, &name);
                if Node::of(stat.st_mode) == Node::Directory {
                    let sight = self.sight(&sight, &inside)?;
                    open.push((inside, sight));
                } else {
                    fs::hard_link(self.froms[layer].0.join(&inside), self.to.join(&inside))?;
                }
            }
            made.push((path, sight));
        }
        // What lies in a directory comes before it: the making of an entry changes the directory's times.
        for (path, sight) in made.into_iter().rev() {
            let top = sight.layers.first().ok_or(io::ErrorKind::NotFound)?;
            let dir = self.froms[*top].1.dir(&path)?;
            let mut attributes = content::attributes(&dir)?;
            if sight.opaque && attributes.iter().all(|(name, _)| *name != self.opaque) {
                attributes.push((self.opaque.clone(), b"y".to_vec()));
            }
            content::dress(&self.to.join(&path), &dir.own_stat()?, &attributes)?;
        }
        Ok(())
    }

    fn sight(&self, above: &Sight, path: &Path) -> io::Result<Sight> {
        let mut sight = Sight { layers: Vec::new(), opaque: above.opaque };
        for layer in &above.layers {
            let from = &self.froms[*layer].1;
            let Some(stat) = from.stat(path)? else { continue };
            if Node::of(stat.st_mode) != Node::Directory {
                sight.opaque = true;
                break;
            }
            sight.layers.push(*layer);
            if self.is_opaque(&from.dir(path)?) {
                sight.opaque = true;
                break;
            }
        }
        Ok(sight)
    }

    fn is_opaque(&self, dir: &OpenDir) -> bool {
        dir.attribute(&self.opaque).is_some_and(|value| value == b"y")
    }
}
