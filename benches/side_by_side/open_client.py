"""Opens many connections, sends one request on each, waits for every answer and prints what came, as JSON.

Its arguments are a port and how many; and, if they are not the usual ones, the host to ask for and the seconds to wait.
"""

import asyncio
import collections
import json
import sys

CONNECTING_AT_ONCE = 200
PATIENCE = 60


class Request(asyncio.Protocol):
    """One connection with one request on it; `outcome` is a status or what went wrong."""

    def __init__(self, head):
        self.head = head
        self.received = b""
        self.outcome = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.head)

    def data_received(self, data):
        self.received += data
        status = whole_response(self.received)
        if status:
            self.finish(status)
            self.transport.close()

    def connection_lost(self, error):
        self.finish(f"connection lost: {error or 'closed before the whole answer'}")

    def finish(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def whole_response(received):
    """The status, once all of the response is there."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if "content-length" in headers:
        complete = len(body) >= int(headers["content-length"])
    else:
        complete = body.endswith(b"0\r\n\r\n")
    return status.split(" ")[1] if complete else None


async def ask(port, head, gate, patience):
    async with gate:
        try:
            _, request = await asyncio.get_running_loop().create_connection(lambda: Request(head), "127.0.0.1", port)
        except OSError as error:
            return f"cannot connect: {error.strerror}"
    try:
        return await asyncio.wait_for(request.outcome, patience)
    except asyncio.TimeoutError:
        return f"no answer within {patience} s"


async def main(port, count, host="127.0.0.1", patience=PATIENCE):
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    head = f"GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    outcomes = await asyncio.gather(*(ask(port, head, gate, int(patience)) for _ in range(count)))
    print(json.dumps(collections.Counter(outcomes)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
