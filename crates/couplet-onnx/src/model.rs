//! The graphs of a model: each tower, and both with their logits.

use couplet_model::{ImageTowerSpec, ModelSpec};

use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::layers::l2_normalize;
use crate::options::Precision;
use crate::resnet::resnet;
use crate::schema::DimensionProto;
use crate::text::text_tower;
use crate::vit::vit;
use crate::weights::Weights;

/// What a file computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Vision,
    Text,
    Both,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Vision, Self::Text, Self::Both];

    /// The file's name without its precision and its end.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision_model",
            Self::Text => "text_model",
            Self::Both => "model",
        }
    }
}

/// Of the features that are no logits' factors.
const RAW: &str = "Features of the joint space, not normalised.";
const NORMALISED: &str = "Features of the joint space, L2-normalised.";

/// The graph of a part of the model.
pub(crate) fn build<'a>(
    spec: &ModelSpec,
    weights: &'a Weights<'a>,
    precision: Precision,
    part: Part,
) -> Result<Graph<'a>, OnnxError> {
    const BATCH: &str = "batch_size";
    let mut graph = Graph::new(weights, precision);
    match part {
        Part::Vision => {
            let features = image_tower(&mut graph, spec, BATCH)?;
            outputs(&mut graph, "image_embeds", &features, BATCH, spec);
        }
        Part::Text => {
            let features = text_tower(&mut graph, spec, BATCH)?;
            outputs(&mut graph, "text_embeds", &features, BATCH, spec);
        }
        Part::Both => both(&mut graph, spec)?,
    }
    Ok(graph)
}

fn image_tower(graph: &mut Graph<'_>, spec: &ModelSpec, batch: &str) -> Result<Value, OnnxError> {
    let side = DimensionProto::size(spec.image.image_size());
    let dims = vec![
        DimensionProto::named(batch),
        DimensionProto::size(3),
        side.clone(),
        side,
    ];
    let doc = "Images, resized and normalised as preprocessor_config.json says.";
    let pixels = graph.input("pixel_values", Element::F32, dims, doc);
    match &spec.image {
        ImageTowerSpec::Vit(tower) => {
            let activation = tower.activation.unwrap_or(spec.activation);
            vit(graph, &pixels, tower, spec.embed_dim, activation)
        }
        ImageTowerSpec::ResNet(tower) => resnet(graph, &pixels, tower, spec.embed_dim),
    }
}

/// - name: of the normalised features.
fn outputs(graph: &mut Graph<'_>, name: &str, features: &Value, batch: &str, spec: &ModelSpec) {
    graph.enter("output");
    let normalised = l2_normalize(graph, features);
    let dims = || {
        vec![
            DimensionProto::named(batch),
            DimensionProto::size(spec.embed_dim),
        ]
    };
    graph.output(name, &normalised, dims(), NORMALISED);
    graph.output("pooler_output", features, dims(), RAW);
}

