//! When things ran, as a file that Perfetto and Chrome's tracing page open: the JSON array form
//! of the trace event format, one track a device.

use crate::{Error, LayerSchedule, Result};
use orion_compile::partition::{Unit, Work};
use orion_runtime::RunFigures;
use serde_json::json;
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
struct TraceSpan<'a> {
    track: usize,
    name: &'a str,
    category: &'a str,
    step: u64,
    begin: Instant,
    duration: Duration,
    /// What it took of the accelerator, if it ran there.
    figures: Option<RunFigures>,
}

const HOST: usize = 0;
const ACCELERATOR: usize = 1;

impl TraceFile {
    /// Creates the file with a track for each device.
    pub(crate) fn create(path: &Path, host: &str, layers: Option<&LayerSchedule>) -> Result<Self> {
        let tracks = match layers {
            None => vec![host.to_owned()],
            Some(layers) => {
                vec![format!("host: {host}"), format!("accelerator: {}", layers.accelerator_name())]
            }
        };
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

    fn span(&mut self, span: &TraceSpan<'_>) -> Result<()> {
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        let mut event = json!({
            "name": span.name, "cat": span.category, "ph": "X", "pid": 1, "tid": span.track + 1,
            "ts": us(span.begin.saturating_duration_since(self.begin)), "dur": us(span.duration),
            "args": { "step": span.step },
        });
        if let Some(RunFigures { hardware, copied_bytes }) = span.figures {
            event["args"]["copied_bytes"] = json!(copied_bytes);
            if let Some(time) = hardware {
                event["args"]["hardware_us"] = json!(us(time));
            }
        }
        self.write(&format!(",\n{event}"))
    }

    /// Appends a forward and backward pass that began then and ended now; its parts, where it was
    /// divided.
    pub(crate) fn gradients(
        &mut self,
        layers: Option<&LayerSchedule>,
        step: u64,
        begin: Instant,
    ) -> Result<()> {
        let Some(layers) = layers else {
            let (name, duration) = ("forward and backward", begin.elapsed());
            return self.span(&TraceSpan {
                track: HOST,
                name,
                category: "part",
                step,
                begin,
                duration,
                figures: None,
            });
        };
        for span in layers.spans() {
            self.span(&TraceSpan {
                track: if span.unit == Unit::Host { HOST } else { ACCELERATOR },
                name: &span.name,
                category: match span.work {
                    Work::Run => "part",
                    Work::Stage => "staging",
                    Work::Renew => "weights",
                },
                step,
                begin: layers.began() + span.begin,
                duration: span.end - span.begin,
                figures: (span.unit == Unit::Accelerator).then_some(span.figures),
            })?;
        }
        Ok(())
    }

    /// Appends an optimizer's update that began then and ended now.
    pub(crate) fn update(&mut self, step: u64, begin: Instant) -> Result<()> {
        let (name, duration) = ("update", begin.elapsed());
        let (track, category, figures) = (HOST, "update", None);
        self.span(&TraceSpan { track, name, category, step, begin, duration, figures })
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        // Nobody is left to tell; a trace without its end is readable too.
        let _ = self.file.write_all(b"\n]\n");
    }
}
