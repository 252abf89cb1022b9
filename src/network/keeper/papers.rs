//! The keeper's files: addresses that are remembered, what the host's forwarding was, the mark
//! that something is made.
//!
//! What counts is what is here; the disk follows. What must always hold: a file that cannot be
//! written (a full disk) keeps no unit from its network; it is tried again every [`RETRY`], and
//! what is wrong is told once, until nothing is. Only a keeper that ends meanwhile (killed, or
//! replaced by another program's) takes along what it could not write.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::sys::state;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(5);

/// Largest file that is read: all addresses that are remembered, and more.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A file as it should be.
#[derive(Debug)]
struct Paper {
    /// `None`: there is none.
    text: Option<String>,
    written: bool,
}

/// All files.
#[derive(Debug)]
pub struct Papers {
    directory: PathBuf,
    all: BTreeMap<String, Paper>,
    /// There is one that could not be written.
    retry_at: Option<Instant>,
    /// The first reason for that, and whether it has been told.
    trouble: Option<String>,
    told: bool,
    /// What was found damaged, a sentence each.
    damage: Vec<String>,
}

impl Papers {
    /// Those in a directory, which is made with the first.
    pub fn new(directory: PathBuf) -> Self {
        let (all, damage) = (BTreeMap::new(), Vec::new());
        Self { directory, all, retry_at: None, trouble: None, told: true, damage }
    }

    /// What a file says; `None`: there is none. One that makes no sense is set aside, and says
    /// nothing from then on but that it was there.
    pub fn get(&mut self, name: &str) -> Option<&str> {
        if !self.all.contains_key(name) {
            let path = self.directory.join(name);
            let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
            let there = fs::symlink_metadata(&path).is_ok();
            let bytes = state::read_sound(&path, LARGEST, is_text, &mut self.damage);
            let text = there.then(|| String::from_utf8_lossy(&bytes).into_owned());
            self.all.insert(name.to_owned(), Paper { text, written: true });
        }
        self.all.get(name)?.text.as_deref()
    }

    /// From now on a file is to say this; `None`: it is not to be there.
    pub fn put(&mut self, name: &str, text: Option<&str>) {
        if self.get(name) == text {
            return;
        }
        let paper = Paper { text: text.map(str::to_owned), written: false };
        self.all.insert(name.to_owned(), paper);
        // At once, also where the last attempt has failed: a keeper that is killed before the
        // next one would leave the host's forwarding on.
        self.write();
    }

    /// When [`Self::write`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Writes what is not written.
    pub fn write(&mut self) {
        let mut failed = None;
        for (name, paper) in self.all.iter_mut().filter(|(_, paper)| !paper.written) {
            let path = self.directory.join(name);
            let written = match &paper.text {
                Some(text) => fs::create_dir_all(&self.directory)
                    .and_then(|()| state::replace(&path, text.as_bytes())),
                None => match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                },
            };
            match written {
                Ok(()) => paper.written = true,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        self.retry_at = failed.is_some().then(Instant::now).and_then(|now| now.checked_add(RETRY));
        if failed.is_some() != self.trouble.is_some() {
            let directory = self.directory.display();
            let sentence = |error| {
                let says = "which addresses units had and how the host was set before";
                format!("{directory} cannot be written, which says {says}: {error}")
            };
            (self.trouble, self.told) = (failed.map(sentence), false);
        }
    }

    /// Whether everything is written or why not, if that is other than it was told last.
    pub fn news(&mut self) -> Option<Result<(), String>> {
        (!std::mem::replace(&mut self.told, true)).then(|| self.trouble.clone().map_or(Ok(()), Err))
    }

    /// What was found damaged since this was asked last.
    pub fn damage(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_counts_and_is_written_later() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("network");
        fs::write(&directory, "in the way").unwrap();
        let mut papers = Papers::new(directory.clone());
        assert!(papers.get("a").is_none() && papers.news().is_none());
        papers.put("a", Some("one"));
        let trouble = papers.news().unwrap().unwrap_err();
        assert!(trouble.contains("network cannot be written"), "{trouble}");
        papers.put("a", Some("two"));
        papers.put("b", Some(""));
        papers.put("c", None);
        let say = |papers: &mut Papers| {
            ["a", "b", "c"].map(|name| papers.get(name).map_or("-".to_owned(), str::to_owned))
        };
        assert_eq!(say(&mut papers), ["two", "", "-"]);
        papers.write();
        assert!(papers.news().is_none() && papers.deadline().is_some());
        fs::remove_file(&directory).unwrap();
        papers.write();
        assert_eq!((papers.news(), papers.deadline()), (Some(Ok(())), None));
        assert_eq!(fs::read_to_string(directory.join("a")).unwrap(), "two");
        papers.put("b", None);
        assert!(!directory.join("b").exists() && directory.join("a").exists());
        // The next keeper reads them.
        let mut papers = Papers::new(directory.clone());
        assert_eq!(say(&mut papers), ["two", "-", "-"]);
        fs::write(directory.join("d"), [0xff]).unwrap();
        assert_eq!(papers.get("d"), Some(""));
        assert!(papers.damage()[0].contains("network/d cannot be used"));
    }
}
