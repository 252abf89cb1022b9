//! `[service.NAME.log]`

use super::value::{self, put};
use super::{Section, Setting, unsupported};
use crate::unit::model::LogDriver;
use crate::unit::syntax::Value;

const SERVICE: &[Section] = &[Section::Service];
const LOG: &[Section] = &[Section::Log];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "log", "table", "{}", |d, v, cx| {
        if let Some(table) = value::table(v, cx) {
            super::apply(Section::Log, table, d, cx);
        }
    })
    .help("See [log](#servicenamelog).")
    .good(&["{ max-files = 5 }"])
    .bad(&["\"console\"", "{ max-file = 5 }"]),
    Setting::new(LOG, "max-size", "size", "\"10M\"", |d, v, cx| {
        let size = value::size(v, cx).and_then(|size| {
            if size < 4096 { cx.refuse(v, "a log file holds at least 4K") } else { Some(size) }
        });
        put(&mut d.service.log.max_size, size);
    })
    .help("A file that has grown to this is put aside and a new one begun.")
    .good(&["\"1M\""])
    .bad(&["0", "\"1\"", "-1", "\"big\""]),
    Setting::new(LOG, "max-files", "whole number", "3", |d, v, cx| {
        put(&mut d.service.log.max_files, value::number(v, 1, 1000, cx));
    })
    .help("Files that are kept, the current one included.")
    .good(&["5"])
    .bad(&["0", "1001", "\"3\""]),
    Setting::new(LOG, "driver", "\"file\" | \"console\" | \"none\"", "\"file\"", |d, v, cx| {
        if matches!(&v.value, Value::String(text) if text == "journald") {
            cx.out.push(unsupported(v.place, "journald", "the journal as a place for logs"));
            return;
        }
        let words =
            [("file", LogDriver::File), ("console", LogDriver::Console), ("none", LogDriver::None)];
        put(&mut d.service.log.driver, value::choice(v, &words, cx));
    })
    .help(
        "`file`: `STATE/log/NAME/`, shown by `berthctl logs`. `console`: to the \
         supervisor's own output, as it is, which the service itself is not given: it has a \
         pipe, and cannot read from a terminal. `none`: nowhere.",
    )
    .good(&["\"console\"", "\"none\"", "\"file\""])
    .bad(&["\"journald\"", "\"syslog\"", "1"]),
];
