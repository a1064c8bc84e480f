//! The cache of features, which protocols and later runs share.

use std::path::PathBuf;

use clap::Args;
use couplet_eval::{Encoder, FeatureCache};

#[derive(Debug, Clone, Args)]
pub(super) struct CacheArguments {
    /// Folder to cache features in [default: `couplet` in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Neither read nor write cached features
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

impl CacheArguments {
    /// The cache of a model's features; `None` if caching is off.
    pub fn open(&self, encoder: &Encoder) -> Option<FeatureCache> {
        if self.no_cache {
            return None;
        }
        let folder = self.cache.clone().or_else(|| {
            let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
            let caches = home("XDG_CACHE_HOME").or_else(|| Some(home("HOME")?.join(".cache")))?;
            Some(caches.join("couplet"))
        });
        folder.map(|folder| FeatureCache::new(&folder, encoder))
    }
}
