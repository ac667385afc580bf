use crate::{Bindings, Error, Layout, NumericEvents, RunFigures, Signature, StepInfo, Surface};
use orion_mil::{Program, Weights};

/// Something that runs programs.
pub trait Device: Send + Sync {
    /// The name it is chosen by, such as `cpu:reference`.
    fn name(&self) -> &str;

    /// One line for a person: what it is and what it uses.
    fn description(&self) -> String;

    /// Compiles the program's main function. `weights` hold what its `BLOBFILE` values name;
    /// programs compiled with the same weights share packed copies of them.
    ///
    /// # Errors
    /// Everything in the program that this device cannot run, and every weight that is missing.
    fn compile(&self, program: &Program, weights: &Weights) -> Result<Box<dyn Executable>, Error>;

    /// A zeroed surface that programs of this device read and write without copies, where it has
    /// memory for that and the layout permits it; one in the host's own memory otherwise.
    ///
    /// # Errors
    /// When the device's system gives no memory.
    fn surface(&self, layout: &Layout) -> Result<Surface, Error> {
        Ok(Surface::zeros(layout.clone()))
    }
}

/// A compiled program.
pub trait Executable: Send {
    /// The surfaces it wants.
    fn signature(&self) -> &Signature;

    /// Runs once. Outputs and updates are complete when it returns.
    ///
    /// # Errors
    /// When bindings do not fit the signature, or an index computed by the program is out of
    /// range; updated surfaces may then hold anything.
    fn run(&mut self, bindings: &mut Bindings<'_>) -> Result<(), Error>;

    /// Takes new values for the constants that live in weight files.
    ///
    /// # Errors
    /// When a weight is missing or of another type; nothing is changed then.
    fn update_weights(&mut self, weights: &Weights) -> Result<(), Error>;

    /// What will be executed, for a person: steps, fusions, memory.
    fn explain(&self) -> String;

    /// Runs once, and says of each operation what the device did to numbers, where it watches that.
    /// May take much longer than [`Executable::run`].
    ///
    /// # Errors
    /// Those of [`Executable::run`].
    fn run_reported(&mut self, bindings: &mut Bindings<'_>) -> Result<String, Error> {
        self.run(bindings)?;
        Ok(self.explain())
    }

    /// The steps of a run, in order. None where the device does not say.
    fn steps(&self) -> Vec<StepInfo> {
        Vec::new()
    }

    /// What the last run did to numbers. Nothing where the device does not say.
    fn numeric_events(&self) -> NumericEvents {
        NumericEvents::default()
    }

    /// What the last run took of the device. Nothing where the device is the host.
    fn run_figures(&self) -> RunFigures {
        RunFigures::default()
    }

    /// Runs once, and replaces the content of `seconds` by the time each step took.
    ///
    /// # Errors
    /// Those of [`Executable::run`].
    fn run_timed(
        &mut self,
        bindings: &mut Bindings<'_>,
        seconds: &mut Vec<f64>,
    ) -> Result<(), Error> {
        seconds.clear();
        self.run(bindings)
    }
}
