//! The half of the parser that reads types and typed literals.

use super::error::{ParseError, ParseErrorKind as Kind};
use super::lexer::{TokenKind, unescape};
use super::number::{NumberError, parse_float, parse_integer};
use super::parser::{NESTING_LIMIT, Parsed, Parser};
use super::suggest::nearest;
use crate::{Data, Dim, TensorType, Type, Value};
use orion_tensor::{Bytes, DType, Tensor};

/// Tensors of more elements than this do not exist, and their byte counts could overflow.
const ELEMENT_LIMIT: usize = 1 << 48;

/// How much larger the type of a list's element may be than the element. Real ones reach two.
const TYPE_PARTS_LIMIT: usize = 16;

/// Spellings from other systems that no edit distance would find.
const FOREIGN_TYPES: [(&str, &str); 8] = [
    ("float16", "fp16"),
    ("float32", "fp32"),
    ("float64", "fp64"),
    ("half", "fp16"),
    ("float", "fp32"),
    ("double", "fp64"),
    ("bfloat16", "bf16"),
    ("int", "int32"),
];

impl Parser<'_> {
    pub(super) fn ty(&mut self) -> Parsed<Type> {
        self.nested_type(0)
    }

    fn nested_type(&mut self, depth: usize) -> Parsed<Type> {
        if depth > NESTING_LIMIT {
            let message = format!("types nested deeper than {NESTING_LIMIT}");
            return Err(self.error(self.current.offset, Kind::TooLarge, message));
        }
        if self.current.kind != TokenKind::Identifier {
            return Err(self.expected_value("a type"));
        }
        let ty = match self.current.text {
            "tensor" => {
                self.advance()?;
                Type::Tensor(self.tensor_parameters()?)
            }
            "list" => {
                self.advance()?;
                self.expect(b'<')?;
                let element = Box::new(self.nested_type(depth + 1)?);
                self.expect(b',')?;
                let length = self.dim()?;
                self.expect(b'>')?;
                Type::List { element, length }
            }
            "tuple" => {
                self.advance()?;
                self.expect(b'<')?;
                let mut items = Vec::new();
                if !self.take(b'>')? {
                    loop {
                        items.push(self.nested_type(depth + 1)?);
                        if !self.more(b'>')? {
                            break;
                        }
                    }
                }
                Type::Tuple(items)
            }
            "dict" => {
                self.advance()?;
                self.expect(b'<')?;
                let key = Box::new(self.nested_type(depth + 1)?);
                self.expect(b',')?;
                let value = Box::new(self.nested_type(depth + 1)?);
                self.expect(b'>')?;
                Type::Dict(key, value)
            }
            "state" => {
                self.advance()?;
                self.expect(b'<')?;
                let offset = self.current.offset;
                let Type::Tensor(tensor) = self.nested_type(depth + 1)? else {
                    let message = "a state holds a tensor";
                    return Err(self.error(offset, Kind::UnknownType, message));
                };
                self.expect(b'>')?;
                Type::State(tensor)
            }
            "tensor_buffer" => {
                self.advance()?;
                self.tensor_buffer_parameters()?
            }
            _ => Type::scalar(self.element_type()?),
        };
        Ok(ty)
    }

    fn element_type(&mut self) -> Parsed<DType> {
        let token = self.current;
        if let Ok(dtype) = token.text.parse() {
            self.advance()?;
            return Ok(dtype);
        }
        if token.kind != TokenKind::Identifier {
            return Err(self.expected("an element type such as `fp16`"));
        }
        let message = format!("unknown type {}", token.describe());
        let error = self.error(token.offset, Kind::UnknownType, message);
        let foreign = FOREIGN_TYPES.iter().find(|(name, _)| *name == token.text);
        let near = foreign.map(|&(_, ours)| ours).or_else(|| {
            let generic = ["tensor", "list", "tuple", "dict", "state"];
            nearest(token.text, DType::all().map(DType::name).chain(generic))
        });
        Err(match near {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        })
    }

    /// `<fp16, [1, 2]>`
    fn tensor_parameters(&mut self) -> Parsed<TensorType> {
        self.expect(b'<')?;
        let dtype = self.element_type()?;
        self.expect(b',')?;
        let offset = self.current.offset;
        self.expect(b'[')?;
        let mut dims = Vec::new();
        if !self.take(b']')? {
            loop {
                dims.push(self.dim()?);
                if !self.more(b']')? {
                    break;
                }
            }
        }
        self.check_size(offset, &dims)?;
        self.expect(b'>')?;
        Ok(TensorType { dtype, dims })
    }

    fn dim(&mut self) -> Parsed<Dim> {
        if self.take(b'?')? {
            return Ok(Dim::Unknown);
        }
        if self.at(b'*') || self.at(b'.') {
            let error = self.expected("a size or `?`");
            return Err(error.hint("types of variable rank are not supported"));
        }
        Ok(Dim::Known(self.size()?))
    }

    fn size(&mut self) -> Parsed<usize> {
        let token = self.current;
        match parse_integer(DType::U64, token.text) {
            Ok(size) if size <= ELEMENT_LIMIT as u64 => {
                self.advance()?;
                Ok(size as usize)
            }
            Err(NumberError::Malformed) => Err(self.expected("a size or `?`")),
            _ => {
                let message = format!("{} is no possible size", token.describe());
                Err(self.error(token.offset, Kind::OutOfRange, message))
            }
        }
    }

    /// Refuses shapes whose element or byte count overflows, in whatever order it is multiplied.
    fn check_size(&self, offset: usize, dims: &[Dim]) -> Parsed<()> {
        let sizes = dims.iter().map(|d| match d {
            Dim::Known(n) => (*n).max(1),
            Dim::Unknown => 1,
        });
        let product = sizes.into_iter().try_fold(1usize, |n, size| n.checked_mul(size));
        if product.is_none_or(|n| n > ELEMENT_LIMIT) {
            let message = "a tensor of more than 2^48 elements";
            return Err(self.error(offset, Kind::TooLarge, message));
        }
        Ok(())
    }

    /// `<fp16, shape=[…], strides=[…], interleave_factors=[…]>`
    fn tensor_buffer_parameters(&mut self) -> Parsed<Type> {
        self.expect(b'<')?;
        let dtype = self.element_type()?;
        let offset = self.current.offset;
        let mut list = |name: &str| -> Parsed<Vec<usize>> {
            self.expect(b',')?;
            self.expect_keyword(name)?;
            self.expect(b'=')?;
            self.expect(b'[')?;
            let mut sizes = Vec::new();
            if !self.take(b']')? {
                loop {
                    sizes.push(self.size()?);
                    if !self.more(b']')? {
                        break;
                    }
                }
            }
            Ok(sizes)
        };
        let shape = list("shape")?;
        let strides = list("strides")?;
        let interleave_factors = list("interleave_factors")?;
        self.expect(b'>')?;
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Known(n)).collect();
        self.check_size(offset, &dims)?;
        Ok(Type::TensorBuffer { dtype, shape, strides, interleave_factors })
    }

    /// `type(literal)`
    pub(super) fn value(&mut self) -> Parsed<Value> {
        let ty = self.ty()?;
        self.value_of(ty)
    }

    /// What follows the type of a value. Every level down has a smaller type, which bounds the
    /// recursion.
    fn value_of(&mut self, ty: Type) -> Parsed<Value> {
        self.expect(b'(')?;
        let offset = self.current.offset;
        let data = if self.at_keyword("BLOBFILE") {
            self.blob(&ty)?
        } else if self.at(b')') {
            match &ty {
                Type::Tensor(t) if t.rank() > 0 => self.empty_tensor(t, offset)?,
                Type::List { length: Dim::Known(0) | Dim::Unknown, .. } => Data::List(Vec::new()),
                Type::Dict(..) => Data::Dict(Vec::new()),
                Type::Tuple(items) if items.is_empty() => Data::Tuple(Vec::new()),
                _ => return Err(self.expected(format_args!("a literal of type {ty}"))),
            }
        } else {
            self.literal(&ty)?
        };
        self.expect(b')')?;
        Ok(Value { ty, data })
    }

    /// `BLOBFILE(path = string("…"), offset = uint64(64))`
    fn blob(&mut self, ty: &Type) -> Parsed<Data> {
        if ty.as_tensor().is_none_or(|t| t.dtype == DType::String) {
            let message = format!("a blob file cannot hold a value of type {ty}");
            return Err(self.error(self.current.offset, Kind::WrongLiteral, message));
        }
        self.expect_keyword("BLOBFILE")?;
        self.expect(b'(')?;
        self.expect_keyword("path")?;
        self.expect(b'=')?;
        let file = self.plain_scalar(DType::String)?;
        self.expect(b',')?;
        self.expect_keyword("offset")?;
        self.expect(b'=')?;
        let offset = self.plain_scalar(DType::U64)?;
        self.expect(b')')?;
        match (file, offset) {
            (Data::Strings(mut file), Data::Tensor(offset)) => {
                let file = file.pop().unwrap_or_default();
                Ok(Data::Blob { file, offset: offset.elements::<u64>()[0] })
            }
            _ => unreachable!("a string and a number were read"),
        }
    }

    /// A scalar of that type, written with its type in either dialect, not from a blob.
    fn plain_scalar(&mut self, dtype: DType) -> Parsed<Data> {
        let offset = self.current.offset;
        let wanted = Type::scalar(dtype);
        let found = self.ty()?;
        if found != wanted {
            let message = format!("expected a value of type {wanted}, found {found}");
            return Err(self.error(offset, Kind::WrongLiteral, message));
        }
        self.expect(b'(')?;
        let data = self.literal(&wanted)?;
        self.expect(b')')?;
        Ok(data)
    }

    fn literal(&mut self, ty: &Type) -> Parsed<Data> {
        match ty {
            Type::Tensor(t) if t.dtype == DType::String => self.string_literal(t),
            Type::Tensor(t) => self.tensor_literal(t),
            Type::List { element, length } => self.list_literal(element, *length),
            Type::Tuple(items) => self.tuple_literal(items),
            Type::Dict(key, value) => self.dict_literal(key, value),
            Type::State(_) | Type::TensorBuffer { .. } => {
                let message = format!("there are no literals of type {ty}");
                Err(self.error(self.current.offset, Kind::WrongLiteral, message))
            }
        }
    }

    /// An element of a list, tuple or dictionary: bare, or with its type written again.
    fn element(&mut self, ty: &Type) -> Parsed<Value> {
        let bare = ["true", "false", "inf", "nan"];
        if self.current.kind == TokenKind::Identifier && !bare.contains(&self.current.text) {
            let offset = self.current.offset;
            let found = self.ty()?;
            if found != *ty {
                let message = format!("expected an element of type {ty}, found {found}");
                return Err(self.error(offset, Kind::WrongLiteral, message));
            }
            return self.value_of(found);
        }
        Ok(Value { data: self.literal(ty)?, ty: ty.clone() })
    }

    /// An element of a list or dictionary, of a type that is `type_parts` large. The type is
    /// copied into every element, so a text of many small elements of a large type is refused: it
    /// would take far more memory than itself.
    fn repeated_element(&mut self, ty: &Type, type_parts: usize) -> Parsed<Value> {
        let offset = self.current.offset;
        let element = self.element(ty)?;
        let parts = data_parts(&element.data);
        if type_parts > parts.saturating_mul(TYPE_PARTS_LIMIT) {
            let message = format!("an element of {parts} parts has a type of {type_parts}");
            return Err(self.error(offset, Kind::TooLarge, message));
        }
        Ok(element)
    }

    fn open(&mut self, bracket: u8, ty: &str) -> Parsed<()> {
        if self.at(bracket) {
            return self.expect(bracket);
        }
        let message = format!(
            "expected `{}` to open a {ty}, found {}",
            char::from(bracket),
            self.current.describe()
        );
        Err(self.error(self.current.offset, Kind::WrongLiteral, message))
    }

    fn list_literal(&mut self, element: &Type, length: Dim) -> Parsed<Data> {
        let offset = self.current.offset;
        self.open(b'[', "list")?;
        let type_parts = type_parts(element);
        let mut items = Vec::new();
        if !self.take(b']')? {
            loop {
                items.push(self.repeated_element(element, type_parts)?);
                if !self.more(b']')? {
                    break;
                }
            }
        }
        match length {
            Dim::Known(n) if n != items.len() => {
                let found = items.len();
                let message = format!("the type says {n} elements, the list has {found}");
                Err(self.error(offset, Kind::WrongLiteral, message))
            }
            _ => Ok(Data::List(items)),
        }
    }

    fn tuple_literal(&mut self, types: &[Type]) -> Parsed<Data> {
        self.open(b'(', "tuple")?;
        let mut items = Vec::new();
        for (i, ty) in types.iter().enumerate() {
            if i > 0 {
                self.expect(b',')?;
            }
            items.push(self.element(ty)?);
        }
        self.expect(b')')?;
        Ok(Data::Tuple(items))
    }

    fn dict_literal(&mut self, key: &Type, value: &Type) -> Parsed<Data> {
        self.open(b'{', "dict")?;
        let [key_parts, value_parts] = [key, value].map(type_parts);
        let mut pairs = Vec::new();
        if !self.take(b'}')? {
            loop {
                self.expect(b'{')?;
                let left = self.repeated_element(key, key_parts)?;
                self.expect(b',')?;
                let right = self.repeated_element(value, value_parts)?;
                self.expect(b'}')?;
                pairs.push((left, right));
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        Ok(Data::Dict(pairs))
    }

    fn string_literal(&mut self, ty: &TensorType) -> Parsed<Data> {
        if ty.dims.iter().filter(|d| **d == Dim::Unknown).count() > 1 {
            let message = "a string tensor with more than one unknown size";
            return Err(self.error(self.current.offset, Kind::WrongLiteral, message));
        }
        let mut strings = Vec::new();
        self.bracketed(ty, |this| {
            if this.current.kind != TokenKind::String {
                return Err(this.wrong_element("a string"));
            }
            strings.push(unescape(this.advance()?.text));
            Ok(())
        })?;
        Ok(Data::Strings(strings))
    }

    fn tensor_literal(&mut self, ty: &TensorType) -> Parsed<Data> {
        let dtype = ty.dtype;
        let width = dtype.size_bytes();
        let mut bytes = Vec::new();
        let shape = self.bracketed(ty, |this| {
            let bits = this.number(dtype)?;
            bytes.extend_from_slice(&bits.to_le_bytes()[..width]);
            Ok(())
        })?;
        // Elements through `Bytes::from_elements`, which aligns them.
        let tensor = Tensor::new(dtype, shape, Bytes::from_elements(&bytes));
        Ok(Data::Tensor(tensor.expect("as many elements as were counted")))
    }

    /// The bits of the number or boolean that stands here.
    fn number(&mut self, dtype: DType) -> Parsed<u64> {
        let token = self.current;
        let bits = match (dtype, token.kind, token.text) {
            (DType::Bool, TokenKind::Identifier, "true") => Ok(1),
            (DType::Bool, TokenKind::Identifier, "false") => Ok(0),
            (DType::Bool, ..) => return Err(self.wrong_element("`true` or `false`")),
            (_, TokenKind::Number, text) if dtype.is_float() => parse_float(dtype, text),
            (_, TokenKind::Identifier, "inf" | "nan") if dtype.is_float() => {
                parse_float(dtype, token.text)
            }
            (_, TokenKind::Number, text) => parse_integer(dtype, text),
            _ => Err(NumberError::Malformed),
        };
        match bits {
            Ok(bits) => {
                self.advance()?;
                Ok(bits)
            }
            Err(NumberError::OutOfRange) => {
                let message = format!("{} is out of range for {dtype}", token.describe());
                Err(self.error(token.offset, Kind::OutOfRange, message))
            }
            Err(NumberError::Malformed) if dtype.is_float() => Err(self.wrong_element("a number")),
            Err(NumberError::Malformed) => Err(self.wrong_element("an integer")),
        }
    }

    fn wrong_element(&self, what: &str) -> ParseError {
        let message = format!("expected {what}, found {}", self.current.describe());
        self.error(self.current.offset, Kind::WrongLiteral, message)
    }

    /// The data of a tensor that has no elements: `[]` whatever its rank.
    fn empty_tensor(&self, ty: &TensorType, offset: usize) -> Parsed<Data> {
        let Some(shape) = empty_shape(ty) else {
            let message = format!("no elements for a value of type {}", Type::Tensor(ty.clone()));
            return Err(self.error(offset, Kind::WrongLiteral, message));
        };
        Ok(match ty.dtype {
            DType::String => Data::Strings(Vec::new()),
            dtype => Data::Tensor(Tensor::zeros(dtype, &shape)),
        })
    }

    /// Reads the nested brackets of a tensor, calls `element` at every element, and returns the
    /// shape. Rank 0 has no brackets; `[]` alone stands for any tensor without elements.
    fn bracketed(
        &mut self,
        ty: &TensorType,
        mut element: impl FnMut(&mut Self) -> Parsed<()>,
    ) -> Parsed<Vec<usize>> {
        let rank = ty.rank();
        let mut sizes: Vec<Option<usize>> = ty
            .dims
            .iter()
            .map(|d| match d {
                Dim::Known(n) => Some(*n),
                Dim::Unknown => None,
            })
            .collect();
        // Offset and element count of every open bracket, outermost first.
        let mut open: Vec<(usize, usize)> = Vec::new();
        loop {
            if open.len() < rank {
                let offset = self.current.offset;
                self.open(b'[', &format!("tensor of rank {rank}"))?;
                open.push((offset, 0));
                if !self.at(b']') {
                    continue;
                }
                if open.len() == 1
                    && let Some(shape) = empty_shape(ty)
                {
                    self.advance()?;
                    return Ok(shape);
                }
                if ty.dims.contains(&Dim::Unknown) {
                    let error = self.wrong_element("an element");
                    return Err(error.hint("a tensor without elements is written []"));
                }
            } else {
                element(self)?;
                let Some((_, count)) = open.last_mut() else { return Ok(Vec::new()) };
                *count += 1;
                if self.take(b',')? {
                    continue;
                }
            }
            // Close as many brackets as end here.
            loop {
                if !self.at(b']') {
                    return Err(self.expected("`,` or `]`"));
                }
                let axis = open.len() - 1;
                let (offset, count) = open[axis];
                match sizes[axis] {
                    Some(size) if size != count => {
                        let message = format!(
                            "the type says {size} elements along axis {axis}, the literal has \
                             {count}"
                        );
                        return Err(self.error(offset, Kind::WrongLiteral, message));
                    }
                    size => sizes[axis] = size.or(Some(count)),
                }
                self.advance()?;
                open.pop();
                let Some((_, outer)) = open.last_mut() else {
                    return Ok(sizes.into_iter().map(|s| s.unwrap_or(0)).collect());
                };
                *outer += 1;
                if self.take(b',')? {
                    break;
                }
            }
        }
    }
}

/// The shape of a tensor without elements, when the type allows one.
fn empty_shape(ty: &TensorType) -> Option<Vec<usize>> {
    let size = |d: &Dim| if let Dim::Known(n) = d { *n } else { 0 };
    let shape: Vec<usize> = ty.dims.iter().map(size).collect();
    shape.contains(&0).then_some(shape)
}

/// The types and axes a type mentions: its size in memory, roughly.
fn type_parts(ty: &Type) -> usize {
    match ty {
        Type::Tensor(t) | Type::State(t) => 1 + t.rank(),
        Type::List { element, .. } => 1 + type_parts(element),
        Type::Tuple(items) => 1 + items.iter().map(type_parts).sum::<usize>(),
        Type::Dict(key, value) => 1 + type_parts(key) + type_parts(value),
        Type::TensorBuffer { shape, strides, interleave_factors, .. } => {
            1 + shape.len() + strides.len() + interleave_factors.len()
        }
    }
}

/// The brackets and elements of a literal.
fn data_parts(data: &Data) -> usize {
    match data {
        Data::Tensor(t) => 1 + t.element_count(),
        Data::Strings(strings) => 1 + strings.len(),
        Data::Blob { .. } => 1,
        Data::List(items) | Data::Tuple(items) => {
            1 + items.iter().map(|item| data_parts(&item.data)).sum::<usize>()
        }
        Data::Dict(pairs) => {
            let sizes = pairs.iter().map(|(k, v)| data_parts(&k.data) + data_parts(&v.data));
            1 + sizes.sum::<usize>()
        }
    }
}
