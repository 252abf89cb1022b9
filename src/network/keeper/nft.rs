//! The rules in the kernel, by the program nft(8): text on its standard input, all of it in
//! one transaction.

use std::io;
use std::process::{Command, Stdio};

use crate::sys::memfd;

/// Where it is looked for.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// What it takes to change the host's networking, and what works without it.
pub const NO_RIGHT: &str =
    "CAP_NET_ADMIN is missing; network = \"none\" and \"host\" work without it";

/// Carries out what the text says, or nothing of it.
///
/// # Errors
/// One sentence.
pub fn apply(text: &str) -> Result<(), String> {
    let broken = |error: io::Error| format!("nft cannot be run: {error}");
    // A file, not a pipe: nobody waits for the other to read or write.
    let input = memfd::holding("rules", text.as_bytes()).map_err(broken)?;
    let child = Command::new("nft")
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("networks need the program nft, which is not installed (package \
                        nftables); network = \"none\" and \"host\" work without it"
                .to_owned());
        }
        other => other.map_err(broken)?,
    };
    let output = child.wait_with_output().map_err(broken)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") {
        return Err(NO_RIGHT.to_owned());
    }
    let line = said.lines().next().unwrap_or("no reason given").trim();
    Err(format!("nft: {line}"))
}
