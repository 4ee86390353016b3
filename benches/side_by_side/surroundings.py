"""What a relay may have around it, in any size: other upstreams, other agents, routes, open requests, idle callers.

Each of `GROW` starts a relay, and so many of its kind around it that there are `size` of them; how many there really
are, the relay itself tells, or the origin that holds the requests.
"""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Callable

import open_requests
import systems
import tools
from processes import Failed, Processes

HERE = pathlib.Path(__file__).parent
NAME, HOST, HELD_HOST = "bench", "bench.example", "held.example"
# How long what is open may stay so: longer than anything is measured.
PATIENCE_SECONDS = 1800
PATIENCE = f"{PATIENCE_SECONDS}s"
MOST_OPEN = 15_000
FILLING = 60.0
# Resident memory of an agent that does little, with room to spare.
AGENT_MB = 20


@dataclasses.dataclass
class Bench:
    """What every measurement needs."""

    ours: Processes
    relay: str
    claims: str
    wrk: str
    origin_port: int
    rounds: int
    seconds: int


@dataclasses.dataclass
class Place:
    """One relay, and what is around it."""

    system: systems.System
    broker_port: int
    # Not measured, but alive.
    beside: list
    # How many there are of what grows.
    count: Callable[[], float] = lambda: 1

    def all(self):
        return [*self.system.processes, *self.beside]

    def metric(self, name):
        return systems.metric(self.system.admin_port, name)


def start(bench, kind, size):
    """A relay that has so many around it."""
    place = GROW[kind](bench, size)
    try:
        systems.wait_for(lambda: place.count() >= size, place.all(), f"{size} {kind}", FILLING)
    except Failed as failure:
        raise Failed(f"there are {place.count():.0f} of {size} {kind}: {failure}") from failure
    return place


def with_upstreams(bench, size):
    place = start_place(bench)
    if size > 1:
        others = [upstream(f"other-{number}", f"other-{number}.example", bench.origin_port)
                  for number in range(1, size)]
        place.beside.append(start_agent(bench, place.system.nats_url, "others", others))
    place.count = lambda: systems.metric(place.broker_port, "relay_agents")
    return place


def with_agents(bench, size):
    needed, there = size * AGENT_MB, available_mb()
    if there < needed:
        raise Failed(f"{size} agents may need {needed} MB of memory, and {there} MB are free")
    place = start_place(bench)
    same = [upstream(NAME, HOST, bench.origin_port)]
    place.system.processes += [start_agent(bench, place.system.nats_url, "upstream", same) for _ in range(1, size)]
    place.count = lambda: systems.metric(place.broker_port, "relay_agents")
    return place


def with_routes(bench, size):
    place = start_place(bench)
    if size > 1:
        claim = [bench.claims, "--claim", size - 1, "--server", place.system.nats_url]
        place.beside.append(bench.ours.start("filler", claim))
    place.count = lambda: place.metric("relay_routes")
    return place


def with_open_requests(bench, size):
    open_requests.need_files(size)
    port = bench.ours.free_port()
    origin = bench.ours.start("slow origin", [sys.executable, HERE / "slow_origin.py", port, PATIENCE_SECONDS])
    systems.wait_for(lambda: systems.connects(port), [origin], "the slow origin")
    place = start_place(bench, upstream("held", HELD_HOST, port))
    place.beside.append(origin)
    if size:
        holding = [sys.executable, HERE / "open_client.py", place.system.port, size, HELD_HOST, PATIENCE_SECONDS]
        place.beside.append(bench.ours.start("open requests", holding))
    place.count = lambda: int(open_requests.get(port, "/held"))
    return place


def with_idle_connections(bench, size):
    open_requests.need_files(size)
    place = start_place(bench)
    if size:
        idle = [sys.executable, HERE / "idle_client.py", place.system.port, size, HOST]
        place.beside.append(bench.ours.start("idle callers", idle))
    place.count = lambda: place.metric("relay_connections")
    return place


GROW = {"upstreams": with_upstreams, "agents": with_agents, "routes": with_routes,
        "open requests": with_open_requests, "idle connections": with_idle_connections}


def start_place(bench, *more):
    """A client agent that routes, an agent of the upstream that is measured and of `more`, NATS and a broker."""
    ours = bench.ours
    nats_port, port, admin_port, broker_port = (ours.free_port() for _ in range(4))
    nats, url = systems.start_nats(ours, nats_port), f"nats://127.0.0.1:{nats_port}"
    client = ["client", "--server", url, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}",
              "--access-log", "off", "--grace", "1s", "--ttl", PATIENCE, "--header-timeout", PATIENCE]
    broker = ["broker", "--server", url, "--admin", f"127.0.0.1:{broker_port}", "--response-wait", PATIENCE]
    processes = [ours.start("client", [bench.relay, *client], systems.QUIET),
                 start_agent(bench, url, "upstream", [upstream(NAME, HOST, bench.origin_port), *more]), nats]
    beside = [ours.start("broker", [bench.relay, *broker], systems.QUIET)]
    system = systems.System("relay", port, processes, {"Host": HOST}, url, admin_port)
    return Place(systems.ready(system), broker_port, beside)


def start_agent(bench, nats_url, label, upstreams):
    """An upstream agent of all of these."""
    config = bench.ours.subfolder("agent") / "relay.toml"
    config.write_text("\n".join(upstreams))
    command = [bench.relay, "upstream", "--server", nats_url, "--admin", "off", "--grace", "1s", "--config", config]
    return bench.ours.start(label, command, systems.QUIET)


def upstream(name, host, port):
    """One upstream, as the settings file of an agent has it."""
    return (f'[[upstream]]\nname = "{name}"\nto = "http://127.0.0.1:{port}"\nroute = ["{host}"]\n'
            f'ttl = "{PATIENCE}"\nmax-in-flight = {MOST_OPEN}\n')


def available_mb():
    return int(re.search(r"MemAvailable:\s+(\d+)", tools.read("/proc/meminfo")).group(1)) // 1024
