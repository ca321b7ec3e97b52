"""What connections may do to a server: each state has its time, order is kept, probes and well-behaved clients are answered."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from mlops_pipeline.serving.connection import STATES
from tests.conftest import Project, unused_port, wait_for
from tests.integration_tests.bad_states import (
    BAD_STATES,
    TO_PREDICT,
    UNREAD,
    UNREAD_ROWS,
    answer,
    closed_by_server,
    connected,
    head_of,
    in_bad_state,
    raw,
)
from tests.integration_tests.clients import get, load, metric, post
from tests.integration_tests.conftest import Server, serving
from tests.integration_tests.faults import children

MANY = 200
LIMIT = 250
SHORT = {f"{state}_timeout_s": 1 for state in ("head", "rest", "unread", "idle")}
LARGE = {"max_body_mb": 50, "max_rows": UNREAD_ROWS, "queue_rows": 10 * UNREAD_ROWS}
PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def impatient(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for nothing long."""
    limits = {**SHORT, **LARGE, "body_timeout_s": 2, "connections": LIMIT}
    with serving(
        registered, tmp_path_factory.mktemp("impatient"), limits=limits, log={"requests": "none"}, probe_port=unused_port()
    ) as server:
        yield server


def ended(server: Server, state: str, cause: str) -> float:
    return metric(server.url, "mlops_connections_ended_total", state=state, cause=cause)


def test_every_state_that_a_client_can_leave_a_connection_in_is_tried() -> None:
    ours = {"answer", "half_closed"}
    assert {state for state, _ in (BAD_STATES | UNREAD).values()} == set(STATES) - ours


@pytest.mark.parametrize("name", BAD_STATES)
def test_no_state_lasts(impatient: Server, name: str) -> None:
    state = BAD_STATES[name][0]
    before = ended(impatient, state, "time")
    with in_bad_state(impatient, name, MANY) as clients:
        assert post(f"{impatient.url}/predict", {"records": [impatient.example]})[0] == 200
        assert closed_by_server(clients, 60) == MANY
        if state != "body":  # whose 408 is the application's
            wait_for(lambda: ended(impatient, state, "time") >= before + MANY, 60, "connections ended for their time")


@pytest.mark.parametrize("name", UNREAD)
def test_an_answer_that_is_not_read_is_broken_off(impatient: Server, name: str) -> None:
    state = UNREAD[name][0]
    before = ended(impatient, state, "time")
    with in_bad_state(impatient, name, 3):
        wait_for(lambda: ended(impatient, state, "time") >= before + 3, 60, "answers broken off")


