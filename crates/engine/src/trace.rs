//! When things ran, as a file that Perfetto and Chrome's tracing page open: the JSON array form
//! of the trace event format, one track a device.

use crate::{Error, ErrorKind, LayerSchedule, Result};
use orion_compile::partition::{Unit, Work};
use orion_runtime::RunFigures;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A trace that is being written. The array is closed when it is dropped; readers take one that
/// is not.
#[derive(Debug)]
pub(crate) struct TraceFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// When this process began to write.
    begin: Instant,
    /// How long the trace had been going then, if others wrote before.
    before: Duration,
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

/// The argument of the first event that says when the trace began, in microseconds since 1970.
const BEGAN: &str = "began_unix_us";

/// How much of the end of a file is looked at to find the last whole event.
const LOOKED_AT: u64 = 1 << 16;

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
        let mut this = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            begin: Instant::now(),
            before: Duration::ZERO,
        };
        let name = json!({
            "name": "process_name", "ph": "M", "pid": 1, "tid": 0,
            "args": { "name": "orion train", BEGAN: unix_us() },
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

    /// Goes on with the file of a run that is resumed; creates it where there is none. What another
    /// process had not written to its end is cut off.
    ///
    /// # Errors
    /// When the file is no trace of ours, or cannot be read or written.
    pub(crate) fn resume(path: &Path, host: &str, layers: Option<&LayerSchedule>) -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).open(path);
        let mut file = match open {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Self::create(path, host, layers);
            }
            other => other.map_err(|e| Error::io(path, e))?,
        };
        let Some(began) = began(&mut file).map_err(|e| Error::io(path, e))? else {
            return Err(Error::new(ErrorKind::File, "this is no trace of a run, to go on with")
                .at(path)
                .hint("name another file with --trace"));
        };
        cut_behind_last_event(&mut file).map_err(|e| Error::io(path, e))?;
        let before = Duration::from_micros(unix_us().saturating_sub(began));
        let (path, file) = (path.to_owned(), BufWriter::new(file));
        Ok(Self { path, file, begin: Instant::now(), before })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }

    fn span(&mut self, span: &TraceSpan<'_>) -> Result<()> {
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        let mut event = json!({
            "name": span.name, "cat": span.category, "ph": "X", "pid": 1, "tid": span.track + 1,
            "ts": us(self.before + span.begin.saturating_duration_since(self.begin)), "dur": us(span.duration),
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

    /// Appends a forward and backward pass that began then and ended now.
    pub(crate) fn gradients(&mut self, step: u64, begin: Instant) -> Result<()> {
        let (name, duration) = ("forward and backward", begin.elapsed());
        self.span(&TraceSpan {
            track: HOST,
            name,
            category: "part",
            step,
            begin,
            duration,
            figures: None,
        })
    }

    /// Appends the parts of the last run on two devices, which was of that step, or made the update
    /// of the step before.
    pub(crate) fn parts(&mut self, layers: &LayerSchedule, step: u64) -> Result<()> {
        for span in layers.spans() {
            self.span(&TraceSpan {
                track: if span.unit == Unit::Host { HOST } else { ACCELERATOR },
                name: &span.name,
                category: match span.work {
                    Work::Run => "part",
                    Work::Stage => "staging",
                    Work::Renew => "weights",
                    Work::Update => "update",
                    Work::Clear => "zeros",
                    Work::Measure => "norm",
                },
                step: if span.work == Work::Update { step.saturating_sub(1) } else { step },
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

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// When a trace began, which its first event says.
fn began(file: &mut File) -> io::Result<Option<u64>> {
    let mut start = Vec::new();
    Read::by_ref(file).take(LOOKED_AT).read_to_end(&mut start)?;
    let mut lines = start.split(|&byte| byte == b'\n');
    let is_array = lines.next() == Some(b"[");
    Ok(lines.next().filter(|_| is_array).and_then(event).and_then(|e| e["args"][BEGAN].as_u64()))
}

/// The event of a line, if all of it is there.
fn event(line: &[u8]) -> Option<Value> {
    let line = line.trim_ascii();
    let event = serde_json::from_slice(line.strip_suffix(b",").unwrap_or(line)).ok();
    event.filter(Value::is_object)
}

fn cut_behind_last_event(file: &mut File) -> io::Result<()> {
    let from = file.seek(SeekFrom::End(0))?.saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    Read::by_ref(file).take(LOOKED_AT).read_to_end(&mut end)?;
    while !end.is_empty() {
        let line = end.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if event(&end[line..]).is_some() {
            let text = end.trim_ascii_end();
            let whole = text.strip_suffix(b",").unwrap_or(text).len();
            end.truncate(whole);
            break;
        }
        end.truncate(line.saturating_sub(1));
    }
    let length = from + end.len() as u64;
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length))?;
    Ok(())
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        // Nobody is left to tell; a trace without its end is readable too.
        let _ = self.file.write_all(b"\n]\n");
    }
}
