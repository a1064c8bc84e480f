//! Batches on their way from the loader to the training loop. For a GPU, a thread of its own puts the pixels of the
//! next batch there while a step computes, so that mostly two batches are in its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use burn::tensor::Device;
use couplet_data::loader::{HostBatch, Loader, LoaderError};
use couplet_data::{StageClock, StageTimes};

use crate::device::DeviceSetting;
use crate::step::StepBatch;

/// More pixels of a batch stay on the host: each micro-batch takes its own to the GPU.
const MOST: usize = 512 << 20;
/// The same of pixels that are floats on the GPU, whose buffers are small where they must be.
const MOST_FLOATS: usize = 64 << 20;

/// Bytes of images on a device.
pub(crate) fn pixel_bytes(device: DeviceSetting, images: usize, image_size: usize) -> usize {
    let values = images * 3 * image_size * image_size;
    values
        * if has_bytes(device) {
            1
        } else {
            size_of::<f32>()
        }
}

/// Whether 8-bit integers are sure to be known there.
fn has_bytes(device: DeviceSetting) -> bool {
    matches!(device, DeviceSetting::Cuda(_) | DeviceSetting::Rocm(_))
}

/// Whether a device is fed with whole batches of so many bytes.
pub(crate) fn is_fed(device: DeviceSetting, bytes: usize) -> bool {
    let most = if has_bytes(device) { MOST } else { MOST_FLOATS };
    device != DeviceSetting::Flex && bytes <= most
}

/// Where the training loop gets its batches.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Steps read pixels where the loader put them.
    Host(Loader),
    Gpu {
        fed: FedBatches<LoaderError>,
        clock: Arc<StageClock>,
    },
}

impl Feed {
    /// - device: without autodiff; setting: what it is.
    /// - pairs: of a batch, at most.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn new(
        loader: Loader,
        setting: DeviceSetting,
        device: Device,
        pairs: usize,
        image_size: usize,
    ) -> std::io::Result<Self> {
        let setting = setting.resolved();
        if !is_fed(setting, pixel_bytes(setting, pairs, image_size)) {
            return Ok(Self::Host(loader));
        }
        let clock = loader.clock();
        let fed = FedBatches::start(device, image_size, move |within| {
            loader.batch_within(within)
        })?;
        Ok(Self::Gpu { fed, clock })
    }

    /// The next batch, if it is ready.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub fn ready_batch(&self) -> Option<Result<StepBatch, LoaderError>> {
        match self {
            Self::Host(loader) => Some(loader.ready_batch()?.map(StepBatch::from)),
            Self::Gpu { fed, .. } => fed.batches().try_recv().ok(),
        }
    }

    /// The next batch; blocks until it is ready.
    ///
    /// # Errors
    /// As [`Loader::next_batch`].
    pub fn next_batch(&self) -> Result<StepBatch, LoaderError> {
        match self {
            Self::Host(loader) => loader.next_batch().map(StepBatch::from),
            Self::Gpu { fed, .. } => fed.batches().recv().unwrap_or(Err(LoaderError::Died)),
        }
    }

    /// As [`Loader::stage_times`].
    pub fn stage_times(&self) -> StageTimes {
        match self {
            Self::Host(loader) => loader.stage_times(),
            Self::Gpu { clock, .. } => clock.times(),
        }
    }
}

/// Batches that a thread puts on a GPU, each while the one before is in use.
#[derive(Debug)]
pub(crate) struct FedBatches<E> {
    /// `None` once the thread is to end.
    batches: Option<Receiver<Result<StepBatch, E>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<E: Send + 'static> FedBatches<E> {
    /// How often the thread looks whether it is to end.
    const WITHIN: Duration = Duration::from_millis(50);

    /// - device: without autodiff.
    /// - next: the next batch, if there is one within some time.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(
        device: Device,
        image_size: usize,
        mut next: impl FnMut(Duration) -> Option<Result<HostBatch, E>> + Send + 'static,
    ) -> std::io::Result<Self> {
        // A batch is handed over when it is asked for, and only then is the next one put on the device.
        let (sender, batches) = sync_channel(0);
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = ends.clone();
        let thread = thread::Builder::new().name("feed".into()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let Some(batch) = next(Self::WITHIN) else {
                    continue;
                };
                let is_last = batch.is_err();
                let fed = batch.map(|host| StepBatch::feed(host, image_size, &device));
                if sender.send(fed).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(Self {
            batches: Some(batches),
            ends,
            thread: Some(thread),
        })
    }

    pub fn batches(&self) -> &Receiver<Result<StepBatch, E>> {
        self.batches.as_ref().expect("it is there until the end")
    }
}

impl<E> Drop for FedBatches<E> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.batches = None;
        // A thread that uses the device must not outlive what the process ends.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn host(at: u8) -> HostBatch {
        HostBatch::from_host(&[at; 2 * 2 * 3], vec![1, 2], 2, vec![2])
    }

    #[test]
    fn one_batch_is_fed_ahead_and_the_thread_ends_with_the_feed() {
        let (asked, asks) = channel();
        let mut at = 0;
        let fed = FedBatches::start(Device::flex(), 2, move |_| {
            at += 1;
            asked.send(at).unwrap();
            Some(Ok::<_, LoaderError>(host(at)))
        });
        let fed = fed.unwrap();
        for wanted in 1..4_u8 {
            let batch = fed.batches().recv().unwrap().unwrap();
            let preprocess = couplet_model::PreprocessSpec {
                mean: [0.0; 3],
                std: [1.0; 3],
                ..Default::default()
            };
            let images = batch.images(0..1, 2, &preprocess, &Device::flex());
            let values: Vec<f32> = images.into_data().try_to_vec().unwrap();
            assert_eq!(values, vec![f32::from(wanted) * (1.0 / 255.0); 12]);
        }
        drop(fed);
        // Three were taken, and one or two more were begun: nothing asks any more.
        let begun: Vec<u8> = asks.iter().collect();
        assert!((4..=5).contains(&begun.len()), "{begun:?}");
    }

    #[test]
    fn an_error_is_the_last_that_is_handed_over() {
        let mut next = vec![Err(LoaderError::Died), Ok(host(1))];
        let fed = FedBatches::start(Device::flex(), 2, move |_| next.pop()).unwrap();
        assert!(fed.batches().recv().unwrap().is_ok());
        let error = fed.batches().recv().unwrap().unwrap_err();
        assert_eq!(error.to_string(), LoaderError::Died.to_string());
        assert!(fed.batches().recv().is_err());
    }
}
