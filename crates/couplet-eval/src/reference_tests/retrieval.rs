//! Against `retrieval.json`, written by `tests/fixtures/make_retrieval.py`.

use couplet_model::l2_normalize;
use serde::Deserialize;

use super::{Expected, features};
use crate::{RETRIEVAL_METRICS, retrieval_metrics};

#[derive(Deserialize)]
struct Case {
    name: String,
    unit: f32,
    images: Vec<Vec<f32>>,
    texts: Vec<Vec<f32>>,
    image_of_text: Vec<usize>,
    images_with_captions: usize,
    metrics: Vec<Expected>,
}

/// CLIP_benchmark counts an image without captions as a failed query; here it is not counted, so that
/// recalls are fractions of fewer images.
#[expect(clippy::cast_precision_loss, reason = "a few images")]
#[test]
fn recalls_are_those_of_clip_benchmark() {
    let fixture = include_str!("../../tests/fixtures/retrieval.json");
    let cases: Vec<Case> = serde_json::from_str(fixture).unwrap();
    for case in cases {
        let images = l2_normalize(features(&case.images, case.unit));
        let texts = l2_normalize(features(&case.texts, case.unit));
        let metrics = retrieval_metrics(&images, &texts, &case.image_of_text);
        assert!(case.images_with_captions < case.images.len());
        let counted = case.images.len() as f64 / case.images_with_captions as f64;
        let names: Vec<&str> = case.metrics.iter().map(|one| &one.metric[..]).collect();
        assert_eq!(names, RETRIEVAL_METRICS.map(|info| info.name));
        for expected in &case.metrics {
            let of_images = expected.metric.starts_with("image_to_text");
            let share = if of_images { counted } else { 1.0 };
            let reference = expected.clip_benchmark.map(|found| found * share);
            expected.check(metrics.get(&expected.metric).unwrap(), reference);
        }
        let tied = case.metrics.iter().filter(|one| one.is_tied()).count();
        assert_eq!(
            tied > 4,
            case.name == "tied",
            "{tied} metrics depend on the order of ties"
        );
    }
}
