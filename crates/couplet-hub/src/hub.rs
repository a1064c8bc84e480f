//! From a name to weights.

use std::path::Path;

use crate::client::{Client, Interrupter};
use crate::environment::Environment;
use crate::error::HubError;
use crate::links::Link;
use crate::names::{ModelName, Repository};
use crate::plan::{Fetched, Plan, PlannedFile, Step};
use crate::pretrained::Pretrained;
use crate::progress::Progress;
use crate::push::{self, PushOptions, Pushed};
use crate::repositories::{self, Wanted};
use crate::settings::Settings;

/// Finds, downloads and uploads weights.
///
/// Weights of the table come from the link whose hash the table has, and from the Hugging Face Hub if there is no such link or
/// it does not answer. If `HF_ENDPOINT` names a hub, that hub goes before links and nothing else is asked, since other servers
/// may be out of reach there.
pub struct Hub {
    client: Client,
    settings: Settings,
}

impl Hub {
    /// A hub with these settings. Makes no request.
    ///
    /// # Errors
    ///
    /// [`HubError::Setting`] for a proxy that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, HubError> {
        Ok(Self {
            client: Client::new(&settings)?,
            settings,
        })
    }

    /// A hub as the environment describes it (see [`Settings::from_environment`]).
    ///
    /// # Errors
    ///
    /// [`HubError::Setting`] names a variable that cannot be used.
    pub fn from_environment(environment: &Environment) -> Result<Self, HubError> {
        Self::new(Settings::from_environment(environment)?)
    }

    /// The settings that it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether our caches have these weights, as far as that can be told without a request and without reading large files.
    pub fn is_cached(&self, name: &ModelName) -> bool {
        let has = |repository: &Repository| {
            repositories::cached(&self.settings, Wanted { name, repository }).is_some()
        };
        match name {
            ModelName::Repository(repository) => has(repository),
            ModelName::Pretrained(row) => {
                Link::of(row, &self.settings).is_some_and(|link| link.is_downloaded())
                    || row.repository.is_some_and(|id| {
                        has(&Repository {
                            id: id.to_owned(),
                            revision: None,
                        })
                    })
            }
        }
    }

    /// Ends all requests from another thread, such as that of a signal, even while a server keeps silent.
    pub fn interrupter(&self) -> Interrupter {
        self.client.interrupter()
    }

    /// Finds out what a download of these weights would bring: the licence, the files, and what the caches have. Asks the hub
    /// for a repository's listing unless the cache is enough; downloads nothing.
    ///
    /// # Errors
    ///
    /// Those of the hub and of the network; [`HubError::Offline`] if downloads are forbidden and the cache lacks the weights.
    pub fn plan(&self, name: &ModelName, progress: &mut dyn Progress) -> Result<Plan, HubError> {
        let row = match name {
            ModelName::Repository(repository) => {
                return self.plan_repository(name, repository, progress);
            }
            ModelName::Pretrained(row) => row,
        };
        let link = Link::of(row, &self.settings);
        if let Some(link) = &link
            && let Some(path) = link.cached(&self.settings)
        {
            let file = PlannedFile {
                name: link.file.clone(),
                bytes: Link::size(&path),
                cached: true,
            };
            return Ok(link_plan(name, row, link, file, Step::Cached(path)));
        }
        let repository = row.repository.map(|id| Repository {
            id: id.to_owned(),
            revision: None,
        });
        if let Some(repository) = &repository {
            let is_first = link.is_none()
                || (self.settings.is_endpoint_given && self.settings.mirror.is_none());
            let is_cached =
                repositories::cached(&self.settings, Wanted { name, repository }).is_some();
            if is_first || is_cached {
                return self.plan_repository(name, repository, progress);
            }
        }
        let link = link.expect("a row has a repository or a link");
        if let Some(variable) = self.settings.offline {
            let (what, cache) = (format!("`{name}`"), self.settings.link_cache.clone());
            return Err(HubError::Offline {
                what,
                variable,
                cache,
                remedy: repositories::remedy(name, variable),
            });
        }
        let file = PlannedFile {
            name: link.file.clone(),
            bytes: None,
            cached: false,
        };
        Ok(link_plan(name, row, &link, file, Step::Link))
    }

    /// Plans and downloads.
    ///
    /// # Errors
    ///
    /// As [`Hub::plan`] and [`Hub::fetch_plan`].
    pub fn fetch(
        &self,
        name: &ModelName,
        progress: &mut dyn Progress,
    ) -> Result<Fetched, HubError> {
        let plan = self.plan(name, progress)?;
        self.fetch_plan(plan, progress)
    }

    /// Downloads what a plan lacks, checks it, and says where it is.
    ///
    /// # Errors
    ///
    /// Those of the hub, the network and the disk; [`HubError::HashMismatch`] and [`HubError::SizeMismatch`] for a file that is
    /// not what was announced; [`HubError::Cancelled`], after which the next run goes on where this one stopped.
    pub fn fetch_plan(&self, plan: Plan, progress: &mut dyn Progress) -> Result<Fetched, HubError> {
        match plan.step.clone() {
            Step::Cached(path) => Ok(fetched(plan, path)),
            Step::Link => self.fetch_link(plan, progress),
            Step::Repository {
                id,
                revision,
                files,
            } => {
                let commit = plan
                    .commit
                    .clone()
                    .expect("the plan of a repository has a commit");
                let revision = (id.as_str(), revision.as_str(), commit.as_str());
                let path = repositories::download(
                    &self.client,
                    &self.settings,
                    revision,
                    &files,
                    progress,
                )?;
                Ok(fetched(plan, path))
            }
        }
    }

    /// Uploads a folder's files as one commit to a model repository, which is created if it does not exist.
    ///
    /// Files that the hub has already are not sent. The protocol is that of huggingface_hub's `upload_folder`, without its
    /// Xet storage.
    ///
    /// # Errors
    ///
    /// [`HubError::NoToken`] without a token, [`HubError::Folder`] for a folder that cannot be uploaded, and those of the hub
    /// and of the network.
    pub fn push(
        &self,
        folder: &Path,
        repository: &str,
        options: &PushOptions,
        progress: &mut dyn Progress,
    ) -> Result<Pushed, HubError> {
        push::push(
            &self.client,
            &self.settings,
            folder,
            repository,
            options,
            progress,
        )
    }

    fn plan_repository(
        &self,
        name: &ModelName,
        repository: &Repository,
        progress: &mut dyn Progress,
    ) -> Result<Plan, HubError> {
        repositories::plan(
            &self.client,
            &self.settings,
            Wanted { name, repository },
            progress,
        )
    }

    fn fetch_link(&self, plan: Plan, progress: &mut dyn Progress) -> Result<Fetched, HubError> {
        let ModelName::Pretrained(row) = plan.name else {
            unreachable!("only weights of the table have a link")
        };
        let link = Link::of(row, &self.settings).expect("the plan is of this link");
        let error = match link.download(&self.client, progress) {
            Ok(path) => return Ok(fetched(plan, path)),
            Err(error) => error,
        };
        let Some(id) = row.repository.filter(|_| error.is_outage()) else {
            return Err(error);
        };
        let repository = Repository {
            id: id.to_owned(),
            revision: None,
        };
        let other = self
            .plan_repository(&plan.name, &repository, progress)
            .and_then(|mut other| {
                other.notes.push(format!(
                    "{error}; took the weights from {} instead",
                    other.source
                ));
                self.fetch_plan(other, progress)
            });
        match other {
            Err(cancelled @ HubError::Cancelled) => Err(cancelled),
            // The first server's trouble is what to look at; the second was only a way out.
            other => other.map_err(|_| error),
        }
    }
}

fn link_plan(
    name: &ModelName,
    row: &Pretrained,
    link: &Link,
    file: PlannedFile,
    step: Step,
) -> Plan {
    Plan {
        name: name.clone(),
        source: link.address.to_string(),
        commit: None,
        licence: Some(row.licence.clone()),
        files: vec![file],
        notes: Vec::new(),
        step,
    }
}

fn fetched(plan: Plan, path: std::path::PathBuf) -> Fetched {
    let row = match plan.name {
        ModelName::Pretrained(row) => Some(row),
        ModelName::Repository(_) => None,
    };
    Fetched {
        path,
        architecture: row.map(|row| row.architecture),
        activation: row.map(|row| row.activation),
        preprocess: row.map(|row| row.preprocess.clone()),
        licence: plan.licence,
        commit: plan.commit,
        source: plan.source,
        notes: plan.notes,
    }
}
