"""A window of rows beside a version's summary: what is called drift, what quality is expected, and whether retraining would help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from mlops_pipeline.contract.evaluation import Evaluation, Interval
from mlops_pipeline.contract.reference import Bins, Reference, decoded
from mlops_pipeline.contract.spec import Column, Contract, Unreadable
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.texts import FrozenEncoder
from mlops_pipeline.modelling.metrics import Predictions
from mlops_pipeline.modelling.summary import again_on, bins_of, columns_of, summary_of
from mlops_pipeline.monitoring import estimated as estimating
from mlops_pipeline.monitoring import measuring
from mlops_pipeline.monitoring.measured import Batch, Limits, Measured, measured_of
from mlops_pipeline.monitoring.measuring import measure
from mlops_pipeline.monitoring.recorded import things_in
from mlops_pipeline.monitoring.sampled import Sample
from mlops_pipeline.monitoring.statistics import adjusted, chi_squared, kolmogorov_smirnov, means_apart, share_p, stability, wasserstein
from mlops_pipeline.monitoring.tally import Numbers

ROWS = 20_000
LEVELS, SHARES = list("abcdefgh"), [0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.04, 0.01]
METRICS = {"binary": ("roc_auc", "log_loss"), "multiclass": ("roc_auc", "accuracy"), "regression": ("mae", "rmse", "r2")}


def table(rows: int, seed: int, numbers: int = 4) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    drawn = {f"n{k}": random.normal(size=rows) for k in range(numbers - 1)}
    drawn["skewed"] = np.where(random.random(rows) < 0.4, 0, random.lognormal(size=rows))
    return pl.DataFrame(
        {**drawn, "age": random.integers(18, 90, rows), "word": random.choice(LEVELS, rows, p=SHARES), "yes": random.random(rows) < 0.3}
    )


def odds(rows: pl.DataFrame, turned: float = 0.0) -> Any:
    """What outcomes hang on; ``turned`` is the angle by which the boundary is."""
    first, second = rows["n0"].to_numpy(), rows["n1"].to_numpy()
    return 1.5 * (np.cos(turned) * first + np.sin(turned) * second)


def said(rows: pl.DataFrame, task: str) -> Any:
    """What the champion says: the truth's law when it was made."""
    if task == "regression":
        return odds(rows)
    chance = 1 / (1 + np.exp(-odds(rows)))
    if task == "binary":
        return np.column_stack([1 - chance, chance])
    return np.column_stack([1 - chance, 0.6 * chance, 0.4 * chance])


def came(rows: pl.DataFrame, task: str, seed: int, turned: float = 0.0, prior: float = 0.0) -> Any:
    """What came of them."""
    random = np.random.default_rng(seed + 1000)
    if task == "regression":
        return odds(rows, turned) + prior + random.normal(size=rows.height) * (0.3 + 0.5 * (rows["word"] == "a").to_numpy())
    late = random.random(rows.height) < 1 / (1 + np.exp(-odds(rows, turned) - prior))
    return late.astype(int) if task == "binary" else np.where(late, 1 + (random.random(rows.height) < 0.4), 0)


def contract(rows: pl.DataFrame, task: str = "binary", **columns: Column) -> Contract:
    kinds = {"word": "category", "yes": "boolean", "age": "integer"}
    described = {name: Column(kinds.get(name, "number")) for name in rows.columns} | columns
    classes = {"binary": [0, 1], "multiclass": [0, 1, 2], "regression": []}[task]
    return Contract(task=task, target="y", classes=classes, columns=described, model_sha256="m")


def made(task: str = "binary", rows: int = ROWS, **columns: Column) -> Reference:
    fitted, held = table(rows, 1), table(rows, 2)
    ours = Predictions(task, came(held, task, 2), said(held, task), 1)  # type: ignore[arg-type]
    evaluation = Evaluation(metric=METRICS[task][0], metrics=dict.fromkeys(METRICS[task], Interval(0.7, 0.6, 0.8)))
    return decoded(summary_of(contract(fitted, task, **columns), fitted, held, ours, evaluation).encoded())


