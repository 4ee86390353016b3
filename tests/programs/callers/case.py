"""Runs one case of a caller: PROGRAM URL CASE. A case is a function; it fails by what it raises."""

import asyncio
import hashlib
import inspect
import pathlib
import random
import sys

MIB = 1024 * 1024
# Longer than any case should take, and short enough that a trace is seen.
PATIENCE = 50


def run(module):
    url, name = sys.argv[1:3]
    case = getattr(module, name)
    if inspect.iscoroutinefunction(case):
        asyncio.run(asyncio.wait_for(case(url), PATIENCE))
    else:
        case(url)


def folder():
    """Where the test keeps its files; the origin serves them under /files/."""
    return pathlib.Path(sys.argv[3])


def pieces(size, piece=64 * 1024):
    """A body that is the same every time, piece by piece. No two pieces are alike."""
    source = random.Random(size)
    while size:
        part = min(size, piece)
        yield source.randbytes(part)
        size -= part


def digest(parts):
    """The size and the digest of a body, as the origins tell them."""
    size, sha256 = 0, hashlib.sha256()
    for part in parts:
        size += len(part)
        sha256.update(part)
    return size, sha256.hexdigest()


def file_digest(name):
    with open(folder() / name, "rb") as file:
        return digest(iter(lambda: file.read(MIB), b""))
