//! What pictures have in common: text that is safe in XML, colours for light and dark
//! screens, sizes of text, numbers.
//!
//! What must always hold: whatever a unit is called and wherever its name came from, the
//! picture is well-formed, and nothing of the name is taken for markup.

use std::fmt::Write as _;

/// Width of a character of the font, as a part of its size: that of
/// `DejaVu Sans Mono`, wider than most.
const ADVANCE: f64 = 0.61;

/// Colours and fonts: custom properties, changed where the reader's screen is dark. Whoever
/// knows neither (old renderers) takes the plain colours in front.
pub const STYLE: &str = "\
svg{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;\
--paper:#ffffff;--ink:#1b1f24;--soft:#59636e;--line:#d1d9e0;--band:#f6f8fa;\
--waiting:#b6bec8;--preparing:#1f6feb;--starting:#e08700;--ready:#2da44e;--bad:#cf222e;\
--kernel:#8250df}\
@media (prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;\
--line:#30363d;--band:#151b23;--waiting:#4b535d;--preparing:#4493f8;--starting:#f0a53a;\
--ready:#3fb950;--bad:#f85149;--kernel:#ab7df8}}\
.paper{fill:#ffffff;fill:var(--paper)}.band{fill:#f6f8fa;fill:var(--band)}\
text{fill:#1b1f24;fill:var(--ink);white-space:pre}\
.soft{fill:#59636e;fill:var(--soft)}.bad{fill:#cf222e;fill:var(--bad)}";

/// Text for XML. What XML 1.0 cannot say at all, and what changes the direction of writing,
/// is written as `\u{…}`.
pub fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in super::render::line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.extend(c.escape_unicode()),
            _ => safe.push(c),
        }
    }
    safe
}

/// About how wide a text is, in pixels.
pub fn width(text: &str, size: f64) -> f64 {
    let columns = unicode_width::UnicodeWidthStr::width(super::render::line(text).as_str());
    float(columns) * size * ADVANCE
}

/// A count as a length.
pub fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A length with one decimal, which is a tenth of what a screen shows; none where it is
/// zero.
pub fn n(length: f64) -> String {
    let text = format!("{length:.1}");
    let text = text.strip_suffix(".0").map_or(text.as_str(), |whole| whole);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The beginning of a picture of this size: what it is for those who cannot see it, its
/// style, its paper.
pub fn begin(width: f64, height: f64, title: &str, description: &str, style: &str) -> String {
    let (width, height) = (n(width.ceil()), n(height.ceil()));
    let mut svg = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n\
         <style>{STYLE}{style}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
        text(title),
        text(description)
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(text("<a b='c'>&\"]]>"), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;]]&gt;");
        assert_eq!(text("a\0b\x1b[31mc\u{ffff}\u{202e}"), "a\\u{0}b\\u{1b}[31mc\\u{ffff}\\u{202e}");
        assert_eq!(text("Größe 統一"), "Größe 統一");
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!([n(1.0), n(1.25), n(-0.01), n(1e3)].join(" "), "1 1.2 0 1000");
        assert!(width("統一", 10.0) > width("ab", 10.0));
    }
}
