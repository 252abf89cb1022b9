//! The table of settings held against itself: its examples, its defaults, its words.

use std::collections::HashSet;

use berth::unit::model::Unit;
use berth::unit::settings::{self, Section, Setting, Status};
use berth::unit::{Loaded, Previous, Source, read};

/// What examples name besides another service: networks, a secret.
const DECLARED: &str = "[network.front]\nsubnet = \"10.88.7.0/24\"\nipv6 = \"fd88::/64\"\n[network.back]\n[secret.db-password]\n";

/// A file with one value of one setting, and nothing wrong besides.
fn file(section: Section, setting: &Setting, value: &str) -> String {
    let (key, with) = (setting.key, setting.with);
    let command =
        if key == "command" && section == Section::Service { "" } else { "command = \"x\"" };
    let service = format!("{DECLARED}[service.other]\ncommand = \"x\"\n[service.x]\n{command}\n");
    let comma = if with.is_empty() { "" } else { ", " };
    match section {
        Section::Service => format!("{service}{with}\n{key} = {value}\n"),
        Section::RestartLimit => format!("{service}restart-limit = {{ {key} = {value} }}\n"),
        Section::Membership => {
            format!("{service}networks = {{ front = {{ {with}{comma}{key} = {value} }} }}\n")
        }
        Section::Mount => format!("{service}mounts = [{{ {with}{comma}{key} = {value} }}]\n"),
        Section::SecretUse => format!("{service}secrets = [{{ {with}{comma}{key} = {value} }}]\n"),
        Section::Target => {
            format!("[service.other]\ncommand = \"x\"\n[target.x]\n{key} = {value}\n")
        }
        _ => {
            let title = section.title().replace("NAME", "x");
            let service = if title.starts_with("[service") { service } else { String::new() };
            format!("{service}{title}\n{with}\n{key} = {value}\n")
        }
    }
}

/// Whether the table is that of a unit, or a part of one.
fn is_unit(section: Section) -> bool {
    !matches!(section, Section::Volume | Section::Network | Section::Secret)
}

fn check(text: &str) -> Loaded {
    read(&[Source::Text("f".to_owned(), text.to_owned())], &Previous::default())
}

fn each(mut f: impl FnMut(Section, &Setting)) {
    for setting in settings::all() {
        for section in setting.sections {
            f(*section, setting);
        }
    }
}

#[test]
fn good_examples_are_accepted() {
    each(|section, setting| {
        assert!(!setting.good.is_empty(), "{} has no good example", setting.key);
        let section_works = section.info().unwrap().status == Status::Works;
        for value in setting.good {
            let text = file(section, setting, value);
            let loaded = check(&text);
            if section_works && setting.status == Status::Works {
                assert!(loaded.is_clean(), "{text}\n{}", loaded.report());
            } else {
                let found: Vec<&str> =
                    loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
                assert_eq!(found.len(), 1, "{text}\n{}", loaded.report());
                assert!(found[0].ends_with("is not supported yet"), "{}", loaded.report());
                assert!(loaded.diagnostics[0].help.is_some(), "it says what to do");
            }
        }
    });
}

#[test]
fn bad_examples_are_refused_where_they_stand() {
    each(|section, setting| {
        assert!(!setting.bad.is_empty(), "{} has no bad example", setting.key);
        for value in setting.bad {
            let text = file(section, setting, value);
            let loaded = check(&text);
            let mine = format!("{} = ", setting.key);
            let line = text.lines().enumerate().filter(|(_, line)| line.contains(&mine)).last();
            let line = line.unwrap().0 + 1;
            // Of a setting that does not work yet the value is looked at all the same.
            let works = setting.status == Status::Works;
            let here = loaded.diagnostics.iter().find(|d| {
                let unsupported = d.message.ends_with("is not supported yet");
                d.spot.line as usize == line && (works || !unsupported)
            });
            assert!(
                here.is_some(),
                "{value} of {} is not refused:\n{text}\n{}",
                setting.key,
                loaded.report()
            );
        }
    });
}

