//! Prints stories: `cargo run -p orion-corpus --example print_stories -- [SEED] [COUNT]`.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| match arguments.next() {
        Some(number) => number.expect("usage: print_stories [SEED] [COUNT], both whole numbers"),
        None => default,
    };
    let (seed, count) = (next(1), next(5));
    for story in (0..count).zip(orion_corpus::stories(seed)).map(|(_, story)| story) {
        println!("{story}\n");
    }
}
