//! `berthctl stats`: what units use, once. The numbers and their table are `top`'s, too.
//!
//! Processor use is what was used between two looks, so there are always two of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Context;
use super::client::{ANSWER, Client};
use super::failure::{Failure, complain};
use super::render::{self, Color, Table};
use crate::protocol::insight::UnitUsage;
use crate::protocol::method::Usage;

/// Between the two looks, in milliseconds.
const BETWEEN: u64 = 500;

/// What is on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Processor use
    Cpu,
    /// Memory
    Memory,
    /// Processes and threads
    Pids,
    /// Bytes read and written each second
    Io,
    /// Names
    Name,
}

/// What one unit uses; the elements of `stats --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// Of one processor, in hundredths; null before there were two looks.
    pub cpu_percent: Option<f64>,
    /// Bytes read each second.
    pub read_rate: Option<f64>,
    /// Bytes written each second.
    pub write_rate: Option<f64>,
    /// As the supervisor says it.
    #[serde(flatten)]
    pub usage: Counters,
}

/// The counters of [`UnitUsage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Microseconds of processor time since the start.
    pub cpu_usec: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes; null: no limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Null: no limit.
    pub pids_limit: Option<u64>,
    /// Bytes since the start.
    pub read: Option<u64>,
    /// Bytes since the start.
    pub written: Option<u64>,
    /// Fields that are sums over the processes there are now.
    pub summed: Vec<String>,
}

/// Prints what units use.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context, units: &[String], json: bool) -> Result<(), Failure> {
    let mut client = context.connect()?;
    client.begin(&Usage { units: units.to_owned(), interval: Some(BETWEEN) })?;
    let before = round(&mut client, Duration::ZERO)?;
    let now = round(&mut client, Duration::from_millis(BETWEEN))?;
    let mut rows = rows(&before, &now);
    sort(&mut rows, Sort::Name);
    if json {
        context.json(&rows)?;
    } else if units.is_empty() || !rows.is_empty() {
        show(context, &rows)?;
    }
    let mut missing = units.iter().filter(|unit| !rows.iter().any(|row| row.name == **unit));
    match missing.next() {
        None => Ok(()),
        Some(first) => {
            for unit in std::iter::once(first).chain(missing) {
                complain(&format!("{} is not running", render::line(unit)));
            }
            Err(Failure::Said(3))
        }
    }
}

fn show(context: &mut Context, rows: &[Row]) -> Result<(), Failure> {
    table(rows).write(context.out, context.style).map_err(Failure::Output)?;
    if rows.iter().any(|row| !row.usage.summed.is_empty()) {
        let note =
            "~ no controller counts it on this host: the sum of the processes that are there";
        context.say(&context.style.paint(Color::Dim, note))?;
    }
    Ok(())
}

/// One round of replies, which comes after this pause.
///
/// # Errors
/// See [`Failure`].
pub fn round(client: &mut Client, pause: Duration) -> Result<Vec<UnitUsage>, Failure> {
    let mut units = Vec::new();
    loop {
        let reply = client.next_reply::<Usage>(ANSWER.saturating_add(pause))?;
        units.extend(reply.units);
        if reply.complete {
            return Ok(units);
        }
    }
}

/// What is used now, and how fast it grows.
pub fn rows(before: &[UnitUsage], now: &[UnitUsage]) -> Vec<Row> {
    let before: BTreeMap<&str, &UnitUsage> =
        before.iter().map(|usage| (usage.unit.as_str(), usage)).collect();
    let row = |now: &UnitUsage| {
        let earlier = before.get(now.unit.as_str());
        let per_second = |field: fn(&UnitUsage) -> Option<u64>| {
            let earlier = earlier?;
            // A counter that went back is another run's, or a process less that is summed.
            let more = field(now)?.checked_sub(field(earlier)?)?;
            let micros = now.time.checked_sub(earlier.time).filter(|micros| *micros > 0)?;
            Some(float(more) * 1e6 / float(micros))
        };
        Row {
            name: now.unit.clone(),
            cpu_percent: per_second(|it| it.cpu).map(|used| (used / 1e3).round() / 10.0),
            read_rate: per_second(|it| it.read).map(f64::round),
            write_rate: per_second(|it| it.written).map(f64::round),
            usage: Counters {
                cpu_usec: now.cpu,
                memory: now.memory,
                memory_limit: now.memory_limit,
                pids: now.pids,
                pids_limit: now.pids_limit,
                read: now.read,
                written: now.written,
                summed: now.summed.clone(),
            },
        }
    };
    now.iter().map(row).collect()
}

