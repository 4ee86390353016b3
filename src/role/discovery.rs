//! Service discovery for Prometheus: every process tells where its metrics are, and any of them tells of all.
//! The format is that of `http_sd_configs`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::Serialize;

use super::ps::{self, QUESTION};
use crate::bus::Bus;

#[derive(Debug, Serialize)]
struct Target {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

/// Where the admin listener at `address` is found from elsewhere, as `host:port`.
pub fn found_at(address: SocketAddr, host: Option<&str>) -> String {
    let own_name = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = name.or_else(|| std::env::var("HOSTNAME").ok());
        name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let host = match host {
        Some(host) => Some(host.to_owned()),
        None if address.ip().is_unspecified() => own_name(),
        None => None,
    };
    match host {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    }
}

/// Every process that has an admin listener, as JSON; none while NATS is away.
///
/// # Errors
/// Why the others can't be asked: NATS permissions may not let this process.
pub async fn targets(bus: &Bus) -> Result<String, String> {
    let asked = bus.unless_denied(&[QUESTION.to_owned()], ps::ask(bus, WAIT)).await;
    let rows = match asked {
        Err(denied) => {
            return Err(format!(
                "{denied} to this process: get /sd from one that may ask, as a broker may\n"
            ));
        }
        Ok(Err(_)) if !bus.is_connected() => Vec::new(),
        Ok(Err(error)) => return Err(format!("{error:#}\n")),
        Ok(Ok(rows)) => rows,
    };
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for row in rows {
        let Some(admin) = row.report.admin else { continue };
        let target = targets.entry(row.process.clone()).or_insert_with(|| Target {
            targets: [admin],
            labels: BTreeMap::from([
                ("__meta_relay_role", row.report.role),
                ("__meta_relay_process", row.process),
                ("__meta_relay_version", row.version),
            ]),
        });
        // A process answers once for each upstream that it serves.
        if let Some(upstream) = row.report.upstream {
            let upstreams = target.labels.entry("__meta_relay_upstream").or_default();
            upstreams.push_str(if upstreams.is_empty() { "" } else { "," });
            upstreams.push_str(&upstream);
        }
    }
    // A list of texts; it can always be written.
    Ok(serde_json::to_string(&targets.into_values().collect::<Vec<_>>()).unwrap_or_default())
}

/// How long nobody may answer until all have.
const WAIT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_found_by_its_address_or_by_the_name_it_is_given() {
        let address = "127.0.0.1:9180".parse().unwrap();
        assert_eq!(found_at(address, None), "127.0.0.1:9180");
        assert_eq!(found_at(address, Some("relay-1")), "relay-1:9180");
        assert_eq!(found_at("[::1]:9180".parse().unwrap(), None), "[::1]:9180");
        let everywhere = found_at("0.0.0.0:9180".parse().unwrap(), None);
        assert!(everywhere.ends_with(":9180") && !everywhere.is_empty(), "{everywhere}");
    }
}
