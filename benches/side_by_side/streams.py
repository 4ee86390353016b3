"""What relay streams, each part beside what it is compared with: bulk bodies, event streams, WebSockets, gRPC.

The origin and the load are `benches/streams`. Bulk bodies, and small requests beside them, are in bulk.py.
"""

import dataclasses
import json
import statistics
import subprocess
import time

import bulk
import load
import systems
from processes import Failed, Processes, tell
from rounds import attempt, shuffled

EVENT_REQUESTS = 400
SOCKETS = 1000
# Longer than a stream may say nothing (5 s): what that costs is in the memory too.
SOCKETS_OPEN_SECONDS = 6.0
SOCKETS_PATIENCE = 30.0
CALLS = (1, 64)


@dataclasses.dataclass
class Bench:
    """What every part needs."""

    ours: Processes
    load: str
    relay: str
    rounds: int
    seconds: int
    port: int = 0
    grpc_port: int = 0

    def command(self, name, port, **settings):
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        return [self.load, name, "--port", port, *words]

    def run(self, system, name, **settings):
        """One measurement of one system: its JSON, and the CPU of its processes meanwhile."""
        seen, cpu = load.run_beside(self.ours, system.processes, self.command(name, system.port, **settings))
        load.check_alive(system.processes)
        return seen, cpu

    def start_relay(self, **settings):
        return systems.start_relay(self.ours, self.port, self.relay, **settings)


def run(bench, wanted):
    """{part: what was seen}; a part that could not be measured is {"failed": reason}."""
    start_origin(bench)
    return {part: apart(bench, PARTS[part]) for part in wanted}


def start_origin(bench):
    bench.port, bench.grpc_port = bench.ours.free_port(), bench.ours.free_port()
    command = [bench.load, "origin", "--port", bench.port, "--grpc-port", bench.grpc_port]
    origin = bench.ours.start("origin", command)
    systems.ready(systems.System("origin", bench.port, [origin]))
    systems.wait_for(lambda: systems.connects(bench.grpc_port), [origin], "the gRPC origin")


def apart(bench, part):
    """Measures a part with systems of its own, which are gone afterwards."""
    before = bench.ours.count()
    try:
        return part(bench)
    except (Failed, OSError) as failure:
        return {"failed": str(failure)}
    finally:
        bench.ours.stop_from(before)


def first_events(bench):
    """{system: p50 in microseconds of plain requests and of first events}, medians over the rounds."""
    pair = [systems.start_direct(bench.ours, bench.port), bench.start_relay()]
    results = {system.name: [] for system in pair}
    for number in range(bench.rounds):
        for system in shuffled(pair, number):
            seen, _ = bench.run(system, "events", requests=EVENT_REQUESTS)
            results[system.name].append({"plain_us": seen["plain"]["p50_us"],
                                         "first_event_us": seen["first_event"]["p50_us"]})
            tell(f"round {number + 1}/{bench.rounds}  first event  {system.name:<8} "
                 f"p50 {seen['first_event']['p50_us']:.0f} us")
    return {name: {key: statistics.median(seen[key] for seen in rounds) for key in rounds[0]}
            for name, rounds in results.items()}


def hold_sockets(bench):
    """Resident memory by process without and with idle WebSockets."""
    relay = bench.start_relay(max_in_flight=SOCKETS * 2)
    tell(f"WebSockets: holding {SOCKETS}")
    # One has been through before, so that what relay has once is not counted a thousandth each.
    open_sockets(bench, relay, 1, 0.0)
    idle = memory(relay)
    opened = open_sockets(bench, relay, SOCKETS, SOCKETS_OPEN_SECONDS)
    load.check_alive(relay.processes)
    return {"count": SOCKETS, "idle_kb": idle, "open_kb": opened}


def open_sockets(bench, relay, count, seconds):
    """The most memory each process has while they are open; every one of them must live to the end."""
    command = [str(word) for word in bench.command("sockets", relay.port, count=count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as client:
        try:
            client.stdout.readline()
            most = memory(relay)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and client.poll() is None:
                time.sleep(0.2)
                most = {label: max(most[label], kb) for label, kb in memory(relay).items()}
            said, wrong = client.communicate(timeout=SOCKETS_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the WebSockets did not all answer within {SOCKETS_PATIENCE:.0f} s") from error
        finally:
            if client.poll() is None:
                client.kill()
    if client.returncode != 0 or json.loads(said)["alive"] != count:
        raise Failed(f"WebSockets: {(wrong.strip() or 'no output').splitlines()[-1]}")
    return most


def memory(system):
    return {process.label: process.memory_kb() for process in system.processes}


def calls(bench):
    """{system: {concurrent calls: medians}} of gRPC calls."""
    pair = [systems.System("direct", bench.grpc_port, []), start_grpc_relay(bench)]
    results = {system.name: {concurrent: [] for concurrent in CALLS} for system in pair}
    for number in range(bench.rounds):
        for concurrent in CALLS:
            for system in shuffled(pair, number):
                seen = attempt(lambda: call(bench, system, concurrent))
                results[system.name][concurrent].append(seen)
                tell(f"round {number + 1}/{bench.rounds}  gRPC, {concurrent:>2} calls  {system.name:<8} "
                     + (seen.get("failed") or f"{seen['requests_per_s']:>6.0f} calls/s"))
    return {name: {concurrent: medians(rounds) for concurrent, rounds in by.items()} for name, by in results.items()}


def call(bench, system, concurrent):
    seen, cpu = bench.run(system, "unary", concurrent=concurrent, seconds=bench.seconds)
    return {"requests_per_s": seen["requests_per_s"], "p50_us": seen["latency"]["p50_us"],
            "p99_us": seen["latency"]["p99_us"], **load.per_request(cpu, seen["requests"])}


def start_grpc_relay(bench):
    def answers(system):
        """Whether one call gets through."""
        command = bench.command("unary", system.port, seconds=0.01)
        return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0

    return bench.start_relay(to=f"h2c://127.0.0.1:{bench.grpc_port}", check=answers)


def medians(rounds):
    good = [seen for seen in rounds if "failed" not in seen]
    if not good:
        return {"failed": rounds[0]["failed"]}
    numbers = ("requests_per_s", "p50_us", "p99_us", "cpu_us")
    found = {key: bulk.median(seen[key] for seen in good) for key in numbers}
    return {**found, "failed_rounds": [seen["failed"] for seen in rounds if "failed" in seen]}


def calls_failed(seen):
    """Whether any gRPC call went wrong."""
    cells = [cell for by in seen.values() if isinstance(by, dict) for cell in by.values()]
    return any("failed" in cell or cell["failed_rounds"] for cell in cells)


PARTS = {"bulk": bulk.measure, "sockets": hold_sockets, "events": first_events, "grpc": calls}
