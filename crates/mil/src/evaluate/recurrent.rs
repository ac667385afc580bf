//! Recurrent layers, one step after another, states in f64.

use crate::op::{Activation, Cell, CellWeights, Recurrent};
use orion_tensor::Tensor;

/// y, the last hidden states and, for an LSTM, the last cell states.
pub(super) fn recurrent(op: &Recurrent, operands: &[Tensor]) -> Vec<Vec<f64>> {
    let mut next = operands.iter();
    let mut take = || next.next().expect("an operand each");
    let (x, initial_h) = (take(), take());
    let initial_c = op.initial_c.map(|_| take().to_f64_vec());
    let mut directions = vec![Direction::of(&op.weights, &mut take)];
    directions.extend(op.back.as_ref().map(|w| Direction::of(w, &mut take)));

    let &[steps, batch, inputs] = x.shape() else { unreachable!("x is [S, B, I]") };
    let width = initial_h.shape()[1];
    let size = width / directions.len();
    let (x, initial_h) = (x.to_f64_vec(), initial_h.to_f64_vec());
    let given_out = if op.output_sequence { steps } else { 1 };
    let mut y = vec![0.0; given_out * batch * width];
    let (mut last_h, mut last_c) = (initial_h.clone(), initial_c.clone().unwrap_or_default());
    for (d, direction) in directions.iter().enumerate() {
        let backwards = d == 1 || op.reverse;
        for b in 0..batch {
            let own = b * width + d * size..b * width + (d + 1) * size;
            let mut h = initial_h[own.clone()].to_vec();
            let mut c = initial_c.as_ref().map_or(vec![], |c| c[own.clone()].to_vec());
            for i in 0..steps {
                let step = if backwards { steps - 1 - i } else { i };
                let input = &x[(step * batch + b) * inputs..][..inputs];
                advance(op, direction, input, &mut h, &mut c);
                let place = if op.output_sequence { step } else { 0 };
                y[place * batch * width..][own.clone()].copy_from_slice(&h);
            }
            last_h[own.clone()].copy_from_slice(&h);
            if !c.is_empty() {
                last_c[own].copy_from_slice(&c);
            }
        }
    }
    let mut outputs = vec![y, last_h];
    if op.cell == Cell::Lstm {
        outputs.push(last_c);
    }
    outputs
}

struct Direction {
    input: Vec<f64>,
    hidden: Vec<f64>,
    bias: Option<Vec<f64>>,
    input_bias: Option<Vec<f64>>,
    peephole: Option<Vec<f64>>,
}

impl Direction {
    fn of<'a>(weights: &CellWeights, take: &mut impl FnMut() -> &'a Tensor) -> Self {
        Self {
            input: take().to_f64_vec(),
            hidden: take().to_f64_vec(),
            bias: weights.bias.map(|_| take().to_f64_vec()),
            input_bias: weights.input_bias.map(|_| take().to_f64_vec()),
            peephole: weights.peephole.map(|_| take().to_f64_vec()),
        }
    }

    /// `W x` for one row, with the bias of the inputs.
    fn of_input(&self, row: usize, x: &[f64]) -> f64 {
        dot(&self.input, row, x) + at(&self.input_bias, row)
    }

    /// `U h` for one row, with the bias.
    fn of_hidden(&self, row: usize, h: &[f64]) -> f64 {
        dot(&self.hidden, row, h) + at(&self.bias, row)
    }
}

fn dot(matrix: &[f64], row: usize, v: &[f64]) -> f64 {
    matrix[row * v.len()..][..v.len()].iter().zip(v).map(|(a, b)| a * b).sum()
}

fn at(values: &Option<Vec<f64>>, i: usize) -> f64 {
    values.as_ref().map_or(0.0, |v| v[i])
}

fn advance(op: &Recurrent, w: &Direction, x: &[f64], h: &mut Vec<f64>, c: &mut Vec<f64>) {
    let n = h.len();
    let both = |row: usize, h: &[f64]| w.of_input(row, x) + w.of_hidden(row, h);
    let gate = |v: f64| activate(op.gate_activation, v);
    match op.cell {
        Cell::Lstm => {
            let sees = |g: usize, k: usize, c: f64| at(&w.peephole, g * n + k) * c;
            let (mut next_h, mut next_c) = (Vec::new(), Vec::new());
            for (k, &before) in c.iter().enumerate() {
                let i = gate(both(k, h) + sees(0, k, before));
                let f = gate(both(n + k, h) + sees(1, k, before));
                let g = activate(op.cell_activation, both(3 * n + k, h));
                let cell = f * before + i * g;
                let o = gate(both(2 * n + k, h) + sees(2, k, cell));
                next_c.push(cell);
                next_h.push(o * activate(op.activation, cell));
            }
            (*h, *c) = (next_h, next_c);
        }
        Cell::Gru { reset_after } => {
            let r: Vec<f64> = (0..n).map(|k| gate(both(k, h))).collect();
            let reset: Vec<f64> = r.iter().zip(&*h).map(|(r, h)| r * h).collect();
            let next = (0..n).map(|k| {
                let z = gate(both(2 * n + k, h));
                let row = n + k;
                let candidate = if reset_after {
                    w.of_input(row, x) + r[k] * w.of_hidden(row, h)
                } else {
                    both(row, &reset)
                };
                (1.0 - z) * activate(op.activation, candidate) + z * h[k]
            });
            let next: Vec<f64> = next.collect();
            *h = next;
        }
        Cell::Rnn => {
            let next: Vec<f64> = (0..n).map(|k| activate(op.activation, both(k, h))).collect();
            *h = next;
        }
    }
}

fn activate(activation: Activation, v: f64) -> f64 {
    match activation {
        Activation::Sigmoid => 1.0 / (1.0 + libm::exp(-v)),
        Activation::Tanh => libm::tanh(v),
        Activation::Relu => super::numbers::larger(v, 0.0),
        Activation::Linear => v,
    }
}
