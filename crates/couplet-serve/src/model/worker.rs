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
        let (pixels, replies): (Vec<Vec<u8>>, Vec<_>) = images.into_iter().unzip();
        answer(encoder, replies, || {
            let name = |row: usize| format!("image {row} of a batch");
            let rows = encoder.image_rows(pixels.concat(), name);
            rows.map_err(|error| with_causes(&error))
        });
        let (texts, replies): (Vec<String>, Vec<_>) = texts.into_iter().unzip();
        answer(encoder, replies, || {
            encoder
                .text_rows(&texts)
                .map_err(|error| with_causes(&error))
        });
    }
}

fn answer(
    encoder: &Encoder,
    replies: Vec<oneshot::Sender<Features>>,
    encode: impl FnOnce() -> Result<Vec<f32>, String>,
) {
    if replies.is_empty() {
        return;
    }
    // A panic is the answer to this batch, not the end of the server.
    let rows = catch_unwind(AssertUnwindSafe(encode));
    let rows = rows.unwrap_or_else(|_| Err("the model failed on this batch".into()));
    let width = encoder.spec().embed_dim;
    for (at, reply) in replies.into_iter().enumerate() {
        let features = rows
            .as_ref()
            .map(|rows| rows[at * width..(at + 1) * width].to_vec());
        // The request may be gone.
        let _ = reply.send(features.map_err(Clone::clone));
    }
}
