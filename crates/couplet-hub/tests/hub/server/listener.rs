//! A server in threads of the test.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use couplet_hub::{Environment, Hub, Settings};

use super::http;
use super::message::{Reaction, Request};
use super::state::State;

pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
    pub folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || http::serve(stream, &state, port));
            }
        });
        Self {
            port,
            state,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn add(&self, repository: &str, files: &[(&str, &[u8])]) {
        let files = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
            .collect();
        self.state()
            .repositories
            .insert(repository.to_owned(), files);
    }

    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Reaction> + Send + 'static) {
        self.state().rules.push(Box::new(rule));
    }

    pub fn clear_rules(&self) {
        self.state().rules.clear();
    }

    /// `METHOD PATH` of all requests since the last call.
    pub fn log(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.state().requests);
        requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    pub fn hub_cache(&self) -> std::path::PathBuf {
        self.folder.path().join("home/.cache/huggingface/hub")
    }

    pub fn repository_folder(&self, id: &str) -> std::path::PathBuf {
        self.hub_cache()
            .join(format!("models--{}", id.replace('/', "--")))
    }

    /// Settings of this server, with little patience, and with more variables.
    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let mut variables: HashMap<String, String> = HashMap::new();
        variables.insert(
            "HOME".into(),
            self.folder.path().join("home").display().to_string(),
        );
        variables.insert("HF_ENDPOINT".into(), self.url());
        for (name, value) in more {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        let environment = Environment::new(move |variable| variables.get(variable).cloned());
        let mut settings = Settings::from_environment(&environment).unwrap();
        settings.patience.first_pause = Duration::from_millis(1);
        settings.patience.longest_pause = Duration::from_millis(4);
        settings.patience.stall = Duration::from_secs(2);
        settings
    }

    pub fn hub(&self, more: &[(&str, &str)]) -> Hub {
        Hub::new(self.settings(more)).unwrap()
    }
}
