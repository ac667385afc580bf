//! The cases of the conformance suite: every op with several shapes and types, and what goes
//! wrong between ops.

mod compressed;
mod contraction;
mod elementwise;
mod failure;
mod indexed;
mod memory;
mod movement;
mod network;
mod rare;
mod reduction;
mod sample;
mod spatial;

use crate::Case;
use orion_tensor::{DType, Tolerance};

/// Every case, in a fixed order.
pub fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    elementwise::add_cases(&mut cases);
    reduction::add_cases(&mut cases);
    contraction::add_cases(&mut cases);
    movement::add_cases(&mut cases);
    indexed::add_cases(&mut cases);
    compressed::add_cases(&mut cases);
    spatial::add_cases(&mut cases);
    rare::add_cases(&mut cases);
    sample::add_cases(&mut cases);
    memory::add_cases(&mut cases);
    network::add_cases(&mut cases);
    failure::add_cases(&mut cases);
    cases
}

/// How close one elementwise op must be: exact where nothing is rounded, one rounding otherwise.
fn elementwise_tolerance(dtype: DType) -> Tolerance {
    match dtype {
        DType::F32 => Tolerance::Close,
        DType::F16 => Tolerance::F16Round,
        _ => Tolerance::Exact,
    }
}

/// How close sums of many products must be.
fn sum_tolerance(dtype: DType) -> Tolerance {
    match dtype {
        DType::F32 => Tolerance::F32Accum,
        DType::F16 => Tolerance::F16Round,
        _ => Tolerance::Exact,
    }
}

const FLOATS: [DType; 2] = [DType::F32, DType::F16];
const NUMBERS: [DType; 3] = [DType::F32, DType::F16, DType::I32];
const MOVABLE: [DType; 4] = [DType::F32, DType::F16, DType::I32, DType::Bool];

#[cfg(test)]
mod tests {
    use super::*;
    use orion_cpu::reference::Reference;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let mut names = HashSet::new();
        for case in all_cases() {
            assert!(names.insert(case.name.clone()), "two cases are named {}", case.name);
        }
    }

    #[test]
    fn every_op_has_a_case() {
        let mut met = HashSet::new();
        for case in all_cases() {
            for op in orion_mil::typed::analyze(&case.program.functions[0]).unwrap_or_default() {
                met.insert(std::mem::discriminant(&op));
            }
        }
        // The number of variants of `Op`.
        assert_eq!(met.len(), 50, "a variant of Op has no conformance case, or one was added");
    }

    /// A comparison that lets everything pass would make the suite worthless.
    #[test]
    fn a_wrong_device_fails() {
        let case = crate::case::case("wrong", Tolerance::Close, |d| {
            let x = d.any(DType::F32, &[3]);
            vec![d.scale(x, 2.0)]
        });
        assert!(case.check(&Reference).is_ok());
        assert!(case.check(&Wrong).unwrap_err().contains("`y0` after run 0"));
    }

    /// Runs the program with a 2 in it replaced by nearly 2.
    struct Wrong;

    impl orion_runtime::Device for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }

        fn description(&self) -> String {
            "nearly right".to_owned()
        }

        fn compile(
            &self,
            program: &orion_mil::Program,
            weights: &orion_mil::Weights,
        ) -> Result<Box<dyn orion_runtime::Executable>, orion_runtime::Error> {
            let mut program = program.clone();
            let two = orion_mil::Value::scalar(DType::F32, 2.0);
            for operation in &mut program.functions[0].body.operations {
                if operation.const_value() == Some(&two) {
                    let nearly = orion_mil::Value::scalar(DType::F32, 2.0001);
                    operation.attributes.insert("val".to_owned(), nearly);
                }
            }
            Reference.compile(&program, weights)
        }
    }
}
