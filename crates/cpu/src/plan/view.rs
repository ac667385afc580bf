//! Strided views into buffers: slices, transposes and reshapes that move nothing.

use orion_tensor::{DType, element_count, row_major_strides};

/// A buffer of the plan.
pub(crate) type BufferId = usize;

/// A tensor's place in a buffer. Offset and strides are in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub buffer: BufferId,
    pub dtype: DType,
    pub offset: isize,
    pub shape: Vec<usize>,
    pub strides: Vec<isize>,
}

fn dense_strides(shape: &[usize]) -> Vec<isize> {
    row_major_strides(shape).into_iter().map(|s| s as isize).collect()
}

impl View {
    /// The whole of a buffer, row-major.
    pub(crate) fn dense(buffer: BufferId, dtype: DType, shape: &[usize]) -> Self {
        Self { buffer, dtype, offset: 0, shape: shape.to_vec(), strides: dense_strides(shape) }
    }

    pub(crate) fn element_count(&self) -> usize {
        element_count(&self.shape)
    }

    /// Whether elements lie row-major without gaps; the strides of axes of size 1 do not matter.
    pub(crate) fn is_dense(&self) -> bool {
        let dense = dense_strides(&self.shape);
        let pairs = self.strides.iter().zip(&dense).zip(&self.shape);
        self.element_count() == 0 || pairs.into_iter().all(|((a, b), &n)| n == 1 || a == b)
    }

    /// The same elements under another shape, where strides can say that.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<Self> {
        if self.is_dense() {
            let strides = dense_strides(shape);
            return Some(Self { shape: shape.to_vec(), strides, ..self.clone() });
        }
        let mut old = self.shape.iter().zip(&self.strides).filter(|&(&n, _)| n != 1);
        let mut strides = vec![0; shape.len()];
        let mut axis = 0;
        while axis < shape.len() {
            if shape[axis] == 1 {
                axis += 1;
                continue;
            }
            // A run of old axes that lie without gaps, against a run of new ones of its size.
            let (&size, &stride) = old.next()?;
            let (mut old_size, mut last_stride) = (size, stride);
            let first = axis;
            let mut new_size = shape[axis];
            axis += 1;
            while old_size != new_size {
                if new_size < old_size {
                    new_size *= *shape.get(axis)?;
                    axis += 1;
                } else {
                    let (&n, &s) = old.next()?;
                    if last_stride != s * n as isize {
                        return None;
                    }
                    old_size *= n;
                    last_stride = s;
                }
            }
            let mut stride = last_stride;
            for a in (first..axis).rev() {
                strides[a] = stride;
                stride *= shape[a] as isize;
            }
        }
        Some(Self { shape: shape.to_vec(), strides, ..self.clone() })
    }

    /// Output axis `i` is this view's axis `perm[i]`.
    pub(crate) fn permute(&self, perm: &[usize]) -> Self {
        Self {
            shape: perm.iter().map(|&a| self.shape[a]).collect(),
            strides: perm.iter().map(|&a| self.strides[a]).collect(),
            ..self.clone()
        }
    }

    /// The last two axes swapped.
    pub(crate) fn transposed(&self) -> Self {
        let rank = self.shape.len();
        let mut view = self.clone();
        view.shape.swap(rank - 2, rank - 1);
        view.strides.swap(rank - 2, rank - 1);
        view
    }

    /// `size[a]` elements from `begin[a]` on, `stride[a]` apart, along each axis.
    pub(crate) fn slice(&self, begin: &[usize], size: &[usize], stride: &[isize]) -> Self {
        let starts = begin.iter().zip(&self.strides).map(|(&b, &s)| b as isize * s);
        Self {
            offset: self.offset + starts.sum::<isize>(),
            shape: size.to_vec(),
            strides: self.strides.iter().zip(stride).map(|(&s, &t)| s * t).collect(),
            ..self.clone()
        }
    }

    /// `size` elements from `begin` on along one axis.
    pub(crate) fn part(&self, axis: usize, begin: usize, size: usize) -> Self {
        let mut part = self.clone();
        part.offset += begin as isize * part.strides[axis];
        part.shape[axis] = size;
        part
    }

    /// Repeated along missing axes and axes of size 1.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Self {
        let missing = shape.len() - self.shape.len();
        let stride = |axis: usize| match axis.checked_sub(missing) {
            Some(a) if self.shape[a] == shape[axis] => self.strides[a],
            _ => 0,
        };
        let strides = (0..shape.len()).map(stride).collect();
        Self { shape: shape.to_vec(), strides, ..self.clone() }
    }

    /// Leading axes of size 1 added, up to a rank.
    pub(crate) fn with_rank(&self, rank: usize) -> Self {
        let missing = rank - self.shape.len();
        Self {
            shape: [vec![1; missing], self.shape.clone()].concat(),
            strides: [vec![0; missing], self.strides.clone()].concat(),
            ..self.clone()
        }
    }
}

