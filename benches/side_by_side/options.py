"""What can be asked of the benchmark: the command line and nothing else."""

import argparse
import os
import pathlib

# Measured with small requests, beside each other.
SYSTEMS = ("direct", "nginx", "haproxy", "rathole", "piko", "chisel", "floor", "relay")
# Measured one after the other, each with systems of its own.
PARTS = {"open": "10,000 open requests", "bulk": "large bodies, and small requests beside them",
         "sockets": "1,000 idle WebSockets", "events": "the first event of event streams", "grpc": "gRPC calls",
         "cache": "hits of the shared cache", "jobs": "requests answered later, and forward chains",
         "routes": "routing cost at 1, 1,000 and 100,000 routes", "start": "from a start to the first answer",
         "growth": "what a request costs as its surroundings grow 100 times, 3 minutes more: only when it is named"}
# What takes too long to be in every run.
APART = ("growth",)
USUAL = (*SYSTEMS, *(part for part in PARTS if part not in APART))

ABOUT = """Measures relay beside its peers on this machine, over loopback, in interleaved rounds.
With no options it takes 9 to 10 minutes, and the time to build relay. Numbers from a busy machine mean little."""


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bin/bench", description=ABOUT)
    parser.add_argument("--quick", action="store_true", help="one round of one second each, about 2 minutes in all")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of every system (default 3)")
    parser.add_argument("--seconds", type=positive, metavar="S", help="length of one measurement (default 2)")
    parser.add_argument("--only", type=names, metavar="A,B", default=USUAL, help=only())
    parser.add_argument("--open", type=positive, metavar="N", default=10_000, dest="open_requests",
                        help="how many requests to hold open (default 10000)")
    parser.add_argument("--json", metavar="FILE", help="also write every measurement to FILE")
    parser.add_argument("--relay", type=executable, metavar="FILE", help="measure this relay binary; do not build one")
    parser.add_argument("--floor", type=executable, metavar="FILE", help="use this floor benchmark; do not build one")
    parser.add_argument("--streams", type=executable, metavar="FILE", help="the same for the streams benchmark")
    parser.add_argument("--routes", type=executable, metavar="FILE", help="the same for the routes benchmark")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def only():
    parts = ", ".join(f"{name} ({about})" for name, about in PARTS.items())
    return f"some of the systems {', '.join(SYSTEMS)}, and of {parts}"


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def executable(text):
    path = pathlib.Path(text).resolve()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text} is no program")
    return path


def names(text):
    wanted = tuple(name.strip() for name in text.split(",") if name.strip())
    known = (*SYSTEMS, *PARTS)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return wanted
