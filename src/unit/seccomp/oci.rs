//! Profiles in the form of the OCI's runtime specification (`linux.seccomp`), with what
//! Docker and Podman add to it: `archMap`, `includes` and `excludes`, names of errnos beside
//! their numbers.
//!
//! Stricter than the specification in one thing: an unknown key is a mistake. `arg` for
//! `args` would otherwise make a call free that was meant to be limited.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny};

use crate::seccomp::{Action, Comparison, Condition, Kernel, Profile, Rule, When, calls};
use crate::unit::limits;
use crate::unit::model::CapabilitySet;
use crate::unit::text::quote;

/// The largest errno that the kernel passes on.
const LARGEST_ERRNO: u16 = 4095;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "a profile, an object")]
struct File {
    default_action: Kind,
    default_errno_ret: Option<Errno>,
    default_errno: Option<ErrnoName>,
    architectures: Option<Vec<Architecture>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<Flag>>,
    listener_path: Option<String>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<IgnoredAny>,
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an object")]
struct ArchMap {
    #[serde(rename = "architecture")]
    _architecture: Architecture,
    #[serde(rename = "subArchitectures")]
    _sub_architectures: Option<Vec<Architecture>>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an entry of `syscalls`, an object"
)]
struct Syscall {
    /// Of old profiles.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Kind,
    errno_ret: Option<Errno>,
    errno: Option<ErrnoName>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an entry of `args`, an object")]
struct Arg {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Op,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "conditions, an object")]
struct Conditions {
    caps: Option<Vec<Capability>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<MinKernel>,
}

/// An action without its number.
#[derive(Clone, Copy)]
enum Kind {
    Plain(Action),
    Errno,
    Trace,
}

/// Reads a word by `meaning`; what it says is wrong is said at the word's place.
fn word<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    meaning: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    meaning(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

macro_rules! words {
    ($($type:ident by $meaning:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word(deserializer, $meaning)
            }
        }
    )*};
}

struct Architecture;
struct Flag(u32);
struct Op(Comparison, bool);
struct Capability(u64);
struct MinKernel(Kernel);
struct ErrnoName;

words! {
    Kind by action;
    Architecture by |text| match text.strip_prefix("SCMP_ARCH_") {
        Some(_) => Ok(Architecture),
        None => Err(format!("{} is not an architecture such as \"SCMP_ARCH_X86_64\"", quote(text))),
    };
    Flag by flag;
    Op by comparison;
    Capability by |text| match CapabilitySet::named(text) {
        Some(set) => Ok(Capability(set.0)),
        None => Err(format!("{} is not a capability", quote(text))),
    };
    MinKernel by |text| match Kernel::parse(text) {
        Some(kernel) => Ok(MinKernel(kernel)),
        None => Err(format!("{} is not a version of the kernel such as \"4.8\"", quote(text))),
    };
    // The number beside it says the same.
    ErrnoName by |_| Ok(ErrnoName);
}

struct Errno(u16);

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer)? {
            number @ 0..=LARGEST_ERRNO => Ok(Self(number)),
            number => Err(D::Error::custom(format!("{number} is not an errno: 0 to 4095"))),
        }
    }
}

fn action(text: &str) -> Result<Kind, String> {
    Ok(match text {
        "SCMP_ACT_ALLOW" => Kind::Plain(Action::Allow),
        "SCMP_ACT_LOG" => Kind::Plain(Action::Log),
        "SCMP_ACT_ERRNO" => Kind::Errno,
        "SCMP_ACT_TRACE" => Kind::Trace,
        "SCMP_ACT_TRAP" => Kind::Plain(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Kind::Plain(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Kind::Plain(Action::KillProcess),
        "SCMP_ACT_NOTIFY" => {
            return Err("\"SCMP_ACT_NOTIFY\" needs a program that is asked, which berth does not \
                        have: use \"SCMP_ACT_ERRNO\""
                .to_owned());
        }
        _ => {
            return Err(format!(
                "{} is not an action: SCMP_ACT_ and ALLOW, LOG, ERRNO, TRACE, TRAP, KILL_THREAD \
                 or KILL_PROCESS",
                quote(text)
            ));
        }
    })
}

fn flag(text: &str) -> Result<Flag, String> {
    Ok(Flag(match text {
        // Of threads there is only one when the filter begins.
        "SECCOMP_FILTER_FLAG_TSYNC" => 0,
        "SECCOMP_FILTER_FLAG_LOG" => Profile::LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Profile::SPECULATE,
        _ => return Err(format!("{} is not a flag that berth has", quote(text))),
    }))
}

/// And whether the value is a mask.
fn comparison(text: &str) -> Result<Op, String> {
    let (comparison, masked) = match text {
        "SCMP_CMP_EQ" => (Comparison::Equal, false),
        "SCMP_CMP_NE" => (Comparison::NotEqual, false),
        "SCMP_CMP_LT" => (Comparison::Less, false),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, false),
        "SCMP_CMP_GT" => (Comparison::Greater, false),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, false),
        "SCMP_CMP_MASKED_EQ" => (Comparison::Equal, true),
        _ => {
            return Err(format!(
                "{} is not a comparison: SCMP_CMP_ and EQ, NE, LT, LE, GT, GE or MASKED_EQ",
                quote(text)
            ));
        }
    };
    Ok(Op(comparison, masked))
}

