//! The power that the machine takes, from `powermetrics`, which comes with macOS and needs root.

use crate::failure::Result;
use orion_ane::{Observation, Outcome};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where a Mac has it.
const POWERMETRICS: &str = "/usr/bin/powermetrics";

/// What is asked: four samples of half a second. The engine's line comes with the CPU's.
const ARGUMENTS: [&str; 6] = ["--samplers", "cpu_power", "-i", "500", "-n", "4"];

/// Milliwatts, the mean over some time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Power {
    milliseconds: f64,
    cpu: f64,
    gpu: f64,
    engine: f64,
}

/// Reads the text that `powermetrics` writes: samples begin with a line that says how long they
/// took, `*** Sampled system activity (…) (503.25ms elapsed) ***`, and have lines such as
/// `ANE Power: 323 mW`. `None` where no sample has all three of them.
fn parse(text: &str) -> Option<Power> {
    let mut sum = Power::default();
    for sample in text.split("*** Sampled system activity").skip(1) {
        let elapsed = sample.lines().next().and_then(|line| {
            let before = line.split("ms elapsed").next().filter(|before| before.len() < line.len());
            before?.rsplit('(').next()?.trim().parse::<f64>().ok()
        });
        let line = |name: &str| {
            let line = sample.lines().find_map(|line| line.trim().strip_prefix(name))?;
            let (number, unit) = line.trim().split_once(' ')?;
            let milliwatts = match unit.trim() {
                "mW" => 1.0,
                "W" => 1e3,
                _ => return None,
            };
            number.parse::<f64>().ok().map(|number| number * milliwatts)
        };
        let found = (elapsed, line("CPU Power:"), line("GPU Power:"), line("ANE Power:"));
        let (Some(ms), Some(cpu), Some(gpu), Some(engine)) = found else { continue };
        sum.milliseconds += ms;
        sum.cpu += cpu * ms;
        sum.gpu += gpu * ms;
        sum.engine += engine * ms;
    }
    let Power { milliseconds, cpu, gpu, engine } = sum;
    let mean = |total: f64| total / milliseconds;
    (milliseconds > 0.0).then(|| Power {
        milliseconds,
        cpu: mean(cpu),
        gpu: mean(gpu),
        engine: mean(engine),
    })
}

/// Why there are no figures, and what to type.
fn refusal(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason is given");
    format!(
        "powermetrics needs root, and the system says: {}. As an administrator type: sudo orion doctor --power",
        words.trim().trim_end_matches('.')
    )
}

/// The power while nothing of ours runs, and while `busy` does, which goes on until it is told to
/// end, and returns how often something ran in how many seconds.
///
/// # Errors
/// Those of `busy`. That there are no figures is none.
pub(crate) fn measured(
    busy: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<(usize, f64)>,
) -> Result<Observation> {
    let question = "what power does the engine take while a product runs in a loop?";
    let not_tried = |answer: String| Ok(seen(question, Outcome::NotTried, answer, Vec::new()));
    if !Path::new(POWERMETRICS).exists() {
        return not_tried(format!("this system has no {POWERMETRICS}"));
    }
    let output = match command().output() {
        Ok(output) => output,
        Err(e) => return not_tried(format!("{POWERMETRICS}: {e}")),
    };
    if !output.status.success() {
        return not_tried(refusal(&output));
    }
    let idle = parse(&String::from_utf8_lossy(&output.stdout));
    let (ran, output) = std::thread::scope(|scope| {
        let sampling = scope.spawn(|| command().output());
        let ran = busy(&mut || !sampling.is_finished());
        (ran, sampling.join())
    });
    let (runs, seconds) = ran?;
    let text = match output {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(e)) => return not_tried(format!("{POWERMETRICS}: {e}")),
        Err(payload) => std::panic::resume_unwind(payload),
    };
    let (Some(idle), Some(under_load)) = (idle, parse(&text)) else {
        let answer =
            "powermetrics does not write the lines that are known: CPU Power, GPU Power, ANE Power";
        return Ok(seen(question, Outcome::Refuted, answer.to_owned(), Vec::new()));
    };
    Ok(report(question, idle, under_load, runs as f64 / seconds))
}

