//! Inputs of programs, as given on the command line.

use crate::failure::{Context, Failure, Result};
use orion_engine::Random;
use orion_formats::npy;
use orion_runtime::{Layout, Port, PortKind, Signature};
use orion_tensor::{DType, Tensor, element_count};
use std::collections::BTreeMap;

/// Stands for every input that is not named.
const ALL: &str = "*";

/// Where the values of an input come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Zeros,
    /// Standard normal for floats; uniform below `below` for integers.
    Random {
        seed: u64,
        below: Option<u64>,
    },
    Literal(Vec<f64>),
    File(String),
}

/// The `--input` flags, by name.
#[derive(Debug)]
pub(crate) struct Inputs(BTreeMap<String, Source>);

impl Inputs {
    /// Reads `NAME=VALUE` flags.
    ///
    /// # Errors
    /// Usage errors, with the forms there are.
    pub(crate) fn parse(flags: &[String]) -> Result<Self> {
        let mut sources = BTreeMap::new();
        for flag in flags {
            let wrong = |what: String| {
                Failure::usage(format!("--input {flag}: {what}"))
                    .hint("write NAME=zeros, NAME=random:SEED, NAME=random:SEED:BELOW, NAME=[1,2,3] or NAME=FILE.npy; * names every other input")
            };
            let (name, value) =
                flag.split_once('=').ok_or_else(|| wrong("there is no `=`".into()))?;
            let source = parse_source(value).map_err(wrong)?;
            if sources.insert(name.to_owned(), source).is_some() {
                return Err(wrong(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(sources))
    }

    /// The shape of the file that an input is read from, if it is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn shape_of_file(&self, name: &str) -> Result<Option<Vec<usize>>> {
        match self.0.get(name).or_else(|| self.0.get(ALL)) {
            Some(Source::File(path)) => Ok(Some(npy::open(path)?.shape().to_vec())),
            _ => Ok(None),
        }
    }

    /// A tensor for every port that is read. States that are not named are zeros.
    ///
    /// # Errors
    /// Inputs that are not named, names that are not inputs, and values that do not fit.
    pub(crate) fn tensors(&self, signature: &Signature) -> Result<BTreeMap<String, Tensor>> {
        let read = || signature.ports.iter().filter(|p| p.kind != PortKind::Output);
        for name in self.0.keys().filter(|n| *n != ALL) {
            if !read().any(|p| p.name == *name) {
                let names: Vec<String> = read().map(describe).collect();
                return Err(Failure::new(format!("the program has no input `{name}`"))
                    .hint(format!("its inputs are {}", names.join(", "))));
            }
        }
        let is_state = |p: &Port| p.kind == PortKind::Update { output: None };
        let source = |p: &Port| {
            let named = self.0.get(&p.name).or_else(|| self.0.get(ALL));
            named.or(is_state(p).then_some(&Source::Zeros))
        };
        let missing: Vec<&Port> = read().filter(|p| source(p).is_none()).collect();
        if let Some(first) = missing.first() {
            let names: Vec<String> = missing.iter().map(|p| describe(p)).collect();
            return Err(Failure::new(format!("inputs without a value: {}", names.join(", ")))
                .hint(format!("give --input {}=random:1, or --input '*=random:1'", first.name)));
        }
        read()
            .map(|p| {
                let source = source(p).expect("missing ones were refused");
                let tensor = tensor(source, &p.layout).context(format!("input `{}`", p.name))?;
                Ok((p.name.clone(), tensor))
            })
            .collect()
    }
}

fn describe(port: &Port) -> String {
    format!("{} {}{:?}", port.name, port.layout.dtype, port.layout.shape)
}

fn parse_source(text: &str) -> std::result::Result<Source, String> {
    if text == "zeros" {
        return Ok(Source::Zeros);
    }
    if let Some(numbers) = text.strip_prefix("random:") {
        let number = |n: &str| n.parse().map_err(|_| format!("`{n}` is not a whole number"));
        let (seed, below) = match numbers.split_once(':') {
            Some((seed, below)) => (number(seed)?, Some(number(below)?)),
            None => (number(numbers)?, None),
        };
        if below == Some(0) {
            return Err("nothing is below 0".into());
        }
        return Ok(Source::Random { seed, below });
    }
    if let Some(list) = text.strip_prefix('[') {
        let list = list.strip_suffix(']').ok_or("the list has no `]`")?;
        let number = |n: &str| {
            n.trim().parse().map_err(|_| format!("`{}` in the list is not a number", n.trim()))
        };
        let items = list.split(',').filter(|_| !list.trim().is_empty());
        return items.map(number).collect::<std::result::Result<_, _>>().map(Source::Literal);
    }
    if text.ends_with(".npy") {
        return Ok(Source::File(text.to_owned()));
    }
    Err(format!("`{text}` is not a value"))
}

fn tensor(source: &Source, layout: &Layout) -> Result<Tensor> {
    let Layout { dtype, shape, .. } = layout;
    let count = element_count(shape);
    match source {
        Source::Zeros => Ok(Tensor::zeros(*dtype, shape)),
        Source::Random { seed, below } => {
            let mut random = Random::new(*seed);
            let values: Vec<f64> = match (dtype, below) {
                (DType::F8E4M3FN | DType::F8E5M2, _) => {
                    return Err(Failure::new(format!("there are no random values of {dtype}")));
                }
                (d, None) if d.is_float() => (0..count).map(|_| random.normal()).collect(),
                (DType::Bool, None) => (0..count).map(|_| random.below(2) as f64).collect(),
                (_, Some(below)) => (0..count).map(|_| random.below(*below) as f64).collect(),
                (_, None) => {
                    return Err(Failure::new(format!(
                        "random {dtype} values need a bound, as in random:{seed}:100"
                    )));
                }
            };
            Ok(Tensor::from_f64(*dtype, shape, &values))
        }
        Source::Literal(values) => {
            if values.len() != count {
                return Err(Failure::new(format!(
                    "{} values were given, {dtype}{shape:?} has {count}",
                    values.len()
                )));
            }
            if matches!(dtype, DType::F8E4M3FN | DType::F8E5M2) {
                return Err(Failure::new(format!("{dtype} values can only be zeros")));
            }
            let tensor = Tensor::from_f64(*dtype, shape, values);
            if !dtype.is_float() && tensor.to_f64_vec() != *values {
                return Err(Failure::new(format!("a value in the list is not a {dtype}")));
            }
            Ok(tensor)
        }
        Source::File(path) => {
            let tensor = npy::open(path)?;
            if tensor.dtype() != *dtype || tensor.shape() != shape {
                return Err(Failure::new(format!(
                    "{path} holds {}{:?}, the program takes {dtype}{shape:?}",
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            Ok(tensor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let port = |name: &str, kind, dtype, shape: &[usize]| Port {
            name: name.into(),
            kind,
            layout: Layout::dense(dtype, shape),
        };
        Signature {
            ports: vec![
                port("x", PortKind::Input, DType::F32, &[1, 2]),
                port("ids", PortKind::Input, DType::I32, &[3]),
                port("state", PortKind::Update { output: None }, DType::F16, &[2]),
                port("y", PortKind::Output, DType::F32, &[1, 2]),
            ],
        }
    }

    fn values(flags: &[&str]) -> std::result::Result<BTreeMap<String, Tensor>, String> {
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let told = |f: Failure| match f {
            Failure::Told { messages, .. } => messages.join("; "),
            Failure::PipeClosed => unreachable!("nothing is printed"),
        };
        Inputs::parse(&flags).and_then(|i| i.tensors(&signature())).map_err(told)
    }

    #[test]
    fn every_form_gives_a_tensor_of_the_ports_type() {
        let t = values(&["x=[1.5, -2]", "ids=random:1:10"]).unwrap();
        assert_eq!(t["x"], Tensor::from_slice(&[1, 2], &[1.5f32, -2.0]));
        assert_eq!(t["state"], Tensor::zeros(DType::F16, &[2]));
        assert_eq!((t["ids"].dtype(), t["ids"].shape()), (DType::I32, &[3][..]));
        assert!(t["ids"].to_f64_vec().iter().all(|v| (0.0..10.0).contains(v)));
        assert!(!t.contains_key("y"));
        let again = values(&["*=random:1:10", "x=random:7"]).unwrap();
        assert_eq!(again["ids"], t["ids"]);
        assert_ne!(again["x"], values(&["*=zeros", "x=random:8"]).unwrap()["x"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (flags, expected) in [
            (&["x=zeros"][..], "inputs without a value: ids int32[3]"),
            (&["*=zeros", "z=zeros"], "no input `z`"),
            (&["*=zeros", "y=zeros"], "no input `y`"),
            (&["*=zeros", "x=[1]"], "1 values were given, fp32[1, 2] has 2"),
            (&["*=zeros", "ids=[1,2,3.5]"], "not a int32"),
            (&["*=random:1"], "need a bound"),
            (&["x"], "there is no `=`"),
            (&["x=ones"], "`ones` is not a value"),
            (&["x=[1,a]"], "`a` in the list"),
            (&["x=zeros", "x=zeros"], "given twice"),
            (&["*=zeros", "x=/nonexistent.npy"], "/nonexistent.npy"),
        ] {
            let message = values(flags).unwrap_err();
            assert!(message.contains(expected), "{flags:?}: {message}");
        }
    }
}
