//! `berthctl plot`: the timeline of a boot as a picture (SVG).
//!
//! A lane a unit, in the order in which they began; names at the left, so that a long list
//! reads like a table; a grid of round times. What must always hold: every text is escaped
//! ([`svg::text`]), every unit is named also for those who cannot see the picture.

use std::fmt::Write as _;

use super::lanes::{Lane, Lanes, Phase};
use super::{Boot, span};
use crate::ctl::Context;
use crate::ctl::failure::Failure;
use crate::ctl::svg::{self, float, n, text};

/// Height of a lane.
const ROW: f64 = 20.0;
/// Size of the text on it.
const SIZE: f64 = 12.0;
/// Around everything.
const MARGIN: f64 = 24.0;
/// Of the time, without names.
const SCALE: f64 = 1000.0;
/// What is above the first lane: title, summary, legend, axis.
const HEAD: f64 = 124.0;
/// Room for a time behind the last stretch.
const TAIL: f64 = 90.0;

const STYLE: &str = ".w{fill:#b6bec8;fill:var(--waiting)}.p{fill:#1f6feb;fill:var(--preparing)}\
.s{fill:#e08700;fill:var(--starting)}.r{fill:#2da44e;fill:var(--ready);fill-opacity:.35}\
.k{fill:#8250df;fill:var(--kernel)}.g{stroke:#d1d9e0;stroke:var(--line)}\
.x{stroke:#cf222e;stroke:var(--bad);stroke-width:2;fill:none}\
.e{stroke:#2da44e;stroke:var(--ready);stroke-width:1.5;stroke-dasharray:4 3}";

/// Prints the picture.
///
/// # Errors
/// See [`Failure`].
pub fn run(context: &mut Context) -> Result<(), Failure> {
    if context.style.terminal {
        return Err(Failure::Usage(
            "a picture is nothing for a terminal: write `berthctl plot > boot.svg`".to_owned(),
        ));
    }
    let boot = Boot::fetch(context)?;
    let picture = draw(&boot);
    context.out.write_all(picture.as_bytes()).map_err(Failure::Output)
}

/// Where things are.
struct Paper {
    /// Where the time begins.
    left: f64,
    from: i64,
    to: i64,
}

impl Paper {
    /// Where a moment is.
    fn x(&self, at: i64) -> f64 {
        let length = micros(self.to.saturating_sub(self.from)).max(1.0);
        let at = micros(at.clamp(self.from, self.to).saturating_sub(self.from));
        self.left + at / length * SCALE
    }

    fn right(&self) -> f64 {
        self.left + SCALE
    }
}

/// Microseconds as a length; exact for hours, and nobody sees the rest.
fn micros(time: i64) -> f64 {
    let (seconds, rest) = (time / 1_000_000, time % 1_000_000);
    let part = |it: i64| f64::from(i32::try_from(it).unwrap_or(i32::MAX));
    part(seconds) * 1e6 + part(rest)
}

/// The picture.
pub fn draw(boot: &Boot) -> String {
    let lanes = Lanes::of(boot);
    let names = lanes.lanes.iter().map(|lane| svg::width(&lane.name, SIZE));
    let left = MARGIN + names.fold(svg::width("kernel", SIZE), f64::max) + 12.0;
    let paper = Paper { left, from: lanes.from, to: lanes.to };
    let kernel = boot.supervisor.kernel.is_some();
    let rows = float(lanes.lanes.len()) + if kernel { 2.0 } else { 1.0 };
    let bottom = HEAD + rows * ROW;
    let title = format!("berth {}: {}", boot.supervisor.version, boot.summary());
    let mut out = svg::begin(
        paper.right() + TAIL + MARGIN,
        bottom + 28.0 + MARGIN,
        &title,
        &description(&lanes),
        STYLE,
    );
    head(&mut out, boot, &lanes, &title);
    bands(&mut out, &paper, rows);
    grid(&mut out, &paper, bottom);
    let mut row = 0_usize;
    if kernel {
        bar(&mut out, &paper, row, "kernel", (lanes.from, 0), &lanes);
        row = row.saturating_add(1);
    }
    bar(&mut out, &paper, row, "berth", (0, boot.reached().unwrap_or(lanes.to)), &lanes);
    for lane in &lanes.lanes {
        row = row.saturating_add(1);
        draw_lane(&mut out, &paper, row, lane);
    }
    if let Some(reached) = boot.reached() {
        let x = n(paper.x(reached));
        let (y1, y2) = (n(HEAD - 6.0), n(bottom + 6.0));
        let _ = writeln!(out, "<line class=\"e\" x1=\"{x}\" y1=\"{y1}\" x2=\"{x}\" y2=\"{y2}\"/>");
    }
    out.push_str("</svg>\n");
    out
}

