//! Live pages of training runs.

mod events;
mod pages;
mod watched;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::listen::Routes;

pub use watched::Watched;

/// The pages of runs, and the events that they follow.
pub fn watch_routes(watched: Watched) -> Routes {
    let routes = Router::new()
        .route("/", get(pages::home))
        .route("/run", get(pages::runs))
        .route("/events", get(events::events))
        .with_state(Arc::new(watched));
    // Nobody sends these pages anything.
    Routes {
        routes,
        most_bytes: 0,
    }
}
