//! The text tower of any kind.

use couplet_model::{Activation, ModelSpec, TextEncoder, TextProjection, TextTowerSpec};

use crate::bert::bert;
use crate::clip_text::clip_text;
use crate::element::Element;
use crate::error::OnnxError;
use crate::graph::{Graph, Value};
use crate::layers::{Matrix, activate, linear_layer, product};
use crate::modern_bert::modern_bert;
use crate::schema::DimensionProto;
use crate::sequence::TextInputs;

/// - batch: the name of the number of texts.
/// - returns text features `[batch, embed_dim]`, not normalised, in f32.
pub(crate) fn text_tower(
    graph: &mut Graph<'_>,
    spec: &ModelSpec,
    batch: &str,
) -> Result<Value, OnnxError> {
    let text = &spec.text;
    let inputs = inputs(graph, text, batch);
    let activation = spec.text_activation();
    let pooled = match text.encoder {
        TextEncoder::Clip => clip_text(graph, &inputs.ids, text, activation)?,
        TextEncoder::Bert { token_types, .. }
        | TextEncoder::Roberta { token_types, .. }
        | TextEncoder::XlmRoberta { token_types, .. } => {
            bert(graph, &inputs, text, token_types, activation)?
        }
        TextEncoder::ModernBert { .. } => modern_bert(graph, &inputs, text, activation)?,
    };
    graph.enter("text.projection");
    projection(graph, &pooled, text, spec.embed_dim)
}

fn inputs(graph: &mut Graph<'_>, text: &TextTowerSpec, batch: &str) -> TextInputs {
    let (length, how_long) = if text.reads_no_padding() {
        let most = text.context_length;
        (
            DimensionProto::named("sequence_length"),
            format!("At most {most} tokens."),
        )
    } else {
        let length = text.context_length;
        (
            DimensionProto::size(length),
            format!("Exactly {length} tokens: the tower reads its padding."),
        )
    };
    let dims = vec![DimensionProto::named(batch), length];
    let pad = text.pad_id;
    let doc = format!("Token ids, padded with {pad}. {how_long}");
    let ids = graph.input("input_ids", Element::I64, dims.clone(), &doc);
    let attention_mask = (!text.is_clip()).then(|| {
        let doc = "1 for tokens that are looked at. Padding is not, whatever it says.";
        graph.input("attention_mask", Element::I64, dims, doc)
    });
    TextInputs {
        ids,
        attention_mask,
    }
}

fn projection(
    graph: &mut Graph<'_>,
    pooled: &Value,
    text: &TextTowerSpec,
    embed_dim: usize,
) -> Result<Value, OnnxError> {
    const NAME: &str = "text_projection";
    let w = text.width;
    let features = match text.projection {
        TextProjection::None => pooled.clone(),
        TextProjection::Linear => {
            let matrix = Matrix::by_input(graph, NAME, w, embed_dim)?;
            product(graph, pooled, &matrix)?
        }
        TextProjection::LinearBias => linear_layer(graph, NAME, pooled, [w, embed_dim])?,
        TextProjection::Mlp => {
            let hidden = usize::midpoint(w, embed_dim);
            let wide = Matrix::by_output(graph, &format!("{NAME}.c_fc"), w, hidden)?;
            let inner = product(graph, pooled, &wide)?;
            let inner = activate(graph, &inner, Activation::Gelu);
            let back = Matrix::by_output(graph, &format!("{NAME}.c_proj"), hidden, embed_dim)?;
            product(graph, &inner, &back)?
        }
    };
    Ok(graph.widen(&features))
}
