use crate::support::Place;
use insta::assert_snapshot;

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
