"""Opens many connections, has one request answered on each, and keeps them as callers do who may come back.

Its arguments are a port, how many, and the host to ask for. It ends when one of the connections does.
"""

import http.client
import select
import sys


def opened(port, host):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/200", headers={"Host": host})
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        sys.exit(f"a request of an idle caller was answered with {response.status}")
    return connection


def main(port, count, host):
    connections = [opened(port, host) for _ in range(count)]
    end = select.poll()
    for connection in connections:
        end.register(connection.sock, select.POLLIN)
    end.poll()
    sys.exit("an idle connection was closed")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
