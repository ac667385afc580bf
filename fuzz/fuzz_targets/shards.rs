//! No index and no two files beside it make the reader of sharded weights panic, and it gives the
//! tensors that the index names.
//!
//! Input: the lengths of the index and of the first file in two bytes each, little endian, and the
//! three files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orion_formats::safetensors::open_sharded;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("orion-fuzz-shards-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    path
});

fuzz_target!(|data: &[u8]| {
    let Some((&[a, b, c, d], mut rest)) = data.split_first_chunk::<4>() else { return };
    let lengths = [[a, b], [c, d]].map(|bytes| usize::from(u16::from_le_bytes(bytes)));
    for (name, length) in
        ["index.json", "a", "b"].into_iter().zip([lengths[0], lengths[1], rest.len()])
    {
        let (file, after) = rest.split_at(length.min(rest.len()));
        std::fs::write(DIRECTORY.join(name), file).expect("a file");
        rest = after;
    }
    let Ok((tensors, maps)) = open_sharded(DIRECTORY.join("index.json")) else { return };
    assert!(maps.len() <= 2, "there are no more files");
    let index = std::fs::read(DIRECTORY.join("index.json")).expect("a file");
    let index = String::from_utf8(index).expect("JSON is UTF-8");
    for (name, tensor) in &tensors {
        assert!(index.contains(name.as_str()) || index.contains('\\'), "{name} is in the index");
        assert_eq!(tensor.bytes().len(), tensor.element_count() * tensor.dtype().size_bytes());
    }
});
