//! Image-text retrieval by cosine similarity, in both directions.

use burn::tensor::{Device, Tensor, TensorData};
use couplet_kernels::matmul;
use couplet_model::l2_normalize;
use rayon::prelude::*;

use crate::dataset::Dataset;
use crate::encoder::Encoder;
use crate::feature_file::FeatureFile;
use crate::inputs::{Inputs, read_inputs};
use crate::metric::{
    IMAGE_TO_TEXT_MEDIAN_RANK, IMAGE_TO_TEXT_RECALL_1, IMAGE_TO_TEXT_RECALL_5,
    IMAGE_TO_TEXT_RECALL_10, MetricInfo, Metrics, TEXT_TO_IMAGE_MEDIAN_RANK,
    TEXT_TO_IMAGE_RECALL_1, TEXT_TO_IMAGE_RECALL_5, TEXT_TO_IMAGE_RECALL_10,
};
use crate::protocol::{EvalError, EvalOptions};
use crate::report::{Protocol, Report};
use crate::texts::Texts;
use crate::unit_rows::unit_rows;

/// Rows and columns of the similarity matrix that are in memory at once.
const ROWS: usize = 512;
const COLUMNS: usize = 8192;

/// The metrics of a retrieval report.
pub const RETRIEVAL_METRICS: [MetricInfo; 8] = [
    IMAGE_TO_TEXT_RECALL_1,
    IMAGE_TO_TEXT_RECALL_5,
    IMAGE_TO_TEXT_RECALL_10,
    IMAGE_TO_TEXT_MEDIAN_RANK,
    TEXT_TO_IMAGE_RECALL_1,
    TEXT_TO_IMAGE_RECALL_5,
    TEXT_TO_IMAGE_RECALL_10,
    TEXT_TO_IMAGE_MEDIAN_RANK,
];

/// Evaluates retrieval in both directions; an image is found if one of its captions is.
/// - progress: called with the number of images that are done.
///
/// # Errors
/// If the dataset has classes, images cannot be used, features are not finite, or the model's tokenizer
/// is not on disk.
///
/// # Panics
/// If the device fails.
pub fn retrieval(
    encoder: &Encoder,
    dataset: &Dataset,
    options: EvalOptions,
    progress: impl FnMut(usize),
) -> Result<Report, EvalError> {
    let captions = dataset.captions().map_err(EvalError::from);
    let captions = captions.and_then(|captions| {
        encoder.tokens()?;
        Ok(captions)
    });
    let (mut texts, mut image_of_text) = (Vec::new(), Vec::new());
    for (image, captions) in captions.iter().flat_map(|all| all.iter().enumerate()) {
        for caption in captions {
            texts.push(caption.as_str());
            image_of_text.push(image);
        }
    }
    let count = texts.len();
    let texts = captions.map(|_| vec![Texts::Captions(texts)]);
    let Inputs { images, mut texts } = read_inputs(encoder, dataset, texts, options, progress)?;
    let features = texts.remove(0);
    let device = encoder.model().device();
    let image_features = l2_normalize(images.tensor(&device));
    Ok(Report {
        dataset: dataset.name.clone(),
        protocol: Protocol::Retrieval,
        metrics: retrieval_metrics(&image_features, &features, &image_of_text),
        images: images.len(),
        targets: count,
        skipped: 0,
    })
}

/// As [`retrieval`], with features from a file.
/// - captions_per_image: the captions of an image are this many consecutive texts, if the file has no
///   `image_of_text`; by default, the texts are divided equally.
///
/// # Errors
/// If the file lacks image or text features, or they do not match.
pub fn retrieval_of_features(
    name: &str,
    file: &FeatureFile,
    captions_per_image: Option<usize>,
    device: &Device,
) -> Result<Report, EvalError> {
    let invalid = |message: String| EvalError::Features(format!("{name}: {message}"));
    let (Some(images), Some(texts)) = (&file.image_features, &file.text_features) else {
        return Err(invalid("needs image_features and text_features".into()));
    };
    if images.shape[1] != texts.shape[1] {
        return Err(invalid(format!(
            "image features have {} values, but text features have {}",
            images.shape[1], texts.shape[1]
        )));
    }
    let (image_count, text_count) = (images.shape[0], texts.shape[0]);
    if image_count == 0 || text_count == 0 {
        return Err(invalid(format!(
            "has {image_count} images and {text_count} texts; retrieval needs both"
        )));
    }
    let image_of_text = match (&file.image_of_text, captions_per_image) {
        (Some(owners), _) => owners.clone(),
        (None, Some(each)) if each.checked_mul(image_count) == Some(text_count) && each > 0 => {
            (0..text_count).map(|text| text / each).collect()
        }
        (None, None) if text_count > 0 && text_count.is_multiple_of(image_count.max(1)) => {
            let each = text_count / image_count.max(1);
            (0..text_count).map(|text| text / each).collect()
        }
        _ => {
            return Err(invalid(format!(
                "{text_count} texts cannot be divided equally among {image_count} images; add a tensor \
                 image_of_text with the index of each text's image"
            )));
        }
    };
    if image_of_text.len() != text_count || image_of_text.iter().any(|at| *at >= image_count) {
        return Err(invalid(
            "image_of_text must have one valid image index per text".into(),
        ));
    }
    let on_device = |tensor: &couplet_model::weights::HostTensor| {
        let shape = [tensor.shape[0], tensor.shape[1]];
        let data = TensorData::new(tensor.values.clone(), shape);
        unit_rows(&Tensor::<2>::from_data(data, device))
    };
    Ok(Report {
        dataset: name.to_string(),
        protocol: Protocol::Retrieval,
        metrics: retrieval_metrics(&on_device(images), &on_device(texts), &image_of_text),
        images: image_count,
        targets: text_count,
        skipped: 0,
    })
}

