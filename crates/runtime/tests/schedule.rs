//! Lanes run at the same time, wait for what they read, and end together when one fails.

use orion_mil::Weights;
use orion_runtime::{
    Action, Bindings, Bound, Error, ErrorKind, Executable, Lane, Layout, Port, PortKind, Schedule,
    Signature, Surface, Task,
};
use orion_tensor::DType;
use std::sync::{Arc, Barrier};

/// Writes the sum of its inputs plus a number; may meet others on the way, or fail.
struct Sum {
    signature: Signature,
    number: f32,
    meeting: Option<Arc<Barrier>>,
    fails: bool,
}

fn sum(inputs: usize, number: f32) -> Sum {
    let layout = Layout::dense(DType::F32, &[1]);
    let port = |name: String, kind| Port { name, kind, layout: layout.clone() };
    let mut ports: Vec<Port> =
        (0..inputs).map(|i| port(format!("in{i}"), PortKind::Input)).collect();
    ports.push(port("out".into(), PortKind::Output));
    Sum { signature: Signature { ports }, number, meeting: None, fails: false }
}

impl Executable for Sum {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error> {
        if let Some(meeting) = &self.meeting {
            meeting.wait();
        }
        if self.fails {
            return Err(Error::new(ErrorKind::Execution, "test", "it failed"));
        }
        let bound = bindings.in_order(&self.signature, "test")?;
        let mut total = self.number;
        for one in bound {
            match one {
                Bound::Read(surface) => total += surface.elements::<f32>()[0],
                Bound::Write(surface) => surface.elements_mut::<f32>()[0] = total,
            }
        }
        Ok(())
    }

    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        let (_, tensors) = weights.files().next().expect("a file");
        self.number = tensors[&64].to_f32_vec()[0];
        Ok(())
    }

    fn explain(&self) -> String {
        String::new()
    }
}

fn task(lane: usize, executable: usize, inputs: &[usize], output: usize) -> Task {
    let mut ports: Vec<(String, usize)> =
        inputs.iter().enumerate().map(|(i, &s)| (format!("in{i}"), s)).collect();
    ports.push(("out".into(), output));
    Task { name: format!("{lane}.{executable}"), lane, executable, action: Action::Run(ports) }
}

fn lane(executables: Vec<Sum>) -> Lane {
    let boxed = executables.into_iter().map(|e| Box::new(e) as Box<dyn Executable>);
    Lane { executables: boxed.collect() }
}

fn surfaces(numbers: &[f32]) -> Vec<Surface> {
    numbers.iter().map(|&n| Surface::from_slice(&[1], &[n])).collect()
}

fn run(tasks: Vec<Task>, lanes: &mut [Lane], memory: &mut [Surface]) -> Result<Schedule, Error> {
    let schedule = Schedule::new(tasks, lanes);
    schedule.run(lanes, memory.iter_mut().map(Bound::Write).collect())?;
    Ok(schedule)
}

fn numbers(memory: &[Surface]) -> Vec<f32> {
    memory.iter().map(|s| s.elements::<f32>()[0]).collect()
}

#[test]
fn results_are_those_of_the_order_given() {
    // Surface 1 is written, read by the other lane, and written again.
    let tasks = vec![
        task(0, 0, &[0], 1),
        task(1, 0, &[1], 2),
        task(0, 1, &[0], 1),
        task(1, 0, &[1, 2].as_slice()[..1], 3),
        task(0, 0, &[3], 0),
    ];
    let mut lanes = [lane(vec![sum(1, 10.0), sum(1, 20.0)]), lane(vec![sum(1, 100.0)])];
    let mut memory = surfaces(&[1.0, 0.0, 0.0, 0.0]);
    for _ in 0..50 {
        memory = surfaces(&[1.0, 0.0, 0.0, 0.0]);
        let schedule = run(tasks.clone(), &mut lanes, &mut memory).unwrap();
        assert_eq!(schedule.waits(1), [0]);
        assert_eq!(schedule.waits(2), [1]);
    }
    assert_eq!(numbers(&memory), [131.0, 21.0, 111.0, 121.0]);
}

/// Both tasks wait for the other to begin: in one lane, or one behind the other, they never end.
#[test]
fn tasks_that_do_not_wait_for_each_other_run_at_the_same_time() {
    let meeting = Arc::new(Barrier::new(2));
    let both = || Sum { meeting: Some(meeting.clone()), ..sum(1, 1.0) };
    let mut lanes = [lane(vec![both()]), lane(vec![both()])];
    let mut memory = surfaces(&[5.0, 0.0, 0.0]);
    run(vec![task(0, 0, &[0], 1), task(1, 0, &[0], 2)], &mut lanes, &mut memory).unwrap();
    assert_eq!(numbers(&memory), [5.0, 6.0, 6.0]);
}

#[test]
fn a_failure_on_either_side_ends_both() {
    for failing in [0, 1] {
        let mut lanes = [lane(vec![sum(1, 1.0)]), lane(vec![sum(1, 1.0)])];
        lanes[failing] = lane(vec![Sum { fails: true, ..sum(1, 1.0) }]);
        let tasks = vec![
            task(failing, 0, &[0], 1),
            task(1 - failing, 0, &[1], 2),
            task(failing, 0, &[2], 3),
        ];
        let mut memory = surfaces(&[5.0, 0.0, 0.0, 0.0]);
        let error = run(tasks, &mut lanes, &mut memory).unwrap_err();
        assert!(error.to_string().contains("it failed"), "{error}");
        assert_eq!(numbers(&memory)[2..], [0.0, 0.0], "what waits for it does not run");
    }
}

#[test]
fn constants_come_from_surfaces() {
    let mut lanes = [lane(vec![sum(1, 1.0)]), lane(vec![sum(1, 1.0)])];
    let update = Task {
        name: "new weights".into(),
        lane: 1,
        executable: 0,
        action: Action::UpdateWeights(vec![(64, 1)]),
    };
    let mut memory = surfaces(&[5.0, 0.0, 0.0]);
    run(vec![task(0, 0, &[0], 1), update, task(1, 0, &[0], 2)], &mut lanes, &mut memory).unwrap();
    assert_eq!(numbers(&memory), [5.0, 6.0, 11.0]);
}

#[test]
fn what_is_only_to_be_read_is_not_written() {
    let mut lanes = [lane(vec![sum(1, 1.0)])];
    let schedule = Schedule::new(vec![task(0, 0, &[0], 1)], &lanes);
    let memory = surfaces(&[5.0, 0.0]);
    let error = schedule.run(&mut lanes, memory.iter().map(Bound::Read).collect()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Binding);
}
