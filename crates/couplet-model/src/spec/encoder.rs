//! Validation of what the encoders of text towers have of their own.

use super::bounds::{MAX_CONTEXT, MAX_LAYERS, MAX_TOKEN_TYPES};
use super::{TextEncoder, TextPool, TextProjection, TextTowerSpec};

type Problem = (&'static str, String);

/// Every value that the tower's encoder does not take, with its field.
pub(super) fn encoder_problems(text: &TextTowerSpec) -> Vec<Problem> {
    match text.encoder {
        TextEncoder::Clip => own(text),
        TextEncoder::Bert {
            positions,
            token_types,
        }
        | TextEncoder::Roberta {
            positions,
            token_types,
        }
        | TextEncoder::XlmRoberta {
            positions,
            token_types,
        } => {
            let sizes = [
                size("text.encoder.positions", positions, MAX_CONTEXT),
                size("text.encoder.token_types", token_types, MAX_TOKEN_TYPES),
            ];
            sizes
                .into_iter()
                .flatten()
                .chain(hugging_faces(text))
                .collect()
        }
        TextEncoder::ModernBert {
            positions,
            global_every,
            local_window,
            global_theta,
            local_theta,
        } => {
            let own = [
                size("text.encoder.positions", positions, MAX_CONTEXT),
                size("text.encoder.global_every", global_every, MAX_LAYERS),
                size("text.encoder.local_window", local_window, MAX_CONTEXT),
                theta("text.encoder.global_theta", global_theta),
                theta("text.encoder.local_theta", local_theta),
                rotary_heads(text),
                modern_pool(text),
            ];
            own.into_iter()
                .flatten()
                .chain(hugging_faces(text))
                .collect()
        }
    }
}

fn size(field: &'static str, value: usize, most: usize) -> Option<Problem> {
    let message = format!("{value} is not from 1 to {most}");
    (!(1..=most).contains(&value)).then_some((field, message))
}

fn theta(field: &'static str, value: f64) -> Option<Problem> {
    let message = format!("{value} is not a positive number");
    (!(value.is_finite() && value > 0.0)).then_some((field, message))
}

fn rotary_heads(text: &TextTowerSpec) -> Option<Problem> {
    let head_width = text.width.checked_div(text.heads)?;
    let message = "rotary positions need heads of an even width";
    (!head_width.is_multiple_of(2)).then(|| ("text.heads", message.into()))
}

fn modern_pool(text: &TextTowerSpec) -> Option<Problem> {
    let message = "ModernBERT has no pooler; \"first\" and \"mean\" are there";
    (text.pool == TextPool::Pooler).then(|| ("text.pool", message.into()))
}

fn own(text: &TextTowerSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if matches!(text.pool, TextPool::Mean | TextPool::Pooler) {
        let message = "\"mean\" and \"pooler\" are there for Hugging Face's encoders only";
        problems.push(("text.pool", message.into()));
    }
    if text.projection == TextProjection::Mlp {
        let message = "\"mlp\" is there for Hugging Face's encoders only";
        problems.push(("text.projection", message.into()));
    }
    problems
}

fn hugging_faces(text: &TextTowerSpec) -> Vec<Problem> {
    let is_pooled = matches!(
        text.pool,
        TextPool::First | TextPool::Mean | TextPool::Pooler
    );
    let wrong = [
        (
            text.causal,
            "text.causal",
            "must be false: the tokens of this encoder see one another",
        ),
        (
            text.layer_scale.is_some(),
            "text.layer_scale",
            "this encoder has none",
        ),
        (
            !is_pooled,
            "text.pool",
            "this encoder has \"first\", \"mean\" and, but for ModernBERT, \"pooler\"",
        ),
        (
            text.projection == TextProjection::LinearBias,
            "text.projection",
            "behind this encoder it is \"linear\", \"mlp\" or \"none\"",
        ),
    ];
    let wrong = wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    let mut problems: Vec<Problem> = wrong
        .map(|(_, field, message)| (field, message.to_string()))
        .collect();
    if let Some(longest) = text.longest_text()
        && text.context_length > longest
    {
        let length = text.context_length;
        let message = format!("{length} is more than the encoder has positions for, {longest}");
        problems.push(("text.context_length", message));
    }
    problems
}
