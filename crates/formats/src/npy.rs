//! NumPy's `.npy`: one array with its element type and shape.
//!
//! Reads little-endian C-order arrays of the element types NumPy and [`DType`] share; does not
//! read Fortran order, structured types or objects.

use crate::{Error, ErrorKind, Result, map_file};
use orion_tensor::{Bytes, DType, Tensor};
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Headers are a few dozen bytes; the format allows 4 GiB.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// Data starts at a multiple of this, as NumPy itself writes.
const DATA_ALIGNMENT: usize = 64;

/// NumPy's names of the element types.
const TYPES: [(DType, &str); 12] = [
    (DType::Bool, "|b1"),
    (DType::I8, "|i1"),
    (DType::U8, "|u1"),
    (DType::I16, "<i2"),
    (DType::U16, "<u2"),
    (DType::I32, "<i4"),
    (DType::U32, "<u4"),
    (DType::I64, "<i8"),
    (DType::U64, "<u8"),
    (DType::F16, "<f2"),
    (DType::F32, "<f4"),
    (DType::F64, "<f8"),
];

/// Maps and reads an array.
///
/// # Errors
/// As [`parse`], with the path; and when the file cannot be mapped.
pub fn open(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    map_file(path).and_then(parse).map_err(|e| e.in_file(path))
}

/// Reads an array from the bytes of its file. Its storage is the file's memory.
///
/// # Errors
/// When the magic number or the header is not what the format asks for, the element type or order
/// is not supported, or the size of the data is not what the shape asks for.
pub fn parse(bytes: Bytes) -> Result<Tensor> {
    if !bytes.starts_with(MAGIC) {
        return Err(
            Error::new(ErrorKind::WrongFormat, "a .npy file starts with `\\x93NUMPY`").at(0)
        );
    }
    let truncated = || Error::new(ErrorKind::Truncated, "the .npy header is cut short").at(6);
    let (length_bytes, header_start) = match bytes.get(6).ok_or_else(truncated)? {
        1 => (2, 10),
        2 | 3 => (4, 12),
        version => {
            let detail = format!(".npy version {version}, expected 1, 2 or 3");
            return Err(Error::new(ErrorKind::Unsupported, detail).at(6));
        }
    };
    let length = bytes.get(8..8 + length_bytes).ok_or_else(truncated)?;
    let length = length.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
    if length > MAX_HEADER_BYTES {
        let detail =
            format!("a .npy header of {length} bytes, at most {MAX_HEADER_BYTES} are read");
        return Err(Error::new(ErrorKind::Malformed, detail).at(8));
    }
    let data_start = header_start + length;
    let header = bytes.get(header_start..data_start).ok_or_else(truncated)?;
    let (dtype, shape) = parse_header(header).map_err(|e| e.at(header_start as u64))?;
    let data = bytes.slice(data_start..bytes.len()).expect("the header lies inside the file");
    let found = data.len();
    let expected = shape.iter().try_fold(dtype.size_bytes(), |n, &d| n.checked_mul(d));
    if expected != Some(found) {
        let kind = match expected {
            Some(expected) if expected < found => ErrorKind::TrailingBytes,
            _ => ErrorKind::Truncated,
        };
        let detail = format!("{found} bytes of data do not make an array {dtype}{shape:?}");
        return Err(Error::new(kind, detail).at(data_start as u64));
    }
    if dtype == DType::Bool
        && let Some(at) = data.iter().position(|&b| b > 1)
    {
        let detail = format!("a bool of value {}, expected 0 or 1", data[at]);
        return Err(Error::new(ErrorKind::Malformed, detail).at((data_start + at) as u64));
    }
    Ok(Tensor::new(dtype, shape, data).expect("the size was checked"))
}

/// Writes an array, version 1.0 of the format.
///
/// # Errors
/// [`ErrorKind::NotRepresentable`] for element types NumPy has no name for;
/// [`ErrorKind::Io`] when the writer fails.
pub fn write(out: &mut impl Write, tensor: &Tensor) -> Result<()> {
    let dtype = tensor.dtype();
    let (_, descr) = TYPES.iter().find(|row| row.0 == dtype).ok_or_else(|| {
        Error::new(ErrorKind::NotRepresentable, format!("NumPy has no element type {dtype}"))
    })?;
    let sizes: String = tensor.shape().iter().map(|n| format!("{n}, ")).collect();
    let shape =
        if tensor.shape().len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    let padding = unpadded.next_multiple_of(DATA_ALIGNMENT) - unpadded;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| {
        Error::new(ErrorKind::NotRepresentable, "an array of that many axes has no .npy header")
    })?;
    let parts: [&[u8]; 5] =
        [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes(), tensor.bytes()];
    parts.iter().try_for_each(|part| out.write_all(part)).map_err(Error::write)
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, format!(".npy header: {}", detail.into()))
}

