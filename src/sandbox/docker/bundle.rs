//! This program made fit to run in any Linux image: itself, and where it is linked dynamically its loader and
//! libraries, side by side in one directory. Nothing of the image is needed then, not even a C library.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

/// The program's name in the bundle.
const PROGRAM: &str = "agent";
/// The loader's name in the bundle.
const LOADER: &str = "ld.so";
/// Names the loader of a complete bundle's program; empty where it needs none.
const COMPLETE: &str = "complete";

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program is not a kind of executable that is understood.
    #[error("{0} is not a 64-bit little-endian ELF program")]
    Format(PathBuf),
    /// The program's loader does not list its libraries.
    #[error("the loader {loader} does not list the program's libraries: {words}")]
    Loader {
        /// The loader.
        loader: PathBuf,
        /// Its words.
        words: String,
    },
}

/// A directory with everything that the program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The directory on this machine.
    pub(super) dir: PathBuf,
    /// Whether the program needs its loader.
    dynamic: bool,
}

impl Bundle {
    /// Finds the bundle of `program` below `cache`, or makes it there. Safe to be called by many at once.
    ///
    /// The bundle's name is a hash over what tells the program from its earlier and later builds (inode, size, time of
    /// change), so finding it costs one `stat`. Blocks; run it where that is allowed.
    ///
    /// # Errors
    /// [`BundleError`] where the program can't be read, the cache not be written, or the loader does not help.
    pub(super) fn of(program: &Path, cache: &Path) -> Result<Self, BundleError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::File { path, source }
        };
        let meta = fs::metadata(program).map_err(file_error(program))?;
        let identity = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
        let digest = Sha256::digest(format!("{identity:?}"));
        let name: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let dir = cache.join(&name);
        if let Ok(kind) = fs::read_to_string(dir.join(COMPLETE)) {
            return Ok(Self { dir, dynamic: !kind.is_empty() });
        }
        fs::create_dir_all(cache).map_err(file_error(cache))?;
        let temporary = tempfile::Builder::new().prefix(".making-").tempdir_in(cache).map_err(file_error(cache))?;
        let dynamic = assemble(program, temporary.path())?;
        // Any user of the box may have to execute what is in it.
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).map_err(file_error(cache))?;
        match fs::rename(temporary.path(), &dir) {
            Ok(()) => {
                let _moved_away = temporary.keep();
            }
            // Someone else was faster; theirs is as good.
            Err(_) if dir.join(COMPLETE).exists() => {}
            Err(source) => return Err(BundleError::File { path: dir, source }),
        }
        Ok(Self { dir, dynamic })
    }

    /// The words that run the program where the bundle appears as the directory `at`.
    pub(super) fn argv(&self, at: &str) -> Vec<String> {
        let program = format!("{at}/{PROGRAM}");
        if self.dynamic {
            vec![format!("{at}/{LOADER}"), "--library-path".to_owned(), at.to_owned(), program]
        } else {
            vec![program]
        }
    }

    /// The bundle as an uncompressed tar with its files below `at`, and an empty private directory `private`. Both are
    /// paths relative to the root, without a slash at the end.
    ///
    /// # Errors
    /// When a file can't be read.
    pub(super) fn tar(&self, at: &str, private: &str) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.mode(tar::HeaderMode::Deterministic);
        tar.append_dir_all(at, &self.dir)?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o700);
        header.set_size(0);
        tar.append_data(&mut header, private, io::empty())?;
        tar.into_inner()
    }
}

/// Puts program, loader and libraries into `dir`; says whether there is a loader.
fn assemble(program: &Path, dir: &Path) -> Result<bool, BundleError> {
    let take = |from: &Path, name: &str| {
        let to = dir.join(name);
        // Opening the resolved path would miss a program that was replaced while it runs, `/proc/self/exe` does not.
        fs::copy(from, &to)
            .and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o755)))
            .map_err(|source| BundleError::File { path: from.to_owned(), source })
    };
    take(program, PROGRAM)?;
    let copy = dir.join(PROGRAM);
    let loader = interpreter(&copy)
        .map_err(|source| BundleError::File { path: program.to_owned(), source })?
        .ok_or_else(|| BundleError::Format(program.to_owned()))?;
    if let Interpreter::Loader(loader) = &loader {
        for (name, path) in libraries(loader, &copy)? {
            take(&path, &name)?;
        }
        take(loader, LOADER)?;
    }
    let dynamic = matches!(loader, Interpreter::Loader(_));
    let complete = dir.join(COMPLETE);
    fs::write(&complete, if dynamic { LOADER } else { "" })
        .map_err(|source| BundleError::File { path: complete, source })?;
    Ok(dynamic)
}

