"""A server of HTTP/2 that also speaks HTTP/1.1: by hypercorn, in cleartext or over TLS.

    http2.py FOLDER [CERTIFICATE KEY]
"""

import asyncio
import collections
import hashlib
import json
import pathlib
import socket
import sys
import urllib.parse

import hypercorn.asyncio
import hypercorn.config

FOLDER = pathlib.Path(sys.argv[1])
PIECE = 64 * 1024


async def pieces(receive):
    """The body as it comes."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the caller went away")
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def nothing(receive):
    """Reads a body that is empty. hypercorn breaks the connection when a stream ends after its answer has."""
    async for _ in pieces(receive):
        pass


async def begin(send, status=200, kind=b"application/octet-stream"):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def write(send, body):
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def end(send, body=b""):
    await send({"type": "http.response.body", "body": body})


async def sum_up(scope, query, receive, send):
    digest, size = hashlib.sha256(), 0
    async for piece in pieces(receive):
        digest.update(piece)
        size += len(piece)
    told = {"bytes": size, "sha256": digest.hexdigest(), "version": scope["http_version"]}
    await begin(send, kind=b"application/json")
    await end(send, json.dumps(told).encode())


async def file(scope, query, receive, send):
    await nothing(receive)
    await begin(send)
    with open(FOLDER / scope["path"].removeprefix("/files/"), "rb") as source:
        while piece := source.read(PIECE):
            await write(send, piece)
    await end(send)


async def echo(scope, query, receive, send):
    """Sends back each piece as soon as it is here."""
    await begin(send)
    async for piece in pieces(receive):
        await write(send, piece)
    await end(send)


# What a caller says it has seen, by the name of its stream.
seen = collections.defaultdict(asyncio.Queue)


async def events(scope, query, receive, send):
    """The next event is written when the caller has said, on another request, that it has seen the last."""
    await nothing(receive)
    await begin(send, kind=b"text/event-stream")
    for number in range(int(query["count"])):
        await write(send, f"data: event {number}\n\n".encode())
        said = await seen[query["name"]].get()
        assert said == str(number), f"{said} was seen before {number}"
    await end(send)


async def saw(scope, query, receive, send):
    await nothing(receive)
    await seen[query["name"]].put(query["number"])
    await begin(send, 204)
    await end(send)


PAGES = {"/sum": sum_up, "/echo": echo, "/events": events, "/saw": saw}


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    page = PAGES.get(scope["path"]) or (file if scope["path"].startswith("/files/") else None)
    query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
    if page:
        await page(scope, query, receive, send)
    else:
        await begin(send, 404)
        await end(send)


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    if len(sys.argv) > 2:
        config.certfile, config.keyfile = sys.argv[2:]
    print("port", listener.getsockname()[1], flush=True)
    await hypercorn.asyncio.serve(application, config)


asyncio.run(main())