/// All of it in words.
fn description(lanes: &Lanes) -> String {
    let mut words = String::from("A timeline, one lane for each unit. ");
    for lane in &lanes.lanes {
        let ready =
            lane.ready.map_or("not ready".to_owned(), |at| format!("ready at {}", span(at)));
        let took = lane.took.map(|took| format!(" after {}", span(took))).unwrap_or_default();
        let _ = write!(words, "{}: {ready}{took}. ", lane.name);
    }
    words
}

fn head(out: &mut String, boot: &Boot, lanes: &Lanes, title: &str) {
    let since = &boot.supervisor.since;
    let since = since.split_once('.').map_or_else(|| since.clone(), |(time, _)| format!("{time}Z"));
    let mut about = format!("{} units; began {since}", lanes.lanes.len());
    if lanes.later > 0 {
        let _ = write!(about, "; {} that were started later are left out", lanes.later);
    }
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"40\" font-size=\"18\" font-weight=\"bold\">{}</text>\n\
         <text class=\"soft\" x=\"{x}\" y=\"60\" font-size=\"{SIZE}\">{}</text>",
        text(title),
        text(&about),
        x = n(MARGIN),
    );
    let mut x = MARGIN;
    let legend = [
        ("w", "waiting"),
        ("p", "preparing: namespaces, mounts, start-pre"),
        ("s", "starting: command runs"),
        ("r", "ready"),
    ];
    for (class, words) in legend {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"76\" width=\"14\" height=\"12\" rx=\"2\"/>\
             <text x=\"{}\" y=\"86\" font-size=\"{SIZE}\">{words}</text>",
            n(x),
            n(x + 20.0)
        );
        x += 20.0 + svg::width(words, SIZE) + 24.0;
    }
    let _ = writeln!(
        out,
        "<path class=\"x\" d=\"M{} 77l10 10m0 -10l-10 10\"/>\
         <text x=\"{}\" y=\"86\" font-size=\"{SIZE}\">start failed</text>",
        n(x + 2.0),
        n(x + 20.0)
    );
}

/// Lines at round times, with the times above and below.
fn grid(out: &mut String, paper: &Paper, bottom: f64) {
    let step = step(paper.to.saturating_sub(paper.from));
    // From the first multiple that is shown.
    let mut at = paper.from.div_euclid(step).saturating_mul(step);
    while at <= paper.to {
        if at >= paper.from {
            let x = n(paper.x(at));
            let _ = writeln!(
                out,
                "<line class=\"g\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\"/>\
                 <text class=\"soft\" x=\"{x}\" y=\"{}\" font-size=\"11\" \
                 text-anchor=\"middle\">{label}</text>\
                 <text class=\"soft\" x=\"{x}\" y=\"{}\" font-size=\"11\" \
                 text-anchor=\"middle\">{label}</text>",
                n(HEAD - 6.0),
                n(bottom + 4.0),
                n(HEAD - 10.0),
                n(bottom + 18.0),
                label = tick(at, step),
            );
        }
        at = at.saturating_add(step);
        if at == i64::MAX {
            break;
        }
    }
}

/// A round time of which about ten fit.
fn step(length: i64) -> i64 {
    let decades = (2..18).map(|zeros| 10_i64.saturating_pow(zeros));
    let mut steps = decades.flat_map(|it| [1, 2, 5].map(|factor| it.saturating_mul(factor)));
    steps.find(|step| step.saturating_mul(12) >= length).unwrap_or(i64::MAX)
}