/// Recall at 1, 5 and 10 and the median rank, in both directions. The rank of a query is that of
/// the best of its positives, counted from 1; of equal similarities, the earlier index comes first.
/// An image without captions is not counted.
/// - image_features: `[images, embed_dim]`; text_features: `[texts, embed_dim]`; both L2-normalized.
/// - image_of_text: the index of each text's image.
///
/// # Panics
/// If the device fails.
pub fn retrieval_metrics(
    image_features: &Tensor<2>,
    text_features: &Tensor<2>,
    image_of_text: &[usize],
) -> Metrics {
    let mut texts_of_image = vec![Vec::new(); image_features.dims()[0]];
    for (text, image) in image_of_text.iter().enumerate() {
        texts_of_image[*image].push(text);
    }
    let image_of_text: Vec<Vec<usize>> = image_of_text.iter().map(|image| vec![*image]).collect();
    let to_text = ranks(image_features, text_features, &texts_of_image);
    let to_image = ranks(text_features, image_features, &image_of_text);
    let values = [to_text, to_image].into_iter().flat_map(|ranks| {
        let found = |within: usize| recall(&ranks, within);
        [found(1), found(5), found(10), median_rank(&ranks)]
    });
    let metrics = RETRIEVAL_METRICS.into_iter().zip(values);
    Metrics(metrics.map(|(metric, value)| metric.of(value)).collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn recall(ranks: &[usize], within: usize) -> f64 {
    let found = ranks.iter().filter(|rank| **rank < within).count();
    found as f64 / ranks.len().max(1) as f64
}

/// Counted from 1; for an even number of queries, the mean of the two middle ranks.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn median_rank(ranks: &[usize]) -> f64 {
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    let (Some(low), Some(high)) = (
        sorted.get(sorted.len().saturating_sub(1) / 2),
        sorted.get(sorted.len() / 2),
    ) else {
        return f64::NAN;
    };
    1.0 + (low + high) as f64 / 2.0
}

/// For each query that has positives, the number of candidates before the best of them. The similarity
/// matrix is computed in pieces.
fn ranks(queries: &Tensor<2>, candidates: &Tensor<2>, positives: &[Vec<usize>]) -> Vec<usize> {
    let (query_count, candidate_count) = (queries.dims()[0], candidates.dims()[0]);
    let mut all = Vec::with_capacity(query_count);
    for first in (0..query_count).step_by(ROWS) {
        let rows = first..query_count.min(first + ROWS);
        let some = queries.clone().narrow(0, rows.start, rows.len());
        let piece = |column: usize| -> (usize, Vec<f32>) {
            let end = candidate_count.min(column + COLUMNS);
            let columns = candidates.clone().narrow(0, column, end - column);
            let scores = matmul(some.clone(), columns.transpose()).into_data();
            (
                end - column,
                scores.try_to_vec().expect("similarities are f32"),
            )
        };
        let positives = &positives[rows];
        // The best positive of each row: its similarity and its index.
        let mut best: Vec<Option<(f32, usize)>> = vec![None; positives.len()];
        let mut wanted: Vec<usize> = positives.iter().flatten().map(|at| at / COLUMNS).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for at in wanted {
            let column = at * COLUMNS;
            let (width, scores) = piece(column);
            for ((own, best), scores) in positives.iter().zip(&mut best).zip(scores.chunks(width)) {
                for candidate in own.iter().filter(|own| **own / COLUMNS == at) {
                    let score = scores[candidate - column];
                    if best.is_none_or(|(highest, _)| score > highest) {
                        *best = Some((score, *candidate));
                    }
                }
            }
        }
        let mut before = vec![0; positives.len()];
        for column in (0..candidate_count).step_by(COLUMNS) {
            let (width, scores) = piece(column);
            (before.par_iter_mut().zip(&best))
                .zip(scores.par_chunks(width))
                .for_each(|((before, best), scores)| {
                    if let Some((own, at)) = best {
                        *before += count_before(scores, column, *own, *at);
                    }
                });
        }
        let found = best.iter().zip(before).filter(|(best, _)| best.is_some());
        all.extend(found.map(|(_, before)| before));
    }
    all
}

/// Candidates that come before the positive at index `at`; all of them if its similarity is NaN.
fn count_before(scores: &[f32], first: usize, own: f32, at: usize) -> usize {
    if own.is_nan() {
        return scores.len();
    }
    let is_before = |(column, score): (usize, &f32)| {
        usize::from(*score > own || (*score == own && first + column < at))
    };
    scores.iter().enumerate().map(is_before).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_model::weights::HostTensor;

    fn tensor(rows: &[[f32; 2]]) -> Tensor<2> {
        let data = TensorData::new(rows.concat(), [rows.len(), 2]);
        l2_normalize(Tensor::from_data(data, &Device::flex()))
    }

    #[test]
    fn ranks_match_those_computed_by_hand() {
        let images = tensor(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
        // Two captions of image 0, one of each of the others; text 3 equals text 1.
        let texts = tensor(&[[0.0, 1.0], [1.0, 0.1], [1.0, 0.9], [1.0, 0.1]]);
        let metrics = retrieval_metrics(&images, &texts, &[0, 0, 1, 2]);
        // Image to text: image 0 has text 1 first; image 1 has text 0 before its text 2; image 2 has
        // text 2, then texts 0, 1 and 3, of which 1 and 3 are equal: 1 comes first.
        let get = |name| metrics.get(name).unwrap();
        assert!((get("image_to_text_recall@1") - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(get("image_to_text_recall@5"), 1.0);
        assert_eq!(get("image_to_text_median_rank"), 2.0);
        // Text to image: text 0 has its image last, text 1 first, text 2 has images 2 and 0 before its
        // own, text 3 has image 0 before its own.
        assert_eq!(get("text_to_image_recall@1"), 0.25);
        assert_eq!(get("text_to_image_median_rank"), 2.5);
    }

    #[test]
    fn pieces_give_the_same_ranks_as_the_whole_matrix() {
        let count = ROWS + 100;
        let values = |salt: usize, rows: usize| -> Vec<[f32; 2]> {
            (0..rows)
                .map(|row| {
                    // Few distinct values, so that there are ties across pieces.
                    let angle = f32::from(u8::try_from((row * 37 + salt) % 23).unwrap());
                    [angle.cos(), angle.sin()]
                })
                .collect()
        };
        let (images, texts) = (values(1, count), values(2, 14 * count));
        let owner = |text: usize| (text * 7) % count;
        let positives: Vec<Vec<usize>> = (0..count)
            .map(|image| {
                (0..texts.len())
                    .filter(|text| owner(*text) == image)
                    .collect()
            })
            .collect();
        let (images, texts) = (tensor(&images), tensor(&texts));
        let found = ranks(&images, &texts, &positives);
        assert!(texts.dims()[0] > COLUMNS);
        let scores: Vec<f32> = (images.matmul(texts.transpose()).into_data().try_to_vec()).unwrap();
        for (image, row) in scores.chunks(14 * count).enumerate() {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            let at = order.iter().position(|text| owner(*text) == image).unwrap();
            assert_eq!(found[image], at, "image {image}");
        }
    }

    #[test]
    fn the_tensors_of_a_feature_file_must_match() {
        let host = |rows: u8| HostTensor {
            shape: vec![usize::from(rows), 2],
            values: (0..rows * 2).map(|at| f32::from(at) + 1.0).collect(),
        };
        let file = |texts: u8, owners: Option<Vec<usize>>| FeatureFile {
            image_features: Some(host(3)),
            text_features: Some(host(texts)),
            labels: None,
            image_of_text: owners,
        };
        let evaluate = |file: &FeatureFile| {
            retrieval_of_features("f", file, None, &Device::flex()).map_err(|e| e.to_string())
        };
        assert_eq!(evaluate(&file(6, None)).unwrap().targets, 6);
        assert!(
            evaluate(&file(5, None))
                .unwrap_err()
                .contains("image_of_text")
        );
        assert!(evaluate(&file(5, Some(vec![0, 1, 2, 2, 1]))).is_ok());
        assert!(evaluate(&file(5, Some(vec![0, 1, 2, 2, 3]))).is_err());
    }
}