@pytest.fixture(scope="module")
def reference() -> Reference:
    return made()


def window(rows: pl.DataFrame, task: str = "binary", seed: int = 3, **moved: float) -> Batch:
    labels = pl.Series(came(rows, task, seed, **moved))
    days = pl.Series(np.random.default_rng(seed).integers(0, 14, rows.height))
    return Batch(rows, np.asarray(said(rows, task), dtype=np.float32), labels, days)


def tally_of(before: Bins, values: Any) -> Numbers:
    tally = Numbers(before)
    tally.add(np.sort(np.asarray(values, dtype=np.float32)))
    return tally


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("column", ["n0", "skewed", "age"])
def test_distances_from_a_stored_summary_are_those_of_the_values(column: str, shift: float) -> None:
    before, now = table(ROWS, 1)[column].to_numpy().astype(np.float32), table(3000, 5)[column].to_numpy() + shift
    now = now.astype(np.float32)
    bins = bins_of(before, 1000)
    tally = tally_of(bins, now)
    found, p = kolmogorov_smirnov(np.array(bins.counts), tally.counts)
    expected = stats.ks_2samp(before, now, method="asymp")
    assert found == pytest.approx(expected.statistic, abs=0.001)
    assert p == pytest.approx(expected.pvalue, rel=0.2, abs=1e-12)
    normed = stats.wasserstein_distance(before, now) / before.astype(np.float64).std()
    assert wasserstein(bins, tally.counts, tally.sums) == pytest.approx(normed, rel=0.01, abs=0.001)


