"""What a release's ledger has read in parts is what the record says as a whole, late labels and answers taken back included."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.config.release import TEST, Guardrail, Policy, Step
from mlops_pipeline.config.tree import tree_of
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.state import Label
from mlops_pipeline.records.entry import WITHDRAWN, Entry
from mlops_pipeline.records.reading import batches, news
from mlops_pipeline.release.evidence import answers_in, evidence_of
from mlops_pipeline.release.ledger import Ledger
from mlops_pipeline.release.policy import Evidence, Standing, decide
from mlops_pipeline.release.table import Transition
from mlops_pipeline.release.tested import with_tested
from tests.unit_tests.test_records import BINARY, NOON, database, entry, write, written

WITHIN = timedelta(seconds=30)
BEGAN = datetime.fromtimestamp(NOON, UTC)
REFERENCE = Reference(task="binary", classes=["no", "yes"], rows=0, columns={})
POLICY = Policy(
    steps=(Step(shadow=1), Step(weight=0.5)),
    guardrails={
        "failures": Guardrail(figure="failures", worse_by=0.01),
        "refused": Guardrail(figure="refused", worse_by=0.02),
        "slow": Guardrail(figure="latency.p50", worse_by=10),
        "drift": Guardrail(figure="drift", worse_by=0.5, slices=("kind",)),
        "differ": Guardrail(figure="disagreement", worse_by=0.3),
        "quality": Guardrail(figure="quality", worse_by=0.05, slices=("kind",)),
    },
)


def answered(rng: np.random.Generator, count: int) -> list[Entry]:
    """Requests of one to three rows, in the shadow first, then divided; users stick; some fail."""
    made = []
    for number in range(count):
        rows, is_split = int(rng.integers(1, 4)), number >= count // 2
        user, moment = int(rng.integers(0, 150)), NOON + 0.05 * number + (5 if is_split else 0)
        arms = [["champion", "challenger"][user % 2] if is_split else "champion"] + ([] if is_split else ["shadow"])
        kind = rng.choice(["x", "y"], (rows, 1)).astype(object)
        for arm in arms:
            yes = rng.random(rows).astype(np.float32)
            failed = rng.random() < 0.02
            given: dict[str, Any] = {
                "time": moment, "rows": rows, "version": "1" if arm == "champion" else "2", "arm": arm, "unit": f"u{user}",
                "categories": kind, "numbers": np.zeros((rows, 2), np.float32), "latency_us": int(rng.gamma(4, 500)),
                "outputs": None if failed else np.column_stack([1 - yes, yes]), "error": "late" if failed else "",
                "ids": [f"i{number}"] * rows if number % 3 == 0 else None,
            }  # fmt: skip
            made.append(entry(f"r{number}", **given))
    return made


def labelled(rng: np.random.Generator, count: int) -> list[Label]:
    """Labels by request, by id and by entity, the newest of which holds."""
    made = []
    for number in range(1, count + 1):
        of, kind = int(rng.integers(0, count)), rng.choice(["request", "id", "entity"])
        name, moment = (f"r{of}" if kind == "request" else f"i{of}"), NOON + 0.05 * of + rng.random() * 60 if kind == "entity" else 0.0
        made.append(Label(number, str(kind), name, int(rng.integers(0, 3)), moment, str(rng.choice(["no", "yes", "other"])), None, NOON))
    return made


def whole(folder: Path, labels: list[Label], *, sticks: bool) -> list[Evidence]:
    """The evidence of both steps, of the record read as one."""
    frames = batches(folder, since=BEGAN, model="champion", shadows=True, units=True)
    every = answers_in(frames, REFERENCE, "1", "2", Known.of(labels, WITHIN), ("kind",), sticks=sticks)
    return [
        evidence_of(POLICY, step, since, every, splits_evenly=True) for step, since in zip(POLICY.steps, (NOON, NOON + 20), strict=True)
    ]


def same(one: Evidence, other: Evidence) -> None:
    assert (one.rows, one.requests, one.labels, one.counts) == (other.rows, other.requests, other.labels, other.counts)
    assert one.p_of_split == other.p_of_split
    by_slice = [{(each.guardrail, each.slice, each.source): each for each in side.findings} for side in (one, other)]
    assert by_slice[0].keys() == by_slice[1].keys()
    for key, found in by_slice[0].items():
        numbers = [[each.estimate, each.low, each.high, *each.requests] for each in (found, by_slice[1][key])]
        assert_allclose(*(np.array(side, dtype=float) for side in numbers), rtol=1e-5, atol=1e-6, err_msg=str(key))


@pytest.mark.parametrize("sticks", [False, True])
def test_read_in_any_parts_it_says_what_the_whole_record_says(tmp_path: Path, sticks: bool) -> None:
    rng = np.random.default_rng(11)
    entries, labels = answered(rng, 400), labelled(rng, 400)
    ledger = Ledger("1", "2", REFERENCE, ("kind",), sticks=sticks, within=WITHIN)
    stores, sent = [database(tmp_path, worker) for worker in (0, 1)], [0, 0]
    place = told = 0
    while place < len(entries) or told < len(labels):
        worker, until = int(rng.integers(0, 2)), place + int(rng.integers(1, 200))
        group = entries[place:until]
        if place:  # an answer that was read already is taken back, and refused instead
            late = entries[int(rng.integers(0, place))]
            group = [*group, entry(late.request_id, time=late.time, error=WITHDRAWN, outputs=None, arm="champion", version="1")]
        if group:
            if rng.random() < 0.2:  # a worker that is begun again: a run of its own in the same file
                stores[worker], sent[worker] = database(tmp_path, worker), 0
            write(stores[worker], group, sent[worker])
            sent[worker] += len(group)
        place = min(until, len(entries))
        some = labels[told : told + int(rng.integers(1, 200))] if place > 150 else []
        ledger.label(some)
        told += len(some)
        with news(tmp_path, ledger.read_to, since=BEGAN, model="champion") as found:
            ledger.read(found.frames, found.withdrawn, found.read_to)
        for one, other in zip(seen_in(ledger), whole(tmp_path, labels[:told], sticks=sticks), strict=True):
            same(one, other)
    for store in stores:
        store.close()


def seen_in(ledger: Ledger) -> list[Evidence]:
    every = ledger.observations()
    return [
        evidence_of(POLICY, step, since, every, splits_evenly=True) for step, since in zip(POLICY.steps, (NOON, NOON + 20), strict=True)
    ]


def frame(count: int, first: int = 0, units: int = 0) -> pl.DataFrame:
    """Answers of two arms as the record has them."""
    places = np.arange(first, first + count)
    unit = places % units if units else places
    return pl.DataFrame(
        {
            "time": pl.Series(places * 1000 + round(NOON * 1e6)).cast(pl.Datetime("us", "UTC")),
            "request_id": [f"r{place}" for place in places], "row": np.zeros(count, np.int64),
            "id": pl.Series([None] * count, dtype=pl.String),
            "version": np.where(unit % 2, "2", "1"), "latency_ms": np.ones(count), "error": [""] * count,
            "arm": np.where(unit % 2, "challenger", "champion"), "\0unit": [f"u{one}" for one in unit],
            "probability_no": np.full(count, 0.25, np.float32), "probability_yes": np.full(count, 0.75, np.float32),
        }
    )  # fmt: skip


@pytest.mark.parametrize(("sticks", "units"), [(False, 0), (True, 30_000), (True, 40)])
def test_of_very_many_rows_a_random_part_is_kept(sticks: bool, units: int) -> None:
    ledger, whole = (Ledger("1", "2", REFERENCE, (), sticks=sticks, most=20_000) for _ in range(2))
    frames = [frame(10_000, first, units) for first in range(0, 60_000, 10_000)]
    for number, each in enumerate(frames):
        ledger.read([each], (), {"writer": number})
    whole.read(frames, (), {"writer": 5})
    for made in (ledger, whole):
        assert 10_000 < made.rows <= 20_000
        found = evidence_of(POLICY, Step(weight=0.5), NOON - 2, made.observations(), splits_evenly=False)
        assert abs(found.rows - 30_000) < 1_500
        assert sum(found.counts) < (100 if units == 40 else 20_000)
    assert set(ledger.observations().time) == set(whole.observations().time)


def test_an_online_test_ends_by_all_its_units_though_a_part_of_them_is_looked_at() -> None:
    metrics = {"fast": {"column": "latency"}}
    told = {"arms": {"champion": 1, "challenger": 1}, "metrics": metrics, "expected_units": 15_000, "most_units": 30_000}
    policy = Policy(experiment=tree_of(Experiment, told, "test.yaml"))
    turn = [Transition(1, 1, TEST, "running", 0.5, 0.0, "", {}, NOON - 5, "")]
    ledger = Ledger("1", "2", REFERENCE, (), sticks=True, most=20_000)
    ledger.read([frame(20_000, first, 50_000) for first in (0, 20_000, 40_000)], (), {})
    evidence = with_tested(Evidence(), policy, turn, ledger.observations())
    assert evidence.tested is not None
    assert 12_000 < evidence.tested["units"] < 13_000
    assert "a random 1/4 of the units is looked at" in str(evidence.tested["notes"])
    made = decide(policy, Standing(TEST, "running", 0.0, weight=0.5), evidence, 60.0)
    assert (made.move, made.reason[:15]) == ("give up", "undecided after"), made.reason


def test_slices_are_by_the_users_columns_though_these_have_names_of_ours(tmp_path: Path) -> None:
    """A table of cars has a model; a test's own rows an arm, a unit and a time."""
    layout = replace(BINARY, categories=("model", "unit"), numbers=("time", "correct"))
    given = [
        entry(
            f"r{place}", layout=layout, time=NOON + place, version="12"[place % 2], arm=("champion", "challenger")[place % 2],
            unit=f"u{place}", numbers=np.array([[place // 2 % 2, 7]], np.float32),
            categories=np.array([["golf" if place % 4 < 2 else "polo", "piece"]], object),
        )
        for place in range(80)
    ]  # fmt: skip
    written(tmp_path, given)
    names = ("model", "unit", "time", "correct")
    frames = list(batches(tmp_path, since=BEGAN, shadows=True, units=True))
    ledger = Ledger("1", "2", REFERENCE, names, sticks=True)
    ledger.read(frames, (), {})
    read = ledger.observations()
    every = answers_in(iter(frames), REFERENCE, "1", "2", None, names, sticks=True)
    for name, values in {"model": {"golf", "polo"}, "unit": {"piece"}, "time": {"0", "1"}, "correct": {"7"}}.items():
        assert set(read.values[name]) == set(every.slices[name]) == values
    told = {
        "arms": {"champion": 1, "challenger": 1}, "metrics": {"fast": {"column": "latency"}, "right": {"column": "correct"}},
        "slices": names, "least_units": 20,
    }  # fmt: skip
    policy = Policy(experiment=tree_of(Experiment, told, "test.yaml"))
    turn = [Transition(1, 1, TEST, "running", 0.5, 0.0, "", {}, NOON - 5, "")]
    tested = with_tested(Evidence(), policy, turn, read).tested
    assert tested is not None
    assert tested["units"] == 80
    assert {(each["column"], each["slice"]) for each in tested["slices"]} == {
        ("model", "golf"), ("model", "polo"), ("unit", "piece"), ("time", "0"), ("time", "1"), ("correct", "7"),
    }  # fmt: skip


def test_what_a_mesh_mirrors_is_a_shadow_and_what_it_divides_is_an_arm() -> None:
    bare = frame(4).with_columns(pl.lit("").alias("arm"), pl.Series("time", [datetime.fromtimestamp(at, UTC) for at in (5, 5, 15, 15)]))
    ledger = Ledger("1", "2", REFERENCE, (), elsewhere=True)
    ledger.read([bare], (), None)
    assert ledger.observations([(0.0, 10.0)]).arm.tolist() == [0, 2, 0, 1]
    assert ledger.observations().arm.tolist() == [0, 1, 0, 1]


def test_a_value_is_one_slice_whichever_types_its_column_has_in_a_look() -> None:
    ledger = Ledger("1", "2", REFERENCE, ("size",))
    read: list[tuple[list[Any], Any]] = [
        ([3.0, 0.1, None], pl.Float32), ([3.0, 0.1, 1e300], pl.Float64), ([3, 1], pl.Int64), ([True, None], pl.Boolean), (["3"], pl.String),
    ]  # fmt: skip
    for number, (values, kind) in enumerate(read):
        ledger.read([frame(len(values), 10 * number).with_columns(pl.Series("size", values, dtype=kind))], (), {"writer": number})
    found = ledger.observations()
    names = [found.values["size"][place] for place in found.slices["size"]]
    assert names == ["3", "0.1", "(missing)", "3", "0.1", "1e+300", "3", "1", "1", "(missing)", "3"]


def test_a_file_that_is_made_anew_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server's own remedy for a damaged one asks: its run has another number there."""
    monkeypatch.setattr("mlops_pipeline.records.sqlite.SAME_FILE_S", 0)
    written(tmp_path, [entry("of an earlier run", arm="champion", version="1")])
    store, ledger = database(tmp_path), Ledger("1", "2", REFERENCE, ())
    entries = [entry(f"r{place}", arm="champion", version="1", time=NOON + place) for place in range(10)]

    def look() -> int:
        with news(tmp_path, ledger.read_to, since=BEGAN, model="champion") as found:
            ledger.read(found.frames, found.withdrawn, found.read_to)
        return ledger.rows

    write(store, entries[:4])
    assert look() == 5
    for path in list(tmp_path.glob("*.sqlite*")):
        path.rename(tmp_path / f"damaged {path.name}")
    write(store, entries[4:], 4)
    assert look() == 11
    assert look() == 11
    store.close()


def test_a_record_that_cannot_be_read_to_its_end_counts_for_nothing() -> None:
    def broken() -> Any:
        yield frame(50)
        raise OSError

    ledger = Ledger("1", "2", REFERENCE, (), most=20)
    ledger.read([frame(10)], (), {"writer": 9})
    with pytest.raises(OSError):
        ledger.read(broken(), (), {"writer": 99})
    assert (ledger.rows, ledger.read_to, ledger.observations().thinned) == (10, {"writer": 9}, 0)
