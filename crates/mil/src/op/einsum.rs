//! The equation of an `einsum`, such as `bqhd,bkhd->bhqk`.

use std::fmt;

/// Which axes of operands and result are one. Letters are axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equation {
    /// The axes of each operand. An axis may stand twice: its diagonal is taken.
    pub operands: Vec<Vec<char>>,
    /// The axes of the result, each once and each found in an operand. The others are summed over.
    pub result: Vec<char>,
}

impl Equation {
    /// Reads an equation.
    ///
    /// # Errors
    /// What is wrong with it. Ellipses and implicit results have no meaning here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let axes = |part: &str| -> Result<Vec<char>, String> {
            let letters: Vec<char> = part.chars().filter(|c| !c.is_whitespace()).collect();
            match letters.iter().find(|c| !c.is_ascii_alphabetic()) {
                Some(c) => Err(format!("equation \"{text}\" holds {c:?}, axes are letters")),
                None => Ok(letters),
            }
        };
        let (operands, result) = text
            .split_once("->")
            .ok_or_else(|| format!("equation \"{text}\" has no \"->\" and result"))?;
        let operands = operands.split(',').map(axes).collect::<Result<Vec<_>, _>>()?;
        let result = axes(result)?;
        for (i, axis) in result.iter().enumerate() {
            if result[..i].contains(axis) || !operands.iter().any(|o| o.contains(axis)) {
                return Err(format!(
                    "axis {axis} of the result of \"{text}\" must stand there once, and in an operand"
                ));
            }
        }
        Ok(Self { operands, result })
    }

    /// Every axis: those of the result, then those summed over, in the order they are met.
    pub fn axes(&self) -> Vec<char> {
        let mut axes = self.result.clone();
        for &axis in self.operands.iter().flatten() {
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
        axes
    }
}

impl fmt::Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |axes: &[char]| axes.iter().collect::<String>();
        let operands: Vec<String> = self.operands.iter().map(|o| text(o)).collect();
        write!(f, "{}->{}", operands.join(","), text(&self.result))
    }
}
