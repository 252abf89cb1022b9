//! How a machine comes up: first the target `boot`, then what is to run; and if the boot
//! fails or there is nothing to boot, the target `rescue`.
//!
//! `boot` holds what everything else takes for granted (filesystems, the host's name …), so
//! that no service has to name it. A set of units without a target `boot` is fine: somebody
//! has decided that nothing of it is needed.

use serde::{Deserialize, Serialize};

use super::first::RESCUE;
use super::reader::Purpose;
use super::{Daemon, First, Phase, Sources};
use crate::pid1::{End, Place};
use crate::supervisor::JobId;
use crate::supervisor::request::{Request, Wish};

/// The target that comes first.
const BOOT: &str = "boot";

/// The job that a stage waits for; clients' jobs count up from 0.
const JOB: JobId = JobId(u64::MAX);

/// Where a machine is on its way up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Not on its way, or there.
    #[default]
    Settled,
    /// The target `boot` is awaited.
    Boot,
    /// What is to run is awaited.
    Target,
    /// The rescue shell.
    Rescue,
}

impl Daemon {
    /// The units are there: what is started first.
    pub(super) fn first_stage(&mut self) {
        let target = self.options.target.clone();
        let is_machine = self.options.place == Place::Machine;
        if is_machine && target == RESCUE {
            self.enter(Stage::Rescue, RESCUE);
        } else if is_machine && self.machine.find(BOOT).is_some() {
            self.enter(Stage::Boot, BOOT);
        } else {
            self.enter(Stage::Target, &target);
        }
    }

    fn enter(&mut self, stage: Stage, target: &str) {
        let Some(id) = self.machine.find(target) else { return };
        self.stage = stage;
        self.wish(Request { job: Some(JOB), wish: Wish::Start(id) });
    }

    /// Whether an ended job was a stage's; what comes next.
    pub(super) fn stage_ended(&mut self, job: JobId, result: &Result<(), String>) -> bool {
        if job != JOB {
            return false;
        }
        let target = self.options.target.clone();
        match (std::mem::replace(&mut self.stage, Stage::Settled), result) {
            _ if self.phase != Phase::Up => {}
            (Stage::Boot, Ok(())) => self.enter(Stage::Target, &target),
            (Stage::Boot, Err(why)) => self.rescue(&format!("the boot failed: {why}")),
            (Stage::Target, Ok(())) if self.options.place == Place::Machine => {
                let time = self.clock.now().0;
                let text = format!("{target} is up after {:.2} s", time.as_secs_f64());
                self.journal.say(&text);
            }
            (Stage::Target, Err(why)) if self.options.place == Place::Machine => {
                self.journal.say(&format!("not all of {target} is up: {why}"));
            }
            (Stage::Rescue, Err(why)) => {
                // Not even that: without the supervisor there may still be a shell.
                self.options.last_words = Some(format!("the rescue shell failed: {why}"));
                self.begin_end("the machine cannot be used", End::Reboot);
            }
            (Stage::Target | Stage::Rescue | Stage::Settled, _) => {}
        }
        true
    }

    /// Starts the rescue target: that of the units, or the one this program carries.
    pub(super) fn rescue(&mut self, why: &str) {
        self.journal.say(&format!("{why}: going to the rescue shell"));
        if self.machine.find(RESCUE).is_some() {
            return self.enter(Stage::Rescue, RESCUE);
        }
        RESCUE.clone_into(&mut self.options.target);
        self.options.sources = Sources::from(First::Rescue);
        self.phase = Phase::Booting;
        let sources = self.options.sources.clone();
        if let Err(text) = self.start_reader(sources, Purpose::Boot) {
            self.options.last_words = Some(text);
            self.begin_end("the rescue shell cannot be read", End::Reboot);
        }
    }
}
