//! `docs/performance.md` is what `benches/peers/results.json` says. `ORION_BLESS=1` writes it.

use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Results {
    date: String,
    commit: String,
    machine: Machine,
    rounds: usize,
    repetitions: usize,
    contests: Vec<Contest>,
    gemms: Vec<Gemms>,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    instructions: String,
    threads: usize,
}

#[derive(Deserialize)]
struct Contest {
    test: String,
    model: String,
    precision: String,
    batch: usize,
    tokens: usize,
    threads: usize,
    orion_share_of_limit: Option<f64>,
    contenders: Vec<Contender>,
    missing: Vec<Missing>,
}

#[derive(Deserialize)]
struct Contender {
    name: String,
    version: String,
    flags: String,
    seconds: Vec<f64>,
    median: f64,
    times_slower_than_orion: f64,
    peak_rss_bytes: u64,
}

#[derive(Deserialize)]
struct Missing {
    name: String,
    reason: String,
}

/// Matrix products of one precision.
#[derive(Deserialize)]
struct Gemms {
    precision: String,
    threads: usize,
    products: Vec<Product>,
    peers: Vec<Peer>,
    missing: Vec<Missing>,
}

#[derive(Deserialize)]
struct Peer {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Product {
    /// Kind and `OxIxN`.
    product: String,
    orion_seconds: Vec<f64>,
    orion_share_of_limit: f64,
    /// Of each peer, of each round.
    peer_seconds: Vec<Vec<f64>>,
}

impl Product {
    fn gflops(&self) -> f64 {
        let (_, sizes) = self.product.split_once(' ').expect("a kind and sizes");
        let size: f64 = sizes.split('x').map(|n| n.parse::<f64>().expect("a size")).product();
        2e-9 * size / orion_bench::median(&self.orion_seconds)
    }

    /// How many times slower than Orion each peer is: the median of the ratios within rounds.
    fn ratios(&self) -> Vec<f64> {
        let ratios = |theirs: &Vec<f64>| -> Vec<f64> {
            theirs.iter().zip(&self.orion_seconds).map(|(theirs, ours)| theirs / ours).collect()
        };
        self.peer_seconds.iter().map(|theirs| orion_bench::median(&ratios(theirs))).collect()
    }
}

fn gemm_section(page: &mut String, gemms: &Gemms) -> std::fmt::Result {
    let Gemms { precision, threads, products, peers, missing } = gemms;
    let shares: Vec<f64> = products.iter().map(|p| p.orion_share_of_limit).collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    write!(
        page,
        "\n## Matrix products, {precision}, {threads} threads\n\n\
         `fwd` is W[O, I] · X[I, N] as OxIxN, `fwd-const` the same with weights that Orion knows to \
         be constant, `dX` and `dW` the gradients of its factors. Of the multiply-add peak measured \
         beside it, Orion reaches {:.2} in the median and {least:.2} at least.\n\n",
        orion_bench::median(&shares),
    )?;
    write!(page, "| product | GFLOP/s | share of the peak |")?;
    for Peer { name, version } in peers {
        write!(page, " {name} {version}, times Orion |")?;
    }
    writeln!(page, "\n|---|---:|---:|{}", "---:|".repeat(peers.len()))?;
    for p in products {
        write!(page, "| {} | {:.0} | {:.2} |", p.product, p.gflops(), p.orion_share_of_limit)?;
        p.ratios().iter().try_for_each(|ratio| write!(page, " {ratio:.2} |"))?;
        writeln!(page)?;
    }
    missing.iter().try_for_each(|m| write!(page, "\nMissing: {}: {}\n", m.name, m.reason))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn results() -> Results {
    let path = root().join("benches/peers/results.json");
    let text = std::fs::read_to_string(&path).expect("the results are in the repository");
    serde_json::from_str(&text).expect("the results are as peers.py writes them")
}

fn page(results: &Results) -> String {
    let Results { date, commit, machine, rounds, repetitions, .. } = results;
    let mut page = format!(
        "# Performance beside peers\n\n\
         Generated from `benches/peers/results.json`; do not edit. How it is measured, and how to \
         measure it again: [benches/peers](../benches/peers/README.md).\n\n\
         {date}, commit {commit}, {cpu} with {instructions}, {threads} hardware threads, shared \
         with other work. Medians of {rounds} rounds of {repetitions} repetitions, contenders \
         interleaved; `times Orion` is the median of the ratios within rounds, above 1 where the \
         peer is slower.\n",
        cpu = machine.cpu,
        instructions = machine.instructions,
        threads = machine.threads,
    );
    for contest in &results.contests {
        let Contest { test, model, precision, batch, tokens, threads, .. } = contest;
        write!(page, "\n## {test} {model}, {precision}, {batch}x{tokens}, {threads} threads\n\n")
            .expect("strings grow");
        if let Some(share) = contest.orion_share_of_limit {
            write!(page, "Orion reaches {share:.2} of what the machine allows.\n\n")
                .expect("strings grow");
        }
        let trains = test == "train";
        let unit = if trains { "ms a step" } else { "tokens/s" };
        writeln!(page, "| | version | {unit} | spread | times Orion | peak memory, MB |")
            .and_then(|()| writeln!(page, "|---|---|---:|---:|---:|---:|"))
            .expect("strings grow");
        for c in &contest.contenders {
            let value = match trains {
                true => format!("{:.0}", c.median * 1e3),
                false => format!("{:.0}", (batch * tokens) as f64 / c.median),
            };
            let (least, most) = c
                .seconds
                .iter()
                .fold((f64::INFINITY, 0f64), |(least, most), &s| (least.min(s), most.max(s)));
            let spread = (most - least) / c.median * 100.0;
            let name = match c.flags.as_str() {
                "" => c.name.clone(),
                flags => format!("{} ({flags})", c.name),
            };
            writeln!(
                page,
                "| {name} | {} | {value} | {spread:.0} % | {:.2} | {:.0} |",
                c.version,
                c.times_slower_than_orion,
                c.peak_rss_bytes as f64 / 1e6,
            )
            .expect("strings grow");
        }
        for Missing { name, reason } in &contest.missing {
            write!(page, "\nMissing: {name}: {reason}\n").expect("strings grow");
        }
    }
    for gemms in &results.gemms {
        gemm_section(&mut page, gemms).expect("strings grow");
    }
    page
}

#[test]
fn the_page_is_what_was_measured() {
    let path = root().join("docs/performance.md");
    let page = page(&results());
    if std::env::var_os("ORION_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/performance.md is not current: run this with ORION_BLESS=1");
}

#[test]
fn medians_and_ratios_are_those_of_the_rounds() {
    for contest in results().contests {
        let ours = &contest.contenders[0];
        assert_eq!(ours.name, "orion");
        for c in &contest.contenders {
            let ratios: Vec<f64> =
                c.seconds.iter().zip(&ours.seconds).map(|(theirs, ours)| theirs / ours).collect();
            let close = |a: f64, b: f64| orion_tensor::Tolerance::Close.check(&[a], &[b]).unwrap();
            close(orion_bench::median(&c.seconds), c.median);
            close(orion_bench::median(&ratios), c.times_slower_than_orion);
        }
    }
}
