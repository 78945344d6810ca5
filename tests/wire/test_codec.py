"""The codec gives back what it was given, and refuses everything else with one error."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.model.errors import Problem, SteadError
from stead.model.messages import Event, GetStatus, Reply, Request, SeriesAnswer, Why
from stead.wire import LINE_LIMIT, decode_outgoing, decode_request, encode, request_id
from tests.wire.messages_strategy import structs

SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SOME
@given(structs(Request))
def test_requests_round_trip(request: Request) -> None:
    line = encode(request)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode_request(line) == request
    assert request_id(line) == request.id


@SOME
@given(st.one_of(structs(Reply), structs(Event)))
def test_outgoing_round_trip(message: Reply | Event) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode_outgoing(line) == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_one_error(line: bytes) -> None:
    for decode in (decode_request, decode_outgoing):
        with pytest.raises(SteadError) as caught:
            decode(line)
        assert caught.value.problem.code == "wire.malformed"
    assert isinstance(request_id(line), int)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b'{"id":7,"body":{"type":"no-such-question"}}\n', 7),
        (b'{"id":8,"body":{"type":"undo"}}\n', 8),
        (b'{"id":"nine","body":{"type":"status"}}\n', 0),
        (b"[" * 100_000, 0),
        (b'{"id":3,"body":{"type":"why","thing":"\xff"}}\n', 3),
    ],
)
def test_a_broken_request_is_refused_and_its_asker_known(line: bytes, number: int) -> None:
    with pytest.raises(SteadError):
        decode_request(line)
    assert request_id(line) == number


def test_lines_beyond_the_limit_are_refused_both_ways() -> None:
    with pytest.raises(SteadError, match="longer than"):
        encode(Request(1, Why("x" * LINE_LIMIT)))
    with pytest.raises(SteadError, match="longer than"):
        decode_request(b" " * LINE_LIMIT + b"{}")


def test_a_name_that_utf8_cannot_carry_arrives_replaced() -> None:
    message = decode_request(encode(Request(1, Why("caf\udce9"))))
    assert message == Request(1, Why("caf?"))


def test_unknown_values_stay_unknown() -> None:
    answer = SeriesAnswer("cpu", "host", "percent", "raw", (1, 2), (None, 0.0))
    assert decode_outgoing(encode(Reply(1, answer))) == Reply(1, answer)


def test_problems_and_questions_are_told_apart_by_tag() -> None:
    assert b'"type":"problem"' in encode(Reply(4, Problem("a", "b", "c")))
    assert encode(Request(1, GetStatus())) == b'{"id":1,"body":{"type":"status"}}\n'
