//! The project's files as the rules look at them: which there are, and what of a Rust
//! file is code.
//!
//! What must always hold: blanking keeps every line and column where it was, so that
//! places found in code are places in the file.

use std::fs;
use std::io;
use std::path::Path;

/// One file of the checkout.
pub struct Source {
    /// Relative to the checkout, with `/`.
    pub path: String,
    /// What is in it; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Whether it is compiled for tests only, because of where it is or who includes it.
    pub only_tests: bool,
}

impl Source {
    /// A file that exists only in a test.
    pub fn new(path: &str, text: &str) -> Self {
        let only_tests = path.starts_with("tests/") || path.starts_with("bench/");
        Self { path: path.to_owned(), text: text.to_owned(), only_tests }
    }

    /// Whether it is written in Rust.
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The room below `src` that it is in: `unit` of `src/unit/model.rs`.
    pub fn room(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(room, _)| room)
    }

    /// Its code, comments and literals blanked.
    pub fn code(&self) -> String {
        code_only(&self.text)
    }

    /// Its code that is not only for tests.
    pub fn shipped_code(&self) -> String {
        if self.only_tests { String::new() } else { without_tests(&self.code()) }
    }
}

/// Every file of the checkout but what is built, downloaded or git's own.
pub fn checkout(root: &Path) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Ok(relative) = path.strip_prefix(root) else { continue };
            let name = relative.to_string_lossy().into_owned();
            if matches!(name.as_str(), "target" | ".cache" | ".git") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
                found.push(Source::new(&name, &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut found);
    Ok(found)
}

/// Marks the files of modules that are declared below `#[cfg(test)]`.
pub fn mark_test_modules(files: &mut [Source]) {
    let modules: Vec<String> =
        files.iter().filter(|file| file.is_rust()).flat_map(test_modules).collect();
    for file in files {
        // The module itself, and its own modules in the folder of its name.
        let within = |module: &String| {
            let rest = file.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.only_tests |= modules.iter().any(within);
    }
}

/// Paths, without `.rs`, of the modules that a file declares for tests only.
fn test_modules(file: &Source) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let stem = name.trim_end_matches(".rs");
    let own = matches!(stem, "mod" | "lib" | "main");
    let mut found = Vec::new();
    let mut lines = file.text.lines().map(str::trim);
    while lines.any(|line| line == "#[cfg(test)]") {
        let mut place = None;
        for line in lines.by_ref() {
            if let Some(path) = line.strip_prefix("#[path = \"") {
                place = Some(format!(
                    "{folder}/{}",
                    path.trim_end_matches("\"]").trim_end_matches(".rs")
                ));
            } else if !line.starts_with("#[") {
                let module = line.trim_start_matches("pub ").strip_prefix("mod ");
                if let Some(module) = module.and_then(|module| module.strip_suffix(';')) {
                    let below = if own { folder.to_owned() } else { format!("{folder}/{stem}") };
                    found.push(place.unwrap_or(format!("{below}/{module}")));
                }
                break;
            }
        }
    }
    found
}

/// Rust text with comments, strings and characters replaced by spaces.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut rest = chars.as_slice();
    let mut code = String::with_capacity(text.len());
    while let Some((first, _)) = rest.split_first() {
        let blank = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        match blank {
            None => code.push(*first),
            Some(length) => code.extend(rest.iter().take(length).map(|c| blanked(*c))),
        }
        rest = rest.get(blank.unwrap_or(1)..).unwrap_or_default();
    }
    code
}

fn blanked(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

/// The number of characters of the comment that begins here.
fn comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let mut depth = 0_usize;
            let mut at = 0_usize;
            loop {
                match rest.get(at..).unwrap_or_default() {
                    ['/', '*', ..] => depth = depth.saturating_add(1),
                    ['*', '/', ..] => depth = depth.saturating_sub(1),
                    [] => return Some(rest.len()),
                    _ => {
                        at = at.saturating_add(1);
                        continue;
                    }
                }
                at = at.saturating_add(2);
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => None,
    }
}

/// The number of characters of the string that begins here, raw or not.
fn string(rest: &[char]) -> Option<usize> {
    let after_r = rest.strip_prefix(&['r'])?;
    let hashes = after_r.iter().take_while(|c| **c == '#').count();
    let raw = after_r.get(hashes) == Some(&'"');
    if !raw {
        return None;
    }
    let mut end = vec!['"'];
    end.resize(hashes.saturating_add(1), '#');
    let opening = hashes.saturating_add(2);
    let body = rest.get(opening..)?;
    let length = body.windows(end.len()).position(|window| window == end)?;
    Some(opening.saturating_add(length).saturating_add(end.len()))
}

/// The number of characters of the quoted string or character that begins here. A
/// lifetime is neither.
fn character(rest: &[char]) -> Option<usize> {
    let quote = match rest {
        ['"', ..] | ['\'', '\\', ..] | ['\'', _, '\'', ..] => *rest.first()?,
        _ => return None,
    };
    let mut escaped = false;
    let body = rest.iter().skip(1).position(|c| {
        let end = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    });
    Some(body.map_or(rest.len(), |length| length.saturating_add(2)))
}

/// Code with every item that is marked `#[cfg(test)]` blanked.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, item)) = rest.split_once(MARK) {
        let length = item_length(item);
        let (gone, after) = item.split_at_checked(length).unwrap_or((item, ""));
        kept.push_str(before);
        kept.extend(MARK.chars().chain(gone.chars()).map(blanked));
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// Bytes up to the end of an item: its `;`, or the brace that closes its first one.
fn item_length(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            ';' if depth == 0 => return at.saturating_add(1),
            '{' => depth = depth.saturating_add(1),
            '}' if depth <= 1 => return at.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    item.len()
}

/// The line numbers, from 1, on which `word` stands as a word of its own, with what
/// follows it on that line.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    (1..).zip(code.lines()).flat_map(move |(number, line)| {
        line.match_indices(word).filter_map(move |(at, _)| {
            let (before, from) = line.split_at_checked(at)?;
            let after = from.strip_prefix(word)?;
            let part = |c: char| c.is_alphanumeric() || c == '_';
            let alone = !before.ends_with(part) && !after.starts_with(part);
            alone.then_some((number, after))
        })
    })
}

/// Every path that starts with `root::`, braces resolved, with its line: `use crate::{a::b,
/// c}` gives `[a, b]` and `[c]`.
pub fn paths(code: &str, root: &str) -> Vec<(usize, Vec<String>)> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let Some((before, from)) = code.split_at_checked(at) else { continue };
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = before.matches('\n').count().saturating_add(1);
        let mut resolved = Vec::new();
        branches(from.strip_prefix(&start).unwrap_or_default(), &[], &mut resolved);
        found.extend(resolved.into_iter().map(|path| (line, path)));
    }
    found
}

/// Resolves one use tree, adds its paths to `found` and returns what follows it.
fn branches<'a>(tree: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut inside) = tree.strip_prefix('{') {
        loop {
            inside = inside.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if inside.is_empty() {
                return inside;
            }
            if let Some(after) = inside.strip_prefix('}') {
                return after;
            }
            let after = branches(inside, prefix, found);
            // Whatever is no path (`as name`, `*`) is stepped over, so this always ends.
            inside = after.trim_start_matches(|c| c != ',' && c != '}' && c != '{');
        }
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, after) = tree.split_at_checked(end).unwrap_or((tree, ""));
    let mut path = prefix.to_vec();
    if !name.is_empty() {
        path.push(name.to_owned());
    }
    if let Some(deeper) = after.strip_prefix("::") {
        return branches(deeper, &path, found);
    }
    found.push(path);
    after
}
