use super::{BlobError, BlobErrorKind as Kind, BlobFile};
use crate::{Argument, Attributes, Binding, Block, Data, Function, Program, Type, Value, Weights};
use orion_tensor::Bytes;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

/// A place in a program that names a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobReference<'a> {
    /// The value it belongs to, or where that has no name, the operation or attribute.
    pub(crate) owner: &'a str,
    /// The literal itself.
    pub(crate) value: &'a Value,
    /// File as written.
    pub(crate) file: &'a str,
    /// Byte offset of the metadata.
    pub(crate) offset: u64,
}

/// Every blob that a program names, in program order; the same blob as often as it is named.
pub(crate) fn blob_references(program: &Program) -> Vec<BlobReference<'_>> {
    let mut found = Vec::new();
    in_attributes(&program.attributes, None, &mut found);
    for function in &program.functions {
        in_attributes(&function.attributes, None, &mut found);
        for param in &function.params {
            in_attributes(&param.attributes, Some(function.value_name(param.value)), &mut found);
        }
        in_block(function, &function.body, &mut found);
    }
    found
}

fn in_block<'a>(function: &'a Function, block: &'a Block, found: &mut Vec<BlobReference<'a>>) {
    for operation in &block.operations {
        let output = operation.outputs.first().map(|&id| function.value_name(id));
        let owner = output.unwrap_or(&operation.name);
        for binding in operation.inputs.values().flat_map(Argument::bindings) {
            if let Binding::Literal(value) = binding {
                in_value(value, owner, found);
            }
        }
        in_attributes(&operation.attributes, Some(owner), found);
        for block in &operation.blocks {
            in_block(function, block, found);
        }
    }
}

fn in_attributes<'a>(
    attributes: &'a Attributes,
    owner: Option<&'a str>,
    found: &mut Vec<BlobReference<'a>>,
) {
    for (name, value) in attributes {
        in_value(value, owner.unwrap_or(name), found);
    }
}

fn in_value<'a>(value: &'a Value, owner: &'a str, found: &mut Vec<BlobReference<'a>>) {
    match &value.data {
        Data::Blob { file, offset } => {
            found.push(BlobReference { owner, value, file, offset: *offset });
        }
        Data::List(items) | Data::Tuple(items) => {
            items.iter().for_each(|item| in_value(item, owner, found));
        }
        Data::Dict(pairs) => {
            for (key, value) in pairs {
                in_value(key, owner, found);
                in_value(value, owner, found);
            }
        }
        Data::Tensor(_) | Data::Strings(_) => {}
    }
}

/// How many bytes of weight files a program names: every blob once, as its type says, without
/// metadata. The files need not be there. Blobs of unknown size do not count.
pub fn declared_weight_bytes(program: &Program) -> u64 {
    let blobs: BTreeMap<(&str, u64), u64> = blob_references(program)
        .into_iter()
        .filter_map(|reference| {
            let ty = reference.value.ty.as_tensor()?;
            // A type of more bytes than there are is an error elsewhere.
            let bits = (ty.element_count()? as u64).saturating_mul(ty.dtype.bits() as u64);
            Some(((reference.file, reference.offset), bits.div_ceil(8)))
        })
        .collect();
    blobs.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
}

/// Collects every blob that a program names. `open` gives the bytes of a file, under the name the
/// program uses, and is asked once for each.
///
/// Tensors are flat and share the storage of their file, where it does not pack them.
///
/// # Errors
/// The first blob that cannot be had, or is not of the type the program says, naming its value.
pub fn load_weights(
    program: &Program,
    mut open: impl FnMut(&str) -> io::Result<Bytes>,
) -> Result<Weights, BlobError> {
    let mut files: BTreeMap<&str, Opened> = BTreeMap::new();
    let mut weights = Weights::new();
    for reference in blob_references(program) {
        let file = match files.entry(reference.file) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let opened = open(reference.file).map_err(BlobError::io).and_then(Opened::new);
                let named = |e: BlobError| e.in_file(reference.file).of_value(reference.owner);
                entry.insert(opened.map_err(named)?)
            }
        };
        load_one(&reference, file, &mut weights)
            .map_err(|e| e.in_file(reference.file).of_value(reference.owner))?;
    }
    Ok(weights)
}

/// A file, and how many elements may yet be unpacked from it.
struct Opened {
    file: BlobFile,
    elements_left: usize,
}

impl Opened {
    fn new(bytes: Bytes) -> Result<Self, BlobError> {
        let elements_left = bytes.len().saturating_mul(8);
        Ok(Self { file: BlobFile::new(bytes)?, elements_left })
    }
}

fn load_one(
    reference: &BlobReference<'_>,
    opened: &mut Opened,
    weights: &mut Weights,
) -> Result<(), BlobError> {
    let offset = reference.offset;
    let entry = opened.file.entry(offset)?;
    let declared = match &reference.value.ty {
        Type::Tensor(t) => t.element_count().map(|count| (t.dtype, count)),
        _ => None,
    };
    if declared != Some((entry.dtype, entry.element_count)) {
        let detail = format!(
            "it holds {} {} elements, the program says {}",
            entry.element_count, entry.dtype, reference.value.ty
        );
        return Err(BlobError::new(Kind::Mismatch, detail).at(offset));
    }
    if weights.get(reference.file, offset).is_some() {
        return Ok(());
    }
    if entry.dtype.is_sub_byte() {
        // Unpacked elements are copies. A file whose blobs lie over each other could make them
        // far larger than itself; one whose blobs do not, never has more elements than bits.
        opened.elements_left =
            opened.elements_left.checked_sub(entry.element_count).ok_or_else(|| {
                BlobError::new(Kind::Malformed, "blobs lie over each other").at(offset)
            })?;
    }
    weights.insert(reference.file, offset, opened.file.tensor_at(offset)?);
    Ok(())
}