def statuses(said: bytes) -> list[int]:
    """The statuses of the answers that came back on one connection, in their order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", said)]


def one_row(server: Server) -> bytes:
    body = json.dumps({"records": [server.example]}).encode()
    return TO_PREDICT + b"Content-Length: %d\r\n\r\n" % len(body) + body


UPGRADE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize(
    ("after", "refused"),
    [
        (UPGRADE, [400]),
        (b"this is no HTTP\r\n\r\n", [400]),
        (b"GET /ping HTTP/1.1\r\n\r\n", [400]),
        (b"GET /ping HTTP/1.1\r\nX-", [408]),
        (b"GET /ping HTTP/1.1\r\nX-Long: " + b"x" * 600_000, [431]),
        (TO_PREDICT + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n", [400]),
        (TO_PREDICT + b"Content-Length: 100\r\n\r\n{", [408]),
        (PING * 2, [200, 200]),
    ],
    ids=["upgrade", "no HTTP", "no host", "half a head", "a long head", "a wrong chunk", "half a body", "two more"],
)
@pytest.mark.parametrize("end", [False, True], ids=["open", "half-closed"])
def test_what_follows_a_request_on_its_connection_takes_no_answer_away(
    impatient: Server, after: bytes, refused: list[int], end: bool
) -> None:
    said = raw(impatient, one_row(impatient) * 2 + after, end=end)
    assert statuses(said)[:2] == [200, 200]
    assert said.count(b'"predictions"') == 2
    if not end or refused != [408]:  # what a client will not send is not waited for
        assert statuses(said)[2:] == refused
    assert metric(impatient.url, "mlops_requests_total", protocol="predict", status="500") == 0


def test_requests_that_wait_on_one_connection_are_bounded(impatient: Server) -> None:
    seen = statuses(raw(impatient, PING * 1000))
    assert set(seen[:-1]) == {200}
    assert seen[-1] == 429
    assert 100 <= len(seen) < 200


def test_a_body_that_is_too_large_is_refused_before_it_is_asked_for(impatient: Server) -> None:
    head = TO_PREDICT + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    said = raw(impatient, head % 100_000_000)
    assert statuses(said) == [413]
    assert b"connection: close" in said
    assert statuses(raw(impatient, head.replace(b"/predict", b"/nowhere") % 10)) == [404]
    body = json.dumps({"records": [impatient.example]}).encode()
    with connected(impatient) as client:
        client.sendall(head % len(body))
        assert answer(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert answer(client).startswith(b"HTTP/1.1 200")
        client.sendall(PING)
        assert answer(client).startswith(b"HTTP/1.1 200"), "the connection goes on"


TRAILERS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n"


def test_what_is_told_behind_a_body_is_no_header(impatient: Server) -> None:
    """A proxy looks at headers: a trailer may be no key, no type and no id, in however many packets it comes (RFC 9110, 6.5.1)."""
    body = json.dumps({"records": [impatient.example]}).encode()
    request = TO_PREDICT + b"X-Request-Id: mine\r\n" + TRAILERS % (len(body), body)
    trailers = b"Content-Type: text/html\r\nX-Request-Id: another\r\nContent-Encoding: gzip\r\n\r\n"
    said = raw(impatient, request + trailers + request + b"\r\n", end=True)
    assert statuses(said) == [200, 200]
    assert said.count(b"x-request-id: mine") == 2


def test_a_request_that_is_answered_gets_no_second_word_for_what_is_wrong_behind_it(impatient: Server) -> None:
    """It would be taken for the answer to the next request, which may be another client's behind a proxy."""
    with connected(impatient) as client:
        client.sendall(TO_PREDICT.replace(b"/predict", b"/nowhere") + b"Transfer-Encoding: chunked\r\n\r\n")
        assert answer(client).startswith(b"HTTP/1.1 404")
        client.sendall(b"no number\r\n" + PING)
        assert client.recv(65536) == b""


@pytest.mark.parametrize("name", [b"X-Long: ", b""], ids=["one", "many"])
@pytest.mark.parametrize("early", [False, True], ids=["of a body that is waited for", "of an answered request"])
def test_trailers_are_bounded(impatient: Server, name: bytes, early: bool) -> None:
    head = TO_PREDICT.replace(b"/predict", b"/nowhere") if early else TO_PREDICT
    trailers = b"X-Long: " + b"x" * 600_000 if name else b"X: y\r\n" * 100_000
    said = raw(impatient, head + TRAILERS % (2, b"{}") + trailers)
    assert statuses(said) == [404 if early else 431], "a second word would be taken for the next request's answer"


def test_an_answer_goes_out_whole(impatient: Server) -> None:
    """A head that waits for its body is not left behind where there is none, and costs no packet of its own."""
    with connected(impatient) as client:
        for _ in range(20):
            client.sendall(one_row(impatient))
            assert b'"predictions"' in answer(client)
        client.sendall(PING.replace(b"GET", b"HEAD"))
        assert head_of(client).startswith(b"HTTP/1.1 200")


def test_a_connection_goes_on_after_an_early_answer_whose_body_comes(impatient: Server) -> None:
    with connected(impatient) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n")
        assert answer(client).startswith(b"HTTP/1.1 404")
        client.sendall(b" " * 200_000 + PING)
        assert answer(client).startswith(b"HTTP/1.1 200")


class Usual(NamedTuple):
    """A server with the usual times, few places, and a record that answers wait for."""

    server: Server
    probes: str

    @contextmanager
    def stopped_writer(self) -> Iterator[ExitStack]:
        """While nothing can be put on record, so that no prediction is answered until the writer is let go on."""
        self.tell_writer(signal.SIGSTOP)
        try:
            with ExitStack() as stack:
                yield stack
        finally:
            self.tell_writer(signal.SIGCONT)

    def tell_writer(self, told: signal.Signals) -> None:
        (writer,) = children(self.server.process.pid, b"records.writer")
        os.kill(writer, told)

    def pending(self) -> float:
        return metric(self.probes, "mlops_record_pending")


PLACES = 50


