//! `relay routes`: which routes there are, whose they are, and which claims are refused.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;

use super::{
    inquiry,
    service::{Claimed, Routes, SERVED},
};
use crate::config::Inquiry as Settings;

/// One route of one upstream, as `--json` prints it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    upstream: String,
    #[serde(flatten)]
    claimed: Claimed,
    /// The agents that claim it so.
    agents: Vec<String>,
}

/// Prints the routes.
///
/// # Errors
/// When NATS can't be reached.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let asking = inquiry::connect(&settings.operator, "relay routes").await?;
    let answers = asking.ask("$SRV.ROUTES".into(), Bytes::new(), settings.timeout).await?;
    let rows = rows(answers.iter().filter_map(|answer| serde_json::from_slice(answer).ok()));
    inquiry::print(&rows, settings.json, table)
}

fn rows(answers: impl Iterator<Item = Routes>) -> Vec<Row> {
    let mut agents: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for Routes { process, upstream, routes, .. } in answers {
        for claimed in routes {
            // What is served comes before what is not.
            let key = (claimed.route.clone(), claimed.standing != SERVED, upstream.clone(), claimed);
            agents.entry(key).or_default().insert(process.clone());
        }
    }
    let row = |((_, _, upstream, claimed), agents): (_, BTreeSet<String>)| Row {
        upstream,
        claimed,
        agents: agents.into_iter().collect(),
    };
    agents.into_iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nobody claims a route: start `relay upstream` with a route, as in --route shop.example.com\n".into();
    }
    let mut lines = vec![["ROUTE", "UPSTREAM", "AGENTS", "STRIP", ""].map(String::from)];
    for Row { upstream, claimed, agents } in rows {
        let standing = match (&claimed.why, &claimed.by) {
            (Some(why), _) => format!("refused: {why}"),
            (None, Some(by)) => format!("refused: '{by}' claimed it first"),
            (None, None) => String::new(),
        };
        let strip = if claimed.strip { "yes" } else { "-" };
        lines.push([
            claimed.route.clone(),
            upstream.clone(),
            agents.len().to_string(),
            strip.to_owned(),
            standing,
        ]);
    }
    inquiry::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_shows_its_agents_and_below_it_who_came_too_late() {
        let claimed = |standing: &str, by: Option<&str>| Claimed {
            route: "shop.example.com".into(),
            strip: false,
            standing: standing.into(),
            by: by.map(str::to_owned),
            why: None,
        };
        let answer = |process: &str, upstream: &str, claimed: Claimed| Routes {
            name: String::new(),
            id: String::new(),
            process: process.into(),
            upstream: upstream.into(),
            routes: vec![claimed],
        };
        let answers = [
            answer("agent.z", "later", claimed("taken", Some("shop"))),
            answer("agent.b", "shop", claimed(SERVED, None)),
            answer("agent.a", "shop", claimed(SERVED, None)),
        ];
        let rows = rows(answers.into_iter());
        assert_eq!(rows[0].agents, ["agent.a", "agent.b"]);
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "shop.example.com  shop      2       -");
        assert_eq!(lines[2], "shop.example.com  later     1       -      refused: 'shop' claimed it first");
    }
}
