//! Standard output in large pieces, bytes as JSON, and progress for a person who waits.

use super::CliError;
use crate::protocol::record::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{self, BufWriter, IsTerminal as _, Stderr, StdoutLock, Write};
use std::time::{Duration, Instant};

/// Bytes collected before they go to standard output: one system call for thousands of lines.
const OUTPUT_BYTES: usize = 256 * 1024;
/// How often a person sees a new figure.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Standard output, buffered; flush it before waiting for anything.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock())
}

/// Prints `value` as JSON for a program.
///
/// # Errors
/// [`CliError::BrokenPipe`] or a failed write.
pub fn print_json(value: &Value) -> Result<(), CliError> {
    print_with(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
}

/// Runs `print` on standard output and flushes it.
///
/// # Errors
/// [`CliError::BrokenPipe`] or a failed write.
pub fn print_with(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = stdout();
    print(&mut out).and_then(|()| out.flush()).map_err(|error| CliError::output(&error))
}

/// Bytes as JSON: text where they are UTF-8, otherwise `{"base64": ...}`; null stays null.
pub fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
    }
}

/// A record's headers in order, as an array of names and values.
pub fn json_headers(record: &Record<'_>) -> Value {
    let headers = record.headers().map(|(name, value)| {
        let (name, value) = (json_bytes(Some(name)), json_bytes(value));
        json!({ "name": name, "value": value })
    });
    headers.collect()
}

/// A line on stderr that says how far long work has come; silent where nobody watches.
pub struct Progress {
    stderr: Option<Stderr>,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Shows nothing yet, and nothing at all where stderr is no terminal or stdout is one that
    /// the line would garble.
    pub fn new(is_stdout_used: bool) -> Progress {
        let is_garbled = is_stdout_used && io::stdout().is_terminal();
        let stderr = Some(io::stderr()).filter(|stderr| stderr.is_terminal() && !is_garbled);
        Progress { stderr, started: Instant::now(), shown: None }
    }

    /// Shows `line` with the time taken, at most five times a second.
    pub fn show(&mut self, line: impl FnOnce(Duration) -> String) {
        let now = Instant::now();
        let last = self.shown.unwrap_or(self.started);
        let Some(stderr) = &mut self.stderr else { return };
        if now.duration_since(last) < PROGRESS_INTERVAL {
            return;
        }
        self.shown = Some(now);
        // Progress is a courtesy: work goes on where it cannot be shown.
        let _ = write!(stderr, "\r\x1b[K{}", line(now.duration_since(self.started)));
        let _ = stderr.flush();
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let (Some(stderr), Some(_)) = (&mut self.stderr, self.shown.take()) {
            let _ = write!(stderr, "\r\x1b[K");
            let _ = stderr.flush();
        }
    }

    /// Prints a last line for the person who waited, if one did.
    pub fn finish(&mut self, line: impl FnOnce(Duration) -> String) {
        self.clear();
        let elapsed = self.started.elapsed();
        if let Some(stderr) = &mut self.stderr {
            let _ = writeln!(stderr, "{}", line(elapsed));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `12.3 MB` and the like, in decimal units.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// `count records (bytes) in 1.2 s, so many MB/s`.
pub fn rate(count: u64, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let noun = if count == 1 { "record" } else { "records" };
    let per_second = human_bytes((bytes as f64 / seconds) as u64);
    format!("{count} {noun} ({}) in {seconds:.1} s, {per_second}/s", human_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: sizes are short and right, also next to a unit's end. Method: known values.
    #[test]
    fn sizes_have_one_digit_after_the_point() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (8_000_000_000, "8.0 GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    /// Goal: bytes survive JSON. Method: text, none, and bytes that are no text.
    #[test]
    fn bytes_become_text_or_base64() {
        assert_eq!(json_bytes(None), Value::Null);
        assert_eq!(json_bytes(Some(b"word")), json!("word"));
        assert_eq!(json_bytes(Some(&[0xff, 0xfe])), json!({ "base64": "//4=" }));
    }
}
