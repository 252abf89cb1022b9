//! Labels of security modules. What a kernel that has them does with them is tested where
//! there is one; that nobody runs without what they asked for, everywhere.

use berth::unit::model::{At, Namespaces};

use super::rig::{Rig, Test};

pub const TESTS: &[Test] = &[
    ("a_profile_that_cannot_be_given_ends_the_start", profile_that_cannot_be_given),
    ("a_context_that_cannot_be_given_ends_the_start", context_that_cannot_be_given),
    ("unconfined_is_always_possible", unconfined_is_always_possible),
];

fn at(text: &str) -> Option<At<String>> {
    Some(At { value: text.to_owned(), line: 9 })
}

fn profile_that_cannot_be_given() {
    let rig = Rig::new();
    let on = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'));
    let expected = if on {
        "ask for the AppArmor profile berth-none: No such file or directory (ENOENT): no such \
         profile is loaded: load it with apparmor_parser at web.toml:9"
    } else {
        "prepare the AppArmor profile berth-none: this kernel has no AppArmor, or it is switched \
         off at web.toml:9"
    };
    for namespaces in [Namespaces::ALL, Namespaces::NONE] {
        let text = rig.failure(|s| {
            s.security.apparmor = at("berth-none");
            s.namespaces.value = namespaces;
        });
        assert_eq!(text, expected);
    }
}

fn context_that_cannot_be_given() {
    let rig = Rig::new();
    let known = std::fs::read_to_string("/proc/filesystems").unwrap();
    let text = rig.failure(|s| s.security.selinux = at("berth_none_t"));
    if known.contains("\tselinuxfs\n") {
        assert!(text.starts_with("ask for the SELinux label berth_none_t: "), "{text}");
    } else {
        let expected = "prepare the SELinux label berth_none_t: this kernel has no SELinux, or it \
                        is switched off at web.toml:9";
        assert_eq!(text, expected);
    }
}

fn unconfined_is_always_possible() {
    let rig = Rig::new();
    let said = rig.shell("echo here", |s| s.security.apparmor = at("unconfined")).good();
    assert_eq!(said, "here\n");
}
