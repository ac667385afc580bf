//! Tensors in memory that the engine sees: rows of the last axis lie apart.

use orion_tensor::element_count;

/// Where the elements of a tensor are in a surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowLayout {
    /// Bytes of one row of the last axis, without what follows it.
    row_bytes: usize,
    /// Size of each axis but the last.
    outer: Vec<usize>,
    /// Bytes from one element to the next along each of them.
    strides: Vec<usize>,
    size_bytes: usize,
}

impl RowLayout {
    /// A layout with these distances, in bytes, along every axis but the last, along which
    /// elements lie side by side.
    ///
    /// # Errors
    /// When rows would overlap, or reach beyond `size_bytes`.
    pub(crate) fn new(
        shape: &[usize],
        element_bytes: usize,
        strides: &[usize],
        size_bytes: usize,
    ) -> Result<Self, String> {
        let (&row, outer) = shape.split_last().unwrap_or((&1, &[]));
        let row_bytes = row.saturating_mul(element_bytes);
        let mut extent = row_bytes;
        for (&n, &stride) in outer.iter().zip(strides).rev() {
            if n > 1 && stride < extent {
                return Err(format!(
                    "{stride} bytes apart is less than the {extent} that lie there"
                ));
            }
            extent = extent.saturating_add(n.saturating_sub(1).saturating_mul(stride));
        }
        if extent > size_bytes {
            return Err(format!("the last element ends at byte {extent} of {size_bytes}"));
        }
        Ok(Self { row_bytes, outer: outer.to_vec(), strides: strides.to_vec(), size_bytes })
    }

    /// Bytes of the surface.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether elements lie side by side, without gaps.
    pub(crate) fn is_dense(&self) -> bool {
        let mut dense = self.row_bytes;
        self.outer.iter().zip(&self.strides).rev().all(|(&n, &stride)| {
            let fits = n <= 1 || stride == dense;
            dense *= n;
            fits
        })
    }

    /// Writes dense elements to their places.
    pub(crate) fn spread(&self, dense: &[u8], surface: &mut [u8]) {
        if self.is_dense() {
            surface[..dense.len()].copy_from_slice(dense);
            return;
        }
        for (row, at) in dense.chunks_exact(self.row_bytes.max(1)).zip(self.row_starts()) {
            surface[at..at + row.len()].copy_from_slice(row);
        }
    }

    /// Reads elements from their places.
    pub(crate) fn gather(&self, surface: &[u8], dense: &mut [u8]) {
        if self.is_dense() {
            let bytes = dense.len();
            dense.copy_from_slice(&surface[..bytes]);
            return;
        }
        for (row, at) in dense.chunks_exact_mut(self.row_bytes.max(1)).zip(self.row_starts()) {
            row.copy_from_slice(&surface[at..at + row.len()]);
        }
    }

    fn row_starts(&self) -> impl Iterator<Item = usize> + '_ {
        (0..element_count(&self.outer)).map(|row| {
            let mut rest = row;
            let axes = self.outer.iter().zip(&self.strides).rev();
            axes.map(|(&n, &stride)| {
                let at = rest % n * stride;
                rest /= n;
                at
            })
            .sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_their_places_and_come_back() {
        // [2, 3, 5] of one byte, rows 8 apart, planes 32.
        let layout = RowLayout::new(&[2, 3, 5], 1, &[32, 8], 64).unwrap();
        let dense: Vec<u8> = (1..=30).collect();
        let mut surface = vec![0xff; 64];
        layout.spread(&dense, &mut surface);
        assert_eq!(&surface[..9], [1, 2, 3, 4, 5, 0xff, 0xff, 0xff, 6]);
        assert_eq!(surface[32 + 16], 26);
        let mut back = vec![0; 30];
        layout.gather(&surface, &mut back);
        assert_eq!(back, dense);
        assert!(!layout.is_dense());
    }

    #[test]
    fn layouts_without_gaps_are_known() {
        assert!(RowLayout::new(&[1, 2, 3], 2, &[99, 6], 1000).unwrap().is_dense());
        assert!(RowLayout::new(&[], 2, &[], 64).unwrap().is_dense());
        assert!(!RowLayout::new(&[2, 2, 3], 2, &[16, 6], 64).unwrap().is_dense());
    }

    #[test]
    fn layouts_that_cannot_be_are_refused() {
        assert!(RowLayout::new(&[2, 3, 5], 2, &[32, 8], 1000).unwrap_err().contains("8 bytes"));
        assert!(RowLayout::new(&[2, 3, 5], 1, &[32, 8], 52).unwrap_err().contains("byte 53 of 52"));
        assert!(RowLayout::new(&[2, 3, 5], 1, &[32, 8], 53).is_ok());
        assert!(RowLayout::new(&[usize::MAX, 5], 1, &[64], 64).is_err());
    }
}
