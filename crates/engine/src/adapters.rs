//! Adapters that are loaded beside a model, and the surfaces that bind them.

use crate::Result;
use orion_models::{Adapter, AdapterShape, LinearLayer, Network, matrix_names, program_name};
use orion_runtime::{Bindings, Layout, Surface};
use orion_tensor::DType;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// The lowest rank of a program. Ranks are rounded up to this or a power of two.
const LOWEST_RANK: usize = 8;

/// Adapters side by side. All have the shape of the largest, with zeros where they have nothing,
/// so that one program takes any of them and going from one to another binds other surfaces.
pub(crate) struct Adapters {
    network: Network,
    layers: Vec<LinearLayer>,
    adapters: Vec<Adapter>,
    /// The modules that any of them changes, and what their matrices are called in programs.
    modules: Vec<(LinearLayer, [String; 2])>,
    /// Rank of programs with one adapter.
    rank: usize,
    /// Of one adapter after another.
    single: Vec<Matrices>,
    /// All of them behind each other, made when sequences with different ones go together.
    together: Option<Matrices>,
    /// What the last program was bound to.
    last: Bound,
    /// How long it took to go to another adapter, the last time.
    swap: Option<Duration>,
}

/// `A` and `B` of every module, in the order of [`Adapters::modules`].
struct Matrices {
    rank: usize,
    surfaces: Vec<[Surface; 2]>,
}

/// The adapters of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// None: the program is the base's.
    Base,
    /// One for all sequences that have one.
    One(usize),
    /// Several.
    Several,
}

/// Surfaces for one run of a program.
pub(crate) struct AdapterInputs<'a> {
    names: &'a [(LinearLayer, [String; 2])],
    matrices: &'a Matrices,
    scale: Surface,
}

impl Adapters {
    /// None.
    pub(crate) fn new(network: &Network) -> Self {
        Self {
            network: network.clone(),
            layers: Vec::new(),
            adapters: Vec::new(),
            modules: Vec::new(),
            rank: 0,
            single: Vec::new(),
            together: None,
            last: Bound::Base,
            swap: None,
        }
    }

    /// Adds one and gives its number. Surfaces of the others stay unless this one changes modules
    /// that none of them does, or has a higher rank.
    pub(crate) fn load(&mut self, adapter: &Adapter) -> usize {
        if self.layers.is_empty() {
            self.layers = self.network.linear_layers();
        }
        self.adapters.push(adapter.clone());
        let changed: BTreeSet<&String> =
            self.adapters.iter().flat_map(|a| a.modules.keys()).collect();
        let modules = self.layers.iter().filter(|layer| changed.contains(&layer.module));
        let modules: Vec<_> = modules
            .map(|layer| {
                let names = matrix_names(&layer.module).map(|name| program_name(&name));
                (layer.clone(), names)
            })
            .collect();
        let rank = self.adapters.iter().map(Adapter::rank).max().unwrap_or(0);
        let rank = rank.next_power_of_two().max(LOWEST_RANK);
        if modules.len() != self.modules.len() || rank != self.rank {
            self.single.clear();
        }
        (self.modules, self.rank, self.together) = (modules, rank, None);
        for adapter in &self.adapters[self.single.len()..] {
            self.single.push(Matrices::of(&self.modules, &[(adapter, 0)], rank));
        }
        self.adapters.len() - 1
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.adapters.len()
    }

    /// What a program for sequences with these adapters has to take.
    pub(crate) fn bound(chosen: &[Option<usize>]) -> Bound {
        let mut present = chosen.iter().flatten();
        match present.next() {
            None => Bound::Base,
            Some(&first) if present.all(|&other| other == first) => Bound::One(first),
            Some(_) => Bound::Several,
        }
    }

    /// What tells programs that take this from others; modules only ever get more.
    pub(crate) fn key(&self, bound: Bound) -> String {
        match bound {
            Bound::Base => String::new(),
            Bound::One(_) => format!("{} {}", self.modules.len(), self.rank),
            Bound::Several => format!("{} {}", self.modules.len(), self.rank_together()),
        }
    }

    /// The shape of programs that take this; `None` for the base's.
    pub(crate) fn shape(&self, bound: Bound) -> Option<AdapterShape> {
        let rank = match bound {
            Bound::Base => return None,
            Bound::One(_) => self.rank,
            Bound::Several => self.rank_together(),
        };
        let modules = self.modules.iter().map(|(layer, _)| layer.module.clone()).collect();
        Some(AdapterShape { rank, modules })
    }

