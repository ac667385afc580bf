//! No two files make the reader of adapter directories panic, and what it reads of the matrices is
//! what the model takes and can be written and read again.
//!
//! Input: the length of `adapter_config.json` in two bytes, little endian, that file, and
//! `adapter_model.safetensors`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::PeftAdapter;
use orion_formats::peft::{CONFIG_FILE, WEIGHTS_FILE};
use orion_models::{Adapter, Network, preset};
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("orion-fuzz-adapter-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    path
});

static NETWORK: LazyLock<Network> =
    LazyLock::new(|| preset("stories260k").expect("a preset").network());

fuzz_target!(|data: &[u8]| {
    let Some((length, files)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(files.len());
    let (config, weights) = files.split_at(length);
    std::fs::write(DIRECTORY.join(CONFIG_FILE), config).expect("a file");
    std::fs::write(DIRECTORY.join(WEIGHTS_FILE), weights).expect("a file");
    if let Ok(adapter) = Adapter::load(&DIRECTORY, &NETWORK) {
        let layers = NETWORK.linear_layers();
        for (module, matrices) in &adapter.modules {
            let layer = layers.iter().find(|layer| layer.module == *module).expect("a layer");
            assert_eq!(matrices.a.shape(), [matrices.rank(), layer.inputs]);
            assert_eq!(matrices.b.shape(), [layer.outputs, matrices.rank()]);
        }
    }
    let Ok(read) = PeftAdapter::open(&*DIRECTORY) else { return };
    if read.write_in(&*DIRECTORY).is_ok() {
        let again = PeftAdapter::open(&*DIRECTORY).expect("it was written");
        assert_eq!(again.modules, read.modules);
    }
});
