"""The systems under measurement: how each is started in front of the origin, and which processes are its own.

Each `start_*` returns a `System` that already answers. The origin and the load generator are no part of any.
"""

import dataclasses
import http.client
import pathlib
import string
import time

import tools
from processes import Failed

TEMPLATES = pathlib.Path(__file__).parent
BODIES = {"200 B": 200, "10 KiB": 10 * 1024}
READY_PATIENCE = 20.0
QUIET = {"RUST_LOG": "warn"}


@dataclasses.dataclass
class System:
    name: str
    port: int
    processes: list
    headers: dict = dataclasses.field(default_factory=dict)
    # Of relay only: where its NATS server and the client agent's admin listener are.
    nats_url: str = ""
    admin_port: int = 0

    def url(self, body):
        return f"http://127.0.0.1:{self.port}{path(body)}"


def path(body):
    return f"/{BODIES[body]}"


def start_origin(ours):
    folder, port = ours.subfolder("origin"), ours.free_port()
    files = folder / "files"
    files.mkdir()
    for size in BODIES.values():
        (files / str(size)).write_bytes(b"x" * size)
    process = start_nginx(ours, "origin", folder, "nginx_origin.conf", port=port, files=files)
    return ready(System("origin", port, [process]))


def start_direct(_ours, origin_port):
    return System("direct", origin_port, [])


def start_nginx_pair(ours, origin_port):
    return start_pair("nginx x2", ours, origin_port, start_nginx_proxy)


def start_haproxy_pair(ours, origin_port):
    return start_pair("haproxy x2", ours, origin_port, start_haproxy)


def start_nginx_one(ours, origin_port):
    """One proxy, for bodies of any size."""
    folder, port = ours.subfolder("nginx-one"), ours.free_port()
    process = start_nginx(ours, "proxy", folder, "nginx_stream.conf", port=port, next_port=origin_port)
    return ready(System("nginx x1", port, [process]))


def start_rathole(ours, origin_port):
    binary, folder = tools.find("rathole"), ours.subfolder("rathole")
    ports = {"port": ours.free_port(), "control_port": ours.free_port(), "origin_port": origin_port}
    processes = []
    for side in ("server", "client"):
        config = fill(f"rathole_{side}.toml", folder, **ports)
        processes.append(ours.start(side, [binary, f"--{side}", config], QUIET))
    return ready(System("rathole", ports["port"], processes))


def start_chisel(ours, origin_port):
    binary, control, port = tools.find("chisel"), ours.free_port(), ours.free_port()
    tunnel = f"R:127.0.0.1:{port}:127.0.0.1:{origin_port}"
    processes = [ours.start("server", [binary, "server", "--host", "127.0.0.1", "--port", control, "--reverse"])]
    wait_for(lambda: connects(control), processes, "chisel server")
    processes.append(ours.start("client", [binary, "client", f"http://127.0.0.1:{control}", tunnel]))
    return ready(System("chisel", port, processes))


def start_piko(ours, origin_port):
    binary = tools.find("piko")
    port, upstream, admin, gossip, agent = (ours.free_port() for _ in range(5))
    server = [binary, "server", "--log.level", "error",
              "--proxy.bind-addr", f"127.0.0.1:{port}", "--upstream.bind-addr", f"127.0.0.1:{upstream}",
              "--admin.bind-addr", f"127.0.0.1:{admin}", "--cluster.gossip.bind-addr", f"127.0.0.1:{gossip}"]
    # These differ between versions of piko: no reports to its makers, and no access log, as everywhere here.
    server += tools.known_options(server[:2], ["--usage.disable", "--proxy.access-log=false"])
    processes = [ours.start("server", server)]
    wait_for(lambda: connects(upstream), processes, "piko server")
    listener = [binary, "agent", "http", "bench", f"127.0.0.1:{origin_port}", "--log.level", "error",
                "--connect.url", f"http://127.0.0.1:{upstream}", "--server.bind-addr", f"127.0.0.1:{agent}"]
    listener += tools.known_options(listener[:3], ["--access-log=false"])
    processes.append(ours.start("agent", listener))
    return ready(System("piko", port, processes, {"x-piko-endpoint": "bench"}))


