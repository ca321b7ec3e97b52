"""A version that is not what it should be never takes traffic, and the one before it stays; real versions of a real pipeline."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from mlops_pipeline.config.serving import Limits, Serving, is_folder
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.registry.admission import ADMITTED_TAG, IDENTITY_TAG, PASSED_TAG, Decision, Word, admitted, next_decision
from mlops_pipeline.registry.download import Unfit
from mlops_pipeline.registry.reader import stored_versions
from mlops_pipeline.registry.versions import CONTENT_TAG, Found, content_digest, identity_digest
from mlops_pipeline.serving.access import Access
from mlops_pipeline.serving.answer import Service, Workers
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Failure, Loaded, Options, Watch, load
from mlops_pipeline.serving.source import KEPT, ModelSource
from tests.conftest import Project, copied, made_once, process_environment


@pytest.fixture(scope="session")
def pipeline(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with two versions in its registry; the second is champion."""

    def twice(folder: Path) -> Project:
        project = copied(registered, folder)
        project.change(train={"params": {"n_estimators": 25}})
        project.run()
        return project

    return made_once(tmp_path_factory, "of_two_versions", twice).folder


@dataclass
class Store:
    """A copy of the project's registry and of its versions' files, to do harm to."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "registry.db"

    def files(self, number: int) -> Path:
        return self.folder / "artifacts" / str(number)

    def source(self) -> ModelSource:
        return ModelSource(f"sqlite:///{self.database}", "small", self.folder / "versions", self.folder / "cache")

    def change(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.database)
        with connection:
            connection.execute(statement, values)
        connection.close()

    def point(self, alias: str, number: int) -> None:
        self.change("insert or replace into registered_model_aliases (alias, version, name) values (?, ?, 'small')", alias, number)

    def sign(self, number: int) -> None:
        """Make the registry's digest that of the files as they are now."""
        digest = content_digest(self.files(number)) if self.files(number).is_dir() else ""
        old = {version.number: version for version in stored_versions(f"sqlite:///{self.database}", "small")}[number]
        for tag, value in {CONTENT_TAG: digest, **admitted(digest, old.evaluated_on)}.items():
            self.tag(number, tag, value)

    def tag(self, number: int, key: str, value: str) -> None:
        self.change("insert or replace into model_version_tags (key, value, version, name) values (?, ?, ?, 'small')", key, value, number)

    def say(self, number: int, word: Word) -> None:
        """A person's word on a version."""
        tags = {version.number: version for version in stored_versions(f"sqlite:///{self.database}", "small")}[number].tags
        made = Decision(word, "anna", "because", "2024-05-01T00:00:00Z", tags[CONTENT_TAG])
        self.tag(number, next_decision(tags), msgspec.json.encode(made).decode())

    def untag(self, number: int, key: str) -> None:
        self.change("delete from model_version_tags where version = ? and key = ?", number, key)

    def found(self, number: int) -> Found:
        return self.source().resolve(str(number))


@pytest.fixture
def store(pipeline: Path, tmp_path: Path) -> Store:
    copy = Store(tmp_path / "store")
    copy.folder.mkdir()
    shutil.copy(pipeline / "mlflow/mlflow.db", copy.database)
    for version in stored_versions(f"sqlite:///{copy.database}", "small"):
        shutil.copytree(version.location.removeprefix("file://"), copy.files(version.number))
        copy.change("update model_versions set storage_location = ? where version = ?", copy.files(version.number).as_uri(), version.number)
    copy.point("champion", 1)
    return copy


