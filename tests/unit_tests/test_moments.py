"""Moments and spans as people write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from mlops_pipeline.config.moments import moment_of, shown_moment, span_of
from mlops_pipeline.config.monitoring import Windows
from mlops_pipeline.config.pipeline import Split
from mlops_pipeline.config.release import Policy, Step
from mlops_pipeline.config.serving import FeatureSettings
from mlops_pipeline.config.tree import Frozen


@pytest.mark.parametrize(
    ("span", "moment", "before"),
    [
        ("31d", "2013-10-01", "2013-08-31"),
        ("1mo", "2013-03-31", "2013-02-28"),
        ("14mo", "2013-01-15", "2011-11-15"),
        ("1y", "2012-02-29", "2011-02-28"),
        ("2w", "2013-10-15", "2013-10-01"),
        ("12h", "2013-10-01", "2013-09-30T12:00:00"),
        ("90min", "2013-10-01", "2013-09-30T22:30:00"),
    ],
)
def test_a_span_lies_before_a_moment(span: str, moment: str, before: str) -> None:
    assert shown_moment(span_of(span).before(moment_of(moment))) == before


def test_one_lies_after_a_moment_by_the_same_rule() -> None:
    for span, after in (("1mo", "2013-02-28"), ("13mo", "2014-02-28"), ("1y", "2014-01-31"), ("2w", "2013-02-14")):
        assert shown_moment(span_of(span).after(moment_of("2013-01-31"))) == after
    for span in ("9999y", "999999d"):
        with pytest.raises(ValueError, match=f"{span} after 9000-01-01 is after the year 9999"):
            span_of(span).after(moment_of("9000-01-01"))


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        (Split, {"kind": "time", "test_last": "999999w"}),
        (Split, {"kind": "time", "test_last": "1w", "train_last": "999999w"}),
        (FeatureSettings, {"max_age": "999999w"}),
        (Step, {"weight": 0.5, "least_time": "999999w"}),
        (Policy, {"patience": "999999w"}),
        (Windows, {"every": "999999w"}),
    ],
)
def test_no_setting_takes_a_span_that_cannot_be_counted_back_from_now(settings: type[Frozen], content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"999999w is longer than the calendar reaches back: write 1000y for always"):
        settings.model_validate(content)


@pytest.mark.parametrize("text", ["", "31", "d", "0d", "-3d", "1m", "1.5d", "31 days", "d31", "1M"])
def test_what_is_no_span_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"31d, 4w, 1mo \(months\), 2y, 12h or 90min"):
        span_of(text)


@pytest.mark.parametrize("text", ["2013-10-01T02:00+02:00", "2013-10-01", "2013-10-01 00:00:00Z", " 2013-10-01T00:00 "])
def test_a_moment_is_one_of_utc(text: str) -> None:
    assert moment_of(text) == datetime(2013, 10, 1)


@pytest.mark.parametrize("text", ["", "2013-13-01", "October", "2013", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write a date, 2013-10-01"):
        moment_of(text)
