//! Writes what `torch.save` writes, byte for byte but for the archive's serial number.

use super::SERIAL_ENTRY;
use super::archive::ArchiveWriter;
use crate::{Error, ErrorKind, Result};
use orion_tensor::{DType, Tensor};
use std::collections::HashMap;

/// A pickle of dictionaries, texts and tensors under construction.
pub(crate) struct Writer {
    pickle: Vec<u8>,
    memo: HashMap<String, u32>,
    next: u32,
    storages: Vec<Tensor>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { pickle: vec![0x80, 2], memo: HashMap::new(), next: 0, storages: Vec::new() }
    }

    /// Python numbers what it may need again.
    fn put(&mut self) -> u32 {
        let key = self.next;
        self.next += 1;
        match u8::try_from(key) {
            Ok(key) => self.pickle.extend([b'q', key]),
            Err(_) => {
                self.pickle.push(b'r');
                self.pickle.extend(key.to_le_bytes());
            }
        }
        key
    }

    /// What was written under that name before, or `write` it now.
    fn shared(&mut self, name: String, write: impl FnOnce(&mut Self)) {
        if let Some(&key) = self.memo.get(&name) {
            match u8::try_from(key) {
                Ok(key) => self.pickle.extend([b'h', key]),
                Err(_) => {
                    self.pickle.push(b'j');
                    self.pickle.extend(key.to_le_bytes());
                }
            }
            return;
        }
        write(self);
        let key = self.put();
        self.memo.insert(name, key);
    }

    fn raw_text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend((text.len() as u32).to_le_bytes());
        self.pickle.extend(text.bytes());
    }

    /// A text that is one object in Python wherever it stands: a key or a literal.
    pub(crate) fn literal(&mut self, text: &str) {
        self.shared(format!("text {text}"), |this| this.raw_text(text));
    }

    /// A text that was made anew.
    pub(crate) fn fresh_text(&mut self, text: &str) {
        self.raw_text(text);
        self.put();
    }

    pub(crate) fn int(&mut self, number: usize) -> Result<()> {
        match (u8::try_from(number), u16::try_from(number), i32::try_from(number)) {
            (Ok(n), ..) => self.pickle.extend([b'K', n]),
            (_, Ok(n), _) => {
                self.pickle.push(b'M');
                self.pickle.extend(n.to_le_bytes());
            }
            (_, _, Ok(n)) => {
                self.pickle.push(b'J');
                self.pickle.extend(n.to_le_bytes());
            }
            _ => {
                let detail = format!("a size of {number} in a file of PyTorch");
                return Err(Error::new(ErrorKind::NotRepresentable, detail));
            }
        }
        Ok(())
    }

    /// A dictionary; `item` writes the key and value of that number.
    pub(crate) fn dict(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        /// Python writes so many items together.
        const TOGETHER: usize = 1000;
        self.pickle.push(b'}');
        self.put();
        for start in (0..count).step_by(TOGETHER) {
            let items = start..count.min(start + TOGETHER);
            if items.len() == 1 {
                item(self, start)?;
                self.pickle.push(b's');
                continue;
            }
            self.pickle.push(b'(');
            for i in items {
                item(self, i)?;
            }
            self.pickle.push(b'u');
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) {
        self.shared(format!("global {module} {name}"), |this| {
            this.pickle.push(b'c');
            this.pickle.extend(format!("{module}\n{name}\n").bytes());
        });
    }

    fn tuple_of(&mut self, numbers: &[usize]) -> Result<()> {
        if numbers.len() > 3 {
            self.pickle.push(b'(');
        }
        for &number in numbers {
            self.int(number)?;
        }
        match numbers.len() {
            0 => {
                self.pickle.push(b')');
                return Ok(());
            }
            1..=3 => self.pickle.push(0x84 + numbers.len() as u8),
            _ => self.pickle.push(b't'),
        }
        self.put();
        Ok(())
    }

    /// A dense tensor.
    pub(crate) fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let storage = match tensor.dtype() {
            DType::I8 => "CharStorage",
            DType::F16 => "HalfStorage",
            DType::BF16 => "BFloat16Storage",
            DType::F32 => "FloatStorage",
            other => {
                let detail = format!("a tensor of type {other} in a file of PyTorch");
                return Err(Error::new(ErrorKind::NotRepresentable, detail));
            }
        };
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.pickle.extend(b"((");
        self.literal("storage");
        self.global("torch", storage);
        self.fresh_text(&self.storages.len().to_string());
        self.literal("cpu");
        self.int(tensor.element_count())?;
        self.pickle.push(b't');
        self.put();
        self.pickle.push(b'Q');
        self.int(0)?;
        self.tuple_of(tensor.shape())?;
        let mut strides = vec![1; tensor.shape().len()];
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * tensor.shape()[axis];
        }
        self.tuple_of(&strides)?;
        self.pickle.push(0x89);
        self.global("collections", "OrderedDict");
        self.pickle.extend(b")R");
        self.put();
        self.pickle.push(b't');
        self.put();
        self.pickle.push(b'R');
        self.put();
        self.storages.push(tensor.clone());
        Ok(())
    }

    /// The finished file; `serial` is forty digits that tell files apart, made up from the content
    /// where there are none yet. PyTorch's own depend on the standard library it was built with.
    pub(crate) fn finish(mut self, serial: Option<&str>) -> Result<Vec<u8>> {
        self.pickle.push(b'.');
        let mut archive = ArchiveWriter::default();
        archive.add("archive/data.pkl", &self.pickle)?;
        archive.add("archive/.format_version", b"1")?;
        archive.add("archive/.storage_alignment", b"64")?;
        archive.add("archive/byteorder", b"little")?;
        for (i, tensor) in self.storages.iter().enumerate() {
            archive.add(&format!("archive/data/{i}"), tensor.bytes())?;
        }
        archive.add("archive/version", b"3\n")?;
        let serial = match serial {
            Some(serial) => serial.to_owned(),
            None => {
                let digits = |bytes: &mut dyn Iterator<Item = &u8>| {
                    bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
                        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                    })
                };
                let data = digits(&mut self.storages.iter().flat_map(|t| &t.bytes()[..]));
                format!("{:020}{data:020}", digits(&mut self.pickle.iter()))
            }
        };
        archive.add(&format!("archive/{SERIAL_ENTRY}"), serial.as_bytes())?;
        Ok(archive.finish())
    }
}
