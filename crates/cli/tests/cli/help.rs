use crate::support::Place;
use insta::assert_snapshot;

#[test]
fn every_verb_has_a_help_page() {
    let place = Place::new();
    for verb in [
        "quickstart",
        "run",
        "train",
        "eval",
        "compile",
        "mil",
        "mil print",
        "mil check",
        "mil run",
        "devices",
    ] {
        let page = place.line(&format!("{verb} --help")).succeeded();
        // Versions change without the page changing.
        let name = verb.replace(' ', "_");
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../help" }, {
            assert_snapshot!(name, page);
        });
    }
}

#[test]
fn the_first_page_lists_the_verbs() {
    let place = Place::new();
    let ran = place.line("--help");
    assert_snapshot!(ran, @"");
}

#[test]
fn without_a_verb_the_page_is_an_error() {
    let ran = Place::new().line("");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("Usage: orion"), "{ran}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = Place::new().line("--version").succeeded();
    assert_eq!(version, format!("orion {}\n", env!("CARGO_PKG_VERSION")));
}
