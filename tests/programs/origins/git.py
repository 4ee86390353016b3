"""Git over HTTP: each request is git's own CGI program, fed and read as a stream.

    git.py FOLDER-OF-REPOSITORIES
"""

import asyncio
import json
import os
import sys

import server

# What the requests to a service were like, for `/log`.
log = []


async def handle(request):
    if request.path == "/log":
        await request.answer(200, json.dumps(log).encode())
        return
    program = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        env=environment(request),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    # Both at once: git answers while it still reads.
    feeding = asyncio.create_task(feed(request, program.stdin))
    try:
        headers = {}
        while line := (await program.stdout.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        status = headers.pop("Status", "200").split()[0]
        response = await request.begin(status, headers.items())
        while piece := await program.stdout.read(server.PIECE):
            await response.send(piece)
        await feeding
        await response.end()
    finally:
        feeding.cancel()
        if program.returncode is None:
            program.stdin.close()
            await program.wait()


async def feed(request, pipe):
    size = 0
    async for piece in request.pieces():
        size += len(piece)
        pipe.write(piece)
        await pipe.drain()
    # Where no length was told, the end of the pipe is the end of the body.
    pipe.close()
    if request.method == "POST":
        log.append({"path": request.path, "bytes": size, "encoding": request.header("content-encoding")})


def environment(request):
    variables = {
        "PATH": os.environ["PATH"],
        # What the machine or its user has set for git must not matter.
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_PROJECT_ROOT": sys.argv[1],
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.header("content-type"),
        "HTTP_CONTENT_ENCODING": request.header("content-encoding"),
        "GIT_PROTOCOL": request.header("git-protocol"),
        "REMOTE_ADDR": "127.0.0.1",
    }
    if not request.is_chunked:
        variables["CONTENT_LENGTH"] = str(request.length)
    return variables


asyncio.run(server.serve(handle))
