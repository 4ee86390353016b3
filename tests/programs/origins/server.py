"""A server of HTTP/1.1 that leaves to its handler what others decide for it: when to say 100, whether to read
a body, where to cut an answer off, what comes in the trailers. It tells its port on standard output."""

import asyncio
import urllib.parse

# What is read or written at once: small enough that a body of a megabyte is many pieces.
PIECE = 64 * 1024


class Gone(Exception):
    """The caller went away, or sent what is not HTTP."""


class Request:
    """One request, and the way to answer it."""

    def __init__(self, reader, writer, line, headers):
        self.reader, self.writer = reader, writer
        self.method, self.target, self.version = line.split(" ", 2)
        path, _, self.query_string = self.target.partition("?")
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(self.query_string))
        self.headers = headers
        self.trailers = {}
        self.has_body = self.is_chunked or self.length > 0
        self.is_read = not self.has_body
        self.expects = self.header("expect").lower() == "100-continue"

    def header(self, name):
        return self.headers.get(name, "")

    @property
    def is_chunked(self):
        return self.header("transfer-encoding").lower() == "chunked"

    @property
    def length(self):
        return int(self.header("content-length") or 0)

    async def pieces(self):
        """The body as it comes. Who reads it wants it: a caller that waits for 100 gets it now."""
        if self.is_read:
            return
        if self.expects:
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.is_chunked:
            while size := int((await self.line()).split(b";")[0], 16):
                async for piece in self.exactly(size):
                    yield piece
                if await self.line():
                    raise Gone("a chunk is longer than it says")
            while line := await self.line():
                name, _, value = line.decode("latin-1").partition(":")
                self.trailers[name.lower()] = value.strip()
        else:
            async for piece in self.exactly(self.length):
                yield piece
        self.is_read = True

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])

    async def line(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Gone("the body was cut off")
        return line.strip()

    async def exactly(self, size):
        while size:
            piece = await self.reader.read(min(size, PIECE))
            if not piece:
                raise Gone("the body was cut off")
            size -= len(piece)
            yield piece

    async def answer(self, status, body=b"", headers=()):
        """A whole answer of a known length."""
        response = await self.begin(status, headers, length=len(body))
        await response.send(body)
        await response.end()

    async def begin(self, status, headers=(), length=None):
        """The head of an answer. Without a length the body is chunked, or, for an old caller, ends with the
        connection."""
        response = Response(self, chunked=length is None and self.version != "HTTP/1.0")
        lines = [f"HTTP/1.1 {status} Status"] + [f"{name}: {value}" for name, value in headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif response.chunked:
            lines.append("Transfer-Encoding: chunked")
        if not self.keeps_alive():
            lines.append("Connection: close")
        await self.write("".join(line + "\r\n" for line in [*lines, ""]).encode("latin-1"))
        return response

    def keeps_alive(self):
        """A body that nobody read is in the way of the next request."""
        asked_to_close = self.header("connection").lower() == "close" or self.version == "HTTP/1.0"
        return self.is_read and not asked_to_close

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def cut(self):
        """Ends the connection in the middle of what it carries."""
        self.writer.transport.abort()
        raise Gone("cut off on purpose")


class Response:
    """An answer whose head is out."""

    def __init__(self, request, chunked):
        self.request, self.chunked = request, chunked

    async def send(self, data):
        if not data or self.request.method == "HEAD":
            return
        await self.request.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def end(self, trailers=()):
        if self.chunked and self.request.method != "HEAD":
            lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
            await self.request.write(f"0\r\n{lines}\r\n".encode("latin-1"))


async def serve(handler):
    """Serves until it is killed."""

    async def connection(reader, writer):
        try:
            while request := await read_request(reader, writer):
                await handler(request)
                if not request.keeps_alive():
                    break
        except (Gone, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def read_request(reader, writer):
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    headers = {}
    while header := (await reader.readline()).strip():
        name, _, value = header.decode("latin-1").partition(":")
        name = name.lower()
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(reader, writer, line.decode("latin-1").strip(), headers)
