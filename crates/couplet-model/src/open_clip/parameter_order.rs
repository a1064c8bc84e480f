//! The order of a model's parameters in open_clip, which the state of its optimizer is numbered by.

/// Parameters that a module has itself, in the order in which modules make them.
const PARAMETERS: [&str; 15] = [
    "class_embedding",
    "positional_embedding",
    "text_projection",
    "proj",
    "query",
    "logit_scale",
    "logit_bias",
    "in_proj_weight",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "in_proj_bias",
    "weight",
    "bias",
    "gamma",
];
/// Modules within a module, in the order in which it makes them.
const MODULES: [&str; 37] = [
    "visual",
    "text",
    "conv1",
    "bn1",
    "conv2",
    "bn2",
    "conv3",
    "bn3",
    "downsample",
    "ln_pre",
    "layer1",
    "layer2",
    "layer3",
    "layer4",
    "attnpool",
    "ln_1",
    "attn",
    "ls_1",
    "ln_2",
    "mlp",
    "ls_2",
    "c_fc",
    "k_proj",
    "q_proj",
    "v_proj",
    "c_proj",
    "out_proj",
    "ln_q",
    "ln_k",
    "resblocks",
    "transformer",
    "token_embedding",
    "attn_pool",
    "ln_post",
    "ln_final",
    "text_projection",
    "head",
];

/// Sorts names of a state dict as `named_parameters()` lists them: what a module has itself, then what
/// is in its modules.
/// Source: open_clip 3.3.0 `CLIP`, `CustomTextCLIP` and their towers.
///
/// # Errors
/// With a name that no such model has.
pub fn sort_parameters(names: &mut [String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| key(name).is_none()) {
        return Err(unknown.clone());
    }
    names.sort_by_cached_key(|name| key(name));
    Ok(())
}

/// For each part of a name, whether it is a module, and its place in the module before it.
fn key(name: &str) -> Option<Vec<(bool, usize)>> {
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop()?;
    let mut key = Vec::new();
    let mut module = "";
    for part in parts {
        let place = match (module, part) {
            // The text tower of `CustomTextCLIP` makes its embedding before its transformer.
            ("text", "token_embedding") => place(&MODULES, "transformer")?,
            ("text", "transformer") => place(&MODULES, "token_embedding")?,
            _ => part.parse().ok().or_else(|| place(&MODULES, part))?,
        };
        key.push((true, place));
        module = part;
    }
    key.push((false, place(&PARAMETERS, last)?));
    Some(key)
}

fn place(list: &[&str], name: &str) -> Option<usize> {
    list.iter().position(|own| *own == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `named_parameters()` of open_clip 3.3.0, by `experiments/import/parameter_names.py`.
    const NAMES: &str = include_str!("../../../../experiments/import/parameter_names.txt");

    #[test]
    fn names_have_open_clips_order() {
        let models: Vec<&str> = NAMES.split("\n\n").collect();
        assert_eq!(models.len(), 3);
        for model in models {
            let right: Vec<String> = model.lines().map(str::to_string).collect();
            assert!(right.len() > 50);
            let mut sorted = right.clone();
            sorted.sort();
            assert_ne!(sorted, right);
            sort_parameters(&mut sorted).unwrap();
            assert_eq!(sorted, right);
        }
        let mut foreign = ["visual.trunk.stem.weight".to_string()];
        assert!(sort_parameters(&mut foreign).is_err());
    }
}