fn both(graph: &mut Graph<'_>, spec: &ModelSpec) -> Result<(), OnnxError> {
    const IMAGES: &str = "image_batch_size";
    const TEXTS: &str = "text_batch_size";
    let texts = text_tower(graph, spec, TEXTS)?;
    let images = image_tower(graph, spec, IMAGES)?;
    graph.enter("logits");
    let texts = l2_normalize(graph, &texts);
    let images = l2_normalize(graph, &images);
    let weights = graph.weights;
    let scale = weights
        .scalar("logit_scale")
        .ok_or_else(|| OnnxError::Missing {
            name: "logit_scale".into(),
        })?;
    let turned = graph.transpose(&images, &[1, 0]);
    let cosines = graph.binary("MatMul", &texts, &turned);
    let mut per_text = graph.with_scalar("Mul", &cosines, scale.exp());
    if let Some(bias) = weights.scalar("logit_bias") {
        per_text = graph.with_scalar("Add", &per_text, bias);
    }
    let per_image = graph.transpose(&per_text, &[1, 0]);
    let named = |names: [&str; 2]| names.map(DimensionProto::named).to_vec();
    let wide = |name: &str| {
        vec![
            DimensionProto::named(name),
            DimensionProto::size(spec.embed_dim),
        ]
    };
    let doc = "Scaled cosines, plus the model's bias if it has one.";
    graph.output("logits_per_image", &per_image, named([IMAGES, TEXTS]), doc);
    graph.output("logits_per_text", &per_text, named([TEXTS, IMAGES]), doc);
    graph.output("text_embeds", &texts, wide(TEXTS), NORMALISED);
    graph.output("image_embeds", &images, wide(IMAGES), NORMALISED);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use burn::tensor::Device;
    use couplet_model::weights::{NamedTensors, parameters};
    use couplet_model::{
        Activation, AttentionPoolSpec, Clip, ImagePool, ImageProjection, TextEncoder, TextPool,
        TextProjection, VitSpec, presets,
    };

    use super::*;

    fn tiny() -> ModelSpec {
        let mut spec = presets::find("ViT-Ti-8-32").unwrap();
        (spec.text.vocab_size, spec.text.layers) = (40, 1);
        spec
    }

    /// - change: makes another model of a tiny one.
    fn with(change: impl Fn(&mut ModelSpec, &mut VitSpec)) -> ModelSpec {
        let mut spec = tiny();
        let ImageTowerSpec::Vit(mut vit) = spec.image.clone() else {
            panic!("a ViT preset");
        };
        (vit.layers, vit.width) = (1, spec.embed_dim);
        change(&mut spec, &mut vit);
        spec.image = ImageTowerSpec::Vit(vit);
        spec
    }

    fn hugging_face(encoder: TextEncoder, pool: TextPool) -> ModelSpec {
        with(|spec, _| {
            let text = &mut spec.text;
            (text.encoder, text.pool, text.causal) = (encoder, pool, false);
            text.projection = TextProjection::Mlp;
            (text.pad_id, text.layers) = (1, 3);
        })
    }

    fn specs() -> Vec<ModelSpec> {
        let siglip = with(|spec, vit| {
            (vit.class_token, vit.pre_norm, vit.patch_bias) = (false, false, true);
            (vit.pool, vit.projection) = (ImagePool::Map, ImageProjection::None);
            vit.image_size = 35;
            spec.init_logit_bias = Some(-10.0);
            spec.text.causal = false;
            (spec.text.pool, spec.text.projection) = (TextPool::Last, TextProjection::LinearBias);
            spec.text.activation = Some(Activation::GeluTanh);
        });
        let pooled = with(|spec, vit| {
            (vit.layer_scale, vit.norm_after_pool) = (Some(0.1), true);
            vit.attention_pool = Some(AttentionPoolSpec {
                queries: 3,
                heads: 4,
            });
            (vit.pool, vit.width) = (ImagePool::Mean, 96);
            spec.activation = Activation::QuickGelu;
            spec.text.causal = false;
            spec.text.pool = TextPool::Map { heads: 2 };
            spec.text.layer_scale = Some(0.1);
        });
        let (positions, token_types) = (40, 2);
        let bert = TextEncoder::Bert {
            positions,
            token_types,
        };
        let roberta = TextEncoder::Roberta {
            positions,
            token_types,
        };
        let modern = TextEncoder::ModernBert {
            positions,
            global_every: 2,
            local_window: 4,
            global_theta: 160_000.0,
            local_theta: 10_000.0,
        };
        let mut resnet = presets::find("RN50").unwrap();
        let ImageTowerSpec::ResNet(tower) = &mut resnet.image else {
            panic!("a ResNet preset");
        };
        (tower.image_size, tower.layers, tower.width, tower.heads) = (64, [2, 1, 1, 1], 4, 4);
        resnet.embed_dim = 8;
        resnet.text = tiny().text;
        resnet.text.pool = TextPool::Eos { id: 3 };
        vec![
            tiny(),
            siglip,
            pooled,
            hugging_face(bert, TextPool::Pooler),
            hugging_face(roberta, TextPool::Mean),
            hugging_face(modern, TextPool::First),
            resnet,
        ]
    }

    fn tensors(spec: &ModelSpec) -> NamedTensors {
        parameters(&Clip::init(spec, 0, &Device::flex()))
    }

    /// Every name is given once, before it is used, and constants have as many values as their shapes say.
    fn assert_sound(graph: &Graph) {
        let mut known = HashSet::new();
        for input in &graph.inputs {
            assert!(known.insert(input.name.as_str()), "{}", input.name);
        }
        for initializer in &graph.initializers {
            assert!(known.insert(&initializer.name), "{}", initializer.name);
            let mut bytes = Vec::new();
            initializer.write(&mut bytes).unwrap();
            let length = initializer.byte_len();
            assert_eq!(bytes.len(), length, "{}", initializer.name);
        }
        let mut nodes = HashSet::new();
        for node in &graph.nodes {
            assert!(nodes.insert(node.name.as_str()), "{}", node.name);
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{} {input}", node.name);
            }
            for output in &node.output {
                assert!(known.insert(output), "{} {output}", node.name);
            }
        }
        for output in &graph.outputs {
            assert!(known.contains(output.name.as_str()), "{}", output.name);
        }
    }

    fn inputs<'g>(graph: &'g Graph) -> Vec<&'g str> {
        graph.inputs.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn graphs_of_all_towers_are_sound_and_use_every_weight() {
        for spec in specs() {
            assert_eq!(spec.problems(), []);
            let tensors = tensors(&spec);
            for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
                let weights = Weights::new(&tensors);
                for part in Part::ALL {
                    let graph = build(&spec, &weights, precision, part).unwrap();
                    assert_sound(&graph);
                    let has_mask = inputs(&graph).contains(&"attention_mask");
                    assert_eq!(has_mask, part != Part::Vision && !spec.text.is_clip());
                }
                weights.check_all_taken().unwrap();
            }
        }
    }

    #[test]
    fn outputs_are_those_that_transformers_js_reads() {
        let spec = tiny();
        let tensors = tensors(&spec);
        let weights = Weights::new(&tensors);
        let outputs = |part| {
            let graph = build(&spec, &weights, Precision::Fp32, part).unwrap();
            let names = graph.outputs.iter().map(|output| output.name.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(outputs(Part::Vision), ["image_embeds", "pooler_output"]);
        assert_eq!(outputs(Part::Text), ["text_embeds", "pooler_output"]);
        let both = [
            "logits_per_image",
            "logits_per_text",
            "text_embeds",
            "image_embeds",
        ];
        assert_eq!(outputs(Part::Both), both);
    }

    #[test]
    fn a_weight_that_is_missing_misshapen_or_left_over_is_named() {
        let spec = tiny();
        let broken = |change: &dyn Fn(&mut NamedTensors)| {
            let mut tensors = tensors(&spec);
            change(&mut tensors);
            let weights = Weights::new(&tensors);
            let built = build(&spec, &weights, Precision::Fp16, Part::Both).map(|_| ());
            let error = built.and_then(|()| weights.check_all_taken()).unwrap_err();
            error.to_string()
        };
        let missing = broken(&|tensors| drop(tensors.remove("ln_final.bias")));
        assert!(missing.contains("ln_final.bias"), "{missing}");
        let misshapen = broken(&|tensors| {
            tensors.get_mut("visual.proj").unwrap().shape.reverse();
        });
        assert!(misshapen.contains("visual.proj: [64, 96]"), "{misshapen}");
        let surplus = broken(&|tensors| {
            let scale = tensors["logit_scale"].clone();
            tensors.insert("visual.new".into(), scale.clone());
            tensors.insert("head.bias".into(), scale);
        });
        assert!(
            surplus.contains("visual.new ") && !surplus.contains("head"),
            "{surplus}"
        );
        let large = broken(&|tensors| {
            tensors.get_mut("visual.proj").unwrap().values[7] = 7e4;
        });
        assert!(large.contains("visual.proj: 7e4"), "{large}");
    }
}
