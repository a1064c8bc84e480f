//! Events for pages: what they show, again, whenever it has changed.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;

use super::pages::{in_background, names};
use super::watched::Watched;
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
        pause: INTERVAL,
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
    pause: Duration,
    _place: OwnedSemaphorePermit,
}

/// What tells that a file has changed.
type Stamp = Option<(u64, Option<SystemTime>)>;

impl Follower {
    /// Waits until there is something new.
    async fn next(&mut self) -> Event {
        loop {
            tokio::time::sleep(self.pause).await;
            let begin = Instant::now();
            let (watched, runs, seen) =
                (self.watched.clone(), self.runs.clone(), self.seen.clone());
            let read = in_background(move || {
                let stamps = stamps(&watched, runs.as_deref());
                if seen.as_ref() == Some(&stamps) {
                    return Ok(None);
                }
                let event = match runs {
                    Some(runs) => {
                        let report = watched.report(&runs, "/events", false)?;
                        Event::default().event("report").data(report.json())
                    }
                    None => Event::default().event("list").data(watched.list().json()),
                };
                Ok(Some((event, stamps)))
            });
            // A run's folder may be gone, or not be there yet.
            let read = read.await.ok().flatten();
            self.pause = INTERVAL.max(begin.elapsed() * PART);
            if let Some((event, stamps)) = read {
                self.seen = Some(stamps);
                return event;
            }
        }
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
