//! Numbers in blocks that share scales, as ggml keeps them.

use orion_tensor::{AlignedBytes, Bytes, f16, in_parts};

/// How a tensor's numbers are kept; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "the names are the format's")]
pub enum TensorKind {
    /// fp32
    F32 = 0,
    /// fp16
    F16 = 1,
    /// bf16
    BF16 = 30,
    /// 32 numbers of 8 bits, a scale
    Q8_0 = 8,
    /// 32 numbers of 4 bits, a scale
    Q4_0 = 2,
    /// 32 numbers of 4 bits, a scale and a minimum
    Q4_1 = 3,
    /// 32 numbers of 5 bits, a scale
    Q5_0 = 6,
    /// 32 numbers of 5 bits, a scale and a minimum
    Q5_1 = 7,
    /// 256 numbers of 4 bits; scales and minima of 6 bits for every 32
    Q4_K = 12,
    /// 256 numbers of 5 bits; scales and minima of 6 bits for every 32
    Q5_K = 13,
    /// 256 numbers of 6 bits; scales of 8 bits for every 16
    Q6_K = 14,
}

use TensorKind::*;

/// Whole numbers with an fp32 scale for every few of them, and an offset where blocks have minima.
pub(super) struct Scaled {
    /// int8
    pub data: Bytes,
    pub scales: Vec<f32>,
    pub offsets: Option<Vec<f32>>,
}

