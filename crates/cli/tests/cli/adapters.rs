//! Adapters beside a model, and merged into it.

use crate::support::{Place, tiny_run};
use insta::assert_snapshot;
use orion_formats::safetensors;
use orion_tensor::{Tensor, Tolerance};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A tiny model in `hf/` and two adapters for it, `loud` and `calm`.
fn place() -> Place {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    for (name, rank, alpha, seed) in [("loud", 2, 8.0, 1.0), ("calm", 9, 4.5, 2.0)] {
        write_adapter(&place, name, rank, alpha, seed);
    }
    place
}

fn write_adapter(place: &Place, name: &str, rank: usize, alpha: f64, seed: f64) {
    let numbers = |rows: usize, columns: usize, shift: f64| {
        let values: Vec<f32> =
            (0..rows * columns).map(|i| ((i as f64 + shift) * (1.7 + seed)).sin() as f32).collect();
        Tensor::from_slice(&[rows, columns], &values)
    };
    let mut tensors = BTreeMap::new();
    for layer in 0..2 {
        for (part, outputs, inputs) in [
            ("self_attn.q_proj", 16, 16),
            ("mlp.gate_proj", 24, 16),
            ("mlp.up_proj", 24, 16),
            ("mlp.down_proj", 16, 24),
        ] {
            let module = format!("base_model.model.model.layers.{layer}.{part}");
            tensors.insert(format!("{module}.lora_A.weight"), numbers(rank, inputs, 0.5));
            tensors.insert(format!("{module}.lora_B.weight"), numbers(outputs, rank, 9.0));
        }
    }
    std::fs::create_dir(place.path(name)).unwrap();
    let config = json!({
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none",
        "target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"],
    });
    place.write(&format!("{name}/adapter_config.json"), config.to_string());
    let path = place.path(&format!("{name}/adapter_model.safetensors"));
    let mut file = std::fs::File::create(path).unwrap();
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::write(&mut file, named, &BTreeMap::new()).unwrap();
}

const REST: &str = "-n 20 --temp 0";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_model_says_with_an_adapter_what_it_says_with_it_merged() {
    let place = place();
    for name in ["loud", "calm"] {
        let out = place.line(&format!("fuse hf --adapter {name} --out fused-{name}"));
        assert_eq!(out.succeeded(), format!("fused-{name}\n"));
        let merged = place.line(&format!("run fused-{name} -p the {REST}")).succeeded();
        let base = place.line(&format!("run hf -p the {REST}")).succeeded();
        assert_ne!(merged, base);
        for device in ["cpu", "cpu:reference"] {
            let ran = place.line(&format!("run hf --adapter {name} -p the {REST} -d {device}"));
            assert_eq!(ran.succeeded(), merged, "{name} on {device}");
        }
        let loss = |model: &str| {
            let ran = place.line(&format!("eval {model} --data tokens.bin --seq 16 --format json"));
            lines(&ran.succeeded())[0]["loss"].as_f64().unwrap()
        };
        let (beside, within) =
            (loss(&format!("hf --adapter {name}")), loss(&format!("fused-{name}")));
        Tolerance::F32Network.check(&[beside], &[within]).unwrap();
    }
    // What is there is not written over.
    let again = place.line("fuse hf --adapter loud --out fused-loud");
    assert!(again.code == 3 && again.stderr.contains("is there already"), "{again}");
}

#[test]
fn several_adapters_continue_one_prompt_or_the_lines_that_name_them() {
    let place = place();
    let alone = |adapter: &str, prompt: &str| {
        let adapter = if adapter.is_empty() { vec![] } else { vec!["--adapter", adapter] };
        let rest: Vec<&str> = REST.split(' ').collect();
        let text = place.orion(&[&["run", "hf", "-p", prompt], &rest[..], &adapter[..]].concat());
        text.succeeded().trim_end_matches('\n').to_owned()
    };
    let ran = place.line(&format!("run hf --adapter loud,second=calm -p the {REST} --stats"));
    let told = ran.stderr.clone();
    assert!(told.contains("adapter     chosen in "), "{told}");
    let each = [alone("loud", "the"), alone("calm", "the")];
    assert_eq!(ran.succeeded(), each.join("\n\n") + "\n");

    place.write(
        "prompts.txt",
        "the cat\n{\"prompt\": \"the dog\", \"adapter\": \"calm\"}\n\
         {\"prompt\": \"a\", \"adapter\": null}\n{\"prompt\": \"the log\"}\nthe mat\n",
    );
    let expected = [
        ("loud", "the cat"),
        ("calm", "the dog"),
        ("", "a"),
        ("loud", "the log"),
        ("loud", "the mat"),
    ];
    for together in [1, 2, 5] {
        let ran = place.line(&format!(
            "run hf --adapter loud --adapter calm -f prompts.txt --parallel {together} --format json {REST}"
        ));
        let texts = lines(&ran.succeeded());
        assert_eq!(texts.len(), 5);
        for (text, (adapter, prompt)) in texts.iter().zip(expected) {
            assert_eq!(text["prompt"], prompt);
            assert_eq!(
                text["text"].as_str().unwrap(),
                alone(adapter, prompt),
                "{adapter} {prompt}"
            );
            assert_eq!(text["adapter"].as_str().unwrap_or_default(), adapter);
        }
    }
    // Without adapters a line is a prompt, whatever it looks like.
    let ran = place.line(&format!("run hf -f prompts.txt --parallel 2 --format json {REST}"));
    assert_eq!(lines(&ran.succeeded())[3]["prompt"], "{\"prompt\": \"the log\"}");

    let ran = place.line("eval hf --data tokens.bin --seq 16 --adapter calm,loud");
    let told = ran.succeeded();
    let names: Vec<&str> = told.lines().filter_map(|l| l.strip_prefix("adapter     ")).collect();
    assert_eq!(names, ["calm", "loud"]);
}

