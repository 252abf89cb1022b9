//! The rules in the kernel, by the program nft(8): text on its standard input, all of it in
//! one transaction.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::sys::{fd, memfd, pidfd};

/// Where it is looked for.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// What it takes to change the host's networking, and what works without it.
pub const NO_RIGHT: &str =
    "CAP_NET_ADMIN is missing; network = \"none\" and \"host\" work without it";

/// How long it may take, in milliseconds: all others wait for it. With thousands of rules on a
/// slow machine it takes a second.
const PATIENCE: i32 = 20_000;

/// Most of what it says that is read.
const SAID_MAX: u64 = 4096;

/// Carries out what the text says, or nothing of it.
///
/// # Errors
/// One sentence.
pub fn apply(text: &str) -> Result<(), String> {
    run("nft", text, PATIENCE)
}

fn run(program: &str, text: &str, patience: i32) -> Result<(), String> {
    let broken = |error: io::Error| format!("nft cannot be run: {error}");
    // Files, not pipes: nobody waits for the other to read or write.
    let input = memfd::holding("rules", text.as_bytes()).map_err(broken)?;
    let said = File::from(memfd::holding("said", b"").map_err(broken)?);
    let child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(broken)?)
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("networks need the program nft, which is not installed (package \
                        nftables); network = \"none\" and \"host\" work without it"
                .to_owned());
        }
        other => other.map_err(broken)?,
    };
    if ended_within(&mut child, patience).map_err(broken)?.success() {
        return Ok(());
    }
    let said = words(said);
    if said.contains("Operation not permitted") {
        return Err(NO_RIGHT.to_owned());
    }
    let line = said.lines().next().unwrap_or("no reason given").trim();
    Err(format!("nft: {line}"))
}

/// Waits for the end of a child; one that takes longer is killed.
fn ended_within(child: &mut Child, patience: i32) -> io::Result<ExitStatus> {
    let process = pidfd::open(child.id().cast_signed())?;
    if !fd::readable_within(process.as_fd(), patience)? {
        child.kill()?;
        // What the kernel does not let go is waited for by nobody.
        if fd::readable_within(process.as_fd(), patience)? {
            child.wait()?;
        }
        return Err(io::Error::other("it does not end"));
    }
    child.wait()
}

/// What it said, from the beginning.
fn words(mut file: File) -> String {
    let mut bytes = Vec::new();
    // Without it the reason is missing, which is said.
    let _ = file.rewind().and_then(|()| file.take(SAID_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script in the place of nft, in a directory that goes with the first value.
    fn script(text: &str) -> (tempfile::TempDir, String) {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nft");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (directory, path.display().to_string())
    }

    #[test]
    fn one_that_does_not_end_is_not_waited_for() {
        let (_kept, program) = script("exec sleep 1000");
        let begun = std::time::Instant::now();
        assert_eq!(run(&program, "", 100).unwrap_err(), "nft cannot be run: it does not end");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn its_first_line_is_the_reason_however_much_it_says() {
        let (_kept, program) = script("read rule; seq -f \"$rule %g\" 100000 >&2; exit 1");
        assert_eq!(run(&program, "bad\n", PATIENCE).unwrap_err(), "nft: bad 1");
        let (_kept, program) = script("exit 1");
        assert_eq!(run(&program, "", PATIENCE).unwrap_err(), "nft: no reason given");
        let (_kept, program) = script("exit 0");
        run(&program, "", PATIENCE).unwrap();
    }
}
