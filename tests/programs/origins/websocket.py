"""WebSockets, by the websockets package: one path for each way to behave.

    websocket.py
"""

import asyncio
import collections
import http
import urllib.parse

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# The close codes of connections that had a name, as this side saw them.
ended = collections.defaultdict(asyncio.Queue)
# Connections that wait for each other.
together = []
all_together = asyncio.Event()


async def echo(connection, query):
    async for message in connection:
        await connection.send(message)


async def close(connection, query):
    """Closes with the code that the caller wants, when it has said something."""
    await connection.recv()
    await connection.close(int(query["code"]), query["reason"])


async def abort(connection, query):
    """Drops the connection without a word, when the caller has said something."""
    await connection.recv()
    connection.transport.abort()


async def listen(connection, query):
    """Listens until the end and remembers how it came."""
    await connection.send("listening")
    try:
        while True:
            await connection.recv()
    except ConnectionClosed:
        await ended[query["name"]].put(f"{connection.close_code} {connection.close_reason}".strip())


async def how_it_ended(connection, query):
    """Tells how the connection of that name ended, as soon as it has."""
    await connection.send(await ended[query["name"]].get())


async def ping(connection, query):
    """Tells that the caller has answered a ping."""
    await (await connection.ping(b"are you there?"))
    await connection.send("it is there")


async def crowd(connection, query):
    """Nobody hears anything before all are here."""
    together.append(connection)
    if len(together) == int(query["count"]):
        all_together.set()
    await all_together.wait()
    await echo(connection, query)


PAGES = {
    "/echo": echo,
    "/close": close,
    "/abort": abort,
    "/listen": listen,
    "/ended": how_it_ended,
    "/ping": ping,
    "/crowd": crowd,
}


async def handle(connection):
    path, _, query = connection.request.path.partition("?")
    try:
        await PAGES[path](connection, dict(urllib.parse.parse_qsl(query)))
    except ConnectionClosed:
        pass


def refuse(connection, request):
    """A page like any other: whoever wants a WebSocket there is answered without one."""
    return connection.respond(http.HTTPStatus.OK, "only a page\n") if request.path == "/page" else None


def choose(connection, offered):
    """The package's own choice would refuse a caller that offers nothing."""
    return "relay.test" if "relay.test" in offered else None


async def main():
    # No pings but those that a test asks for: they could hide a connection that is idle too long.
    options = {"select_subprotocol": choose, "process_request": refuse}
    options |= {"max_size": None, "ping_interval": None}
    async with serve(handle, "127.0.0.1", 0, **options) as listener:
        print("port", listener.sockets[0].getsockname()[1], flush=True)
        await listener.serve_forever()


asyncio.run(main())
