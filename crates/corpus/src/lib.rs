//! Short stories from a grammar and word lists written for this project: the text that
//! `orion quickstart` trains on.
//!
//! The same seed gives the same stories on every platform. This crate knows nothing of tokens,
//! files or models.
//!
//! A story has a cast (two characters, places, a thing), drawn once, and a plot that tells it. So
//! names, pronouns, kinds, things and places stay the same from the first sentence to the last,
//! and a model has more to learn than which word follows which.

mod cast;
mod grammar;
mod phrases;
mod plots;
mod rng;
mod words;

use cast::Cast;
use plots::{PLOTS, Plot};
use rng::SplitMix64;

/// An endless sequence of stories: plain ASCII, 60 to 180 words each, paragraphs separated by one
/// newline, no newline at the end.
///
/// Story `i` depends on the seed and on `i` only. The first 5,000 stories of a seed are expected to
/// be distinct; there is no guard against a repetition later on.
pub fn stories(seed: u64) -> impl Iterator<Item = String> {
    told(seed).map(|(_, story)| story)
}

/// The first stories of a seed, until they have at least `bytes` bytes together.
///
/// `corpus(seed, 0)` is empty. Separators between stories are not counted; they are the caller's.
pub fn corpus(seed: u64, bytes: usize) -> Vec<String> {
    let mut total = 0;
    stories(seed)
        .take_while(|story| {
            let wanted = total < bytes;
            total += story.len();
            wanted
        })
        .collect()
}

/// The stories with the name of the plot each one tells.
fn told(seed: u64) -> impl Iterator<Item = (&'static str, String)> {
    let mut seeds = SplitMix64::new(seed);
    std::iter::repeat_with(move || {
        let mut rng = SplitMix64::new(seeds.next_u64());
        let plot = rng.pick(PLOTS);
        (plot.name, tell(plot, &mut rng))
    })
}

fn tell(plot: &Plot, rng: &mut SplitMix64) -> String {
    let cast = Cast::draw(plot.things, rng);
    let paragraphs: Vec<String> =
        plot.paragraphs.iter().map(|template| grammar::paragraph(template, &cast, rng)).collect();
    paragraphs.join("\n")
}
