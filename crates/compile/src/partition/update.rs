//! The optimizer in pieces beside a gradient function's parts: what is computed of a gradient as
//! soon as it is there, and parameters that are brought up to date when they are wanted next.

use super::{Access, Connection, Occasion, Part, PartSurface, Partition, Pass, Role, Unit, Work};
use crate::CompileError;
use crate::optimizer::{AdamWConfig, ParameterSpec, adamw_norm, adamw_squares, adamw_update};
use crate::pipeline::{PipelineOptions, optimize};
use orion_mil::{Builder, Function, Program, TensorType};
use orion_tensor::DType;

/// The parts of an optimizer. Those of a list are of different parameters, and together of all.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateParts {
    /// Parameters and moments get their next values.
    pub updates: Vec<Attached>,
    /// Gradients become zeros.
    pub clears: Vec<Attached>,
    /// Sums of squares of gradients.
    pub squares: Vec<Attached>,
    /// The norm of all gradients, and what they are to be multiplied by.
    pub norm: Part,
}

/// A host part that goes with another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    /// The name of the first part that reads the parameters, before which an update comes; or of
    /// the part that writes the gradients, before which they are cleared, and after which their
    /// squares are summed.
    pub to: String,
    /// What is to be done.
    pub part: Part,
}

/// The inputs of shape `[1]` of an update that come from outside.
const RATES: [&str; 3] = ["learning_rate", "beta1_correction", "beta2_correction"];

impl Partition {
    /// Adds AdamW over the parameters of a gradient function that was cut: the programs
    /// [`adamw_squares`], [`adamw_norm`] and [`adamw_update`], which give the same bits as
    /// [`adamw`](crate::optimizer::adamw). Inputs of that are surfaces of their names here, as are
    /// `gradient_norm` and `gradient_factor`.
    ///
    /// # Errors
    /// Those of [`optimize`].
    ///
    /// # Panics
    /// When a parameter is none of the function, or has no gradient in it.
    pub fn with_update(
        mut self,
        parameters: &[ParameterSpec],
        config: &AdamWConfig,
    ) -> Result<Self, CompileError> {
        let mut number = |name: &str, role| self.add_surface(name, &[1], role);
        let rates = RATES.map(|name| (name, number(name, Role::Input)));
        let scale = number("gradient_scale", Role::Input);
        let norm = number("gradient_norm", Role::Inner);
        let factor = number("gradient_factor", Role::Inner);

        let (mut squares, mut clears) = (Vec::new(), Vec::new());
        let mut sums = vec![0; parameters.len()];
        for (to, members) in self.grouped(parameters, |this, spec| this.writer_of(&spec.name)) {
            let own = positional(parameters, &members);
            let (mut of_squares, mut of_clears) = (Vec::new(), Vec::new());
            for (&p, own) in members.iter().zip(&own) {
                let name = &parameters[p].name;
                let gradient = self.gradient(name);
                sums[p] = self.add_surface(&format!("{name}_square"), &[1], Role::Inner);
                of_squares.push(connection(&format!("{}_grad", own.name), gradient, Access::Read));
                of_squares.push(connection(
                    &format!("{}_square", own.name),
                    sums[p],
                    Access::Write,
                ));
                of_clears.push(connection(&format!("{}_grad", own.name), gradient, Access::Write));
            }
            let part = self.host_part(
                format!("norm of {to}"),
                optimized(adamw_squares(&own))?,
                of_squares,
            );
            squares.push(Attached { to: to.clone(), part });
            let zeros = Program::with_function(zeros(&own));
            let part = self.host_part(format!("zeros for {to}"), zeros, of_clears);
            clears.push(Attached { to, part });
        }

        let own = positional(parameters, &(0..parameters.len()).collect::<Vec<_>>());
        let mut ports: Vec<Connection> = own
            .iter()
            .zip(sums)
            .map(|(own, sum)| connection(&format!("{}_square", own.name), sum, Access::Read))
            .collect();
        ports.push(connection("gradient_scale", scale, Access::Read));
        ports.push(connection("gradient_norm", norm, Access::Write));
        ports.push(connection("gradient_factor", factor, Access::Write));
        let norm_part =
            self.host_part("norm".to_owned(), optimized(adamw_norm(&own, config))?, ports);

        let mut updates = Vec::new();
        for (to, members) in self.grouped(parameters, |this, spec| this.reader_of(&spec.name)) {
            let own = positional(parameters, &members);
            let mut ports: Vec<Connection> =
                rates.iter().map(|&(name, s)| connection(name, s, Access::Read)).collect();
            ports.push(connection("gradient_norm", norm, Access::Read));
            ports.push(connection("gradient_factor", factor, Access::Read));
            for (&p, own) in members.iter().zip(&own) {
                let ParameterSpec { name, shape, .. } = &parameters[p];
                let mut port = |suffix: &str, surface, access| {
                    ports.push(connection(&format!("{}{suffix}", own.name), surface, access));
                };
                port("", self.input(name), Access::Update);
                port("_grad", self.gradient(name), Access::Read);
                for suffix in ["_m", "_v"] {
                    let moment = self.add_surface(&format!("{name}{suffix}"), shape, Role::Input);
                    port(suffix, moment, Access::Update);
                }
            }
            let name = format!("update for {}", to.strip_prefix("stage for ").unwrap_or(&to));
            let part = self.host_part(name, optimized(adamw_update(&own, config))?, ports);
            updates.push(Attached { to, part });
        }
        self.update = Some(UpdateParts { updates, clears, squares, norm: norm_part });
        Ok(self)
    }

