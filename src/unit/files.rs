//! Finding and reading unit files.
//!
//! Nothing here can block or be made to read without an end: only regular files are
//! opened, without waiting, and read up to a limit. Each file fails for itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Mistake};
use super::limits;
use super::text::{Files, Place, SourceFile};

/// Where units are read from. Later sources override earlier ones, key by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A unit directory that everybody has; it may be missing.
    Default(PathBuf),
    /// What a person named, files or directories, as one layer. Missing is a mistake.
    Given(Vec<PathBuf>),
    /// A text that is already here, under the name it is reported by.
    Text(String, String),
}

impl Source {
    /// A directory that a person named.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Given(vec![path.into()])
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The texts.
    pub files: Files,
    /// For each source the numbers of its files.
    pub layers: Vec<Vec<u32>>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
    /// Mistakes that have a place although the file could not be used.
    pub mistakes: Vec<Mistake>,
    /// Files that could not be used.
    pub broken_files: Vec<String>,
    /// Whether there were files that were not even looked at.
    pub truncated: bool,
    /// Bytes read so far.
    bytes: usize,
    /// Files seen so far.
    count: usize,
}

/// Reads all files of all sources.
pub fn gather(sources: &[Source]) -> Gathered {
    let mut gathered = Gathered::default();
    for source in sources {
        gathered.layers.push(Vec::new());
        match source {
            Source::Default(path) => match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => gathered.directory(path),
            },
            Source::Text(name, text) => gathered.text(name.clone(), text.clone().into_bytes()),
            Source::Given(paths) => paths.iter().for_each(|path| match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => gathered.directory(path),
                _ => gathered.file(path),
            }),
        }
    }
    gathered
}

impl Gathered {
    /// Reads the unit files of a directory, sorted by name.
    fn directory(&mut self, path: &Path) {
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut list = Vec::new();
            for entry in fs::read_dir(path)? {
                let path = entry?.path();
                let hidden =
                    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
                if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                    list.push(path);
                }
                if list.len() > limits::FILES {
                    break;
                }
            }
            list.sort();
            Ok(list)
        };
        match list() {
            Ok(list) => list.iter().for_each(|path| self.file(path)),
            Err(error) => {
                self.broken(path, format!("cannot read this directory: {}", why(&error)), None);
            }
        }
    }

    /// Reads one file into the current layer.
    fn file(&mut self, path: &Path) {
        self.count = self.count.saturating_add(1);
        if self.count > limits::FILES {
            if self.count == limits::FILES.saturating_add(1) {
                let text = format!(
                    "this and what follows is not read: there are more than {} unit files",
                    limits::FILES
                );
                self.broken(path, text, None);
                self.truncated = true;
            }
            return;
        }
        match read(path) {
            Ok(bytes) => self.text(path.to_string_lossy().into_owned(), bytes),
            Err((text, help)) => self.broken(path, text, help),
        }
    }

    /// Takes the text of a file into the current layer, if it is one.
    fn text(&mut self, name: String, bytes: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > limits::TOTAL_BYTES {
            let most = limits::TOTAL_BYTES >> 20;
            let text = format!("this file is not read: all unit files together exceed {most} MiB");
            return self.broken(Path::new(&name), text, None);
        }
        if bytes.contains(&0) {
            let text = "this is not a text file: it has NUL bytes";
            return self.broken(Path::new(&name), text.to_owned(), None);
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                let id = self.files.add(SourceFile::new(name, text));
                if let Some(layer) = self.layers.last_mut() {
                    layer.push(id);
                }
            }
            Err(error) => {
                let at = u32::try_from(error.utf8_error().valid_up_to()).unwrap_or(u32::MAX);
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let file = self.files.add(SourceFile::new(name.clone(), text));
                let place = Place { file, start: at, end: at.saturating_add(1) };
                let mistake = Mistake::new(place, "this file is not valid UTF-8 from here on");
                self.mistakes.push(mistake.help("save it as UTF-8"));
                self.broken_files.push(name);
            }
        }
    }

    fn broken(&mut self, path: &Path, text: String, help: Option<&str>) {
        let name = path.to_string_lossy().into_owned();
        self.diagnostics.push(Diagnostic::of_file(&name, text, help));
        self.broken_files.push(name);
    }
}

pub(super) type Refusal = (String, Option<&'static str>);

/// Reads a regular file of at most [`limits::FILE_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    let cannot = |error: io::Error| (format!("cannot read this file: {}", why(&error)), None);
    // Looked at before it is opened: opening a device can do things.
    regular(&fs::metadata(path).map_err(cannot)?)?;
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let file: File =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    regular(&meta)?;
    let too_large = || {
        let text = format!("this file is larger than {} MiB", limits::FILE_BYTES >> 20);
        (text, Some("split it into several files"))
    };
    if meta.len() > limits::FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(limits::FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    // It may have grown since.
    if bytes.len() as u64 > limits::FILE_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Refuses what is not a regular file, by its name.
fn regular(meta: &fs::Metadata) -> Result<(), Refusal> {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err((format!("this is not a regular file but {what}"), None))
}

/// The kernel's reason, without its number.
fn why(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ELOOP) => "too many levels of symbolic links".to_owned(),
        Some(libc::ENOENT) => "there is no such file or directory".to_owned(),
        Some(libc::EACCES | libc::EPERM) => "permission denied".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}
