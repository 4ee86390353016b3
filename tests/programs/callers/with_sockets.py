"""Callers by Python's own http.client, for what the packages keep to themselves: server-sent events read as
the bytes come, and what happens when one side leaves."""

import http.client
import sys
import time
import urllib.parse

import case


def ask(url, method, target):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    connection.request(method, target)
    return connection.getresponse()


def events(response):
    """The data of each event, as soon as its empty line is here."""
    data = b""
    while line := response.readline():
        if line == b"\n":
            yield data.decode()
            data = b""
        elif line.startswith(b"data: "):
            data = line.removeprefix(b"data: ").strip()


def each_event_is_here_before_the_next_is_written(url):
    response = ask(url, "GET", "/events?name=steps&count=20")
    assert response.getheader("Content-Type") == "text/event-stream"
    seen = 0
    for event in events(response):
        assert event == f"event {seen}"
        assert ask(url, "POST", f"/saw?name=steps&number={seen}").status == 204
        seen += 1
    assert seen == 20


def a_long_silence_ends_nothing(url):
    """Longer than any wait the test has set; the silence itself is what is tried."""
    response = ask(url, "GET", "/events?name=silence&count=2")
    coming = events(response)
    for number in range(2):
        assert next(coming) == f"event {number}"
        time.sleep(4)
        assert ask(url, "POST", f"/saw?name=silence&number={number}").status == 204
    assert list(coming) == []


def the_origin_learns_that_the_listener_has_left(url):
    response = ask(url, "GET", "/endless?name=leaver")
    assert next(events(response)) == "first"
    response.close()
    assert ask(url, "GET", "/left?name=leaver").status == 204


def fifty_listeners_at_once(url):
    streams = [ask(url, "GET", f"/events?name=many{number}&count=3") for number in range(50)]
    readers = [events(stream) for stream in streams]
    for turn in range(3):
        for number, reader in enumerate(readers):
            assert next(reader) == f"event {turn}"
            assert ask(url, "POST", f"/saw?name=many{number}&number={turn}").status == 204
    assert all(list(reader) == [] for reader in readers)


case.run(sys.modules[__name__])
