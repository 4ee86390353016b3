"""A gRPC service whose messages are plain bytes: no compiler of interfaces is needed.

    rpc.py
"""

import concurrent.futures
import threading

import grpc

SERVICE = "relay.Test"
# Calls that this side saw cancelled, by the name the caller gave.
cancelled = {}
lock = threading.Lock()


def unary(message, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-said", metadata.get("x-says", "")),))
    context.set_trailing_metadata((("x-length", str(len(message))),))
    return message


def server_stream(message, context):
    for number in range(int(message)):
        yield b"%d" % number


def client_stream(messages, context):
    return b"%d" % sum(len(message) for message in messages)


def both_stream(messages, context):
    """Answers each before it reads the next."""
    for message in messages:
        yield b"re: " + message


def fail(message, context):
    """After an answer, an error that only the trailers can tell."""
    yield b"so far so good"
    details = (("grpc-status-details-bin", bytes(range(256))), ("x-reason", "the test wants it"))
    context.set_trailing_metadata(details)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet: ünfinished")


def refuse(message, context):
    """An error instead of an answer: head and trailers in one."""
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")


def hang(message, context):
    """Says one thing, then waits to be cancelled."""
    event = event_of(message)
    context.add_callback(event.set)
    yield b"hanging"
    event.wait()


def was_cancelled(message, context):
    """Answers when the call of that name was cancelled."""
    event_of(message).wait()
    return b"yes"


def event_of(name):
    with lock:
        return cancelled.setdefault(name, threading.Event())


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "BothStream": grpc.stream_stream_rpc_method_handler(both_stream),
    "Fail": grpc.unary_stream_rpc_method_handler(fail),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}

server = grpc.server(
    concurrent.futures.ThreadPoolExecutor(max_workers=32),
    options=[("grpc.max_receive_message_length", -1)],
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("port", port, flush=True)
server.wait_for_termination()
