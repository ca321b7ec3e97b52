"""What a release is told: the steps of a challenger's way, what may not become worse on it, and what happens where nothing is known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from mlops_pipeline.config.experiment import Experiment
from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.config.pipeline import PastSpan
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, refuse_another_kind, tree_of
from mlops_pipeline.errors import PipelineError

Level = Annotated[float, Field(gt=0, lt=0.5)]
Loss = Literal["brier", "error", "absolute", "squared"]
OF_CLASSES, OF_NUMBERS = ("brier", "error"), ("absolute", "squared")
UNIT = r"^(request|ids|header:[A-Za-z0-9-]{1,64}|column:.{1,200})$"
LATENCY = re.compile(r"latency\.p([1-9][0-9]?(?:\.[0-9])?)")
FIGURES = ("failures", "refused", "drift", "disagreement", "quality", "latency.p50", "latency.p99")


class Guardrail(Frozen):
    """One figure of the challenger beside the champion's, and how much worse it may be."""

    figure: str = Field(
        description="failures, refused (shares of requests), latency.p50, latency.p99 … (ms), drift (of the mean prediction), "
        "disagreement (of requests that both answered), quality (mean loss of rows with labels)"
    )
    worse_by: float = Field(
        ge=0,
        description="so much is borne: of failures and refused a share, of latency ms, of quality a share of the champion's loss, of drift "
        "(and of numbers' disagreement) standard deviations of the champion's predictions",
    )
    loss: Loss | None = Field(None, description="of quality: brier or error of classes, absolute or squared of numbers; default: the first")
    slices: tuple[str, ...] = Field(
        (), description="columns by whose values it is looked at, too; not of refused, since what was refused has no columns on record"
    )
    must_hold: bool = Field(
        False, description="a step that compares both is left only when it is known to hold; else when it is not known to be broken"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.figure not in FIGURES and not LATENCY.fullmatch(self.figure):
            raise ValueError(f"figure '{self.figure}' is none: use one of {', '.join(FIGURES)}")
        if self.loss is not None and self.figure != "quality":
            raise ValueError("'loss' is quality's")
        if self.slices and self.figure == "refused":
            raise ValueError("'refused' is not told by slice, since what was refused has no columns on record: leave 'slices' out")
        return self


class Step(Frozen):
    """One step: how much the challenger answers, or is asked besides, and what has to be seen before the next."""

    weight: float = Field(0.0, ge=0, le=1, description="share of units that the challenger answers")
    shadow: float = Field(0.0, ge=0, le=1, description="share of requests in which it is asked too; nobody is told what it says")
    least_rows: int = Field(
        100, ge=0, description="rows that the challenger has to answer in this step, and as many requests, or `least_units`"
    )
    least_labels: int = Field(0, ge=0, description="rows of the whole release with its answer for which labels have to come")
    least_time: PastSpan | None = Field(None, description="the step lasts at least so long")
    approval: bool = Field(False, description="a person lets it leave the step: `mlops release promote`")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.weight == 0 and self.shadow == 0:
            raise ValueError("a step needs a weight or a shadow above zero")
        if self.weight == 1 and self.shadow > 0:
            raise ValueError("where the challenger answers everything nothing is asked behind the champion's answers: leave 'shadow' out")
        return self

    @property
    def name(self) -> str:
        """What it is called in the table, the page and events."""
        return f"{self.weight * 100:g} %" if self.weight else "shadow" if self.shadow == 1 else f"shadow {self.shadow * 100:g} %"

    @property
    def compares(self) -> bool:
        """Whether both models answer in it."""
        return self.weight < 1


Earning = Literal["label", "correct", "brier", "absolute", "squared", "answered", "latency"]
COSTS = ("brier", "absolute", "squared", "latency")
"""Figures of which less is better."""
UNBOUNDED = ("absolute", "squared", "latency")


class Reward(Frozen):
    """What an answer earns, as a number from 0 to 1."""

    figure: Earning = Field(
        "label",
        description="label (what came of it: 1 where it is the last class, or the number); correct, brier, absolute, squared (of answer "
        "and label); answered (by the challenger itself, where it was to); latency (ms)",
    )
    better: Literal["higher", "lower"] | None = Field(None, description="default: lower of brier, absolute, squared, latency; else higher")
    low: float = Field(0.0, description="the least that the figure can be")
    high: float = Field(1.0, description="the most; what lies beyond counts as this, and is counted")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"'low' = {self.low:g} is not below 'high' = {self.high:g}")
        if self.figure in UNBOUNDED and "high" not in self.model_fields_set:
            raise ValueError(f"'{self.figure}' can be any number: say with 'high' how much counts as the worst")
        return self

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller figure earns more."""
        return (self.figure in COSTS) if self.better is None else self.better == "lower"


class Bandit(Frozen):
    """Traffic goes where more is earned while it is learned where that is: Thompson sampling between champion and challenger."""

    floor: float = Field(0.05, gt=0, lt=0.5, description="each gets at least this share of units, however it does")
    start: float = Field(0.5, gt=0, lt=1, description="the challenger's share in the first batch")
    batch_units: int = Field(
        200,
        ge=20,
        description="so many more units that have earned something before the shares change again, and a fiftieth of all if that is more",
    )
    sure: float = Field(0.99, gt=0.5, lt=1, description="the probability of being better that ends it, promoted or thrown out")
    alpha: Level = Field(0.05, description="and only so many releases of an equal challenger end so, however often one looks")
    least_units: int = Field(200, ge=20, description="of each, that have earned something, before it may end")
    expected_units: int = Field(5_000, ge=100, description="about how many units it takes; the interval is narrowest there")
    most_time: PastSpan = Field("30d", description="after it the release is inconclusive: the champion stays")
    seed: int = Field(0, ge=0, description="of the draws; with the release's number and the batch it says every share")

    @model_validator(mode="after")
    def _explores(self) -> Self:
        if not self.floor <= self.start <= 1 - self.floor:
            raise ValueError(f"'start' = {self.start:g} leaves one less than the floor of {self.floor:g}")
        return self


BANDIT, TEST = "bandit", "test"
"""The steps in which shares follow what is earned, and in which an online test is run at fixed shares."""
TESTED_ARMS = ("champion", "challenger")
TESTABLE = (*get_args(Earning), "prediction")
"""Figures of the record that a test's metrics may be of."""

