//! Images between pixels, chosen boxes, random numbers.

use super::numbers::{Numbers, integers};
use super::spatial::position;
use crate::op::{Border, BoxForm, Coordinates, Distribution, Grid, Random, Sample, Suppression};
use orion_tensor::{Tensor, element_count};

/// One channel of an image.
#[derive(Clone, Copy)]
struct Plane<'a> {
    pixels: &'a [f64],
    height: usize,
    width: usize,
}

impl Plane<'_> {
    /// A pixel, or what the border says of its place.
    fn pixel(self, row: i64, column: i64, border: Border) -> f64 {
        let inside = |at: i64, n: usize| {
            let n = n as i64;
            let at = match border {
                Border::Constant(_) => Some(at).filter(|&at| (0..n).contains(&at))?,
                Border::Edge => at.clamp(0, n - 1),
                Border::Reflection if n == 1 => 0,
                Border::Reflection => {
                    let period = 2 * (n - 1);
                    let at = at.rem_euclid(period);
                    at.min(period - at)
                }
                Border::Symmetric => {
                    let at = at.rem_euclid(2 * n);
                    at.min(2 * n - 1 - at)
                }
            };
            Some(at as usize)
        };
        match (inside(row, self.height), inside(column, self.width), border) {
            (Some(row), Some(column), _) => self.pixels[row * self.width + column],
            (_, _, Border::Constant(value)) => value,
            _ => f64::NAN,
        }
    }

    /// The number at a point, in pixels.
    fn at(self, y: f64, x: f64, nearest: bool, border: Border) -> f64 {
        // Far outside everything is border; whole numbers stay exact.
        let limit = |v: f64| if v.is_nan() { v } else { v.clamp(-1e9, 1e9) };
        let (y, x) = (limit(y), limit(x));
        if y.is_nan() || x.is_nan() {
            return f64::NAN;
        }
        if nearest {
            return self.pixel(libm::rint(y) as i64, libm::rint(x) as i64, border);
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let mut sum = 0.0;
        for (row, share) in [(top, 1.0 - down), (top + 1.0, down)] {
            for (column, part) in [(left, 1.0 - right), (left + 1.0, right)] {
                // A pixel without a share does not count, even if it is infinite.
                if share * part != 0.0 {
                    sum += share * part * self.pixel(row as i64, column as i64, border);
                }
            }
        }
        sum
    }
}

/// A coordinate in pixels.
fn in_pixels(coordinate: f64, n: usize, grid: Grid) -> f64 {
    let share = match grid.coordinates {
        Coordinates::Pixels => return coordinate,
        Coordinates::MinusOneToOne => (coordinate + 1.0) / 2.0,
        Coordinates::ZeroToOne => coordinate,
    };
    let n = n as f64;
    if grid.align_corners { share * (n - 1.0) } else { share * n - 0.5 }
}

