"""The flights of 2013 as a year of work: a champion that is never retrained, one that the loop looks after, one retrained every month.

Everything is done in projects of its own under one folder, by the pipeline, the server and the watch themselves.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from mlops_pipeline import project as projects
from mlops_pipeline.config.finding import PIPELINE, project_here
from mlops_pipeline.demo.earned import Month, earned
from mlops_pipeline.demo.picture import draw
from mlops_pipeline.demo.replay import Replayed, begun, last_line, replay
from mlops_pipeline.demo.story import JUNE, LOOP, MONTHLY, NEVER, QUICK, WINTER, Story, Told
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import write_text
from mlops_pipeline.modelling.metrics import Array, MeasuredInterval

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

SHARE, TRAININGS = 0.8, 0.5
"""The goal: so much of what every month earns, with so much of its retrainings."""
YEAR = 2013
OUTPUT = "data/demo"
THINNED = 10
"""Of so many flights a quick look has one."""
TIME, TARGET, POSITIVE = "date", "late", "1"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Retrained:
    """The arm that trains every month: by month, what its champion of then says (rows,), and whether the gate let it take over."""

    said: Mapping[int, Array]
    passed: Mapping[int, bool]


@dataclass(frozen=True)
class Played:
    """A story's months: what its first champion says of them in a batch (rows,), and what happened to the one that was served."""

    story: Story
    never: tuple[Array, ...]
    loop: tuple[Replayed, ...]


def tell_year(console: Console, output: Path | None, folder: Path | None, *, quick: bool = False) -> None:
    """`mlops demo year`. Raises :class:`PipelineError`. A ``quick`` look goes the same ways, with fewer flights, months and trees."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # the user's registry has no part in this

    say, began, target = console.print, time.perf_counter(), output or project_here() / OUTPUT
    with folder_for(folder) as place:
        stories = _told(place, say, quick=quick)
    target.mkdir(parents=True, exist_ok=True)
    draw(stories, target / "year.png")
    write_text(target / "year.json", msgspec.json.format(msgspec.json.encode(_numbers(stories)), indent=2).decode() + "\n")
    for line in report(stories):
        say(line)
    if quick:
        say("a quick look: one flight in ten, small models, two months: these figures say that it works, and nothing else")
    say(f"\n{target / 'year.png'}, its numbers in year.json · {time.perf_counter() - began:.0f} s")


@contextmanager
def folder_for(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        if folder.exists() and any(folder.iterdir()):
            raise PipelineError(f"--folder {folder}: is not empty: name one that is new")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="mlops-year-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary).resolve()


def _told(place: Path, say: Say, *, quick: bool) -> list[Told]:
    winter, june = (QUICK, None) if quick else (WINTER, JUNE)
    stories = [story for story in (winter, june) if story is not None]
    say("the flights' settings in a project of their own, all rows of 2013 with their features by its ingest")
    projects.new(place / "year", None, None, "flights")
    configure(place / "year")
    if quick:
        _thin(place / "year")
    for story in stories:
        shutil.copytree(place / "year", place / story.name)
    mlops(place / "year", "run", "--as-of", "newest", "--to", "ingest", stopping=threading.Event())
    rows = rows_of(place / "year")
    # Two cores, two threads: one replays, the other trains what is needed besides.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    stopping = threading.Event()
    with ThreadPoolExecutor(2) as pool, _set_if_it_fails(stopping):
        later = None if june is None else pool.submit(_champion_of, place, june, say, stopping)
        _champion_of(place, winter, say, stopping)
        shutil.copytree(place / "winter", place / "monthly")
        monthly = pool.submit(_every_month, place / "monthly", winter, rows, say, stopping)
        played = [_play(winter, place, rows, say)]
        if june is not None and later is not None:
            later.result()
            played.append(_play(june, place, rows, say))
        return [_tell(one, rows, monthly.result()) for one in played]


@contextmanager
def _set_if_it_fails(stopping: threading.Event) -> Iterator[None]:
    """Let what goes on beside stop, too."""
    try:
        yield
    except BaseException:
        stopping.set()
        raise


def configure(project: Path) -> None:
    """The flights' own settings, with a split that moves and a gate that a single month can be held against."""
    path = project / PIPELINE
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["split"] = {"kind": "time", "train_from": f"{YEAR}-01-01", "test_last": "1mo"}
    # The schema is inferred from a winter, and a summer's rain is not in it.
    settings["validate"]["on_failure"] = "warn"
    settings["evaluate"] |= {"random_split_check": False, "resamples": 200}
    settings["gate"]["worst_slice"] = 0.5  # a carrier has 300 flights in a month
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _refit_on_all(project: Path) -> None:
    """Later versions are fitted again on all rows."""
    path = project / PIPELINE
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["registry"] = {"refit_on_all": True}
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _thin(project: Path) -> None:
    """Let a project have one flight in ten, and small models."""
    import polars as pl

    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import layout_of
    from mlops_pipeline.tables.source import read_source

    path = project / PIPELINE
    settings = load_settings(path)
    table = project / "flights.csv"
    chunks = read_source(settings.dataset.read_as, layout_of(settings, path, project), settings.ingest.chunk_mb, settings.dataset.columns)
    pl.concat([chunk.frame for chunk in chunks]).gather_every(THINNED).write_csv(table)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["dataset"]["source"] = {"path": table.name}
    content["train"]["params"] |= {"n_estimators": 40, "learning_rate": 0.1, "min_child_samples": 100}
    content["evaluate"] |= {"slices": [], "resamples": 50}
    content["gate"] |= {"beat_baseline_by": 0.0, "worst_slice": None, "max_calibration_error": None}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _champion_of(place: Path, story: Story, say: Say, stopping: threading.Event) -> None:
    """Train a story's champion; trainings after it are fitted again on all rows, once the gate has let them pass."""
    project = place / story.name
    mlops(project, "run", "--as-of", f"{date(YEAR, story.first, 1)}", stopping=stopping)
    if not (project / "models/registry/best_model").exists():
        raise PipelineError(f"{project}: the gate let no champion pass: see {project / 'models/artifacts/report.html'}")
    _refit_on_all(project)
    say(f"the {story.name} champion is {story.title}")