/// Exact up to 2^53, which is more than a counter of bytes comes to.
fn float(number: u64) -> f64 {
    let (high, low) = (number >> 32, number & u64::from(u32::MAX));
    let part = |it: u64| f64::from(u32::try_from(it).unwrap_or(u32::MAX));
    part(high) * 4_294_967_296.0 + part(low)
}

/// The greatest on top; names from a to z.
pub fn sort(rows: &mut [Row], by: Sort) {
    let greater = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
    let order = |a: &Row, b: &Row| match by {
        Sort::Cpu => greater(a.cpu_percent, b.cpu_percent),
        Sort::Memory => b.usage.memory.cmp(&a.usage.memory),
        Sort::Pids => b.usage.pids.cmp(&a.usage.pids),
        Sort::Io => {
            let both = |row: &Row| Some(row.read_rate? + row.write_rate?);
            greater(both(a), both(b))
        }
        Sort::Name => Ordering::Equal,
    };
    rows.sort_by(|a, b| order(a, b).then_with(|| a.name.cmp(&b.name)));
}

/// All of it as a table, numbers at the right of their columns.
pub fn table(rows: &[Row]) -> Table {
    const HEADINGS: [&str; 9] =
        ["NAME", "CPU", "CPU TIME", "MEMORY", "LIMIT", "PIDS", "LIMIT", "READ", "WRITTEN"];
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column).map(String::len));
        cells.chain(HEADINGS.get(column).map(|text| text.len())).max().unwrap_or(0)
    };
    let pad = |column: usize, text: &str| match column {
        0 => text.to_owned(),
        _ => format!("{text:>0$}", width(column)),
    };
    let headings: Vec<String> =
        HEADINGS.iter().enumerate().map(|(column, text)| pad(column, text)).collect();
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &cells {
        let cell = |(column, text): (usize, &String)| (pad(column, text), Color::Plain);
        table.row(row.iter().enumerate().map(cell).collect());
    }
    table
}

fn cells(row: &Row) -> [String; 9] {
    let it = &row.usage;
    let summed = |field: &str| if it.summed.iter().any(|name| name == field) { "~" } else { "" };
    let bytes = |field: &str, value: Option<u64>| {
        value.map_or("-".to_owned(), |bytes| format!("{}{}", summed(field), render::size(bytes)))
    };
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |number| number.to_string());
    [
        row.name.clone(),
        row.cpu_percent.map_or("-".to_owned(), |percent| format!("{percent:.1}%")),
        it.cpu_usec.map_or("-".to_owned(), cpu_time),
        bytes("memory", it.memory),
        bytes("", it.memory_limit),
        number(it.pids),
        number(it.pids_limit),
        bytes("read", it.read),
        bytes("written", it.written),
    ]
}

fn cpu_time(micros: u64) -> String {
    super::boot::span(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(unit: &str, time: u64, cpu: u64, memory: u64) -> UnitUsage {
        UnitUsage {
            unit: unit.to_owned(),
            time,
            cpu: Some(cpu),
            memory: Some(memory),
            memory_limit: None,
            pids: Some(1),
            pids_limit: Some(512),
            read: Some(time / 1000),
            written: None,
            summed: vec!["memory".to_owned()],
        }
    }

    #[test]
    fn use_is_what_was_used_between_two_looks() {
        let before = [usage("a", 1_000_000, 100_000, 5), usage("b", 1_000_000, 500_000, 5)];
        let now = [
            usage("a", 1_500_000, 350_000, 2_000_000),
            // Another run: its counter began anew.
            usage("b", 1_500_000, 10, 7),
            usage("c", 1_500_000, 10, 6),
        ];
        let mut rows = rows(&before, &now);
        let percent: Vec<_> = rows.iter().map(|row| row.cpu_percent).collect();
        assert_eq!(percent, [Some(50.0), None, None]);
        assert_eq!((rows[0].read_rate, rows[0].write_rate), (Some(1000.0), None));
        sort(&mut rows, Sort::Memory);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["pids_limit"], 512);
        assert_eq!(json["memory_limit"], serde_json::Value::Null);
        let mut text = Vec::new();
        let style = render::Style { terminal: false, color: false };
        table(&rows).write(&mut text, style).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("50.0%") && lines[1].contains("~1.9M"), "{text}");
        assert_eq!(float(1 << 40).to_bits(), (2.0_f64.powi(40)).to_bits());
    }
}
