"""What an online test is told: its arms, its metrics and how sure it has to be; one YAML file, frozen and checked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlops_pipeline.config.pipeline import PastSpan
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, refuse_another_kind, tree_of
from mlops_pipeline.contract.values import written_as

Level = Annotated[float, Field(gt=0, lt=0.5)]


class Metric(Frozen):
    """One figure of a unit, and what is asked of it."""

    column: str = Field(description="the table's column: a number, or yes and no")
    quantile: float | None = Field(None, gt=0, lt=1, description="compare this quantile; default: the mean, of yes/no the share")
    better: Literal["higher", "lower"] = Field("higher", description="which way is better")
    role: Literal["goal", "guardrail"] = Field("goal", description="a goal is to get better, a guardrail must not get worse")
    no_worse_by: float = Field(0.0, ge=0, description="a guardrail's margin, above zero: this much worse is still borne")
    least_effect: float | None = Field(None, gt=0, description="the smallest difference worth finding; `experiment plan` needs it")
    per_unit: Literal["mean", "sum", "max"] = Field("mean", description="what a unit with several rows counts as")
    before: str | None = Field(
        None, description="the same thing of the time before, or another number known then: makes intervals narrower"
    )

    format: str | None = Field(None, description="how texts of the column are written, as 1234.5 is: '1.234,5', '$1,234.5', '1234.5 %'")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.format is not None and written_as(self.format) is None:
            raise ValueError(f"format '{self.format}' does not say how 1234.5 is written, such as '1.234,5', '$1,234.5' or '1234.5 %'")
        if self.no_worse_by and self.role == "goal":
            raise ValueError("'no_worse_by' is a guardrail's: write role: guardrail")
        if not self.no_worse_by and self.role == "guardrail":
            raise ValueError("a guardrail needs 'no_worse_by': nothing can be shown to be no worse at all, so say how much is still borne")
        if self.before is not None and self.quantile is not None:
            raise ValueError("'before' narrows means only: leave it out, or 'quantile'")
        if self.before == self.column:
            raise ValueError("'before' is the column itself: name one that was known before")
        return self


class Experiment(Frozen):
    """One online test."""

    name: str = Field("experiment", description="of the test, as its page is headed")
    arms: dict[str, float] = Field(min_length=2, description="each value of the arm's column, and its weight; the first is the control")
    arm: str = Field("arm", description="the column that says which arm answered")
    unit: str | None = Field(None, description="the column that says who it was, and sticks to an arm; default: each row is one")
    time: str | None = Field(None, description="the column that says when; default: the rows are in order of time")
    alpha: Level = Field(0.05, description="the share of tests without a difference that may say there is one, however often one looks")
    power: float = Field(0.8, gt=0.5, lt=1, description="`experiment plan`: how often a difference of least_effect is to be found")
    srm_alpha: Level = Field(0.001, description="the same for the test whether the arms got the shares that they were to get")
    expected_units: int = Field(10_000, ge=100, description="about how many units it will have: intervals are narrowest there")
    least_units: int = Field(100, ge=20, description="an arm with fewer units says nothing")
    metrics: dict[Name, Metric] = Field(min_length=1, description="what arms are compared by, each by a name of yours")
    slices: tuple[str, ...] = Field((), description="columns by whose values goals are looked at, too")
    most_units: int | None = Field(
        None, ge=100, description="`experiment start` ends undecided after so many units; default: twice `expected_units`"
    )
    most_time: PastSpan = Field("30d", description="`experiment start` ends undecided after it")
    then: Literal["approval", "promote"] = Field(
        "approval", description="where the challenger is to be taken, `experiment start` waits for `mlops release promote`, or promotes it"
    )

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if any(not math.isfinite(weight) or weight <= 0 for weight in self.arms.values()):
            raise ValueError("every arm needs a weight above zero")
        if not any(metric.role == "goal" for metric in self.metrics.values()):
            raise ValueError("no metric is a goal: write role: goal for one")
        return self

    @property
    def last_unit(self) -> int:
        """After how many units a test that we run ends undecided."""
        return self.most_units if self.most_units is not None else 2 * self.expected_units

    @property
    def control(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.arms))

    @property
    def shares(self) -> dict[str, float]:
        """Which part of the units each arm is to get."""
        total = sum(self.arms.values())
        return {arm: weight / total for arm, weight in self.arms.items()}

    @property
    def goals(self) -> dict[str, Metric]:
        """The metrics that are to get better."""
        return {name: metric for name, metric in self.metrics.items() if metric.role == "goal"}


def load_experiment(path: Path) -> Experiment:
    """Read the file. Raises :class:`PipelineError` in one line that names the file, the key, the value and the remedy."""
    content = read_yaml(path, "docs/experiments.md shows one")
    refuse_another_kind(content, path, "a test's")
    return tree_of(Experiment, content, str(path))


def experiment_schema() -> str:
    """The JSON schema that editors check the YAML file with."""
    return json.dumps(Experiment.model_json_schema(), indent=2)