def _every_month(project: Path, story: Story, rows: pl.DataFrame, say: Say, stopping: threading.Event) -> Retrained:
    """Train at the end of each month but the last; what the champion of each month says of its rows."""
    said, passed = {story.first: _scores(project, of_month(rows, story.first))}, {}
    for month in story.months[1:]:
        before = _champion_digest(project)
        mlops(project, "run", "--as-of", f"{date(YEAR, month, 1)}", stopping=stopping)
        passed[month] = _champion_digest(project) != before
        said[month] = _scores(project, of_month(rows, month))
    say(f"every month: {len(passed)} trainings, of which the gate let {sum(passed.values())} take over")
    return Retrained(said, passed)


def _play(story: Story, place: Path, rows: pl.DataFrame, say: Say) -> Played:
    project = place / story.name
    months = [of_month(rows, month) for month in story.months]
    never = tuple(_scores(project, of) for of in months)

    def told(at: int, found: Replayed) -> None:
        say(f"  {_name(story.months[at]):<10} {months[at].height:,} flights asked over HTTP; {_after(found)}")

    say(f"the {story.name} champion is served, {_name(story.first)} to {_name(story.last)}, its watch runs at the end of each month")
    return Played(story, never, tuple(replay(project, months, POSITIVE, told)))


def _tell(played: Played, rows: pl.DataFrame, retrained: Retrained) -> Told:
    import numpy as np
    import polars as pl

    story, loop = played.story, played.loop
    months = [of_month(rows, month) for month in story.months]
    # Trained on the same rows, the versions of every month are the same after either champion.
    arms = {
        month: {NEVER: never, LOOP: found.said, MONTHLY: never if month == story.first else retrained.said[month]}
        for month, never, found in zip(story.months, played.never, loop, strict=True)
    }
    asked = [
        Month(_name(month), of[TARGET].to_numpy().astype(np.int64), of[TIME].dt.ordinal_day().to_numpy().astype(np.int64), arms[month])
        for month, of in zip(story.months, months, strict=True)
    ]
    figures = earned(asked, never=NEVER, loop=LOOP, monthly=MONTHLY)
    count = pl.concat(months).height
    later = [retrained.passed[month] for month in story.months[1:]]
    return Told(story, count, figures, loop, len(later), sum(later))


def _after(found: Replayed) -> str:
    figures = found.window.figures
    gain = figures.get("probe.gain")
    text = f"ROC AUC {figures['quality.roc_auc']:.3f}, " if figures.get("quality.roc_auc") is not None else ""
    text += "the probe is not asked" if gain is None else f"retraining would gain {gain:+.4f} says the probe"
    return text + (f": trained again, {found.training.outcome}" if found.training is not None else "")


def report(stories: Sequence[Told]) -> list[str]:
    """The table, and what it says."""
    lines: list[str] = []
    for told in stories:
        story, figures = told.story, told.earned
        lines += ["", f"the {story.name} champion, {story.title}: {told.rows:,} flights, {_name(story.first)} to {_name(story.last)}"]
        lines.append(f"  {'':<16}{'ROC AUC, mean of months':<28}{'retrainings':<13}gain over never")
        counts = {NEVER: 0, LOOP: len(told.trainings), MONTHLY: told.monthly_trainings}
        for arm, count in counts.items():
            gain = f"{figures.gain[arm].value:+.4f} {_span(figures.gain[arm])}" if arm in figures.gain else ""
            lines.append(f"  {arm:<16}{figures.mean[arm].value:.4f} {_span(figures.mean[arm]):<21}{count:<13}{gain}".rstrip())
        lines += [f"  {line}" for line in verdict(told)]
    return lines


