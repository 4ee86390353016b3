"""Callers by the websockets package."""

import asyncio
import sys

import case
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus


def open_at(url, path, **options):
    address = url.replace("http", "ws", 1) + path
    options = {"max_size": None, "proxy": None, "ping_interval": None} | options
    return connect(address, **options)


async def messages_come_back(url):
    async with open_at(url, "/echo", subprotocols=["other", "relay.test"]) as socket:
        assert socket.subprotocol == "relay.test"
        for text in ["", "a", "grüß dich", "long " * 50_000]:
            await socket.send(text)
            assert await socket.recv() == text
        for piece in case.pieces(3 * case.MIB, case.MIB):
            await socket.send(piece)
            assert await socket.recv() == piece


async def large_messages_come_back_uncompressed_too(url):
    async with open_at(url, "/echo", compression=None) as socket:
        for piece in case.pieces(3 * case.MIB, case.MIB):
            await socket.send(piece)
            assert await socket.recv() == piece


async def messages_in_parts_come_back(url):
    async with open_at(url, "/echo") as socket:
        await socket.send(["in ", "three ", "parts"])
        assert await socket.recv() == "in three parts"


async def fifty_are_open_at_once(url):
    async def one(number):
        async with open_at(url, "/crowd?count=50") as socket:
            for turn in range(10):
                await socket.send(f"{number} {turn}")
                assert await socket.recv() == f"{number} {turn}"

    await asyncio.gather(*(one(number) for number in range(50)))


async def both_sides_can_ping(url):
    async with open_at(url, "/ping") as socket:
        # The package answers the origin's ping by itself.
        assert await socket.recv() == "it is there"
    async with open_at(url, "/echo") as socket:
        await (await socket.ping(b"hello"))
        await socket.send("still open")
        assert await socket.recv() == "still open"


async def the_origin_says_why_it_closes(url):
    for code, reason in [(1000, "done"), (1001, ""), (1011, "broken"), (4999, "the last one")]:
        async with open_at(url, f"/close?code={code}&reason={reason.replace(' ', '+') or '+'}") as socket:
            await socket.send("now")
            try:
                raise AssertionError(await socket.recv())
            except (ConnectionClosedOK, ConnectionClosedError):
                assert (socket.close_code, socket.close_reason.strip()) == (code, reason)


async def the_origin_hears_why_the_caller_closes(url):
    async with open_at(url, "/listen?name=polite") as socket:
        await socket.recv()
        await socket.close(4001, "that will do")
    async with open_at(url, "/ended?name=polite") as socket:
        assert await socket.recv() == "4001 that will do"


async def the_caller_sees_that_the_origin_is_gone(url):
    async with open_at(url, "/abort") as socket:
        await socket.send("now")
        try:
            raise AssertionError(await socket.recv())
        except ConnectionClosedError:
            # No close frame came, and nobody on the way may make one up.
            assert (socket.close_code, socket.close_reason) == (1006, "")


async def the_origin_sees_that_the_caller_is_gone(url):
    async with open_at(url, "/listen?name=rude") as socket:
        await socket.recv()
        socket.transport.abort()
    async with open_at(url, "/ended?name=rude") as socket:
        assert await socket.recv() == "1006"


async def a_quiet_connection_stays_open(url):
    """Longer than any wait the test has set; the silence itself is what is tried."""
    async with open_at(url, "/echo") as socket:
        await asyncio.sleep(4)
        await socket.send("still there?")
        assert await socket.recv() == "still there?"


async def a_refusal_is_an_answer(url):
    """A page without a WebSocket answers as to any request."""
    try:
        async with open_at(url, "/page"):
            raise AssertionError("it was opened")
    except InvalidStatus as error:
        assert error.response.status_code == 200
        assert error.response.body == b"only a page\n", error.response.body


case.run(sys.modules[__name__])
