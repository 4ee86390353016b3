//! What may be named, and the way to whoever answers it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    config::{
        Origin as Settings,
        requests::{Definition, Requests, To},
    },
    origin::Origin,
    wire::Name,
};

/// All requests, and how they are issued.
pub struct Table {
    requests: Requests,
    ways: BTreeMap<String, Way>,
    /// The servers that are called straight, by their URL: those with different certificates are different ones.
    origins: HashMap<String, Vec<(Settings, Arc<Origin>)>>,
}

/// The way to whoever answers.
#[derive(Clone)]
pub enum Way {
    /// Straight to a server.
    Straight(Arc<Origin>),
    /// Over NATS.
    Upstream(Name),
}

impl Table {
    /// The table of `requests`. Servers that were there before keep their connections.
    ///
    /// # Errors
    /// All that keeps requests from being issued.
    pub fn new(requests: Requests, before: Option<&Table>) -> Result<Self, Vec<String>> {
        let mut table =
            Table { requests: Requests::default(), ways: BTreeMap::new(), origins: HashMap::new() };
        let mut mistakes = Vec::new();
        for definition in requests.iter() {
            let way = match &definition.to {
                To::Upstream(name) => Ok(Way::Upstream(name.clone())),
                To::Url(settings) => table.origin(settings, before).map(Way::Straight),
            };
            match way {
                Ok(way) => drop(table.ways.insert(definition.name.clone(), way)),
                Err(error) => mistakes.push(format!("request.{}: {error:#}", definition.name)),
            }
        }
        table.requests = requests;
        if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
    }

    /// The requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// What is called `name`, and the way there.
    pub fn find(&self, name: &str) -> Option<(Arc<Definition>, Way)> {
        Some((Arc::clone(self.requests.get(name)?), self.ways.get(name)?.clone()))
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        self.origins.values().flatten().for_each(|(_, origin)| origin.close_idle());
    }

    fn origin(&mut self, settings: &Settings, before: Option<&Table>) -> anyhow::Result<Arc<Origin>> {
        let url = settings.to.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(origin) = self.known(&url, settings) {
            return Ok(origin);
        }
        // Files may have changed although their names have not.
        let has_files = settings.ca.is_some() || settings.cert.is_some();
        let kept = before.filter(|_| !has_files).and_then(|before| before.known(&url, settings));
        let origin = match kept {
            Some(origin) => origin,
            None => Arc::new(Origin::new(settings)?),
        };
        self.origins.entry(url).or_default().push((settings.clone(), Arc::clone(&origin)));
        Ok(origin)
    }

    fn known(&self, url: &str, settings: &Settings) -> Option<Arc<Origin>> {
        let found = self.origins.get(url)?.iter().find(|(known, _)| known == settings);
        found.map(|(_, origin)| Arc::clone(origin))
    }
}
