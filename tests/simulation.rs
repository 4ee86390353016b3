//! The decisions of client agents, upstream agents and brokers under everything that can go wrong between
//! them: their machines are joined by a bus that delays, reorders and loses, and any process may be cut
//! off, stopped, killed, drained and replaced, all under a printed seed.
//!
//! What holds in every run is checked as it goes: each caller gets one answer, within the TTL; a request
//! that may not run twice is never started twice; whoever is told that no origin saw the request is told
//! the truth; no limit is exceeded; nothing is left when all is over. Each scenario adds what must hold in its own
//! circumstances. `simulation/runner.rs` says how to repeat a run.

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/bus.rs"]
mod bus;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/jobs.rs"]
mod jobs;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/meetings.rs"]
mod meetings;
#[path = "simulation/origin.rs"]
mod origin;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/routes.rs"]
mod routes;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/streams.rs"]
mod streams;
#[path = "simulation/world.rs"]
mod world;

use std::time::Duration;

use bus::Weather;
use ledger::Asked;
use origin::Temper;
use plan::{Fault, MS, Plan, SECOND};
use process::Kind;
use relay::wire::Code;
use runner::Scenario;
use world::{World, micros};

#[test]
fn every_request_gets_exactly_one_answer_under_loss_crash_partition_and_pause() {
    Scenario {
        name: "every_request_gets_exactly_one_answer_under_loss_crash_partition_and_pause",
        runs: 1500,
        plan: |chance| {
            let counts = [(1, 3), (1, 2), (0, 3), (0, 3)].map(|(low, high)| chance.count(low, high));
            let [clients, upstreams, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, upstreams, agents, brokers);
            plan.weather = Weather::rough(chance);
            plan.temper = Temper {
                refuses: 50,
                breaks: 30,
                hangs: 50,
                takes: vec![(0, 3 * MS), (0, 400 * MS), (0, 3 * SECOND)],
            };
            plan.settings.agent.max_in_flight = chance.pick(&[1, 3, 1000]);
            plan.settings.broker.max_holds = chance.pick(&[2, 1000]);
            plan.settings.client.max_in_flight = chance.pick(&[4, 1000]);
            let asks = chance.between(3, 16);
            plan.ask(chance, asks, 0, 3 * SECOND);
            plan.some_leave(chance, 100);
            for _ in 0..chance.between(0, 6) {
                plan.any_fault(chance);
            }
            if chance.per_mille(150) {
                let when = chance.between(500 * MS, 3 * SECOND);
                plan.nats_restarts(chance, when);
            }
            plan
        },
        expect: |_| Ok(()),
    }
    .check();
}

