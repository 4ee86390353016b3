"""Sends many requests at once on one connection, garbage among them, and checks that each is answered."""

import json
import socket
import sys
import uuid

place, count = sys.argv[1], int(sys.argv[2])
if place.isdigit():
    connection = socket.create_connection(("127.0.0.1", int(place)))
else:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(place)
connection.settimeout(60)

ids = [str(uuid.uuid4()) for _ in range(count)]
lines = connection.makefile("rw", encoding="utf-8", newline="\n")
dispatched, answered, errors = set(), set(), 0
for at in range(0, count, 100):
    for id in ids[at : at + 100]:
        lines.write(json.dumps({"request": "echo", "id": id, "data": {"id": id, "text": "ä\n"}}) + "\r\n")
    lines.write("this is not JSON\n")
    lines.flush()
    want = at + 100
    while len(answered) < min(want, count):
        reply = json.loads(lines.readline())
        if reply["status"] == "dispatched":
            assert reply["id"] not in dispatched
            dispatched.add(reply["id"])
        elif reply["status"] == "ok":
            assert reply["id"] in dispatched and reply["id"] not in answered, reply
            assert reply["response"] == {"id": reply["id"], "text": "ä\n"}, reply
            assert 0 <= reply["time"] < 60, reply
            answered.add(reply["id"])
        else:
            assert reply["id"] is None and reply["status"] == "error", reply
            errors += 1
connection.shutdown(socket.SHUT_WR)
for line in lines:
    errors += json.loads(line)["status"] == "error"
assert answered == set(ids) and errors == (count + 99) // 100, (len(answered), errors)
