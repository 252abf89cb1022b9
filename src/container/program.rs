//! Where a command's program may be, and the words for why it cannot be executed.

use super::status::{Failure, errno_text};

/// Paths to try, in their order: the name itself if it is a path, else its places in `list`
/// (`$PATH`).
pub fn candidates(name: &str, list: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let places = list.split(':').map(|place| if place.is_empty() { "." } else { place });
    places.map(|place| format!("{place}/{name}")).collect()
}

/// What a script's first line names as its interpreter; `None` for what is no script.
pub fn interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned)
}

/// There is no command.
pub fn empty() -> Failure {
    Failure::text("an empty command")
}

/// None of the candidates is there.
pub fn absent(name: &str, list: &str) -> Failure {
    Failure::text(if name.contains('/') {
        format!("\"{name}\": no such file in the unit's root tree (ENOENT)")
    } else {
        format!("\"{name}\": not found in the unit's PATH ({list})")
    })
}

/// The file is there and the kernel says that something is not.
pub fn without_interpreter(name: &str, candidate: &str, interpreter: Option<&str>) -> Failure {
    let what = match interpreter {
        Some(interpreter) => format!("the interpreter {interpreter} of {candidate}"),
        None => format!("the dynamic loader of {candidate}"),
    };
    Failure::text(format!("\"{name}\": {what} is not in the unit's root tree (ENOENT)"))
}

/// One was there, and not for this user.
pub fn denied(name: &str, candidate: &str) -> Failure {
    let why = "may not be executed by the unit's user (EACCES)";
    Failure::text(format!("\"{name}\": {candidate} {why}"))
}

/// Any other answer of the kernel.
pub fn refused(name: &str, errno: i32) -> Failure {
    Failure::text(format!("\"{name}\": {}", errno_text(errno)))
}
