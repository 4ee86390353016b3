"""How soon after its start relay answers a request: the two agents beside a NATS server that runs, and `relay up` with
a NATS server of its own.

A caller connects again every 2 ms until it is answered with 200; the time counts from before the first process is
started.
"""

import http.client
import statistics
import time

import systems
import tools
from processes import Failed, tell
from systems import QUIET

STARTS = 10
AGAIN_SECONDS = 0.002
PATIENCE = 10.0


def run(ours, relay_binary):
    """{what is started: milliseconds of each start}."""
    origin = systems.start_origin(ours)
    started = {"both agents": start_agents, "relay up": start_up}
    seen = {name: [] for name in started}
    for number in range(STARTS):
        for name, begin in started.items():
            seen[name].append(one_start(ours, begin, relay_binary, origin.port))
            tell(f"start {number + 1}/{STARTS}  {name:<11}  {seen[name][-1]:.0f} ms")
    ours.stop(origin.processes)
    return seen


def one_start(ours, begin, relay_binary, origin_port):
    """Milliseconds from the start of the processes to the first answer."""
    before, port = ours.count(), ours.free_port()
    try:
        began, processes = begin(ours, relay_binary, origin_port, port)
        wait_for_answer(port, processes, began + PATIENCE)
        took = (time.monotonic() - began) * 1000
        # Before their NATS server, which they say goodbye to.
        ours.stop(processes)
        return took
    finally:
        ours.stop_from(before)


def start_agents(ours, relay_binary, origin_port, port):
    nats_port = ours.free_port()
    systems.start_nats(ours, nats_port)
    common = ["--server", f"nats://127.0.0.1:{nats_port}", "--admin", "off"]
    upstream = [relay_binary, "upstream", *common, "--name", "bench", "--to", f"http://127.0.0.1:{origin_port}"]
    client = [relay_binary, "client", *common, "--upstream", "bench", "--listen", f"127.0.0.1:{port}"]
    began = time.monotonic()
    return began, [ours.start("upstream", upstream, QUIET), ours.start("client", client, QUIET)]


def start_up(ours, relay_binary, origin_port, port):
    up = [relay_binary, "up", f"http://127.0.0.1:{origin_port}", "--listen", f"127.0.0.1:{port}",
          "--nats-server", tools.find("nats-server")]
    began = time.monotonic()
    return began, [ours.start("relay up", up)]


def wait_for_answer(port, processes, deadline):
    while answer(port) != 200:
        for process in processes:
            if not process.running():
                raise Failed(f"the {process.label} process ended: {process.last_words()}")
        if time.monotonic() > deadline:
            raise Failed(f"no answer within {PATIENCE:.0f} s of the start")
        time.sleep(AGAIN_SECONDS)


def answer(port):
    """The status of one request; zero where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", systems.path("200 B"))
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def as_text(seen):
    lines = [f"time from the start of the processes to the first request that is answered, {STARTS} starts each,",
             "milliseconds; both agents: at the same moment, beside a nats-server that runs; relay up: with its own",
             f"  {'':<11}  {'median':>6}  {'worst':>6}"]
    lines += [f"  {name:<11}  {statistics.median(took):>6.0f}  {max(took):>6.0f}" for name, took in seen.items()]
    return "\n".join(lines)
