"""Writes the names of the parameters of three small models in open_clip's order, which the test of
`sort_parameters` reads: python experiments/import/parameter_names.py > experiments/import/parameter_names.txt
"""

from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP


def text(**more):
    return CLIPTextCfg(width=16, heads=2, layers=2, vocab_size=50, context_length=9, **more)


MODELS = [
    CLIP(8, CLIPVisionCfg(layers=12, width=64, image_size=32, patch_size=8), text()),
    CLIP(8, CLIPVisionCfg(layers=(1, 2, 1, 1), width=16, image_size=64), text(), init_logit_bias=-10),
    CustomTextCLIP(
        8,
        CLIPVisionCfg(
            layers=2,
            width=64,
            image_size=32,
            patch_size=8,
            ls_init_value=0.1,
            attentional_pool=True,
            attn_pooler_queries=4,
            attn_pooler_heads=1,
        ),
        text(proj_bias=True, ls_init_value=0.1),
        init_logit_bias=-10,
    ),
]
print("\n\n".join("\n".join(name for name, _ in model.named_parameters()) for model in MODELS))
