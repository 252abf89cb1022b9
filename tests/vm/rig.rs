//! A machine: started by `scripts/vm`, watched by its console and its report, ended by
//! itself or, at the latest, when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For anything a machine does. Generous: the emulator is slow and the tests share two
/// processors with others.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Both kernels of `scripts/vm-image`.
pub const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// What to boot.
#[derive(Debug, Default)]
pub struct Setup {
    words: Vec<String>,
    append: String,
    patience: Option<Duration>,
}

impl Setup {
    /// A machine with this kernel and the binaries under test.
    pub fn new(kernel: &str) -> Self {
        let mut setup = Self::default();
        setup.option("--kernel", kernel);
        setup
    }

    fn option(&mut self, name: &str, value: &str) {
        self.words.extend([name.to_owned(), value.to_owned()]);
    }

    /// More words on the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append = format!("{} {words}", self.append);
        self
    }

    /// A file or directory of this checkout at a path inside.
    pub fn put(mut self, file: &str, path: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        self.option("--put", &format!("{}:{path}", from.display()));
        self
    }

    /// Unit files for `/etc/berth`.
    pub fn units(mut self, directory: &Path) -> Self {
        self.option("--units", directory.to_str().unwrap());
        self
    }

    /// How much memory it has.
    pub fn memory(mut self, size: &str) -> Self {
        self.option("--memory", size);
        self
    }

    /// For how long it may do one thing, instead of [`PATIENCE`].
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Another disk.
    pub fn drive(mut self, file: &Path) -> Self {
        self.option("--drive", file.to_str().unwrap());
        self
    }

    /// Boots it.
    pub fn boot(self) -> Machine {
        Machine::start(&self)
    }
}

