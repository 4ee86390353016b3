"""relay beside its peers: starts every system, measures them in interleaved rounds, prints tables and verdicts.

# Layout

options     the command line
tools       where the programs come from, and facts about this machine
processes   start, watch and stop; the temporary folder and the ports
systems     how each system is started in front of the origin
load        one measurement
rounds      the matrix and its medians
open_requests, slow_origin, open_client
            memory with 10,000 requests open
routing     what routes cost
streams     WebSockets, event streams and gRPC; the origin and the load of all that is streamed
bulk        large bodies, and small requests beside them
cache       hits of the shared cache
jobs        requests that are answered later, and forward chains
growth, surroundings, idle_client
            what a request costs as there is more around it
starting    from a start to the first answer
report, stream_report
            the tables
verdict     the targets
"""

import contextlib
import json
import pathlib
import shutil
import signal
import sys

import bulk
import cache
import growth
import jobs
import open_requests
import options
import report
import rounds
import routing
import starting
import stream_report
import streams
import surroundings
import systems
import tools
import verdict
from processes import Failed, Processes, tell

# How each is shown, in the order of the tables, and the program it needs besides ours.
SHOWN = {"direct": "direct", "nginx": "nginx x2", "haproxy": "haproxy x2", "rathole": "rathole", "piko": "piko",
         "chisel": "chisel", "floor": rounds.FloorRunner.name, "relay": "relay"}
PROGRAMS = ("wrk", "nginx", "haproxy", "rathole", "piko", "chisel", "nats-server")
PEERS = {"direct": systems.start_direct, "nginx": systems.start_nginx_pair, "haproxy": systems.start_haproxy_pair,
         "rathole": systems.start_rathole, "piko": systems.start_piko, "chisel": systems.start_chisel}
# What is measured by itself, one after the other, and how it is shown.
TEXTS = {"routes": routing.as_text, "cache": report.cache, "jobs": jobs.as_text, "start": starting.as_text,
         "growth": growth.as_text}


def main():
    asked = options.parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped"))
    open_requests.raise_file_limit()
    try:
        with Processes() as ours:
            run = measure(asked, ours)
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit("bench: stopped")
    print(text(run))
    if asked.json:
        pathlib.Path(asked.json).write_text(json.dumps(for_machines(run), indent=2) + "\n")
    return 1 if any_errors(run) else 0


def measure(asked, ours):
    """Everything one run saw."""
    wrk = tools.find("wrk")
    facts = {"machine": tools.machine(), "rounds": asked.rounds, "seconds": asked.seconds, "unavailable": {}}
    tell_duration(asked)
    results = rounds.run(lambda: started(asked, ours, wrk, facts["unavailable"]), asked.rounds, asked.seconds)
    medians = rounds.medians(results)
    opened = part("open", asked, lambda relay: open_requests.run(ours, relay, asked.open_requests))
    streamed = measure_streams(asked, ours)
    seen = {
        "routes": part("routes", asked, lambda relay: measure_routes(asked, ours, relay)),
        "cache": part("cache", asked, lambda relay: cache.run(ours, relay, asked.rounds, asked.seconds)),
        "jobs": part("jobs", asked, lambda relay: jobs.run(ours, relay, asked.seconds * asked.rounds)),
        "start": part("start", asked, lambda relay: starting.run(ours, relay)),
        "growth": part("growth", asked, lambda relay: measure_growth(asked, ours, wrk, relay)),
    }
    facts["versions"] = versions(asked)
    run = {"facts": facts, "results": results, "medians": medians, "open": opened, "streams": streamed, **seen}
    return {**run, "targets": verdict.targets(run)}


def part(name, asked, measurement):
    """What one part saw; nothing when nobody asked for it, and why when it could not be measured."""
    if name not in asked.only:
        return {}
    try:
        return measurement(relay_binary(asked))
    except (Failed, OSError) as failure:
        return {"failed": str(failure)}


@contextlib.contextmanager
def started(asked, ours, wrk, unavailable):
    """All systems, until they have been measured."""
    before = ours.count()
    try:
        yield start_all(asked, ours, wrk, unavailable)
    finally:
        ours.stop_from(before)


def start_all(asked, ours, wrk, unavailable):
    wanted = wanted_systems(asked)
    origin = systems.start_origin(ours) if any(key != "floor" for key in wanted) else None
    runners = []
    for key in wanted:
        before = ours.count()
        try:
            runners.append(start_one(key, asked, ours, wrk, origin))
        except tools.Missing as missing:
            unavailable[SHOWN[key]] = str(missing)
        except Failed as failure:
            ours.stop_from(before)
            runners.append(rounds.BrokenRunner(SHOWN[key], str(failure)))
    return runners


