//! The tiny init: process 1 of a unit's pid namespace.
//!
//! A program of its own, built by `build.rs` without the standard library and executed
//! from a file that nobody can change. It reaps and does nothing else: with SIGCHLD ignored
//! the kernel itself takes away every child that ends, also those that are handed to process
//! 1 as orphans, so there is no loop and nothing that could fail. Whoever executes it has
//! ignored that signal already (`signal::leave_children`): what became an orphan before this
//! program came to its first instruction would stay for ever. As process 1 of its
//! namespace the kernel keeps all signals from it but SIGKILL from outside, which ends
//! the whole namespace. It holds no descriptor, no environment and no memory but its own
//! few pages.
#![no_std]
#![no_main]

use core::arch::asm;

const PR_SET_NAME: usize = 15;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const PRCTL: usize = 157;
    pub const PPOLL: usize = 271;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const PRCTL: usize = 167;
    pub const PPOLL: usize = 73;
}

#[cfg(target_arch = "x86_64")]
fn system_call(number: usize, a: usize, b: usize, c: usize, d: usize) {
    // SAFETY: only called below, with pointers that are null or live through the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => _,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
fn system_call(number: usize, a: usize, b: usize, c: usize, d: usize) {
    // SAFETY: only called below, with pointers that are null or live through the call.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => _,
            in("x1") b, in("x2") c, in("x3") d, in("x4") 0,
            options(nostack),
        );
    }
}

/// Where the kernel begins.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let name = *b"berth-init\0";
    system_call(number::PRCTL, PR_SET_NAME, (&raw const name) as usize, 0, 0);
    loop {
        // Nothing to poll and no timeout: sleeps for ever.
        system_call(number::PPOLL, 0, 0, 0, 0);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        system_call(number::PPOLL, 0, 0, 0, 0);
    }
}