/// What a machine has said so far.
#[derive(Default)]
struct Said {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Said {
    /// Also after a test has failed: then it is to be shown.
    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this to hold of the text and of whether it has ended; whether it does.
    fn wait(&self, patience: Duration, holds: impl Fn(&str, bool) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut said = self.lock();
        loop {
            if holds(&said.0, said.1) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            said = self.more.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running machine.
pub struct Machine {
    emulator: Child,
    console: Arc<Said>,
    patience: Duration,
    directory: tempfile::TempDir,
}

impl Machine {
    fn start(setup: &Setup) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut command = Command::new(root.join("scripts/vm"));
        command.current_dir(root).arg("--batch").args(&setup.words);
        command.args(["--append", &setup.append]);
        for (option, path) in [
            ("--bin", binaries()),
            ("--disk", at("disk.img")),
            ("--report", at("report")),
            ("--monitor", at("monitor")),
        ] {
            command.arg(option).arg(path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut emulator = command.spawn().unwrap();
        let console = Arc::new(Said::default());
        let (output, said) = (emulator.stdout.take().unwrap(), console.clone());
        std::thread::spawn(move || listen(BufReader::new(output), &said));
        let patience = setup.patience.unwrap_or(PATIENCE);
        Self { emulator, console, patience, directory }
    }

    /// Everything on the console so far.
    pub fn console(&self) -> String {
        self.console.lock().0.clone()
    }

    /// Waits until a line of the console contains this.
    pub fn await_console(&self, text: &str) {
        let seen = self.console.wait(self.patience, |said, ended| ended || said.contains(text));
        assert!(seen, "the machine did not say {text:?}");
        assert!(self.console().contains(text), "the machine ended without saying {text:?}");
    }

    /// Types on the console.
    pub fn type_line(&mut self, text: &str) {
        let keys = self.emulator.stdin.as_mut().unwrap();
        keys.write_all(format!("{text}\r").as_bytes()).unwrap();
        keys.flush().unwrap();
    }

    /// Presses the three keys, by way of the emulator's own socket.
    pub fn ctrl_alt_del(&self) {
        let mut monitor = UnixStream::connect(self.directory.path().join("monitor")).unwrap();
        monitor.write_all(b"sendkey ctrl-alt-delete\n").unwrap();
        // It does what was asked before it answers with its next prompt.
        let mut answer = BufReader::new(monitor);
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("ctrl-alt-delete") {
            assert_ne!(answer.read_until(b'\n', &mut seen).unwrap(), 0, "no answer");
        }
    }

    /// Presses them again and again until the console says this: a busy machine may take two
    /// that come at once for one.
    pub fn ctrl_alt_del_until(&self, text: &str) {
        let soon = Duration::from_millis(100);
        let said = (0..200).any(|_| {
            self.ctrl_alt_del();
            self.console.wait(soon, |console, ended| ended || console.contains(text))
        });
        assert!(said, "{}", self.console());
    }

    /// Waits until it has ended by itself.
    pub fn await_end(&mut self) -> ExitStatus {
        assert!(self.console.wait(self.patience, |_, ended| ended), "the machine did not end");
        self.emulator.wait().unwrap()
    }

    /// What was written to the report, with the machine's own line ends removed.
    pub fn report(&self) -> String {
        let bytes = fs::read(self.directory.path().join("report")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Its disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    /// Asserts that the root filesystem was left clean: nothing to replay, nothing to repair.
    pub fn assert_clean(&self) {
        assert_clean(&self.disk());
    }
}

/// Asserts that nobody has to repair this filesystem.
pub fn assert_clean(disk: &Path) {
    let header = Command::new("dumpe2fs").arg("-h").arg(disk).output().unwrap();
    let header = String::from_utf8_lossy(&header.stdout).into_owned();
    assert!(!header.contains("needs_recovery"), "its journal was not written out:\n{header}");
    assert!(header.contains("Filesystem state:         clean"), "it is not clean:\n{header}");
    let check = Command::new("e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "e2fsck found something:\n{text}");
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended already, if all went well.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
        if std::thread::panicking() {
            eprintln!("---- console ----\n{}", self.console());
            eprintln!("---- report ----\n{}", self.report());
        }
    }
}

fn listen(mut output: impl BufRead, said: &Said) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = output.read_until(b'\n', &mut line).unwrap_or(0);
        let mut text = said.lock();
        text.0.push_str(&String::from_utf8_lossy(&line).replace('\r', ""));
        text.1 = count == 0;
        said.more.notify_all();
        if count == 0 {
            return;
        }
    }
}

/// berth and berthctl without their debugging symbols, of which a machine has no use: they
/// are three quarters of what would be copied to each disk.
fn binaries() -> PathBuf {
    static ONCE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let make = || {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-bin");
        fs::create_dir_all(&directory).unwrap();
        for program in [env!("CARGO_BIN_EXE_berth"), env!("CARGO_BIN_EXE_berthctl")] {
            let name = Path::new(program).file_name().unwrap();
            let beside = directory.join(name).with_extension("new");
            let status = Command::new("strip").arg("-o").arg(&beside).arg(program).status();
            assert!(status.unwrap().success(), "cannot strip {program}");
            fs::rename(beside, directory.join(name)).unwrap();
        }
        directory
    };
    ONCE.get_or_init(make).clone()
}

/// A file of the image that a machine with this kernel is made of, by its path in this checkout.
pub fn image(kernel: &str, file: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut make = Command::new(format!("{root}/scripts/vm-image"));
    let output = make.arg(kernel).current_dir(root).output().unwrap();
    assert!(output.status.success(), "scripts/vm-image: {output:?}");
    format!("{}/{file}", String::from_utf8(output.stdout).unwrap().trim())
}

/// A disk of 32 MiB with what `mkfs` puts on it.
pub fn make_disk(directory: &Path, name: &str, mkfs: &[&str]) -> PathBuf {
    let path = directory.join(name);
    fs::File::create(&path).unwrap().set_len(32 << 20).unwrap();
    let status = Command::new(mkfs[0]).args(&mkfs[1..]).arg(&path).output().unwrap();
    assert!(status.status.success(), "{mkfs:?}: {}", String::from_utf8_lossy(&status.stderr));
    path
}
