use half::{bf16, f16};
use std::fmt;
use std::str::FromStr;

/// The element type of a tensor, with MIL's names.
///
/// `String` has no fixed size; it exists because MIL tensors may hold strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are the documentation")]
pub enum DType {
    Bool,
    String,
    F16,
    F32,
    F64,
    BF16,
    F8E4M3FN,
    F8E5M2,
    I4,
    I8,
    I16,
    I32,
    I64,
    U1,
    U2,
    U3,
    U4,
    U6,
    U8,
    U16,
    U32,
    U64,
}

const NAMES: [(DType, &str, usize); 22] = [
    (DType::Bool, "bool", 8),
    (DType::String, "string", 0),
    (DType::F16, "fp16", 16),
    (DType::F32, "fp32", 32),
    (DType::F64, "fp64", 64),
    (DType::BF16, "bf16", 16),
    (DType::F8E4M3FN, "fp8e4m3fn", 8),
    (DType::F8E5M2, "fp8e5m2", 8),
    (DType::I4, "int4", 4),
    (DType::I8, "int8", 8),
    (DType::I16, "int16", 16),
    (DType::I32, "int32", 32),
    (DType::I64, "int64", 64),
    (DType::U1, "uint1", 1),
    (DType::U2, "uint2", 2),
    (DType::U3, "uint3", 3),
    (DType::U4, "uint4", 4),
    (DType::U6, "uint6", 6),
    (DType::U8, "uint8", 8),
    (DType::U16, "uint16", 16),
    (DType::U32, "uint32", 32),
    (DType::U64, "uint64", 64),
];

impl DType {
    /// The name MIL text uses, such as `fp16` or `int32`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Bits of one element; 0 for `String`. `Bool` takes a byte.
    pub fn bits(self) -> usize {
        NAMES[self as usize].2
    }

    /// Bytes that `count` elements take when packed, rounded up to a whole byte.
    pub fn packed_bytes(self, count: usize) -> usize {
        (count * self.bits()).div_ceil(8)
    }

    /// Bytes of one element held unpacked in memory: sub-byte types take one byte each.
    pub fn size_bytes(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Whether elements are narrower than a byte.
    pub fn is_sub_byte(self) -> bool {
        matches!(self.bits(), 1..=7)
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F16 | F32 | F64 | BF16 | F8E4M3FN | F8E5M2)
    }

    /// Whether this is an integer type; `Bool` is not.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool | DType::String)
    }

    /// Whether this is a signed integer type.
    pub fn is_signed_int(self) -> bool {
        use DType::*;
        matches!(self, I4 | I8 | I16 | I32 | I64)
    }

    /// Every element type, in declaration order.
    pub fn all() -> impl Iterator<Item = DType> {
        NAMES.iter().map(|row| row.0)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        NAMES.iter().find(|row| row.1 == s).map(|row| row.0).ok_or(())
    }
}

/// A Rust type that is the in-memory form of one [`DType`].
pub trait Element: bytemuck::Pod + Send + Sync + PartialEq + fmt::Debug {
    /// The matching element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident),*) => { $(impl Element for $ty { const DTYPE: DType = DType::$dtype; })* };
}
elements!(f16 => F16, f32 => F32, f64 => F64, bf16 => BF16, i8 => I8, i16 => I16, i32 => I32,
    i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_declaration_order() {
        for (i, dtype) in DType::all().enumerate() {
            assert_eq!(dtype as usize, i);
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
    }
}
