//! What a compiled program says about its inputs and outputs.
//!
//! The dictionary is nobody's documented format: every part that is missing is `None`, and the
//! client falls back to what is known otherwise, which the proof at opening then confirms.

use crate::Attribute;
use crate::rows::RowLayout;

/// A compiled program's inputs and outputs, as it describes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Description {
    /// The inputs, by number.
    pub(crate) inputs: Vec<Symbol>,
    /// The outputs, by number.
    pub(crate) outputs: Vec<Symbol>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Symbol {
    /// Its name in the program.
    pub(crate) name: String,
    /// The number by which memory is bound to it.
    pub(crate) index: usize,
    /// Where its elements lie.
    pub(crate) layout: Option<Reported>,
}

/// Where the elements of an input or output lie: sizes and distances in bytes of the five axes
/// that the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    sizes: [usize; 5],
    strides: [usize; 5],
    interleave: usize,
    plane_count: usize,
}

/// The axes from the outermost, by the keys of their sizes and strides. Elements of a row lie side
/// by side.
const AXES: [(&str, Option<&str>); 5] = [
    ("Batches", Some("BatchStride")),
    ("Depth", Some("DepthStride")),
    ("Channels", Some("PlaneStride")),
    ("Height", Some("RowStride")),
    ("Width", None),
];

impl Description {
    /// Reads the dictionary of a program with one procedure.
    pub(crate) fn read(attributes: &Attribute) -> Self {
        let description = attributes.get("ANEFModelDescription");
        let status = attributes
            .get("NetworkStatusList")
            .and_then(Attribute::list)
            .and_then(<[Attribute]>::first);
        let side = |symbols: &str, indices: &str, live: &str| {
            let names = description.and_then(|d| d.get(symbols)).and_then(Attribute::list);
            let procedure = description
                .and_then(|d| d.get("ANEFModelProcedures"))
                .and_then(Attribute::list)
                .and_then(<[Attribute]>::first);
            let used = procedure.and_then(|p| p.get(indices)).and_then(Attribute::list);
            let live = status.and_then(|s| s.get(live)).and_then(Attribute::list);
            symbols_of(names.unwrap_or(&[]), used, live.unwrap_or(&[]))
        };
        Self {
            inputs: side(
                "kANEFModelInputSymbolsArrayKey",
                "ANEFModelInputSymbolIndexArray",
                "LiveInputList",
            ),
            outputs: side(
                "kANEFModelOutputSymbolsArrayKey",
                "ANEFModelOutputSymbolIndexArray",
                "LiveOutputList",
            ),
        }
    }
}

/// Names come from the array of symbols and, where there is none, from the list of layouts.
fn symbols_of(names: &[Attribute], used: Option<&[Attribute]>, live: &[Attribute]) -> Vec<Symbol> {
    // Output symbols are `NAME@output`.
    let plain = |text: &str| text.split('@').next().unwrap_or(text).to_owned();
    let name_of = |entry: &Attribute| entry.get("Name").and_then(Attribute::text).map(plain);
    let mut symbols: Vec<Symbol> = names
        .iter()
        .enumerate()
        .filter_map(|(index, name)| Some(Symbol { name: plain(name.text()?), index, layout: None }))
        .collect();
    if let Some(used) = used {
        let used: Vec<usize> = used.iter().filter_map(Attribute::count).collect();
        if !used.is_empty() {
            symbols.retain(|s| used.contains(&s.index));
        }
    }
    if symbols.is_empty() {
        let named = live.iter().enumerate().filter_map(|(index, entry)| {
            Some(Symbol { name: name_of(entry)?, index, layout: None })
        });
        symbols = named.collect();
    }
    for (position, symbol) in symbols.iter_mut().enumerate() {
        let named = live.iter().find(|entry| name_of(entry).as_ref() == Some(&symbol.name));
        let unnamed = live.get(position).filter(|entry| name_of(entry).is_none());
        symbol.layout = named.or(unnamed).and_then(Reported::read);
    }
    symbols
}

impl Reported {
    fn read(entry: &Attribute) -> Option<Self> {
        let number = |key: &str| entry.get(key).and_then(Attribute::count);
        let mut sizes = [1; 5];
        let mut strides = [0; 5];
        for (axis, (size, stride)) in AXES.into_iter().enumerate() {
            sizes[axis] = match axis {
                3 | 4 => number(size)?,
                _ => number(size).unwrap_or(1),
            };
            strides[axis] = match stride {
                Some("RowStride" | "PlaneStride") => number(stride?)?,
                Some(key) => number(key).unwrap_or(0),
                None => 0,
            };
        }
        let count = |key| number(key).unwrap_or(1);
        Some(Self {
            sizes,
            strides,
            interleave: count("Interleave"),
            plane_count: count("PlaneCount"),
        })
    }