/// Reads a profile.
///
/// # Errors
/// What is wrong with it, and where if that has a place.
pub fn parse(text: &[u8]) -> Result<Profile, String> {
    let file: File = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let whole = error.to_string();
        let place = format!(" at line {line} column {column}");
        format!("line {line}, column {column}: {}", whole.strip_suffix(&place).unwrap_or(&whole))
    })?;
    if file.architectures.is_some() && file.arch_map.is_some() {
        return Err("`architectures` and `archMap` exclude each other".to_owned());
    }
    if file.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err("`listenerPath` is for \"SCMP_ACT_NOTIFY\", which berth does not have".into());
    }
    let otherwise =
        complete(file.default_action, file.default_errno_ret, file.default_errno.is_some())
            .map_err(|text| format!("`defaultAction`: {text}"))?;
    let mut profile = Profile { rules: Vec::new(), otherwise, newer: None, flags: 0 };
    profile.flags = file.flags.iter().flatten().fold(0, |all, Flag(bit)| all | bit);
    let mut highest = None;
    let mut left = limits::PROFILE_NAMES;
    for (index, syscall) in (1_usize..).zip(file.syscalls.unwrap_or_default()) {
        let at = |text: String| format!("entry {index} of `syscalls`: {text}");
        let names = syscall.names.iter().flatten().chain(&syscall.name).count();
        left = left.checked_sub(names).ok_or_else(|| {
            at(format!("there are more than {} names in all", limits::PROFILE_NAMES))
        })?;
        rules(syscall, &mut profile, &mut highest).map_err(at)?;
    }
    // A call that is younger than the profile is not there, as far as the unit can tell.
    if !profile.otherwise.allows() {
        profile.newer = highest.map(|highest| (highest, Action::ABSENT));
    }
    Ok(profile)
}

fn complete(kind: Kind, number: Option<Errno>, named: bool) -> Result<Action, String> {
    const REFUSED: u16 = 1;
    match (kind, number) {
        (Kind::Errno | Kind::Trace, None) if named => {
            Err("an errno is taken by its number: write `errnoRet` beside its name".to_owned())
        }
        (Kind::Errno, number) => Ok(Action::Errno(number.map_or(REFUSED, |Errno(it)| it))),
        (Kind::Trace, number) => Ok(Action::Trace(number.map_or(REFUSED, |Errno(it)| it))),
        (Kind::Plain(_), Some(_)) => Err("this action has no errno".to_owned()),
        (Kind::Plain(action), None) => Ok(action),
    }
}

/// The rules that an entry stands for.
fn rules(entry: Syscall, profile: &mut Profile, highest: &mut Option<u16>) -> Result<(), String> {
    let names = match (entry.names, entry.name) {
        (Some(_), Some(_)) => return Err("`name` and `names` exclude each other".to_owned()),
        (names, name) => names.unwrap_or_else(|| name.into_iter().collect()),
    };
    if names.is_empty() {
        return Err("it names no system call".to_owned());
    }
    let action = complete(entry.action, entry.errno_ret, entry.errno.is_some())?;
    let numbers: Vec<u16> = names.iter().filter_map(|name| calls::number(name)).collect();
    *highest = numbers.iter().copied().chain(*highest).max();
    let includes = entry.includes.unwrap_or_default();
    let excludes = entry.excludes.unwrap_or_default();
    let ours = |arches: Vec<String>| arches.iter().any(|arch| arch == calls::NAME);
    let here = includes.arches.filter(|arches| !arches.is_empty()).is_none_or(ours);
    if !here || excludes.arches.is_some_and(ours) || numbers.is_empty() {
        return Ok(());
    }
    let bits = |caps: Option<Vec<Capability>>| {
        caps.into_iter().flatten().fold(0, |all, Capability(bit)| all | bit)
    };
    let when = When {
        with: bits(includes.caps),
        without: bits(excludes.caps),
        since: includes.min_kernel.map(|MinKernel(kernel)| kernel),
        before: excludes.min_kernel.map(|MinKernel(kernel)| kernel),
    };
    let conditions =
        entry.args.unwrap_or_default().iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let rule = |conditions| Rule { calls: numbers.clone(), conditions, action, when: when.clone() };
    let twice = conditions.iter().enumerate().any(|(place, one)| {
        conditions.iter().skip(place.saturating_add(1)).any(|other| one.argument == other.argument)
    });
    // As every runtime reads it: two conditions on one argument are two rules.
    if twice {
        profile.rules.extend(conditions.into_iter().map(|condition| rule(vec![condition])));
    } else {
        profile.rules.push(rule(conditions));
    }
    if profile.rules.len() > limits::PROFILE_RULES {
        return Err(format!("there are more than {} rules", limits::PROFILE_RULES));
    }
    Ok(())
}

fn condition(arg: &Arg) -> Result<Condition, String> {
    if arg.index > 5 {
        return Err(format!("a system call has no argument {}: 0 to 5", arg.index));
    }
    let Op(comparison, masked) = arg.op;
    let (mask, value) = if masked { (arg.value, arg.value_two) } else { (u64::MAX, arg.value) };
    Ok(Condition { argument: arg.index, mask, comparison, value })
}
