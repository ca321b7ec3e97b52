"""The evaluation report: one page that opens offline, the gate's verdict first, then what a reader must not miss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.pipeline import Settings, Then, feature_columns
from mlops_pipeline.contract.evaluation import Evaluation
from mlops_pipeline.contract.privacy import private_names
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.metrics import direction
from mlops_pipeline.modelling.plots import BLUE, CURVES, GREY, INK, ORANGE
from mlops_pipeline.pages import page, short, text
from mlops_pipeline.tables.columns import FEATURE, LEFT_OUT

if TYPE_CHECKING:
    from mlops_pipeline.modelling.gate import Rule

FEW_ROWS = 10
"""Rows of a class below which its scores say little."""

SHOWN_CLASSES = 25
"""Classes listed at once; the others are folded."""

ON_PAGE = {BLUE: "var(--blue)", ORANGE: "var(--orange)", GREY: "var(--soft)", INK: "var(--ink)"}
"""What the page calls the pictures' colours, by day and by night."""

NEXT = {
    "held_out": "Hold rows out: raise `split.test_share`, or let `split.test_from` begin earlier.",
    "baseline": "Another estimator (`train.estimator`), columns that know more about the target, or more rows. Where the figure is above "
    "the limit and only its lower bound is below, more held-out rows may be all that is missing.",
    "champion": "The champion stays. Train on newer or more rows. `gate.champion_margin` says how small a loss may pass; where the "
    "champion is simpler, none does.",
    "worst_slice": "Look at the slices below: the worst has few rows, or differs from the others. Add some, or change `gate.worst_slice`.",
    "calibration": "The probabilities are off. Try `logistic_regression` or more rows, or raise `gate.max_calibration_error` if only the "
    "order matters.",
    "latency": "A smaller model: fewer trees or a linear estimator; or raise `gate.max_latency_ms`.",
    "size": "A smaller model: fewer or shallower trees; or raise `gate.max_size_mb`.",
    "skew": "A server would compute the column above otherwise than the table has it. Mend how it is made (`dataset.derive` and its like), "
    "or set `gate.skew` to null if only finished features are served.",
    "rolled_back": "A person took this version back: ask why before you bring it back.",
}


@dataclass(frozen=True)
class Outcome:
    """What the gate said of a version, and what came of it."""

    model: str
    version: int
    passed: bool
    is_champion: bool
    rules: list[Rule]
    then: Then = "champion"
    """What becomes of one that passed."""
    option: str = ""
    """What a command typed in the project's folder needs, to mean its pipeline."""

    @property
    def state(self) -> str:
        """One line: what became of the version."""
        name = f"{self.model} version {self.version}"
        if self.passed and self.then == "challenger":
            return f"{name} passed the gate and is the challenger"
        if self.passed and self.then == "approval":
            return f"{name} passed the gate and waits for approval"
        if self.passed:
            return f"{name} became champion"
        return f"{name} stays champion, but does not pass today's gate" if self.is_champion else f"{name} was registered and not promoted"


def next_steps(outcome: Outcome) -> list[str]:
    """What to do about each rule that did not pass, and the way round them all."""
    number, option = outcome.version, outcome.option
    if outcome.passed and outcome.then == "challenger":
        # Which settings of releases are another pipeline's nobody knows here.
        first = [] if option else [f"To try it on a part of the traffic first: `mlops release start {number}`."]
        return [*first, f"To make it champion: `mlops models promote {number}{option}`."]
    if outcome.passed and outcome.then == "approval":
        return [
            f'To make it champion: `mlops models approve {number} --reason "why"{option}`.',
            f'To keep it out: `mlops models reject {number} --reason "why"{option}`.',
        ]
    if outcome.passed:
        return []
    steps = [NEXT.get(rule.name, f"See gate.rules.{short(rule.name)} in the settings.") for rule in outcome.rules if not rule.passed]
    if not outcome.is_champion:
        steps.append(
            f'To use it all the same: `mlops models promote {number} --override "why"{option}`; the reason is kept with the version.'
        )
    return steps


def report(settings: Settings, training: Contract, evaluation: Evaluation, pictures: Path, outcome: Outcome | None) -> str:
    """The page, self-contained. ``pictures`` is the folder of the SVG files; without an outcome the gate has not judged yet."""
    return page(
        "evaluation.html",
        title=f"Evaluation of {settings.name}",
        training=training,
        evaluation=evaluation,
        outcome=outcome,
        next_steps=next_steps(outcome) if outcome else [],
        standing=standing(evaluation),
        warnings=list(warnings(evaluation)),
        race=race_drawn(getattr(training, "race", {})),
        classes=_in_order(evaluation.classes),
        shown_classes=SHOWN_CLASSES,
        few=FEW_ROWS,
        lower_is_better={name for name in evaluation.metrics if direction(name) < 0},
        together=" and ".join(settings.split.together),
        pictures=[(name, _for_page(file.read_text(encoding="utf-8"))) for name in CURVES if (file := pictures / f"{name}.svg").is_file()],
    )


def run_note(
    settings: Settings,
    training: Contract,
    evaluation: Evaluation,
    outcome: Outcome,
    *,
    config: str,
    lock: str | None,
    tags: Mapping[str, str],
) -> str:
    """What MLflow says first of the run and of its version, as Markdown: verdict, key figures, how to make it again.

    ``config`` is the settings' path and ``lock`` the lock's name as people type them; ``tags`` are the run's.
    """
    return text(
        "run_note.md",
        settings=settings,
        training=training,
        evaluation=evaluation,
        outcome=outcome,
        next_steps=next_steps(outcome),
        standing=standing(evaluation),
        warnings=list(warnings(evaluation)),
        config=config.replace("`", "'"),
        locked=lock,
        commit=tags.get("mlops.git_commit", ""),
        dirty=tags.get("mlops.git_dirty") == "true",
        as_of=tags.get("mlops.as_of", ""),
        reason=tags.get("mlops.reason", ""),
    )


