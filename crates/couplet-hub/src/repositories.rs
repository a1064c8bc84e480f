//! Repositories of the hub: what the cache has, and what is downloaded into it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::address::encode;
use crate::cache::{self, CachedRepository};
use crate::choice;
use crate::client::Client;
use crate::download;
use crate::error::HubError;
use crate::listing::{self, ListedFile, Listing, Subject};
use crate::names::{ModelName, Repository};
use crate::plan::{Plan, PlannedFile, Step};
use crate::pretrained::{Licence, allows_commercial_use};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::target::Target;

/// The branch that is meant if none is named.
const MAIN: &str = "main";

/// How many of a repository's files a message names.
const SHOWN: usize = 8;

/// Whose repository it is, and for which name.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a ModelName,
    pub(crate) repository: &'a Repository,
}

impl Wanted<'_> {
    fn revision(&self) -> &str {
        self.repository.revision.as_deref().unwrap_or(MAIN)
    }

    /// Weights of the table: their architecture is known, and they do not change.
    fn is_known(&self) -> bool {
        matches!(self.name, ModelName::Pretrained(_))
    }
}

/// A snapshot in the cache that a model can be loaded from.
pub(crate) struct Snapshot {
    pub(crate) commit: String,
    pub(crate) path: PathBuf,
    files: Vec<String>,
    /// Whether it is known to have everything that a download would bring.
    is_whole: bool,
}

/// The snapshot of the wanted revision, if the cache has one with weights.
pub(crate) fn cached(settings: &Settings, wanted: Wanted<'_>) -> Option<Snapshot> {
    let repository = CachedRepository::new(&settings.hub_cache, &wanted.repository.id);
    let commit = repository.commit_of(wanted.revision())?;
    let (path, all) = (repository.snapshot(&commit), repository.files(&commit));
    let files: Vec<String> = choice::choose(&all, wanted.is_known())?
        .into_iter()
        .map(str::to_owned)
        .collect();
    if missing_shard(&path, &all).is_some() {
        return None;
    }
    let is_whole = repository
        .is_whole(&commit, &all)
        .unwrap_or_else(|| choice::is_whole(&all));
    Some(Snapshot {
        commit,
        path,
        files,
        is_whole,
    })
}

/// Plans a repository: from the cache where that is enough, else from the hub.
pub(crate) fn plan(
    client: &Client,
    settings: &Settings,
    wanted: Wanted<'_>,
    progress: &mut dyn Progress,
) -> Result<Plan, HubError> {
    let snapshot = cached(settings, wanted);
    if let Some(variable) = settings.offline {
        let repository = CachedRepository::new(&settings.hub_cache, &wanted.repository.id);
        return snapshot
            .map(|snapshot| from_cache(settings, wanted, snapshot, Vec::new()))
            .ok_or_else(|| HubError::Offline {
                what: format!("`{}`", wanted.name),
                variable,
                cache: repository.folder(),
                remedy: remedy(wanted.name, variable),
            });
    }
    let never_changes = wanted.is_known() || cache::is_commit(wanted.revision());
    match snapshot {
        Some(snapshot) if never_changes && snapshot.is_whole => {
            Ok(from_cache(settings, wanted, snapshot, Vec::new()))
        }
        snapshot => match from_hub(client, settings, wanted, progress) {
            Err(error) if error.is_away() && snapshot.is_some() => {
                let snapshot = snapshot.expect("it was looked at");
                let note = format!(
                    "{error}; used the cached commit {} of `{}`",
                    snapshot.commit, wanted.repository.id
                );
                Ok(from_cache(settings, wanted, snapshot, vec![note]))
            }
            plan => plan,
        },
    }
}

/// How to get what offline mode lacks.
pub(crate) fn remedy(name: &ModelName, variable: &str) -> String {
    format!(
        "Unset {variable}, or run `couplet model download {name}` where there is a network and copy the cache here"
    )
}

/// The page of a repository.
fn page(settings: &Settings, wanted: Wanted<'_>) -> String {
    settings
        .endpoint
        .with(&encode(&wanted.repository.id, true))
        .to_string()
}

fn from_cache(
    settings: &Settings,
    wanted: Wanted<'_>,
    snapshot: Snapshot,
    notes: Vec<String>,
) -> Plan {
    let planned = |name: String| {
        let bytes = fs::metadata(snapshot.path.join(&name))
            .ok()
            .map(|there| there.len());
        PlannedFile {
            name,
            bytes,
            cached: true,
        }
    };
    Plan {
        name: wanted.name.clone(),
        source: page(settings, wanted),
        commit: Some(snapshot.commit),
        licence: known_licence(wanted.name),
        files: snapshot.files.into_iter().map(planned).collect(),
        notes,
        step: Step::Cached(snapshot.path.clone()),
    }
}

fn known_licence(name: &ModelName) -> Option<Licence> {
    match name {
        ModelName::Pretrained(row) => Some(row.licence.clone()),
        ModelName::Repository(_) => None,
    }
}

