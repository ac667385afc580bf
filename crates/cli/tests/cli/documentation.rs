//! What the pages promise to be tested is tested.

use std::path::Path;

const MODELS: &str = include_str!("../../../../docs/models.md");

#[test]
fn every_row_of_the_table_of_models_is_a_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let section = MODELS.split("## What is verified").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |"));
    let mut count = 0;
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        let place = last.trim_matches('`').split_once(": ");
        let (file, test) = place.unwrap_or_else(|| panic!("{row} names no test"));
        let source = std::fs::read_to_string(crates.join(file))
            .unwrap_or_else(|e| panic!("{file} of {row}: {e}"));
        let declared = format!("#[test]\nfn {test}()");
        let inside = format!("#[test]\n    fn {test}()");
        assert!(
            source.contains(&declared) || source.contains(&inside),
            "there is no test {test} in {file}"
        );
        count += 1;
    }
    assert!(count > 10, "{count} rows");
}
