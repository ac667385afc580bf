//! No bytes make the readers of `config.json`, `adapter_config.json` and checkpoint states panic,
//! and what they take can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::{CheckpointState, ConfigFile, PeftConfig};

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = ConfigFile::parse(data)
        && let Ok(json) = config.to_json()
    {
        ConfigFile::parse(&json).expect("what was written can be read");
    }
    let _ = CheckpointState::parse(data);
    if let Ok(config) = PeftConfig::parse(data) {
        for module in ["model.layers.0.self_attn.q_proj", "lm_head", ""] {
            let _ = config.is_for(module, module == "lm_head");
            let _ = config.of_module(module);
        }
    }
});
