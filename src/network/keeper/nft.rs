//! The rules in the kernel, by the program nft(8): text on its standard input, all of it in
//! one transaction.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Where it is looked for.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Carries out what the text says, or nothing of it.
///
/// # Errors
/// One sentence.
pub fn apply(text: &str) -> Result<(), String> {
    let broken = |error: io::Error| format!("nft cannot be run: {error}");
    let child = Command::new("nft")
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("networks need the program nft, which is not installed (package \
                        nftables); network = \"none\" and \"host\" work without it"
                .to_owned());
        }
        other => other.map_err(broken)?,
    };
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(text.as_bytes()) {
            // What it did not want to read it says.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(broken)?,
        }
    }
    let output = child.wait_with_output().map_err(broken)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or("no reason given").trim();
    Err(format!("nft: {line}"))
}
