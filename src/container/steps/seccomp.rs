//! The last step of a process: the filter of its system calls.
//!
//! Two halves, because nothing but execve(2) is to be called under the filter: it is made
//! first, and installed when all else is done.

use super::State;
use crate::container::plan::Plan;
use crate::container::status::Failure;
use crate::seccomp::{self, Facts, Kernel, Profile};
use crate::sys::identity;
use crate::sys::seccomp::{self as kernel, Instruction};
use crate::unit::model::Filter;

/// A filter, ready to be installed.
pub struct Gate {
    program: Vec<Instruction>,
    flags: u32,
}

impl Gate {
    /// The one of the tiny init, if its unit has any.
    ///
    /// # Errors
    /// The program is too long.
    pub fn of_init(plan: &Plan) -> Result<Option<Self>, Failure> {
        let facts = Facts { capabilities: 0, kernel: Kernel(0, 0) };
        plan.filter.as_ref().map(|_| Self::new(&seccomp::init(), &facts)).transpose()
    }

    fn new(profile: &Profile, facts: &Facts) -> Result<Self, Failure> {
        let program = seccomp::compile(profile, facts).map_err(|_| {
            Failure::text("its program is longer than the 4096 instructions the kernel takes")
        })?;
        let program =
            program.iter().map(|it| Instruction { code: it.code, jt: it.jt, jf: it.jf, k: it.k });
        Ok(Self { program: program.collect(), flags: profile.flags })
    }

    /// From here on only what the profile allows.
    ///
    /// # Errors
    /// What the kernel answered, and a hint where there is one.
    pub fn install(&self) -> Result<(), Failure> {
        kernel::install(&self.program, self.flags).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EACCES) => {
                    "with no-new-privileges = false it takes SYS_ADMIN, which this supervisor \
                     does not have"
                }
                Some(libc::ENOSYS | libc::EINVAL) => {
                    "this kernel does not filter system calls, or not with these flags: write \
                     seccomp = \"unconfined\" to do without"
                }
                _ => "",
            };
            Failure::with(&error, hint)
        })
    }

    /// The same for the init, which needs no privileges.
    ///
    /// # Errors
    /// As [`Gate::install`].
    pub fn install_for_good(&self) -> Result<(), Failure> {
        identity::no_new_privileges()?;
        self.install()
    }
}

impl State<'_> {
    /// The filter of the unit's processes, if there is one.
    ///
    /// # Errors
    /// The program is too long, or what the unit asks for cannot be given.
    pub fn gate(&self) -> Result<Option<Gate>, Failure> {
        let Some(at) = &self.plan.filter else { return Ok(None) };
        let capabilities = match self.plan.grant {
            Some(grant) => self.given(grant)?.root.0,
            None => self.held.bounding,
        };
        let release = kernel::kernel_release();
        let kernel = Kernel::parse(&release)
            .ok_or_else(|| Failure::text(format!("the kernel's version is \"{release}\"")))?;
        let facts = Facts { capabilities, kernel };
        match &at.value {
            Filter::Default => Gate::new(&seccomp::default(), &facts),
            Filter::Profile { profile, .. } => Gate::new(profile, &facts),
        }
        .map(Some)
    }
}
