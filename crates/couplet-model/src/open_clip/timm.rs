//! SigLIP's image towers, which open_clip takes from timm: their config, by timm's names of models, and their tensors,
//! by timm's names of parameters. Source: timm 1.0 `vision_transformer.py`, open_clip `TimmModel`.

use serde_json::{Value, json};

use super::refused::{Others, Refused};
use crate::spec::{Activation, VitSpec};
use crate::tensors::StoredAs;

const NAME: &str = "timm_model_name";
const POOL: &str = "timm_pool";
const PROJECTION: &str = "timm_proj";
/// Stands for a tower of sizes that timm has no name for. Only Couplet reads it.
const OWN: &str = "couplet_siglip";
const NORM_EPS: f64 = 1e-6;
const SO400M: (usize, usize, usize, f64) = (1152, 27, 16, 3.7362);
const BASE: (usize, usize, usize, f64) = (768, 12, 12, 4.0);
const LARGE: (usize, usize, usize, f64) = (1024, 24, 16, 4.0);
const GIANT: (usize, usize, usize, f64) = (1536, 40, 16, 4.0);

/// A name of timm's, patch size, image size, (width, layers, heads, MLP ratio), and activation.
type Known = (
    &'static str,
    usize,
    usize,
    (usize, usize, usize, f64),
    Activation,
);

#[rustfmt::skip]
const KNOWN: [Known; 16] = [
    ("vit_base_patch32_siglip_256", 32, 256, BASE, Activation::GeluTanh),
    ("vit_base_patch16_siglip_224", 16, 224, BASE, Activation::Gelu),
    ("vit_base_patch16_siglip_256", 16, 256, BASE, Activation::Gelu),
    ("vit_base_patch16_siglip_384", 16, 384, BASE, Activation::Gelu),
    ("vit_base_patch16_siglip_512", 16, 512, BASE, Activation::Gelu),
    ("vit_large_patch16_siglip_256", 16, 256, LARGE, Activation::Gelu),
    ("vit_large_patch16_siglip_384", 16, 384, LARGE, Activation::Gelu),
    ("vit_large_patch16_siglip_512", 16, 512, LARGE, Activation::GeluTanh),
    ("vit_so400m_patch14_siglip_224", 14, 224, SO400M, Activation::Gelu),
    ("vit_so400m_patch14_siglip_378", 14, 378, SO400M, Activation::Gelu),
    ("vit_so400m_patch14_siglip_384", 14, 384, SO400M, Activation::Gelu),
    ("vit_so400m_patch16_siglip_256", 16, 256, SO400M, Activation::GeluTanh),
    ("vit_so400m_patch16_siglip_384", 16, 384, SO400M, Activation::GeluTanh),
    ("vit_so400m_patch16_siglip_512", 16, 512, SO400M, Activation::GeluTanh),
    ("vit_giantopt_patch16_siglip_256", 16, 256, GIANT, Activation::GeluTanh),
    ("vit_giantopt_patch16_siglip_384", 16, 384, GIANT, Activation::GeluTanh),
];

/// A tower of timm's that is built here.
pub(super) struct Tower(Option<&'static Known>);

impl Tower {
    /// The tower that `vision_cfg` takes from timm; `None` if it takes none, or one that is not built here, which its
    /// name is refused for elsewhere.
    /// - keys: those that open_clip's own towers do not have.
    pub fn find(keys: &Others, refused: &mut Refused) -> Option<Self> {
        let name = keys.get(NAME)?.as_str()?;
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        if known.is_none() && name != OWN {
            return None;
        }
        for (key, right) in [(POOL, "map"), (PROJECTION, "none")] {
            let given = keys.get(key).unwrap_or(&Value::Null);
            if given != right {
                let reason = format!("SigLIP's towers have {right:?}");
                refused.reject(&format!("vision_cfg.{key}"), given, &reason);
            }
        }
        for key in ["timm_drop", "timm_drop_path"] {
            if let Some(share) = keys.get(key).filter(|share| share.as_f64() != Some(0.0))
                && !share.is_null()
            {
                let reason = "Couplet has no dropout";
                refused.reject(&format!("vision_cfg.{key}"), share, reason);
            }
        }
        Some(Self(known))
    }

    /// - vit: as the other keys of the config describe it.
    pub fn spec(&self, vit: &VitSpec, refused: &mut Refused) -> VitSpec {
        let vit = vit.in_form(VitSpec::siglip_form);
        let Some((name, patch_size, image_size, (width, layers, heads, mlp_ratio), activation)) =
            self.0
        else {
            return vit;
        };
        if vit.image_size != *image_size {
            let reason = format!("{name} takes {image_size} pixels");
            refused.reject("vision_cfg.image_size", &vit.image_size.into(), &reason);
        }
        VitSpec {
            patch_size: *patch_size,
            width: *width,
            layers: *layers,
            heads: *heads,
            mlp_ratio: *mlp_ratio,
            activation: (*activation != Activation::Gelu).then_some(*activation),
            norm_eps: NORM_EPS,
            ..vit
        }
    }
}

/// timm's name of a tower of SigLIP's kind, if it has one of these sizes.
fn known_name(vit: &VitSpec, activation: Activation) -> Option<&'static str> {
    let is_same = |known: &&Known| {
        let (_, patch_size, image_size, (width, layers, heads, _), own) = known;
        let sizes = [*patch_size, *image_size, *width, *layers, *heads];
        let ours = [
            vit.patch_size,
            vit.image_size,
            vit.width,
            vit.layers,
            vit.heads,
        ];
        sizes == ours && *own == activation && vit.mlp_width() == mlp_width(known)
    };
    let is_timms = vit.is_siglip() && vit.norm_eps == NORM_EPS;
    let known = KNOWN.iter().find(is_same).filter(|_| is_timms)?;
    Some(known.0)
}