def start_relay(ours, origin_port, binary, max_in_flight=None, to=None, check=None, more=()):
    """Client agent, upstream agent and broker, each a process, and a nats-server of their own. `check` tells
    whether it answers; without one, the bodies are asked for. `more` is for the client agent."""
    nats_port, port = ours.free_port(), ours.free_port()
    nats = start_nats(ours, nats_port)
    common = ["--server", f"nats://127.0.0.1:{nats_port}", "--admin", "off"]
    limit = ["--max-in-flight", max_in_flight] if max_in_flight else []
    client = ["--listen", f"127.0.0.1:{port}", "--upstream", "bench", "--access-log", "off"]
    upstream = ["--name", "bench", "--to", to or f"http://127.0.0.1:{origin_port}"]
    return ready(System("relay", port, [
        ours.start("client", [binary, "client", *common, *client, *limit, *more], QUIET),
        ours.start("upstream", [binary, "upstream", *common, *upstream, *limit], QUIET),
        nats,
        ours.start("broker", [binary, "broker", *common], QUIET),
    ]), check)


def start_routed_relay(ours, origin_port, binary, host):
    """Client agent, upstream agent and nats-server; requests go to the agent by its route, `host`."""
    nats_port, port, admin_port = ours.free_port(), ours.free_port(), ours.free_port()
    nats = start_nats(ours, nats_port)
    common = ["--server", f"nats://127.0.0.1:{nats_port}"]
    client = ["--listen", f"127.0.0.1:{port}", "--access-log", "off", "--admin", f"127.0.0.1:{admin_port}"]
    upstream = ["--name", "bench", "--to", f"http://127.0.0.1:{origin_port}", "--route", host, "--admin", "off"]
    processes = [ours.start("client", [binary, "client", *common, *client], QUIET),
                 ours.start("upstream", [binary, "upstream", *common, *upstream], QUIET), nats]
    return ready(System("relay", port, processes, {"Host": host}, f"nats://127.0.0.1:{nats_port}", admin_port))


def metric(port, name):
    """A metric of an admin listener; zero where it is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)
    except OSError:
        return 0.0
    finally:
        connection.close()


def status(port, path):
    """What a GET is answered with; zero where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def start_nats(ours, port, jetstream=False):
    binary = tools.find("nats-server")
    # As `relay up` and the documentation have it for a server beside agents: Go's scheduler wakes its other threads
    # for every message, which costs more than they do, and collects what is small anyway.
    stored = ["--jetstream", "--store_dir", ours.subfolder("jetstream")] if jetstream else []
    command = [binary, "--addr", "127.0.0.1", "--port", port, *stored]
    nats = ours.start("nats-server", command, {"GOMAXPROCS": "1", "GOGC": "400"})
    wait_for(lambda: connects(port), [nats], "nats-server")
    return nats


def start_pair(name, ours, origin_port, start_one):
    front, back = ours.free_port(), ours.free_port()
    return ready(System(name, front, [start_one(ours, "back", back, origin_port),
                                      start_one(ours, "front", front, back)]))


def start_nginx_proxy(ours, label, port, next_port):
    folder = ours.subfolder(f"nginx-{label}")
    return start_nginx(ours, label, folder, "nginx_proxy.conf", port=port, next_port=next_port)


def start_haproxy(ours, label, port, next_port):
    binary, folder = tools.find("haproxy"), ours.subfolder(f"haproxy-{label}")
    return ours.start(label, [binary, "-db", "-f", fill("haproxy.cfg", folder, port=port, next_port=next_port)])


def start_nginx(ours, label, folder, template, **values):
    config = fill(template, folder, **values)
    return ours.start(label, [tools.find("nginx"), "-e", "stderr", "-p", folder, "-c", config, "-g", "daemon off;"])


def fill(template, folder, **values):
    """Writes a filled-in template into a folder and returns its path."""
    filled = folder / template
    filled.write_text(string.Template((TEMPLATES / template).read_text()).substitute(values))
    return filled


def ready(system, check=None):
    check = check or (lambda system: all(answers(system, body) for body in BODIES))
    wait_for(lambda: check(system), system.processes, system.name)
    return system


def wait_for(condition, processes, name, patience=READY_PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        for process in processes:
            if not process.running():
                raise Failed(f"{name}: the {process.label} process ended: {process.last_words()}")
        if time.monotonic() > deadline:
            said = "; ".join(f"{process.label}: {process.last_words()}" for process in processes)
            raise Failed(f"{name} gave no correct answer within {patience:.0f} s ({said})")
        time.sleep(0.05)


def answers(system, body):
    """Whether the whole right body arrives with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=2)
    try:
        connection.request("GET", path(body), headers=system.headers)
        response = connection.getresponse()
        return response.status == 200 and response.read() == b"x" * BODIES[body]
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def connects(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.connect()
        return True
    except OSError:
        return False
    finally:
        connection.close()