#[test]
fn defaults_are_what_the_table_says() {
    let unit = |text: &str| -> Unit {
        let loaded = check(text);
        assert!(loaded.is_clean(), "{text}\n{}", loaded.report());
        Unit::clone(loaded.set.units.iter().find(|unit| unit.name == "x").unwrap())
    };
    let mut compared = 0;
    each(|section, setting| {
        let section_works = section.info().unwrap().status == Status::Works;
        // The kernel's defaults are left to the kernel.
        let skipped =
            section == Section::Limits || !section_works || setting.default.contains("for");
        if skipped || setting.status != Status::Works || !is_unit(section) {
            return;
        }
        let typed = matches!(setting.default.chars().next(), Some('"' | '{' | '[' | '0'..='9'))
            || matches!(setting.default, "true" | "false");
        if !typed || setting.key == "health" {
            return;
        }
        let with_default = file(section, setting, setting.default);
        let without =
            with_default.lines().filter(|line| !line.starts_with(&format!("{} = ", setting.key)));
        let without: String = without.map(|line| format!("{line}\n")).collect();
        let without = without
            .replace(&format!(", {} = {}", setting.key, setting.default), "")
            .replace(&format!("front = {{ {} = {} }}", setting.key, setting.default), "front = {}")
            .replace(&format!("restart-limit = {{ {} = {} }}", setting.key, setting.default), "");
        assert_ne!(with_default, without, "{}", setting.key);
        assert_eq!(unit(&with_default), unit(&without), "default of {} is wrong", setting.key);
        compared += 1;
    });
    assert!(compared > 30, "only {compared} defaults were compared");
}

#[test]
fn every_setting_is_declared_once_and_explained() {
    let mut seen = HashSet::new();
    each(|section, setting| {
        assert!(seen.insert((section, setting.key)), "{} is declared twice", setting.key);
        if section.info().unwrap().status == Status::Works {
            let (key, help) = (setting.key, setting.help);
            assert!(
                help.ends_with('.') || help.ends_with(')'),
                "{key}: help is a sentence: {help}"
            );
            assert!(
                !help.is_empty() && !setting.kind.is_empty() && !setting.default.is_empty(),
                "{key}"
            );
        }
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(setting.key.chars().all(good), "{}", setting.key);
    });
}

#[test]
fn every_key_is_near_to_itself_with_a_letter_missing() {
    each(|section, setting| {
        if setting.key.len() < 5 || section.info().unwrap().status != Status::Works {
            return;
        }
        let mut wrong = setting.key.to_owned();
        wrong.remove(2);
        let wrong = Setting { key: Box::leak(wrong.into_boxed_str()), ..*setting };
        let loaded = check(&file(section, &wrong, setting.good[0]));
        let help = format!("did you mean `{}`?", setting.key);
        let hinted = loaded.diagnostics.iter().any(|d| d.help.as_deref() == Some(help.as_str()));
        assert!(hinted, "{}: {}", wrong.key, loaded.report());
    });
}

/// JSON as TOML; `{ value, line }` is the value alone.
fn toml(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) if map.len() == 2 && map.contains_key("line") => toml(&map["value"]),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn a_definition_written_down_gives_the_same_unit() {
    let mut compared = 0;
    each(|section, setting| {
        let works = section.info().unwrap().status == Status::Works;
        if !works || setting.status != Status::Works || !is_unit(section) {
            return;
        }
        for value in setting.good {
            let loaded = check(&file(section, setting, value));
            let unit = loaded.set.units.iter().find(|unit| unit.name == "x").unwrap();
            let kind = if unit.service().is_some() { "service" } else { "target" };
            let mut text = format!("{DECLARED}[service.other]\ncommand = \"x\"\n[{kind}.x]\n");
            let shown = berth::unit::definition(unit);
            let lines = shown.iter().map(|(key, value)| format!("{key} = {}\n", toml(value)));
            text.extend(lines);
            let again = check(&text);
            assert!(again.is_clean(), "{text}\n{}", again.report());
            let same = again.set.units.iter().find(|unit| unit.name == "x").unwrap();
            assert_eq!(unit, same, "{text}");
            let json = serde_json::to_string(&shown).unwrap();
            assert!(
                json.contains(&format!("\"{}\":", setting.key)) || setting.key == "tcp",
                "{} is not shown: {json}",
                setting.key
            );
            compared += 1;
        }
    });
    assert!(compared > 100, "{compared}");
}