#[test]
fn a_conversation_goes_from_one_adapter_to_another() {
    let place = place();
    place.write(
        "hf/chat_template.jinja",
        "{% for m in messages %}{{ m.role[0] }}:{{ m.content }} {% endfor %}a:",
    );
    let says = |adapters: &[&str], typed: &str| {
        let flags = ["chat", "hf", "--temperature", "0", "-n", "6"];
        place.with_stdin(&[&flags[..], adapters].concat(), typed)
    };
    let loud = says(&["--adapter", "loud"], "the cat\n").succeeded();
    let calm = says(&["--adapter", "calm"], "the cat\n").succeeded();
    let base = says(&[], "the cat\n").succeeded();
    let typed = "the cat\n/clear\n/adapter calm\nthe cat\n/clear\n/adapter none\nthe cat\n/adapter\n/adapter x\n";
    let ran = says(&["--adapter", "loud,calm"], typed);
    assert!(ran.stderr.contains("adapters: loud, calm"), "{ran}");
    assert!(ran.stderr.contains("there is no adapter x"), "{ran}");
    assert_eq!(ran.succeeded(), [loud, calm, base].concat());
    place.line("fuse hf --adapter loud --out fused").succeeded();
    assert_eq!(place.read("fused/chat_template.jinja"), place.read("hf/chat_template.jinja"));
}