USUAL_STEPS = (
    Step(shadow=1.0, least_rows=500),
    Step(weight=0.01, least_rows=100),
    Step(weight=0.05, least_rows=200),
    Step(weight=0.25, least_rows=500),
    Step(weight=0.5, least_rows=500),
    Step(weight=1.0, least_rows=500),
)
USUAL_GUARDRAILS = {
    "failures": Guardrail(figure="failures", worse_by=0.01),
    "refused": Guardrail(figure="refused", worse_by=0.02),
    "slow": Guardrail(figure="latency.p50", worse_by=10.0),
    "slowest": Guardrail(figure="latency.p99", worse_by=25.0),
    "drift": Guardrail(figure="drift", worse_by=0.5),
    "quality": Guardrail(figure="quality", worse_by=0.03),
}


class Turn(NamedTuple):
    """What a release may be told to do next: a step's name, the challenger's share of units, and of requests in its shadow."""

    name: str
    weight: float
    shadow: float = 0.0


def _refuse_untestable(experiment: Experiment) -> None:
    if set(experiment.arms) != set(TESTED_ARMS):
        raise ValueError(f"arms of a test that we run are {' and '.join(TESTED_ARMS)}, not {', '.join(experiment.arms)}")
    for name, metric in experiment.metrics.items():
        if metric.column not in TESTABLE:
            raise ValueError(f"metrics.{name}.column = '{metric.column}' is no figure of the record: use one of {', '.join(TESTABLE)}")
        if metric.before is not None:
            raise ValueError(f"metrics.{name}.before: the record knows nothing of before a unit came: leave it out")
        if metric.format is not None:
            raise ValueError(f"metrics.{name}.format: the record's figures are numbers, not texts: leave it out")


