//! Products of rounded operands: the fast device against the reference, in the same precision.

use orion_cpu::reference::Reference;
use orion_cpu::{Cpu, CpuOptions, Precision};
use orion_mil::{Builder, Program, TensorType, ValueId, Weights};
use orion_runtime::Device;
use orion_tensor::{DType, Tensor, Tolerance, bf16};
use orion_testing::{Random, Tensors, run_once};

/// A program of one product, and its operands.
struct Product {
    program: Program,
    contents: Tensors,
}

impl Product {
    /// `seed` decides the operands; their last axes are not multiples of any tile.
    fn new(
        seed: u64,
        operands: [(&[usize], DType); 2],
        build: impl FnOnce(&mut Builder, [ValueId; 2]) -> ValueId,
    ) -> Self {
        let mut builder = Builder::new("main");
        let mut random = Random::new(seed);
        let mut contents = Tensors::new();
        let values = ["x", "y"].map(|name| {
            let (shape, dtype) = operands[usize::from(name == "y")];
            let count = shape.iter().product();
            let values: Vec<f64> = (0..count).map(|_| random.uniform(-1.0, 1.0)).collect();
            contents.insert(name.into(), Tensor::from_f64(dtype, shape, &values));
            builder.input(name, TensorType::new(dtype, shape))
        });
        let result = build(&mut builder, values);
        builder.rename(result, "result");
        Self { program: Program::with_function(builder.finish(&[result])), contents }
    }

    fn on(&self, device: &dyn Device) -> Vec<f64> {
        let written = run_once(device, &self.program, &Weights::new(), &self.contents).unwrap();
        written["result"].to_f64_vec()
    }
}

/// Wide, skinny and batched products, every layout, every way to store operands.
fn products() -> Vec<Product> {
    let mut products = Vec::new();
    let f32 = DType::F32;
    for (seed, (m, n, k)) in [
        (70, 45, 300),
        (64, 96, 64),
        (5, 1, 70),
        (300, 1, 129),
        (1, 80, 33),
        (30, 8, 257),
        (7, 3, 1),
    ]
    .into_iter()
    .enumerate()
    {
        for (tx, ty) in [(false, false), (true, false), (false, true), (true, true)] {
            let x = if tx { [k, m] } else { [m, k] };
            let y = if ty { [n, k] } else { [k, n] };
            products.push(Product::new(seed as u64, [(&x, f32), (&y, f32)], |b, [x, y]| {
                b.matmul(x, y, tx, ty)
            }));
        }
        for dtype in [DType::F16, DType::BF16] {
            let operands: [(&[usize], DType); 2] = [(&[m, k, 1, 1], dtype), (&[1, k, 1, n], f32)];
            products.push(Product::new(seed as u64, operands, |b, [w, x]| {
                let w = b.cast(w, f32);
                b.conv_1x1(x, w, None)
            }));
        }
    }
    products.push(Product::new(9, [(&[6, 20, 40], f32), (&[6, 40, 33], f32)], |b, [x, y]| {
        b.matmul(x, y, false, false)
    }));
    products
}

#[test]
fn bf16_products_are_those_of_the_reference() {
    let reference = Reference.with_precision(Precision::Bf16);
    for (i, product) in products().iter().enumerate() {
        let expected = product.on(&reference);
        for threads in [1, 2] {
            let options = CpuOptions::with_threads(threads).with_precision(Precision::Bf16);
            Tolerance::F32Accum
                .check(&product.on(&Cpu::new(options)), &expected)
                .unwrap_or_else(|e| panic!("product {i} with {threads} threads: {e}"));
        }
    }
}

#[test]
fn the_reference_rounds_what_it_multiplies_and_nothing_else() {
    let product = Product::new(1, [(&[1, 1], DType::F32), (&[1, 1], DType::F32)], |b, [x, y]| {
        let z = b.matmul(x, y, false, false);
        b.add(z, x)
    });
    let [x, y] = ["x", "y"].map(|name| product.contents[name].elements::<f32>()[0]);
    let rounded = |v: f32| bf16::from_f32(v).to_f32();
    assert_ne!(rounded(x), x);
    let expected = rounded(x) * rounded(y) + x;
    let actual = product.on(&Reference.with_precision(Precision::Bf16));
    assert_eq!(actual, [f64::from(expected)]);
    assert_ne!(product.on(&Reference), actual);
}
