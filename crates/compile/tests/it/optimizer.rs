//! AdamW against a plain computation in f64.

use crate::interpreter::Runnable;
use crate::random::Random;
use orion_compile::optimizer::{
    AdamWConfig, ParameterSpec, adamw, adamw_norm, adamw_squares, adamw_update,
};
use orion_mil::Function;
use orion_tensor::{Tensor, Tolerance, element_count};
use std::collections::BTreeMap;

/// One parameter of the plain computation, as `torch.optim.AdamW` states it.
#[derive(Clone)]
struct Plain {
    p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

fn specs() -> Vec<ParameterSpec> {
    let spec = |name: &str, shape: &[usize], weight_decay| ParameterSpec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        weight_decay,
    };
    vec![
        spec("matrix", &[3, 4], true),
        spec("norm", &[5], false),
        spec("kernel", &[2, 3, 1, 1], true),
    ]
}

fn plain_step(
    state: &mut [Plain],
    gradients: &[Vec<f64>],
    config: &AdamWConfig,
    rate: f64,
    t: i32,
    scale: f64,
) -> f64 {
    let scaled: Vec<Vec<f64>> =
        gradients.iter().map(|g| g.iter().map(|g| g * scale).collect()).collect();
    let norm = scaled.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return norm;
    }
    let ratio = config.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
    for ((state, g), spec) in state.iter_mut().zip(&scaled).zip(specs()) {
        for i in 0..g.len() {
            let g = g[i] * ratio;
            if spec.weight_decay {
                state.p[i] *= 1.0 - rate * config.weight_decay;
            }
            state.m[i] = config.beta1 * state.m[i] + (1.0 - config.beta1) * g;
            state.v[i] = config.beta2 * state.v[i] + (1.0 - config.beta2) * g * g;
            let m_hat = state.m[i] / (1.0 - config.beta1.powi(t));
            let v_hat = state.v[i] / (1.0 - config.beta2.powi(t));
            state.p[i] -= rate * m_hat / (v_hat.sqrt() + config.epsilon);
        }
    }
    norm
}

/// Runs both for several steps; `overflow_at` has an infinite gradient.
fn compare(config: &AdamWConfig, overflow_at: Option<usize>, magnitude: f64) {
    let specs = specs();
    let function = adamw(&specs, config);
    let runnable = Runnable::new(&function);
    let mut random = Random::new(11);
    let scale = 1.0 / (1024.0 * 2.0);
    let mut plain = Vec::new();
    let mut surfaces: BTreeMap<String, Tensor> = BTreeMap::new();
    let as_f32 = |shape: &[usize], v: &[f64]| {
        Tensor::from_slice(shape, &v.iter().map(|&v| v as f32).collect::<Vec<f32>>())
    };
    for spec in &specs {
        let count = element_count(&spec.shape);
        let start = as_f32(&spec.shape, &random.numbers(count, -1.0, 1.0));
        let zeros = vec![0.0; count];
        plain.push(Plain { p: start.to_f64_vec(), m: zeros.clone(), v: zeros.clone() });
        surfaces.insert(spec.name.clone(), start);
        for suffix in ["m", "v"] {
            surfaces.insert(format!("{}_{suffix}", spec.name), as_f32(&spec.shape, &zeros));
        }
    }
    let mut t = 0;
    for step in 0..6 {
        let rate = 1e-2 / (1.0 + step as f64);
        let overflows = overflow_at == Some(step);
        let gradients: Vec<Tensor> = specs
            .iter()
            .map(|spec| {
                let count = element_count(&spec.shape);
                let mut g = random.numbers(count, -magnitude / scale, magnitude / scale);
                if overflows {
                    g[count / 2] = f64::INFINITY;
                }
                as_f32(&spec.shape, &g)
            })
            .collect();
        // A skipped step does not count.
        let next_t = t + 1;
        let before = surfaces.clone();
        for (spec, gradient) in specs.iter().zip(&gradients) {
            surfaces.insert(format!("{}_grad", spec.name), gradient.clone());
        }
        let one = |v: f64| Tensor::from_slice(&[1], &[v as f32]);
        surfaces.insert("learning_rate".into(), one(rate));
        surfaces.insert("beta1_correction".into(), one(1.0 - config.beta1.powi(next_t)));
        surfaces.insert("beta2_correction".into(), one(1.0 - config.beta2.powi(next_t)));
        surfaces.insert("gradient_scale".into(), one(scale));
        let results = runnable.run(&surfaces);
        for (output, input) in function.in_place() {
            surfaces.insert(input.to_owned(), results[output].clone());
        }
        let gradients: Vec<Vec<f64>> = gradients.iter().map(Tensor::to_f64_vec).collect();
        let norm = plain_step(&mut plain, &gradients, config, rate, next_t, scale);
        let finite = results["finite"].to_f64_vec();
        if overflows {
            assert_eq!(finite, [0.0]);
            for (name, tensor) in &before {
                if !name.ends_with("_grad") && specs.iter().any(|s| name.starts_with(&s.name)) {
                    assert_eq!(&surfaces[name], tensor, "{name} changed in a step that is skipped");
                }
            }
            continue;
        }
        t = next_t;
        assert_eq!(finite, [1.0]);
        Tolerance::Close.check(&results["gradient_norm"].to_f64_vec(), &[norm]).unwrap();
        for (spec, plain) in specs.iter().zip(&plain) {
            let name = &spec.name;
            for (name, expected) in [
                (name.clone(), &plain.p),
                (format!("{name}_m"), &plain.m),
                (format!("{name}_v"), &plain.v),
            ] {
                Tolerance::F32Accum
                    .check(&surfaces[&name].to_f64_vec(), expected)
                    .unwrap_or_else(|e| panic!("step {step}: {name}: {e}"));
            }
        }
    }
}

