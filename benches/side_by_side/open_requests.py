"""Memory with many requests open: relay in front of an origin that holds them all until every one is there."""

import http.client
import json
import pathlib
import resource
import subprocess
import sys
import time

import systems
from processes import Failed, tell

HERE = pathlib.Path(__file__).parent
# Sockets and files a process needs besides those of the requests.
SPARE_FILES = 500
GATHER_PATIENCE = 20.0
SETTLE_SECONDS = 2.0
FINISH_PATIENCE = 90.0


def raise_file_limit():
    """The most open files this machine gives us; started processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (65_536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
            break
        except (OSError, ValueError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def need_files(count):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < count + SPARE_FILES:
        raise Failed(f"{count} connections need {count + SPARE_FILES} open files; the limit here is {limit}")


def run(ours, relay_binary, count):
    need_files(count)
    port = ours.free_port()
    origin = ours.start("origin", [sys.executable, HERE / "slow_origin.py", port])
    systems.wait_for(lambda: systems.connects(port), [origin], "the slow origin")
    relay = systems.start_relay(ours, port, relay_binary, max_in_flight=count + SPARE_FILES)
    try:
        return hold(relay, port, count)
    finally:
        ours.stop([*relay.processes, origin])


def hold(relay, origin_port, count):
    tell(f"open requests: holding {count}")
    idle = memory(relay)
    command = [sys.executable, str(HERE / "open_client.py"), str(relay.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        try:
            held = gather(origin_port, client, count)
            open_memory = settle(relay)
            get(origin_port, "/release")
            said, _ = client.communicate(timeout=FINISH_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the client got no end of answers within {FINISH_PATIENCE:.0f} s") from error
        finally:
            if client.poll() is None:
                client.kill()
    if client.returncode != 0:
        raise Failed("the client of the open requests failed")
    outcomes = json.loads(said)
    tell(f"open requests: {held} held at once, answers {outcomes}")
    return {"asked": count, "held_at_once": held, "outcomes": outcomes, "idle_kb": idle, "open_kb": open_memory}


def gather(origin_port, client, count):
    """Waits until the origin holds all of them, or no more come."""
    deadline = time.monotonic() + GATHER_PATIENCE
    held = 0
    while held < count and time.monotonic() < deadline and client.poll() is None:
        time.sleep(0.1)
        held = int(get(origin_port, "/held"))
    return held


def settle(relay):
    """The most memory each process holds while the requests stay open."""
    most = memory(relay)
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        most = {label: max(most[label], kb) for label, kb in memory(relay).items()}
    return most


def memory(relay):
    return {process.label: process.memory_kb() for process in relay.processes}


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()
