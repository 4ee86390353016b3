"""Callers by the aiohttp package."""

import asyncio
import sys

import aiohttp
import case


async def uploads_and_downloads(url):
    size = 16 * case.MIB

    async def body():
        for piece in case.pieces(size):
            yield piece

    async with aiohttp.ClientSession(url) as http:
        async with http.put("/sum", data=body()) as response:
            told = await response.json()
            assert (told["bytes"], told["sha256"]) == case.digest(case.pieces(size)), told
        async with http.get("/files/big") as response:
            parts = [part async for part in response.content.iter_any()]
            assert case.digest(parts) == case.file_digest("big")


async def is_answered_while_it_sends(url):
    """The next piece is sent when the one before has come back."""
    back = asyncio.Queue()
    sent = list(case.pieces(20_000, 1000))

    async def body():
        for piece in sent:
            yield piece
            assert await back.get() == piece

    async with aiohttp.ClientSession(url) as http:
        async with http.post("/echo", data=body()) as response:
            for piece in sent:
                await back.put(await response.content.readexactly(len(piece)))
            assert await response.content.read() == b""


async def talks_over_a_websocket(url):
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{url}/echo", protocols=["other", "relay.test"], max_msg_size=0) as socket:
            assert socket.protocol == "relay.test"
            await socket.send_str("grüß dich")
            assert await socket.receive_str() == "grüß dich"
            for piece in case.pieces(2 * case.MIB, case.MIB):
                await socket.send_bytes(piece)
                assert await socket.receive_bytes() == piece
            await socket.close(code=4002, message=b"enough")
            assert socket.close_code == 4002


async def sees_the_origin_close_a_websocket(url):
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{url}/close?code=4003&reason=that+was+all") as socket:
            await socket.send_str("now")
            message = await socket.receive()
            assert message.type == aiohttp.WSMsgType.CLOSE, message
            assert (message.data, message.extra) == (4003, "that was all"), message


case.run(sys.modules[__name__])