impl TensorKind {
    /// Every kind that is read.
    pub const ALL: [Self; 11] = [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u32 == number)
    }

    /// The names of kinds that are not read.
    pub(super) fn name_of(number: u32) -> Option<&'static str> {
        Some(match number {
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            16..=23 | 29 => "of an IQ kind",
            24..=28 => "of a whole-number or fp64 kind",
            34 | 35 => "of a ternary kind",
            39 => "MXFP4",
            _ => return None,
        })
    }

    /// Its name in ggml.
    pub fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            Q8_0 => "Q8_0",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q4_K => "Q4_K",
            Q5_K => "Q5_K",
            Q6_K => "Q6_K",
        }
    }

    /// Numbers in a block.
    pub fn block_elements(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 => 32,
            Q4_K | Q5_K | Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q8_0 => 34,
            Q4_0 => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q4_K => 144,
            Q5_K => 176,
            Q6_K => 210,
        }
    }

    /// Numbers that share a scale and, where the kind has one, a minimum; `None` for kinds that are
    /// not quantized.
    pub fn scaled_elements(self) -> Option<usize> {
        match self {
            F32 | F16 | BF16 => None,
            Q6_K => Some(16),
            _ => Some(32),
        }
    }

    /// Whether blocks have a minimum beside their scale.
    pub fn has_minimum(self) -> bool {
        matches!(self, Q4_1 | Q5_1 | Q4_K | Q5_K)
    }

    /// The numbers as `scale · (data - offset)`. Without offsets these are exactly those of
    /// [`TensorKind::dequantize`]; offsets are minima over scales, rounded to fp32, with which each
    /// number is within 2⁻²² of `|scale · data| + |minimum|`.
    ///
    /// # Panics
    /// When the kind is none of [`TensorKind::scaled_elements`] or a block is cut.
    pub(super) fn to_scaled(self, bytes: &[u8]) -> Scaled {
        assert!(
            bytes.len().is_multiple_of(self.block_bytes()),
            "a block of {} is cut",
            self.name()
        );
        let each = self.scaled_elements().expect("numbers with scales");
        let elements = self.block_elements();
        let mut data = AlignedBytes::zeroed(bytes.len() / self.block_bytes() * elements);
        let by_block = in_parts(&mut data, elements, |first, data| {
            let count = data.len() / each;
            let mut scales = Vec::with_capacity(count);
            let mut offsets = Vec::with_capacity(if self.has_minimum() { count } else { 0 });
            let data: &mut [i8] = bytemuck::cast_slice_mut(data);
            let blocks = bytes.chunks_exact(self.block_bytes()).skip(first);
            for (block, data) in blocks.zip(data.chunks_exact_mut(elements)) {
                self.whole_numbers(block, data);
                for (i, data) in data.chunks_exact_mut(each).enumerate() {
                    let (scale, minimum) = self.scale_and_minimum(block, i);
                    if !self.has_minimum() {
                        scales.push(scale);
                    } else if scale == 0.0 {
                        // All are the minimum, which no offset of a scale of zero gives.
                        data.fill(1);
                        scales.push(-minimum);
                        offsets.push(0.0);
                    } else {
                        scales.push(scale);
                        offsets.push(minimum / scale);
                    }
                }
            }
            (scales, offsets)
        });
        let (scales, offsets): (Vec<_>, Vec<_>) = by_block.into_iter().unzip();
        let offsets = self.has_minimum().then(|| offsets.concat());
        Scaled { data: Bytes::new(data), scales: scales.concat(), offsets }
    }

    /// The numbers of a block before they are scaled.
    fn whole_numbers(self, block: &[u8], out: &mut [i8]) {
        match self {
            Q8_0 => out.copy_from_slice(bytemuck::cast_slice(&block[2..])),
            Q4_0 => q4(8, &block[2..], out),
            Q4_1 => q4(0, &block[4..], out),
            Q5_0 => q5(16, &block[2..], out),
            Q5_1 => q5(0, &block[4..], out),
            Q4_K => q4_k(block, out),
            Q5_K => q5_k(block, out),
            Q6_K => q6_k(block, out),
            F32 | F16 | BF16 => unreachable!("not quantized"),
        }
    }

    /// What the `i`-th numbers of a block that share a scale are multiplied with, and what is taken
    /// off then.
    fn scale_and_minimum(self, block: &[u8], i: usize) -> (f32, f32) {
        match self {
            Q4_1 | Q5_1 => (half(block, 0), -half(block, 2)),
            Q4_K | Q5_K => packed_scale_and_minimum(block, i),
            Q6_K => (half(block, 208) * f32::from(block[192 + i] as i8), 0.0),
            _ => (half(block, 0), 0.0),
        }
    }

    /// The numbers of whole blocks of a quantized kind.
    ///
    /// # Panics
    /// When the kind is not quantized or a block is cut.
    pub(super) fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        let blocks = bytes.chunks_exact(self.block_bytes());
        assert!(blocks.remainder().is_empty(), "a block of {} is cut", self.name());
        let each = self.scaled_elements().expect("a kind that is quantized");
        let mut out = vec![0.0; blocks.len() * self.block_elements()];
        let mut whole = [0; 256];
        let whole = &mut whole[..self.block_elements()];
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.block_elements())) {
            self.whole_numbers(block, whole);
            for (i, (out, whole)) in out.chunks_exact_mut(each).zip(whole.chunks(each)).enumerate()
            {
                let (scale, minimum) = self.scale_and_minimum(block, i);
                for (value, &whole) in out.iter_mut().zip(whole) {
                    *value = scale * f32::from(whole) - minimum;
                }
            }
        }
        out
    }
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// 16 bytes: low halves are the first 16 numbers, high halves the last.
fn q4(zero: i8, quants: &[u8], out: &mut [i8]) {
    for (i, &byte) in quants[..16].iter().enumerate() {
        out[i] = (byte & 15) as i8 - zero;
        out[i + 16] = (byte >> 4) as i8 - zero;
    }
}

/// Four bytes with the fifth bit of every number, then as in [`q4`].
fn q5(zero: i8, quants: &[u8], out: &mut [i8]) {
    let high = u32::from_le_bytes([quants[0], quants[1], quants[2], quants[3]]);
    let fifth = |i: usize| ((high >> i & 1) as u8) << 4;
    for (i, &byte) in quants[4..20].iter().enumerate() {
        out[i] = (byte & 15 | fifth(i)) as i8 - zero;
        out[i + 16] = (byte >> 4 | fifth(i + 16)) as i8 - zero;
    }
}