def wanted_systems(asked):
    return [key for key in SHOWN if key in asked.only]


def start_one(key, asked, ours, wrk, origin):
    tell(f"starting {SHOWN[key]}")
    if key == "floor":
        port = ours.free_port()
        binary = asked.floor or tools.build("--bench", "floor")
        return rounds.FloorRunner(ours, binary, systems.start_nats(ours, port), f"nats://127.0.0.1:{port}")
    if key == "relay":
        system = systems.start_relay(ours, origin.port, relay_binary(asked))
    else:
        system = PEERS[key](ours, origin.port)
    return rounds.HttpRunner(ours, wrk, system)


def measure_streams(asked, ours):
    wanted = [part for part in streams.PARTS if part in asked.only]
    if not wanted:
        return {}
    load = asked.streams or tools.build("--bench", "streams")
    bench = streams.Bench(ours, load, relay_binary(asked), asked.rounds, asked.seconds)
    try:
        return streams.run(bench, wanted)
    except Failed as failure:
        return {part: {"failed": str(failure)} for part in wanted}


def measure_routes(asked, ours, relay):
    return routing.run(ours, relay, routes_binary(asked), asked.rounds, asked.seconds)


def measure_growth(asked, ours, wrk, relay):
    origin = systems.start_origin(ours)
    bench = surroundings.Bench(ours, relay, routes_binary(asked), wrk, origin.port, asked.rounds, asked.seconds)
    return growth.run(bench)


def routes_binary(asked):
    return asked.routes or tools.build("--bench", "routes")


def relay_binary(asked):
    return asked.relay or tools.build("--bin", "relay")


def tell_duration(asked):
    wanted = wanted_systems(asked)
    floor = "floor" in wanted
    seconds = rounds.seconds_needed(len(wanted) - floor, floor, asked.rounds, asked.seconds)
    if wanted:
        tell(f"measuring {', '.join(SHOWN[key] for key in wanted)}: about {seconds / 60:.1f} minutes")


def versions(asked):
    """Of every program that is here; the one of relay only if there is one to measure."""
    paths = {name: shutil.which(name, path=tools.SEARCH) for name in PROGRAMS}
    try:
        paths["relay"] = relay_binary(asked) if {"relay", *options.PARTS} & set(asked.only) else None
    except Failed:
        pass
    return {name: tools.version(name, path) for name, path in paths.items() if path}


def text(run):
    medians, facts = run["medians"], run["facts"]
    parts = [report.machine_text(facts), report.tables(medians, facts["unavailable"])]
    if "relay" in medians:
        parts += [report.cpu_by_process(medians["relay"]), report.rate_ratios(medians)]
    if run["open"]:
        parts.append(report.open_requests(run["open"]))
    parts += stream_report.sections(run["streams"])
    for name, show in TEXTS.items():
        if run[name]:
            failed = run[name].get("failed")
            parts.append(f"{name}: FAILED: {failed}" if failed else show(run[name]))
    parts += [verdict.as_text(run["targets"]), report.others(medians)]
    return "\n\n".join(part for part in parts if part)


def for_machines(run):
    """The run as JSON: every measurement, the medians and the verdicts; a cell is named `200 B, 64`."""
    named = {key: {name: {f"{body}, {connections}": seen for (body, connections), seen in cells.items()}
                   for name, cells in run[key].items()} for key in ("results", "medians")}
    targets = [{"target": target.text, "value": target.value, "limit": target.limit,
                "at_least": target.at_least, "verdict": target.verdict}
               for target in run["targets"]]
    return {"facts": run["facts"], **named, "open": run["open"], "streams": named_cells(run["streams"]),
            **{name: named_cells(run[name]) for name in TEXTS},
            "targets": targets}


def named_cells(seen):
    """The same with texts for keys: a cell of bulk is named `down, 8`."""
    if not isinstance(seen, dict):
        return seen
    return {", ".join(map(str, key)) if isinstance(key, tuple) else str(key): named_cells(value)
            for key, value in seen.items()}


def any_errors(run):
    streamed = run["streams"]
    parts = [*streamed.values(), *(run[name] for name in TEXTS)]
    return (report.any_errors(run["medians"], run["open"]) or any("failed" in seen for seen in parts)
            or cache.failed(run["cache"]) or jobs.lost(run["jobs"]) or growth.failed(run["growth"])
            or bulk.failed(streamed.get("bulk", {})) or streams.calls_failed(streamed.get("grpc", {})))


if __name__ == "__main__":
    sys.exit(main())
