"""Hits: relay's shared cache beside nginx's, both in front of one origin that is asked once for each body."""

import http.client

import load
import rounds
import systems
import tools
from processes import Failed, tell

CONNECTIONS = 64
CELLS = [(body, CONNECTIONS) for body in systems.BODIES]
# How each says that it answered from its cache.
HIT = {"relay": ("cache-status", "relay; hit"), "nginx cache": ("x-cache", "HIT")}


def run(ours, relay, how_many, seconds):
    """{system: {cell: summary}}, measured in interleaved rounds."""
    tell("starting the caches")
    wrk, origin = tools.find("wrk"), start_origin(ours)
    found = [start_nginx(ours, origin), start_relay(ours, origin, relay)]
    results = {system.name: {} for system in found}
    for number in range(how_many):
        for cell in CELLS:
            for system in rounds.shuffled(found, number):
                check_hit(system, cell[0])
                seen = rounds.attempt(lambda: load.measure(ours, wrk, system, *cell, seconds))
                results[system.name].setdefault(cell, []).append(seen)
                tell(f"round {number + 1}/{how_many}  {cell[0]:>6}  {system.name:<12} {rounds.brief(seen)}")
    return rounds.medians(results)


def start_origin(ours):
    folder, port = ours.subfolder("cached-origin"), ours.free_port()
    files = folder / "files"
    files.mkdir()
    for size in systems.BODIES.values():
        (files / str(size)).write_bytes(b"x" * size)
    process = systems.start_nginx(ours, "origin", folder, "nginx_cached_origin.conf", port=port, files=files)
    return systems.ready(systems.System("origin", port, [process]))


def start_nginx(ours, origin):
    folder, port = ours.subfolder("nginx-cache"), ours.free_port()
    process = systems.start_nginx(ours, "proxy", folder, "nginx_cache.conf", port=port, next_port=origin.port)
    return systems.ready(systems.System("nginx cache", port, [process]))


def start_relay(ours, origin, binary):
    return systems.start_relay(ours, origin.port, binary, more=["--cache", "256MB"])


def check_hit(system, body):
    """The answer is from the cache; it was asked for when the system was found ready."""
    name, word = HIT[system.name]
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=2)
    try:
        connection.request("GET", systems.path(body))
        told = connection.getresponse().getheader(name) or "nothing"
    finally:
        connection.close()
    if not told.startswith(word):
        raise Failed(f"{system.name} did not answer from its cache: {name} is {told}")


def failed(seen):
    return any("failed" in cell or cell["errors"] for cells in seen.values() if isinstance(cells, dict)
               for cell in cells.values())
