use crate::{Error, ErrorKind, Layout};
use orion_mil::{Function, Type};

/// How a port is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// Read only.
    Input,
    /// Written only.
    Output,
    /// Read, then replaced: an input with an output in place of it, or a state.
    Update {
        /// The output that replaces the input; `None` for a state.
        output: Option<String>,
    },
}

/// One surface a program wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name to bind by: the input's for an update.
    pub name: String,
    /// How it is used.
    pub kind: PortKind,
    /// The memory it must have.
    pub layout: Layout,
}

/// Everything a program reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Parameters in order, then outputs that are not in place, in order.
    pub ports: Vec<Port>,
}

impl Signature {
    /// The dense signature of a function.
    ///
    /// # Errors
    /// When a parameter or result is not a tensor or state of known shape, a result is a
    /// parameter or returned twice, or an in-place pair does not name a result and a parameter of
    /// the same type.
    pub fn dense(function: &Function, device: &str) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidProgram, device, message);
        let layout = |id| {
            let (Type::Tensor(ty) | Type::State(ty)) = function.ty(id) else {
                return Err(invalid(format!(
                    "`{}` has type {}; only tensors can be bound",
                    function.value_name(id),
                    function.ty(id)
                )));
            };
            let shape = ty.shape().ok_or_else(|| {
                invalid(format!(
                    "the shape of `{}` is not known before running: {}",
                    function.value_name(id),
                    function.ty(id)
                ))
            })?;
            Ok(Layout::dense(ty.dtype, &shape))
        };
        let in_place = function.in_place();
        let mut ports = Vec::new();
        for param in &function.params {
            let name = function.value_name(param.value);
            let output = in_place.iter().find(|(_, input)| **input == name).map(|(o, _)| *o);
            let kind = match function.ty(param.value) {
                Type::State(_) => PortKind::Update { output: None },
                _ if output.is_some() => PortKind::Update { output: output.map(str::to_owned) },
                _ => PortKind::Input,
            };
            ports.push(Port { name: name.to_owned(), kind, layout: layout(param.value)? });
        }
        for &result in &function.body.results {
            let name = function.value_name(result);
            let Some(&input) = in_place.get(name) else {
                let layout = layout(result)?;
                if ports.iter().any(|p| p.name == name) {
                    return Err(invalid(format!(
                        "`{name}` is already bound; give the result a name of its own by `identity`"
                    )));
                }
                ports.push(Port { name: name.to_owned(), kind: PortKind::Output, layout });
                continue;
            };
            let port = ports.iter().find(|p| p.name == input);
            if port.map(|p| &p.layout) != Some(&layout(result)?) {
                return Err(invalid(format!(
                    "`{name}` is to replace `{input}` in place, but they are not of one type"
                )));
            }
        }
        Ok(Self { ports })
    }

    /// The port of that name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|p| p.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_mil::{Builder, TensorType};
    use orion_tensor::DType;

    fn names(
        results: impl Fn(&mut Builder) -> Vec<orion_mil::ValueId>,
    ) -> Result<Vec<String>, Error> {
        let mut b = Builder::new("main");
        let results = results(&mut b);
        let signature = Signature::dense(&b.finish(&results), "test")?;
        Ok(signature.ports.into_iter().map(|p| p.name).collect())
    }

    #[test]
    fn every_port_has_a_name_of_its_own() {
        let x = |b: &mut Builder| b.input("x", TensorType::new(DType::F32, &[2]));
        let y = |b: &mut Builder| {
            let x = x(b);
            let y = b.scale(x, 2.0);
            b.rename(y, "y");
            y
        };
        assert_eq!(names(|b| vec![y(b)]).unwrap(), ["x", "y"]);
        assert!(names(|b| vec![x(b)]).unwrap_err().to_string().contains("`x` is already bound"));
        let twice = names(|b| {
            let y = y(b);
            vec![y, y]
        });
        assert!(twice.unwrap_err().to_string().contains("`y` is already bound"));
    }
}
