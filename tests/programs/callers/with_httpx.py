"""Callers by the httpx package, over HTTP/2 where there is TLS."""

import asyncio
import ssl
import sys

import case
import httpx


def client(url):
    context = ssl.create_default_context(cafile=str(case.folder() / "certificate.pem"))
    return httpx.AsyncClient(base_url=url, http2=True, verify=context, timeout=60)


async def uploads_and_downloads_over_http_2(url):
    size = 8 * case.MIB

    async def body():
        for piece in case.pieces(size):
            yield piece

    async with client(url) as http:
        response = await http.post("/sum", content=body())
        assert response.http_version == "HTTP/2", response.http_version
        told = response.json()
        assert (told["bytes"], told["sha256"]) == case.digest(case.pieces(size)), told
        async with http.stream("GET", "/files/big") as response:
            assert response.http_version == "HTTP/2", response.http_version
            parts = [part async for part in response.aiter_raw()]
            assert case.digest(parts) == case.file_digest("big")


async def sends_back_what_it_streams(url):
    """Large enough that the answer has to begin before the request has ended, or be kept somewhere."""
    size = 4 * case.MIB

    async def body():
        for piece in case.pieces(size):
            yield piece

    async with client(url) as http:
        async with http.stream("POST", "/echo", content=body()) as response:
            parts = [part async for part in response.aiter_raw()]
            assert case.digest(parts) == case.digest(case.pieces(size))


async def sees_events_as_they_come(url):
    async with client(url) as http:
        async with http.stream("GET", "/events?name=httpx&count=5") as response:
            seen = 0
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    assert line == f"data: event {seen}"
                    # On the same connection, beside the stream that is open.
                    await http.post(f"/saw?name=httpx&number={seen}")
                    seen += 1
            assert seen == 5, seen


async def carries_many_requests_on_one_connection(url):
    async with client(url) as http:
        async def ask(number):
            response = await http.post("/sum", content=b"x" * number)
            assert (response.http_version, response.json()["bytes"]) == ("HTTP/2", number)

        await asyncio.gather(*(ask(number) for number in range(1, 60)))


case.run(sys.modules[__name__])
