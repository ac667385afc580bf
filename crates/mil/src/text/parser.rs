//! Text to program.
//!
//! Nothing in the text decides how deep the parser recurses or how much it allocates: blocks and
//! types nest up to a limit, brackets of tensors are counted, not recursed into, and sizes in types
//! are only compared with what the text really holds.

use super::error::{ParseError, ParseErrorKind as Kind};
use super::lexer::{Lexer, Token, TokenKind};
use super::suggest::nearest;
use crate::{
    Argument, Attributes, Binding, Block, Dialect, Function, Operation, Param, Program, Type,
    Value, ValueId, Values,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

/// How deep blocks, and types, may nest. Real programs reach two and five.
pub(super) const NESTING_LIMIT: usize = 64;

/// Reads a program.
///
/// A constant that is defined again word for word, as some generators do, is kept once; every other
/// name is defined once.
///
/// # Errors
/// The first thing that is not MIL, with its line and column.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    Parser::new(text)?.program()
}

pub(super) type Parsed<T> = Result<T, ParseError>;

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    pub(super) current: Token<'a>,
}

/// The values of a function, and which of them can be named here.
struct Scope<'a> {
    values: Values,
    visible: HashMap<&'a str, ValueId>,
    /// The text of the operation that defines each constant.
    constants: HashMap<ValueId, &'a str>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let current = lexer.next()?;
        Ok(Self { lexer, current })
    }

    pub(super) fn error(&self, offset: usize, kind: Kind, message: impl Display) -> ParseError {
        ParseError::new(self.lexer.text(), offset, kind, message.to_string())
    }

    pub(super) fn expected(&self, what: impl Display) -> ParseError {
        let message = format!("expected {what}, found {}", self.current.describe());
        self.error(self.current.offset, Kind::Syntax, message)
    }

    /// The current token; moves to the next.
    pub(super) fn advance(&mut self) -> Parsed<Token<'a>> {
        let token = self.current;
        self.current = self.lexer.next()?;
        Ok(token)
    }

    fn following(&self) -> Parsed<Token<'a>> {
        self.lexer.clone().next()
    }

    pub(super) fn at(&self, punctuation: u8) -> bool {
        self.current.is(punctuation)
    }

    /// Whether that punctuation stood here; skips it.
    pub(super) fn take(&mut self, punctuation: u8) -> Parsed<bool> {
        let found = self.at(punctuation);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, punctuation: u8) -> Parsed<()> {
        if self.take(punctuation)? {
            Ok(())
        } else {
            Err(self.expected(format_args!("`{}`", char::from(punctuation))))
        }
    }

    pub(super) fn at_keyword(&self, keyword: &str) -> bool {
        self.current.kind == TokenKind::Identifier && self.current.text == keyword
    }

    pub(super) fn expect_keyword(&mut self, keyword: &str) -> Parsed<()> {
        if !self.at_keyword(keyword) {
            return Err(self.expected(format_args!("`{keyword}`")));
        }
        self.advance().map(|_| ())
    }

    fn identifier(&mut self, what: &str) -> Parsed<Token<'a>> {
        if self.current.kind != TokenKind::Identifier {
            return Err(self.expected(what));
        }
        self.advance()
    }

    /// After an item of a list: whether another follows. Takes the comma or the closing bracket.
    pub(super) fn more(&mut self, close: u8) -> Parsed<bool> {
        if self.take(b',')? {
            return Ok(true);
        }
        if self.take(close)? {
            return Ok(false);
        }
        Err(self.expected(format_args!("`,` or `{}`", char::from(close))))
    }

    fn program(&mut self) -> Parsed<Program> {
        self.expect_keyword("program")?;
        self.expect(b'(')?;
        let dialect = match self.current.text {
            "1.0" => Dialect::V1_0,
            "1.3" => Dialect::V1_3,
            _ if self.current.kind == TokenKind::Number => {
                let message = format!("unknown program version {}", self.current.describe());
                let error = self.error(self.current.offset, Kind::Syntax, message);
                return Err(error.hint("known are program(1.0) and program(1.3)"));
            }
            _ => return Err(self.expected("a program version such as `1.3`")),
        };
        self.advance()?;
        self.expect(b')')?;
        let attributes = self.attributes()?;
        self.expect(b'{')?;
        let mut functions: Vec<Function> = Vec::new();
        let mut names = HashMap::new();
        while !self.take(b'}')? {
            let (name, function) = self.function()?;
            if names.insert(name.text, ()).is_some() {
                return Err(self.duplicate(name, "function"));
            }
            functions.push(function);
        }
        if self.current.kind != TokenKind::End {
            return Err(self.expected("the end of the text"));
        }
        Ok(Program { dialect, attributes, functions })
    }

    fn duplicate(&self, name: Token<'_>, what: &str) -> ParseError {
        let message = format!("the {what} {} is defined twice", name.describe());
        self.error(name.offset, Kind::DuplicateName, message)
    }

    fn function(&mut self) -> Parsed<(Token<'a>, Function)> {
        self.expect_keyword("func")?;
        let name = self.identifier("a function name")?;
        let Some(opset) = self.opset()? else {
            return Err(self.expected("an opset such as `<ios18>`"));
        };
        let mut scope =
            Scope { values: Values::default(), visible: HashMap::new(), constants: HashMap::new() };
        let mut defined = Vec::new();
        let params = self.params(&mut scope, &mut defined)?;
        let attributes = self.attributes()?;
        let (operations, results) = self.body(&mut scope, &mut defined, 0)?;
        self.expect(b';')?;
        let function = Function {
            name: name.text.to_owned(),
            opset,
            params,
            attributes,
            values: scope.values,
            body: Block { params: Vec::new(), operations, results },
        };
        Ok((name, function))
    }

    /// `<ios18>`, where it stands.
    fn opset(&mut self) -> Parsed<Option<String>> {
        if !self.take(b'<')? {
            return Ok(None);
        }
        let name = self.identifier("an opset")?;
        self.expect(b'>')?;
        Ok(Some(name.text.to_owned()))
    }

    fn define(
        &self,
        scope: &mut Scope<'a>,
        defined: &mut Vec<&'a str>,
        name: Token<'a>,
        ty: Type,
    ) -> Parsed<ValueId> {
        if scope.visible.contains_key(name.text) {
            return Err(self.duplicate(name, "value"));
        }
        let id = scope.values.push(name.text, ty);
        scope.visible.insert(name.text, id);
        defined.push(name.text);
        Ok(id)
    }

    fn params(&mut self, scope: &mut Scope<'a>, defined: &mut Vec<&'a str>) -> Parsed<Vec<Param>> {
        self.expect(b'(')?;
        let mut params = Vec::new();
        if self.take(b')')? {
            return Ok(params);
        }
        loop {
            let ty = self.ty()?;
            let name = self.identifier("a parameter name")?;
            let attributes = self.attributes()?;
            let value = self.define(scope, defined, name, ty)?;
            params.push(Param { value, attributes });
            if !self.more(b')')? {
                return Ok(params);
            }
        }
    }

    /// `{ operations } -> (results)`
    fn body(
        &mut self,
        scope: &mut Scope<'a>,
        defined: &mut Vec<&'a str>,
        depth: usize,
    ) -> Parsed<(Vec<Operation>, Vec<ValueId>)> {
        if depth > NESTING_LIMIT {
            let message = format!("blocks nested deeper than {NESTING_LIMIT}");
            return Err(self.error(self.current.offset, Kind::TooLarge, message));
        }
        self.expect(b'{')?;
        let mut operations = Vec::new();
        while !self.take(b'}')? {
            operations.extend(self.operation(scope, defined, depth)?);
        }
        if self.current.kind != TokenKind::Arrow {
            return Err(self.expected("`->`"));
        }
        self.advance()?;
        self.expect(b'(')?;
        let mut results = Vec::new();
        if !self.take(b')')? {
            loop {
                let name = self.identifier("the name of a result")?;
                results.push(self.lookup(scope, name)?);
                if !self.more(b')')? {
                    break;
                }
            }
        }
        Ok((operations, results))
    }

    fn lookup(&self, scope: &Scope<'a>, name: Token<'a>) -> Parsed<ValueId> {
        if let Some(&id) = scope.visible.get(name.text) {
            return Ok(id);
        }
        if matches!(name.text, "true" | "false") {
            let error = self.untyped_literal(name);
            return Err(error.hint(format!("write the type: bool({})", name.text)));
        }
        let message = format!("undefined value {}", name.describe());
        let error = self.error(name.offset, Kind::UndefinedValue, message);
        Err(match nearest(name.text, scope.visible.keys().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        })
    }

    /// Whether what comes is an operation without results, and not the type of the first result.
    fn at_operation_name(&self) -> Parsed<bool> {
        if self.current.kind != TokenKind::Identifier {
            return Ok(false);
        }
        let next = self.following()?;
        let generic = ["tensor", "list", "tuple", "dict", "state", "tensor_buffer"];
        Ok(next.is(b'(') || (next.is(b'<') && !generic.contains(&self.current.text)))
    }

    /// An operation; `None` for a constant that is there already.
    fn operation(
        &mut self,
        scope: &mut Scope<'a>,
        defined: &mut Vec<&'a str>,
        depth: usize,
    ) -> Parsed<Option<Operation>> {
        let start = self.current.offset;
        let mut outputs = Vec::new();
        if !self.at_operation_name()? {
            loop {
                let ty = self.ty()?;
                outputs.push((self.identifier("the name of a value")?, ty));
                if !self.more(b'=')? {
                    break;
                }
            }
        }
        let name = self.identifier("the name of an operation")?;
        let opset = self.opset()?;
        let inputs = self.arguments(scope, name)?;
        let attributes = self.attributes()?;
        let mut blocks = Vec::new();
        while self.at(b'(') {
            blocks.push(self.nested_block(scope, depth + 1)?);
        }
        let source = &self.lexer.text()[start..self.current.offset];
        self.expect(b';')?;
        let is_constant = name.text == "const" && blocks.is_empty();
        if is_constant
            && let [(output, _)] = &outputs[..]
            && let Some(known) = scope.visible.get(output.text)
            && scope.constants.get(known) == Some(&source)
        {
            return Ok(None);
        }
        // Results come last: an operation does not see its own, nor do its blocks.
        let define = |(name, ty)| self.define(scope, defined, name, ty);
        let outputs = outputs.into_iter().map(define).collect::<Parsed<Vec<ValueId>>>()?;
        if is_constant && let [output] = outputs[..] {
            scope.constants.insert(output, source);
        }
        let name = name.text.to_owned();
        Ok(Some(Operation { name, opset, inputs, outputs, attributes, blocks }))
    }

    fn nested_block(&mut self, scope: &mut Scope<'a>, depth: usize) -> Parsed<Block> {
        let mut defined = Vec::new();
        let params = self.params(scope, &mut defined)?;
        if let Some(param) = params.iter().find(|p| !p.attributes.is_empty()) {
            let name = &scope.values[param.value].name;
            let message = format!("the block parameter `{name}` has attributes");
            return Err(self.error(self.current.offset, Kind::Syntax, message));
        }
        let params = params.into_iter().map(|p| p.value).collect();
        let (operations, results) = self.body(scope, &mut defined, depth)?;
        for name in defined {
            scope.visible.remove(name);
        }
        Ok(Block { params, operations, results })
    }

    fn arguments(
        &mut self,
        scope: &Scope<'a>,
        operation: Token<'a>,
    ) -> Parsed<BTreeMap<String, Argument>> {
        self.expect(b'(')?;
        let mut arguments = BTreeMap::new();
        if self.take(b')')? {
            return Ok(arguments);
        }
        loop {
            if !self.following()?.is(b'=') {
                return Err(self.unnamed_argument(operation)?);
            }
            let name = self.identifier("the name of an argument")?;
            self.expect(b'=')?;
            let argument = self.argument(scope)?;
            match arguments.entry(name.text.to_owned()) {
                Entry::Vacant(entry) => entry.insert(argument),
                Entry::Occupied(_) => return Err(self.duplicate(name, "argument")),
            };
            if !self.more(b')')? {
                return Ok(arguments);
            }
        }
    }

    /// The error for an argument that does not start with a name and `=`.
    fn unnamed_argument(&mut self, operation: Token<'a>) -> Parsed<ParseError> {
        let start = self.current;
        let next = self.following()?;
        // How the hint abbreviates what stands here.
        let rest = match start.kind {
            TokenKind::Number | TokenKind::String => "",
            TokenKind::Punctuation(b'[') => "…]",
            TokenKind::Identifier if matches!(next.text, "," | ")") => "",
            TokenKind::Identifier if next.is(b'(') => "(…)",
            TokenKind::Identifier if next.is(b'<') => "<…>(…)",
            TokenKind::Identifier => {
                self.advance()?;
                return Ok(self.expected("`=`"));
            }
            _ => return Ok(self.expected("the name of an argument")),
        };
        let message =
            format!("positional argument {} of {}", start.describe(), operation.describe());
        let error = self.error(start.offset, Kind::PositionalArgument, message);
        Ok(error.hint(format!("every argument has a name: write name = {}{rest}", start.text)))
    }

    fn argument(&mut self, scope: &Scope<'a>) -> Parsed<Argument> {
        if !self.take(b'(')? {
            return Ok(Argument::One(self.binding(scope)?));
        }
        let mut bindings = Vec::new();
        if !self.take(b')')? {
            loop {
                bindings.push(self.binding(scope)?);
                if !self.more(b')')? {
                    break;
                }
            }
        }
        Ok(Argument::Many(bindings))
    }

    fn binding(&mut self, scope: &Scope<'a>) -> Parsed<Binding> {
        match self.current.kind {
            TokenKind::Identifier if matches!(self.following()?.text, "(" | "<") => {
                Ok(Binding::Literal(self.value()?))
            }
            TokenKind::Identifier => {
                let name = self.advance()?;
                Ok(Binding::Value(self.lookup(scope, name)?))
            }
            _ => Err(self.expected_value("the name of a value or a typed literal")),
        }
    }

    fn untyped_literal(&self, token: Token<'_>) -> ParseError {
        let message = format!("literal without a type: {}", token.describe());
        self.error(token.offset, Kind::UntypedLiteral, message)
    }

    /// The error for a place where neither a name nor a type stands.
    pub(super) fn expected_value(&self, what: &str) -> ParseError {
        let example = match self.current.kind {
            TokenKind::Number if self.current.text.contains(['.', 'p']) => "fp16(0.5)",
            TokenKind::Number => "int32(1)",
            TokenKind::String => "string(\"same\")",
            TokenKind::Punctuation(b'[') => "tensor<int32, [2]>([0, 1])",
            _ => return self.expected(what),
        };
        self.untyped_literal(self.current).hint(format!("write the type, as in {example}"))
    }

    /// `[name = value, …]`; nothing where no bracket stands.
    fn attributes(&mut self) -> Parsed<Attributes> {
        let mut attributes = Attributes::new();
        if !self.take(b'[')? || self.take(b']')? {
            return Ok(attributes);
        }
        loop {
            let name = self.identifier("the name of an attribute")?;
            self.expect(b'=')?;
            let value: Value = self.value()?;
            match attributes.entry(name.text.to_owned()) {
                Entry::Vacant(entry) => entry.insert(value),
                Entry::Occupied(_) => return Err(self.duplicate(name, "attribute")),
            };
            if !self.more(b']')? {
                return Ok(attributes);
            }
        }
    }
}