class Policy(Frozen):
    """How a challenger becomes champion, or does not."""

    steps: tuple[Step, ...] = Field(
        USUAL_STEPS, description="in order; after the last the challenger is made champion, or `bandit` begins; with it: none by default"
    )
    bandit: Bandit | None = Field(None, description="shares that follow what is earned, after the steps")
    experiment: Experiment | None = Field(None, description="an online test at fixed shares, after the steps: `mlops experiment start`")
    reward: Reward | None = Field(None, description="what an answer earns: `bandit` needs it, and `mlops release replay` tells of it")
    guardrails: dict[Name, Guardrail] = Field(
        default_factory=lambda: dict(USUAL_GUARDRAILS), description="by name; given, they replace the usual ones"
    )
    alpha: Level = Field(0.05, description="the share of releases of an equal challenger that may be thrown out, however often one looks")
    srm_alpha: Level = Field(0.001, description="the same for the test whether the arms got the shares that they were to get")
    expected_rows: int = Field(
        2_000,
        ge=100,
        description="about how many rows a step is decided on; intervals are narrowest there, and a bandit's or a test's windows so long",
    )
    least_units: int = Field(
        50, ge=20, description="an arm with fewer units says nothing of a guardrail, and with fewer requests no step is left"
    )
    patience: PastSpan = Field(
        "2d", description="a step that cannot be left for so long ends the release as inconclusive: back to the champion"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_usual_steps(cls, content: Any) -> Any:
        """A bandit, or a test, without steps begins at once."""
        if isinstance(content, dict) and "steps" not in content and any(content.get(last) is not None for last in ("bandit", "experiment")):
            return {**content, "steps": ()}
        return content

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.experiment is not None:
            _refuse_untestable(self.experiment)
        if not self.steps and self.ending is None:
            raise ValueError("'steps' is empty: name one, or leave the key out")
        if self.bandit is not None and self.experiment is not None:
            raise ValueError("'bandit' and 'experiment' are both given: a release ends with one")
        if self.bandit is not None and self.reward is None:
            raise ValueError("'bandit' needs 'reward': say what an answer earns, such as reward: {figure: label}")
        if self.ending is not None and any(step.weight > self.ending.weight for step in self.steps):
            raise ValueError(
                f"a step has more than the {self.ending.weight:g} that '{self.ending.name}' begins with: a unit stays on its arm"
            )
        return self

    @property
    def ending(self) -> Turn | None:
        """What comes after the steps, if not the promotion."""
        if self.bandit is not None:
            return Turn(BANDIT, self.bandit.start)
        return None if self.experiment is None else Turn(TEST, self.experiment.shares["challenger"])

    @property
    def divided(self) -> int:
        """How many steps divide units among both arms, or give the challenger all."""
        return sum(step.weight > 0 for step in self.steps) + (self.ending is not None)

    @property
    def first(self) -> Turn:
        """What a release begins with."""
        step = next(iter(self.steps), None)
        if step is not None:
            return Turn(step.name, step.weight, step.shadow)
        assert self.ending is not None  # noqa: S101  # checked when it was read
        return self.ending

    @model_validator(mode="after")
    def _grows(self) -> Self:
        weights = [step.weight for step in self.steps]
        if weights != sorted(weights):
            raise ValueError("weights of 'steps' must not fall: a unit stays on its arm")
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"two steps are '{next(name for name in names if names.count(name) > 1)}': leave one out")
        return self


class Releases(Frozen):
    """One server's releases; where they are kept the server's own settings say, under ``release``."""

    serving: str | None = Field(None, description="the server's settings, relative to this file; default: this project's")
    monitoring: str | None = Field(None, description="the watch's, whose labels are used; default: this project's")
    model: Name | None = Field(None, description="the name in the URL; default: the server's default model")
    unit: str = Field(
        "request",
        pattern=UNIT,
        description="what sticks to an arm: request (nothing does), ids (the client's), header:NAME, or column:NAME of raw rows",
    )
    split: Literal["server", "elsewhere"] = Field(
        "server",
        description="who divides requests: our servers, or a mesh by `mlops release render` (its servers have release: {enabled: false}); "
        "what was answered is then told apart by version",
    )
    auto: bool = Field(True, description="`mlops release watch` starts a release of each version that is called challenger")
    lease_s: float = Field(15, ge=1, description="so long after its controller is gone all traffic is the champion's")
    look_s: float = Field(2, ge=0.2, description="how often the controller looks")
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _guards_something(self) -> Self:
        if not self.policy.guardrails:
            raise ValueError("policy.guardrails is empty, so nothing would throw a challenger out: name one, or leave the key out")
        return self

    @model_validator(mode="after")
    def _can_be_left(self) -> Self:
        patience = self.policy.patience
        for step in self.policy.steps:
            if step.least_time is not None and seconds_of(step.least_time) >= seconds_of(patience):
                raise ValueError(
                    f"policy.steps: '{step.name}' lasts least_time = {step.least_time}, and patience = {patience} would end the release "
                    "before: raise policy.patience"
                )
        return self


def load_releases(path: Path | None) -> Releases:
    """Read the file; None means every default. Raises :class:`PipelineError` in one line that names file, key, value and remedy."""
    if path is None:
        return Releases()
    content = read_yaml(path, "start from configs/release_config.yaml")
    refuse_another_kind(content, path, "a release's")
    return tree_of(Releases, content, str(path))


def policy_of(text: str) -> Policy:
    """A policy as the table keeps it. Raises :class:`PipelineError`."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise PipelineError("the release's policy cannot be read: its table is damaged") from error
    return tree_of(Policy, content, "the release's policy")


def release_schema() -> str:
    """The JSON schema that editors check the YAML file with."""
    return json.dumps(Releases.model_json_schema(), indent=2)
