use crate::support::Place;
use insta::assert_snapshot;
use serde_json::Value;

const PROGRAM: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "1"}})]
{
    func main<ios18>(tensor<fp16, [1, 64, 8, 64]> a) {
        tensor<fp16, [1, 64, 8, 64]> t = tan(x = a)[name = string("t")];
        tensor<fp16, [1, 64, 8, 64]> b = rsqrt(x = t)[name = string("b")];
    } -> (b);
}
"#;

#[test]
fn lint_says_what_is_wrong_and_fix_mends_it() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    assert_snapshot!(place.line("lint model.mil"));
    assert_snapshot!(place.line("lint model.mil --format json --fix fixed.mil -q"));
    assert_snapshot!(place.line("lint fixed.mil"));
}

#[test]
fn lint_explains_rules() {
    let place = Place::new();
    assert_snapshot!(place.line("lint --explain ane002"));
    assert_snapshot!(place.line("lint --explain ANE999"));
}

#[test]
fn residency_says_why() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    assert_snapshot!(place.line("residency model.mil --chip m1"));
}

#[test]
fn lint_and_residency_take_models() {
    let place = Place::new();
    let ran = place.line("lint stories260k --task decode --seq 64 --through core-ml");
    assert!(ran.stdout.contains("stories260k: decode_1x64: "), "{ran}");
    let ran = place.line("lint stories260k --task train --seq 64 --format json -q");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran}");
    let ran = place.line("residency stories260k --task decode --seq 64 --format json -q");
    assert!(ran.stdout.contains("\"unit\""), "{ran}");
    let ran = place.line("lint stories260k --fix fixed.mil");
    assert!(ran.stderr.contains("orion compile"), "{ran}");
}

/// What SARIF 2.1.0 asks of a log, and what readers of it rely on.
#[test]
fn sarif_is_what_its_schema_asks_for() {
    let place = Place::new();
    place.write("model.mil", PROGRAM);
    let log: Value =
        serde_json::from_str(&place.line("lint model.mil --format sarif -q").stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let [run] = &log["runs"].as_array().unwrap()[..] else { panic!("one run") };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "orion lint");
    let rules: Vec<&str> = driver["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            assert!(rule["shortDescription"]["text"].is_string(), "{rule}");
            rule["id"].as_str().unwrap()
        })
        .collect();
    let results = run["results"].as_array().unwrap();
    assert!(results.len() >= 2, "{results:?}");
    for result in results {
        assert!(rules.contains(&result["ruleId"].as_str().unwrap()), "{result}");
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let location = &result["locations"][0];
        assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "model.mil");
        assert!(location["logicalLocations"][0]["fullyQualifiedName"].is_string());
    }
}
