//! Reads an operation's arguments by name, as values or as constants.

use super::{Constants, Refusal};
use crate::{Argument, Binding, Data, Function, Operation, TensorType, Value, ValueId};
use orion_tensor::DType;

/// The arguments of one operation. What was never asked for is an unknown argument.
pub(super) struct Arguments<'a> {
    function: &'a Function,
    constants: &'a Constants<'a>,
    operation: &'a Operation,
    asked: Vec<&'static str>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(
        function: &'a Function,
        constants: &'a Constants<'a>,
        operation: &'a Operation,
    ) -> Self {
        Self { function, constants, operation, asked: Vec::new() }
    }

    /// Refuses arguments that nothing asked for.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let unknown = self.operation.inputs.keys().find(|k| !self.asked.contains(&k.as_str()));
        match unknown {
            Some(name) => Err(Refusal::invalid(format!(
                "unknown argument `{name}`: `{}` takes {}",
                self.operation.name,
                self.asked.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
            ))),
            None => Ok(()),
        }
    }

    fn argument(&mut self, name: &'static str) -> Option<&'a Argument> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.operation.inputs.get(name)
    }

    fn one(&mut self, name: &'static str) -> Result<Option<&'a Binding>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::One(binding)) => Ok(Some(binding)),
            Some(Argument::Many(_)) => {
                Err(Refusal::invalid(format!("argument `{name}` must be one value, not several")))
            }
        }
    }

    /// A tensor operand that may be left out.
    pub(super) fn optional_value(
        &mut self,
        name: &'static str,
    ) -> Result<Option<ValueId>, Refusal> {
        match self.one(name)? {
            None => Ok(None),
            Some(Binding::Value(id)) => Ok(Some(*id)),
            Some(Binding::Literal(_)) => Err(literal(name)),
        }
    }

    /// The value bound to an argument that may be a parameter as well; `None` for a literal.
    pub(super) fn optional_value_or_literal(
        &mut self,
        name: &'static str,
    ) -> Result<Option<ValueId>, Refusal> {
        Ok(self.one(name)?.and_then(Binding::value))
    }

    /// A tensor operand.
    pub(super) fn value(&mut self, name: &'static str) -> Result<ValueId, Refusal> {
        self.optional_value(name)?.ok_or_else(|| missing(name))
    }

    /// Several tensor operands.
    pub(super) fn values(&mut self, name: &'static str) -> Result<Vec<ValueId>, Refusal> {
        let argument = self.argument(name).ok_or_else(|| missing(name))?;
        let ids = argument.bindings().iter().map(|b| b.value().ok_or_else(|| literal(name)));
        ids.collect()
    }

    /// The type of a tensor operand.
    pub(super) fn tensor(&self, name: &str, id: ValueId) -> Result<&'a TensorType, Refusal> {
        let ty = self.function.ty(id);
        ty.as_tensor()
            .ok_or_else(|| Refusal::invalid(format!("{name} must be a tensor, it is {ty}")))
    }

    /// The shape of a tensor operand.
    pub(super) fn shape(&self, name: &str, id: ValueId) -> Result<Vec<usize>, Refusal> {
        let t = self.tensor(name, id)?;
        t.shape().ok_or_else(|| {
            let ty = self.function.ty(id);
            Refusal::later(format!("the shape of {name} is not known, it is {ty}"))
        })
    }

    /// The constant a value is, if it is one.
    pub(super) fn constant_of(&self, id: ValueId) -> Option<&'a Value> {
        self.constants.get(id)
    }

    /// A number made of the name of the operation's first output.
    pub(super) fn name_as_number(&self) -> u64 {
        let name = self.operation.outputs.first().map_or("", |&v| self.function.value_name(v));
        // FNV-1a.
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// How many outputs the operation has.
    pub(super) fn output_count(&self) -> usize {
        self.operation.outputs.len()
    }

    /// A parameter, if it is given.
    pub(super) fn constant(&mut self, name: &'static str) -> Result<Option<&'a Value>, Refusal> {
        let value = match self.one(name)? {
            None => return Ok(None),
            Some(Binding::Literal(value)) => value,
            Some(Binding::Value(id)) => self.constants.get(*id).ok_or_else(|| {
                Refusal::later(format!(
                    "argument `{name}` must be constant, it is the computed value `{}`",
                    self.function.value_name(*id)
                ))
            })?,
        };
        if matches!(value.data, Data::Blob { .. }) {
            return Err(Refusal::unsupported(format!(
                "argument `{name}` must stand in the program, it is in a weight file"
            )));
        }
        Ok(Some(value))
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.constant(name)? else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            Refusal::invalid(format!("argument `{name}` must be {wanted}, it is {}", value.ty))
        })
    }

    pub(super) fn int(&mut self, name: &'static str) -> Result<Option<i64>, Refusal> {
        self.read(name, "an integer", Value::as_int)
    }

    pub(super) fn ints(&mut self, name: &'static str) -> Result<Option<Vec<i64>>, Refusal> {
        self.read(name, "an integer vector", Value::as_ints)
    }

    pub(super) fn bool(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        self.read(name, "a bool", Value::as_bool)
    }

    pub(super) fn bools(&mut self, name: &'static str) -> Result<Option<Vec<bool>>, Refusal> {
        self.read(name, "a bool vector", Value::as_bools)
    }

    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.constant(name)? else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| {
            Refusal::invalid(format!("argument `{name}` must be a string, it is {}", value.ty))
        })?;
        Ok(Some(text))
    }

    /// A float or integer parameter.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, Refusal> {
        self.read(name, "a number", Value::as_f64)
    }

    /// A number or bool with its element type.
    pub(super) fn typed_number(
        &mut self,
        name: &'static str,
    ) -> Result<Option<(DType, f64)>, Refusal> {
        self.read(name, "a number or a bool", |value| {
            let dtype = value.ty.as_tensor()?.dtype;
            let number = value.as_f64().or_else(|| value.as_bool().map(|b| f64::from(u8::from(b))));
            Some((dtype, number?))
        })
    }

    /// Sizes: integers not below zero.
    pub(super) fn sizes(&mut self, name: &'static str) -> Result<Option<Vec<usize>>, Refusal> {
        let Some(v) = self.ints(name)? else { return Ok(None) };
        let sizes = v.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
        sizes.map(Some).map_err(|_| {
            Refusal::invalid(format!("argument `{name}` must not hold negative numbers: {v:?}"))
        })
    }

    pub(super) fn size(&mut self, name: &'static str) -> Result<Option<usize>, Refusal> {
        let Some(v) = self.int(name)? else { return Ok(None) };
        let size = usize::try_from(v).map_err(|_| {
            Refusal::invalid(format!("argument `{name}` must not be negative: {v}"))
        })?;
        Ok(Some(size))
    }

    /// An axis of a tensor of `rank` axes; negative ones count from the end.
    pub(super) fn axis(
        &mut self,
        name: &'static str,
        rank: usize,
        default: i64,
    ) -> Result<usize, Refusal> {
        let axis = self.int(name)?.unwrap_or(default);
        normalise(name, axis, rank)
    }

    /// Axes of a tensor of `rank` axes, sorted.
    pub(super) fn axes(
        &mut self,
        name: &'static str,
        rank: usize,
    ) -> Result<Option<Vec<usize>>, Refusal> {
        let Some(axes) = self.ints(name)? else { return Ok(None) };
        let mut axes =
            axes.into_iter().map(|a| normalise(name, a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        match axes.windows(2).find(|w| w[0] == w[1]) {
            Some(w) => {
                Err(Refusal::invalid(format!("argument `{name}` names axis {} twice", w[0])))
            }
            None => Ok(Some(axes)),
        }
    }
}

pub(super) fn missing(name: &str) -> Refusal {
    Refusal::invalid(format!("missing argument `{name}`"))
}

fn literal(name: &str) -> Refusal {
    Refusal::invalid(format!(
        "argument `{name}` is an inline literal (hint: `hoist_literals` makes it a const)"
    ))
}

fn normalise(name: &str, axis: i64, rank: usize) -> Result<usize, Refusal> {
    let signed_rank = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_start = if axis < 0 { axis.saturating_add(signed_rank) } else { axis };
    usize::try_from(from_start).ok().filter(|&a| a < rank).ok_or_else(|| {
        Refusal::invalid(format!("argument `{name}`: axis {axis} is outside of {rank} axes"))
    })
}
