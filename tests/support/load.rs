//! Callers that ask one after the other until they are told to stop, and what came of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::Method;
use tokio::task::JoinSet;

use super::{caller, roles::Role, wait::eventually};

/// A load that runs.
pub struct Load {
    callers: JoinSet<()>,
    stop: Arc<AtomicBool>,
    outcomes: Arc<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    asked: AtomicUsize,
    answered: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
}

/// A request that was not answered with 200.
#[derive(Debug, Clone)]
pub struct Failed {
    pub method: Method,
    /// The status, and the code of an error; or what the caller's connection said.
    pub what: String,
}

impl Load {
    /// `callers` callers that GET and POST in turn.
    pub async fn start(client: &Role, callers: usize) -> Load {
        Load::start_at(client, callers, None).await
    }

    /// The same for one host.
    pub async fn start_at(client: &Role, callers: usize, host: Option<&'static str>) -> Load {
        let url = client.url("/load").await;
        let (stop, outcomes) = (Arc::new(AtomicBool::new(false)), Arc::new(Outcomes::default()));
        let mut set = JoinSet::new();
        for number in 0..callers {
            let (url, stop, outcomes) = (url.clone(), Arc::clone(&stop), Arc::clone(&outcomes));
            set.spawn(async move {
                let http = caller::http();
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    let method = if turn % 2 == 0 { Method::GET } else { Method::POST };
                    turn += 1;
                    outcomes.asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(what) = ask(&http, &method, &url, host).await {
                        outcomes.failed.lock().unwrap().push(Failed { method, what });
                    }
                    outcomes.answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Load { callers: set, stop, outcomes }
    }

    /// Waits until so many more requests have been answered, one way or the other.
    pub async fn goes_on(&self, requests: usize) {
        let goal = self.outcomes.answered.load(Ordering::Relaxed) + requests;
        eventually("the load goes on", || self.outcomes.answered.load(Ordering::Relaxed) >= goal).await;
    }

    /// Lets every caller have its last answer; how many were asked, and which failed.
    pub async fn end(mut self) -> (usize, Vec<Failed>) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        let failed = self.outcomes.failed.lock().unwrap().clone();
        (self.outcomes.asked.load(Ordering::Relaxed), failed)
    }
}

/// What failed and how often, for a message.
pub fn counted(failed: &[Failed]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for failed in failed {
        *counts.entry(format!("{} {}", failed.method, failed.what)).or_default() += 1;
    }
    counts
}

async fn ask(http: &reqwest::Client, method: &Method, url: &str, host: Option<&str>) -> Result<(), String> {
    let request = http.request(method.clone(), url).body(if *method == Method::POST { "data" } else { "" });
    let request = match host {
        Some(host) => request.header("host", host),
        None => request,
    };
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if status == 200 {
        return Ok(());
    }
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Err(format!("{status} {}", problem["code"].as_str().unwrap_or(&text)))
}
