//! Events for pages: what they show, again, whenever it has changed.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;

use super::pages::{in_background, names};
use super::watched::{Read, Stamp, Watched};
use crate::api_error::ApiError;

/// Files are looked at in such intervals.
const INTERVAL: Duration = Duration::from_secs(1);
/// Reading takes at most this part of the time: a run on the same machine must not notice it.
const PART: u32 = 100;
/// Files of a run that say that it went on.
const FILES: [&str; 6] = [
    "metrics.jsonl",
    "record.json",
    "skipped.jsonl",
    "train.log",
    "latest",
    "best",
];

/// `GET /events`: of the first page, and of `?run=A&run=B`.
pub(super) async fn events(
    State(watched): State<Arc<Watched>>,
    RawQuery(query): RawQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = watched.open.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::busy())?;
    let query = query.unwrap_or_default();
    let names = names(&query);
    let is_list = watched.single().is_none() && names.is_empty();
    let runs = watched.named(&names)?;
    let follower = Follower {
        watched,
        // A list has the runs that are there when it is read.
        runs: (!is_list).then_some(runs),
        seen: None,
        _place: place,
    };
    let stream = unfold(follower, |mut follower| async move {
        let event = follower.next().await;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// What a page has been told.
struct Follower {
    watched: Arc<Watched>,
    /// `None` for the list of all.
    runs: Option<Vec<PathBuf>>,
    seen: Option<Vec<Stamp>>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Waits until there is something new.
    async fn next(&mut self) -> Event {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let (watched, runs) = (self.watched.clone(), self.runs.clone());
            let stamps = in_background(move || Ok(stamps(&watched, runs.as_deref())));
            let Ok(stamps) = stamps.await else { continue };
            if self.seen.as_ref() == Some(&stamps) {
                continue;
            }
            // A run's folder may be gone, or not be there yet.
            if let Some(json) = self.read(&stamps).await {
                self.seen = Some(stamps);
                let kind = if self.runs.is_some() {
                    "report"
                } else {
                    "list"
                };
                return Event::default().event(kind).data(json);
            }
        }
    }

    /// What pages are told of this state: read once for all pages that follow the same runs. Of all pages together, reading takes a
    /// part of the time only; a page that comes too early tries again.
    async fn read(&self, stamps: &[Stamp]) -> Option<Arc<str>> {
        let mut reading = self.watched.reading.lock().await;
        if let Some(last) = &reading.last
            && last.runs == self.runs
            && last.stamps == stamps
        {
            return Some(last.json.clone());
        }
        let begin = Instant::now();
        if reading
            .not_before
            .is_some_and(|not_before| begin < not_before)
        {
            return None;
        }
        let (watched, runs) = (self.watched.clone(), self.runs.clone());
        let json = in_background(move || match runs {
            Some(runs) => Ok(watched.report(&runs, "/events", false)?.json()),
            None => Ok(watched.list().json()),
        });
        let json: Option<Arc<str>> = json.await.ok().map(Into::into);
        reading.not_before = Some(Instant::now() + begin.elapsed() * PART);
        let json = json?;
        reading.last = Some(Read {
            runs: self.runs.clone(),
            stamps: stamps.to_vec(),
            json: json.clone(),
        });
        Some(json)
    }
}

fn stamps(watched: &Watched, runs: Option<&[PathBuf]>) -> Vec<Stamp> {
    let runs = runs.map_or_else(|| watched.found(), <[PathBuf]>::to_vec);
    let files = runs.iter().flat_map(|run| FILES.map(|file| run.join(file)));
    let stamp = |file: PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some((found.len(), found.modified().ok()))
    };
    files.map(stamp).collect()
}