/// The header is a Python dictionary literal with exactly three keys.
fn parse_header(header: &[u8]) -> Result<(DType, Vec<usize>)> {
    let text = std::str::from_utf8(header).map_err(|_| malformed("not UTF-8"))?;
    let mut literal = Literal { rest: text.trim() };
    let (mut dtype, mut shape, mut order) = (None, None, None);
    literal.expect('{')?;
    while !literal.accept('}') {
        let key = literal.string()?;
        literal.expect(':')?;
        match key {
            "descr" => dtype = Some(literal.dtype()?),
            "fortran_order" => order = Some(literal.fortran_order()?),
            "shape" => shape = Some(literal.shape()?),
            key => return Err(malformed(format!("unknown key {key:?}"))),
        }
        if !literal.accept(',') {
            literal.expect('}')?;
            break;
        }
    }
    if !literal.rest.is_empty() {
        return Err(malformed("text behind the dictionary"));
    }
    let missing = |key: &str| malformed(format!("the key '{key}' is missing"));
    order.ok_or_else(|| missing("fortran_order"))?;
    Ok((dtype.ok_or_else(|| missing("descr"))?, shape.ok_or_else(|| missing("shape"))?))
}

struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn accept(&mut self, c: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(c) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.accept(c) { Ok(()) } else { Err(malformed(format!("expected `{c}`"))) }
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| malformed("expected a string"))?;
        let (text, rest) =
            self.rest[1..].split_once(quote).ok_or_else(|| malformed("a string is not closed"))?;
        self.rest = rest.trim_start();
        Ok(text)
    }

    fn dtype(&mut self) -> Result<DType> {
        let name = self.string()?;
        let found = TYPES.iter().find(|row| row.1 == name);
        found.map(|row| row.0).ok_or_else(|| {
            let known: Vec<&str> = TYPES.iter().map(|row| row.1).collect();
            let detail = format!(".npy element type '{name}', expected one of {}", known.join(" "));
            Error::new(ErrorKind::Unsupported, detail)
        })
    }

    fn fortran_order(&mut self) -> Result<()> {
        let len = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest.trim_start();
        match word {
            "False" => Ok(()),
            "True" => Err(Error::new(ErrorKind::Unsupported, "a .npy file in Fortran order")
                .hint("save numpy.ascontiguousarray(array)")),
            _ => Err(malformed("'fortran_order' is neither True nor False")),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.accept(')') {
            let len = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(len);
            let size = digits.parse().map_err(|_| malformed(format!("not a size: {digits:?}")))?;
            shape.push(size);
            self.rest = rest.trim_start();
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(tensor: &Tensor) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, tensor).unwrap();
        out
    }

    #[test]
    fn every_type_and_rank_comes_back() {
        for (dtype, _) in TYPES {
            for shape in [&[][..], &[3], &[2, 3], &[0, 4], &[1, 2, 1, 2]] {
                let count = orion_tensor::element_count(shape);
                let values: Vec<f64> = (0..count).map(|i| (i % 2) as f64).collect();
                let tensor = Tensor::from_f64(dtype, shape, &values);
                let bytes = written(&tensor);
                let data_bytes = count * dtype.size_bytes();
                assert!((bytes.len() - data_bytes).is_multiple_of(DATA_ALIGNMENT));
                assert_eq!(parse(Bytes::new(bytes)).unwrap(), tensor);
            }
        }
    }

    #[test]
    fn writes_the_bytes_numpy_writes() {
        let bytes = written(&Tensor::from_slice(&[2], &[1.0f32, -2.0]));
        let header =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&bytes[..header.len()], header);
        assert_eq!(&bytes[127..], b"\n\x00\x00\x80\x3f\x00\x00\x00\xc0");
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        let good = written(&Tensor::from_slice(&[2, 2], &[1i32, 2, 3, 4]));
        for len in 0..good.len() {
            assert!(parse(Bytes::new(good[..len].to_vec())).is_err(), "{len}");
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(parse(Bytes::new(long)).unwrap_err().kind(), ErrorKind::TrailingBytes);
        for at in 0..good.len() {
            for byte in [0, b'(', b'9', b'\'', 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = parse(Bytes::new(bad));
            }
        }
        let huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((huge.len() as u16).to_le_bytes());
        bytes.extend(huge);
        assert_eq!(parse(Bytes::new(bytes)).unwrap_err().kind(), ErrorKind::Truncated);
    }

    #[test]
    fn says_what_is_not_supported() {
        let text = |header: &str| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.as_bytes());
            parse(Bytes::new(bytes)).unwrap_err().to_string()
        };
        let fortran = text("{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}");
        assert!(fortran.contains("Fortran order"), "{fortran}");
        let big_endian = text("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}");
        assert!(big_endian.contains("'>f4'"), "{big_endian}");
        assert!(text("{'descr': '<f4'}").contains("fortran_order"));
        assert!(text("{'x': 1}").contains("unknown key \"x\""));
    }
}