/// A time of the grid, as exact as the grid is.
fn tick(at: i64, step: i64) -> String {
    let seconds = micros(at) / 1e6;
    match step {
        _ if at == 0 => "0".to_owned(),
        1_000_000.. => format!("{seconds:.0}s"),
        100_000.. => format!("{seconds:.1}s"),
        1_000.. => format!("{:.0}ms", seconds * 1e3),
        _ => format!("{:.1}ms", seconds * 1e3),
    }
}

/// Every other lane has a shade, behind everything.
fn bands(out: &mut String, paper: &Paper, rows: f64) {
    let width = n(paper.right() + TAIL - MARGIN / 2.0);
    let mut y = HEAD + ROW;
    while y < HEAD + rows * ROW {
        let _ = writeln!(
            out,
            "<rect class=\"band\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{ROW}\"/>",
            n(MARGIN / 2.0),
            n(y)
        );
        y += 2.0 * ROW;
    }
}

/// The name of a lane; returns its top.
fn row_head(out: &mut String, paper: &Paper, row: usize, name: &str, weight: &str) -> f64 {
    let y = HEAD + float(row) * ROW;
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" font-size=\"{SIZE}\" text-anchor=\"end\"{weight}>{}</text>",
        n(paper.left - 8.0),
        n(y + 14.0),
        text(name)
    );
    y
}

/// The kernel's part, and berth's.
fn bar(out: &mut String, paper: &Paper, row: usize, name: &str, time: (i64, i64), lanes: &Lanes) {
    let y = row_head(out, paper, row, name, " font-weight=\"bold\"");
    let (from, to) = (paper.x(time.0.max(lanes.from)), paper.x(time.1));
    let _ = writeln!(
        out,
        "<rect class=\"k\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"10\" rx=\"2\"/>\
         <text class=\"soft\" x=\"{}\" y=\"{}\" font-size=\"11\">{}</text>",
        n(from),
        n(y + 5.0),
        n((to - from).max(1.0)),
        n(to + 6.0),
        n(y + 14.0),
        span(time.1.saturating_sub(time.0))
    );
}

fn draw_lane(out: &mut String, paper: &Paper, row: usize, lane: &Lane) {
    let weight = if lane.target { " font-style=\"italic\"" } else { "" };
    let _ = writeln!(out, "<g><title>{}</title>", text(&in_words(lane)));
    let y = row_head(out, paper, row, &lane.name, weight);
    let mut end = paper.left;
    for stretch in &lane.stretches {
        let (class, top, height) = match stretch.phase {
            Phase::Waiting => ("w", 8.0, 4.0),
            Phase::Preparing => ("p", 4.0, 12.0),
            Phase::Starting => ("s", 4.0, 12.0),
            Phase::Ready => ("r", 4.0, 12.0),
        };
        let (from, to) = (paper.x(stretch.from), paper.x(stretch.to));
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"/>",
            n(from),
            n(y + top),
            // Short is not nothing.
            n((to - from).max(0.8))
        );
        if stretch.phase != Phase::Ready {
            end = end.max(to);
        }
    }
    for failure in &lane.failures {
        let x = paper.x(*failure);
        let _ =
            write!(out, "<path class=\"x\" d=\"M{} {}l8 8m0 -8l-8 8\"/>", n(x - 4.0), n(y + 6.0));
        end = end.max(x + 6.0);
    }
    let (label, class) = match (lane.took, lane.ready) {
        (Some(took), _) => (span(took), "soft"),
        (None, Some(ready)) => (format!("@{}", span(ready)), "soft"),
        (None, None) => ("not ready".to_owned(), "bad"),
    };
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{}\" y=\"{}\" font-size=\"11\">{label}</text></g>",
        n(end + 6.0),
        n(y + 14.0)
    );
}

/// What is shown when the pointer is on it.
fn in_words(lane: &Lane) -> String {
    let mut words = lane.name.clone();
    for stretch in &lane.stretches {
        let phase = match stretch.phase {
            Phase::Waiting => "waiting",
            Phase::Preparing => "preparing",
            Phase::Starting => "starting",
            Phase::Ready => "ready",
        };
        let length = span(stretch.to.saturating_sub(stretch.from));
        let _ = write!(words, "; {phase} from {}", span(stretch.from));
        if stretch.phase != Phase::Ready {
            let _ = write!(words, " for {length}");
        }
    }
    words
}