/// How the kernel starts a program.
#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    /// By itself.
    Static,
    /// Through this loader.
    Loader(PathBuf),
}

/// Reads the `PT_INTERP` entry of an ELF file; `None` for what is not a 64-bit little-endian ELF program.
fn interpreter(program: &Path) -> io::Result<Option<Interpreter>> {
    const PT_INTERP: u32 = 3;
    const ENTRY: u16 = 56;
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let half = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let long = |bytes: &[u8], at: usize| {
        bytes[at..at + 8].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let (entry_size, entries) = (half(&header, 54), half(&header, 56));
    if header[..6] != *b"\x7fELF\x02\x01" || (entries > 0 && entry_size != ENTRY) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(long(&header, 32)))?;
    let mut table = vec![0; usize::from(entry_size) * usize::from(entries)];
    file.read_exact(&mut table)?;
    for entry in table.chunks_exact(usize::from(ENTRY)) {
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) != PT_INTERP {
            continue;
        }
        file.seek(SeekFrom::Start(long(entry, 8)))?;
        let mut path = Vec::new();
        file.take(long(entry, 32).min(4096)).read_to_end(&mut path)?;
        let path = String::from_utf8_lossy(&path).trim_end_matches('\0').to_owned();
        return Ok(Some(Interpreter::Loader(PathBuf::from(path))));
    }
    Ok(Some(Interpreter::Static))
}

/// Asks the loader which libraries it would load, by the names that the program knows them by.
fn libraries(loader: &Path, program: &Path) -> Result<Vec<(String, PathBuf)>, BundleError> {
    let listed = Command::new(loader).arg("--list").arg(program).stdin(Stdio::null()).env_remove("LD_PRELOAD").output();
    let words = match listed {
        Ok(listed) if listed.status.success() => return Ok(parse_list(&String::from_utf8_lossy(&listed.stdout))),
        Ok(listed) => String::from_utf8_lossy(&listed.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(BundleError::Loader { loader: loader.to_owned(), words })
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f…)`. The loader itself and the kernel's
/// own page stand there without an arrow.
fn parse_list(text: &str) -> Vec<(String, PathBuf)> {
    let parse = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.rsplit_once(" (")?.0;
        let is_plain = path.starts_with('/') && !name.contains('/');
        is_plain.then(|| (name.to_owned(), PathBuf::from(path)))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_is_understood() {
        let glibc = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibgcc_s.so.1 => /lib/x/libgcc_s.so.1 (0x00007f01)\n\
                     \tlibc.so.6 => /lib/x/libc.so.6 (0x00007f02)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n";
        let found = parse_list(glibc);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], ("libc.so.6".to_owned(), PathBuf::from("/lib/x/libc.so.6")));
    }

    #[test]
    fn a_bundle_runs_without_the_machines_own_libraries_and_is_made_once() {
        let cache = tempfile::tempdir().unwrap();
        let program = Path::new("/bin/true");
        let bundle = Bundle::of(program, cache.path()).unwrap();
        let argv = bundle.argv(&bundle.dir.to_string_lossy());
        assert!(Command::new(&argv[0]).args(&argv[1..]).env_clear().status().unwrap().success());
        let made = fs::metadata(bundle.dir.join(PROGRAM)).unwrap().ino();
        assert_eq!(Bundle::of(program, cache.path()).unwrap(), bundle);
        assert_eq!(fs::metadata(bundle.dir.join(PROGRAM)).unwrap().ino(), made);
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        let script = cache.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let error = Bundle::of(&script, &cache.path().join("guest")).unwrap_err();
        assert!(matches!(error, BundleError::Format(_)), "{error}");
    }
}
