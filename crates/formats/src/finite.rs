use crate::{Error, ErrorKind, Result};
use orion_tensor::{DType, Tensor, over_parts};

/// Checks that no element of a floating-point tensor is NaN or infinite. Other element types pass.
///
/// # Errors
/// [`ErrorKind::NotFinite`] naming the tensor, the flat index of the first such element and its
/// value.
pub fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    let first = match tensor.dtype() {
        DType::F32 => first(&tensor.elements::<f32>(), |v| !v.is_finite()),
        DType::F64 => first(&tensor.elements::<f64>(), |v| !v.is_finite()),
        DType::F16 => first(&tensor.elements::<orion_tensor::f16>(), |v| !v.is_finite()),
        DType::BF16 => first(&tensor.elements::<orion_tensor::bf16>(), |v| !v.is_finite()),
        // e4m3fn has no infinities and one NaN pattern; in e5m2 the top exponent is both.
        DType::F8E4M3FN => first(tensor.bytes(), |b| b & 0x7f == 0x7f),
        DType::F8E5M2 => first(tensor.bytes(), |b| b & 0x7c == 0x7c),
        _ => None,
    };
    let Some(index) = first else { return Ok(()) };
    let width = tensor.dtype().size_bytes();
    let element = tensor.bytes().slice(index * width..(index + 1) * width);
    let value = element
        .and_then(|bytes| Tensor::new(tensor.dtype(), vec![1], bytes).ok())
        .map_or(f64::NAN, |t| t.to_f64_vec()[0]);
    Err(Error::new(
        ErrorKind::NotFinite,
        format!(
            "tensor `{name}` {}{:?} has {value} at flat index {index}",
            tensor.dtype(),
            tensor.shape()
        ),
    ))
}

/// The first element that is bad. Whole blocks are looked at without stopping, which takes a
/// fraction of the time.
fn first<T: Copy + Sync>(elements: &[T], is_bad: impl Fn(T) -> bool + Sync) -> Option<usize> {
    const BLOCK: usize = 1024;
    let any = |block: &[T]| block.iter().fold(false, |bad, &v| bad | is_bad(v));
    let found = over_parts(elements, |start, part| {
        let block = part.chunks(BLOCK).position(any)? * BLOCK;
        part[block..].iter().position(|&v| is_bad(v)).map(|i| start + block + i)
    });
    found.into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_bad_element_of_every_float_type() {
        use DType::*;
        for dtype in [F16, BF16, F32, F64] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let good = Tensor::from_f64(dtype, &[2, 2], &[1.0, -2.0, 0.0, 3.0]);
                check_finite("w", &good).unwrap();
                let t = Tensor::from_f64(dtype, &[2, 2], &[1.0, 2.0, bad, bad]);
                let e = check_finite("w", &t).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::NotFinite);
                let text = e.to_string();
                assert!(text.contains("`w`") && text.contains("index 2"), "{text}");
                assert!(text.contains(&bad.to_string()), "{text}");
            }
        }
    }

    /// Threads look at parts of it, and more than one finds something.
    #[test]
    fn the_first_of_a_large_tensor_is_named() {
        let mut values = vec![0f32; 3 << 20];
        check_finite("w", &Tensor::from_slice(&[3 << 20], &values)).unwrap();
        for bad in [3_000_000, 2_000_001, 77_777] {
            values[bad] = f32::NAN;
            let e = check_finite("w", &Tensor::from_slice(&[3 << 20], &values)).unwrap_err();
            assert!(e.to_string().ends_with(&format!("at flat index {bad}")), "{e}");
        }
    }

    #[test]
    fn eight_bit_floats() {
        let f8 = |dtype, bytes: &[u8]| {
            Tensor::new(dtype, vec![bytes.len()], orion_tensor::Bytes::from_elements(bytes))
                .unwrap()
        };
        check_finite("w", &f8(DType::F8E4M3FN, &[0x7e, 0x7c])).unwrap();
        assert!(check_finite("w", &f8(DType::F8E4M3FN, &[0x7e, 0xff])).is_err());
        check_finite("w", &f8(DType::F8E5M2, &[0x7b, 0xfb])).unwrap();
        assert!(check_finite("w", &f8(DType::F8E5M2, &[0x7b, 0x7c])).is_err());
    }
}