/// Scale and minimum of the `i`-th 32 numbers of a block of Q4_K or Q5_K: 6 bits each, from 12
/// bytes, times the block's own.
fn packed_scale_and_minimum(block: &[u8], i: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        (packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4)
    };
    (half(block, 0) * f32::from(scale), half(block, 2) * f32::from(minimum))
}

/// 128 bytes behind the scales: of every 32 the low halves are 32 numbers, the high ones the next.
fn q4_k(block: &[u8], out: &mut [i8]) {
    let quants = block[16..144].chunks_exact(32);
    for (quants, out) in quants.zip(out.chunks_exact_mut(64)) {
        let (low, high) = out.split_at_mut(32);
        for ((low, high), &byte) in low.iter_mut().zip(high).zip(quants) {
            (*low, *high) = ((byte & 15) as i8, (byte >> 4) as i8);
        }
    }
}

/// 32 bytes with the fifth bits, one of each for every 32 numbers, then as in [`q4_k`].
fn q5_k(block: &[u8], out: &mut [i8]) {
    let high = &block[16..48];
    let quants = block[48..176].chunks_exact(32);
    for (pair, (quants, out)) in quants.zip(out.chunks_exact_mut(64)).enumerate() {
        for (second, out) in out.chunks_exact_mut(32).enumerate() {
            let i = 2 * pair + second;
            for ((value, &byte), &high) in out.iter_mut().zip(quants).zip(high) {
                *value = (byte >> (4 * second) & 15 | (high >> i & 1) << 4) as i8;
            }
        }
    }
}

/// Low four bits in 128 bytes, high two in 64.
fn q6_k(block: &[u8], out: &mut [i8]) {
    for (part, out) in out.chunks_exact_mut(128).enumerate() {
        let low = &block[64 * part..][..64];
        let high = &block[128 + 32 * part..][..32];
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let low = &low[32 * (quarter % 2)..][..32];
            for ((value, &byte), &high) in out.iter_mut().zip(low).zip(high) {
                let quant = byte >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
                *value = quant as i8 - 32;
            }
        }
    }
}

