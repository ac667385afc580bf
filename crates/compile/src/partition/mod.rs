//! Cuts one function into parts for two units: an accelerator that computes in layers, and the
//! host beside it. It does not differentiate, chooses no schedule, and runs nothing.
//!
//! It works on the function that autodiff made, whatever the network: values are of a layer when
//! their name begins with one of the scopes it is given, and of the layer's backward pass when
//! that stands behind autodiff's `d_`. Then:
//!
//! - layers go to the accelerator, forward and backward; what leads to a gradient of a parameter
//!   and nowhere else, by one product at most, what is outside the layers, and what counts or
//!   picks goes to the host;
//! - what depends on constants alone, such as masks, rotary angles and the weights under an
//!   adapter, is a *table*: the host computes it once, and the accelerator reads it as an input,
//!   or has it as a constant;
//! - a backward part takes the layer's input and what products with weights gave, and computes
//!   the rest of the forward pass again, because that is cheaper than handing it over;
//! - parts that are the same but for names are one program.
//!
//! Parts never wait for each other in a circle, so any order in which each comes after what it
//! reads is right.

mod attention;
mod body;
mod build;
mod columns;
mod cut;
mod groups;
mod half;
mod needs;
mod norms;
mod products;
mod timeline;
mod update;

pub use attention::attention;
pub use timeline::{Occasion, Planned, Work};
pub use update::{Attached, UpdateParts};

use crate::CompileError;
use orion_mil::{Function, Operation, Program, TensorType};
use orion_tensor::DType;

/// Which of the two runs a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// What computes the layers.
    Accelerator,
    /// What does the rest.
    Host,
}

/// Which pass over the layers a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// What a layer makes of its input.
    Forward,
    /// Gradients of a layer.
    Backward,
    /// Neither: what is before, behind or beside the layers.
    Outside,
}

/// How the accelerator's programs get parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
    /// As inputs. Layers of one shape share a program.
    Inputs,
    /// As constants of a weight file, a program of its own for each layer and direction.
    Constants,
    /// As the function has them, which names constants of a weight file at the same offsets. Where
    /// the accelerator computes in fp16 its programs say that they are fp16 there.
    AsGiven,
}

/// What to cut, and how.
#[derive(Clone, Copy)]
pub struct PartitionOptions<'a> {
    /// Scopes of the layers, such as `layer0`.
    pub layers: &'a [String],
    /// How many layers, one behind the other, go together as if they were one.
    pub together: usize,
    /// Columns that the last axis has of all that goes over the border, and how many it gets there:
    /// the accelerator's parts compute the more, and what is in those added is of no use.
    pub columns: Option<Columns>,
    /// The parameters: inputs that stay the same from one run to the next until they are trained.
    pub parameters: &'a [&'a str],
    /// What the accelerator computes in: `F16`, or `F32` to change nothing.
    pub numbers: DType,
    /// How it gets parameters.
    pub weights: WeightForm,
    /// How it gets tables: as constants where the weights under an adapter are among them.
    pub tables: WeightForm,
    /// Operations of layers that the accelerator does not take.
    pub on_host: &'a dyn Fn(&Function, &Operation) -> bool,
}

/// See [`PartitionOptions::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// In the function.
    pub given: usize,
    /// At the accelerator; not fewer.
    pub at_accelerator: usize,
}

/// What is in a surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An input of the function, and what the function writes over it.
    Input,
    /// A result of the function.
    Result,
    /// A parameter in the accelerator's numbers.
    Staged,
    /// What the host computes once.
    Table,
    /// What one part hands to others.
    Inner,
}

/// Memory that parts read and write.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSurface {
    /// The name of the value in the function.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// What is in it.
    pub role: Role,
}

/// How a part uses a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is written.
    Write,
    /// It is read and replaced.
    Update,
}

/// A surface at a port of a part's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The port's name.
    pub port: String,
    /// Position in [`Partition::surfaces`].
    pub surface: usize,
    /// How it is used.
    pub access: Access,
}

/// A parameter or a table that is a constant of a part's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartConstant {
    /// Where it lies in the program's weight file.
    pub offset: u64,
    /// Position in [`Partition::surfaces`] of what it holds.
    pub surface: usize,
}

/// One run of one program.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Such as `layer3 forward`.
    pub name: String,
    /// Where it runs.
    pub unit: Unit,
    /// Which pass it is of.
    pub pass: Pass,
    /// Position in [`Partition::programs`].
    pub program: usize,
    /// Every port of the program.
    pub ports: Vec<Connection>,
    /// What its weight file holds: parameters, or tables.
    pub constants: Vec<PartConstant>,
}

/// A function in parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// All memory.
    pub surfaces: Vec<PartSurface>,
    /// The distinct programs.
    pub programs: Vec<Program>,
    /// Host parts to be run once, before anything else.
    pub tables: Vec<Part>,
    /// Host parts to be run whenever parameters have changed, in the order in which their results
    /// are wanted.
    pub staging: Vec<Part>,
    /// The parts of one run, each after those it reads from.
    pub parts: Vec<Part>,
    /// The optimizer, where one was added.
    pub update: Option<UpdateParts>,
}

impl Partition {
    /// The position of a program, which is added unless the same is there.
    fn shared(&mut self, program: Program) -> usize {
        let known = self.programs.iter().position(|p| *p == program);
        known.unwrap_or_else(|| {
            self.programs.push(program);
            self.programs.len() - 1
        })
    }

    /// The distinct programs of a unit, tables, staging and the optimizer left out.
    pub fn programs_of(&self, unit: Unit) -> Vec<&Program> {
        let mut used: Vec<usize> =
            self.parts.iter().filter(|p| p.unit == unit).map(|p| p.program).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().map(|i| &self.programs[i]).collect()
    }
}

/// Cuts a function, of known shapes, into parts.
///
/// # Errors
/// - `InvalidProgram` when the function has operations without a meaning;
/// - `NotSupported` when a result would have to be computed by the accelerator, a result that
///   replaces an input is made elsewhere than the input is read, or columns are to be added to a
///   part that does not compute each for itself.
pub fn partition(
    function: &Function,
    options: &PartitionOptions<'_>,
) -> Result<Partition, CompileError> {
    let graph = groups::Graph::new(function, options)?;
    let draft = cut::cut(&graph);
    if let Some(columns) = options.columns {
        columns::check(&graph, columns)?;
    }
    let needs = needs::needs(&graph, &draft);
    build::build(&graph, &draft, &needs, options)
}
