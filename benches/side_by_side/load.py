"""One measurement: load from wrk (or the floor benchmark), and the CPU of the system's processes meanwhile."""

import json
import pathlib
import resource
import subprocess
import time

from processes import Failed, all_processes, machine_cpu_seconds
from systems import BODIES

SCRIPT = pathlib.Path(__file__).parent / "percentiles.lua"
REPLY_TIMEOUT = 10
# wrk's names for what went wrong, and ours. It counts statuses from 400 on.
ERRORS = {"connect": "failed connects", "read": "failed reads", "write": "failed writes", "timeout": "timeouts",
          "status": "error statuses"}


def measure(ours, wrk, system, body, connections, seconds):
    command = [wrk, "--threads", 1, "--connections", connections, "--duration", f"{seconds}s",
               "--timeout", f"{REPLY_TIMEOUT}s", "--script", SCRIPT]
    for name, value in system.headers.items():
        command += ["--header", f"{name}: {value}"]
    seen, cpu = run_beside(ours, system.processes, [*command, system.url(body)])
    check_alive(system.processes)
    return {
        "requests": seen["requests"],
        "requests_per_s": seen["requests"] / (seen["duration_us"] / 1e6),
        "p50_us": seen["p50_us"],
        "p99_us": seen["p99_us"],
        "errors": errors(seen, body),
        **per_request(cpu, seen["requests"]),
    }


def measure_floor(ours, binary, nats, server, outstanding, seconds):
    command = [binary, "--server", server, "--outstanding", outstanding, "--seconds", seconds]
    seen, cpu = run_beside(ours, [nats], command)
    return {"requests_per_s": seen["requests_per_s"], "p50_us": seen["p50_us"], "p99_us": seen["p99_us"],
            "errors": {}, **per_request(cpu, seen["answered"])}


def run_beside(ours, processes, command):
    """The JSON a command ends with, and meanwhile: CPU seconds by process, and what others took of the machine."""
    before, began = Reading(ours, processes), time.monotonic()
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    took, after = time.monotonic() - began, Reading(ours, processes)
    seen = last_line_of_json(done.stdout)
    if done.returncode != 0 or seen is None:
        words = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise Failed(f"{pathlib.Path(command[0]).name} gave no result: {words[-1]}")
    cpu = {label: after.by_process[label] - before.by_process[label] for label in after.by_process}
    return seen, {
        "by_process": cpu,
        "others_cores": max(0.0, (after.others - before.others) / took),
    }


def last_line_of_json(output):
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None


class Reading:
    """CPU counters at one moment; processes with the same label are one."""

    def __init__(self, ours, processes):
        busy, stolen = machine_cpu_seconds()
        table = all_processes()
        self.others = busy + stolen - ours.cpu_seconds(table) - own_cpu_seconds()
        self.by_process = dict.fromkeys((process.label for process in processes), 0.0)
        for process in processes:
            self.by_process[process.label] += process.cpu_seconds(table)


def own_cpu_seconds():
    """This program and the load generators it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def per_request(cpu, requests):
    by_process = {label: seconds / requests * 1e6 if requests else None
                  for label, seconds in cpu["by_process"].items()}
    total = sum(by_process.values()) if requests and by_process else None
    return {"cpu_us": total, "cpu_us_by_process": by_process, "others_cores": cpu["others_cores"]}


def errors(seen, body):
    """Everything that went wrong, by kind."""
    wrong = {ERRORS[kind]: count for kind, count in seen["errors"].items() if count}
    if seen["requests"] == 0:
        wrong["runs without any answer"] = 1
    elif seen["bytes"] < seen["requests"] * BODIES[body]:
        wrong["runs with bodies cut short"] = 1
    return wrong


def check_alive(processes):
    for process in processes:
        if not process.running():
            raise Failed(f"the {process.label} process ended: {process.last_words()}")