def test_distances_are_those_that_evidently_says() -> None:
    import pandas as pd
    from evidently.legacy.calculations.stattests import jensenshannon, psi, wasserstein_distance_norm
    from evidently.legacy.core import ColumnType

    before, now = table(ROWS, 1), table(3000, 5).with_columns(pl.col("n0") * 1.2 + 0.1, pl.col("word").replace({"b": "a", "h": "new"}))
    ours = {column.name: column for column in measure(made(), [Batch(now)]).columns}
    sides = [[pd.Series(side[name].to_numpy()) for side in (before, now)] for name in ("n0", "word")]
    assert ours["n0"].statistics["wasserstein"] == pytest.approx(
        wasserstein_distance_norm._wasserstein_distance_norm(*sides[0], ColumnType.Numerical, 0.1)[0], rel=0.005
    )
    assert ours["word"].statistics["jensen_shannon"] == pytest.approx(
        jensenshannon._jensenshannon(*sides[1], ColumnType.Categorical, 0.1)[0]
    )
    assert ours["word"].statistics["psi"] == pytest.approx(psi._psi(*sides[1], ColumnType.Categorical, 0.1)[0])


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=8))
@settings(max_examples=50)
def test_counts_are_tested_as_scipy_tests_them(counts: list[tuple[int, int]]) -> None:
    before, now = np.array(counts).T + 50
    found, p = chi_squared(before, now)
    expected = stats.chi2_contingency([before, now], correction=False)
    assert (found, p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert (stability(before, now) > 0) == (distance.jensenshannon(before, now) > 1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_p_values_are_corrected_as_scipy_corrects_them(p: list[float]) -> None:
    assert adjusted([*p, float("nan")])[:-1] == pytest.approx(stats.false_discovery_control(p))


@given(st.integers(0, 40), st.integers(50, 300), st.integers(0, 4), st.integers(5, 20))
def test_shares_are_tested_exactly_where_counts_are_thin(before: int, of: int, count: int, rows: int) -> None:
    tails = [stats.fisher_exact([[count, rows - count], [before, of - before]], side).pvalue for side in ("less", "greater")]
    if min(before + count, of + rows - before - count) * rows / (of + rows) < 5 and before + count:
        assert share_p(before, of, count, rows) == pytest.approx(min(1, 2 * min(tails)))


def test_rows_of_the_same_table_raise_nothing_and_a_small_shift_of_one_column_is_found(reference: Reference) -> None:
    raised = sum(bool(measure(reference, [Batch(table(rows, 100 + seed))]).drifted) for seed in range(50) for rows in (30, 300))
    assert raised <= 2
    for seed in range(20):
        rows = table(5000, 200 + seed)
        moved = measure(reference, [Batch(rows.with_columns(pl.col("n1") + 0.2))])
        assert [(column.name, column.reasons) for column in moved.drifted] == [("n1", ("distribution",))]


def test_a_difference_that_many_rows_make_certain_and_nobody_notices_is_not_called_drift(reference: Reference) -> None:
    rows = pl.concat([table(ROWS, 300 + k) for k in range(5)]).with_columns(pl.col("n1") + 0.05)
    found = measure(reference, [Batch(rows)])
    (column,) = (column for column in found.columns if column.name == "n1")
    assert column.p_adjusted is not None
    assert column.p_adjusted < 1e-6
    assert not found.drifted


def test_a_window_that_is_too_small_says_so_and_raises_nothing(reference: Reference) -> None:
    found = measure(reference, [window(table(29, 3).with_columns(pl.col("n1") + 9))])
    assert not found.enough
    assert found.why == "too few rows: 29, and 30 are the least" == found.notes[0]
    assert {name for name, value in found.figures.items() if value is not None} == {"rows", "labels", "refused.share"}
    assert found.drifted == ()
    assert not measure(reference, []).enough


def test_missing_new_and_far_values_are_each_said(reference: Reference) -> None:
    rows = table(2000, 4).with_columns(
        n0=pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise(pl.col("n0")),
        word=pl.when(pl.int_range(pl.len()) % 20 == 0).then(pl.lit("never seen")).otherwise(pl.col("word")),
        age=pl.when(pl.int_range(pl.len()) % 50 == 0).then(500).otherwise(pl.col("age")),
    )
    found = measure(reference, [Batch(rows.drop("yes"))], refused=500)
    reasons = {column.name: column.reasons for column in found.drifted}
    assert reasons["n0"] == ("missing",)
    assert "new_categories" in reasons["word"]
    assert "out_of_bounds" in reasons["age"]
    assert reasons["yes"] == ("missing",)
    assert "not among the rows, so null in each: yes" in found.notes
    assert (found.figures["missing.share"], found.figures["new_categories.share"]) == (1.0, 0.05)
    assert (found.figures["out_of_bounds.share"], found.figures["refused.share"]) == (0.02, 0.2)


def test_a_value_is_the_same_however_the_record_stores_it(reference: Reference) -> None:
    rows = table(3000, 6)
    stored = rows.with_columns(pl.col("n0", "n1", "n2", "skewed", "age").cast(pl.Float32), pl.col("yes").cast(pl.Float32))
    texts = rows.with_columns(pl.all().cast(pl.String))
    first, *others = (measure(reference, [Batch(side)]).columns for side in (rows, stored, texts))
    for other in others:
        assert [c.statistics for c in other] == [c.statistics for c in first]


def test_a_constant_that_changes_is_found() -> None:
    rows = pl.DataFrame({"n0": [5.0] * 500, "word": ["a"] * 500})
    ours = Predictions("regression", np.arange(500.0), np.arange(500.0), 0)
    evaluation = Evaluation(metric="mae", metrics={"mae": Interval(0.0)})
    reference = summary_of(contract(rows, "regression"), rows, rows, ours, evaluation)
    assert not measure(reference, [Batch(rows)]).drifted
    for value in (4.9, 5.1):
        found = measure(reference, [Batch(rows.with_columns(n0=pl.lit(value), word=pl.lit("b")))])
        assert {column.name for column in found.drifted} == {"n0", "word"}


def test_batches_of_any_size_say_the_same(reference: Reference) -> None:
    rows = table(6000, 7).with_columns(pl.col("n0") + 0.3)
    whole = window(rows)
    parts = [
        Batch(rows[k : k + 1700], whole.scores[k : k + 1700], whole.labels[k : k + 1700], whole.moments[k : k + 1700])  # type: ignore[index]
        for k in range(0, 6000, 1700)
    ]
    advanced: list[int] = []
    found = measure(reference, parts, advance=lambda: advanced.append(1))
    assert len(advanced) == 4
    expected = measure(reference, [whole])
    assert found.figures == pytest.approx(expected.figures)
    assert [c.statistics for c in found.columns] == [pytest.approx(c.statistics) for c in expected.columns]
    assert measured_of(found.as_json()) == found


def test_a_sample_is_even_and_no_larger_than_it_may_be() -> None:
    sample = Sample(500, 0)
    for start in range(0, 50_000, 1000):
        sample.add(1000, {"place": np.arange(start, start + 1000)})
    kept = sample.rows()["place"]
    assert len(kept) == 500
    assert np.histogram(kept, bins=5, range=(0, 50_000))[0].min() > 60
    assert sample.seen == 50_000


def test_a_summary_is_small_and_of_a_private_column_tells_no_value_of_few_rows() -> None:
    rows = table(ROWS, 1, numbers=17).with_columns(
        word=pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("Smith")).otherwise(pl.col("word")),
        skewed=pl.when(pl.int_range(pl.len()) == 0).then(123456.75).otherwise(pl.col("skewed")),
    )
    private = contract(rows, word=Column("category", private=True), skewed=Column("number", private=True))
    ours = Predictions("binary", came(rows, "binary", 1), said(rows, "binary"), 1)
    reference = summary_of(private, rows, rows, ours, Evaluation(metric="roc_auc", metrics={"roc_auc": Interval(0.7)}))
    assert rows.width == 20
    assert len(reference.encoded()) < 300_000
    assert b"Smith" not in reference.encoded()
    assert (reference.columns["word"].kind, reference.columns["word"].levels, reference.columns["word"].nulls) == ("other", None, 0)
    hidden = reference.columns["skewed"]
    assert (hidden.least, hidden.largest) == (None, None)
    assert hidden.bins is not None
    assert min(count for count in hidden.bins.counts if count) >= 5
    assert max(hidden.bins.edges) < 1000
    assert not measure(reference, [window(rows)]).drifted
    assert measure(reference, [Batch(rows.with_columns(pl.col("skewed") + 1e5))]).drifted[0].name == "skewed"


def test_quality_is_measured_with_intervals_and_by_slice(reference: Reference) -> None:
    rows = table(4000, 8)
    found = measure(reference, [window(rows)], Limits(slices=("word",)))
    for name in METRICS["binary"]:
        low, value, high = (found.figures[f"quality.{name}{end}"] for end in (".low", "", ".high"))
        assert low < value < high  # type: ignore[operator]
    assert found.figures["calibration.error"] < 0.05  # type: ignore[operator]
    assert {part.value for part in found.slices} == set(LEVELS[:-1]), "one has too few rows"
    few = measure(reference, [Batch(rows, said(rows, "binary"), pl.Series([1] * 50 + [None] * 3950))])
    assert few.labels == 50
    assert few.figures["quality.roc_auc"] is None
    assert any(note.startswith("too few labels: 50") for note in few.notes)


def test_a_metric_that_needs_every_class_says_why_it_is_not_known() -> None:
    """A rare class that no labelled row of the window is of."""
    reference, rows = made("multiclass", 4000), table(1000, 8)
    days = pl.Series(np.arange(1000) % 14)
    two = pl.Series(np.minimum(came(rows, "multiclass", 3), 1))
    found = measure(reference, [Batch(rows, said(rows, "multiclass"), two, days)], asks_probe=True)
    assert found.figures["quality.roc_auc"] is None
    assert found.figures["quality.accuracy"] is not None
    assert "roc_auc cannot be measured: no labelled row is of 1 of the 3 classes" in found.notes
    assert found.figures["probe.gain"] is None
    assert any(note.startswith("the probe has no answer") for note in found.notes)
    whole = measure(reference, [Batch(rows, said(rows, "multiclass"), pl.Series(came(rows, "multiclass", 3)), days)], asks_probe=True)
    assert not any("cannot be measured" in note or "no answer" in note for note in whole.notes)


def test_labels_may_be_written_as_their_owner_writes_them() -> None:
    fitted = table(2000, 1)
    words = Contract(task="binary", target="y", classes=[0, 1], labels=["no", "yes"], columns=contract(fitted).columns)
    ours = Predictions("binary", came(fitted, "binary", 1), said(fitted, "binary"), 1)
    reference = summary_of(words, fitted, fitted, ours, Evaluation(metric="roc_auc", metrics={"roc_auc": Interval(0.7)}))
    y = came(fitted, "binary", 1)
    of = [
        measure(reference, [Batch(fitted, said(fitted, "binary"), labels)]).figures["quality.roc_auc"]
        for labels in (pl.Series(y), pl.Series(y.astype(float)), pl.Series(y.astype(bool)), pl.Series(np.where(y, "yes", "no")))
    ]
    assert len(set(of)) == 1
    odd = measure(reference, [Batch(fitted, said(fitted, "binary"), pl.Series(["maybe"] * 7 + ["no"] * 1993))])
    assert "7 labels are of a class that the model has never seen" in odd.notes


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_quality_is_estimated_without_labels_where_rows_become_easier_or_harder(task: str) -> None:
    reference = made(task)
    rows = table(8000, 9)
    harder = rows.filter(rows["n0"].abs() < 0.6) if task != "regression" else rows.with_columns(word=pl.lit("a"))
    for some in (rows, harder):
        labelled, blind = window(some, task, 9), Batch(some, said(some, task))
        truth, guess = measure(reference, [labelled]).figures, measure(reference, [blind]).figures
        for name in METRICS[task]:
            assert guess[f"estimated.{name}"] == pytest.approx(truth[f"quality.{name}"], abs=0.03)
            assert truth[f"estimated.{name}.error"] == pytest.approx(guess[f"estimated.{name}"] - truth[f"quality.{name}"], abs=1e-6)  # type: ignore[operator]
    fewer = msgspec.structs.replace(reference, columns={name: reference.columns[name] for name in ("n0", "n1")})
    assert measure(fewer, [window(rows, task, 9)]).figures[f"estimated.{METRICS[task][0]}"] is not None, "what is not recorded is null"
    turned = measure(reference, [window(rows, task, 9, turned=1.2)])
    assert abs(turned.figures[f"estimated.{METRICS[task][0]}.error"]) > 0.1  # type: ignore[arg-type]
    assert any("cannot see" in note for note in turned.notes)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_probe_says_that_retraining_would_help_where_the_boundary_has_turned_alone(task: str) -> None:
    reference = made(task)
    rows = table(6000, 10)

    def probed(some: pl.DataFrame, **moved: float) -> tuple[float, float]:
        found = measure(reference, [window(some, task, 10, **moved)], asks_probe=True).figures
        error = task == "regression"  # which is 0.7 in the held-out rows, in the target's units
        assert found["probe.gain.relative"] == pytest.approx(found["probe.gain"] / (0.7 if error else 1))  # type: ignore[operator]
        return found["probe.gain"], found["probe.gain.low"]  # type: ignore[return-value]

    assert probed(rows, turned=1.0)[1] > 0.02
    day = dataclasses.replace(window(rows[:2000], task, 10), moments=pl.Series([7] * 2000))
    found = measure(reference, [day], asks_probe=True)
    assert found.figures["probe.gain"] is None  # rows of one day tell each other what no other day will
    assert any("the probe is not asked" in note for note in found.notes)
    quiet = [probed(rows), probed(rows.with_columns(pl.col("n0") + 0.7))]
    if task != "regression":  # an offset is an error of a value, and none of a rank
        quiet.append(probed(rows, prior=0.8))
    else:
        assert probed(rows, prior=0.8)[1] > 0.02
    assert all(gain < 0.01 and low < 0 for gain, low in quiet)


def test_a_domain_classifier_tells_a_moved_window_from_its_reference(reference: Reference) -> None:
    before, same = table(3000, 1), table(3000, 11)
    moved = same.with_columns(pl.col("n0") + 1)
    assert measure(reference, [window(same)], before=before).figures["domain.auc"] == pytest.approx(0.5, abs=0.03)
    assert measure(reference, [window(moved)], before=before).figures["domain.auc"] > 0.7  # type: ignore[operator]


def test_predictions_that_move_are_found(reference: Reference) -> None:
    rows = table(2000, 12)
    still, moved = (measure(reference, [Batch(rows, said(some, "binary"))]) for some in (rows, rows.with_columns(pl.col("n0") + 0.5)))
    assert (still.figures["drift.score.detected"], moved.figures["drift.score.detected"]) == (0.0, 1.0)
    assert moved.figures["drift.columns"] == 0
    several = made("multiclass")
    tipped = np.roll(said(rows, "multiclass"), 1, axis=1)
    assert measure(several, [Batch(rows, tipped)]).figures["drift.score.detected"] == 1.0


def test_scores_of_another_version_and_a_file_of_a_newer_one_are_refused(reference: Reference) -> None:
    with pytest.raises(PipelineError, match=r"^scores of shape \(40, 3\) for rows of which the version says \(40, 2\)"):
        measure(reference, [Batch(table(40, 1), np.zeros((40, 3)))])
    with pytest.raises(Unreadable, match="has the format 99, newer than 1"):
        decoded(reference.encoded().replace(b'"format":1', b'"format":99', 1))
    with pytest.raises(Unreadable, match="is no summary"):
        decoded(b"{}")


def test_a_fit_on_all_rows_keeps_what_was_said_of_the_one_that_was_judged(reference: Reference) -> None:
    again = again_on(reference, contract(table(100, 1)), table(500, 1))
    assert (again.rows, again.held_out) == (500, ROWS)
    assert again.calibration == reference.calibration


def test_the_error_that_is_expected_after_a_fit_on_all_rows_is_that_of_the_model_that_was_judged() -> None:
    judged, now = made("regression", 2000), Batch(table(2000, 12), said(table(2000, 12), "regression"))
    others = table(500, 1).with_columns(pl.col("word").replace(dict(zip(LEVELS, reversed(LEVELS), strict=True))))
    again = decoded(again_on(judged, contract(others, "regression"), others).encoded())
    assert list(again.columns["word"].levels.counts) != list(judged.columns["word"].levels.counts)  # type: ignore[union-attr]
    expected = [{name: measure(each, [now]).figures[f"estimated.{name}"] for name in ("mae", "rmse", "r2")} for each in (judged, again)]
    assert expected[0] == expected[1]
    assert expected[0]["mae"] is not None


def test_nothing_found_is_nothing_raised(reference: Reference) -> None:
    found = measure(reference, [Batch(table(100, 1))])
    assert isinstance(found, Measured)
    assert found.figures["drift.score"] is None
    assert "rows without a prediction are among these: nothing is said of predictions and quality" in found.notes


def test_a_slice_has_the_interval_of_its_own_rows(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an interval is drawn from fewer rows than there are, too."""
    rows = table(6000, 8)
    [whole] = [part for part in measure(reference, [window(rows)], Limits(slices=("word",))).slices if part.value == "a"]
    monkeypatch.setattr(measuring, "RESAMPLED_ROWS", 600)
    [drawn] = [part for part in measure(reference, [window(rows)], Limits(slices=("word",))).slices if part.value == "a"]
    assert drawn.high - drawn.low == pytest.approx(whole.high - whole.low, rel=0.3)  # type: ignore[operator]


def of_patients() -> tuple[pl.DataFrame, Any, Batch]:
    """Rows of 200 patients of 30 visits each, which are alike in what the model sees and in what came of them."""
    visits = table(200, 8)[np.repeat(np.arange(200), 30)]
    came_of_each = np.repeat(came(table(200, 8), "binary", 3), 30)
    patients = np.repeat(np.arange(200), 30).astype(np.uint64) + 7
    return visits, patients, Batch(visits, said(visits, "binary"), pl.Series(came_of_each), things=patients)


def width(found: Measured, name: str = "roc_auc") -> float:
    return found.figures[f"quality.{name}.high"] - found.figures[f"quality.{name}.low"]  # type: ignore[operator]


def test_an_interval_draws_patients_where_rows_name_theirs_and_says_so_where_they_do_not(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, patients, batch = of_patients()
    by_row, by_patient = measure(reference, [batch]), measure(reference, [batch], Limits(together=("patient",), slices=("word",)))
    assert width(by_patient) > 3 * width(by_row)
    assert by_patient.figures["quality.roc_auc"] == by_row.figures["quality.roc_auc"]
    unnamed = "'patient' is not on record: intervals of quality take each row for itself"
    assert not any(note.startswith(unnamed) for note in by_patient.notes)
    [slice_] = [part for part in by_patient.slices if part.value == "a"]
    assert slice_.high - slice_.low > width(by_patient)  # type: ignore[operator]
    parts = [dataclasses.replace(batch, things=patients), dataclasses.replace(batch, things=None)]
    without = measure(reference, parts, Limits(together=("patient",)))
    assert any(note.startswith(unnamed) for note in without.notes)
    monkeypatch.setattr(measuring, "RESAMPLED_ROWS", 1500)
    assert width(measure(reference, [batch], Limits(together=("patient",)))) == pytest.approx(width(by_patient), rel=0.35)


def test_rows_of_the_record_belong_to_what_they_name_in_any_batch_and_those_that_name_nothing_to_equal_ones() -> None:
    frame = pl.DataFrame({"patient": ["a", "b", "a", None, None, None], "visit": [1, 1, 1, 1, 1, 1], "x": [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]})
    features = frame.select("x")
    things = things_in(frame, features, ["patient"])
    assert things is not None
    assert [np.flatnonzero(things == each).tolist() for each in things] == [[0, 2], [1], [0, 2], [3, 4], [3, 4], [5]]
    again = things_in(frame[2:], features[2:], ["patient"])
    assert again is not None
    assert again.tolist() == things[2:].tolist()
    assert things_in(frame, features, ["patient", "clinic"]) is None
    assert things_in(frame, features, []) is None


def test_what_an_estimate_holds_is_bounded_however_many_classes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, rows = made("multiclass"), table(8000, 9)
    of_all = measure(reference, [Batch(rows, said(rows, "multiclass"))]).figures["estimated.accuracy"]
    monkeypatch.setattr(estimating, "MOST_CHANCES", 4000 * 9)
    drawn = measure(reference, [Batch(rows, said(rows, "multiclass"))])
    assert drawn.figures["estimated.accuracy"] == pytest.approx(of_all, abs=0.02)
    assert "quality is estimated from an even sample of 4,000 rows" in drawn.notes
    monkeypatch.setattr(estimating, "MOST_CHANCES", 100 * 9)
    few = measure(reference, [Batch(rows, said(rows, "multiclass"))])
    assert few.figures["estimated.accuracy"] is None
    assert "quality is not estimated without labels: 3 classes are too many" in few.notes


def test_quality_without_labels_is_what_nannyml_says() -> None:
    """Its figures were taken by `benchmarks/cbpe.py` from NannyML 0.13.1, whose bounds do not agree with ours, on the same rows."""
    from benchmarks.cbpe import HELD_OUT, ROWS, WINDOWS, ours, rows_of

    windows = [rows_of(ROWS, *moved, place + 2) for place, moved in enumerate(WINDOWS.values())]
    assert ours(rows_of(HELD_OUT, 1.0, 0.0, 1), windows) == pytest.approx([0.74524, 0.61024, 0.86427, 0.73945], abs=1e-5)


WORDS = ("lens", "sharp", "bright", "sound", "battery", "picture", "menu", "slow", "cable", "screen", "keys", "small")
NEW = ("refund", "courier", "parcel", "late", "address", "return")


def texts(rows: int, seed: int, new: float = 0.0) -> pl.DataFrame:
    """Sentences of eight words; of so many rows they are others."""
    random = np.random.default_rng(seed)
    usual, other = (random.choice(words, (rows, 8)) for words in (WORDS, NEW))
    made = np.where(random.random(rows)[:, None] < new, other, usual)
    return pl.DataFrame({"note": [" ".join(row) for row in made]})


def of_texts(rows: pl.DataFrame, private: bool = False, encoders: Any = MappingProxyType({})) -> Reference:
    columns = columns_of(Contract(task="binary", columns={"note": Column("text", private=private)}), rows, encoders)
    return decoded(Reference(task="binary", rows=rows.height, columns=columns).encoded())


class Embedder(FrozenEncoder):
    """Stands where an encoder of a version would: how often each letter is in a text."""

    def embedded(self, texts: Any) -> Any:
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)


@pytest.mark.parametrize("encoder", [None, Embedder(Path(), "letters-8")])
def test_texts_of_another_topic_are_drift_by_embedding_and_by_words_and_those_of_the_same_are_not(encoder: Any) -> None:
    encoders = {} if encoder is None else {"note": encoder}
    reference = of_texts(texts(2000, 1), encoders=encoders)
    summary = reference.columns["note"].texts
    assert summary is not None and not any(word.encode() in reference.encoded() for word in ("lens sharp", "sharp bright"))
    (same,) = measure(reference, [Batch(texts(600, 2))], encoders=encoders).columns
    assert not same.drifted
    assert same.texts is not None and same.texts.distance_p is not None and same.texts.distance_p > 0.01
    found = measure(reference, [Batch(texts(300, seed, new=0.4)) for seed in (3, 4)], encoders=encoders)
    (moved,) = found.columns
    assert {"vocabulary", "embedding"} <= set(moved.reasons)
    assert moved.texts is not None and moved.texts.by == ("words" if encoder is None else "letters-8")
    assert moved.texts.unseen == pytest.approx(0.4, abs=0.08) and moved.texts.unseen_before == 0
    assert found.figures["embedding.distance"] == moved.texts.distance
    assert found.figures["unseen_words.share"] == moved.texts.unseen
    assert moved.texts.scripts == {"Latin": (1.0, 1.0)} and moved.texts.lengths == {"8 to 15": (1.0, 1.0)}
    assert measured_of(found.as_json()) == found


def test_of_few_texts_or_without_the_models_encoder_or_of_a_private_column_it_is_said_what_is_not_compared() -> None:
    few = measure(of_texts(texts(2000, 1)), [Batch(texts(29, 2, new=1))], Limits(least_rows=10))
    assert "note: too few texts: 400 of the model's own and 29 here, 30 are the least" in few.notes
    assert few.figures["embedding.distance"] is None and not {"vocabulary", "embedding"} & set(few.columns[0].reasons)
    reference = of_texts(texts(500, 1), encoders={"note": Embedder(Path(), "letters-8")})
    alone = measure(reference, [Batch(texts(200, 2, new=0.5))])
    lenient = measure(reference, [Batch(texts(200, 2, new=0.5))], Limits(unseen_words=0.9))
    assert "vocabulary" not in lenient.columns[0].reasons
    assert "note: embeddings are not compared: the encoder that the model reads by is not at hand" in alone.notes
    assert "vocabulary" in alone.columns[0].reasons
    column = msgspec.structs.replace(reference.columns["note"], texts=None)
    before = measure(msgspec.structs.replace(reference, columns={"note": column}), [Batch(texts(200, 2, new=0.5))])
    assert any(note.startswith("note: words and embeddings are not compared") and "`mlops run`" in note for note in before.notes)
    hidden = of_texts(texts(500, 1), private=True)
    assert hidden.columns["note"].texts is None and not hidden.columns["note"].words


def test_the_distance_of_means_is_what_chance_does_not_make() -> None:
    random = np.random.default_rng(0)
    draw = [random.normal(size=(200, 20)).astype(np.float32) for _ in range(12)]
    alike = [means_apart(draw[k], draw[k + 1], k) for k in range(0, 12, 2)]
    assert min(p for _, p in alike) > 0.01 and max(distance for distance, _ in alike) < 0.15
    distance, p = means_apart(draw[0], draw[1] + 0.5, 0)
    assert distance == pytest.approx(0.5, abs=0.05) and p < 1e-12, "not one in ten thousand, which is chance among a thousand columns"