fn from_hub(
    client: &Client,
    settings: &Settings,
    wanted: Wanted<'_>,
    progress: &mut dyn Progress,
) -> Result<Plan, HubError> {
    let id = &wanted.repository.id;
    let token_hint = settings.token_hint();
    let subject = Subject {
        repository: id,
        revision: wanted.revision(),
        file: None,
        token_hint: &token_hint,
    };
    let Listing {
        commit,
        files,
        licence,
    } = listing::list(client, &subject, progress)?;
    let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let Some(chosen) = choice::choose(&names, wanted.is_known()) else {
        let shown = names
            .iter()
            .take(SHOWN)
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let more = if names.len() > SHOWN {
            format!(" and {} more", names.len() - SHOWN)
        } else {
            String::new()
        };
        let has = if names.is_empty() {
            "no files".to_owned()
        } else {
            format!("{shown}{more}")
        };
        return Err(HubError::NoWeights {
            repository: id.clone(),
            needs: choice::NEEDS.to_owned(),
            has,
        });
    };
    let repository = CachedRepository::new(&settings.hub_cache, id);
    let mut wanted_files = Vec::new();
    let mut planned = Vec::new();
    for name in chosen {
        let listed = files
            .iter()
            .find(|file| file.path == name)
            .expect("the choice is of these files");
        let listed = match listed.etag {
            Some(_) => listed.clone(),
            None => listing::details(
                client,
                &Subject {
                    file: Some(name),
                    ..subject
                },
                &commit,
                progress,
            )?,
        };
        let cached = is_there(&repository.snapshot(&commit).join(name), &listed)
            || listed
                .etag
                .as_ref()
                .is_some_and(|etag| is_there(&repository.blob(etag), &listed));
        planned.push(PlannedFile {
            name: name.to_owned(),
            bytes: listed.expected.size,
            cached,
        });
        wanted_files.push(listed);
    }
    let page = page(settings, wanted);
    let licence = known_licence(wanted.name).or_else(|| {
        let commercial = allows_commercial_use(licence.as_deref()?);
        Some(Licence {
            name: licence?,
            commercial,
            page: page.clone(),
        })
    });
    Ok(Plan {
        name: wanted.name.clone(),
        source: page,
        commit: Some(commit),
        licence,
        files: planned,
        notes: Vec::new(),
        step: Step::Repository {
            id: id.clone(),
            revision: wanted.revision().to_owned(),
            files: wanted_files,
        },
    })
}

/// Whether a file is there with the size that was announced.
fn is_there(path: &Path, listed: &ListedFile) -> bool {
    let size = fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|there| there.len());
    size.is_some() && (listed.expected.size.is_none() || listed.expected.size == size)
}

/// Downloads the files of a repository that the cache lacks, and returns the snapshot's folder.
pub(crate) fn download(
    client: &Client,
    settings: &Settings,
    (id, revision, commit): (&str, &str, &str),
    files: &[ListedFile],
    progress: &mut dyn Progress,
) -> Result<PathBuf, HubError> {
    let token_hint = settings.token_hint();
    let repository = CachedRepository::new(&settings.hub_cache, id);
    let snapshot = repository.snapshot(commit);
    fs::create_dir_all(&snapshot).map_err(|source| HubError::io("create", &snapshot, source))?;
    repository.mark();
    repository.write_ref(revision, commit)?;
    for file in files {
        let etag = file
            .etag
            .as_deref()
            .expect("a plan has the hash of each of its files");
        let path = snapshot.join(&file.path);
        if is_there(&path, file) {
            continue;
        }
        let blob = repository.blob(etag);
        if !is_there(&blob, file) && fs::symlink_metadata(&blob).is_ok() {
            // Another size than its name promises, or a link to nothing.
            fs::remove_file(&blob).map_err(|source| HubError::io("delete", &blob, source))?;
        }
        let address = listing::file_address(client, id, commit, &file.path);
        let subject = Subject {
            repository: id,
            revision,
            file: Some(&file.path),
            token_hint: &token_hint,
        };
        let (expected, lock) = (file.expected.clone(), repository.lock(etag));
        let target = Target {
            name: &file.path,
            address,
            expected,
            destination: blob,
            lock,
        };
        download::download(client, &target, progress)
            // A gated repository has a public listing, and refuses only its files.
            .map_err(|error| listing::explained(client, error, &subject))?;
        if fs::symlink_metadata(&path).is_ok() && !is_there(&path, file) {
            fs::remove_file(&path).map_err(|source| HubError::io("delete", &path, source))?;
        }
        repository.link(commit, &file.path, etag)?;
    }
    let names: Vec<String> = repository.files(commit);
    if let Some(shard) = missing_shard(&snapshot, &names) {
        let needs = format!("`{shard}`, which `{}` names", choice::INDEX);
        return Err(HubError::NoWeights {
            repository: id.to_owned(),
            needs,
            has: "other files only".to_owned(),
        });
    }
    repository.write_whole(
        commit,
        &files
            .iter()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>(),
    );
    Ok(snapshot)
}

/// A file of weights that the index names and the snapshot lacks.
fn missing_shard(snapshot: &Path, files: &[String]) -> Option<String> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if !has(choice::INDEX) || has("model.safetensors") || has("open_clip_model.safetensors") {
        return None;
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(snapshot.join(choice::INDEX)).ok()?).ok()?;
    let shards = index["weight_map"]
        .as_object()?
        .values()
        .filter_map(serde_json::Value::as_str);
    shards
        .into_iter()
        .find(|shard| !has(shard))
        .map(crate::error::printable)
}
