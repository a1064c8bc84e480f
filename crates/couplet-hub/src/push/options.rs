//! What a push is told, and what it tells.

/// How a folder is uploaded.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// Create the repository as a private one, if it does not exist yet. Otherwise the hub's default holds.
    pub private: bool,
    /// The branch that gets the commit.
    pub revision: String,
    /// The commit's first line.
    pub message: String,
    /// The rest of the commit's message; may be empty.
    pub description: String,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            private: false,
            revision: "main".to_owned(),
            message: "Upload model with Couplet".to_owned(),
            description: String::new(),
        }
    }
}

/// What a push did.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The commit's page.
    pub url: String,
    /// The commit; the branch's last one if nothing was new.
    pub commit: String,
    /// Files of the commit.
    pub uploaded: Vec<String>,
    /// Files that the hub had already.
    pub unchanged: Vec<String>,
    /// Files that the repository's `.gitignore` leaves out.
    pub ignored: Vec<String>,
}