/// Merges neighbouring axes over which every one of the strides runs on without gaps, and drops
/// axes of size 1. `strides` holds one list per operand. At least one axis remains.
pub(crate) fn collapse(shape: &[usize], strides: &[Vec<isize>]) -> (Vec<usize>, Vec<Vec<isize>>) {
    let mut sizes: Vec<usize> = Vec::new();
    let mut collapsed: Vec<Vec<isize>> = vec![Vec::new(); strides.len()];
    for (axis, &n) in shape.iter().enumerate() {
        if n == 1 {
            continue;
        }
        let merges = !sizes.is_empty()
            && collapsed
                .iter()
                .zip(strides)
                .all(|(c, s)| c.last() == Some(&(s[axis] * n as isize)));
        if merges {
            *sizes.last_mut().expect("not empty") *= n;
            for (c, s) in collapsed.iter_mut().zip(strides) {
                *c.last_mut().expect("not empty") = s[axis];
            }
        } else {
            sizes.push(n);
            for (c, s) in collapsed.iter_mut().zip(strides) {
                c.push(s[axis]);
            }
        }
    }
    if sizes.is_empty() {
        sizes.push(1);
        collapsed.iter_mut().for_each(|c| c.push(1));
    }
    (sizes, collapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of all elements in row-major order.
    fn offsets(view: &View) -> Vec<isize> {
        let mut all = vec![view.offset];
        for (&n, &s) in view.shape.iter().zip(&view.strides) {
            let next = all.iter().flat_map(|&o| (0..n as isize).map(move |i| o + i * s));
            all = next.collect();
        }
        all
    }

    #[test]
    fn reshape_keeps_the_order_of_elements_or_refuses() {
        let base = View::dense(0, DType::F32, &[4, 6, 5]);
        let views = [
            base.clone(),
            base.permute(&[1, 0, 2]),
            base.permute(&[2, 1, 0]),
            base.part(1, 2, 4),
            base.part(2, 1, 4),
            base.slice(&[0, 0, 0], &[2, 6, 5], &[2, 1, 1]),
        ];
        for view in &views {
            let n = view.element_count();
            for shape in
                [vec![n], vec![2, n / 2], vec![1, 4, n / 4], vec![n / 5, 5], vec![n / 4, 1, 4]]
            {
                if element_count(&shape) != n {
                    continue;
                }
                if let Some(reshaped) = view.reshape(&shape) {
                    assert_eq!(offsets(&reshaped), offsets(view), "{view:?} as {shape:?}");
                }
            }
        }
        assert!(base.part(1, 2, 4).reshape(&[4, 20]).is_some());
        assert!(base.permute(&[1, 0, 2]).reshape(&[3, 2, 4, 1, 5]).is_some());
        assert_eq!(base.permute(&[2, 1, 0]).reshape(&[120]), None);
    }

    #[test]
    fn collapse_merges_what_runs_on() {
        let (sizes, strides) = collapse(&[1, 8, 1, 5], &[vec![40, 5, 5, 1], vec![0, 1, 1, 0]]);
        assert_eq!((sizes, strides), (vec![8, 5], vec![vec![5, 1], vec![1, 0]]));
        let (sizes, _) = collapse(&[2, 3, 4], &[vec![12, 4, 1], vec![0, 0, 0]]);
        assert_eq!(sizes, [24]);
        assert_eq!(collapse(&[1, 1], &[vec![1, 1]]).0, [1]);
    }
}
