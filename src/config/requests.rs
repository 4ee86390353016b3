//! The requests that lines on a socket may name: a TOML file of `[request.NAME]` tables, checked whole. `reading`
//! is what each key may say, `template` the URL.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, Method, StatusCode};

use super::Origin;
use crate::wire::{Headers, Name};

mod reading;
pub mod template;

pub use reading::MAX_TIMEOUT;
use template::Template;

/// All requests of a file.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    all: BTreeMap<String, Arc<Definition>>,
    /// Other files that it depends on.
    files: Vec<PathBuf>,
}

/// One named request.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Who is asked.
    pub to: To,
    /// The method.
    pub method: Method,
    /// The path and query.
    pub url: Template,
    /// The statuses that are ok.
    pub expect: Vec<Expected>,
    /// Headers that it always has, its credentials among them.
    pub headers: Headers,
    /// Headers that a line may set.
    pub allow_headers: Vec<HeaderName>,
    /// What becomes of a line's data.
    pub body: BodyKind,
    /// How the response is told.
    pub response: ResponseKind,
    /// How long it may take.
    pub timeout: Duration,
    /// How long a line may let it take, if a line may say that.
    pub max_timeout: Option<Duration>,
    /// Bytes of a response at most, where it is not the socket's own limit.
    pub max_response: Option<usize>,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// A server, straight.
    Url(Box<Origin>),
    /// An upstream, over NATS.
    Upstream(Name),
}

/// Statuses that are ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This one.
    Status(u16),
    /// Those that begin with this digit.
    Class(u16),
}

/// What becomes of a line's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There must be none.
    None,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// JSON as it is.
    Json,
    /// A text, or bytes.
    Raw,
}

/// How a response is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    /// As JSON where its `Content-Type` says that, else as a text.
    Auto,
    /// As the JSON that it is.
    Json,
    /// As a text.
    Text,
    /// As `{"base64":"…"}`.
    Binary,
}

/// All that is wrong with a file of requests.
#[derive(Debug, thiserror::Error)]
#[error("the requests file {path} is not right:\n  {}", all.join("\n  "))]
pub struct Mistakes {
    path: String,
    /// Each mistake.
    pub all: Vec<String>,
}

impl Mistakes {
    /// Mistakes of the file at `path`.
    pub fn new(path: &Path, all: Vec<String>) -> Self {
        Mistakes { path: path.display().to_string(), all }
    }
}

impl Requests {
    /// Reads a file, and what it names.
    ///
    /// # Errors
    /// All mistakes.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let wrong = |all| Mistakes::new(path, all);
        let text = std::fs::read_to_string(path).map_err(|error| wrong(vec![error.to_string()]))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        reading::read(&text, &Machine { folder }).map_err(wrong)
    }

    /// The request called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Definition>> {
        self.all.get(name)
    }

    /// Every request.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether any goes over NATS.
    pub fn need_nats(&self) -> bool {
        self.iter().any(|definition| matches!(definition.to, To::Upstream(_)))
    }

    /// The files that it was made of besides its own.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl Definition {
    /// Whether `status` is one that was expected.
    pub fn expects(&self, status: StatusCode) -> bool {
        self.expect.iter().any(|expected| match expected {
            Expected::Status(one) => *one == status.as_u16(),
            Expected::Class(class) => *class == status.as_u16() / 100,
        })
    }
}

/// Where secrets come from.
trait Secrets {
    /// Where a path of the file leads.
    fn locate(&self, path: &str) -> PathBuf;
    /// The text of a file.
    fn file(&self, path: &Path) -> Result<String, String>;
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// This machine, seen from the file's folder.
struct Machine {
    folder: PathBuf,
}

impl Secrets for Machine {
    fn locate(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[cfg(test)]
mod tests;
