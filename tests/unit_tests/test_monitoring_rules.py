"""Each row is in one window, whatever cuts them; a rule says when a figure is wrong, and nothing of what is not known."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.alerts.alert import Alert
from mlops_pipeline.config.moments import span_of
from mlops_pipeline.config.monitoring import Monitoring, Rule, load_monitoring
from mlops_pipeline.config.pipeline import Split
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.cutting import Arrivals, Arrived, Requests, begun, between, by_count, by_time
from mlops_pipeline.monitoring.measured import Skewed
from mlops_pipeline.monitoring.rules import Seen, Terms, judged
from mlops_pipeline.monitoring.skew import figures_of, said_of
from mlops_pipeline.monitoring.state import AlertRow, state_at
from mlops_pipeline.monitoring.status import held_out

AUC = Terms("roc_auc", lower_is_better=False, reference={"quality.roc_auc": 0.8})
RMSE = Terms("rmse", lower_is_better=True, reference={"quality.rmse": 10.0})
MOMENTS = st.lists(st.tuples(st.floats(1.7e9, 1.7e9 + 5e5), st.integers(0, 30), st.sampled_from(["1", "2", ""])), max_size=60)
REPEATED = st.lists(st.sampled_from([1.7e9, 1.7e9 + 1e-7, 1.7e9 + 1e-6, 1.7e9 + 0.5]), max_size=20)


def arrived(given: list[tuple[float, int, str]]) -> list[Arrived]:
    return [Arrived(time, version, rows) for time, rows, version in sorted(given)]


@given(MOMENTS, st.sampled_from(["1d", "90min", "1w", "1mo"]), st.booleans())
def test_every_request_is_in_one_window_of_time(given: list[tuple[float, int, str]], every: str, close: bool) -> None:
    requests, now = arrived(given), 1.7e9 + 4e5
    parts = list(by_time(requests, None, span_of(every), now, close=close))
    assert [part.until for part in parts[:-1]] == [part.since for part in parts[1:]]
    inside = [each for part in parts for each in part.arrived]
    assert inside == requests[: len(inside)]
    assert all(part.since <= each.time < part.until for part in parts for each in part.arrived)
    end = parts[-1].until if parts else 0
    assert all(each.time >= end for each in requests[len(inside) :])
    assert close or all(part.until <= now for part in parts)
    rest = list(by_time(requests[len(inside) :], end or None, span_of(every), now + 4e6, close=True))
    assert inside + [each for part in rest for each in part.arrived] == requests


@given(MOMENTS | REPEATED.map(lambda times: [(time, 3, "1") for time in times]), st.integers(1, 50), st.booleans())
def test_every_request_is_in_one_window_of_rows(given: list[tuple[float, int, str]], rows: int, close: bool) -> None:
    requests = arrived(given)
    parts = list(by_count(requests, None, rows, close=close))
    inside = [each for part in parts for each in part.arrived]
    assert inside == requests[: len(inside)]
    assert all(part.since <= each.time < part.until for part in parts for each in part.arrived)
    assert all(sum(each.rows for each in part.arrived) >= rows for part in (parts[:-1] if close else parts))
    assert all(one.until <= other.since for one, other in pairwise(parts))
    assert not close or inside == requests
    for part in parts:  # what a store is asked for, it is asked for in dates
        assert datetime.fromtimestamp(part.until, UTC).timestamp() == part.until


@pytest.mark.parametrize(
    ("answered", "versions"),
    [("A B", "A B"), ("A B A", "B A"), ("A b A b", "b A"), ("b A b", "b A"), ("A b B", "A B"), ("b b", "b"), ("", "")],
)
def test_the_last_of_a_windows_versions_is_the_one_that_answers_now_and_no_challenger(answered: str, versions: str) -> None:
    said = [Arrived(float(at), word.upper(), 1, on_trial=word.islower()) for at, word in enumerate(answered.split())]
    assert Arrivals(0.0, 9.0, tuple(said)).versions == tuple(versions.upper().split())


def test_requests_that_were_all_refused_count_to_the_version_that_answered_before() -> None:
    """Who is not there to answer has not handed over to a version without a name."""
    refused = (Arrived(1.0, "", 0), Arrived(2.0, "", 0))
    assert Arrivals(0.0, 9.0, refused, "3").versions == ("3",)
    assert Arrivals(0.0, 9.0, refused, "3").counted("3") == (2, 2)
    assert Arrivals(0.0, 9.0, refused).versions == ("",)
    assert Arrivals(0.0, 9.0, (), "3").versions == ()
    part = Arrivals(0.0, 9.0, (*refused, Arrived(3.0, "4", 5), Arrived(4.0, "5", 0), Arrived(5.0, "5", 2)), "3")
    assert (part.versions, part.counted("4"), part.counted("5")) == (("4", "5"), (1, 0), (4, 3))


@given(MOMENTS, st.sampled_from(["90min", "1d"]))
def test_requests_by_column_are_cut_as_requests_are(given: list[tuple[float, int, str]], every: str) -> None:
    requests = sorted((Arrived(time, version, rows) for time, rows, version in given), key=lambda each: each.time)
    held = Requests.of(Arrived(time, version, rows) for time, rows, version in given)
    assert list(held) == [held[place] for place in range(len(held))] == requests
    for cut in (
        lambda some: by_time(some, None, span_of(every), 1.7e9 + 4e5, close=True),
        lambda some: by_count(some, None, 40, close=True),
    ):
        parts = [[(part.since, part.until, list(part.arrived)) for part in cut(some)] for some in (requests, held)]
        assert parts[0] == parts[1]
    ended = begun(1.7e9 + 4e5, span_of(every))
    parts = list(by_time(held, None, span_of(every), 1.7e9 + 4e5, close=False))
    early = list(by_time(between(held, 0.0, ended), None, span_of(every), 1.7e9 + 4e5, close=False))
    assert [list(part.arrived) for part in early] == [list(part.arrived) for part in parts]


def test_windows_begin_where_people_think_that_they_do() -> None:
    request = [Arrived(datetime(2026, 11, 29, 14, 30, tzinfo=UTC).timestamp(), "1", 1)]

    def first(every: str) -> tuple[datetime, datetime]:
        part = next(by_time(request, None, span_of(every), 2e9, close=False))
        return datetime.fromtimestamp(part.since, UTC), datetime.fromtimestamp(part.until, UTC)

    assert first("1d") == (datetime(2026, 11, 29, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC))
    assert first("1w") == (datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC))
    assert first("1mo") == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert first("1y") == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def fired(figure: str, first: str, end: str, began: str) -> AlertRow:
    moments = {
        name: datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()
        for name, day in {"first": first, "end": end, "began": began}.items()
    }
    alert = Alert(
        delivery="d", key="k", kind="firing", rule="fell", pipeline="p", model="m", version="1", severity="warning", figure=figure,
        text="", began=moments["began"], window=(moments["first"], moments["end"]),
    )  # fmt: skip
    return AlertRow(1, "fell", "m", "1", "firing", msgspec.json.encode(alert).decode(), alert.began, alert.began, None)


@pytest.mark.parametrize(
    ("span", "alert", "told"),
    [
        ("1mo", fired("quality.roc_auc", "2013-08-01", "2013-09-01", "2013-09-01"), True),
        ("31d", fired("drift.columns", "2013-08-01", "2013-09-01", "2013-09-01"), True),
        ("7d", fired("quality.roc_auc", "2013-08-01", "2013-09-01", "2013-09-01"), False),
        ("1mo", fired("quality.roc_auc", "2013-08-01", "2013-09-01", "2013-08-01"), False),
        ("1mo", fired("labels.late", "2013-08-01", "2013-09-01", "2013-09-01"), False),
        (None, fired("quality.roc_auc", "2013-08-01", "2013-09-01", "2013-09-01"), False),
    ],
    ids=["all of them are", "to the day", "a shorter span", "it began before", "not of the rows", "no window that moves"],
)
def test_status_tells_that_a_training_would_hold_out_all_rows_that_an_alert_is_of(span: str | None, alert: AlertRow, told: bool) -> None:
    split = Split(kind="time", test_last=span) if span else Split()
    found = held_out(split, [alert], datetime(2013, 9, 1, tzinfo=UTC).timestamp())
    assert (found is not None) == told
    assert found is None or (found["rules"], found["span"]) == (["fell"], span)


def series(name: str, *values: float | None, enough: bool = True, spread: float | None = None) -> list[Seen]:
    ends = {} if spread is None else {"low": -spread, "high": spread}
    return [
        Seen(
            place,
            place,
            place + 1,
            {name: value, **{f"{name}.{end}": None if value is None else value + by for end, by in ends.items()}},
            enough,
        )
        for place, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("rule", "terms", "windows", "broken"),
    [
        ({"figure": "rows", "below": 1}, AUC, series("rows", 5, 0, enough=False), True),
        ({"figure": "quality", "below": 0.7}, AUC, series("quality.roc_auc", 0.6, enough=False), None),
        ({"figure": "quality", "below": 0.7}, AUC, series("quality.roc_auc", 0.6, None), True),
        ({"figure": "quality", "below": 0.7}, AUC, series("quality.roc_auc", None), None),
        ({"figure": "quality", "below": 0.7, "windows": 2}, AUC, series("quality.roc_auc", 0.6), False),
        ({"figure": "quality", "below": 0.7, "windows": 2}, AUC, series("quality.roc_auc", 0.6, None, 0.6), True),
        ({"figure": "quality", "below": 0.7, "windows": 2}, AUC, series("quality.roc_auc", 0.6, 0.75, 0.6), False),
        ({"figure": "quality", "falls_by": 0.1}, AUC, series("quality.roc_auc", 0.69), True),
        ({"figure": "quality", "worsens_by": 0.1}, AUC, series("quality.roc_auc", 0.95), False),
        ({"figure": "quality", "worsens_by": 0.1, "relative": True}, RMSE, series("quality.rmse", 10.9), False),
        ({"figure": "quality", "worsens_by": 0.1, "relative": True}, RMSE, series("quality.rmse", 11.1), True),
        ({"figure": "quality", "worsens_by": 0.1, "relative": True, "surely": True}, RMSE, series("quality.rmse", 11.1, spread=0.5), False),
        ({"figure": "quality", "worsens_by": 0.1, "surely": True}, AUC, series("quality.roc_auc", 0.6, spread=0.05), True),
        ({"figure": "probe.gain", "above": 0.01, "and_surely": 0}, AUC, series("probe.gain", 0.02, spread=0.01), True),
        ({"figure": "probe.gain", "above": 0.01, "and_surely": 0}, AUC, series("probe.gain", 0.02, spread=0.03), False),
        ({"figure": "drift.share", "rises_by": 0.2, "against": 2}, AUC, series("drift.share", 0.1, 0.3, 0.5), True),
        ({"figure": "drift.share", "rises_by": 0.2, "against": 2}, AUC, series("drift.share", 0.1, 0.5), None),
        ({"figure": "drift.share", "falls_by": 0.2}, AUC, series("drift.share", 0.1), None),
    ],
)
def test_a_rule_is_broken_when_it_says_so(rule: dict[str, Any], terms: Terms, windows: list[Seen], broken: bool | None) -> None:
    said = judged(Rule(**rule), windows, terms)
    assert said.broken is broken
    assert "\n" not in said.text
    assert broken is None or said.text.startswith(said.figure)


def test_an_alert_began_with_the_first_of_the_windows_in_which_it_was_so() -> None:
    said = judged(Rule(figure="quality", below=0.7), series("quality.roc_auc", 0.9, 0.6, None, 0.5), AUC)
    assert (said.since, said.value) == (2, 0.5)


def test_labels_of_few_rows_raise_nothing_where_many_are_wanted() -> None:
    windows = [Seen(0, 0, 1, {"quality.roc_auc": 0.5, "labels.share": 0.1}, True)]
    terms = Terms("roc_auc", lower_is_better=False, reference={}, least_label_share=0.5)
    assert judged(Rule(figure="quality", below=0.7), windows, terms).broken is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: {a: {figure: rows}}", ("rules.a", "exactly one")),
        ("rules: {a: {figure: rows, above: 1, below: 0}}", ("rules.a", "exactly one")),
        ("rules: {a: {figure: qualty.f1, above: 1}}", ("rules.a", "no figure of a window", "did you mean 'quality.f1'?")),
        ("rules: {a: {figure: rows, worsens_by: 1}}", ("rules.a", "is for a metric")),
        ("rules: {a: {figure: rows, above: 1, chanels: [log]}}", ("rules.a.chanels", "did you mean 'channels'")),
        ("rules: {a: {figure: rows, above: 1, channels: [ops]}}", ("ops", "not among 'channels'")),
        ("windows: {every: 1d, rows: 5}", ("windows", "either")),
        ("windows: {every: soon}", ("windows.every = 'soon'", "31d")),
        ("labels: {look_back: 9999y}", ("labels.look_back = '9999y'", "write 1000y for always")),
        ("retraining: {budget_per: 999999w}", ("retraining.budget_per", "longer than the calendar")),
        ("rules: {a: {figure: rows, above: 1}}\nretraining: {by: [b]}", ("'b'", "use some of a")),
        ("state: {uri: mysql://x}", ("state", "postgresql://")),
        ("state: {uri_file: none}", ("state.uri_file = 'none'", "put the address there")),
    ],
)
def test_settings_that_are_no_good_are_told_in_one_line(tmp_path: Any, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "monitoring_config.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError) as caught:
        load_monitoring(path)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in (str(path), *words)), caught.value


def test_without_a_file_every_default_holds_and_drift_alone_starts_nothing() -> None:
    settings = load_monitoring(None)
    assert settings == Monitoring()
    assert not any(rule.figure.startswith("drift") for rule in settings.rules.values())
    assert settings.retraining.by == ("retraining_helps", "model_is_old")


def test_an_alert_does_not_end_before_it_began(tmp_path: Path) -> None:
    """Nor is it repeated after its end, whoever is slow or was killed."""
    with closing(state_at(tmp_path / "state.sqlite")) as state:
        alert = state.raise_alert("fell", "champion", "1", "{}", 0, 0)
        state.post(alert, "hook", "firing", "{}", 0)
        state.post(alert, "hook", "resolved", "{}", 0)

        def due(now: float) -> dict[str, tuple[int, float]]:
            return {kind: (number, due) for number, _, _, kind, _, due in state.undelivered(now, ["hook"])}

        first, end = due(0)["firing"], due(0)["resolved"]
        assert state.claim(*first, 0, 30)
        assert not state.claim(*end, 10, 40), "somebody is at its beginning"
        assert due(31).keys() == {"firing", "resolved"}
        assert state.claim(*due(31)["firing"], 31, 61)
        state.sent(first[0], 32, 60)
        again = due(60)["firing"]
        assert state.claim(*again, 60, 90)
        assert not state.claim(*end, 61, 91), "somebody repeats its beginning"
        state.sent(first[0], 62, 90)
        again = due(90)["firing"]
        state.change_alert(alert, "{}", 91)
        assert not state.claim(*again, 92, 122), "it has ended meanwhile"
        assert state.claim(*end, 92, 122)


def test_skew_is_told_from_thirty_rows_on_and_says_what_waits() -> None:
    found = Skewed(table="d", came=100, rows=40, absent=60, differing={"usual": 10, "twice": 0})
    assert figures_of(found) == {"skew.rows": 40, "skew.absent": 60, "skew.share": 0.25, "skew.share.usual": 0.25, "skew.share.twice": 0.0}
    assert said_of(found) == "of 40 rows the pipeline's table says otherwise: usual 25.0%; 60 are not in the table yet"
    few = Skewed(table="d", came=100, rows=29, absent=0, differing={"usual": 29})
    assert figures_of(few)["skew.share"] is None
    assert said_of(Skewed(came=5, absent=5)).startswith("not looked at")
    assert said_of(Skewed(table="d", came=5, absent=5)).startswith("not known: none of 5 rows")
