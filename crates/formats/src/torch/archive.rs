//! ZIP archives whose entries are stored, not compressed, as PyTorch writes them.

use crate::{Error, ErrorKind, Result};
use flate2::Crc;
use orion_tensor::Bytes;
use std::collections::BTreeMap;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Sizes follow behind the data, and names are UTF-8.
const FLAGS: u16 = 0x0808;
/// Data begins at multiples of this.
const ALIGNMENT: usize = 64;
/// The length of the record that ends an archive without comment.
const END_BYTES: usize = 22;

fn malformed(detail: impl Into<String>, at: usize) -> Error {
    Error::new(ErrorKind::Malformed, format!("ZIP archive: {}", detail.into())).at(at as u64)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N);
    let found = end.and_then(|end| bytes.get(at..end)).and_then(|b| b.try_into().ok());
    found.ok_or_else(|| malformed("it is cut short", at))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize> {
    Ok(usize::from(u16::from_le_bytes(number(bytes, at)?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(number(bytes, at)?))
}

/// The entries of an archive by name; their bytes are the archive's.
pub(super) fn entries(archive: &Bytes) -> Result<BTreeMap<String, Bytes>> {
    let end = archive
        .len()
        .checked_sub(END_BYTES)
        .filter(|&end| u32_at(archive, end).is_ok_and(|signature| signature == END));
    let end = end.ok_or_else(|| {
        Error::new(ErrorKind::WrongFormat, "a ZIP archive ends with a record that is missing here")
    })?;
    let count = u16_at(archive, end + 10)?;
    let mut at = u32_at(archive, end + 16)? as usize;
    let mut entries = BTreeMap::new();
    // Entries that lie over each other would let a small file ask for any amount of work.
    let mut left = archive.len();
    for _ in 0..count {
        if u32_at(archive, at)? != CENTRAL {
            return Err(malformed("its directory has fewer entries than it says", at));
        }
        let (method, size) = (u16_at(archive, at + 10)?, u32_at(archive, at + 24)? as usize);
        let [name, extra, comment] =
            [28, 30, 32].map(|offset| u16_at(archive, at + offset)).map(|n| n.unwrap_or(0));
        let local = u32_at(archive, at + 42)? as usize;
        let text = archive.get(at + 46..at + 46 + name).and_then(|b| std::str::from_utf8(b).ok());
        let text = text.ok_or_else(|| malformed("an entry has no readable name", at))?;
        if method != 0 {
            let detail = format!("entry {text} of a ZIP archive is compressed");
            return Err(Error::new(ErrorKind::Unsupported, detail).at(at as u64));
        }
        if u32_at(archive, local)? != LOCAL {
            return Err(malformed(format!("entry {text} is not where it should be"), local));
        }
        let data = local + 30 + u16_at(archive, local + 26)? + u16_at(archive, local + 28)?;
        let bytes = archive.slice(data..data.saturating_add(size));
        let bytes = bytes.ok_or_else(|| malformed(format!("entry {text} is cut short"), data))?;
        left = left.checked_sub(size).ok_or_else(|| malformed("its entries overlap", at))?;
        if crc(&bytes) != u32_at(archive, at + 16)? {
            return Err(malformed(format!("entry {text} has another checksum"), data));
        }
        if entries.insert(text.to_owned(), bytes).is_some() {
            return Err(malformed(format!("entry {text} is there twice"), at));
        }
        at += 46 + name + extra + comment;
    }
    Ok(entries)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// An archive being written, as PyTorch lays it out.
#[derive(Default)]
pub(super) struct ArchiveWriter {
    out: Vec<u8>,
    central: Vec<u8>,
    count: u16,
}

impl ArchiveWriter {
    /// Adds an entry.
    pub(super) fn add(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let fits = |n: usize| {
            u32::try_from(n).map_err(|_| {
                let detail = "an archive of more than 4 GiB";
                Error::new(ErrorKind::NotRepresentable, detail)
            })
        };
        let (local, size) = (fits(self.out.len())?, fits(data.len())?);
        let words = |out: &mut Vec<u8>, words: &[u16]| {
            words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        };
        let length = name.len() as u16;
        let padding = (self.out.len() + 30 + name.len() + 4).wrapping_neg() % ALIGNMENT;
        let out = &mut self.out;
        out.extend(LOCAL.to_le_bytes());
        words(out, &[0, FLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, length, padding as u16 + 4]);
        out.extend(name.bytes());
        out.extend(b"FB");
        out.extend((padding as u16).to_le_bytes());
        out.extend(std::iter::repeat_n(b'Z', padding));
        out.extend(data);
        let sums = [crc(data), size, size];
        out.extend(DESCRIPTOR.to_le_bytes());
        sums.iter().for_each(|sum| out.extend(sum.to_le_bytes()));
        let central = &mut self.central;
        central.extend(CENTRAL.to_le_bytes());
        words(central, &[0, 0, FLAGS, 0, 0, 0]);
        sums.iter().for_each(|sum| central.extend(sum.to_le_bytes()));
        words(central, &[length, 0, 0, 0, 0, 0, 0]);
        central.extend(local.to_le_bytes());
        central.extend(name.bytes());
        self.count += 1;
        fits(self.out.len() + self.central.len())?;
        Ok(())
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let (start, size) = (self.out.len() as u64, self.central.len() as u64);
        self.out.extend(self.central);
        let end_64 = self.out.len() as u64;
        let (count, out) = (u64::from(self.count), &mut self.out);
        out.extend(END_64.to_le_bytes());
        out.extend(44u64.to_le_bytes());
        out.extend([0x1e, 3, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [count, count, size, start].iter().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(LOCATOR_64.to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend(end_64.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(END.to_le_bytes());
        out.extend([0; 4]);
        [self.count, self.count].iter().for_each(|n| out.extend(n.to_le_bytes()));
        [size, start].iter().for_each(|n| out.extend((*n as u32).to_le_bytes()));
        out.extend([0; 2]);
        self.out
    }
}
