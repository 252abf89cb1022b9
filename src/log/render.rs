//! stub
use super::read::Entry;

/// `web      | text`, ends with a newline. `width`: of the longest unit name, in columns.
pub fn render_line(entry: &Entry, colour: bool, width: usize) -> Vec<u8> {
    let _ = (entry, colour, width);
    Vec::new()
}

/// One JSON object, without a newline.
pub fn render_json(entry: &Entry) -> String {
    let _ = entry;
    String::new()
}
