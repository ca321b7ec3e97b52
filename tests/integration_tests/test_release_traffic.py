"""A release in a real server of two workers: who answers, who stands in, what is asked behind, and how fast all of it ends."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline.events import Event, ReleaseMoved
from mlops_pipeline.records.reading import UNIT, batches, newest
from mlops_pipeline.release.controller import Controller, begin
from mlops_pipeline.release.opened import opened
from mlops_pipeline.release.table import Table, open_table
from mlops_pipeline.release.traffic import share_of, unit_on_record
from tests.conftest import Project, wait_for
from tests.integration_tests.clients import get, metric, post
from tests.integration_tests.conftest import Server, serving
from tests.integration_tests.faults import promote

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release_traffic")]

HERE = Path(__file__).parent
WORKERS = 2
USERS = [f"user-{number}" for number in range(40)]
"""What is promised of a way back, in every worker."""


@dataclass
class Divided:
    """A server of version 1 whose challenger is version 2, which does what it is told."""

    project: Project
    server: Server
    table: Table
    number: int = 0

    def begin(self, challenger: str = "2", **changes: Any) -> None:
        """Another release, once both workers carry it out."""
        self.end()
        given = {"unit": "header:X-User", "weight": 0.5, "shadow": 0.0, "lease_until": time.time() + 600, **changes}
        self.number = self.table.start("champion", "1", challenger, policy="{}", step="a", reason="test", who="test", **given)
        if challenger == "2":
            self.heard("knows its challenger")

    def turn(self, state: str = "running", weight: float = 0.5, shadow: float = 0.0) -> None:
        """The release's next transition."""
        last = self.table.last(self.number)
        assert last is not None
        more = {"step": "a", "reason": "test", "evidence": {}, "who": "test"}
        self.table.advance(self.number, last.number, state=state, weight=weight, shadow=shadow, **more)

    def end(self) -> None:
        self.tell("ok")
        if self.number and self.table.current():
            self.turn("aborted", 0.0)
            self.heard("release has ended")

    def tell(self, word: str) -> None:
        """What the challenger does from now on."""
        (self.project.folder / "behaviour").write_text(word)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = get(f"{self.server.url}/status")[1]["releases"].get("champion", {})
        return found

    def heard(self, event: str, **facts: Any) -> None:
        """Wait until both workers have written so of this release into their log."""
        wanted = {"event": event, "release": self.number, **facts}

        def told() -> int:
            lines = [json.loads(line) for line in self.server.log.read_text().splitlines() if line.startswith("{")]
            return sum(wanted.items() <= line.items() for line in lines)

        wait_for(lambda: told() >= WORKERS, 60, f"'{event}' of both workers")

    def salt(self) -> str:
        return self.table.current()["champion"].salt

    def settles(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until it holds in every worker: whichever answers, many times over."""
        wait_for(lambda: all(condition() for _ in range(8)), seconds, "a release that both workers carry out")

    def asked(self, user: str = "", path: str = "/predict", body: Any = None, **headers: str) -> tuple[int, str, str]:
        """Status, arm and version of an answer."""
        more = {"X-User": user} if user else {}
        status, _, said = post(f"{self.server.url}{path}", body or {"records": [self.server.example]}, **more, **headers)
        return status, said.get("mlops-arm", ""), said.get("mlops-model-version")

    def of(self, prefix: str, count: int, *, shadows: bool = True) -> pl.DataFrame:
        """What is on record of requests whose ids begin so, once it is so many entries."""
        records = self.server.folder / "records"

        def there() -> pl.DataFrame:
            tables = list(batches(records, shadows=shadows, units=True))
            return pl.concat(tables).filter(pl.col("request_id").str.starts_with(prefix)) if tables else pl.DataFrame()

        wait_for(lambda: there().height >= count, 60, f"{count} entries on record")
        return there().sort("time", maintain_order=True)


@pytest.fixture(scope="module")
def divided(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Divided]:
    folder = tmp_path_factory.mktemp("divided")
    shutil.copytree(registered.folder, folder / "project", symlinks=True)
    project = Project(folder / "project", folder / "project" / registered.config.name)
    shutil.copy(HERE / "faulty.py", project.folder / "faulty.py")
    train = {"estimator": "lightgbm", "params": {"n_estimators": 35, "num_leaves": 7}, "format": "faulty"}
    project.change(train=train, onnx={"enabled": False}, gate={"champion_margin": 1.0}, plugins=["faulty.py"])
    project.run()
    promote(project, "1")
    # However busy the machine: the champion has a minute, and a challenger that answers at all two seconds of it.
    release = {"file": str(folder / "releases.sqlite"), "header": True, "patience": 0.035, "shadow": {"deadline_ms": 60_000}}
    settings = {"workers": WORKERS, "release": release, "limits": {"deadline_ms": 60_000}, "registry": {"poll_s": 60}}
    with serving(project, folder / "serve", **settings) as server:
        yield Divided(project, server, open_table(folder / "releases.sqlite"))


def test_a_unit_keeps_its_arm_in_every_worker_and_protocol_and_as_weights_grow(divided: Divided) -> None:
    divided.begin(weight=0.3)
    salt = divided.salt()
    expected = {user: ("challenger", "2") if share_of(salt, user) < 0.3 else ("champion", "1") for user in USERS}
    assert len(set(expected.values())) == 2
    example = divided.server.example
    invocations = {"dataframe_records": [example]}
    tensors = [{"name": k, "shape": [1], "datatype": "BYTES" if isinstance(v, str) else "FP64", "data": [v]} for k, v in example.items()]
    for user in USERS:
        assert divided.asked(user) == (200, *expected[user])
    for user in USERS[:8]:
        assert divided.asked(user, "/invocations", invocations) == (200, *expected[user])
        assert divided.asked(user, "/v2/models/champion/infer", {"inputs": tensors}) == (200, *expected[user])
        # Who names a version gets that one, and no release's.
        assert divided.asked(user, "/v2/models/champion/versions/1/infer", {"inputs": tensors}) == (200, "", "1")
    before = metric(divided.server.url, "mlops_release_not_sticky_total")
    assert before == 0, "every request had its unit"
    assert divided.asked()[0] == 200
    wait_for(lambda: metric(divided.server.url, "mlops_release_not_sticky_total") == before + 1, 60, "a count")
    divided.turn(weight=0.8)
    divided.heard("release", weight=0.8)
    for user, (arm, _) in expected.items():
        assert arm == "champion" or divided.asked(user) == (200, "challenger", "2")
    answered = post(f"{divided.server.url}/predict", {"records": [example]}, **{"X-User": USERS[0], "X-Request-Id": "grown"})[1]
    one = divided.of("grown", 1)
    assert (one["arm"][0], one["version"][0]) == (("challenger", "2") if answered["model"]["version"] == "2" else ("champion", "1"))
    assert one[UNIT][0] == unit_on_record(salt, USERS[0]), "one client's requests are one witness to whoever judges the release"
    divided.begin(unit="ids", weight=0.5)
    salt = divided.salt()
    for user in USERS[:10]:
        arm = "challenger" if share_of(salt, user) < 0.5 else "champion"
        assert divided.asked(body={"records": [example, example], "ids": [user, user]})[:2] == (200, arm)
    assert divided.asked(body={"records": [example, example], "ids": ["a", "b"]}, **{"X-Request-Id": "mixed"})[0] == 200
    assert set(divided.of("mixed", 2)["why"]) == {"not sticky"}
    assert metric(divided.server.url, "mlops_release_request_seconds_count", arm="challenger") > 10


def test_what_the_challenger_would_have_said_is_on_record_under_the_same_request(divided: Divided) -> None:
    divided.begin(weight=0.0, shadow=1.0)
    asked = [divided.asked(user, **{"X-Request-Id": f"shadow-{user}"}) for user in USERS[:10]]
    assert set(asked) == {(200, "champion", "1")}
    entries = divided.of("shadow-", 20)
    for (request,), rows in entries.group_by("request_id"):
        by_arm = {row["arm"]: row for row in rows.iter_rows(named=True)}
        assert by_arm.keys() == {"champion", "shadow"}, request
        assert (by_arm["champion"]["version"], by_arm["shadow"]["version"]) == ("1", "2")
        assert by_arm["champion"]["probability_1"] != by_arm["shadow"]["probability_1"]
    assert divided.of("shadow-", 10, shadows=False)["arm"].unique().to_list() == ["champion"]
    assert sorted(newest(divided.server.folder / "records", 20, request="shadow-user-3")["arm"]) == ["champion", "shadow"]
    divided.tell("throw")
    assert divided.asked(USERS[0], **{"X-Request-Id": "dark-1"}) == (200, "champion", "1")
    assert sorted(divided.of("dark-1", 2)["error"]) == ["", "failed ZeroDivisionError"]


@pytest.mark.parametrize(("word", "why"), [("throw", "failed ZeroDivisionError"), ("nan", "not_finite"), ("wait", "late")])
def test_the_champion_answers_for_a_challenger_that_fails_until_no_worker_asks_it(divided: Divided, word: str, why: str) -> None:
    divided.begin(weight=1.0)
    divided.tell(word)
    asked = [divided.asked(user, **{"X-Request-Id": f"{word}-{user}"}) for user in USERS]
    assert {(status, version) for status, _, version in asked} == {(200, "1")}
    assert {arm for _, arm, _ in asked} <= {"fallback", "champion"}
    wait_for(lambda: divided.table.breakers(divided.number), 60, "a breaker in the table")
    assert "5 failures in a row" in divided.table.breakers(divided.number)[0].reason
    entries = divided.of(f"{word}-", len(USERS))
    failed = entries.filter((pl.col("arm") == "fallback") & ~pl.col("why").str.ends_with("tripped"))
    assert set(failed["why"]) == {f"version 2: {why}"}
    assert 5 <= failed.height <= 10, "each of two workers has a breaker of its own, and waits no more for who does not answer"
    # What one worker has seen holds for all, whatever is decided then, though it answers well again.
    divided.tell("ok")
    divided.settles(lambda: divided.asked(USERS[0])[1] == "champion")
    divided.turn("paused", weight=1.0)
    divided.turn(weight=1.0)
    turn = divided.table.current()["champion"].turn
    divided.settles(lambda: divided.status()["turn"] == turn)
    assert {divided.asked(user)[1:] for user in USERS} <= {("fallback", "1"), ("champion", "1")}


@pytest.mark.parametrize(
    ("word", "first", "reason"),
    [("throw", "shadow", "failures"), ("nan", "50 %", "a worker tripped"), ("wait", "50 %", "a worker tripped")],
)
def test_the_controller_throws_a_faulty_challenger_out_of_the_first_step_that_sees_it(
    divided: Divided, word: str, first: str, reason: str
) -> None:
    """`python -m benchmarks.release_faults` does the same with clients that ask all the time, and for faults of quality and time."""
    divided.end()
    config, watch = (divided.server.folder / name for name in ("release.yaml", "monitoring_config.yaml"))
    steps = [{"shadow": 1.0, "least_rows": 400}, {"weight": 0.5, "least_rows": 400}, {"weight": 1.0, "least_rows": 400}]
    policy = {
        "steps": [step for step in steps if first == "shadow" or "weight" in step],
        "guardrails": {"failures": {"figure": "failures", "worse_by": 0.2}},
        "expected_rows": 100,
        "least_units": 20,
    }
    settings = {"serving": "serving.yaml", "monitoring": watch.name, "unit": "header:X-User", "auto": False, "policy": policy}
    config.write_text(yaml.safe_dump(settings))
    watch.write_text(yaml.safe_dump({**yaml.safe_load(watch.read_text()), "serving": "serving.yaml"}))
    of, told, answers = opened(config), list[Event](), list[tuple[int, str, str]]()
    with closing(of.table()) as table, Controller(of, table, told.append) as controller:
        divided.number = begin(of, table, 1, 2, "test", "test")
        divided.heard("knows its challenger")
        divided.tell(word)
        deadline = time.monotonic() + 300
        while table.current():
            assert time.monotonic() < deadline, controller.look()
            answers += [divided.asked(f"{len(answers)}-{user}", **{"X-Request-Id": f"{divided.number}-{user}"}) for user in USERS]
            controller.look()
        last = table.last(divided.number)
    assert last is not None
    assert (last.state, last.step) == ("aborted", first)
    assert reason in last.reason
    assert {(status, version) for status, _, version in answers} == {(200, "1")}
    arms = Counter(arm for _, arm, _ in answers)
    assert arms["fallback"] == 0 if first == "shadow" else 0 < arms["fallback"] < 0.8 * len(answers)
    entries = divided.of(f"{divided.number}-", len(answers))
    assert not entries.filter((pl.col("arm") == "champion") & (pl.col("error").fill_null("") != "")).height
    # A busy machine may let the lease end between two looks: then it is told once more that the release runs.
    # What other tests have written into the table is told, too.
    states = [event.state for event in told if isinstance(event, ReleaseMoved) and event.release == divided.number]
    assert states[-1] == "aborted" and set(states[:-1]) == {"running"}


def test_a_way_back_reaches_every_worker_long_before_the_lease_ends(divided: Divided) -> None:
    def is_back() -> bool:
        return {divided.asked(user)[1:] for user in USERS[:12]} == {("", "1")}

    divided.begin(weight=1.0)
    assert {divided.asked(user)[1] for user in USERS} == {"challenger"}
    divided.turn("aborted", 0.0)
    wait_for(is_back, 60, "the champion's answers")
    divided.begin(weight=1.0)
    config = divided.server.folder / "serving.yaml"
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**settings, "release": {**settings["release"], "enabled": False}}))
    divided.server.process.send_signal(signal.SIGHUP)
    wait_for(is_back, 60, "the champion's answers")
    config.write_text(yaml.safe_dump(settings))
    divided.server.process.send_signal(signal.SIGHUP)
    divided.settles(lambda: divided.asked(USERS[0]) == (200, "challenger", "2"))
    # A lease that ends is a way back too, whatever becomes of the controller.
    divided.begin(weight=1.0, lease_until=time.time() + 2)
    wait_for(is_back, 60, "the champion's answers")


def test_another_champion_is_heard_of_at_once_and_a_version_that_cannot_answer_is_told(divided: Divided) -> None:
    import jsonschema

    divided.begin(challenger="9")
    divided.settles(lambda: "its challenger does not answer" in str(get(f"{divided.server.url}/ready")[1].get("notes")))
    assert "has no version or alias '9'" in divided.status()["why_not"]
    wait_for(lambda: "has no version or alias '9'" in str(divided.table.unable(divided.number)), 60, "the workers' word in the table")
    assert {divided.asked(user) for user in USERS[:10]} == {(200, "", "1")}
    document = get(f"{divided.server.url}/openapi.json")[1]
    for path in ("/status", "/ready"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(get(f"{divided.server.url}{path}")[1], {**schema, "components": document["components"]})
    divided.end()
    promote(divided.project, "2")
    divided.table.champion_moved("champion", "2")
    try:
        # The registry itself is looked at once a minute here.
        divided.settles(lambda: divided.asked()[2] == "2")
    finally:
        promote(divided.project, "1")
        divided.table.champion_moved("champion", "1")
        divided.settles(lambda: divided.asked()[2] == "1")