/// Appends `values`, a multiple of 32, as [`TensorKind::Q8_0`]: in every block the largest
/// magnitude becomes 127, and numbers are rounded away from zero at halves, as ggml does.
pub(super) fn quantize_q8_0(values: &[f32], out: &mut Vec<u8>) {
    for block in values.chunks_exact(32) {
        let largest = block.iter().fold(0f32, |m, v| m.max(v.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        out.extend(f16::from_f32(scale).to_le_bytes());
        out.extend(block.iter().map(|v| (v * inverse).round() as i8 as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definitions, one number at a time: where its bits lie in the block, by its index.
    fn naive(kind: TensorKind, block: &[u8], i: usize) -> f32 {
        let bit = |byte: usize, bit: usize| u32::from(block[byte] >> bit & 1);
        let bits = |byte: usize, from: usize, count: usize| {
            (0..count).map(|n| bit(byte, from + n) << n).sum::<u32>() as f32
        };
        let packed = |start: usize, j: usize| {
            // Bits 0..6 of the first four, then low and high parts.
            if j < 4 {
                (bits(start + j, 0, 6), bits(start + j + 4, 0, 6))
            } else {
                (
                    bits(start + j + 4, 0, 4) + 16.0 * bits(start + j - 4, 6, 2),
                    bits(start + j + 4, 4, 4) + 16.0 * bits(start + j, 6, 2),
                )
            }
        };
        let nibble = |start: usize| bits(start + i % 16, 4 * (i / 16), 4);
        match kind {
            Q8_0 => half(block, 0) * f32::from(block[2 + i] as i8),
            Q4_0 => (nibble(2) - 8.0) * half(block, 0),
            Q4_1 => nibble(4) * half(block, 0) + half(block, 2),
            Q5_0 => (nibble(6) + 16.0 * bits(2 + i / 8, i % 8, 1) - 16.0) * half(block, 0),
            Q5_1 => {
                (nibble(8) + 16.0 * bits(4 + i / 8, i % 8, 1)) * half(block, 0) + half(block, 2)
            }
            Q4_K | Q5_K => {
                let group = i / 32;
                let (scale, minimum) = packed(4, group);
                let start = if kind == Q4_K { 16 } else { 48 };
                let low = bits(start + 32 * (group / 2) + i % 32, 4 * (group % 2), 4);
                let high = if kind == Q4_K { 0.0 } else { bits(16 + i % 32, group, 1) };
                half(block, 0) * scale * (low + 16.0 * high) - half(block, 2) * minimum
            }
            Q6_K => {
                let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
                let low = bits(64 * part + 32 * (quarter % 2) + l, 4 * (quarter / 2), 4);
                let high = bits(128 + 32 * part + l, 2 * quarter, 2);
                let own = f32::from(block[192 + 8 * part + 2 * quarter + l / 16] as i8);
                half(block, 208) * own * (low + 16.0 * high - 32.0)
            }
            F32 | F16 | BF16 => unreachable!(),
        }
    }

    #[test]
    fn every_kind_equals_its_definition() {
        let mut state = 0x9e37_79b9u32;
        for kind in TensorKind::ALL.into_iter().skip(3) {
            let mut block: Vec<u8> = (0..kind.block_bytes() * 4)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            for (i, block) in block.chunks_exact_mut(kind.block_bytes()).enumerate() {
                // Scales that are numbers, the last zero.
                let at = if kind == Q6_K { 208 } else { 0 };
                let scale = if i == 3 { 0.0 } else { 0.037 };
                block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
                if kind.has_minimum() {
                    block[2..4].copy_from_slice(&f16::from_f32(-0.21).to_le_bytes());
                }
            }
            let fast = kind.dequantize(&block);
            let n = kind.block_elements();
            assert_eq!(fast.len(), 4 * n);
            for (i, value) in fast.iter().enumerate() {
                let block = &block[i / n * kind.block_bytes()..][..kind.block_bytes()];
                assert_eq!(*value, naive(kind, block, i % n), "{} {i}", kind.name());
            }
            let each = kind.scaled_elements().unwrap();
            let Scaled { data, scales, offsets } = kind.to_scaled(&block);
            assert_eq!((data.len(), scales.len()), (fast.len(), fast.len() / each));
            assert_eq!(offsets.as_ref().map(Vec::len), kind.has_minimum().then_some(scales.len()));
            for (i, &value) in fast.iter().enumerate() {
                let (data, scale) = (f32::from(data[i] as i8), scales[i / each]);
                let offset = offsets.as_ref().map_or(0.0, |o| o[i / each]);
                let away = (scale * (data - offset) - value).abs();
                let allowed = match offset {
                    0.0 => 0.0,
                    _ => f32::EPSILON * 2.0 * ((scale * data).abs() + (scale * offset).abs()),
                };
                assert!(away <= allowed, "{} {i}: {away} away from {value}", kind.name());
            }
            // So large that several threads make parts of it.
            let times = (3 << 20) / data.len() + 1;
            let all = kind.to_scaled(&block.repeat(times));
            assert!(*all.data == *data.repeat(times), "{}", kind.name());
            assert_eq!(all.scales, scales.repeat(times), "{}", kind.name());
            assert_eq!(all.offsets, offsets.map(|o| o.repeat(times)), "{}", kind.name());
        }
    }

    #[test]
    fn q8_0_is_off_by_half_a_scale_at_most() {
        let values: Vec<f32> = (0..96).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let mut bytes = Vec::new();
        quantize_q8_0(&values, &mut bytes);
        assert_eq!(bytes.len(), 3 * 34);
        for (i, (back, value)) in Q8_0.dequantize(&bytes).iter().zip(&values).enumerate() {
            let scale = half(&bytes, i / 32 * 34);
            // Half a step, and what the scale lost in fp16.
            let most = scale * (0.5 + 127.0 / 2048.0);
            assert!((back - value).abs() <= most, "{value} became {back}");
        }
        let mut zeros = Vec::new();
        quantize_q8_0(&[0.0; 32], &mut zeros);
        assert!(Q8_0.dequantize(&zeros).iter().all(|&v| v == 0.0));
    }
}
