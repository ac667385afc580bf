use crate::{Error, ErrorKind, Order, Random, Result};
use orion_formats::TokenFile;

/// Where a pass over training data stands. Units are windows of a token file, or examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataPosition {
    /// Passes over the file that are complete.
    pub epoch: u64,
    /// Units of this pass already given.
    pub window: u64,
}

/// Sequences for one micro-batch, one after the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// What is read.
    pub tokens: Vec<i32>,
    /// What follows each token.
    pub targets: Vec<i32>,
    /// Which targets count; `None` where all do.
    pub counted: Option<Vec<bool>>,
    /// Tokens that are none of padding.
    pub read: usize,
}

/// Passes over numbered units, each in an order of its own.
#[derive(Debug, Clone)]
pub(crate) struct Passes {
    count: usize,
    order: Order,
    seed: u64,
    position: DataPosition,
    /// The order of this pass; empty when sequential.
    permutation: Vec<u32>,
}

impl Passes {
    /// # Errors
    /// When the position is outside a pass.
    pub(crate) fn new(
        count: usize,
        order: Order,
        seed: u64,
        position: DataPosition,
    ) -> Result<Self> {
        if position.window > count as u64 {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "the run has read {} sequences of this pass, but the data has {count}",
                    position.window
                ),
            )
            .hint("has the file changed since the run began?"));
        }
        let mut this = Self { count, order, seed, position, permutation: Vec::new() };
        this.permute();
        Ok(this)
    }

    /// Where it stands: what to give [`Passes::new`] to go on from here.
    pub(crate) fn position(&self) -> DataPosition {
        self.position
    }

    /// Draws the order of the current pass. It depends on the seed and the number of the pass
    /// only, so a resumed run draws the same.
    fn permute(&mut self) {
        if self.order == Order::Random {
            let pass = self.position.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.permutation = (0..self.count as u32).collect();
            Random::new(self.seed ^ pass).shuffle(&mut self.permutation);
        }
    }

    /// The number of the next unit.
    pub(crate) fn advance(&mut self) -> usize {
        if self.position.window == self.count as u64 {
            self.position = DataPosition { epoch: self.position.epoch + 1, window: 0 };
            self.permute();
        }
        let i = self.position.window as usize;
        self.position.window += 1;
        self.permutation.get(i).map_or(i, |&k| k as usize)
    }
}

/// Training windows over a token file: window `k` is the `seq` tokens from `k · seq` on, its
/// targets the same shifted by one. The rest at the end that fills no window is left out.
#[derive(Debug, Clone)]
pub struct Windows {
    file: TokenFile,
    seq: usize,
    passes: Passes,
}

impl Windows {
    /// Windows of `seq` tokens from `position` on.
    ///
    /// # Errors
    /// When the file does not fill one window, or the position is outside the file.
    pub fn new(
        file: TokenFile,
        seq: usize,
        order: Order,
        seed: u64,
        position: DataPosition,
    ) -> Result<Self> {
        let count = file.len().saturating_sub(1) / seq;
        if count == 0 {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("the data holds {} tokens; one sequence needs {}", file.len(), seq + 1),
            )
            .hint("use shorter sequences, or more text"));
        }
        let passes = Passes::new(count, order, seed, position)?;
        Ok(Self { file, seq, passes })
    }

    /// Windows in one pass over the file.
    pub fn count(&self) -> usize {
        self.passes.count
    }

    /// Where it stands: what to give [`Windows::new`] to go on from here.
    pub fn position(&self) -> DataPosition {
        self.passes.position()
    }

    /// The next `sequences` windows.
    pub fn next_batch(&mut self, sequences: usize) -> Batch {
        let mut batch = Batch { read: sequences * self.seq, ..Batch::default() };
        let mut window = vec![0; self.seq + 1];
        for _ in 0..sequences {
            self.file.copy_window(self.passes.advance() * self.seq, &mut window);
            batch.tokens.extend(window[..self.seq].iter().map(|&t| t as i32));
            batch.targets.extend(window[1..].iter().map(|&t| t as i32));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_tensor::Bytes;

    fn file(n: u16) -> TokenFile {
        let bytes: Vec<u8> = (0..n).flat_map(u16::to_le_bytes).collect();
        TokenFile::parse(Bytes::new(bytes)).unwrap()
    }

    fn batch(w: &mut Windows, n: usize) -> (Vec<i32>, Vec<i32>) {
        let Batch { tokens, targets, counted, read } = w.next_batch(n);
        assert_eq!((counted, read), (None, tokens.len()));
        (tokens, targets)
    }

    #[test]
    fn sequential_windows_wrap() {
        let start = DataPosition::default();
        let mut w = Windows::new(file(8), 3, Order::Sequential, 0, start).unwrap();
        assert_eq!(w.count(), 2);
        assert_eq!(batch(&mut w, 2), (vec![0, 1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(batch(&mut w, 1).0, [0, 1, 2]);
        assert_eq!(w.position(), DataPosition { epoch: 1, window: 1 });
        assert!(Windows::new(file(3), 3, Order::Sequential, 0, start).is_err());
        let beyond = DataPosition { epoch: 0, window: 3 };
        assert!(Windows::new(file(8), 3, Order::Sequential, 0, beyond).is_err());
    }

    #[test]
    fn random_passes_are_permutations_and_resume() {
        let start = DataPosition::default();
        let mut w = Windows::new(file(101), 5, Order::Random, 9, start).unwrap();
        let first: Vec<i32> = (0..20).map(|_| batch(&mut w, 1).0[0]).collect();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).map(|k| k * 5).collect::<Vec<_>>());
        assert_ne!(first, sorted);
        let position = w.position();
        let mut resumed = Windows::new(file(101), 5, Order::Random, 9, position).unwrap();
        let second: Vec<i32> = (0..20).map(|_| batch(&mut w, 1).0[0]).collect();
        assert_ne!(first, second);
        assert_eq!(
            second[..3],
            batch(&mut resumed, 3).0.iter().step_by(5).copied().collect::<Vec<_>>()
        );
    }
}
