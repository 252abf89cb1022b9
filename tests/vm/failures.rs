//! A boot in which everything fails: fifty services, each in a way drawn from a seed, in a
//! graph drawn from the same. The machine comes up, answers, names each failure, and ends
//! with a clean disk. `VM_SEED=N` replays one.

use std::fmt::Write as _;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::rig::{KERNELS, Setup};

const SERVICES: u64 = 50;

/// How a service fails, as lines of its table.
const WAYS: [&str; 12] = [
    // At once, and later.
    "command = \"false\"",
    "command = [\"sh\", \"-c\", \"sleep 1; exit 3\"]",
    "command = [\"sh\", \"-c\", \"kill -SEGV $$\"]",
    // Never gets as far.
    "command = \"/nonexistent\"",
    "command = \"true\"\nrootfs = \"/nonexistent\"",
    "command = \"sleep 1000\"\nuser = \"nobody-has-this-name\"",
    "command = \"sleep 1000\"\nstart-pre = [[\"false\"]]",
    "command = \"sleep 1000\"\nready = \"tcp:9\"\nstart-timeout = \"1s\"",
    // Does what a service does not do.
    "command = [\"sh\", \"-c\", \"sleep 1000 & exit 0\"]",
    "command = \"true\"\nready = \"notify\"",
    // Takes what there is, and does not listen.
    "command = [\"sh\", \"-c\", \"head -c 200M /dev/zero | tail -c 150M >/dev/null\"]\nlimits = { memory = \"8M\", swap = \"0\" }\n\
     start-timeout = \"20s\"\nready = \"path:/nonexistent\"",
    "command = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 1 & done\"]\nlimits = { pids = 8 }\n\
     start-timeout = \"1s\"\nstop-timeout = \"500ms\"\nready = \"path:/nonexistent\"",
];

/// Numbers that follow from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Fifty services; an edge only leads to one of a lower number, so there is no cycle.
fn units(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut text = String::new();
    for number in 0..SERVICES {
        let way = WAYS[usize::try_from(dice.below(WAYS.len() as u64)).unwrap()];
        let restart = ["no", "on-failure"][usize::try_from(dice.below(2)).unwrap()];
        writeln!(text, "[service.f{number}]\n{way}\nrestart = \"{restart}\"").unwrap();
        writeln!(text, "restart-limit = {{ count = {}, window = \"1min\" }}", 1 + dice.below(3))
            .unwrap();
        for relation in ["wants", "after"] {
            if number > 0 && dice.below(2) == 0 {
                writeln!(text, "{relation} = [\"f{}\"]", dice.below(number)).unwrap();
            }
        }
    }
    text
}

/// Waits until none of them is on its way any more, and says how each is.
const WITNESS: &str = r#"
[service.witness]
isolation = "none"
command   = ["sh", "-c", '''
    tries=0
    while [ $tries -lt 300 ] && berthctl status --json | tr -d ' \n' | tr '{' '\n' |
        grep '"name":"f[0-9]' | grep -qE '"state":"(waiting|preparing|starting|running|stopping|backoff)"'; do
        tries=$((tries + 1)); sleep 0.5
    done
    berthctl status --json | tr -d ' \n' | tr '{' '\n' | sed -n 's/.*"name":"\(f[0-9]*\)".*"state":"\([a-z]*\)".*/\1 \2/p' >/dev/ttyS1
    echo done >/dev/ttyS1
    berthctl start --no-wait poweroff
''']
"#;

#[test]
fn fifty_services_that_fail_do_not_take_the_machine_along() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = std::env::var("VM_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(now);
    println!("VM_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let text = units(seed) + WITNESS;
    fs::write(directory.path().join("failing.toml"), &text).unwrap();
    let mut machine = Setup::new(KERNELS[usize::try_from(seed % 2).unwrap()])
        .units(directory.path())
        .append("quiet")
        .boot();
    let status = machine.await_end();
    let (console, report) = (machine.console(), machine.report());
    println!("{text}");
    assert!(status.success() && console.contains("reboot: Power down"), "{status}\n{console}");
    let ends: Vec<&str> = report.lines().filter(|line| line.starts_with('f')).collect();
    assert_eq!(ends.len() as u64, SERVICES, "{report}");
    let moving: Vec<_> = ends
        .iter()
        .filter(|line| !line.ends_with(" failed") && !line.ends_with(" inactive"))
        .collect();
    assert!(moving.is_empty(), "neither failed nor ended: {moving:?}\n{console}");
    let failed = ends.iter().filter(|line| line.ends_with(" failed")).count();
    assert!(failed >= 40, "only {failed} have failed:\n{report}");
    assert!(!console.contains("Kernel panic"), "{console}");
    machine.assert_clean();
}