def verdict(told: Told) -> list[str]:
    """Whether the goal is reached, and if not, where it was lost."""
    figures, trainings = told.earned, len(told.trainings)
    monthly = figures.gain[MONTHLY]
    if told.story is JUNE:
        quiet = "the loop stayed quiet" if not trainings else f"the loop trained {trainings} times"
        return [f"{quiet}; every month would have earned {monthly.value:+.4f} {_span(monthly)}"]
    share = figures.share
    is_met = share.value >= SHARE and trainings <= TRAININGS * told.monthly_trainings
    said = (
        f"the loop earned {share.value:.2f} {_span(share, 2)} of what every month earned, with {trainings} of its {told.monthly_trainings}"
    )
    goal = f"at least {SHARE:g} with at most half: {'reached' if is_met else 'missed'}"
    lines = [f"{said} retrainings; the goal is {goal}"]
    if is_met and share.low < SHARE:
        lines.append(f"the interval reaches below {SHARE:g}: on other days it might have been missed")
    return lines if is_met else [*lines, *_why(told)]


def _why(told: Told) -> list[str]:
    """The months that cost the loop most, beside every month, and what its probe had said at the end of the month before."""
    lost = [
        (monthly.value - loop.value, place)
        for place, (monthly, loop) in enumerate(zip(told.earned.by_month[MONTHLY], told.earned.by_month[LOOP], strict=True))
    ]
    lines = []
    for amount, place in sorted(lost, reverse=True)[:3]:
        if amount <= 0 or not place:
            continue
        before = told.loop[place - 1]
        gain = before.window.figures.get("probe.gain")
        if before.training is not None:
            what = f"it had trained, and {before.training.outcome}"
        else:
            what = "its probe was not asked" if gain is None else f"its probe had said {gain:+.4f} a month before"
        lines.append(f"in {told.earned.months[place]} it lost {amount:.4f}: {what}")
    return lines


def _numbers(stories: Sequence[Told]) -> dict[str, Any]:
    return {
        told.story.name: {
            "champion": told.story.title,
            "rows": told.rows,
            "months": told.earned.months,
            "roc_auc": {arm: [asdict(one) for one in found] for arm, found in told.earned.by_month.items()},
            "mean": {arm: asdict(found) for arm, found in told.earned.mean.items()},
            "gain": {arm: asdict(found) for arm, found in told.earned.gain.items()},
            "share": {name: None if math.isnan(value) else value for name, value in asdict(told.earned.share).items()},
            "retrainings": {
                NEVER: 0,
                LOOP: [told.earned.months[place] for place in told.trainings],
                MONTHLY: told.monthly_trainings,
            },
            "monthly_promoted": told.monthly_promoted,
            "probe_gain": [found.window.figures.get("probe.gain") for found in told.loop],
            "alerts": [found.alerts for found in told.loop],
            "outcomes": [found.training.outcome if found.training else None for found in told.loop],
        }
        for told in stories
    }


def rows_of(project: Path) -> pl.DataFrame:
    """The year's rows: features, target and time column, in order of time."""
    import polars as pl

    return pl.read_parquet(project / "data/raw/flights.parquet", glob=False).sort(TIME, maintain_order=True)


def of_month(rows: pl.DataFrame, month: int) -> pl.DataFrame:
    import polars as pl

    return rows.filter(pl.col(TIME).dt.month() == month)


def _scores(project: Path, rows: pl.DataFrame) -> Array:
    """What a project's champion says of rows, as `mlops predict` does: the chance of the positive class (rows,)."""
    from mlops_pipeline.inference.scorer import load_scorer

    scorer = load_scorer(project / "models/registry/best_model", threads=1)
    names = list(map(str, scorer.contract.answers))
    found: Array = scorer.predict(rows.select(scorer.signature.names))[:, names.index(POSITIVE)]
    return found


def _champion_digest(project: Path) -> str:
    from mlops_pipeline.registry.versions import content_digest

    return content_digest(project / "models/registry/best_model")


def mlops(project: Path, *words: str, stopping: threading.Event) -> None:
    """A command in a process of its own, ended if it is to stop; raises :class:`PipelineError` with its last line if it fails."""
    log = project / "data/mlops.log"
    process = begun(project, log, *words, "--config", str(project / PIPELINE))
    while process.poll() is None:
        if stopping.wait(0.2):
            process.terminate()
            process.wait()
    if process.returncode:
        raise PipelineError(f"`mlops {' '.join(words)}` in {project} ended with {process.returncode}: {last_line(log)}")


def _name(month: int) -> str:
    return f"{date(YEAR, month, 1):%B}"


def _span(found: MeasuredInterval, digits: int = 4) -> str:
    return f"({found.low:.{digits}f} to {found.high:.{digits}f})"
