//! Where the layers of a model are in another layout.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::adapt::AdaptableLayer;
use crate::hugging_face;
use crate::open_clip;
use crate::spec::ModelSpec;
use crate::tensors::{HostTensor, NamedTensors, StoredAs};

/// The weight of a layer in PyTorch's attention, which PEFT adapts as a whole.
const IN_PROJ: &str = ".in_proj_weight";
const WEIGHT: &str = ".weight";
/// The text tower's module in open_clip's `CustomTextCLIP`.
const TEXT: &str = "text.";
/// What the files of transformers' `ViTModel` call its modules, and what it calls them since version 5. PEFT has the
/// latter.
const VIT_LAYERS: [&str; 2] = ["vision_model.encoder.layer.", "vision_model.layers."];
const VIT_MODULES: [[&str; 2]; 6] = [
    ["attention.attention.query", "attention.q_proj"],
    ["attention.attention.key", "attention.k_proj"],
    ["attention.attention.value", "attention.v_proj"],
    ["attention.output.dense", "attention.o_proj"],
    ["intermediate.dense", "mlp.fc1"],
    ["output.dense", "mlp.fc2"],
];

/// The tensors of a model in a layout.
pub(super) struct Places {
    /// Where each of the model's own tensors is kept.
    stored: BTreeMap<String, StoredAs>,
    /// The model's own tensor by each name in the layout, with its shape there.
    own: BTreeMap<String, (String, Vec<usize>)>,
}

/// The rows of a tensor that are a layer's weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub tensor: String,
    pub first_row: usize,
    pub rows: usize,
    /// All of the tensor's.
    pub of_rows: usize,
}

impl Place {
    pub fn rows(&self) -> Range<usize> {
        self.first_row..self.first_row + self.rows
    }
}

impl Places {
    pub fn hugging_face(spec: &ModelSpec) -> Self {
        Self::new(spec, hugging_face::stored_as)
    }

    pub fn open_clip(spec: &ModelSpec) -> Self {
        Self::new(spec, |spec, name| {
            open_clip::stored_as(spec, name).prefixed(open_clip::module_prefix(spec, name))
        })
    }

    fn new(spec: &ModelSpec, stored_as: fn(&ModelSpec, &str) -> StoredAs) -> Self {
        let mut places = Self {
            stored: BTreeMap::new(),
            own: BTreeMap::new(),
        };
        for (name, shape) in spec.parameter_shapes() {
            let stored = stored_as(spec, &name);
            for (theirs, shape) in stored.clone().shapes(&shape) {
                places.own.insert(theirs, (name.clone(), shape));
            }
            places.stored.insert(name, stored);
        }
        places
    }

    /// The tensor with this name.
    pub fn find(&self, tensor: &str) -> Result<&str, String> {
        let found = self.own.get_key_value(tensor);
        (found.map(|(name, _)| name.as_str())).ok_or_else(|| "the model has no such tensor".into())
    }

    /// The weight of the module with this name.
    pub fn of_module(&self, module: &str) -> Result<&str, String> {
        let module = &renamed_vit(module, |[file, module]| [module, file]);
        // open_clip has the text tower of some models in a module of its own.
        let plain = module.strip_prefix(TEXT).unwrap_or(module);
        let forms = [plain.to_string(), format!("{TEXT}{plain}")];
        let mut names = forms
            .iter()
            .flat_map(|form| [WEIGHT, IN_PROJ].map(|end| format!("{form}{end}")));
        let found = names.find_map(|name| self.own.get_key_value(&name));
        (found.map(|(name, _)| name.as_str())).ok_or_else(|| "the model has no such module".into())
    }

    /// The weight of one of the model's layers.
    ///
    /// # Panics
    /// If it is none of the model's.
    pub fn of_layer(&self, layer: &AdaptableLayer) -> Place {
        let whole = |tensor: &String| Place {
            tensor: tensor.clone(),
            first_row: layer.first_row,
            rows: layer.outputs,
            of_rows: self.own[tensor].1[0],
        };
        match &self.stored[&layer.weight] {
            StoredAs::Same(tensor) | StoredAs::WithLeadingAxes(tensor, 0) => whole(tensor),
            StoredAs::Packed(parts) => {
                let mut before = 0;
                for (tensor, _) in parts {
                    let rows = self.own[tensor].1[0];
                    if layer.first_row < before + rows {
                        return Place {
                            first_row: layer.first_row - before,
                            ..whole(tensor)
                        };
                    }
                    before += rows;
                }
                unreachable!("a layer's rows are its weight's")
            }
            stored => unreachable!("{}: no layout has {stored:?}", layer.weight),
        }
    }

    /// The names of PyTorch's attentions.
    pub fn attentions(&self) -> Vec<String> {
        let names = self
            .own
            .keys()
            .filter_map(|name| name.strip_suffix(IN_PROJ));
        names.map(str::to_string).collect()
    }

    /// Checks that a tensor has this shape.
    pub fn check_shape(&self, tensor: &str, wanted: &[usize]) -> Result<(), String> {
        let (_, shape) = &self.own[tensor];
        if shape != wanted {
            return Err(format!("has shape {wanted:?}, the model's has {shape:?}"));
        }
        Ok(())
    }

    /// Adds to a tensor.
    /// - tensors: of the model, under its own names.
    pub fn add(
        &self,
        tensors: &mut NamedTensors,
        tensor: &str,
        change: &HostTensor,
    ) -> Result<(), String> {
        self.change(tensors, tensor, change, |value, change| *value += change)
    }

    /// Replaces a tensor.
    pub fn replace(
        &self,
        tensors: &mut NamedTensors,
        tensor: &str,
        new: &HostTensor,
    ) -> Result<(), String> {
        self.change(tensors, tensor, new, |value, new| *value = new)
    }

    fn change(
        &self,
        tensors: &mut NamedTensors,
        tensor: &str,
        new: &HostTensor,
        change: fn(&mut f32, f32),
    ) -> Result<(), String> {
        self.check_shape(tensor, &new.shape)?;
        let (name, _) = &self.own[tensor];
        let old = tensors.remove(name).expect("the model has all its tensors");
        let mut parts: NamedTensors = self.stored[name].clone().split(old).into_iter().collect();
        let part = parts.get_mut(tensor).expect("the tensor is a part of it");
        for (value, new) in part.values.iter_mut().zip(&new.values) {
            change(value, *new);
        }
        let read = |name: &str| Ok::<_, String>(parts[name].clone());
        let joined = self.stored[name].clone().join(read)?;
        tensors.insert(name.clone(), joined);
        Ok(())
    }
}

/// The module whose weight a tensor is.
pub(super) fn module_of(tensor: &str) -> String {
    let end = tensor.strip_suffix(IN_PROJ);
    let module = end.or_else(|| tensor.strip_suffix(WEIGHT));
    renamed_vit(module.unwrap_or(tensor), |names| names)
}

/// A module of `ViTModel` under its other name; others as they are.
/// - order: puts the name to be replaced before the one in its place.
fn renamed_vit(module: &str, order: fn([&'static str; 2]) -> [&'static str; 2]) -> String {
    let [from, to] = order(VIT_LAYERS);
    let renamed = || {
        let (layer, part) = module.strip_prefix(from)?.split_once('.')?;
        let mut parts = VIT_MODULES.map(order).into_iter();
        let [_, part] = parts.find(|[from, _]| *from == part)?;
        Some(format!("{to}{layer}.{part}"))
    };
    renamed().unwrap_or_else(|| module.to_string())
}
