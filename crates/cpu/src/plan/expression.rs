//! Builds tile programs from views and operations.

use super::view::{View, collapse};
use crate::kernels::instruction::{Action, Instruction};
use crate::kernels::tile::{Access, TileProgram};
use orion_mil::op::{Binary, Unary};
use orion_tensor::DType;

/// A value of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Input(usize),
    Number(u32),
    Result(usize),
}

/// An elementwise computation over an iteration space, operand by operand.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) shape: Vec<usize>,
    /// Broadcast to `shape`.
    pub(super) inputs: Vec<View>,
    numbers: Vec<u32>,
    pub(super) instructions: Vec<(Action, Vec<Operand>)>,
}

impl Expression {
    pub(super) fn over(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..Self::default() }
    }

    /// A tensor, broadcast to the iteration space.
    pub(super) fn input(&mut self, view: &View) -> Operand {
        let view = view.broadcast(&self.shape);
        let known = self.inputs.iter().position(|v| *v == view);
        Operand::Input(known.unwrap_or_else(|| {
            self.inputs.push(view);
            self.inputs.len() - 1
        }))
    }

    pub(super) fn number(&mut self, v: f32) -> Operand {
        self.bits(v.to_bits())
    }

    /// A number given by the bits of its lane.
    pub(super) fn bits(&mut self, bits: u32) -> Operand {
        if !self.numbers.contains(&bits) {
            self.numbers.push(bits);
        }
        Operand::Number(bits)
    }

    /// The result of an instruction; the same one for the same instruction.
    pub(super) fn push(&mut self, action: Action, operands: &[Operand]) -> Operand {
        if let Action::Unary(Unary::Silu) = action {
            // The gate by itself is wanted backwards as well.
            let gate = self.push(Action::Unary(Unary::Sigmoid), operands);
            return self.push(Action::Binary(Binary::Mul), &[operands[0], gate]);
        }
        let known = self.instructions.iter().position(|(a, o)| *a == action && o == operands);
        if let Some(known) = known {
            return Operand::Result(known);
        }
        self.instructions.push((action, operands.to_vec()));
        Operand::Result(self.instructions.len() - 1)
    }

    /// Takes the square off a value that is one and nothing else's operand; says whether it was.
    pub(super) fn take_square(&mut self, value: &mut Operand) -> bool {
        let last = self.instructions.len().checked_sub(1).map(Operand::Result);
        match self.instructions.last() {
            Some((Action::Unary(Unary::Square), operands)) if last == Some(*value) => {
                *value = operands[0];
                self.instructions.pop();
                true
            }
            _ => false,
        }
    }

    pub(super) fn unary(&mut self, kind: Unary, x: Operand) -> Operand {
        self.push(Action::Unary(kind), &[x])
    }

    pub(super) fn binary(&mut self, kind: Binary, x: Operand, y: Operand) -> Operand {
        self.push(Action::Binary(kind), &[x, y])
    }

    /// Rounds a lane of f32 to what a narrower float type can hold.
    pub(super) fn rounded(&mut self, x: Operand, dtype: DType) -> Operand {
        match dtype {
            DType::F16 => self.push(Action::RoundF16, &[x]),
            DType::BF16 => self.push(Action::RoundBf16, &[x]),
            _ => x,
        }
    }

    fn register(&self, operand: Operand) -> usize {
        let numbers = self.inputs.len();
        match operand {
            Operand::Input(i) => i,
            Operand::Number(bits) => {
                let at = self.numbers.iter().position(|&b| b == bits);
                numbers + at.expect("numbers are entered when they are made")
            }
            Operand::Result(i) => numbers + self.numbers.len() + i,
        }
    }

    /// The program that stores each operand into its view, which has the iteration space's shape.
    pub(super) fn into_map(self, outputs: &[(Operand, View)]) -> TileProgram {
        let views: Vec<&View> = self.inputs.iter().chain(outputs.iter().map(|(_, v)| v)).collect();
        let strides: Vec<Vec<isize>> = views.iter().map(|v| v.strides.clone()).collect();
        let (mut outer, mut strides) = collapse(&self.shape, &strides);
        let inner = outer.pop().expect("at least one axis");
        let inner_strides: Vec<isize> =
            strides.iter_mut().map(|s| s.pop().expect("at least one axis")).collect();
        let accesses: Vec<Access> = views
            .iter()
            .zip(strides)
            .zip(inner_strides)
            .map(|((view, strides), inner)| access(view, &outer, strides, inner))
            .collect();
        let registers: Vec<usize> = outputs.iter().map(|(o, _)| self.register(*o)).collect();
        let mut program = self.program(outer, inner);
        program.inputs = accesses[..program.inputs.len()].to_vec();
        let stored = accesses[program.inputs.len()..].iter().cloned();
        program.outputs = registers.into_iter().zip(stored).collect();
        program.finish(&[]);
        program
    }

    /// The program that leaves one operand in a register, over given axes: `axes` lists, outermost
    /// first, groups of axes of the iteration space that may be merged only within themselves.
    /// The last group becomes the innermost axis, or, where its axes do not merge, ends with it.
    /// Returns the program, the register, and the collapsed sizes of every group.
    pub(super) fn into_value(
        self,
        operand: Operand,
        axes: &[Vec<usize>],
    ) -> (TileProgram, usize, Vec<Vec<usize>>) {
        let mut outer = Vec::new();
        let mut strides: Vec<Vec<isize>> = vec![Vec::new(); self.inputs.len()];
        let mut groups = Vec::new();
        for group in axes {
            let sizes: Vec<usize> = group.iter().map(|&a| self.shape[a]).collect();
            let of = |v: &View| group.iter().map(|&a| v.strides[a]).collect::<Vec<_>>();
            let given: Vec<Vec<isize>> = self.inputs.iter().map(of).collect();
            let (sizes, merged) = collapse(&sizes, &given);
            outer.extend(&sizes);
            for (all, merged) in strides.iter_mut().zip(merged) {
                all.extend(merged);
            }
            groups.push(sizes);
        }
        let inner = outer.pop().expect("at least one group");
        let accesses: Vec<Access> = self
            .inputs
            .iter()
            .zip(strides)
            .map(|(view, mut s)| {
                let inner = s.pop().expect("at least one group");
                access(view, &outer, s, inner)
            })
            .collect();
        let register = self.register(operand);
        let mut program = self.program(outer, inner);
        program.inputs = accesses;
        program.finish(&[register]);
        (program, register, groups)
    }

    /// The program that stores each operand into its view and leaves `kept` in registers, over
    /// two groups of axes: rows, and columns that lie side by side. Returns the registers too.
    pub(super) fn into_bands(
        self,
        [rows, columns]: &[Vec<usize>; 2],
        outputs: &[(Operand, View)],
        kept: &[Operand],
    ) -> (TileProgram, Vec<usize>) {
        let views: Vec<&View> = self.inputs.iter().chain(outputs.iter().map(|(_, v)| v)).collect();
        let merged = |axes: &[usize]| {
            let sizes: Vec<usize> = axes.iter().map(|&a| self.shape[a]).collect();
            let of = |v: &&View| axes.iter().map(|&a| v.strides[a]).collect::<Vec<_>>();
            collapse(&sizes, &views.iter().map(of).collect::<Vec<_>>())
        };
        let (outer, strides) = merged(rows);
        let (inner, inner_strides) = merged(columns);
        assert_eq!(inner.len(), 1, "reductions over columns that lie apart are steps of their own");
        let accesses: Vec<Access> = views
            .iter()
            .zip(strides.into_iter().zip(&inner_strides))
            .map(|(view, (strides, inner))| access(view, &outer, strides, inner[0]))
            .collect();
        let register = |o: &Operand| self.register(*o);
        let stored: Vec<usize> = outputs.iter().map(|(o, _)| register(o)).collect();
        let kept: Vec<usize> = kept.iter().map(register).collect();
        let mut program = self.program(outer, inner[0]);
        let count = program.inputs.len();
        program.inputs = accesses[..count].to_vec();
        program.outputs = stored.into_iter().zip(accesses[count..].iter().cloned()).collect();
        program.finish(&kept);
        (program, kept)
    }

    /// Everything but the accesses.
    fn program(self, outer: Vec<usize>, inner: usize) -> TileProgram {
        let instructions = self.instructions.iter().map(|(action, operands)| {
            let registers: Vec<usize> = operands.iter().map(|&o| self.register(o)).collect();
            Instruction::new(*action, &registers)
        });
        let instructions = instructions.collect();
        let placeholder = |v: &View| access(v, &[], Vec::new(), 1);
        TileProgram {
            outer,
            inner,
            inputs: self.inputs.iter().map(placeholder).collect(),
            numbers: self.numbers,
            instructions,
            ..TileProgram::default()
        }
    }
}

fn access(view: &View, sizes: &[usize], outer: Vec<isize>, inner: isize) -> Access {
    let runs_on = |i: usize| outer[i] == outer[i + 1] * sizes[i + 1] as isize;
    let row = match outer.last() {
        None => Some(0),
        Some(&last) => (0..outer.len() - 1).all(runs_on).then_some(last),
    };
    Access { buffer: view.buffer, dtype: view.dtype, offset: view.offset, outer, inner, row }
}
