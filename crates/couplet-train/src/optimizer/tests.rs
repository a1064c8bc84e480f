use super::*;
use burn::tensor::Int;
use couplet_model::{l2_normalize, presets};

fn settings() -> OptimizerSettings {
    OptimizerSettings {
        lr: 1e-3,
        betas: [0.9, 0.98],
        eps: None,
        weight_decay: 0.1,
        no_decay: vec!["visual.proj".into()],
        clip_norm: Some(1.0),
        layer_decay: None,
        group: Vec::new(),
    }
}

fn spec() -> ModelSpec {
    presets::find("ViT-Ti-8-32").unwrap()
}

fn optimizer(config: &OptimizerConfig) -> ModelOptimizer {
    ModelOptimizer::new(config, &spec())
}

fn adamw() -> ModelOptimizer {
    optimizer(&OptimizerConfig::AdamW(settings()))
}

fn model() -> Clip {
    Clip::init(&spec(), 0, &Device::flex().autodiff())
}

fn update(optimizer: &mut ModelOptimizer, model: Clip) -> (Clip, f64) {
    let grads = grads(&model);
    let norm = global_norm(&model, &grads);
    let step = OptimizerStep {
        lr: 1e-3,
        grad_scale: optimizer.clip_factor(norm),
    };
    (optimizer.step(model, grads, step), norm)
}

fn grads(model: &Clip) -> GradientsParams {
    let device = model.device();
    let tokens = Tensor::<2, Int>::from_ints([[49_406, 320, 49_407], [49_406, 9, 49_407]], &device);
    let images = Tensor::<4>::ones([2, 3, 32, 32], &device);
    let loss = (l2_normalize(model.encode_image(images)) * l2_normalize(model.encode_text(tokens)))
        .sum()
        * model.logit_scale.val().exp();
    GradientsParams::from_grads(loss.backward(), model)
}

fn assert_moments_survive(config: &OptimizerConfig) {
    let mut first = optimizer(config);
    let (model, _) = update(&mut first, model());
    let (tensors, times) = first.save(&model);
    let moment = &tensors["visual.proj.exp_avg"];
    assert!(moment.values.iter().any(|v| *v != 0.0));
    assert_eq!(times["logit_scale"], 1);

    let mut second = optimizer(config);
    second.load(&model, tensors.clone(), &times).unwrap();
    let after = |optimizer: &mut ModelOptimizer| {
        let (model, norm) = update(optimizer, model.clone());
        (couplet_model::weights::parameters(&model), norm.to_bits())
    };
    assert_eq!(after(&mut first), after(&mut second));

    let mut third = optimizer(config);
    let mut broken = tensors;
    broken.remove("ln_final.bias.exp_avg");
    let error = third.load(&model, broken, &times).unwrap_err();
    assert!(
        error.contains("ln_final.bias has moments that are missing"),
        "{error}"
    );
}

#[test]
fn moments_survive_a_save_bit_for_bit() {
    assert_moments_survive(&OptimizerConfig::AdamW(settings()));
    assert_moments_survive(&OptimizerConfig::Lamb(settings()));
    assert_moments_survive(&OptimizerConfig::Lion(settings()));
}

#[test]
fn moments_of_another_optimizer_are_rejected() {
    let mut lion = optimizer(&OptimizerConfig::Lion(settings()));
    let (model, _) = update(&mut lion, model());
    let (tensors, times) = lion.save(&model);
    assert!(adamw().load(&model, tensors, &times).is_err());
}