fn report(question: &str, idle: Power, busy: Power, runs_per_second: f64) -> Observation {
    let more = busy.engine - idle.engine;
    let mut figures = vec![
        ("ane_idle_mw", idle.engine),
        ("ane_mw", busy.engine),
        ("cpu_idle_mw", idle.cpu),
        ("cpu_mw", busy.cpu),
        ("gpu_idle_mw", idle.gpu),
        ("gpu_mw", busy.gpu),
        ("runs_per_second", runs_per_second),
    ];
    if runs_per_second > 0.0 {
        figures.push(("ane_uj_per_run", more * 1e3 / runs_per_second));
    }
    let answer = format!(
        "{more:.0} mW more than in {:.1} s without it, says powermetrics",
        idle.milliseconds / 1e3
    );
    seen(question, Outcome::Proven, answer, figures)
}

fn seen(
    question: &str,
    outcome: Outcome,
    answer: String,
    figures: Vec<(&str, f64)>,
) -> Observation {
    Observation {
        name: "power".to_owned(),
        question: question.to_owned(),
        outcome,
        answer,
        figures: figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        attributes: None,
    }
}

/// `powermetrics`, or `sudo -n powermetrics`, which asks nobody for a password.
fn command() -> Command {
    let mut command = if is_root() {
        Command::new(POWERMETRICS)
    } else {
        let mut command = Command::new("/usr/bin/sudo");
        command.args(["-n", POWERMETRICS]);
        command
    };
    command.args(ARGUMENTS).stdin(Stdio::null());
    command
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up, with the lines that a Mac writes.
    const TEXT: &str = "\
Machine model: Mac99,1
OS version: 99A1

*** Sampled system activity (Mon Jan  1 00:00:00 2035 +0000) (500.00ms elapsed) ***

**** Processor usage ****

E-Cluster HW active frequency: 1000 MHz
CPU 0 active residency:  25.00% (600 MHz:  10% 1000 MHz:  15%)

CPU Power: 100 mW
GPU Power: 20 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 120 mW

*** Sampled system activity (Mon Jan  1 00:00:01 2035 +0000) (1500.00ms elapsed) ***

**** Processor usage ****

CPU Power: 500 mW
GPU Power: 20 mW
ANE Power: 1.6 W
Combined Power (CPU + GPU + ANE): 2120 mW
";

    #[test]
    fn samples_count_by_how_long_they_took() {
        let power = parse(TEXT).unwrap();
        let expected = Power { milliseconds: 2000.0, cpu: 400.0, gpu: 20.0, engine: 1200.0 };
        assert_eq!(power, expected);
    }

    #[test]
    fn samples_that_are_not_whole_do_not_count() {
        let whole = parse(TEXT).unwrap();
        // Cut off within the second sample, as where the program was ended.
        let cut = parse(&TEXT[..TEXT.rfind("ANE Power").unwrap()]).unwrap();
        assert_eq!((cut.milliseconds, cut.engine), (500.0, 0.0));
        let without_time = TEXT.replacen("(500.00ms elapsed)", "", 1);
        assert_eq!(parse(&without_time).unwrap().milliseconds, 1500.0);
        let other_unit = TEXT.replace("100 mW", "100 dBm");
        assert!(parse(&other_unit).unwrap().cpu > whole.cpu);
    }

    #[test]
    fn other_text_has_no_power() {
        for text in ["", "powermetrics must be invoked as the superuser", "CPU Power: 1 mW\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_run_costs_what_the_engine_takes_more() {
        let power = |engine| Power { milliseconds: 2e3, cpu: 1.0, gpu: 1.0, engine };
        let seen = report("?", power(10.0), power(510.0), 1000.0);
        assert!(seen.answer.starts_with("500 mW more than in 2.0 s"), "{}", seen.answer);
        assert!(seen.figures.contains(&("ane_uj_per_run".to_owned(), 500.0)));
    }

    #[test]
    #[cfg(unix)]
    fn a_refusal_says_what_to_type() {
        use std::os::unix::process::ExitStatusExt as _;
        let output = Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: Vec::new(),
            stderr: b"sudo: a password is required\n".to_vec(),
        };
        let text = refusal(&output);
        assert!(text.contains("a password is required. As an administrator type: sudo orion"));
    }
}
