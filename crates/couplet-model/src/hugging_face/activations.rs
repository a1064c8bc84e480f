//! transformers' names of activations.

use crate::spec::Activation;

/// - key: the table that has `hidden_act`, for the problem.
/// - returns GELU for a name that is added to the problems.
pub(super) fn activation(key: &str, name: &str, problems: &mut Vec<String>) -> Activation {
    match name {
        "quick_gelu" => Activation::QuickGelu,
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        other => {
            problems.push(format!(
                "{key}.hidden_act = {other:?}: expected \"quick_gelu\", \"gelu\" or \
                 \"gelu_pytorch_tanh\""
            ));
            Activation::Gelu
        }
    }
}

pub(super) fn activation_name(activation: Activation) -> String {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::QuickGelu => "quick_gelu",
    }
    .into()
}
