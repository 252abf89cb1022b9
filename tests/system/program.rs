//! The program file of the supervisor, which a unit may be led to by those who execute
//! something in it (CVE-2019-5736), and which it cannot write.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::process::Command;
use std::time::SystemTime;

use crate::rig::Rig;

/// Every capability, so that what holds is the mount and nothing else.
const UNITS: &str = "
    [service.evil]
    command = 'sleep 1000'
    mounts = [{ type = 'tmpfs', target = '/var/lib/berth' }]
    security = { capabilities-add = ['ALL'], no-new-privileges = false }
";

/// Tries to change the file that a process executes; in a way that does no harm.
fn try_to_change(exe: &str) -> Result<(), ErrorKind> {
    let file = File::open(exe).unwrap();
    file.set_modified(SystemTime::now()).map_err(|error| error.kind())
}

#[test]
fn the_program_file_is_out_of_reach() {
    let mut rig = Rig::up(UNITS);
    rig.wait_state("evil", "running");
    let exe = format!("/proc/{}/exe", rig.berth_pid());
    for _ in 0..2 {
        assert_eq!(try_to_change(&exe), Err(ErrorKind::ReadOnlyFilesystem));
        // It still knows where it is, and is called what it is called.
        let path = fs::read_link(&exe).unwrap();
        assert!(path.is_absolute() && path.ends_with("berth"), "{}", path.display());
        let name = fs::read_to_string(format!("/proc/{}/comm", rig.berth_pid())).unwrap();
        assert_eq!(name, "berth\n");
        // So does the one that takes over.
        rig.ctl_ok(&["upgrade"]);
    }
    // The control: a program that was executed in the ordinary way.
    let copy = rig.path("copy");
    fs::copy("/bin/sleep", &copy).unwrap();
    let mut child = Command::new(&copy).arg("1000").spawn().unwrap();
    assert_eq!(try_to_change(&format!("/proc/{}/exe", child.id())), Ok(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rig.finish(), 0);
}

/// A script whose interpreter is whoever executes it. It is a unit file as well, so that the
/// berth which runs inside then stays there to be found.
#[test]
fn who_executes_something_in_a_unit_hands_nothing_over() {
    let mut rig = Rig::up(UNITS);
    rig.wait_state("evil", "running");
    let inode = fs::metadata(format!("/proc/{}/exe", rig.berth_pid())).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&inode);
    let make = "mkdir -p /run/x; { echo '#!/proc/self/exe up'; echo '[service.x]'; \
                echo \"command = 'sleep 1000'\"; echo \"isolation = 'none'\"; } > /run/x/evil.toml; \
                chmod 755 /run/x/evil.toml";
    rig.ctl_ok(&["exec", "evil", "--", "sh", "-c", make]);
    let mut led = rig
        .ctl_command(&["exec", "evil", "--", "/run/x/evil.toml"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let find = format!(
        "for p in /proc/[0-9]*; do [ \"$(stat -L -c %i $p/exe 2>/dev/null)\" = {inode} ] && \
         {{ echo found; touch -c $p/exe 2>&1; chmod 755 $p/exe 2>&1; exit 0; }}; done; true"
    );
    let said = std::cell::RefCell::new(String::new());
    rig.wait_for("berth inside", |rig| {
        let found = rig.ctl_ok(&["exec", "evil", "--", "sh", "-c", &find]);
        found.starts_with("found") && {
            said.replace(found);
            true
        }
    });
    let said = said.into_inner();
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    led.kill().unwrap();
    led.wait().unwrap();
    assert_eq!(rig.finish(), 0);
}
