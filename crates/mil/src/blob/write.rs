use super::{
    ALIGNMENT, BlobError, BlobErrorKind as Kind, DTYPES, HEADER_BYTES, METADATA_BYTES, SENTINEL,
    VERSION,
};
use orion_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Writes a weight file with each tensor at its offset, such as [`crate::Weights`] holds them.
///
/// Offsets that [`crate::Weights::append`] gave leave no gaps. Gaps, as between the tensors left
/// over from a larger file, are filled with blobs of zeros, so that the file stays one that can be
/// listed. The writer should be buffered.
///
/// # Errors
/// `NotRepresentable` when offsets are not multiples of 64, tensors overlap, or an element type
/// has no number in the format (`bool`, `fp64`, 64-bit integers); `Io` when writing fails.
pub fn write_blob_file(
    tensors: &BTreeMap<u64, Tensor>,
    mut out: impl Write,
) -> Result<(), BlobError> {
    let layout = layout(tensors)?;
    write_all(&layout, &mut out).and_then(|()| out.flush()).map_err(BlobError::io)
}

/// A blob to write, or a gap that becomes one.
struct Placed<'a> {
    offset: u64,
    number: u32,
    data_bytes: u64,
    tensor: Option<&'a Tensor>,
}

impl Placed<'_> {
    fn end(&self) -> u64 {
        self.offset + METADATA_BYTES as u64 + self.data_bytes
    }
}

fn layout(tensors: &BTreeMap<u64, Tensor>) -> Result<Vec<Placed<'_>>, BlobError> {
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(tensors.len());
    let mut free = HEADER_BYTES as u64;
    for (&offset, tensor) in tensors {
        let dtype = tensor.dtype();
        let refuse =
            |detail: String| Err(BlobError::new(Kind::NotRepresentable, detail).at(offset));
        let Some(index) = DTYPES.iter().position(|&d| d == dtype) else {
            return refuse(format!("the format has no number for {dtype}"));
        };
        if offset % ALIGNMENT != 0 {
            return refuse(format!("the offset is no multiple of {ALIGNMENT}"));
        }
        if offset < free {
            return refuse(format!("the blob before it, or the header, ends at byte {free}"));
        }
        if offset > free {
            let data_bytes = offset - free - METADATA_BYTES as u64;
            placed.push(Placed {
                offset: free,
                number: number(DType::U8),
                data_bytes,
                tensor: None,
            });
        }
        let data_bytes = dtype.packed_bytes(tensor.element_count()) as u64;
        let blob = Placed { offset, number: index as u32 + 1, data_bytes, tensor: Some(tensor) };
        free = blob.end().next_multiple_of(ALIGNMENT);
        placed.push(blob);
    }
    Ok(placed)
}

fn number(dtype: DType) -> u32 {
    DTYPES.iter().position(|&d| d == dtype).map_or(0, |i| i as u32 + 1)
}

fn write_all(blobs: &[Placed<'_>], out: &mut impl Write) -> io::Result<()> {
    let mut header = [0u8; HEADER_BYTES];
    header[..4].copy_from_slice(&(blobs.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    out.write_all(&header)?;
    let mut position = HEADER_BYTES as u64;
    for blob in blobs {
        write_zeros(blob.offset - position, out)?;
        let unused_bits = blob.tensor.map_or(0, |t| {
            blob.data_bytes * 8 - t.element_count() as u64 * t.dtype().bits() as u64
        });
        let mut metadata = [0u8; METADATA_BYTES];
        metadata[..4].copy_from_slice(&SENTINEL.to_le_bytes());
        metadata[4..8].copy_from_slice(&blob.number.to_le_bytes());
        metadata[8..16].copy_from_slice(&blob.data_bytes.to_le_bytes());
        let data = blob.offset + METADATA_BYTES as u64;
        metadata[16..24].copy_from_slice(&data.to_le_bytes());
        metadata[24..32].copy_from_slice(&unused_bits.to_le_bytes());
        out.write_all(&metadata)?;
        match blob.tensor {
            Some(tensor) if tensor.dtype().is_sub_byte() => out.write_all(&pack(tensor))?,
            Some(tensor) => out.write_all(tensor.bytes())?,
            None => write_zeros(blob.data_bytes, out)?,
        }
        position = blob.end();
    }
    Ok(())
}

fn write_zeros(count: u64, out: &mut impl Write) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(|_| ())
}

/// Elements from one to a byte to as many as fit, from the low bits up.
pub(crate) fn pack(tensor: &Tensor) -> Vec<u8> {
    let width = tensor.dtype().bits();
    let mask = (1u16 << width) - 1;
    let mut packed = vec![0; tensor.dtype().packed_bytes(tensor.element_count())];
    for (i, &element) in tensor.bytes().iter().enumerate() {
        let (at, shift) = (i * width / 8, i * width % 8);
        let [low, high] = ((u16::from(element) & mask) << shift).to_le_bytes();
        packed[at] |= low;
        if high != 0 {
            packed[at + 1] |= high;
        }
    }
    packed
}
