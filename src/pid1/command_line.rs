//! The kernel's command line, as far as it is meant for process 1
//! (kernel-parameters.txt: what the kernel does not know is left to init).

/// Longest that is read; the kernel's own limit is 2 KiB or 4 KiB.
const LONGEST: usize = 16 * 1024;

/// What `/proc/cmdline` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `berth.target=NAME`; `single`, `rescue`, `emergency`, `s`, `S` and `1` mean `rescue`.
    pub target: Option<String>,
    /// `berth.debug`: the output of every service is shown on the console.
    pub debug: bool,
    /// `quiet`: only trouble is shown there.
    pub quiet: bool,
    /// `fsck.mode=`.
    pub fsck: Fsck,
    /// `hostname=NAME`, before `/etc/hostname`.
    pub hostname: Option<String>,
    /// `modules-load=A,B`.
    pub modules: Vec<String>,
}

/// When filesystems are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fsck {
    /// As `/etc/fstab` says.
    #[default]
    Auto,
    /// Also those that say they are clean.
    Force,
    /// Never.
    Skip,
}

impl CommandLine {
    /// Reads `/proc/cmdline`; without one nothing is asked for.
    pub fn read() -> Self {
        let text = std::fs::read("/proc/cmdline").unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(&text)))
    }

    /// The pure part of [`Self::read`]. A later word overrides an earlier one.
    pub fn parse(text: &str) -> Self {
        let mut asked = Self::default();
        for word in words(text) {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            // The kernel takes both for the same in its own words.
            match key.replace('_', "-").as_str() {
                "berth.target" => asked.target = Some(value.to_owned()),
                "single" | "rescue" | "emergency" | "s" | "S" | "1" if value.is_empty() => {
                    asked.target = Some("rescue".to_owned());
                }
                "berth.debug" => asked.debug = is_on(value),
                "quiet" => asked.quiet = is_on(value),
                "fsck.mode" => {
                    asked.fsck = match value {
                        "force" => Fsck::Force,
                        "skip" => Fsck::Skip,
                        _ => Fsck::Auto,
                    }
                }
                "hostname" => asked.hostname = Some(value.to_owned()),
                "modules-load" => {
                    asked.modules.extend(value.split(',').map(str::to_owned));
                }
                // What follows is for process 1 as arguments, which it has.
                "--" => break,
                _ => {}
            }
        }
        asked
    }
}

fn is_on(value: &str) -> bool {
    !matches!(value, "0" | "no" | "off" | "false")
}

/// Words; blanks within double quotes belong to one, the quotes do not.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            other => word.push(other),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_us_is_taken_and_the_rest_left() {
        let asked = CommandLine::parse(
            "BOOT_IMAGE=/vmlinuz root=/dev/vda ro quiet berth.target=web fsck.mode=force \
             modules_load=loop,dummy hostname=\"a b\" berth.debug=0\n",
        );
        let expected = CommandLine {
            target: Some("web".to_owned()),
            debug: false,
            quiet: true,
            fsck: Fsck::Force,
            hostname: Some("a b".to_owned()),
            modules: vec!["loop".to_owned(), "dummy".to_owned()],
        };
        assert_eq!(asked, expected);
    }

    #[test]
    fn the_words_of_other_inits_for_a_rescue_do() {
        for word in ["single", "rescue", "emergency", "s", "S", "1"] {
            let asked = CommandLine::parse(&format!("ro {word}"));
            assert_eq!(asked.target.as_deref(), Some("rescue"), "{word}");
        }
        assert_eq!(CommandLine::parse("ro rescue=no -- single").target, None);
    }
}
