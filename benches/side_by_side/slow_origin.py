"""An origin that holds every request until it is told to let go, or until the oldest has waited long enough.

`GET /held` says how many it holds, `GET /release` lets go of all of them and of every later one at once. Any
other path is held, apart from the static sizes (`/200`), which are answered at once. Its arguments are its port and,
if the usual time is not long enough, the seconds it waits.
"""

import asyncio
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
LONGEST_HOLD = 25.0


class Origin:
    def __init__(self, longest):
        self.longest = longest
        self.waiting = set()
        self.released = False
        self.timer = None

    def hold(self, connection):
        if self.released:
            connection.answer(b"ok")
            return
        self.waiting.add(connection)
        self.timer = self.timer or asyncio.get_running_loop().call_later(self.longest, self.release)

    def release(self):
        self.released = True
        waiting, self.waiting = self.waiting, set()
        for connection in waiting:
            connection.answer(b"ok")


class Connection(asyncio.Protocol):
    def __init__(self, origin):
        self.origin = origin
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        self.origin.waiting.discard(self)

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            self.serve(head.split(b" ", 2)[1])

    def serve(self, path):
        if path == b"/held":
            self.answer(b"%d" % len(self.origin.waiting))
        elif path == b"/release":
            self.origin.release()
            self.answer(b"ok")
        elif path[1:].isdigit():
            self.answer(b"x" * int(path[1:]))
        else:
            self.origin.hold(self)

    def answer(self, body):
        self.transport.write(HEAD % len(body) + body)


async def serve(port, longest=LONGEST_HOLD):
    origin = Origin(longest)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(origin), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