    /// The layout of a tensor of this shape.
    ///
    /// # Errors
    /// When the shape is not what is reported, or the layout is one the client cannot write.
    pub(crate) fn rows(&self, shape: &[usize], element_bytes: usize) -> Result<RowLayout, String> {
        if self.interleave > 1 {
            return Err(format!("{} channels are interleaved", self.interleave));
        }
        let axes: Vec<(usize, usize)> =
            self.sizes.into_iter().zip(self.strides).filter(|(n, _)| *n != 1).collect();
        let sizes: Vec<usize> = axes.iter().map(|(n, _)| *n).collect();
        let wanted: Vec<usize> = shape.iter().copied().filter(|&n| n != 1).collect();
        if sizes != wanted {
            return Err(format!(
                "the compiled program has batches, depth, channels, height, width {:?}, the program {shape:?}",
                self.sizes
            ));
        }
        let row_is_long = self.sizes[4] != 1;
        if row_is_long != shape.last().is_some_and(|&n| n != 1) {
            // The last axis of the program is not the engine's row: an element takes a row.
            return self.columns(shape, element_bytes, &axes);
        }
        let mut strides = axes.iter().map(|(_, stride)| *stride);
        let outer = &shape[..shape.len().saturating_sub(1)];
        let strides: Vec<usize> =
            outer.iter().map(|&n| if n == 1 { 0 } else { strides.next().unwrap_or(0) }).collect();
        RowLayout::new(shape, element_bytes, &strides, self.size_bytes())
    }

    /// The layout where the last axis of the tensor is not the row: one element a row.
    fn columns(
        &self,
        shape: &[usize],
        element_bytes: usize,
        axes: &[(usize, usize)],
    ) -> Result<RowLayout, String> {
        let mut strides = axes.iter().map(|(_, stride)| *stride);
        let strides: Vec<usize> =
            shape.iter().map(|&n| if n == 1 { 0 } else { strides.next().unwrap_or(0) }).collect();
        let mut shape = shape.to_vec();
        shape.push(1);
        RowLayout::new(&shape, element_bytes, &strides, self.size_bytes())
    }

    /// Bytes of the whole: from the outermost axis that has a distance.
    fn size_bytes(&self) -> usize {
        let channels = self.sizes[2].max(self.plane_count).saturating_mul(self.strides[2]);
        let depth = self.sizes[1].saturating_mul(self.strides[1]);
        let batches = self.sizes[0].saturating_mul(self.strides[0]);
        channels.max(depth).max(batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ironmill saw of a program with one input and output `[1, 4, 1, 4]` in fp16.
    fn published() -> Attribute {
        let live = || {
            Attribute::from([
                ("BatchStride", 256.into()),
                ("Batches", 1.into()),
                ("Channels", 4.into()),
                ("Depth", 1.into()),
                ("DepthStride", 256.into()),
                ("Height", 1.into()),
                ("Interleave", 1.into()),
                ("PlaneCount", 4.into()),
                ("PlaneStride", 64.into()),
                ("RowStride", 64.into()),
                ("Type", "Float16".into()),
                ("Width", 4.into()),
            ])
        };
        let indices = || Attribute::List(vec![0.into()]);
        Attribute::from([
            (
                "ANEFModelDescription",
                Attribute::from([
                    (
                        "ANEFModelProcedures",
                        Attribute::List(vec![Attribute::from([
                            ("ANEFModelInputSymbolIndexArray", indices()),
                            ("ANEFModelOutputSymbolIndexArray", indices()),
                            ("ANEFModelProcedureID", 0.into()),
                        ])]),
                    ),
                    ("kANEFModelInputSymbolsArrayKey", Attribute::List(vec!["a_input0".into()])),
                    ("kANEFModelOutputSymbolsArrayKey", Attribute::List(vec!["out@output".into()])),
                ]),
            ),
            (
                "NetworkStatusList",
                Attribute::List(vec![Attribute::from([
                    ("LiveInputList", Attribute::List(vec![live()])),
                    ("LiveOutputList", Attribute::List(vec![live()])),
                ])]),
            ),
        ])
    }

    #[test]
    fn what_was_published_is_read() {
        let description = Description::read(&published());
        assert_eq!((description.inputs.len(), description.outputs.len()), (1, 1));
        assert_eq!(description.inputs[0].name, "a_input0");
        assert_eq!((&*description.outputs[0].name, description.outputs[0].index), ("out", 0));
        let rows = description.inputs[0].layout.unwrap().rows(&[1, 4, 1, 4], 2).unwrap();
        assert_eq!(rows, RowLayout::new(&[1, 4, 1, 4], 2, &[0, 64, 0], 256).unwrap());
        assert_eq!(rows.size_bytes(), 256);
    }

    #[test]
    fn nothing_is_taken_for_granted() {
        assert_eq!(Description::read(&"nothing".into()), Description::default());
        let layout = Description::read(&published()).inputs[0].layout.unwrap();
        assert!(layout.rows(&[1, 4, 1, 8], 2).unwrap_err().contains("[1, 1, 4, 1, 4]"));
        let interleaved = Reported { interleave: 4, ..layout };
        assert!(interleaved.rows(&[1, 4, 1, 4], 2).unwrap_err().contains("interleaved"));
        // Ranks that the engine brings to its own axes, whichever it takes.
        for shape in [&[4, 4][..], &[4, 1, 4], &[1, 1, 4, 4]] {
            assert_eq!(layout.rows(shape, 2).unwrap().size_bytes(), 256);
        }
    }

    #[test]
    fn a_last_axis_that_is_no_row_takes_a_row_an_element() {
        // The program's [1, 1, 3, 4], with the engine's rows of one element.
        let layout = Reported {
            sizes: [1, 1, 3, 4, 1],
            strides: [768, 768, 256, 64, 0],
            interleave: 1,
            plane_count: 3,
        };
        let rows = layout.rows(&[3, 4], 2).unwrap();
        let mut surface = vec![0; 768];
        rows.spread(&(0..24).collect::<Vec<u8>>(), &mut surface);
        assert_eq!((surface[64], surface[65], surface[256 + 128]), (2, 3, 12));
    }
}
