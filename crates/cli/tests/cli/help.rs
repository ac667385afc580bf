use crate::support::Place;
use insta::assert_snapshot;

#[test]
fn every_verb_has_a_help_page() {
    let place = Place::new();
    for verb in [
        "quickstart",
        "run",
        "chat",
        "train",
        "eval",
        "tokenize",
        "detokenize",
        "convert",
        "init",
        "artifact",
        "artifact save",
        "artifact load",
        "artifact eval",
        "finetune",
        "fuse",
        "compile",
        "mil",
        "mil print",
        "mil check",
        "mil convert",
        "mil diff",
        "mil info",
        "mil run",
        "lint",
        "residency",
        "estimate",
        "bench",
        "bench machine",
        "bench gemm",
        "bench program",
        "bench prefill",
        "bench decode",
        "bench train",
        "bench load",
        "devices",
        "doctor",
        "probe",
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
    assert_snapshot!(ran, @r"
    exit: 0
    ----- stdout -----
    Train, run and inspect small language models as MIL programs

    Usage: orion [OPTIONS] <COMMAND>

    Commands:
      quickstart  Train a small Llama from random weights in about a minute and let it tell a story
      run         Continue a prompt
      chat        Talk with a chat model
      train       Train a model, from random weights or from existing ones
      eval        Measure loss and perplexity of a model on a token file
      tokenize    Turn text into token ids
      detokenize  Turn token ids into text
      convert     Write a model in another format
      init        Write a model of random weights
      artifact    Write, read or measure an int8 artifact of Parameter Golf, against its limit of 16 MB
      finetune    Train a small adapter beside a model that stays as it is
      fuse        Write a model with an adapter merged into its weights
      compile     Write the MIL programs that `run` or `train` would execute, as text and weight files
      mil         Print, check, convert, compare, describe or run a MIL program
      lint        Say what the Apple Neural Engine will refuse, run elsewhere or get wrong
      residency   Say which operations Core ML would run on the Neural Engine, and why
      estimate    Say what a program would cost on the Neural Engine: time, traffic and energy
      bench       Measure models, programs and this machine, beside what the machine can do at most
      devices     List the devices of this machine
      doctor      Say whether the Neural Engine of this Mac works, and which part does not
      probe       Run experiments on the Neural Engine of this Mac that nobody has published

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Talk:
      -q, --quiet         Print only data, warnings and errors
      -v, --verbose       Say more about what is being done
          --color <WHEN>  When to use colour: on a terminal that has no NO_COLOR set, always or never
                          [default: auto] [possible values: auto, always, never]
    ----- stderr -----
    ");
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
