//! Where elements lie: every rearrangement is a list of offsets into a row-major tensor.

use orion_tensor::row_major_strides;

/// The offset `base + Σ position[a] · strides[a]` of every position within `shape`, in row-major
/// order of the positions.
pub(super) fn offsets(base: isize, shape: &[usize], strides: &[isize]) -> Vec<usize> {
    let mut offsets = vec![base];
    for (&size, &stride) in shape.iter().zip(strides) {
        offsets = offsets
            .iter()
            .flat_map(|&start| (0..size as isize).map(move |i| start + i * stride))
            .collect();
    }
    offsets.into_iter().map(|offset| usize::try_from(offset).expect("inside the tensor")).collect()
}

/// Row-major strides, signed.
pub(super) fn strides(shape: &[usize]) -> Vec<isize> {
    row_major_strides(shape).into_iter().map(|s| s as isize).collect()
}

/// The strides with which a tensor of `shape` is read as one of the broadcast shape `to`: 0 along
/// axes it lacks or has with size 1.
pub(super) fn broadcast_strides(shape: &[usize], to: &[usize]) -> Vec<isize> {
    let missing = to.len() - shape.len();
    let own = strides(shape).into_iter().zip(shape).map(|(s, &n)| if n == 1 { 0 } else { s });
    std::iter::repeat_n(0, missing).chain(own).collect()
}

/// For every element of a tensor of the broadcast shape `to`, the offset into one of `shape`.
pub(super) fn broadcast(shape: &[usize], to: &[usize]) -> Vec<usize> {
    offsets(0, to, &broadcast_strides(shape, to))
}

/// The offsets of a tensor's groups along `axes`: where each group begins, in row-major order of
/// the other axes, and what its members' offsets are from there.
pub(super) fn groups(shape: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let all = strides(shape);
    let pick = |inside: bool| {
        let chosen = (0..shape.len()).filter(|a| axes.contains(a) == inside);
        let (sizes, strides): (Vec<usize>, Vec<isize>) = chosen.map(|a| (shape[a], all[a])).unzip();
        offsets(0, &sizes, &strides)
    };
    (pick(false), pick(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_strides() {
        assert_eq!(offsets(0, &[2, 3], &[3, 1]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(offsets(5, &[2, 3], &[-3, -1]), [5, 4, 3, 2, 1, 0]);
        assert_eq!(offsets(7, &[], &[]), [7]);
        assert!(offsets(0, &[2, 0], &[0, 1]).is_empty());
    }

    #[test]
    fn broadcasting_repeats() {
        assert_eq!(broadcast(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(broadcast(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(broadcast(&[], &[2]), [0, 0]);
    }

    #[test]
    fn groups_split_the_axes() {
        assert_eq!(groups(&[2, 3], &[0]), (vec![0, 1, 2], vec![0, 3]));
        assert_eq!(groups(&[2, 3], &[]), ((0..6).collect(), vec![0]));
    }
}