    fn add_surface(&mut self, name: &str, shape: &[usize], role: Role) -> usize {
        let ty = TensorType::new(DType::F32, shape);
        self.surfaces.push(PartSurface { name: name.to_owned(), ty, role });
        self.surfaces.len() - 1
    }

    fn find(&self, name: &str, roles: &[Role]) -> usize {
        let found = self.surfaces.iter().position(|s| s.name == name && roles.contains(&s.role));
        found.unwrap_or_else(|| panic!("{name} is no surface of the parts"))
    }

    fn input(&self, name: &str) -> usize {
        self.find(name, &[Role::Input])
    }

    fn gradient(&self, name: &str) -> usize {
        self.find(&format!("{name}_grad"), &[Role::Input, Role::Result])
    }

    /// The part that writes a parameter's gradient.
    fn writer_of(&self, parameter: &str) -> String {
        let gradient = self.gradient(parameter);
        let writes = |c: &Connection| c.surface == gradient && c.access != Access::Read;
        let part = self.parts.iter().find(|p| p.ports.iter().any(writes));
        part.expect("a part writes each gradient").name.clone()
    }

    /// The first thing in a run with new parameters that reads one.
    fn reader_of(&self, parameter: &str) -> String {
        let input = self.input(parameter);
        let sequence = self.sequence(Occasion { new_parameters: true, ..Occasion::default() });
        let part = sequence.into_iter().find(|(work, part)| {
            let mut constants = part.constants.iter().map(|c| c.surface);
            *work != Work::Renew
                && (part.ports.iter().any(|c| c.surface == input)
                    || constants.any(|surface| surface == input))
        });
        part.expect("each parameter is read").1.name.clone()
    }

    /// Positions of parameters by the name that is found for each, in the order of a run.
    fn grouped(
        &self,
        parameters: &[ParameterSpec],
        name: impl Fn(&Self, &ParameterSpec) -> String,
    ) -> Vec<(String, Vec<usize>)> {
        let names: Vec<String> = parameters.iter().map(|spec| name(self, spec)).collect();
        let all = Occasion { new_parameters: true, ..Occasion::default() };
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for (_, part) in self.sequence(all) {
            let members: Vec<usize> = (0..names.len()).filter(|&p| names[p] == part.name).collect();
            if !members.is_empty() && groups.iter().all(|(name, _)| *name != part.name) {
                groups.push((part.name.clone(), members));
            }
        }
        groups
    }

    fn host_part(&mut self, name: String, program: Program, ports: Vec<Connection>) -> Part {
        let program = self.shared(program);
        Part { name, unit: Unit::Host, pass: Pass::Outside, program, ports, constants: Vec::new() }
    }
}

fn optimized(function: Function) -> Result<Program, CompileError> {
    optimize(&Program::with_function(function), &PipelineOptions::default(), &mut |_, _| {})
}

fn connection(port: &str, surface: usize, access: Access) -> Connection {
    Connection { port: port.to_owned(), surface, access }
}

/// Some of the parameters, called by their places, so that layers share programs.
fn positional(parameters: &[ParameterSpec], members: &[usize]) -> Vec<ParameterSpec> {
    let named = members.iter().enumerate().map(|(place, &p)| ParameterSpec {
        name: format!("parameter_{place:03}"),
        ..parameters[p].clone()
    });
    named.collect()
}

/// `{p}_grad` of each parameter: zeros.
fn zeros(parameters: &[ParameterSpec]) -> Function {
    let mut b = Builder::new("main");
    let results: Vec<_> = parameters
        .iter()
        .map(|spec| {
            let zeros = b.fill(DType::F32, &spec.shape, 0.0);
            b.rename(zeros, &format!("{}_grad", spec.name));
            zeros
        })
        .collect();
    b.finish(&results)
}
