//! The activation tables of the M4 generation, as found in programs that its compiler wrote.
//!
//! A record is 64 fp16 numbers, given here by their bits: thresholds below and above which the
//! result is a constant, those two constants, 33 samples, and slope and intercept of the lines
//! between the thresholds and the ends of the samples.

/// One activation's record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivationTable {
    /// The record's first 41 fp16 numbers, as bits.
    pub bits: [u16; 41],
    /// Position of the first sample.
    pub start: f32,
    /// Distance of samples.
    pub step: f32,
    /// Whether the table holds positive positions of an odd function.
    pub odd: bool,
}

/// `1 / (1 + e⁻ˣ)`.
pub const SIGMOID: ActivationTable = ActivationTable {
    bits: [
        51448, 18473, 0, 15360, 3455, 4231, 4983, 5670, 6416, 7211, 7898, 8608, 9371, 10113, 10770,
        11483, 12193, 12758, 13390, 13834, 14336, 14587, 14809, 14986, 15116, 15205, 15263, 15300,
        15323, 15337, 15346, 15352, 15355, 15357, 15358, 15359, 15359, 2476, 5900, 5694, 15334,
    ],
    start: -8.0,
    step: 0.5,
    odd: false,
};

/// `tanh x`.
pub const TANH: ActivationTable = ActivationTable {
    bits: [
        0, 17408, 0, 15360, 0, 12277, 13270, 13756, 14181, 14448, 14613, 14754, 14872, 14969,
        15049, 15114, 15166, 15207, 15240, 15266, 15286, 15302, 15315, 15325, 15333, 15339, 15343,
        15347, 15350, 15352, 15354, 15355, 15356, 15357, 15358, 15358, 15359, 0, 0, 0, 15360,
    ],
    start: 0.0,
    step: 0.125,
    odd: true,
};

/// GELU in every mode: the compiler uses one table.
pub const GELU: ActivationTable = ActivationTable {
    bits: [
        50278, 31744, 0, 31744, 0, 36490, 37424, 38743, 39920, 40977, 41919, 42732, 43455, 44149,
        44647, 45117, 45342, 45444, 45316, 44751, 37421, 12440, 13694, 14495, 15032, 15480, 15770,
        16057, 16338, 16498, 16632, 16764, 16894, 17023, 17152, 17280, 17408, 0, 0, 15360, 0,
    ],
    start: -4.0,
    step: 0.25,
    odd: false,
};

/// `x / (1 + e⁻ˣ)`.
pub const SILU: ActivationTable = ActivationTable {
    bits: [
        51482, 31744, 0, 31744, 39117, 40030, 40549, 41199, 41851, 42409, 43067, 43589, 44174,
        44677, 45192, 45584, 45993, 46192, 46176, 45700, 38651, 13502, 14800, 15588, 16139, 16543,
        16823, 17100, 17372, 17523, 17656, 17786, 17916, 18046, 18174, 18303, 18431, 37981, 41361,
        15360, 39936,
    ],
    start: -8.0,
    step: 0.5,
    odd: false,
};

/// Samples of `2^(i/32)` for i from 0 to 32, as fp16 bits.
pub const EXP2: [u16; 33] = [
    15360, 15382, 15405, 15429, 15453, 15477, 15502, 15528, 15554, 15580, 15608, 15636, 15664,
    15693, 15723, 15753, 15784, 15816, 15848, 15881, 15915, 15950, 15985, 16021, 16058, 16096,
    16134, 16174, 16214, 16255, 16297, 16340, 16384,
];

/// Samples of `2 / m` for m from 1 to 2 in steps of 1/32, as fp16 bits.
pub const RECIPROCAL: [u16; 33] = [
    16384, 16322, 16264, 16208, 16156, 16107, 16061, 16016, 15974, 15934, 15896, 15860, 15825,
    15792, 15761, 15730, 15701, 15673, 15647, 15621, 15596, 15573, 15550, 15528, 15506, 15486,
    15466, 15447, 15428, 15410, 15393, 15376, 15360,
];
