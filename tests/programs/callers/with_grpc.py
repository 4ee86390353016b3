"""Callers by the grpcio package, with plain bytes for messages."""

import queue
import sys
import uuid

import case
import grpc

SERVICE = "/relay.Test/"


def channel(url):
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(url.removeprefix("http://"), options=options)


def one_answer_to_one_message(url):
    with channel(url) as to:
        call = to.unary_unary(SERVICE + "Unary")
        # The last is longer than a window of HTTP/2, and than a message of NATS.
        for size in [0, 1, 1000, 3 * case.MIB]:
            message = b"".join(case.pieces(size))
            answer, status = call.with_call(message, timeout=40, metadata=[("x-says", "héllo".encode().hex())])
            assert answer == message
            assert dict(status.initial_metadata())["x-said"] == "héllo".encode().hex()
            assert dict(status.trailing_metadata())["x-length"] == str(size)


def many_answers_to_one_message(url):
    with channel(url) as to:
        answers = to.unary_stream(SERVICE + "ServerStream")(b"1000", timeout=40)
        assert list(answers) == [b"%d" % number for number in range(1000)]


def one_answer_to_many_messages(url):
    with channel(url) as to:
        size = 8 * case.MIB
        answer = to.stream_unary(SERVICE + "ClientStream")(case.pieces(size), timeout=40)
        assert answer == b"%d" % size


def answers_between_messages(url):
    """The next message is sent when the answer to the last is here."""
    messages = queue.Queue()
    with channel(url) as to:
        answers = to.stream_stream(SERVICE + "BothStream")(iter(messages.get, None), timeout=40)
        for number in range(100):
            messages.put(b"%d" % number)
            assert next(answers) == b"re: %d" % number
        messages.put(None)
        assert list(answers) == []
        assert answers.code() is grpc.StatusCode.OK


def an_error_after_an_answer_is_in_the_trailers(url):
    with channel(url) as to:
        answers = to.unary_stream(SERVICE + "Fail")(b"", timeout=40)
        assert next(answers) == b"so far so good"
        error = failure(lambda: next(answers))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not yet: ünfinished", error.details()
        trailers = dict(error.trailing_metadata())
        assert trailers["x-reason"] == "the test wants it"
        assert trailers["grpc-status-details-bin"] == bytes(range(256))


def an_error_can_be_the_whole_answer(url):
    with channel(url) as to:
        error = failure(lambda: to.unary_unary(SERVICE + "Refuse")(b"", timeout=40))
        assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        error = failure(lambda: to.unary_unary(SERVICE + "NoSuchMethod")(b"", timeout=40))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error


def a_deadline_ends_the_call_on_both_sides(url):
    name = uuid.uuid4().bytes
    with channel(url) as to:
        answers = to.unary_stream(SERVICE + "Hang")(name, timeout=2)
        assert next(answers) == b"hanging"
        error = failure(lambda: next(answers))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert to.unary_unary(SERVICE + "WasCancelled")(name, timeout=20) == b"yes"


def a_cancellation_reaches_the_server(url):
    """There is no deadline that could end it: the server learns it from the wire."""
    name = uuid.uuid4().bytes
    with channel(url) as to:
        answers = to.unary_stream(SERVICE + "Hang")(name)
        assert next(answers) == b"hanging"
        answers.cancel()
        assert to.unary_unary(SERVICE + "WasCancelled")(name, timeout=20) == b"yes"


def failure(call):
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"it was answered: {answer}")


case.run(sys.modules[__name__])