    fn rank_together(&self) -> usize {
        let rank: usize = self.adapters.iter().map(Adapter::rank).sum();
        rank.next_power_of_two().max(LOWEST_RANK)
    }

    /// The surfaces for sequences with these adapters, one after another; `None` when no sequence
    /// has one.
    pub(crate) fn inputs(&mut self, chosen: &[Option<usize>]) -> Option<AdapterInputs<'_>> {
        let begin = Instant::now();
        let bound = Self::bound(chosen);
        if bound == Bound::Base {
            self.last = bound;
            return None;
        }
        if bound == Bound::Several && self.together.is_none() {
            let mut at = 0;
            let placed = self.adapters.iter().map(|adapter| {
                at += adapter.rank();
                (adapter, at - adapter.rank())
            });
            let placed: Vec<_> = placed.collect();
            self.together = Some(Matrices::of(&self.modules, &placed, self.rank_together()));
        }
        let matrices = match bound {
            Bound::One(number) => &self.single[number],
            _ => self.together.as_ref().expect("made above"),
        };
        let mut scale = Surface::zeros(Layout::dense(DType::F32, &[matrices.rank, chosen.len()]));
        let columns = scale.elements_mut::<f32>();
        for (sequence, number) in chosen.iter().enumerate() {
            let Some(number) = *number else { continue };
            let adapter = &self.adapters[number];
            let before = match bound {
                Bound::One(_) => 0,
                _ => self.adapters[..number].iter().map(Adapter::rank).sum(),
            };
            for row in before..before + adapter.rank() {
                columns[row * chosen.len() + sequence] = scale_of(adapter) as f32;
            }
        }
        if self.last != bound {
            (self.last, self.swap) = (bound, Some(begin.elapsed()));
        }
        Some(AdapterInputs { names: &self.modules, matrices, scale })
    }

    /// How long the last change of adapters took: choosing the surfaces and writing the factors,
    /// which is all there is to it but binding, and every run binds.
    pub(crate) fn swap_time(&self) -> Option<Duration> {
        self.swap
    }
}

impl AdapterInputs<'_> {
    /// Binds the inputs of a program.
    pub(crate) fn bind<'b>(&'b self, bindings: &mut Bindings<'b>) {
        bindings.input(AdapterShape::SCALE, &self.scale);
        for ((_, names), surfaces) in self.names.iter().zip(&self.matrices.surfaces) {
            for (name, surface) in names.iter().zip(surfaces) {
                bindings.input(name, surface);
            }
        }
    }
}

/// The factor that programs multiply with: the largest. Modules that have another, by a pattern,
/// have the ratio of the two in their `B`.
fn scale_of(adapter: &Adapter) -> f64 {
    let scales = adapter.modules.values().map(|module| module.scale);
    scales.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0)
}

impl Matrices {
    /// Adapters at rows of the given numbers.
    fn of(
        modules: &[(LinearLayer, [String; 2])],
        placed: &[(&Adapter, usize)],
        rank: usize,
    ) -> Self {
        let surfaces = modules.iter().map(|(layer, _)| {
            let zeros = |shape: [usize; 2]| Surface::zeros(Layout::dense(DType::F32, &shape));
            let mut surfaces = [zeros([rank, layer.inputs]), zeros([layer.outputs, rank])];
            let [a, b] = surfaces.each_mut().map(|surface| surface.elements_mut::<f32>());
            for (adapter, at) in placed {
                let Some(module) = adapter.modules.get(&layer.module) else { continue };
                let own = module.rank();
                let rows = &mut a[at * layer.inputs..(at + own) * layer.inputs];
                rows.copy_from_slice(&module.a.elements::<f32>());
                // 1 unless the module has a factor of its own.
                let whole = scale_of(adapter);
                let ratio = if whole == 0.0 { 1.0 } else { module.scale / whole };
                let from = module.b.elements::<f32>();
                for (to, from) in b.chunks_exact_mut(rank).zip(from.chunks_exact(own)) {
                    for (to, &from) in to[*at..at + own].iter_mut().zip(from) {
                        *to = (f64::from(from) * ratio) as f32;
                    }
                }
            }
            surfaces
        });
        Self { rank, surfaces: surfaces.collect() }
    }
}

/// Loads an adapter for a network: see [`Adapter::load`].
///
/// # Errors
/// When the directory holds none that can be used.
pub fn load_adapter(path: &Path, network: &Network) -> Result<Adapter> {
    Ok(Adapter::load(path, network)?)
}