@pytest.fixture(scope="module")
def usual(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usual]:
    probe_port = unused_port()
    settings = {"limits": {"connections": PLACES, "deadline_ms": 60_000}, "record": {"mode": "durable"}, "probe_port": probe_port}
    with serving(registered, tmp_path_factory.mktemp("usual"), **settings) as server:
        yield Usual(server, server.url.rsplit(":", 1)[0] + f":{probe_port}")


def test_strangers_give_way_to_those_who_ask(usual: Usual) -> None:
    """Three times as many connections as the server takes, in every bad state, and each client that asks is answered."""
    server, probes = usual

    def given_way() -> float:
        return metric(probes, "mlops_connections_ended_total", cause="room")

    before, url, body = given_way(), f"{server.url}/predict", {"records": [server.example]}
    with ExitStack() as stack, load(url, body, 2) as steady:
        wait_for(lambda: len(steady.answers) > 20, 60, "answers")
        for name in BAD_STATES:
            stack.enter_context(in_bad_state(server, name, 3 * PLACES // len(BAD_STATES), patient=False))
            assert post(url, body)[0] == 200
            assert get(f"{server.url}/ready")[0] == 200
        count = len(steady.answers)
        wait_for(lambda: len(steady.answers) > count + 20, 60, "answers")
    assert steady.statuses() == {200}
    assert not steady.broken
    assert given_way() > before


@pytest.mark.parametrize("owed", [1, 0], ids=["pipelined", "alone"])
def test_a_slow_body_gives_way_with_a_word_and_takes_no_answer_away(usual: Usual, owed: int) -> None:
    server, probes = usual
    slow_body = TO_PREDICT + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as others, connected(server) as slow:
        wait_for(lambda: metric(probes, "mlops_connections") == 1, 60, "the end of the connections before")
        for _ in range(PLACES - 1):
            known = others.enter_context(connected(server))
            known.sendall(one_row(server))
            assert answer(known).startswith(b"HTTP/1.1 200")
        with usual.stopped_writer() as stack:
            slow.sendall(one_row(server) * owed + slow_body)
            if owed:
                wait_for(lambda: usual.pending() == 1, 60, "a request that waits for the record")
            else:
                assert answer(slow).startswith(b"HTTP/1.1 100")
            before = metric(probes, "mlops_connections_ended_total", state="body", cause="room")
            asking: list[socket.socket] = []

            def has_given_way() -> bool:
                if not asking or select.select(asking[-1:], (), (), 0)[0]:  # at first, or it was too late to say anything
                    asking.append(stack.enter_context(connected(server)))
                    asking[-1].sendall(one_row(server))
                return metric(probes, "mlops_connections_ended_total", state="body", cause="room") > before

            wait_for(has_given_way, 60, "the end of the slow one")
            for _ in range(2):  # a socket that is closed would take the first of them
                slow.sendall(b" " * 100_000)
            usual.tell_writer(signal.SIGCONT)
            said = b"".join(iter(lambda: slow.recv(65536), b""))
            assert statuses(said) == [200] * owed + [503]
            assert b"too_many_connections" in said


def test_probes_are_answered_while_every_place_is_taken(usual: Usual) -> None:
    server, probes = usual
    refused = metric(probes, "mlops_rejected_total", protocol="connection", reason="too_many_connections")
    assert get(f"{probes}/predict")[0] == get(f"{probes}/status")[0] == 404
    wait_for(lambda: metric(probes, "mlops_connections") == 0, 60, "the end of the connections before")
    with usual.stopped_writer() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(PLACES)]
        for client in clients:
            client.sendall(one_row(server))
        wait_for(lambda: usual.pending() == PLACES, 60, "requests that wait for the record")
        status, said, headers = post(f"{server.url}/predict", {"records": [server.example]})
        assert (status, headers["Content-Type"], headers["Retry-After"]) == (503, "application/problem+json", "1")
        assert said["type"] == "/docs#too_many_connections"
        for url in (server.url, probes):
            assert [get(f"{url}{path}")[0] for path in ("/live", "/metrics", "/v2/health/live")] == [200] * 3
            assert metric(url, "mlops_rejected_total", protocol="connection", reason="too_many_connections") == refused + 1
        usual.tell_writer(signal.SIGCONT)
        assert [answer(client)[:12] for client in clients] == [b"HTTP/1.1 200"] * PLACES
