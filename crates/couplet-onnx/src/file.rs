//! A graph as a file: weights go from the model's memory to the disk, value by value.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;

use crate::graph::Graph;
use crate::initializer::Initializer;
use crate::schema::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};

/// With LayerNormalization, and understood by runtimes since 2022.
const OPSET: i64 = 17;
/// The version of the file format that came with this opset.
const IR_VERSION: i64 = 8;

/// Weights of more bytes go to a file of their own: a protobuf message ends at 2 GiB.
pub(crate) const MOST_INLINE: usize = 3 << 29;
/// Smaller tensors stay in the graph's file: runtimes read shapes and axes from there.
const LEAST_EXTERNAL: usize = 1 << 10;
/// Tensors begin at a multiple of so many bytes, so that they can be mapped into memory.
const ALIGNMENT: usize = 1 << 12;
/// What a file's name gets for that of its weights, as optimum and transformers.js have it.
const DATA_END: &str = "_data";

// Field numbers and wire types of messages in messages, and of bytes. Source: onnx/onnx.proto.
const GRAPH_OF_MODEL: u8 = (7 << 3) | 2;
const INITIALIZER_OF_GRAPH: u8 = (5 << 3) | 2;
const RAW_DATA_OF_TENSOR: u8 = (9 << 3) | 2;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// A tensor as it is written: everything but its values, and whether these follow.
struct Entry<'g, 'a> {
    initializer: &'g Initializer<'a>,
    described: TensorProto,
    is_inline: bool,
}

/// Writes a graph with its weights, and syncs it to disk.
/// - metadata: of the model, by key.
/// - most_inline: bytes of weights that stay in this file.
/// - returns whether the weights are in a file of their own.
pub(crate) fn write(
    path: &Path,
    graph: &Graph<'_>,
    name: &str,
    metadata: &[(&str, String)],
    most_inline: usize,
) -> io::Result<bool> {
    let total: usize = graph.initializers.iter().map(Initializer::byte_len).sum();
    let is_external = total > most_inline;
    let mut file_name = path.file_name().unwrap_or_default().to_os_string();
    file_name.push(DATA_END);
    let location = file_name.to_string_lossy().into_owned();
    let mut at = 0;
    let entry = |initializer| entry(initializer, is_external, &location, &mut at);
    let entries: Vec<Entry> = graph.initializers.iter().map(entry).collect();
    if is_external {
        write_external(&path.with_file_name(&file_name), &entries)?;
    }
    write_model(path, graph, name, metadata, &entries)?;
    Ok(is_external)
}

/// - at: where the file of the weights ends so far.
fn entry<'g, 'a>(
    initializer: &'g Initializer<'a>,
    is_external: bool,
    location: &str,
    at: &mut usize,
) -> Entry<'g, 'a> {
    let dims = initializer.dims.iter();
    let dims = dims.map(|size| i64::try_from(*size).expect("sizes of tensors fit in i64"));
    let mut described = TensorProto {
        dims: dims.collect(),
        data_type: initializer.element.code(),
        name: initializer.name.clone(),
        ..TensorProto::default()
    };
    let length = initializer.byte_len();
    let is_inline = !is_external || length < LEAST_EXTERNAL;
    if !is_inline {
        let offset = at.next_multiple_of(ALIGNMENT);
        *at = offset + length;
        described.data_location = EXTERNAL;
        described.external_data = vec![
            StringStringEntryProto::new("location", location),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", length.to_string()),
        ];
    }
    Entry {
        initializer,
        described,
        is_inline,
    }
}

fn write_external(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut at: usize = 0;
    for entry in entries.iter().filter(|entry| !entry.is_inline) {
        let offset = at.next_multiple_of(ALIGNMENT);
        out.write_all(&vec![0; offset - at])?;
        entry.initializer.write(&mut out)?;
        at = offset + entry.initializer.byte_len();
    }
    finish(out)
}