/// - returns the hidden width of the known tower's MLPs.
fn mlp_width((_, _, _, (width, _, _, ratio), _): &Known) -> usize {
    crate::spec::mlp_width(*width, *ratio)
}

/// Why open_clip cannot build a tower of SigLIP's kind, if it cannot.
pub(super) fn obstacle(vit: &VitSpec, activation: Activation) -> Option<String> {
    if known_name(vit, activation).is_some() {
        return None;
    }
    Some(format!(
        "open_clip takes SigLIP's image towers from timm, which has none of {} pixels, patch {}, width {}, {} layers, \
         {} heads, MLP width {}, norm_eps {:e} and {}; Hugging Face's layout keeps it",
        vit.image_size,
        vit.patch_size,
        vit.width,
        vit.layers,
        vit.heads,
        vit.mlp_width(),
        vit.norm_eps,
        activation.name()
    ))
}

/// The keys of `vision_cfg` that take a tower of SigLIP's kind from timm.
pub(super) fn keys(vit: &VitSpec, activation: Activation) -> Others {
    let name = known_name(vit, activation).unwrap_or(OWN);
    let keys = [
        (NAME, json!(name)),
        ("timm_model_pretrained", json!(false)),
        (POOL, json!("map")),
        (PROJECTION, json!("none")),
    ];
    keys.map(|(key, value)| (key.to_string(), value)).into()
}

/// What all of timm's names of a tower begin with.
pub(crate) const TRUNK: &str = "visual.trunk.";
/// open_clip's names of what Couplet builds as its own towers are, and timm's.
const OUTSIDE_BLOCKS: [(&str, &str); 10] = [
    ("visual.conv1.weight", "patch_embed.proj.weight"),
    ("visual.conv1.bias", "patch_embed.proj.bias"),
    ("visual.ln_post.weight", "norm.weight"),
    ("visual.ln_post.bias", "norm.bias"),
    ("visual.map_head.probe", "attn_pool.latent"),
    (
        "visual.map_head.attn.out_proj.weight",
        "attn_pool.proj.weight",
    ),
    ("visual.map_head.attn.out_proj.bias", "attn_pool.proj.bias"),
    ("visual.map_head.norm.weight", "attn_pool.norm.weight"),
    ("visual.map_head.norm.bias", "attn_pool.norm.bias"),
    ("visual.positional_embedding", "pos_embed"),
];
const IN_BLOCK: [(&str, &str); 8] = [
    ("ln_1.weight", "norm1.weight"),
    ("ln_1.bias", "norm1.bias"),
    ("ln_2.weight", "norm2.weight"),
    ("ln_2.bias", "norm2.bias"),
    ("attn.in_proj_weight", "attn.qkv.weight"),
    ("attn.in_proj_bias", "attn.qkv.bias"),
    ("attn.out_proj.weight", "attn.proj.weight"),
    ("attn.out_proj.bias", "attn.proj.bias"),
];
const MLP: [(&str, &str); 2] = [("mlp.c_fc.", "mlp.fc1."), ("mlp.c_proj.", "mlp.fc2.")];

/// Where timm keeps a tensor of SigLIP's image tower; other tensors keep their names.
pub(crate) fn stored_as(name: &str) -> StoredAs {
    in_trunk(name).unwrap_or_else(|| StoredAs::Same(name.into()))
}

fn in_trunk(name: &str) -> Option<StoredAs> {
    let outside = OUTSIDE_BLOCKS.iter().find(|(ours, _)| *ours == name);
    if let Some((_, theirs)) = outside {
        let theirs = format!("{TRUNK}{theirs}");
        let is_positions = name.ends_with("positional_embedding");
        return Some(if is_positions {
            StoredAs::WithLeadingAxes(theirs, 1)
        } else {
            StoredAs::Same(theirs)
        });
    }
    if let Some(part) = name.strip_prefix("visual.map_head.") {
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            let part = |name: &str| format!("{TRUNK}attn_pool.{name}.{kind}");
            return Some(StoredAs::Packed(vec![(part("q"), 1), (part("kv"), 2)]));
        }
        return Some(StoredAs::Same(format!("{TRUNK}attn_pool.{}", mlp(part)?)));
    }
    let (layer, part) = (name.strip_prefix("visual.transformer.resblocks.")?).split_once('.')?;
    let own = IN_BLOCK.iter().find(|(ours, _)| *ours == part);
    let theirs = match own {
        Some((_, theirs)) => (*theirs).to_string(),
        None => mlp(part)?,
    };
    Some(StoredAs::Same(format!("{TRUNK}blocks.{layer}.{theirs}")))
}

fn mlp(part: &str) -> Option<String> {
    let renamed =
        |(ours, theirs): &(&str, &str)| Some(format!("{theirs}{}", part.strip_prefix(ours)?));
    MLP.iter().find_map(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    #[test]
    fn every_parameter_of_the_tower_has_a_name_of_timms() {
        let spec = presets::find("ViT-B-16-SigLIP").unwrap();
        let vit = spec.image.as_vit().unwrap();
        assert_eq!(
            known_name(vit, Activation::Gelu),
            Some("vit_base_patch16_siglip_224")
        );
        assert_eq!(known_name(vit, Activation::GeluTanh), None);
        for name in spec.parameter_names() {
            let stored = stored_as(&name).shapes(&[3]);
            let is_trunk = stored.iter().all(|(stored, _)| stored.starts_with(TRUNK));
            assert_eq!(is_trunk, name.starts_with("visual."), "{name}");
        }
    }
}