#[test]
fn what_is_no_adapter_is_said() {
    let place = place();
    let mut config: Value = serde_json::from_str(&place.read("loud/adapter_config.json")).unwrap();
    config["modules_to_save"] = json!(["score"]);
    place.write("loud/adapter_config.json", config.to_string());
    assert_snapshot!(place.line("run hf --adapter loud -p the"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: loud/adapter_config.json: not supported: key `modules_to_save` of adapter_config.json is score, expected nothing
    hint: whole modules that were trained with the adapter are not run; merge it with PEFT's merge_and_unload and give the merged model
    ");
    assert_snapshot!(place.line("run hf --adapter hf -p the"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: hf: this is a model, no adapter
    hint: an adapter's directory holds adapter_config.json; a model is given as MODEL
    ");
    assert_snapshot!(place.line("run hf --adapter calm,calm -p the"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: two adapters are called calm
    hint: give each a name of its own: --adapter one=DIR,other=DIR
    ");
    place.write("prompts.txt", "{\"prompt\": \"the dog\", \"adapter\": \"x\"}\n");
    assert_snapshot!(place.line("run hf --adapter calm -f prompts.txt --parallel 2"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: line 1 of the prompt file: there is no adapter x; loaded are calm
    ");
    write_adapter(&place, "other", 70_000, 1.0, 3.0);
    assert_snapshot!(place.line("fuse hf --adapter other --out fused"), @r"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: other/adapter_config.json: file is malformed: key `r` of adapter_config.json is 70000, expected 1 to 65536
    ");
}

const DATA: &str = "{\"prompt\": \"the cat\", \"completion\": \" sat on the log\"}\n\
                    {\"prompt\": \"the dog\", \"completion\": \" sat on the mat\"}\n";

/// As it says, and small enough for a test.
const RECIPE: &str = "--data data.jsonl --batch 2 --seq 16 --lr 0.1 --warmup 0 -t 1 -q";

#[test]
fn an_adapter_is_trained_resumed_run_and_merged() {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    place.write("data.jsonl", DATA);
    let train = |rest: &str| place.line(&format!("finetune {rest}")).succeeded();
    train(&format!(
        "hf {RECIPE} --steps 60 --rank 4 --alpha 8 --targets q,v,up --targets down --out ad"
    ));
    for name in ["config.toml", "metrics.jsonl", "latest/DONE", "latest/adapter_config.json"] {
        assert!(place.path("ad").join(name).exists(), "{name}");
    }
    let metrics = lines(&place.read("ad/metrics.jsonl"));
    let loss = |i: usize| metrics[i]["loss"].as_f64().unwrap();
    assert!(metrics.len() == 60 && loss(59) < 0.97 * loss(0), "{} to {}", loss(0), loss(59));
    let config: Value =
        serde_json::from_str(&place.read("ad/adapter/adapter_config.json")).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8)));
    assert_eq!(config["target_modules"], json!(["q_proj", "v_proj", "up_proj", "down_proj"]));

    // The run, its checkpoint and what it wrote at the end are the same adapter.
    let says = |rest: &str| place.line(&format!("run {rest} -p the {REST}")).succeeded();
    let text = says("hf --adapter ad");
    assert_ne!(text, says("hf"));
    assert_eq!(says("hf --adapter ad/adapter"), text);
    assert_eq!(says("hf --adapter ad/latest"), text);
    place.line("fuse hf --adapter ad --out fused").succeeded();
    assert_eq!(says("fused"), text);
    place.line("convert fused --to gguf -o fused.gguf").succeeded();
    assert_eq!(says("fused.gguf"), text);

    // Half of it, then the rest: the same bytes.
    let half = "--set optimizer.schedule=constant --set checkpoint.every=3";
    let bytes = |run: &str| {
        std::fs::read(place.path(run).join("adapter/adapter_model.safetensors")).unwrap()
    };
    train(&format!("hf {RECIPE} {half} --steps 7 --out whole"));
    train(&format!("hf {RECIPE} {half} --steps 3 --out part"));
    train("--resume part --steps 7 -t 1 -q");
    assert!(bytes("part") == bytes("whole"));

    let ran = place.line("run ad -p the");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr.contains("an adapter, no model") && ran.stderr.contains("--adapter"),
        "{ran}"
    );
}

#[test]
fn an_adapter_is_trained_on_every_device() {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    place.write("data.jsonl", DATA);
    let mut losses = Vec::new();
    for device in ["cpu", "cpu:reference", "ane-model:m4:core-ml"] {
        let out = device.replace(':', "-");
        let ran = place
            .line(&format!("finetune hf {RECIPE} --steps 2 --eps 1e-3 -d {device} --out {out}"));
        ran.succeeded();
        let metrics = lines(&place.read(&format!("{out}/metrics.jsonl")));
        losses.push(metrics[1]["loss"].as_f64().unwrap());
    }
    Tolerance::F32Network.check(&[losses[1]], &[losses[0]]).unwrap();
    // That one computes in fp16, in which the usual 1e-8 is zero.
    Tolerance::F16Accum.check(&[losses[2]], &[losses[0]]).unwrap();
}

#[test]
fn what_cannot_be_learned_from_is_said() {
    let place = tiny_run();
    place.line("convert run --to safetensors -o hf").succeeded();
    place.write("data.jsonl", DATA);
    place.write("bad.jsonl", format!("{DATA}{{\"question\": \"the\"}}\n"));
    place.write("long.jsonl", format!("{DATA}{{\"text\": \"{}\"}}\n", "the cat ".repeat(60)));
    place.write("chat.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"the\"}]}\n");
    assert_snapshot!(place.line("finetune --data data.jsonl"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no model to train an adapter for
    hint: name it first: orion finetune MODEL --data FILE
    ");
    assert_snapshot!(place.line("finetune hf"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: there is no data to train on
    hint: name a file of tokens or text with --data
    ");
    assert_snapshot!(place.line("finetune hf --data bad.jsonl --out x"), @r#"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/bad.jsonl: line 3: this is no example
    hint: a line is {"prompt": …, "completion": …}, {"messages": [{"role": …, "content": …}, …]} or {"text": …}
    "#);
    assert_snapshot!(place.line("finetune hf --data chat.jsonl --out x"), @r#"
    exit: 3
    ----- stdout -----

    ----- stderr -----
    error: [HERE]/chat.jsonl: line 1: this is a conversation, and the model has no chat template
    hint: write it as {"prompt": …, "completion": …}
    "#);
    assert_snapshot!(place.line("finetune hf --data data.jsonl --targets q,w --out x"), @r"
    exit: 2
    ----- stdout -----

    ----- stderr -----
    error: adapter.targets: no linear layer is called w; this model has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj
    ");
    let ran = place.line("finetune hf --data long.jsonl --steps 1 --batch 1 --out x -t 1");
    assert!(ran.stderr.contains("1 examples are longer than train.seq"), "{ran}");
    let page = place.line("finetune hf --data data.jsonl --rank 2 --print-config").succeeded();
    assert!(page.contains("rank = 2\n") && page.contains("lr = 0.0002\n"), "{page}");
}