/// The largest change of any value of each parameter in one update.
fn moved(config: &OptimizerConfig) -> impl Fn(&str) -> f32 {
    let before = couplet_model::weights::parameters(&model());
    let (after, _) = update(&mut optimizer(config), model());
    let after = couplet_model::weights::parameters(&after);
    move |name| {
        let pairs = before[name].values.iter().zip(&after[name].values);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}

#[test]
fn weight_decay_applies_to_matrices_that_no_glob_excludes() {
    // Token 7 is in no caption: its gradient is 0, so only weight decay changes it.
    let row = |weights: &NamedTensors| weights["token_embedding.weight"].values[7 * 48];
    let before = row(&couplet_model::weights::parameters(&model()));
    let after = |config: &OptimizerConfig| {
        let (after, _) = update(&mut optimizer(config), model());
        row(&couplet_model::weights::parameters(&after))
    };
    let decayed = after(&OptimizerConfig::AdamW(settings()));
    assert!((decayed / before - (1.0 - 1e-3 * 0.1)).abs() < 1e-6);
    let excluded = after(&OptimizerConfig::AdamW(OptimizerSettings {
        no_decay: vec!["token_*".into()],
        ..settings()
    }));
    assert_eq!(excluded, before);
}

#[test]
fn lamb_updates_parameters_that_start_at_0() {
    let config = OptimizerConfig::Lamb(settings());
    let mut lamb = optimizer(&config);
    let largest = |model: &Clip| {
        let bias = &couplet_model::weights::parameters(model)["ln_final.bias"];
        bias.values.iter().map(|v| v.abs()).fold(0.0, f32::max)
    };
    let (first, _) = update(&mut lamb, model());
    let (second, _) = update(&mut lamb, first.clone());
    assert!(largest(&second) > 1.5 * largest(&first));
}

#[test]
fn a_checkpoint_without_updates_can_be_loaded() {
    let (tensors, times) = adamw().save(&model());
    adamw().load(&model(), tensors, &times).unwrap();
}

#[test]
fn groups_and_depth_scale_the_learning_rate() {
    let config = OptimizerConfig::AdamW(OptimizerSettings {
        weight_decay: 0.0,
        layer_decay: Some(0.5),
        group: vec![ParamGroupConfig {
            params: vec!["text_projection".into()],
            lr_scale: Some(0.1),
            betas: None,
            eps: None,
            weight_decay: None,
        }],
        ..settings()
    });
    let moved = moved(&config);
    let close = |name: &str, rate: f32| {
        let moved = moved(name);
        assert!((moved / rate - 1.0).abs() < 0.05, "{name}: {moved:e}");
    };
    // AdamW's first update is as large as the learning rate wherever the gradient is not tiny.
    close("visual.proj", 1e-3);
    close("text_projection", 1e-4);
    let last = spec().text.layers - 1;
    close(&format!("transformer.resblocks.{last}.ln_1.weight"), 0.5e-3);
}

/// The sum of the squares of all gradients, computed independently.
struct Sum<'a>(&'a GradientsParams, f64);
impl ParameterVisitor for Sum<'_> {
    fn visit<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
        let grad = self
            .0
            .get::<D>(param.id)
            .expect("every parameter has a gradient");
        for value in HostTensor::from_tensor(grad).values {
            self.1 += f64::from(value).powi(2);
        }
    }
}

#[test]
fn the_norm_is_over_all_gradients() {
    let model = model();
    let grads = grads(&model);
    let mut sum = Sum(&grads, 0.0);
    visit_parameters(&model, &mut sum);
    let norm = global_norm(&model, &grads);
    assert!((norm - sum.1.sqrt()).abs() < 1e-5 * norm, "{norm}");
}

#[test]
fn logit_scale_is_clamped() {
    let raised = map_parameters(model(), &mut Raise);
    let (model, _) = update(&mut adamw(), raised);
    let scale: f32 = model.logit_scale.val().into_scalar();
    assert!((scale - MAX_LOGIT_SCALE.ln()).abs() < 1e-6, "{scale}");
}

/// Raises `logit_scale` above its maximum.
struct Raise;

impl ParameterMapper for Raise {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if name != "logit_scale" {
            return param;
        }
        param.map(|tensor| Tensor::from_inner(tensor.inner().add_scalar(9.0)).require_grad())
    }
}
