//! The thread that has the model: it encodes what waits, of all requests, in batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use couplet_data::with_causes;
use couplet_eval::Encoder;
use tokio::sync::oneshot;

use crate::api_error::ApiError;

/// Inputs that are encoded at once.
const BATCH: usize = 64;
/// Inputs that may wait.
const WAITING: usize = 1024;

/// What is encoded.
#[derive(Debug)]
pub(super) enum Input {
    /// `[image_size, image_size, 3]`, as the model's transform outputs it.
    Pixels(Vec<u8>),
    /// A text that the tokenizer has ids for.
    Text(String),
}

/// The features of an input, `[embed_dim]`, L2-normalized.
type Features = Result<Vec<f32>, String>;

struct Job {
    input: Input,
    reply: oneshot::Sender<Features>,
}

/// Sends inputs to the model's thread.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
}

impl Worker {
    pub fn start(encoder: Arc<Encoder>) -> Self {
        let (jobs, waiting) = sync_channel(WAITING);
        thread::spawn(move || run(&encoder, &waiting));
        Self { jobs }
    }

    /// The features of inputs, in their order. If the request that asks is gone, its inputs are not encoded.
    pub async fn encode(&self, inputs: Vec<Input>) -> Result<Vec<Vec<f32>>, ApiError> {
        let mut replies = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (reply, features) = oneshot::channel();
            match self.jobs.try_send(Job { input, reply }) {
                Ok(()) => replies.push(features),
                Err(TrySendError::Full(_)) => return Err(ApiError::busy()),
                Err(TrySendError::Disconnected(_)) => {
                    return Err(ApiError::internal("the model's thread has ended"));
                }
            }
        }
        let mut all = Vec::with_capacity(replies.len());
        for features in replies {
            let features = features.await;
            let features = features.map_err(|_| ApiError::internal("the model gave no answer"))?;
            all.push(features.map_err(ApiError::internal)?);
        }
        Ok(all)
    }
}

fn run(encoder: &Encoder, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        // Whatever came while the last batch was encoded; nobody waits for others to come.
        let mut jobs = vec![first];
        while jobs.len() < BATCH
            && let Ok(job) = waiting.try_recv()
        {
            jobs.push(job);
        }
        jobs.retain(|job| !job.reply.is_closed());
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        for Job { input, reply } in jobs {
            match input {
                Input::Pixels(pixels) => images.push((pixels, reply)),
                Input::Text(text) => texts.push((text, reply)),
            }
        }
        answer(encoder, images, |pixels: &[Vec<u8>]| {
            let name = |row: usize| format!("image {row} of a batch");
            let rows = encoder.image_rows(pixels.concat(), name);
            rows.map_err(|error| with_causes(&error))
        });
        answer(encoder, texts, |texts: &[String]| {
            let rows = encoder.text_rows(texts);
            rows.map_err(|error| with_causes(&error))
        });
    }
}

fn answer<T>(
    encoder: &Encoder,
    jobs: Vec<(T, oneshot::Sender<Features>)>,
    encode: impl Fn(&[T]) -> Result<Vec<f32>, String>,
) {
    if jobs.is_empty() {
        return;
    }
    let (inputs, replies): (Vec<T>, Vec<_>) = jobs.into_iter().unzip();
    // A panic is the answer to these inputs, not the end of the server.
    let guarded = |inputs: &[T]| {
        let rows = catch_unwind(AssertUnwindSafe(|| encode(inputs)));
        rows.unwrap_or_else(|_| Err("the model failed on this input".into()))
    };
    let width = encoder.spec().embed_dim;
    let together = guarded(&inputs);
    for (at, reply) in replies.into_iter().enumerate() {
        let features = match &together {
            Ok(rows) => Ok(rows[at * width..(at + 1) * width].to_vec()),
            // What one request has sent is not the fault of the others.
            Err(_) => guarded(&inputs[at..=at]),
        };
        // The request may be gone.
        let _ = reply.send(features);
    }
}
