//! Builds the tiny init (`src/sys/init/main.rs`) into a static program of a few KiB that
//! `container::launch` embeds, and leaves out of release binaries what they never use.

use std::path::Path;
use std::process::Command;
use std::{env, error::Error};

const NO_UNWIND: &str = ".cargo/no-unwind.ld";
const SOURCE: &str = "src/sys/init/main.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let output = Path::new(&env::var("OUT_DIR")?).join("berth-init");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "berth_init"]);
    rustc.args(["--target", &env::var("TARGET")?]);
    for option in [
        "opt-level=s",
        "panic=abort",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
        "link-arg=-nostdlib",
        "link-arg=-nostartfiles",
        "link-arg=-static",
        // No build id, no padding to pages: one small readable and executable segment.
        "link-arg=-Wl,--build-id=none,-z,norelro,-n",
    ] {
        rustc.args(["-C", option]);
    }
    rustc.arg("-o").arg(&output).arg(SOURCE);
    let status = rustc.status()?;
    if !status.success() {
        return Err(format!("{SOURCE} does not build: {status}").into());
    }
    println!("cargo::rustc-env=BERTH_INIT={}", output.display());
    without_unwinding()
}

/// See the linker script. Other profiles unwind: the test harness catches panics.
fn without_unwinding() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={NO_UNWIND}");
    if env::var("PROFILE")? == "release" {
        let script = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(NO_UNWIND);
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}
