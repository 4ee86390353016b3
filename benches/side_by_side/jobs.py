"""Jobs: requests that are answered later, and forward chains of three hops, accepted and done; both again with one of two
brokers killed halfway. What was accepted is counted by the client agent, what is done by JetStream's records."""

import json
import pathlib
import subprocess
import threading
import time

import load
import systems
import tools
from processes import Failed, tell

SCRIPT = pathlib.Path(__file__).parent / "jobs.lua"
KINDS = {"request": "requests answered later", "chain": "chains of three hops"}
CONNECTIONS = 16
# All jobs here are one caller's, and nearly all one upstream's.
UNLIMITED = ["--max-jobs-per-upstream", "1000000", "--max-jobs-per-caller", "1000000"]
DRAINED = 120.0
# For how long nothing changes when all is done, or waits for what a broker left.
QUIET = 2.0


def run(ours, binary, seconds):
    """{(kind, killed): what was seen}"""
    wrk = tools.find("wrk")
    return {(kind, killed): one(ours, binary, wrk, kind, killed, seconds)
            for kind in KINDS for killed in (False, True)}


def one(ours, binary, wrk, kind, killed, seconds):
    what = f"{KINDS[kind]}{', a broker killed' if killed else ''}"
    tell(f"jobs: {what}")
    relay, admins = start(ours, binary)
    brokers = [process for process in relay.processes if process.label == "broker"]
    timer = threading.Timer(seconds / 2, brokers[0].kill if killed else lambda: None)
    timer.start()
    began = time.monotonic()
    command = [wrk, "--threads", 1, "--connections", CONNECTIONS, "--duration", f"{seconds}s", "--timeout", 30,
               "--script", SCRIPT, f"http://127.0.0.1:{relay.port}/doc", kind]
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    timer.join()
    accepting = time.monotonic() - began
    seen = load.last_line_of_json(done.stdout)
    if seen is None:
        raise Failed(f"{what}: wrk gave no result: {(done.stderr or done.stdout).strip()[-200:]}")
    counts, moved = drain(binary, relay, admins, what)
    took = moved - began
    accepted = systems.metric(relay.admin_port, f'relay_jobs_accepted_total{{kind="{kind}"}}')
    ours.stop([process for process in relay.processes if process.running()])
    return {"accepted": int(accepted), "done": counts.get("done", 0), "failed": counts.get("failed", 0),
            "refused": seen["errors"]["status"], "accepted_per_s": accepted / accepting,
            "done_per_s": counts.get("done", 0) / took}


def drain(binary, relay, brokers, what):
    """How many jobs are in each state, once none is under way; and when the last of them moved on."""
    deadline = time.monotonic() + DRAINED
    while True:
        moved = wait_until_quiet(brokers, deadline)
        # Listing them all is work for JetStream: only now. A chain whose caller went before its 202 was not accepted: it
        # is `begun`, then `cancelled`.
        counts = {state: count for state, count in states(binary, relay).items()
                  if state not in ("begun", "cancelled")}
        if not set(counts) - {"done", "failed"}:
            return counts, moved
        if time.monotonic() > deadline:
            raise Failed(f"{what}: after {DRAINED:.0f} s there are still {counts}")


def wait_until_quiet(brokers, deadline):
    """When what the brokers count last changed, once it has not for a while."""
    seen, changed = None, time.monotonic()
    while time.monotonic() < min(changed + QUIET, deadline):
        counted = [systems.metric(port, name) for port in brokers
                   for name in ("relay_job_hops_total", 'relay_jobs_ended_total{state="done"}')]
        if counted != seen:
            seen, changed = counted, time.monotonic()
        time.sleep(0.1)
    return changed


def states(binary, relay):
    listed = subprocess.run([binary, "jobs", "ls", "--json", "--server", relay.nats_url], capture_output=True,
                            text=True, check=False)
    if listed.returncode != 0:
        raise Failed(f"relay jobs ls: {listed.stderr.strip()}")
    counts = {}
    for job in json.loads(listed.stdout):
        counts[job["state"]] = counts.get(job["state"], 0) + 1
    return counts


def start(ours, binary):
    """Two brokers, a client agent, and an upstream agent in front of the demo origin; and where the brokers tell what
    they count."""
    nats_port, port, admin, origin = (ours.free_port() for _ in range(4))
    admins = [ours.free_port() for _ in range(2)]
    nats_url = f"nats://127.0.0.1:{nats_port}"
    nats = systems.start_nats(ours, nats_port, jetstream=True)
    common = ["--server", nats_url]
    processes = [
        ours.start("origin", [binary, "demo", "--listen", f"127.0.0.1:{origin}"], systems.QUIET),
        nats,
        *(ours.start("broker", [binary, "broker", *common, *UNLIMITED, "--admin", f"127.0.0.1:{own}"], systems.QUIET)
          for own in admins),
        ours.start("upstream", [binary, "upstream", *common, "--admin", "off", "--name", "bench", "--to",
                                f"http://127.0.0.1:{origin}"], systems.QUIET),
        ours.start("client", [binary, "client", *common, "--admin", f"127.0.0.1:{admin}", "--listen",
                              f"127.0.0.1:{port}", "--upstream", "bench", "--jobs", "on", "--access-log", "off"], systems.QUIET),
    ]
    system = systems.System("relay", port, processes, nats_url=nats_url, admin_port=admin)
    return systems.ready(system, takes_jobs), admins


def takes_jobs(system):
    return systems.status(system.port, "/.relay/jobs/00000000-0000-4000-8000-000000000000") == 404 \
        and systems.status(system.port, "/ready") == 200


def lost(seen):
    """Whether something that was accepted did not end."""
    return any(one["accepted"] > one["done"] + one["failed"] for one in seen.values())


def as_text(seen):
    lines = [f"jobs: {CONNECTIONS} connections, two brokers, JetStream with file storage; lost: accepted and not ended",
             f"  {'':<36}  {'accepted/s':>10}  {'done/s':>7}  {'accepted':>8}  {'done':>7}  {'failed':>6}  {'lost':>5}  refused"]
    for (kind, killed), one in seen.items():
        what = KINDS[kind] + (", broker killed halfway" if killed else "")
        # One whose caller went in the moment it was stored is done, and was not counted.
        missing = max(0, one["accepted"] - one["done"] - one["failed"])
        lines.append(f"  {what:<36}  {one['accepted_per_s']:>10.0f}  {one['done_per_s']:>7.0f}  {one['accepted']:>8}  "
                     f"{one['done']:>7}  {one['failed']:>6}  {missing:>5}  {one['refused']}")
    return "\n".join(lines)