def standing(evaluation: Evaluation) -> tuple[str, str]:
    """How the main metric stands against the dummy: a word, and how bad that is (``good``, ``warn``, ``bad``)."""
    gain = evaluation.improvement_over_baseline
    if gain.value is None:
        return "could not be compared", "bad"
    if gain.value <= 0:
        return "not beaten" if gain.value == 0 else "not beaten: the dummy is better", "bad"
    if gain.low is None:
        what = "rows are" if evaluation.test_things is None else "groups are"
        return f"not clearly beaten: the {what} too few for an interval", "warn"
    if not gain.low > 0:
        return "not clearly beaten: the interval of the gain holds 0", "warn"
    return "beaten", "good"


def warnings(evaluation: Evaluation) -> Iterator[str]:
    """What a reader of the figures must know first."""
    if evaluation.warning:
        yield f"{evaluation.warning[:1].upper()}{evaluation.warning[1:]}."
    classes = evaluation.classes
    if not classes:
        return
    unseen, scores = classes["unseen"], classes["scores"]
    if unseen:
        rows = sum(each["test_rows"] for each in unseen)
        yield (
            f"Only the held-out rows have {_named([each['label'] for each in unseen], 'class', 'classes')}: the model cannot predict what "
            f"training never saw, so {rows:,} held-out row{'s are' if rows != 1 else ' is'} counted as wrong. Split otherwise, or add rows."
        )
    few = [each["label"] for each in scores if min(each["train_rows"], each["test_rows"]) < FEW_ROWS and each["test_rows"]]
    if few:
        yield f"Fewer than {FEW_ROWS} rows to learn from or to judge by: {_named(few, 'class', 'classes')}. Their scores say little."
    absent = [each["label"] for each in scores if not each["test_rows"]]
    if absent:
        yield f"No held-out row has {_named(absent, 'class', 'classes')}: nothing is known of how well the model finds it."
    never = [each["label"] for each in scores if not each["predicted_rows"] and each["test_rows"]]
    if never:
        yield f"The model never says {_named(never, 'class', 'classes')}: every such row is taken for another."


def race_drawn(race: dict[str, Any]) -> dict[str, Any] | None:
    """The race of ``estimator: auto`` (``race`` of the contract) with places on one scale, in percent; None if there was none."""
    candidates = race.get("candidates") or []
    if not candidates:
        return None
    reach = [each["mean"] + side * (each["standard_error"] or 0) for each in candidates if each["mean"] is not None for side in (-1, 1)]
    low, high = (min(reach), max(reach)) if reach else (0.0, 0.0)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / width, 2)

    drawn = []
    for each in candidates:
        mean, error = each["mean"], each["standard_error"] or 0.0
        spot = (
            None if mean is None else {"at": place(mean), "left": place(mean - error), "width": place(mean + error) - place(mean - error)}
        )
        drawn.append({**each, "drawn": spot, "chosen": each["name"] == race["chosen"]})
    return {**race, "candidates": drawn, "low": low, "high": high}


def table_of(settings: Settings, layout: Layout) -> dict[str, Any]:
    """What became of the source's rows and of each of its columns, ready for JSON."""
    read, looked = read_json(layout.ingest_report), read_json(layout.validation_json)
    return {
        **{key: read.get(key, 0) for key in ("rows_read", "rows_without_target", "rows_broken")},
        "duplicate_rows": looked.get("duplicate_rows", 0),
        **looked_at(settings, looked),
    }


def looked_at(settings: Settings, looked: dict[str, Any]) -> dict[str, Any]:
    """Each column and each check that failed, out of validation's report; nothing of a private column's values."""
    data = settings.dataset
    private, features = private_names(data.columns), feature_columns(settings)
    facts, aucs = {each["name"]: each for each in looked["columns"]}, looked["single_feature_auc"]
    columns = []
    raced_out = {"use": LEFT_OUT, "why": "its calendar was raced, and by folds in time gains nothing that is certain"}
    for each in looked["uses"]:
        use = {**each, **raced_out} if each["use"] == FEATURE and each["name"] not in features else each
        name, seen = use["name"], facts.get(use["name"], {})
        columns.append(
            {
                **{key: use.get(key) or "" for key in ("name", "kind", "use", "why", "note")},
                "private": name in private,
                "null_share": seen.get("null_share"),
                "distinct": None if name in private else seen.get("distinct"),
                "alone": aucs.get(name, use.get("alone")),
            }
        )
    return {"columns": columns, "failures": list(looked.get("failures", ()))}


def _named(labels: list[str], one: str, several: str) -> str:
    shown = ", ".join(f"“{label if len(label) <= 40 else label[:39] + '…'}”" for label in labels[:8])
    return f"the {one if len(labels) == 1 else several} {shown}{f' and {len(labels) - 8} more' if len(labels) > 8 else ''}"


def _in_order(classes: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Few classes as the model has them; many, the worst first, those that no row can judge last."""
    scores: list[dict[str, Any]] = classes["scores"] if classes else []
    if len(scores) <= 12:
        return scores
    return sorted(scores, key=lambda each: (each["f1"] is None, each["f1"] or 0, each["label"]))


def _for_page(svg: str) -> str:
    """The element alone, in the page's colours, as wide as its place. What it names is escaped already, by matplotlib."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, rest = element.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    for color, name in ON_PAGE.items():
        rest = rest.replace(color, name)
    return f"{head}>{rest}"
