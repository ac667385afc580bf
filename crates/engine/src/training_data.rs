use crate::examples::{Corpus, Examples};
use crate::{Batch, DataPosition, Order, Result, Windows};

/// What a run trains on.
#[derive(Debug, Clone)]
pub(crate) enum TrainingData {
    Windows(Windows),
    Examples(Examples),
}

impl TrainingData {
    pub(crate) fn new(
        corpus: Corpus,
        seq: usize,
        order: Order,
        seed: u64,
        position: DataPosition,
    ) -> Result<Self> {
        Ok(match corpus {
            Corpus::Tokens(file) => Self::Windows(Windows::new(file, seq, order, seed, position)?),
            Corpus::Examples(examples) => {
                Self::Examples(Examples::new(examples, seq, order, seed, position)?)
            }
        })
    }

    pub(crate) fn next_batch(&mut self, sequences: usize) -> Batch {
        match self {
            Self::Windows(windows) => windows.next_batch(sequences),
            Self::Examples(examples) => examples.next_batch(sequences),
        }
    }

    pub(crate) fn position(&self) -> DataPosition {
        match self {
            Self::Windows(windows) => windows.position(),
            Self::Examples(examples) => examples.position(),
        }
    }
}
