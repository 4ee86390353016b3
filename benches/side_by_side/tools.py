"""Finds the programs to measure, asks `bin/need` for missing ones, builds ours, and tells what is here."""

import functools
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess

from processes import Failed, tell

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEED = ROOT / "bin/need"
SEARCH = subprocess.run([NEED, "--path"], capture_output=True, text=True, check=True).stdout.strip()

# How each program is asked for its version. wrk has no such option and prints it with its usage.
VERSION = {
    "wrk": ["-v"], "nginx": ["-v"], "haproxy": ["-v"], "rathole": ["--version"], "chisel": ["--version"],
    "piko": ["--version"], "nats-server": ["--version"], "relay": ["--version"],
}


class Missing(Failed):
    """A program that is not here and could not be installed."""


def find(name, tool=None):
    """The path of a program, installed if it has to be and can be; `tool` is what bin/need calls it."""
    path = shutil.which(name, path=SEARCH)
    if path:
        return path
    asked = subprocess.run([NEED, tool or name], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    path = shutil.which(name, path=SEARCH)
    if not path:
        raise Missing((asked.stderr.strip().splitlines() or [f"bin/need could not install {name}"])[-1])
    return path


def version(name, path):
    asked = subprocess.run([path, *VERSION[name]], capture_output=True, text=True, check=False, timeout=10)
    numbers = re.search(r"\d+\.\d+\.\d+\S*", asked.stdout + asked.stderr)
    return numbers.group().rstrip(",") if numbers else "unknown"


def known_options(command, wanted):
    """Those of the wanted options that the help of a command names."""
    asked = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=10)
    words = (asked.stdout + asked.stderr).split()
    return [option for option in wanted if option.partition("=")[0] in words]


@functools.cache
def build(kind, name):
    """The executable of one target of this project (`--bin relay`), built for release."""
    tell(f"building {name}")
    command = [find("cargo", "rust"), "build", "--release", "--message-format=json-render-diagnostics", kind, name]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          env={**os.environ, "PATH": SEARCH})
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        raise Failed(f"{name} does not build: {errors[0] if errors else 'see cargo build --release'}")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    raise Failed(f"cargo built no {name}")


def machine():
    """What a reader needs to know about the machine to judge the numbers."""
    memory_kb = int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo")).group(1))
    model = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model.group(1) if model else platform.machine(),
        "memory_gib": round(memory_kb / 1024 / 1024, 1),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
    }


def read(path):
    return pathlib.Path(path).read_text()