#[test]
fn without_faults_every_request_gets_the_origins_response() {
    Scenario {
        name: "without_faults_every_request_gets_the_origins_response",
        runs: 300,
        plan: |chance| {
            let counts = [(1, 3), (1, 2), (1, 3), (0, 3)].map(|(low, high)| chance.count(low, high));
            let [clients, upstreams, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, upstreams, agents, brokers);
            let asks = chance.between(3, 20);
            plan.ask(chance, asks, 500 * MS, 2 * SECOND);
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn agents_at_their_limit_come_and_go_and_every_request_is_answered_by_one() {
    Scenario {
        name: "agents_at_their_limit_come_and_go_and_every_request_is_answered_by_one",
        runs: 300,
        plan: |chance| {
            let counts = [(1, 3), (1, 3), (1, 3)].map(|(low, high)| chance.count(low, high));
            let [clients, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
            plan.settings.agent.max_in_flight = chance.count(1, 5);
            plan.settings.broker.wait = Duration::from_secs(8);
            plan.settings.broker.ack_wait = Duration::from_secs(1);
            plan.settings.client.ttl = Duration::from_secs(12);
            plan.temper.takes = vec![(0, 100 * MS)];
            let asks = chance.between(5, 30);
            plan.ask(chance, asks, 500 * MS, SECOND);
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn an_agent_at_its_limit_beside_one_with_room_costs_no_request_without_a_broker() {
    Scenario {
        name: "an_agent_at_its_limit_beside_one_with_room_costs_no_request_without_a_broker",
        runs: 200,
        plan: |chance| {
            let mut plan = Plan::draw(chance, 2, 1, 2, 0);
            // Nothing ends before all are there: one agent is full, the other has as much room as is asked for.
            plan.settings.agent.max_in_flight = 10;
            plan.settings.agent.ttl = Duration::from_secs(6);
            plan.settings.client.ttl = Duration::from_secs(12);
            plan.temper.takes = vec![(2 * SECOND, 3 * SECOND)];
            // After a heartbeat everybody has heard of everybody.
            plan.ask(chance, 18, 6 * SECOND, 6 * SECOND + 500 * MS);
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn an_agent_that_dies_costs_no_more_than_a_502_for_what_it_took() {
    Scenario {
        name: "an_agent_that_dies_costs_no_more_than_a_502_for_what_it_took",
        runs: 300,
        plan: |chance| {
            let counts = [(1, 3), (2, 4), (1, 3)].map(|(low, high)| chance.count(low, high));
            let [clients, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
            plan.weather.tapped = chance.per_mille(250);
            plan.settings.agent.ttl = Duration::from_secs(4);
            plan.settings.broker.response_wait = Duration::from_secs(10);
            plan.settings.client.ttl = Duration::from_secs(15);
            plan.temper.takes.push((0, 2 * SECOND));
            let asks = chance.between(5, 20);
            plan.ask(chance, asks, 500 * MS, 2 * SECOND);
            for process in plan.agents() {
                if chance.per_mille(600) {
                    let noticed = chance.pick(&[0, 5 * MS]);
                    let replaced = Some(chance.between(0, 500 * MS));
                    let fault = Fault::Crash { process, noticed, replaced };
                    plan.faults.push((chance.between(500 * MS, 2500 * MS), fault));
                }
            }
            plan
        },
        expect: |world| {
            all(world, "the response, or 502, or 504 when the dead agent had not acknowledged", |asked| {
                let had = |process| asked.routed.iter().any(|(_, agent)| *agent == process);
                let deaths = world.plan.faults.iter().filter_map(|(when, fault)| match fault {
                    Fault::Crash { process, .. } if had(*process) => Some(*when),
                    _ => None,
                });
                let died = deaths.max();
                let soon = asked.opened.max(died).map(|since| since + 2 * SECOND);
                match asked.code() {
                    None => true,
                    // Not when the TTL ends; a watcher hears the probes, and then it takes several.
                    Some(Code::AgentGone) => {
                        died.is_some() && (asked.answered() < soon || world.plan.weather.tapped)
                    }
                    // Somebody who watches everything swallows what is sent where nobody is any more.
                    Some(Code::AckTimeout) => died.is_some() || world.plan.weather.tapped,
                    Some(_) => false,
                }
            })
        },
    }
    .check();
}

#[test]
fn agents_that_die_or_are_cut_off_at_their_limit_mislead_nobody() {
    Scenario {
        name: "agents_that_die_or_are_cut_off_at_their_limit_mislead_nobody",
        runs: 400,
        plan: |chance| {
            let counts = [(1, 2), (1, 4), (1, 3)].map(|(low, high)| chance.count(low, high));
            let [clients, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
            plan.weather.tapped = chance.per_mille(250);
            plan.settings.agent.max_in_flight = chance.count(1, 3);
            plan.temper =
                Temper { refuses: 200, breaks: 0, hangs: 50, takes: vec![(0, 20 * MS), (0, 2 * SECOND)] };
            let asks = chance.between(5, 20);
            plan.ask(chance, asks, 500 * MS, 2 * SECOND);
            for process in plan.agents() {
                for _ in 0..chance.between(0, 2) {
                    let crash = Fault::crash(chance, process);
                    let cut = Fault::cut(chance, process);
                    let fault = chance.pick(&[crash, cut.clone(), cut]);
                    plan.faults.push((chance.between(500 * MS, 3 * SECOND), fault));
                }
            }
            plan
        },
        expect: |_| Ok(()),
    }
    .check();
}

#[test]
fn a_rolling_restart_of_all_agents_fails_no_request() {
    Scenario {
        name: "a_rolling_restart_of_all_agents_fails_no_request",
        runs: 300,
        plan: |chance| {
            let counts = [(1, 3), (2, 4), (0, 2)].map(|(low, high)| chance.count(low, high));
            let [clients, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
            // In a cluster, a server that has not heard of the leaving yet may still send to an agent
            // that has left: NATS does not promise otherwise.
            plan.weather.cluster = None;
            let asks = chance.between(10, 40);
            plan.ask(chance, asks, 500 * MS, 3 * SECOND);
            let mut when = 600 * MS;
            for process in plan.agents() {
                plan.faults.push((when, Fault::Start { kind: Kind::Agent(0) }));
                plan.faults.push((when + 300 * MS, Fault::Drain { process }));
                when += 500 * MS;
            }
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn a_request_that_nobody_has_is_answered_by_an_agent_that_comes_within_the_wait() {
    Scenario {
        name: "a_request_that_nobody_has_is_answered_by_an_agent_that_comes_within_the_wait",
        runs: 200,
        plan: |chance| {
            let mut plan = Plan::late_agents(chance, 1, 0);
            let asks = chance.between(1, 20);
            plan.ask(chance, asks, 200 * MS, 900 * MS);
            plan
        },
        expect: |world| {
            let processes = &world.plan.processes;
            let came = world.plan.agents().iter().map(|&at| processes[at].0).min();
            all(world, "the origin's response, soon after the agent came", |asked| {
                asked.has_response() && asked.answered() < came.map(|came| came + 700 * MS)
            })
        },
    }
    .check();
}

#[test]
fn somebody_who_watches_all_traffic_changes_no_answer() {
    Scenario {
        name: "somebody_who_watches_all_traffic_changes_no_answer",
        runs: 200,
        plan: |chance| {
            let mut plan = Plan::late_agents(chance, 2, 0);
            plan.weather.tapped = true;
            plan.settings.broker.wait = Duration::from_secs(10);
            plan.settings.client.ttl = Duration::from_secs(15);
            let asks = chance.between(1, 20);
            plan.ask(chance, asks, 200 * MS, 600 * MS);
            for process in plan.brokers().into_iter().skip(1) {
                let fault = Fault::Crash { process, noticed: 0, replaced: None };
                plan.faults.push((chance.between(200 * MS, 1500 * MS), fault));
            }
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn brokers_that_die_while_they_hold_requests_are_replaced_by_others() {
    Scenario {
        name: "brokers_that_die_while_they_hold_requests_are_replaced_by_others",
        runs: 200,
        plan: |chance| {
            let mut plan = Plan::late_agents(chance, 2, 0);
            let asks = chance.between(1, 20);
            plan.ask(chance, asks, 200 * MS, 600 * MS);
            // One stays: somebody must be there to take over.
            for process in plan.brokers().into_iter().skip(1) {
                let noticed = chance.pick(&[0, 5 * MS]);
                let fault = Fault::Crash { process, noticed, replaced: None };
                plan.faults.push((chance.between(200 * MS, 1500 * MS), fault));
            }
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn messages_that_are_seconds_late_only_delay_the_answer() {
    Scenario {
        name: "messages_that_are_seconds_late_only_delay_the_answer",
        runs: 200,
        plan: |chance| {
            let mut plan = Plan::late_agents(chance, 1, 10 * SECOND);
            plan.weather.stalls = (chance.between(50, 300), 2 * SECOND);
            plan.settings.client.ttl = Duration::from_secs(28);
            plan.settings.broker.wait = Duration::from_secs(20);
            plan.settings.broker.ack_wait = Duration::from_secs(40);
            plan.settings.broker.response_wait = Duration::from_secs(40);
            plan.settings.agent.ttl = Duration::from_secs(30);
            plan.settings.client.patience = Duration::from_millis(20);
            // One has died and is still believed in: what is published reaches nobody.
            let process = plan.processes.len();
            plan.processes.push((0, Kind::Agent(0)));
            plan.faults.push((4500 * MS, Fault::Crash { process, noticed: 0, replaced: None }));
            plan.ask(chance, 10, 8 * SECOND, 9500 * MS);
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

#[test]
fn without_a_broker_requests_flow_and_a_missing_agent_is_told_at_once() {
    Scenario {
        name: "without_a_broker_requests_flow_and_a_missing_agent_is_told_at_once",
        runs: 100,
        plan: |chance| {
            let mut plan = Plan::draw(chance, 2, 2, 2, 0);
            plan.processes.retain(|(_, kind)| *kind != Kind::Agent(1));
            plan.ask(chance, 20, 500 * MS, 2 * SECOND);
            plan
        },
        expect: |world| {
            all(world, "the response or, when nobody is there, 503 at once", |asked| match asked.upstream {
                0 => asked.has_response(),
                _ => asked.code() == Some(Code::NoAgent) && asked.waited() < Some(500 * MS),
            })
        },
    }
    .check();
}

#[test]
fn a_frozen_agent_costs_no_get_and_no_post_once_it_is_known_to_be_silent() {
    Scenario {
        name: "a_frozen_agent_costs_no_get_and_no_post_once_it_is_known_to_be_silent",
        runs: 300,
        plan: |chance| {
            let brokers = chance.count(0, 2);
            let mut plan = Plan::draw(chance, 2, 1, 3, brokers);
            plan.weather.tapped = chance.per_mille(250);
            plan.settings.client.ttl = Duration::from_secs(12);
            plan.settings.agent.ttl = Duration::from_secs(4);
            plan.settings.broker.ack_wait = Duration::from_secs(2);
            let asks = chance.between(5, 40);
            plan.ask(chance, asks, 500 * MS, 14 * SECOND);
            let process = chance.pick(&plan.agents());
            plan.faults
                .push((chance.between(500 * MS, SECOND), Fault::Pause { process, lasts: 20 * SECOND }));
            plan
        },
        expect: |world| {
            let (settings, frozen) = (&world.plan.settings, world.stopped_longest());
            let waits =
                micros(settings.client.patience + settings.broker.ack_wait + settings.broker.response_wait);
            let ttl = if world.plan.brokers().is_empty() { micros(settings.client.ttl) } else { waits };
            let froze = world.plan.faults[0].0;
            // An agent that the client agent has never heard of is not probed.
            let waited = micros(settings.client.patience + settings.broker.ack_wait) + SECOND;
            let lost = |asked: &&Asked| asked.routed.iter().any(|&(at, agent)| agent == frozen && at > froze);
            all(world, "the response, or 504 when the frozen agent had it and was not known yet", |asked| {
                let late = matches!(
                    asked.code(),
                    Some(Code::AckTimeout | Code::ResponseTimeout | Code::TtlExpired | Code::AgentGone)
                );
                let had = asked.routed.iter().any(|(_, agent)| *agent == frozen);
                let before = asked.opened.is_some_and(|opened| opened <= froze);
                let same = |other: &&Asked| other.client == asked.client && lost(other);
                // The first request that is lost tells the client agent, or else the heartbeat that stays away.
                let known = world.ledger.asked.iter().filter(same).filter_map(|other| other.opened).min();
                let known = known.map_or(froze + 9 * SECOND, |lost| lost + waited);
                let unknown = !asked.method.is_idempotent() && asked.opened <= Some(known);
                asked.has_response()
                    || (had && late && (before || unknown) && asked.waited() < Some(ttl + 500 * MS))
            })
        },
    }
    .check();
}

#[test]
fn a_caller_that_leaves_stops_its_call() {
    Scenario {
        name: "a_caller_that_leaves_stops_its_call",
        runs: 200,
        plan: |chance| {
            let brokers = chance.count(0, 2);
            let mut plan = Plan::draw(chance, 2, 1, 2, brokers);
            plan.weather.stalls = (0, 0);
            plan.temper.hangs = 500;
            plan.ask(chance, 10, 500 * MS, 2 * SECOND);
            plan.some_leave(chance, 700);
            plan
        },
        expect: |world| {
            all(world, "its call stopped", |asked| match (asked.abandoned, asked.call_ended) {
                (Some(left), Some(ended)) => ended < left + 200 * MS,
                _ => true,
            })
        },
    }
    .check();
}

#[test]
fn a_restarted_nats_server_costs_no_request_that_an_agent_has() {
    Scenario {
        name: "a_restarted_nats_server_costs_no_request_that_an_agent_has",
        runs: 300,
        plan: |chance| {
            let counts = [(1, 2), (1, 3), (1, 2)].map(|(low, high)| chance.count(low, high));
            let [clients, agents, brokers] = counts;
            let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
            plan.weather.stalls = (0, 0);
            plan.settings.client.ttl = Duration::from_secs(12);
            plan.settings.agent.ttl = Duration::from_secs(6);
            plan.settings.broker.response_wait = Duration::from_secs(8);
            plan.settings.broker.wait = Duration::from_secs(5);
            // Calls that begin, and are acknowledged, before the restart end after it.
            plan.temper.takes = vec![(2500 * MS, 3500 * MS)];
            plan.ask(chance, 5, 500 * MS, 750 * MS);
            plan.ask(chance, 5, 1001 * MS, 5 * SECOND);
            plan.nats_restarts(chance, SECOND);
            plan
        },
        expect: |world| {
            all(world, "the response, unless it came while nobody was connected", |asked| {
                let amid = asked.opened.is_some_and(|opened| (SECOND..3 * SECOND).contains(&opened));
                asked.has_response()
                    || (amid && matches!(asked.code(), Some(Code::NatsUnreachable | Code::AckTimeout)))
            })
        },
    }
    .check();
}

#[test]
fn waking_backs_off_while_an_agent_that_died_is_still_believed_in() {
    Scenario {
        name: "waking_backs_off_while_an_agent_that_died_is_still_believed_in",
        runs: 100,
        plan: |chance| {
            let brokers = chance.count(1, 2);
            let mut plan = Plan::draw(chance, 2, 1, 2, brokers);
            plan.settings.broker.wait = Duration::from_secs(5);
            plan.settings.client.ttl = Duration::from_secs(8);
            for process in plan.agents() {
                plan.faults.push((400 * MS, Fault::Crash { process, noticed: 0, replaced: None }));
            }
            plan.ask(chance, 5, 600 * MS, SECOND);
            plan
        },
        expect: |world| {
            all(world, "503 after a few publications", |asked| {
                asked.code() == Some(Code::NoAgent) && asked.sent <= 20
            })
        },
    }
    .check();
}

#[test]
fn a_reply_waits_for_a_client_agent_that_was_cut_off() {
    Scenario {
        name: "a_reply_waits_for_a_client_agent_that_was_cut_off",
        runs: 200,
        plan: |chance| {
            let brokers = chance.count(0, 2);
            let mut plan = Plan::draw(chance, 1, 1, 2, brokers);
            plan.weather.stalls = (0, 0);
            plan.settings.client.ttl = Duration::from_secs(8);
            plan.settings.agent.ttl = Duration::from_secs(6);
            plan.settings.broker.response_wait = Duration::from_secs(8);
            plan.temper.takes = vec![(700 * MS, 1000 * MS)];
            plan.ask(chance, 5, 500 * MS, 700 * MS);
            let (noticed, reconnects) = (chance.between(0, 2 * MS), chance.between(MS * 3, 4 * SECOND));
            let cut = Fault::Cut { process: 0, noticed, noticed_at_server: 0, reconnects };
            plan.faults.push((SECOND, cut));
            plan
        },
        expect: |world| all(world, "the origin's response", Asked::has_response),
    }
    .check();
}

fn all(world: &World, what: &str, holds: impl Fn(&Asked) -> bool) -> Result<(), String> {
    match world.ledger.asked.iter().position(|asked| !holds(asked)) {
        None => Ok(()),
        Some(key) => {
            let asked = &world.ledger.asked[key];
            Err(format!("request {key}, a {}, must get {what}; it got: {}", asked.method, asked.told()))
        }
    }
}