/// `shape` is the output's.
pub(super) fn sample(op: &Sample, operands: &[Tensor], shape: &[usize]) -> Result<Numbers, String> {
    let values = operands[0].to_f64_vec();
    let of = operands[0].shape();
    let (channels, height, width) = (of[1], of[2], of[3]);
    let plane = |image: usize, channel: usize| {
        let start = (image * channels + channel) * height * width;
        Plane { pixels: &values[start..start + height * width], height, width }
    };
    let numbers = operands[1].to_f64_vec();
    let mut result = Vec::with_capacity(element_count(shape));
    match op {
        Sample::Points { grid, .. } => {
            let points = shape[2] * shape[3];
            for image in 0..shape[0] {
                for channel in 0..channels {
                    for point in 0..points {
                        let at = 2 * (image * points + point);
                        let x = in_pixels(numbers[at], width, *grid);
                        let y = in_pixels(numbers[at + 1], height, *grid);
                        let plane = plane(image, channel);
                        result.push(plane.at(y, x, grid.nearest, grid.border));
                    }
                }
            }
        }
        Sample::Affine { size, grid, .. } => {
            // The output's own points, in the same coordinates.
            let own = |i: usize, n: usize| {
                let (i, n) = (i as f64, n as f64);
                let share = match grid.align_corners {
                    true if n == 1.0 => 0.5,
                    true => i / (n - 1.0),
                    false => (i + 0.5) / n,
                };
                match grid.coordinates {
                    Coordinates::Pixels => i,
                    Coordinates::MinusOneToOne => 2.0 * share - 1.0,
                    Coordinates::ZeroToOne => share,
                }
            };
            for image in 0..shape[0] {
                let m = &numbers[if numbers.len() == 6 { 0 } else { 6 * image }..][..6];
                for channel in 0..channels {
                    for row in 0..size[0] {
                        for column in 0..size[1] {
                            let (x, y) = (own(column, size[1]), own(row, size[0]));
                            let to_x = in_pixels(m[0] * x + m[1] * y + m[2], width, *grid);
                            let to_y = in_pixels(m[3] * x + m[4] * y + m[5], height, *grid);
                            let plane = plane(image, channel);
                            result.push(plane.at(to_y, to_x, grid.nearest, grid.border));
                        }
                    }
                }
            }
        }
        Sample::Crop {
            box_indices, size, normalized, scale, form, sampling, pad_value, ..
        } => {
            let is_old = operands[1].shape().len() == 5;
            let each = if is_old { operands[1].shape()[2] } else { 4 };
            let given = box_indices.map(|_| integers(&operands[2]));
            for (place, numbers) in numbers.chunks_exact(each).enumerate() {
                let (own, numbers) = numbers.split_at(each - 4);
                let images: Vec<i128> = match (&given, own) {
                    (Some(indices), _) => vec![indices[place]],
                    (None, [image]) => vec![*image as i128],
                    (None, _) if is_old => (0..of[0] as i128).collect(),
                    (None, _) => vec![place as i128],
                };
                let ends = box_ends(numbers, *form);
                let [rows, columns] = [0, 1].map(|axis| {
                    let n = of[axis + 2];
                    let unit = scale * if *normalized { n as f64 - 1.0 } else { 1.0 };
                    let (from, to) = (ends[axis].0 * unit, ends[axis].1 * unit);
                    let at = |i| from + position(*sampling, i, to - from + 1.0, size[axis]);
                    (0..size[axis]).map(at).collect::<Vec<f64>>()
                });
                for image in images {
                    let image =
                        usize::try_from(image).ok().filter(|&i| i < of[0]).ok_or_else(|| {
                            format!("box {place} is of image {image}, there are {}", of[0])
                        })?;
                    for channel in 0..channels {
                        for &y in &rows {
                            for &x in &columns {
                                let inside = (0.0..=(height - 1) as f64).contains(&y)
                                    && (0.0..=(width - 1) as f64).contains(&x);
                                let plane = plane(image, channel);
                                result.push(match inside {
                                    true => plane.at(y, x, false, Border::Edge),
                                    false => *pad_value,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(Numbers::Float(result))
}

/// Beginning and end of a box along the height and along the width.
fn box_ends(numbers: &[f64], form: BoxForm) -> [(f64, f64); 2] {
    let (a, b, c, d) = (numbers[0], numbers[1], numbers[2], numbers[3]);
    let around = |middle: f64, size: f64| (middle - size / 2.0, middle + size / 2.0);
    match form {
        BoxForm::CornersHeightFirst => [(a, c), (b, d)],
        BoxForm::CornersWidthFirst => [(b, d), (a, c)],
        BoxForm::CenterHeightFirst => [around(a, c), around(b, d)],
        BoxForm::CenterWidthFirst => [around(b, d), around(a, c)],
    }
}

/// The outputs in order, as floats.
pub(super) fn suppression(op: &Suppression, operands: &[Tensor]) -> Vec<Vec<f64>> {
    let (boxes, scores) = (operands[0].to_f64_vec(), operands[1].to_f64_vec());
    let in_rows = op.score_threshold.is_some();
    let (b, s) = (operands[0].shape(), operands[1].shape());
    let (batches, count, classes) = if in_rows { (b[0], b[1], s[2]) } else { (b[0], b[2], s[1]) };
    let place = |batch: usize, i: usize, k: usize, each: usize, count: usize| {
        let within = if in_rows { i * each + k } else { k * count + i };
        batch * each * count + within
    };
    let most = op.max_boxes;
    let mut all = [
        vec![0.0; batches * most * 4],
        vec![0.0; batches * most * classes],
        vec![-1.0; batches * most],
        Vec::new(),
    ];
    for batch in 0..batches {
        let score = |i: usize, k: usize| scores[place(batch, i, k, classes, count)];
        let corner = |i: usize, k: usize| boxes[place(batch, i, k, 4, count)];
        let best: Vec<(usize, f64)> = (0..count)
            .map(|i| {
                (1..classes).fold((0, score(i, 0)), |(class, v), k| {
                    if score(i, k) > v { (k, score(i, k)) } else { (class, v) }
                })
            })
            .collect();
        let mut order: Vec<usize> = (0..count)
            .filter(|&i| op.score_threshold.is_none_or(|least| best[i].1 >= least))
            .collect();
        order.sort_by(|&i, &j| best[j].1.total_cmp(&best[i].1));
        let overlap = |i: usize, j: usize| {
            let shared = |middle: usize, size: usize| {
                let end = |i: usize, half: f64| corner(i, middle) + half * corner(i, size);
                (end(i, 0.5).min(end(j, 0.5)) - end(i, -0.5).max(end(j, -0.5))).max(0.0)
            };
            let both = shared(0, 2) * shared(1, 3);
            let area = |i: usize| corner(i, 2) * corner(i, 3);
            both / (area(i) + area(j) - both)
        };
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.len() == most {
                break;
            }
            let rivals = kept.iter().filter(|&&j| !op.per_class || best[i].0 == best[j].0);
            if !rivals.clone().any(|&j| overlap(i, j) > op.iou_threshold) {
                kept.push(i);
            }
        }
        for (at, &i) in kept.iter().enumerate() {
            (0..4).for_each(|k| all[0][place(batch, at, k, 4, most)] = corner(i, k));
            (0..classes).for_each(|k| all[1][place(batch, at, k, classes, most)] = score(i, k));
            all[2][batch * most + at] = i as f64;
        }
        all[3].push(kept.len() as f64);
    }
    all.into_iter().take(if in_rows { 4 } else { 3 }).collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Source(u64);

impl Source {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// By the method of Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform())
    }
}

pub(super) fn random(op: &Random, operands: &[Tensor]) -> Numbers {
    let mut source = Source(op.start);
    let count = element_count(&op.shape);
    Numbers::Float(match op.distribution {
        Distribution::Uniform { low, high } => {
            (0..count).map(|_| low + (high - low) * source.uniform()).collect()
        }
        Distribution::Normal { mean, deviation } => {
            (0..count).map(|_| mean + deviation * source.normal()).collect()
        }
        Distribution::Bernoulli { probability } => {
            (0..count).map(|_| f64::from(u8::from(source.uniform() < probability))).collect()
        }
        Distribution::Categorical { logits, .. } => {
            let classes = *operands[0].shape().last().expect("x has an axis");
            let each = *op.shape.last().expect("as many as x");
            let values = operands[0].to_f64_vec();
            let mut drawn = Vec::with_capacity(count);
            for row in values.chunks_exact(classes) {
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weight = |v: f64| if logits { libm::exp(v - most) } else { v.max(0.0) };
                let weights: Vec<f64> = row.iter().map(|&v| weight(v)).collect();
                let total: f64 = weights.iter().sum();
                for _ in 0..each {
                    let mut rest = source.uniform() * total;
                    let place = weights.iter().position(|&w| {
                        rest -= w;
                        rest < 0.0
                    });
                    drawn.push(place.unwrap_or(classes - 1) as f64);
                }
            }
            drawn
        }
    })
}
