"""What answers earned, by a release's own word for it: numbers from 0 to 1."""

from __future__ import annotations

from typing import get_args

import numpy as np

from mlops_pipeline.config.release import OF_CLASSES, OF_NUMBERS, Earning, Policy, Reward
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.experiments.sequences import Floats
from mlops_pipeline.release.evidence import ARMS, CHALLENGER, CHAMPION, FALLBACK, Observations

ANSWERED = [ARMS.index(arm) for arm in (CHAMPION, CHALLENGER, FALLBACK)]
"""Arms whose answers were given."""


def why_not(reward: Reward, reference: Reference | None) -> str:
    """Why nothing could ever be earned so with this model; empty if it can."""
    if reward.figure in ("answered", "latency"):
        return ""
    if reference is None:
        return f"'{reward.figure}' needs the champion's summary, which says what its labels mean: train it again"
    if reward.figure == "label" and len(reference.classes) > 2:
        return f"'label' is no number of {len(reference.classes)} classes: use correct, or brier"
    if reward.figure == "label":
        is_named = bool(reference.classes) or bool(reward.model_fields_set & {"low", "high"})
        return "" if is_named else "'label' can be any number: say with 'low' and 'high' between which it lies"
    has_classes = reward.figure in ("correct", *OF_CLASSES)
    if has_classes != bool(reference.classes):
        fit = ("label", *OF_NUMBERS) if not reference.classes else ("label", "correct", "brier")
        return f"'{reward.figure}' is none of a {reference.task} model's: use {', '.join(fit)}"
    return ""


def earned_by(reward: Reward, answers: Observations) -> tuple[Floats, int]:
    """Each row's reward, NaN where it is not known; and how many figures lay beyond the bounds that were named, and count as these."""
    return scaled(reward, figure_of(reward.figure, answers))


def scaled(reward: Reward, figure: Floats) -> tuple[Floats, int]:
    """Figures as rewards."""
    beyond = int(((figure < reward.low) | (figure > reward.high)).sum())
    share: Floats = (np.clip(figure, reward.low, reward.high) - reward.low) / (reward.high - reward.low)
    return (1.0 - share if reward.less_is_better else share), beyond


def figure_of(name: str, answers: Observations) -> Floats:
    """A figure of each row that was given as an answer; NaN where it is not known, or belongs to the request's first row."""
    heads = answers.row <= 0
    if name == "answered":
        made: Floats = np.where(heads, ~answers.failed & (answers.arm != ARMS.index(FALLBACK)), np.nan)
        return made
    usable = ~answers.failed & np.isin(answers.arm, ANSWERED)
    if name == "latency":
        return np.where(usable & heads, answers.latency, np.nan)
    if name == "prediction":
        return np.where(usable, answers.scores[:, -1], np.nan)
    truth = np.where(usable, answers.truth, np.nan)
    if name == "label":
        return truth
    if name in OF_NUMBERS:
        off = answers.scores[:, 0] - truth
        lost: Floats = off**2 if name == "squared" else np.abs(off)
        return lost
    known = np.isfinite(truth)
    found = np.full(len(truth), np.nan)
    place, scores = truth[known].astype(int), answers.scores[known]
    if name == "correct":
        found[known] = scores.argmax(axis=1) == place
    else:
        seen = np.zeros(scores.shape)
        seen[np.arange(len(place)), place] = 1.0
        found[known] = ((scores - seen) ** 2).sum(axis=1) / 2
    return found


def refuse_untold(policy: Policy, reference: Reference | None, place: str) -> None:
    """Raise :class:`PipelineError` where the model's answers could never earn anything so, or a test's metric never have a figure."""
    if policy.reward is not None and (why := why_not(policy.reward, reference)):
        raise PipelineError(f"{place}: policy.reward.figure: {why}")
    if policy.experiment is None:
        return
    for name, metric in policy.experiment.metrics.items():
        figure = next((each for each in get_args(Earning) if each == metric.column), None)
        if figure is not None and (why := why_not(Reward(figure=figure, low=0.0, high=1.0), reference)):
            raise PipelineError(f"the test '{policy.experiment.name}': metrics.{name}.column: {why}")
