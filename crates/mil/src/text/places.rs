//! Where a text defines its values. Reads lines, not the language: for texts that parse.

use crate::Program;
use std::collections::{BTreeMap, HashSet};

/// The line, counted from 1, on which a text defines each value of a program, by names of
/// function and value. What is not found on a line of its own is left out.
pub fn definition_lines(source: &str, program: &Program) -> BTreeMap<(String, String), usize> {
    let mut lines = BTreeMap::new();
    let mut function: Option<(&str, HashSet<&str>)> = None;
    for (number, line) in source.lines().enumerate() {
        let number = number + 1;
        if let Some(rest) = line.trim_start().strip_prefix("func ") {
            let name = rest.split(['<', '(', ' ']).next().unwrap_or("");
            function = program.function(name).map(|f| {
                (f.name.as_str(), f.values.iter().map(|(_, v)| v.name.as_str()).collect())
            });
        }
        let Some((name, values)) = &function else { continue };
        // Before the first ` = ` stand types and names; parameters stand on the line of `func`.
        let left = line.split_once(" = ").map_or(line, |(left, _)| left);
        for word in left.split([' ', ',', '(', ')', '\t', ';']).filter(|w| values.contains(w)) {
            lines.entry(((*name).to_owned(), word.to_owned())).or_insert(number);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_have_the_lines_of_the_text() {
        let source = "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [4]> x) {\n        \
            tensor<fp16, [4]> t = tan(x = x)[name = string(\"t\")];\n        \
            tensor<fp16, [2]> a, tensor<fp16, [2]> b = split(axis = int32(0), num_splits = int32(2), x = t)[name = string(\"s\")];\n    \
            } -> (a, b);\n}";
        let program = crate::text::parse(source).unwrap();
        let lines = definition_lines(source, &program);
        for (name, line) in [("x", 3), ("t", 4), ("a", 5), ("b", 5)] {
            assert_eq!(lines[&("main".to_owned(), name.to_owned())], line, "{name}");
        }
    }
}
