//! Small steps that do not need each other run in one loop, and those that do stay in order.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions};
use orion_mil::composite::HeadShape;
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance};
use orion_testing::{Random, Tensors, compare, run_once};

const HEADS: HeadShape = HeadShape { sequences: 1, kv_heads: 8, group: 2, head_dim: 32 };
const CONTEXT: usize = 64;

struct Decoding {
    builder: Builder,
    contents: Tensors,
    random: Random,
}

impl Decoding {
    fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let content = self.random.tensor(DType::F32, shape, |r| r.normal());
        self.contents.insert(name.to_owned(), content);
        self.builder.input(name, TensorType::new(DType::F32, shape))
    }

    /// One token of a sequence at that position; gives what it attended to and the new caches.
    fn token(&mut self, name: &str, position: i32, caches: [ValueId; 2]) -> [ValueId; 3] {
        let width = HEADS.kv_heads * HEADS.head_dim;
        let query = self.input(&format!("{name}_q"), &[1, width * HEADS.group, 1, 1]);
        let key = self.input(&format!("{name}_k"), &[1, width, 1, 1]);
        let value = self.input(&format!("{name}_v"), &[1, width, 1, 1]);
        let mask = self.input(&format!("{name}_m"), &[1, 1, 1, CONTEXT]);
        let begin = format!("{name}_at");
        self.contents.insert(begin.clone(), Tensor::from_slice(&[4], &[0, 0, 0, position]));
        let begin = self.builder.input(&begin, TensorType::new(DType::I32, &[4]));
        let (result, [key, value]) =
            self.builder.cached_attention([query, key, value], caches, begin, mask, HEADS);
        [result, key, value]
    }

    fn caches(&mut self, name: &str) -> [ValueId; 2] {
        ["keys", "values"].map(|kind| {
            let shape = [HEADS.kv_heads, 1, HEADS.head_dim, CONTEXT];
            self.input(&format!("{name}_{kind}"), &shape)
        })
    }
}

#[test]
fn tokens_of_several_sequences() {
    let mut d = Decoding {
        builder: Builder::new("main"),
        contents: Tensors::new(),
        random: Random::new(5),
    };
    let mut results = Vec::new();
    for (name, position) in [("a", 3), ("b", 63), ("c", 0)] {
        let caches = d.caches(name);
        let [result, key, value] = d.token(name, position, caches);
        // The next token of the same sequence needs the caches with this one.
        let [next, key, value] = d.token(&format!("{name}_next"), 17, [key, value]);
        results.extend([result, next, key, value]);
    }
    for (i, &result) in results.iter().enumerate() {
        d.builder.rename(result, &format!("y{i}"));
    }
    let program = Program::with_function(d.builder.finish(&results));
    let weights = Weights::new();
    let expected = run_once(&Reference, &program, &weights, &d.contents).unwrap();
    for threads in 1..=3 {
        let device = Cpu::new(CpuOptions::with_threads(threads));
        let actual = run_once(&device, &program, &weights, &d.contents).unwrap();
        for (name, expected) in &expected {
            let compared = compare(&actual[name], expected, Tolerance::F32Accum);
            compared.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let steps = device.compile(&program, &weights).unwrap().steps();
        let attention: Vec<&str> =
            steps.iter().filter(|s| s.kind == "attention").map(|s| s.form.as_str()).collect();
        assert_eq!(attention.len(), 2, "{attention:?}");
        assert!(attention.iter().all(|form| form.starts_with("3 together")), "{attention:?}");
    }
}
