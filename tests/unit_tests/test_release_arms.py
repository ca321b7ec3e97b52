"""What decides of an arm, without a server: units, whether a challenger fits, what its failures are called, when they are too many."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_in

from mlops_pipeline.config.release import Releases
from mlops_pipeline.config.serving import Breaker as Settings
from mlops_pipeline.config.serving import Serving, reloaded
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.engine import NotFinite
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.raw import RawRows
from mlops_pipeline.inference.signature import Rows, Signature
from mlops_pipeline.records.encoding import read_blob, read_rows
from mlops_pipeline.records.entry import RecordLayout
from mlops_pipeline.release.opened import Opened
from mlops_pipeline.serving.arms import Breaker, are_read_alike, header_of, id_of, reason_of, value_of, why_of, why_unfit
from mlops_pipeline.serving.aside import Aside
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocol.predict import Predict
from mlops_pipeline.serving.record import Recorder
from mlops_pipeline.serving.request import JSON, Request
from mlops_pipeline.serving.shadows import Shadows


def signature(task: str = "binary", classes: tuple[Any, ...] = (0, 1), **kinds: str) -> Signature:
    columns = {name: Column(kind) for name, kind in (kinds or {"size": "number", "kind": "category"}).items()}
    return Signature.of(Contract(task=task, target="y", columns=columns, classes=list(classes)))


def served(one: Signature, raw: Signature | None = None, *, only_raw: bool = False) -> Any:
    taken = None if raw is None else SimpleNamespace(signature=raw)
    return SimpleNamespace(signature=one, loaded=SimpleNamespace(raw=taken), raw=taken, only_raw=only_raw)


def test_a_release_is_refused_at_its_start_where_servers_would_never_ask_its_challenger() -> None:
    columns = {"size": Column("number"), "kind": Column("category")}
    champion = Contract(task="binary", target="y", columns=columns, classes=[0, 1])
    contracts: dict[str, Contract | None] = {
        "1": champion,
        "2": replace_in(champion, columns={**columns, "new": Column("number")}),
        "3": replace_in(champion, columns={"size": Column("number")}),
        "4": None,
        "5": replace_in(champion, classes=["a", "b"]),
        "6": replace_in(champion, columns={**columns, "new": Column("number")}, raw=columns),
    }

    def of(champion: str = "1", split: Any = "server", **settings: Any) -> Any:
        watch: Any = SimpleNamespace(contract=lambda _, version: contracts[version], serving=Serving(**settings))
        releases = Releases(split=split)
        return lambda challenger: Opened(releases, None, watch, "champion").refuse_unfit(champion, challenger)

    for challenger, said in (("2", "champion does not take, so that clients need not send them: new"), ("5", "other classes")):
        with pytest.raises(PipelineError, match=f"champion: version {challenger} cannot take the requests of .*{said}"):
            of()(challenger)
        of(split="elsewhere")(challenger)  # whoever divides knows
    of()("3")
    of()("4")  # its files are not here: the servers tell
    with pytest.raises(PipelineError, match="extra_columns is refuse: kind"):
        of(extra_columns="refuse")("3")
    contracts["7"] = replace_in(champion, columns={**columns, "other": Column("number")}, raw=columns)
    of("7", inputs="raw")("6")  # raw rows alone are taken, and these are alike
    with pytest.raises(PipelineError, match="need not send them: new"):
        of("7")("6")


def rows(numbers: list[list[float]], categories: list[list[str]], ids: list[str] | None = None) -> Rows:
    return Rows(len(numbers), np.array(numbers), np.array(categories, object), ids=ids)


def request(name: str) -> Request:
    return Request(name, "predict", "champion", "/predict", 0.0, 0.0, content_type=JSON)


def test_a_unit_is_what_all_rows_of_a_request_have_in_common() -> None:
    headers = [(b"host", b"x"), (b"x-user", b"ann"), (b"x-user", b"bob"), (b"x-empty", b"")]
    assert [header_of(name, headers) for name in (b"x-user", b"x-empty", b"x-none")] == ["ann", None, None]
    given = rows([[7, 0.5], [7, 1.0]], [["a"], ["a"]], ["id", "id"])
    mixed = rows([[7, np.nan], [8, np.nan]], [["a"], ["b"]], ["id", "other"])
    assert (id_of(given), id_of(RawRows(given)), id_of(mixed)) == ("id", "id", None)
    assert id_of(rows([[1, 1]], [["a"]])) is None
    champion = served(signature(user="number", size="number", kind="category"))
    assert [value_of(name, given, champion) for name in ("user", "kind", "size", "none")] == ["7", "a", None, None]
    assert [value_of(name, mixed, champion) for name in ("user", "kind", "size")] == [None, None, None]
    assert value_of("kind", rows([[7, 0.5]], [[MISSING]]), champion) is None
    # A raw row's column counts before it is made a feature of.
    raw = served(signature(size="number"), signature(user="number", size="number", kind="category"))
    assert value_of("user", RawRows(given), raw) == "7"


def test_a_challenger_that_cannot_take_the_champions_requests_is_told_why() -> None:
    champion = served(signature())
    assert why_unfit(champion, served(signature(kind="category", size="number"))) == ""
    assert why_unfit(champion, served(signature(size="number"))) == ""
    assert "other classes (a, b) than the champion (0, 1)" in why_unfit(champion, served(signature(classes=("a", "b"))))
    assert "another thing (regression)" in why_unfit(champion, served(signature("regression", ())))
    assert "need not send them: new" in why_unfit(champion, served(signature(size="number", new="number")))
    assert "as another kind than the champion: size" in why_unfit(champion, served(signature(size="category")))
    strict = replace(signature(size="number"), refuse_extra=True)
    assert "extra_columns is refuse: kind" in why_unfit(champion, served(strict))
    raw = served(signature(), signature(user="number", size="number"))
    assert why_unfit(raw, champion) == "it takes no raw rows, which the champion takes"
    assert "raw columns that the champion does not take, so that clients need not send them: extra" in why_unfit(
        raw, served(signature(), signature(extra="number"))
    )
    # Who takes raw rows alone is asked for no finished features.
    only = served(signature(), signature(size="number"), only_raw=True)
    assert why_unfit(only, served(signature(other="number"), signature(size="number"))) == ""


def test_rows_are_not_read_again_only_where_nothing_would_be_read_otherwise() -> None:
    champion = served(signature())
    assert are_read_alike(champion, served(signature()))
    others = [
        signature(kind="category", size="number"), signature(size="number"), signature(size="integer", kind="category"),
        replace(signature(), reject_unseen=True), replace(signature(), seen={"kind": frozenset("ab")}),
        replace(signature(), precision=np.float64), replace(signature(), max_rows=1),
    ]  # fmt: skip
    assert [are_read_alike(champion, served(other)) for other in others] == [index == 0 for index in range(len(others))]
    assert not are_read_alike(served(signature(), signature()), served(signature(), signature())), "of raw rows more is to be known"


class Behind:
    """A challenger asked behind answers, with what it was asked and what went on record."""

    def __init__(self, *, inline: bool, **shadow: Any) -> None:
        self.signature, self.fails = signature(), False
        challenger = served(self.signature)
        challenger.version, challenger.protocols = "2", {"predict": Predict(self.signature, "champion", "2")}
        challenger.layout = RecordLayout("digest", "binary", ("size",), ("kind",), frozenset(), (0, 1))
        self.calls: list[tuple[list[list[float]], list[list[str]], str]] = []
        self.kept: dict[str, tuple[str, str, list[float] | None]] = {}
        self.metrics, settings = Metrics(), Serving.model_validate({"release": {"shadow": shadow}})
        store: Any = SimpleNamespace(start=lambda *_: None, layout=lambda *_: None, send=self._send)
        self.recorder = Recorder(store, asyncio.get_running_loop(), durable=True, loss_ms=100, max_bytes=1 << 20)
        self.recorder.start()
        service: Any = SimpleNamespace(settings=settings, metrics=self.metrics, recorder=self.recorder)
        self.shadows = Shadows(service, "champion", challenger, self._predict, inline=inline)

    def _predict(self, numbers: np.ndarray, categories: np.ndarray) -> np.ndarray:
        self.calls.append((numbers.tolist(), categories.tolist(), threading.current_thread().name))
        if self.fails:
            raise ZeroDivisionError
        return np.stack([1 - numbers[:, 0], numbers[:, 0]], axis=1)

    def _send(self, first: int, rows: Sequence[bytes]) -> None:
        for row in read_rows(len(rows), b"".join(rows)):
            blob = read_blob(row[8])
            outputs = None if blob.outputs is None else np.frombuffer(blob.outputs, np.float32).tolist()
            self.kept[row[1]] = (blob.arm, row[6], outputs)
        self.recorder._heard(first + len(rows), "")

    def add(self, name: str, body: bytes, given: Rows | None) -> None:
        self.shadows.add(request(name), body, given)

    def given(self, size: float) -> Rows:
        return Predict(self.signature, "champion", "1").rows(b'{"records": [{"size": %g, "kind": "a"}]}' % size)

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(60):
            while not self.kept.keys() >= set(names):
                await asyncio.sleep(0.001)

    def counted(self) -> dict[tuple[str, str], float]:
        self.metrics.settle()
        samples = (sample for family in self.metrics.registry().collect() for sample in family.samples)
        return {(sample.name, sample.labels.get("reason", "")): sample.value for sample in samples}


def test_what_is_asked_behind_answers_is_asked_together_and_read_only_where_it_must_be() -> None:
    async def work() -> None:
        behind = Behind(inline=False, requests=3)
        behind.add("given", b"not looked at", behind.given(1))
        behind.add("read", b'{"records": [{"size": 2, "kind": "b"}]}', None)
        behind.add("refused", b'{"records": [{"size": "two"}]}', None)
        behind.add("too many", b"", behind.given(1))
        await behind.until("given", "read", "refused")
        behind.shadows.close()
        assert behind.calls == [([[1.0], [2.0]], [["a"], ["b"]], "shadow")], "one call, in a thread that answers do not wait for"
        refused = behind.kept["refused"]
        assert behind.kept == {"given": ("shadow", "", [0, 1]), "read": ("shadow", "", [-1, 2]), "refused": ("shadow", refused[1], None)}
        assert refused[1].startswith("refused ")
        counted = behind.counted()
        assert counted["mlops_release_shadows_left_out_total", "queue_full"] == 1
        assert counted["mlops_release_request_seconds_count", ""] == 3
        assert counted["mlops_release_errors_total", ""] == 1

    asyncio.run(work())


def test_an_engine_known_to_be_quick_is_asked_a_few_rows_at_a_time_on_the_loop_once_its_time_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlops_pipeline.serving.shadows.PIECE_S", 60.0)  # on a machine however slow

    async def work() -> None:
        behind, here = Behind(inline=True, share=1.0), threading.current_thread().name
        behind.add("first", b"", behind.given(1))
        await behind.until("first")
        names = [f"later-{number}" for number in range(40)]
        for number, name in enumerate(names):
            behind.add(name, b"", behind.given(number))
        behind.add("long", b"", Rows(17, np.ones((17, 1), np.float32), np.full((17, 1), "a", object)))
        behind.add("read", b'{"records": [{"size": 2, "kind": "b"}]}', None)
        await behind.until(*names, "long", "read")
        asked = [(len(numbers), thread) for numbers, _, thread in behind.calls]
        assert asked[:4] == [(1, "shadow"), (16, here), (16, here), (8, here)]
        assert asked[4:] == [(18, "shadow")], "many rows, and what is still to be read, keep nobody waiting"
        assert [behind.kept[name] for name in names] == [("shadow", "", [1 - number, number]) for number in range(40)]
        behind.fails = True
        for name in ("dark", "darker"):
            behind.add(name, b"", behind.given(1))
        await behind.until("dark", "darker")
        assert behind.kept["dark"] == behind.kept["darker"] == ("shadow", "failed ZeroDivisionError", None)
        behind.shadows.close()
        counted = behind.counted()
        assert counted["mlops_release_request_seconds_count", ""] == 45
        assert counted["mlops_release_errors_total", ""] == 2

    asyncio.run(work())


def test_one_that_is_slow_is_asked_in_its_thread_however_few_rows_come() -> None:
    async def work() -> None:
        behind, predict = Behind(inline=True, share=1.0), Behind._predict

        def slowly(numbers: np.ndarray, categories: np.ndarray) -> np.ndarray:
            until = time.thread_time() + 0.02  # of a core: how busy the machine is does not matter
            while time.thread_time() < until:
                pass
            return predict(behind, numbers, categories)

        behind.shadows._predict = slowly
        for number in range(4):
            behind.add(f"{number}", b"", behind.given(number))
            await behind.until(f"{number}")
        behind.shadows.close()
        assert [thread for *_, thread in behind.calls] == ["shadow"] * 4

    asyncio.run(work())


def test_shadows_for_which_the_record_has_no_room_are_counted() -> None:
    async def work() -> None:
        behind = Behind(inline=False)
        behind.recorder._max_bytes = 500
        for number in range(20):
            behind.add(f"{number}", b"", behind.given(1))
        await behind.until("0")
        behind.shadows.close()
        kept, left_out = len(behind.kept), behind.counted()["mlops_release_shadows_left_out_total", "record_full"]
        assert 0 < kept < 20
        assert kept + left_out == 20

    asyncio.run(work())


@pytest.mark.parametrize(
    ("error", "reason", "why"),
    [
        (NotFinite(np.array([0]), np.array([np.nan])), "not_finite", "version 2: not_finite"),
        (Refused(503, [Fault("deadline", "late")]), "late", "version 2: late"),
        (Refused(429, [Fault("queue_full", "full")]), "queue_full", "version 2: queue_full"),
        (Refused(422, [Fault("null", "'secret' is null")]), "refused", "version 2: refused null"),
        (KeyError("a client's value"), "failed", "version 2: failed KeyError"),
    ],
)
def test_a_failure_has_a_word_for_figures_and_no_value_on_record(error: Exception, reason: str, why: str) -> None:
    assert (reason_of(error), why_of("2", error)) == (reason, why)


def test_a_breaker_trips_once_by_a_row_of_failures_or_by_their_share() -> None:
    settings = Settings(in_a_row=3, last=20, share=0.25)

    def count(breaker: Breaker, *, failed: bool) -> bool:
        if failed:
            return breaker.failed(settings)
        breaker.succeeded()
        return False

    in_a_row = Breaker()
    told = [count(in_a_row, failed=failed) for failed in (True, True, False, True, True, True, True)]
    assert told == [False] * 5 + [True, False]
    assert in_a_row.reason == "3 failures in a row"
    by_share = Breaker()
    told = [count(by_share, failed=number % 4 == 0) for number in range(40)]
    assert told.index(True) == 16
    assert by_share.reason == "5 failures among the last 17"
    seldom = Breaker()
    assert not any(count(seldom, failed=number % 5 == 0) for number in range(200))


def test_the_switch_is_taken_at_once_and_another_table_at_a_restart() -> None:
    now = Serving.model_validate({"release": {"file": "one.sqlite"}})
    off, others = reloaded(now, Serving.model_validate({"release": {"file": "one.sqlite", "enabled": False}}), "serving.yaml")
    assert (off.release.enabled, others) == (False, [])
    moved, others = reloaded(now, Serving.model_validate({"release": {"file": "two.sqlite", "enabled": False}}), "serving.yaml")
    assert (moved.release.enabled, moved.release.file, others) == (False, "one.sqlite", ["release"])
    with pytest.raises(ValueError, match="must be postgresql"):
        Serving.model_validate({"release": {"uri": "mysql://x"}})


def test_a_thread_ends_with_who_had_it_so_that_no_release_leaves_one_behind() -> None:
    aside = Aside("challenger of a release that is over")
    assert aside.submit(threading.current_thread).result(60).name == "challenger of a release that is over"
    [thread] = [each for each in threading.enumerate() if each.name == "challenger of a release that is over"]
    del aside
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
