//! transformers' names of the tensors of BERT, its kin and ModernBERT, and ours.

use crate::spec::TextEncoder;
use crate::tensors::StoredAs;

/// Ours, transformers'.
const BERT: [(&str, &str); 7] = [
    (
        "token_embedding.weight",
        "embeddings.word_embeddings.weight",
    ),
    (
        "positional_embedding",
        "embeddings.position_embeddings.weight",
    ),
    (
        "token_type_embedding",
        "embeddings.token_type_embeddings.weight",
    ),
    ("ln_embed.weight", "embeddings.LayerNorm.weight"),
    ("ln_embed.bias", "embeddings.LayerNorm.bias"),
    ("pooler.weight", "pooler.dense.weight"),
    ("pooler.bias", "pooler.dense.bias"),
];
const IN_BERT_BLOCK: [(&str, &str); 5] = [
    ("attn.out_proj.", "attention.output.dense."),
    ("ln_1.", "attention.output.LayerNorm."),
    ("mlp.c_fc.", "intermediate.dense."),
    ("mlp.c_proj.", "output.dense."),
    ("ln_2.", "output.LayerNorm."),
];
const PACKED: [&str; 3] = ["query", "key", "value"];
const MODERN: [(&str, &str); 3] = [
    ("token_embedding.weight", "embeddings.tok_embeddings.weight"),
    ("ln_embed.weight", "embeddings.norm.weight"),
    ("ln_final.weight", "final_norm.weight"),
];
const IN_MODERN_BLOCK: [(&str, &str); 6] = [
    ("ln_1.weight", "attn_norm.weight"),
    ("attn.in_proj_weight", "attn.Wqkv.weight"),
    ("attn.out_proj_weight", "attn.Wo.weight"),
    ("ln_2.weight", "mlp_norm.weight"),
    ("mlp.c_fc_weight", "mlp.Wi.weight"),
    ("mlp.c_proj_weight", "mlp.Wo.weight"),
];

/// Where a tensor of a text tower's encoder is kept; `None` for a tensor that is not the encoder's, or of open_clip's own
/// encoder.
/// - prefix: of the encoder's names.
pub(crate) fn stored_as(encoder: TextEncoder, name: &str, prefix: &str) -> Option<StoredAs> {
    let (outside, is_modern): (&[(&str, &str)], bool) = match encoder {
        TextEncoder::Clip => return None,
        TextEncoder::ModernBert { .. } => (&MODERN, true),
        TextEncoder::Bert { .. } | TextEncoder::Roberta { .. } | TextEncoder::XlmRoberta { .. } => {
            (&BERT, false)
        }
    };
    if let Some((_, theirs)) = outside.iter().find(|(ours, _)| *ours == name) {
        return Some(StoredAs::Same(format!("{prefix}{theirs}")));
    }
    let (layer, part) = name
        .strip_prefix("transformer.resblocks.")?
        .split_once('.')?;
    if is_modern {
        let (_, theirs) = IN_MODERN_BLOCK.iter().find(|(ours, _)| *ours == part)?;
        return Some(StoredAs::Same(format!("{prefix}layers.{layer}.{theirs}")));
    }
    let block = format!("{prefix}encoder.layer.{layer}.");
    if let Some(kind) = part.strip_prefix("attn.in_proj_") {
        let parts = PACKED.map(|part| (format!("{block}attention.self.{part}.{kind}"), 1));
        return Some(StoredAs::Packed(parts.into()));
    }
    let renamed = |(ours, theirs): &(&str, &str)| {
        Some(format!("{block}{theirs}{}", part.strip_prefix(ours)?))
    };
    IN_BERT_BLOCK.iter().find_map(renamed).map(StoredAs::Same)
}