fn write_model(
    path: &Path,
    graph: &Graph<'_>,
    name: &str,
    metadata: &[(&str, String)],
    entries: &[Entry],
) -> io::Result<()> {
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "couplet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto::new(key, value.clone()))
            .collect(),
        ..ModelProto::default()
    };
    let described = GraphProto {
        node: graph.nodes.clone(),
        name: name.to_string(),
        initializer: Vec::new(),
        input: graph.inputs.clone(),
        output: graph.outputs.clone(),
    };
    let heads: Vec<Vec<u8>> = entries.iter().map(head).collect();
    let with_values = entries.iter().zip(&heads);
    let tensors: usize = with_values
        .map(|(entry, head)| head.len() + entry.values_len())
        .sum();
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&model.encode_to_vec())?;
    // The graph in pieces: parts of a message may follow each other in any order.
    out.write_all(&begin(GRAPH_OF_MODEL, described.encoded_len() + tensors))?;
    out.write_all(&described.encode_to_vec())?;
    for (entry, head) in entries.iter().zip(&heads) {
        out.write_all(head)?;
        if entry.is_inline {
            entry.initializer.write(&mut out)?;
        }
    }
    finish(out)
}

impl Entry<'_, '_> {
    /// Bytes of the values in the graph's file.
    fn values_len(&self) -> usize {
        if self.is_inline {
            self.initializer.byte_len()
        } else {
            0
        }
    }
}

/// What precedes a tensor's values in the graph.
fn head(entry: &Entry) -> Vec<u8> {
    let described = entry.described.encode_to_vec();
    let values = if entry.is_inline {
        begin(RAW_DATA_OF_TENSOR, entry.values_len())
    } else {
        Vec::new()
    };
    let length = described.len() + values.len() + entry.values_len();
    [begin(INITIALIZER_OF_GRAPH, length), described, values].concat()
}

/// The key of a field, and its length.
fn begin(key: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![key];
    prost::encode_length_delimiter(length, &mut bytes).expect("a vector grows as needed");
    bytes
}

fn finish(mut out: BufWriter<File>) -> io::Result<()> {
    out.flush()?;
    out.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fs;

    use couplet_model::weights::NamedTensors;

    use super::*;
    use crate::element::Element;
    use crate::initializer::Data;
    use crate::options::Precision;
    use crate::weights::Weights;

    #[test]
    fn what_is_written_in_pieces_is_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let values: Vec<f32> = (0..600u16).map(f32::from).collect();
        let tensors = NamedTensors::new();
        let weights = Weights::new(&tensors);
        let mut graph = Graph::new(&weights, Precision::Fp32);
        let mut constant = |name: &str, count: usize| {
            let data = Data::Floats(Cow::Borrowed(&values[..count]));
            graph.constant(name, &[count], data, Element::F32).unwrap()
        };
        let (large, small) = (constant("large", 600), constant("small", 3));
        let other = constant("other", 500);
        graph.binary("Add", &large, &other);
        graph.unary("Neg", &small);
        for most_inline in [usize::MAX, 100] {
            let metadata = [("key", "value".to_string())];
            let is_external = write(&path, &graph, "g", &metadata, most_inline).unwrap();
            assert_eq!(is_external, most_inline == 100);
            let model = ModelProto::decode(&fs::read(&path).unwrap()[..]).unwrap();
            assert_eq!(model.opset_import[0].version, 17);
            assert_eq!(model.metadata_props[0].value, "value");
            let written = model.graph.unwrap();
            assert_eq!(written.name, "g");
            assert_eq!(written.node, graph.nodes);
            for (tensor, initializer) in written.initializer.iter().zip(&graph.initializers) {
                assert_eq!(tensor.name, initializer.name);
                let mut expected = Vec::new();
                initializer.write(&mut expected).unwrap();
                if let Some(inline) = &tensor.raw_data {
                    assert_eq!(*inline, expected);
                    continue;
                }
                assert!(is_external && expected.len() >= LEAST_EXTERNAL);
                let [location, offset, length] = &tensor.external_data[..] else {
                    panic!("{:?}", tensor.external_data);
                };
                let data = fs::read(folder.path().join(&location.value)).unwrap();
                let offset: usize = offset.value.parse().unwrap();
                let length: usize = length.value.parse().unwrap();
                assert!(offset.is_multiple_of(ALIGNMENT));
                assert_eq!(data[offset..offset + length], expected);
            }
        }
    }
}
