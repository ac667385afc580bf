//! When things ran, as a file that Perfetto and Chrome's tracing page open: the JSON array form
//! of the trace event format, one track a device.

use crate::{Error, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A trace that is being written. The array is closed when it is dropped; readers take one that
/// is not.
#[derive(Debug)]
pub(crate) struct TraceFile {
    path: PathBuf,
    file: BufWriter<File>,
    begin: Instant,
}

/// Something that took time on a track.
#[derive(Debug)]
pub(crate) struct TraceSpan<'a> {
    pub(crate) track: usize,
    pub(crate) name: &'a str,
    pub(crate) category: &'a str,
    pub(crate) begin: Instant,
    pub(crate) duration: Duration,
    pub(crate) arguments: Value,
}

impl TraceFile {
    /// Creates the file with a track for each name.
    pub(crate) fn create(path: &Path, tracks: &[String]) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path, e))?;
        let (path, file) = (path.to_owned(), BufWriter::new(file));
        let mut this = Self { path, file, begin: Instant::now() };
        let name = json!({
            "name": "process_name", "ph": "M", "pid": 1, "tid": 0,
            "args": { "name": "orion train" },
        });
        this.write(&format!("[\n{name}"))?;
        for (track, name) in tracks.iter().enumerate() {
            let event = json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": track + 1,
                "args": { "name": name },
            });
            this.write(&format!(",\n{event}"))?;
        }
        Ok(this)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }

    /// Appends a span.
    pub(crate) fn span(&mut self, span: &TraceSpan<'_>) -> Result<()> {
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        let event = json!({
            "name": span.name, "cat": span.category, "ph": "X", "pid": 1, "tid": span.track + 1,
            "ts": us(span.begin.saturating_duration_since(self.begin)), "dur": us(span.duration),
            "args": span.arguments,
        });
        self.write(&format!(",\n{event}"))
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        // Nobody is left to tell; a trace without its end is readable too.
        let _ = self.file.write_all(b"\n]\n");
    }
}
