"""A web server: uploads are counted, files come whole, in parts or cut off, events one by one.

    web.py FOLDER
"""

import asyncio
import collections
import hashlib
import json
import pathlib
import re
import sys

import server

FOLDER = pathlib.Path(sys.argv[1])


async def sum_up(request):
    """Reads a body as it comes and tells what it was; `?save=` keeps it too."""
    digest, size = hashlib.sha256(), 0
    file = open(FOLDER / request.query["save"], "wb") if "save" in request.query else None
    async for piece in request.pieces():
        digest.update(piece)
        size += len(piece)
        if file:
            file.write(piece)
    if file:
        file.close()
    told = {
        "method": request.method,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "chunked": request.is_chunked,
        "trailers": request.trailers,
    }
    await request.answer(200, json.dumps(told).encode(), [("Content-Type", "application/json")])


async def file(request):
    """A file, or the part of it that was asked for. Under `/cut/` whoever asks for all of it gets half, and
    a connection that breaks."""
    place, _, name = request.path[1:].partition("/")
    path = FOLDER / name
    if path.is_dir():
        path /= "index.html"
    if not path.is_file():
        await request.answer(404)
        return
    size = path.stat().st_size
    tag = f'"{size}-{path.stat().st_mtime_ns}"'
    kind = "text/html" if path.suffix == ".html" else "application/octet-stream"
    headers = [("ETag", tag), ("Accept-Ranges", "bytes"), ("Content-Type", kind)]
    start, end, status = 0, size, 200
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range"))
    # A part of another version is of no use: RFC 9110, section 13.1.5.
    if wanted and request.header("if-range") in ("", tag):
        first, last = wanted.groups()
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start >= size:
            await request.answer(416, b"", [("Content-Range", f"bytes */{size}")])
            return
        status = 206
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    stop = size // 2 if place == "cut" and status == 200 else end
    response = await request.begin(status, headers, length=end - start)
    if request.method == "HEAD":
        return
    with open(path, "rb") as source:
        source.seek(start)
        while start < stop:
            piece = source.read(min(server.PIECE, stop - start))
            await response.send(piece)
            start += len(piece)
    if stop < end:
        request.cut()


# Bytes of bodies that came although they had been refused, by the name the caller gave.
refused = collections.Counter()


async def refuse(request):
    """Answers before it reads anything, then counts what comes all the same."""
    status = int(request.path.rsplit("/", 1)[1])
    headers = [("WWW-Authenticate", 'Basic realm="test"')] if status == 401 else []
    await request.answer(status, b"no, thank you\n", headers)
    request.writer.write_eof()
    name = request.query["name"]
    while piece := await request.reader.read(server.PIECE):
        # A body that comes without an expectation is no surprise: curl tries that after 417.
        refused[name] += len(piece) if request.expects else 0


async def refused_bytes(request):
    await request.answer(200, json.dumps(refused[request.query["name"]]).encode())


async def with_trailers(request):
    """A body whose digest is known only at its end."""
    digest = hashlib.sha256()
    response = await request.begin(200, [("Trailer", "X-Digest"), ("Content-Type", "text/plain")])
    for number in range(100):
        line = f"line {number}\n".encode()
        digest.update(line)
        await response.send(line)
    await response.end([("X-Digest", digest.hexdigest())])


async def echo(request):
    """Sends back each piece as soon as it is here, long before the body has ended."""
    response = await request.begin(200, [("Content-Type", "application/octet-stream")])
    async for piece in request.pieces():
        await response.send(piece)
    await response.end()


# What a caller says it has seen, by the name of its stream.
seen = collections.defaultdict(asyncio.Queue)
# Streams whose caller went away.
left = collections.defaultdict(asyncio.Event)


async def events(request):
    """Server-sent events. The next is written when the caller has said, on another request, that it has seen
    the one before: a proxy that keeps anything back comes to a stop here."""
    name, count = request.query["name"], int(request.query["count"])
    headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    response = await request.begin(200, headers)
    for number in range(count):
        await response.send(f"id: {number}\ndata: event {number}\n\n".encode())
        said = await seen[name].get()
        assert said == str(number), f"{said} was seen before {number}"
    await response.end()


async def saw(request):
    await seen[request.query["name"]].put(request.query["number"])
    await request.answer(204)


async def endless_events(request):
    """One event, and comments until the caller goes away: one that has only ended its side would still read them."""
    name = request.query["name"]
    response = await request.begin(200, [("Content-Type", "text/event-stream")])
    await response.send(b"data: first\n\n")
    # Nothing more comes on this connection: what can be read now is its end.
    end = asyncio.ensure_future(request.reader.read(1))
    while not (await asyncio.wait({end}, timeout=0.2))[0]:
        await response.send(b": still here\n\n")
    left[name].set()


async def has_left(request):
    await left[request.query["name"]].wait()
    await request.answer(204)


async def hello(request):
    await request.answer(200, f"hello from {request.method}\n".encode(), [("Content-Type", "text/plain")])


PAGES = {
    "/sum": sum_up,
    "/refused": refused_bytes,
    "/trailers": with_trailers,
    "/echo": echo,
    "/events": events,
    "/saw": saw,
    "/endless": endless_events,
    "/left": has_left,
    "/hello": hello,
}
FOLDERS = {"refuse": refuse, "files": file, "cut": file, "simple": file}


async def handle(request):
    page = PAGES.get(request.path) or FOLDERS.get(request.path.split("/")[1])
    if page:
        await page(request)
    else:
        await request.answer(404)


asyncio.run(server.serve(handle))