const CONFIG: AdamWConfig =
    AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip: Some(1.0) };

#[test]
fn adamw_is_the_plain_computation() {
    // Norms of about 2.5, which are clipped, and of about 0.25, which are not.
    compare(&CONFIG, None, 1.0);
    compare(&CONFIG, None, 0.1);
    compare(&AdamWConfig { clip: None, epsilon: 1e-2, ..CONFIG }, None, 1.0);
    compare(&AdamWConfig { weight_decay: 0.0, beta1: 0.5, ..CONFIG }, None, 1.0);
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    compare(&CONFIG, Some(0), 1.0);
    compare(&CONFIG, Some(3), 1.0);
}

#[test]
fn every_state_is_written_in_place() {
    let function = adamw(&specs(), &CONFIG);
    let pairs = function.in_place();
    for spec in specs() {
        for suffix in ["", "_m", "_v"] {
            let input = format!("{}{suffix}", spec.name);
            assert_eq!(pairs.get(format!("{input}_next").as_str()), Some(&input.as_str()));
        }
    }
    assert_eq!(pairs.len(), 9);
}

/// However parameters are spread over the programs.
#[test]
fn in_three_programs_it_gives_the_same_bits() {
    let specs = specs();
    for (clip, largest) in [(None, 1.0), (Some(0.5), 1.0), (Some(0.5), f64::INFINITY)] {
        let config = AdamWConfig { clip, ..CONFIG };
        let mut random = Random::new(3);
        let mut given: BTreeMap<String, Tensor> = BTreeMap::new();
        for spec in &specs {
            for suffix in ["", "_grad", "_m", "_v"] {
                let count = element_count(&spec.shape);
                let numbers = random.numbers(count, 0.1, 1.0);
                let numbers: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
                let tensor = Tensor::from_slice(&spec.shape, &numbers);
                given.insert(format!("{}{suffix}", spec.name), tensor);
            }
        }
        let one = |v: f64| Tensor::from_slice(&[1], &[v as f32]);
        given.insert("norm_grad".into(), Tensor::from_slice(&[5], &[largest as f32; 5]));
        for (name, value) in [
            ("learning_rate", 1e-2),
            ("beta1_correction", 0.1),
            ("beta2_correction", 0.05),
            ("gradient_scale", 0.25),
        ] {
            given.insert(name.to_owned(), one(value));
        }
        let run = |function: &Function, given: &BTreeMap<String, Tensor>| {
            let names = function.params.iter().map(|p| function.value_name(p.value).to_owned());
            let wanted = names.map(|name| (name.clone(), given[&name].clone())).collect();
            Runnable::new(function).run(&wanted)
        };
        let whole = run(&adamw(&specs, &config), &given);
        for cut in 0..=specs.len() {
            let mut given = given.clone();
            for part in [&specs[..cut], &specs[cut..]] {
                given.extend(run(&adamw_squares(part), &given));
            }
            given.extend(run(&adamw_norm(&specs, &config), &given));
            assert_eq!(given["gradient_norm"], whole["gradient_norm"]);
            for part in [&specs[cut..], &specs[..cut]] {
                for (name, tensor) in run(&adamw_update(part, &config), &given) {
                    assert_eq!(tensor, whole[&name], "{name}");
                }
            }
        }
    }
}