class Steps:
    """The pause of a watch, which ends when the test says so; ``waited`` lists the pauses asked for."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self._asked, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False

    def __call__(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self._asked.release()
        self._go.acquire()
        return self._over

    def until_asked(self) -> None:
        assert self._asked.acquire(timeout=60), "the watch does not come round"

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self._go.release()
            self.until_asked()

    def end(self) -> None:
        self._over = True
        self._go.release()


class Watched:
    """A watch that goes step by step, what it serves, and what it said."""

    def __init__(self, source: ModelSource, **models: str) -> None:
        self.steps, self.served, self.failures = Steps(), dict[str, Loaded](), list[Failure]()
        self.watch = Watch(
            source,
            models or {"main": "champion"},
            Options(),
            on_loaded=self.served.__setitem__,
            on_failed=lambda *failure: self.failures.append(Failure(*failure)),
            on_dropped=self.drop,
            pause=self.steps,
        )
        first, self.at_first = self.watch.first_load()
        self.served.update(first)
        self.watch.start()
        self.steps.until_asked()

    def drop(self, name: str, reason: str, detail: str) -> None:
        del self.served[name]
        self.failures.append(Failure(name, reason, detail))

    def versions(self) -> dict[str, str]:
        return {name: loaded.version for name, loaded in self.served.items()}

    def version(self, name: str = "main") -> str:
        return self.served[name].version

    def reasons(self) -> list[str]:
        assert all("\n" not in failure.detail for failure in self.failures)
        return [failure.reason for failure in self.failures]


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def start(source: ModelSource, **models: str) -> Watched:
        made.append(Watched(source, **models))
        return made[-1]

    yield start
    for one in made:
        one.steps.end()
        one.watch.stop()


def edited(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def set_output(value: object) -> Callable[[Any], None]:
    return lambda expected: expected["outputs"].__setitem__(0, value)


UNSIGNED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "the ONNX file is cut": (cut("onnx/model.onnx"), "checksum", "version 2"),
    "the ONNX file is gone": (gone("onnx/model.onnx"), "checksum", "version 2"),
    "the skops file is cut": (cut("model.skops"), "checksum", "version 2"),
    "MLmodel is gone": (gone("MLmodel"), "checksum", "version 2"),
    "training.json is cut": (cut("training.json"), "checksum", "version 2"),
    "everything is gone": (shutil.rmtree, "missing", "version 2"),
    "the card is cut": (cut("MODEL_CARD.md"), "checksum", "version 2"),
    "another output, and no new digest": (edited("expected.json", set_output([0.5, 0.5])), "checksum", "version 2"),
    "a file more": (lambda folder: (folder / "code.py").write_text("print()"), "checksum", "version 2"),
}
SIGNED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "evaluation.json is gone": (gone("evaluation.json"), "missing", "evaluation.json"),
    "evaluation.json is cut": (cut("evaluation.json"), "unreadable", "evaluation.json"),
    "expected.json is gone": (gone("expected.json"), "missing", "expected.json"),
    "expected.json is cut": (cut("expected.json"), "unreadable", "expected.json"),
    "no expected rows": (edited("expected.json", lambda e: e.update(rows=[], outputs=[])), "missing", "expected.json"),
    "no expected outputs": (edited("expected.json", lambda e: e.pop("outputs")), "unreadable", "`outputs`"),
    "another output": (edited("expected.json", set_output([0.5, 0.5])), "outputs", "differ"),
    "an output of null": (edited("expected.json", set_output([None, None])), "outputs", "expected.json"),
    "an output of text": (edited("expected.json", set_output(["a", "b"])), "unreadable", "no numbers"),
    "too few outputs": (edited("expected.json", lambda e: e["outputs"].pop()), "outputs", "are due: register the version anew"),
    "rows of other columns": (edited("expected.json", lambda e: e["rows"][1].pop("kind")), "outputs", "column 'kind'"),
    "judged on other rows": (edited("evaluation.json", lambda e: e.update(test_sha256="0" * 64)), "gate", "evaluation.json"),
    "no ONNX at all": (lambda folder: (folder / "onnx/model.onnx").write_bytes(b"no model"), "unreadable", "onnx/model.onnx"),
    "a bound of text": (
        edited("training.json", lambda t: t["columns"]["size"].update(min="low")),
        "unreadable",
        "restore the file, or train again",
    ),
    "no classes": (edited("training.json", lambda t: t.pop("classes")), "unreadable", "`classes`"),
    "no column": (edited("training.json", lambda t: t.update(columns={})), "unreadable", "names no column"),
    "another task": (edited("training.json", lambda t: t.update(task="sorting")), "unreadable", "'sorting'"),
    "regression": (edited("training.json", lambda t: t.update(task="regression")), "outputs", "expected.json"),
    "a class more": (edited("training.json", lambda t: t["classes"].append(2)), "outputs", "(3, 3) are due: promote another version"),
    "a column more": (
        edited("training.json", lambda t: t["columns"].update(extra={"kind": "number", "nullable": False})),
        "outputs",
        "column 'extra'",
    ),
    "columns in another order": (
        edited("training.json", lambda t: t.update(columns=dict(reversed(t["columns"].items())))),
        "outputs",
        "differ",
    ),
    "neither twin nor model": (
        lambda folder: (gone("onnx/model.onnx")(folder), gone("model.skops")(folder)),
        "unreadable",
        "model.skops",
    ),
}


def test_a_version_is_loaded_with_all_that_is_told_of_it(store: Store) -> None:
    source = store.source()
    found = source.resolve("champion")
    loaded = load("main", "champion", found, source.folder(found), Options(max_rows=2))
    expected = json.loads((store.files(1) / "expected.json").read_text())
    assert (loaded.version, loaded.content_sha256) == ("1", content_digest(store.files(1)))
    assert loaded.evaluation.metric == "roc_auc"
    assert {rule["name"] for rule in loaded.gate} >= {"held_out", "baseline"}
    assert (loaded.contract.task, loaded.contract.classes, loaded.signature.max_rows) == ("binary", [0, 1], 2)
    rows = loaded.signature.from_records(expected["rows"][:2])
    np.testing.assert_allclose(loaded.engine.predict(rows.numbers, rows.categories), expected["outputs"][:2], atol=1e-6)


@pytest.mark.parametrize("case", [*UNSIGNED, *SIGNED])
def test_a_damaged_version_takes_no_traffic_is_told_once_and_comes_when_it_is_mended(
    case: str, store: Store, watched: Callable[..., Watched], tmp_path: Path
) -> None:
    damage, reason, words = (UNSIGNED | SIGNED)[case]
    one = watched(store.source())
    old = one.served["main"]
    shutil.copytree(store.files(2), tmp_path / "whole")
    damage(store.files(2))
    if case in SIGNED:
        store.sign(2)
    store.point("champion", 2)
    one.steps.step(4)
    assert one.served["main"] is old
    assert one.reasons() == [reason]
    assert words in one.failures[0].detail
    shutil.rmtree(store.files(2), ignore_errors=True)
    shutil.copytree(tmp_path / "whole", store.files(2))
    store.sign(2)
    one.steps.step(4)
    assert one.version() == "2"
    assert one.reasons() == [reason]


@pytest.mark.parametrize("name", ["expected.json", "onnx/model.onnx"])
@pytest.mark.parametrize("place", ["versions", "cache/versions"])
def test_a_damaged_folder_of_this_machine_is_passed_over_for_the_stored_files(
    place: str, name: str, store: Store, watched: Callable[..., Watched]
) -> None:
    found = store.found(1)
    kept = store.folder / place / found.content_sha256[:16]
    shutil.copytree(store.files(1), kept)
    assert store.source().folder(found) == kept
    cut(name)(kept)
    assert store.source().folder(found).is_relative_to(store.folder / "cache")
    assert watched(store.source()).at_first == []


def test_files_fetched_anew_take_the_place_of_those_here_unless_they_cannot_be_had(store: Store) -> None:
    source, found = store.source(), store.found(1)
    place = source.folder(found)
    edited("expected.json", set_output([0.5, 0.5]))(place)
    assert source.folder(found) == source.folder(found, anew=True) == place
    assert (place / "expected.json").read_bytes() == (store.files(1) / "expected.json").read_bytes()
    shutil.rmtree(store.files(1))
    assert source.folder(found, anew=True) == place
    assert content_digest(place) == found.content_sha256


def test_limits_that_change_while_a_version_is_loaded_hold_for_it(store: Store) -> None:
    found = store.found(1)
    loaded = load("main", "1", found, store.files(1), Options(max_rows=2))

    async def seen() -> int:
        service = Service(Serving(limits=Limits(max_rows=2)), Metrics(), Workers(0, [0.0], 10), None, Access, None)
        await service.start()
        try:
            ready = service.prepared(loaded)
            service.use(Serving(limits=Limits(max_rows=1)), None)
            service.activate(ready)
            return service.models["main"].signature.max_rows
        finally:
            await service.stop()

    assert asyncio.run(seen()) == 1


def test_a_damaged_file_is_told_as_a_wrong_digest_before_it_is_read(store: Store) -> None:
    found = store.found(1)
    (store.files(1) / "onnx/model.onnx").write_bytes(b"no model")
    with pytest.raises(Unfit) as caught:
        load("main", "1", found, store.files(1), Options())
    assert caught.value.reason == "checksum"


def test_what_is_served_wins_over_what_was_noted_when_the_registry_is_gone(store: Store, watched: Callable[..., Watched]) -> None:
    store.point("champion", 2)
    one = watched(store.source())
    store.source().remember("champion", store.found(1))
    store.database.unlink()
    one.steps.step()
    assert (one.version(), one.reasons()) == ("2", ["unreachable"])


def test_the_alias_moves_and_the_old_model_leaves_memory(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source(), main="champion", fixed="1")
    main, fixed = one.served["main"], one.served["fixed"]
    old = weakref.ref(main.engine)
    del main
    store.point("champion", 2)
    gc.disable()  # a server freezes what it has loaded at its start: what is in a cycle would stay for good
    try:
        one.steps.step()
        assert old() is None
    finally:
        gc.enable()
    assert (one.version(), one.version("fixed")) == ("2", "1")
    assert one.served["fixed"] is fixed
    store.point("champion", 1)
    one.steps.step()
    assert one.version() == "1"
    assert one.failures == one.at_first == []


def test_another_number_with_the_same_content_needs_no_new_engine(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source())
    old = one.served["main"]
    store.change(
        "insert into model_versions (version, name, current_stage, source, storage_location) "
        "select 3, name, current_stage, source, storage_location from model_versions where version = 1"
    )
    store.change(
        "insert into model_version_tags (key, value, name, version) select key, value, name, 3 from model_version_tags where version = 1"
    )
    store.point("champion", 3)
    one.steps.step()
    assert one.version() == "3"
    assert one.served["main"].engine is old.engine
    shutil.rmtree(store.folder / "artifacts")
    store.database.unlink()
    assert watched(store.source()).version() == "3"


def test_a_deleted_version_and_a_lost_alias_leave_the_served_one(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source(), main="champion", other="2")
    store.change("delete from registered_model_aliases")
    store.change("update model_versions set current_stage = 'Deleted_Internal' where version = 2")
    one.steps.step(3)
    assert (one.version(), one.version("other"), one.reasons()) == ("1", "2", ["missing", "missing"])
    assert "there is no champion: take version 1, `mlops models promote 1`" in one.failures[0].detail
    assert "there are versions 1 and aliases none" in one.failures[1].detail
    other = dataclasses.replace(store.source(), option=" --config configs/mine.yaml")
    assert "`mlops models promote 1 --config configs/mine.yaml`" in str(other.look(["champion"]).faults["champion"])


def test_a_registry_that_is_gone_is_asked_with_growing_pauses_and_served_on(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source())
    away = store.database.rename(store.folder / "away.db")
    one.steps.step(7)
    assert one.steps.waited == [5, 10, 20, 40, 60, 60, 60, 60]
    assert (one.version(), one.reasons()) == ("1", ["unreachable"])
    away.rename(store.database)
    store.point("champion", 2)
    one.steps.step()
    assert (one.version(), one.steps.waited[-1]) == ("2", 5)
    store.database.rename(away)
    one.steps.step()
    assert one.reasons() == ["unreachable", "unreachable"]


def test_a_damaged_version_is_tried_again_with_growing_pauses_and_holds_no_other_up(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source(), main="champion", other="challenger")
    assert [failure.reason for failure in one.at_first] == ["missing"]
    store.point("champion", 2)
    (store.files(2) / "expected.json").rename(store.folder / "kept.json")
    one.steps.step()  # tried after 5 s; next after 10, 20, 40 and 80
    one.steps.step(4)
    (store.folder / "kept.json").rename(store.files(2) / "expected.json")
    store.point("challenger", 1)
    one.steps.step(2)
    assert (one.version(), one.version("other")) == ("1", "1")
    one.steps.step()
    assert sum(one.steps.waited[:-1]) == 40
    assert one.version() == "2"
    assert set(one.steps.waited) == {5}


@pytest.mark.parametrize("kept", ["versions", "cache"])
def test_a_start_without_registry_serves_what_this_machine_holds(kept: str, store: Store, watched: Callable[..., Watched]) -> None:
    found = store.found(1)
    if kept == "versions":
        shutil.copytree(store.files(1), store.folder / "versions" / found.content_sha256[:16])
    watched(store.source(), main="champion", other="1")
    shutil.rmtree(store.folder / "artifacts")
    store.database.unlink()
    again = watched(store.source(), main="champion", other="1", unknown="challenger")
    assert {name: loaded.version for name, loaded in again.served.items()} == {"main": "1", "other": "1"}
    assert again.served["main"].folder.is_relative_to(store.folder / kept)
    assert {(failure.name, failure.reason) for failure in again.at_first} == {
        (name, "unreachable") for name in ("main", "other", "unknown")
    }
    again.steps.step(2)
    assert again.failures == []


def test_a_start_with_an_unfit_version_serves_the_last_good_one(store: Store, watched: Callable[..., Watched]) -> None:
    watched(store.source())
    cut("onnx/model.onnx")(store.files(2))
    store.point("champion", 2)
    again = watched(store.source())
    assert (again.version(), [failure.reason for failure in again.at_first]) == ("1", ["checksum"])
    again.steps.step(3)
    assert (again.version(), again.failures) == ("1", [])


def test_an_alias_set_by_hand_is_not_followed_to_a_version_that_did_not_pass_until_somebody_approves_it(
    store: Store, watched: Callable[..., Watched]
) -> None:
    store.untag(2, ADMITTED_TAG)
    store.tag(2, PASSED_TAG, "true")  # as somebody may write it by hand
    one = watched(store.source())
    store.point("champion", 2)
    one.steps.step(3)
    assert (one.version(), one.reasons()) == ("1", ["gate"])
    assert "version 2 did not pass its gate" in one.failures[0].detail
    assert "`mlops models approve 2 --reason REASON`" in one.failures[0].detail
    assert watched(store.source()).version() == "1", "a server that starts now serves the last good one"
    shutil.rmtree(store.folder / "cache")
    fresh = watched(store.source())
    assert (fresh.served, [failure.reason for failure in fresh.at_first]) == ({}, ["gate"])
    store.say(2, "approved")
    one.steps.step(2)
    fresh.steps.step(2)
    assert one.version() == fresh.version() == "2"
    store.say(2, "rejected")
    assert watched(store.source(), other="2").served == {}


def test_a_version_that_somebody_rejects_answers_no_more_and_again_when_it_is_approved(
    store: Store, watched: Callable[..., Watched]
) -> None:
    store.point("challenger", 2)
    one = watched(store.source(), main="champion", other="2", beside="challenger")
    assert one.versions() == {"main": "1", "other": "2", "beside": "2"}
    champion = one.served["main"]
    store.say(2, "rejected")
    one.steps.step(3)
    assert (one.versions(), one.served["main"]) == ({"main": "1"}, champion)
    assert {(failure.name, failure.reason) for failure in one.failures} == {("other", "gate"), ("beside", "gate")}
    assert len(one.failures) == 2
    assert "version 2 was rejected by anna (because)" in one.failures[0].detail
    assert "`mlops models approve 2 --reason REASON`" in one.failures[0].detail
    away = store.database.rename(store.folder / "away.db")
    one.steps.step(2)
    assert one.versions() == {"main": "1"}, "nor is it taken from the cache while the registry is away"
    assert watched(store.source(), other="2", beside="challenger").served == {}
    away.rename(store.database)
    store.say(2, "approved")
    one.steps.step(2)
    assert one.versions() == {"main": "1", "other": "2", "beside": "2"}


def test_a_version_that_is_rejected_stops_though_the_alias_that_led_to_it_is_gone(store: Store, watched: Callable[..., Watched]) -> None:
    store.point("challenger", 2)
    one = watched(store.source(), main="champion", beside="challenger")
    store.change("delete from registered_model_aliases where alias = 'challenger'")
    store.say(2, "rejected")
    one.steps.step(2)
    assert (one.versions(), sorted(one.reasons())) == ({"main": "1"}, ["gate", "missing"])


def test_who_follows_the_champion_keeps_an_answer_until_another_can_be_served(store: Store, watched: Callable[..., Watched]) -> None:
    one = watched(store.source())
    kept = store.files(2).rename(store.folder / "kept")
    store.point("champion", 2)
    store.say(1, "rejected")
    one.steps.step(3)
    assert one.versions() == {"main": "1"}
    assert sorted(one.reasons()) == ["gate", "missing"]
    assert any("version 1 was rejected and answers on" in failure.detail for failure in one.failures)
    kept.rename(store.files(2))
    one.steps.step(8)
    assert one.versions() == {"main": "2"}


def test_a_version_made_before_the_digest_covered_every_file_is_served_by_its_old_digest(
    store: Store, watched: Callable[..., Watched]
) -> None:
    for tag in (ADMITTED_TAG, IDENTITY_TAG):
        store.untag(2, tag)
    store.tag(2, CONTENT_TAG, identity_digest(store.files(2)))
    (store.files(2) / "MODEL_CARD.md").write_text("another card")
    store.point("champion", 2)
    one = watched(store.source())
    assert (one.version(), one.at_first) == ("2", [])
    cut("onnx/model.onnx")(store.files(2))
    shutil.rmtree(store.folder / "cache")
    assert [failure.reason for failure in watched(store.source()).at_first] == ["checksum"]


def test_another_registry_does_not_take_over_what_one_has_served(store: Store) -> None:
    source = store.source()
    source.remember("champion", store.found(1))
    assert source.remembered("champion") == store.found(1)
    assert ModelSource("sqlite:///other.db", "small", store.folder, source.cache).remembered("champion") is None
    (source.cache / "served.json").write_text('{"what": ')
    assert source.remembered("champion") is None
    source.remember("champion", store.found(2))
    assert source.remembered("champion") == store.found(2)


def test_a_cache_that_cannot_be_written_is_told_and_stops_nothing_that_needs_no_cache(
    store: Store, watched: Callable[..., Watched]
) -> None:
    (store.folder / "cache").write_text("a file where the folder should be")
    assert [failure.reason for failure in watched(store.source()).at_first] == ["cache"]
    found = store.found(1)
    shutil.copytree(store.files(1), store.folder / "versions" / found.content_sha256[:16])
    one = watched(store.source())
    assert (one.version(), [failure.reason for failure in one.at_first]) == ("1", ["cache"])


def test_a_folder_is_its_own_reference_and_followed_when_it_changes(store: Store, watched: Callable[..., Watched], tmp_path: Path) -> None:
    place = tmp_path / "best_model"
    shutil.copytree(store.files(1), place)
    store.database.unlink()
    one = watched(store.source(), main=str(place))
    assert (one.version(), one.served["main"].content_sha256) == ("", content_digest(place))
    assert one.served["main"].folder == place
    place.rename(tmp_path / "old")
    one.steps.step()
    assert one.reasons() == ["missing"]
    shutil.copytree(store.files(2), place)
    one.steps.step()
    assert one.served["main"].content_sha256 == content_digest(store.files(2))
    assert one.at_first == []


@pytest.mark.parametrize(
    ("reference", "folder"), [("champion", False), ("3", False), ("a_b-c", False), ("./m", True), ("/m", True), ("m/", True)]
)
def test_a_reference_with_what_no_alias_holds_is_a_folder(reference: str, folder: bool) -> None:
    assert is_folder(reference) is folder


def test_a_folder_replaced_while_it_is_read_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops_pipeline.serving import models

    def exchanged(*words: Any) -> Any:
        engine = real(*words)
        shutil.rmtree(store.files(1))
        shutil.copytree(store.files(2), store.files(1))
        return engine

    real = load_engine
    found = Found("", content_digest(store.files(1)), str(store.files(1)))
    monkeypatch.setattr(models, "load_engine", exchanged)
    with pytest.raises(Unfit) as caught:
        load("main", found.location, found, store.files(1), Options())
    assert caught.value.reason == "checksum"


@pytest.mark.parametrize("digest", ["", "../../../../../tmp/x", "0" * 63])
def test_a_version_without_a_digest_is_not_served(digest: str, store: Store) -> None:
    store.change("update model_version_tags set value = ? where version = 1 and key = ?", digest, CONTENT_TAG)
    with pytest.raises(Unfit, match="carries no digest") as caught:
        store.source().resolve("champion")
    assert caught.value.reason == "checksum"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3://bucket/models/m-1", r"pip install 'mlops-pipeline\[s3\]'"),
        ("gs://bucket/models/m-1", "is not read here"),
        ("mlflow-artifacts:/models/m-1", "set MLFLOW_TRACKING_URI"),
        ("http://127.0.0.1:1/files/m-1", "no address of an MLflow server's artifacts"),
        ("file:///nowhere/m-1", "restore them"),
    ],
)
def test_files_that_are_out_of_reach_are_told_in_one_line(location: str, words: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    store.change("update model_versions set storage_location = ?", location)
    source = store.source()
    with pytest.raises(Unfit, match=words) as caught:
        source.folder(source.resolve("champion"))
    assert "\n" not in str(caught.value)
    assert not list((store.folder / "cache/versions").glob("[!.]*"))


def test_servers_that_start_at_once_share_a_fetch(store: Store) -> None:
    found = store.found(1)
    place = store.folder / "cache/versions" / found.content_sha256[:16]
    unfinished = place.with_name(f".{place.name}.killed")
    unfinished.mkdir(parents=True)
    cut_short = place / "MLmodel"
    cut_short.parent.mkdir()
    cut_short.write_text("cut short")
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda source: source.folder(found), [store.source() for _ in range(8)]))
    assert set(folders) == {place}
    assert content_digest(place) == found.content_sha256
    assert not unfinished.exists()
    assert sorted(path.name for path in place.iterdir()) == sorted(path.name for path in store.files(1).iterdir())


def test_the_cache_drops_what_is_long_not_served_and_keeps_the_newest(store: Store) -> None:
    source = store.source()
    for k in range(KEPT + 3):
        folder = source.cache / "versions" / f"{k:016d}"
        folder.mkdir(parents=True)
        os.utime(folder, (k, k))
    source.remember("challenger", Found("9", f"{0:064d}", ""))
    left = sorted(int(folder.name) for folder in (source.cache / "versions").iterdir())
    assert left == [0, *range(3, KEPT + 3)]


def test_serving_an_onnx_version_imports_no_training_library(store: Store) -> None:
    script = f"""
import sys
from pathlib import Path
from mlops_pipeline.serving.models import Options, Watch
from mlops_pipeline.serving.source import ModelSource
source = ModelSource("sqlite:///{store.database}", "small", Path({str(store.folder / "versions")!r}), Path({str(store.folder / "cache")!r}))
watch = Watch(source, {{"main": "champion"}}, Options(), on_loaded=print, on_failed=print)
served, failures = watch.first_load()
assert served["main"].version == "1" and not failures, failures
heavy = {{"mlflow", "sklearn", "pandas", "polars", "pyarrow", "lightgbm", "skops", "scipy", "matplotlib", "requests", "sqlalchemy"}}
print(sorted(heavy & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=process_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
