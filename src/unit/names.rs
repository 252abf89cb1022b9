//! Names: what a unit may be called, which signal is meant, and which known word a
//! misspelt one is near to.

use super::limits;

/// What is wrong with a unit's name, if anything. This is what keeps `../` out of every
/// path that is made from a name.
pub fn problem(name: &str) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '-');
    if name.is_empty() {
        Some("a name cannot be empty")
    } else if name.len() > limits::NAME {
        Some("a name has at most 64 bytes")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("a name begins with a letter or a digit")
    } else if !name.chars().all(good) {
        Some("a name consists of letters, digits and `_ . @ -`")
    } else {
        None
    }
}

/// The host name of a unit that asks for none: its own name, where signs that no host name has
/// (an instance's `@`) are dashes. The kernel takes 64 bytes, and a name has no more.
pub fn host_name(unit: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    unit.chars().map(legal).collect()
}

/// Whether this is the name of a template.
pub fn is_template(name: &str) -> bool {
    name.ends_with('@') && name.find('@') == name.len().checked_sub(1)
}

/// Template and instance of `worker@1`.
pub fn split_instance(name: &str) -> Option<(&str, &str)> {
    let at = name.find('@')?.checked_add(1)?;
    let (template, instance) = name.split_at_checked(at)?;
    (!instance.is_empty()).then_some((template, instance))
}

/// The name under which the supervisor's own messages are logged; no unit may have it.
pub const OWN: &str = "berth";

/// The known word that is most likely meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing this long is a misspelling, and distance costs time.
    if word.len() > limits::NAME {
        return None;
    }
    let lower = word.to_lowercase().replace('_', "-");
    let limit = lower.len().checked_div(3).unwrap_or(0).clamp(1, 3);
    let known: Vec<&str> = known.into_iter().collect();
    let misspelt = known
        .iter()
        .copied()
        .filter(|known| known.len().abs_diff(lower.len()) <= limit)
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known);
    // An abbreviation is far away in letters and still clear.
    let is_start = |known: &&str| lower.len() >= 3 && known.to_lowercase().starts_with(&lower);
    misspelt.or_else(|| known.iter().copied().find(is_start))
}

/// Linux signals, in order of their numbers, from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// First real-time signal that programs may use; 32 and 33 belong to the C library.
const RTMIN: i32 = 34;
/// Last real-time signal.
const RTMAX: i32 = 64;

/// Whether this number is a signal a service can be sent.
pub fn is_signal(number: i32) -> bool {
    (1..=31).contains(&number) || (RTMIN..=RTMAX).contains(&number)
}

/// The name of a signal, as [`signal`] reads it: `TERM`, `RTMIN+3`.
pub fn signal_name(number: i32) -> String {
    let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| SIGNALS.get(index)) {
        Some(name) => (*name).to_owned(),
        None => format!("RTMIN+{}", number.saturating_sub(RTMIN)),
    }
}

/// Number of a signal given as `TERM`, `SIGTERM`, `RTMIN+3`, `RTMAX-1` or `15`.
pub fn signal(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, rest: &str, sign: char| -> Option<i32> {
        if rest.is_empty() {
            return Some(base);
        }
        let offset: i32 = rest.strip_prefix(sign)?.parse::<u8>().ok()?.into();
        let number = if sign == '+' { base.checked_add(offset) } else { base.checked_sub(offset) };
        number.filter(|number| (RTMIN..=RTMAX).contains(number))
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, rest, '+');
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, rest, '-');
    }
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|number| is_signal(*number));
    }
    let index = match name {
        "IOT" => 5,
        "POLL" => 28,
        _ => SIGNALS.iter().position(|known| *known == name)?,
    };
    i32::try_from(index.checked_add(1)?).ok()
}

/// The signal's name that is most likely meant.
pub fn nearest_signal(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    nearest(upper.strip_prefix("SIG").unwrap_or(&upper), SIGNALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in ["", "..", ".", "../x", "a/b", "-a", "_a", "@", "a b", "ä", "a\n"] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        for good in ["a", "web.1", "worker@1", "A_b-c", "0", &"x".repeat(64)] {
            assert_eq!(problem(good), None, "{good:?}");
        }
        assert!(problem(&"x".repeat(65)).is_some());
    }

    #[test]
    fn templates_and_instances() {
        assert!(
            is_template("w@") && !is_template("w@1") && !is_template("w") && !is_template("w@@")
        );
        assert_eq!(split_instance("w@1"), Some(("w@", "1")));
        assert_eq!(split_instance("w@1@2"), Some(("w@", "1@2")));
        assert_eq!(split_instance("w@"), None);
        assert_eq!(split_instance("w"), None);
    }

    #[test]
    fn signals_by_all_their_names() {
        assert_eq!(signal("TERM"), Some(15));
        assert_eq!(signal("sigterm"), Some(15));
        assert_eq!(signal("SIGSYS"), Some(31));
        assert_eq!(signal("RTMIN"), Some(34));
        assert_eq!(signal("SIGRTMIN+3"), Some(37));
        assert_eq!(signal("RTMAX-1"), Some(63));
        assert_eq!(signal("15"), Some(15));
        assert_eq!(signal("POLL"), signal("IO"));
        assert_eq!(signal("IOT"), signal("ABRT"));
        for bad in ["", "SIG", "0", "32", "65", "-1", "RTMIN+31", "RTMIN-1", "RTMIN+", "TERMS"] {
            assert_eq!(signal(bad), None, "{bad}");
        }
        assert_eq!(nearest_signal("SIGTREM"), Some("TERM"));
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["restart", "restart-delay", "ready", "requires"];
        assert_eq!(nearest("restrat", known), Some("restart"));
        assert_eq!(nearest("restart_delay", known), Some("restart-delay"));
        assert_eq!(nearest("Requires", known), Some("requires"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("redy", known), Some("ready"));
        assert_eq!(nearest("req", known), Some("requires"));
    }
}
