//! Artifacts as PyTorch and zlib write them.

use super::{ArtifactTensor, FORMAT, GolfArtifact, type_name};
use crate::torch::Writer;
use crate::{Error, Result};
use flate2::Compression;
use flate2::read::ZlibEncoder;
use orion_tensor::{DType, Tensor};
use std::io::Read;

struct Quantized<'a> {
    name: &'a str,
    data: &'a Tensor,
    scale: &'a Tensor,
    original: DType,
}

struct Plain<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    original: Option<DType>,
}

impl GolfArtifact {
    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`GolfArtifact::to_torch`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let raw = self.to_torch()?;
        let mut out = Vec::new();
        ZlibEncoder::new(&raw[..], Compression::best())
            .read_to_end(&mut out)
            .map_err(Error::write)?;
        Ok(out)
    }

    /// The same before compression: a file of `torch.save`.
    ///
    /// # Errors
    /// [`NotRepresentable`](crate::ErrorKind::NotRepresentable) when a size does not fit it.
    pub fn to_torch(&self) -> Result<Vec<u8>> {
        let (mut quantized, mut plain) = (Vec::new(), Vec::new());
        for (name, tensor) in &self.tensors {
            match tensor {
                ArtifactTensor::Quantized { data, scale, original } => {
                    quantized.push(Quantized { name, data, scale, original: *original });
                }
                ArtifactTensor::Plain { tensor, original } => {
                    plain.push(Plain { name, tensor, original: *original });
                }
            }
        }
        let rows: Vec<&str> =
            quantized.iter().filter(|q| q.scale.shape().len() == 1).map(|q| q.name).collect();
        let narrowed: Vec<(&str, DType)> =
            plain.iter().filter_map(|p| Some((p.name, p.original?))).collect();
        let mut sections = vec!["__quant_format__", "quantized", "scales", "dtypes", "passthrough"];
        sections.extend((!rows.is_empty()).then_some("qmeta"));
        sections.extend((!narrowed.is_empty()).then_some("passthrough_orig_dtypes"));
        let mut writer = Writer::new();
        writer.dict(sections.len(), |w, section| {
            w.literal(sections[section]);
            match sections[section] {
                "__quant_format__" => {
                    w.literal(FORMAT);
                    Ok(())
                }
                "quantized" => w.dict(quantized.len(), |w, i| {
                    w.literal(quantized[i].name);
                    w.tensor(quantized[i].data)
                }),
                "scales" => w.dict(quantized.len(), |w, i| {
                    w.literal(quantized[i].name);
                    w.tensor(quantized[i].scale)
                }),
                "dtypes" => w.dict(quantized.len(), |w, i| {
                    w.literal(quantized[i].name);
                    w.fresh_text(type_name(quantized[i].original)?);
                    Ok(())
                }),
                "passthrough" => w.dict(plain.len(), |w, i| {
                    w.literal(plain[i].name);
                    w.tensor(plain[i].tensor)
                }),
                "qmeta" => w.dict(rows.len(), |w, i| {
                    w.literal(rows[i]);
                    w.dict(2, |w, key| {
                        if key == 0 {
                            w.literal("scheme");
                            w.literal("per_row");
                            return Ok(());
                        }
                        w.literal("axis");
                        w.int(0)
                    })
                }),
                _ => w.dict(narrowed.len(), |w, i| {
                    w.literal(narrowed[i].0);
                    w.fresh_text(type_name(narrowed[i].1)?);
                    Ok(())
                }),
            }
        })?;
        writer.finish(self.serial.as_deref())
    }
}
