//! What is served, and what says so.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use burn::module::Module;
use couplet_data::labelled::LabelledDataset;
use couplet_eval::Encoder;
use couplet_model::presets;
use couplet_search::Index;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use super::classifiers::Classifiers;
use super::worker::Worker;
use crate::api_error::ApiError;

/// Images that are decoded at once, and requests that may wait for it.
const WAITING: usize = 256;

/// What a request may ask for at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pixels of an image.
    pub pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels: 50_000_000 }
    }
}

/// A model and, to search in, an index that it made.
#[derive(Debug)]
pub struct Served {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) precision: String,
    pub(super) encoder: Arc<Encoder>,
    pub(super) index: Option<Arc<Index>>,
    /// Where the index's images are; opened when the first is shown.
    pub(super) images: OnceCell<Arc<LabelledDataset>>,
    pub(super) limits: Limits,
    pub(super) worker: Worker,
    pub(super) classifiers: Classifiers,
    /// Places of what computes on its own thread: images that are decoded, searches.
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Served {
    /// - name: what programs call the model; device and precision: as configs name them.
    pub fn new(
        name: &str,
        (device, precision): (String, String),
        encoder: Encoder,
        index: Option<Index>,
        limits: Limits,
    ) -> Self {
        let encoder = Arc::new(encoder);
        let cores = rayon::current_num_threads();
        Self {
            name: name.to_string(),
            device,
            precision,
            worker: Worker::start(encoder.clone()),
            encoder,
            index: index.map(Arc::new),
            images: OnceCell::new(),
            limits,
            classifiers: Classifiers::default(),
            places: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(cores + WAITING)),
        }
    }

    /// Does work on a thread that may take long, as many at a time as there are cores.
    pub(super) async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let queued = self.queue.clone().try_acquire_owned();
        let queued = queued.map_err(|_| ApiError::busy())?;
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(ApiError::internal)?;
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _held = (queued, place);
            work(&own)
        });
        done.await
            .map_err(|_| ApiError::internal("the work failed"))?
    }

    pub(super) fn index(&self) -> Result<Arc<Index>, ApiError> {
        self.index.clone().ok_or_else(|| {
            ApiError::not_found("there is no index to search; start the server with --index")
        })
    }
}

/// `GET /api/model`: what the page shows of it.
pub(super) async fn describe(State(served): State<Arc<Served>>) -> Json<Value> {
    let encoder = &served.encoder;
    let index = served.index.as_ref().map(|index| {
        let name = index.folder().file_name().unwrap_or_default();
        json!({
            "name": name.to_string_lossy(),
            "rows": index.len(),
            "bytes": index.manifest().bytes(),
        })
    });
    Json(json!({
        "name": served.name,
        "architecture": presets::names().find(|name| presets::find(name).as_ref() == Some(encoder.spec())),
        "weights": encoder.weights().map(|path| path.display().to_string()),
        "parameters": encoder.model().num_params(),
        "embed_dim": encoder.spec().embed_dim,
        "image_size": encoder.transform().image_size(),
        "context_length": encoder.tokens().ok().map(|tokens| tokens.context_length),
        "device": served.device,
        "precision": served.precision,
        "classes": encoder.head().map(|head| &head.class_names),
        "index": index,
    }))
}

/// `GET /v1/models`, in OpenAI's form.
pub(super) async fn list(State(served): State<Arc<Served>>) -> Json<Value> {
    let model =
        json!({ "id": served.name, "object": "model", "created": 0, "owned_by": "couplet" });
    Json(json!({ "object": "list", "data": [model] }))
}
