//! "Did you mean": the nearest known name to a misspelt one.

/// Names longer than this get no suggestion; the distance is quadratic in the length.
const LONGEST: usize = 64;

/// The candidate with the fewest edits to `name`, when few enough to be a slip.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let limit = (name.len() / 3).clamp(1, 3);
    let near = |c: &&str| c.len() <= LONGEST && c.len().abs_diff(name.len()) <= limit;
    let scored = candidates.into_iter().filter(near).map(|c| (edits(name, c), c));
    // The tuple order settles ties by name, so that messages do not depend on hash order.
    scored.min().filter(|(distance, _)| *distance <= limit).map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_slips_only() {
        let known = ["x", "weight", "softmax_0", "softmax_1"];
        assert_eq!(nearest("wieght", known), Some("weight"));
        assert_eq!(nearest("softmax_2", known), Some("softmax_0"));
        assert_eq!(nearest("completely_different", known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
