"""What is said of an event, in one line, wherever it is said: on the console, in Prefect's log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_pipeline.events import (
    AlertFired,
    AlertResolved,
    Event,
    Listener,
    ReleaseMoved,
    RetrainingDecided,
    RetrainingEnded,
    StageBegan,
    StageRan,
    StageRestored,
    StageSkipped,
    Warned,
    WindowCounted,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

INDENT = " " * 12
"""What sets a line under its stage's name."""

MOST_CAUSES = 4

SHORT = timedelta(minutes=10)
"""A window shorter than this is told to the second."""


class Words(NamedTuple):
    """Some words of a line, and how a console that has styles shows them."""

    text: str
    style: str = ""


def labelled(label: str, text: str, style: str = "") -> list[Words]:
    """A line that begins with what it is about, in bold; without a label it goes on with the line above."""
    return [Words(f"{label:<10} ", "bold" if label else ""), Words(text, style)]


def words(event: Event) -> list[Words]:
    """The line in pieces; none for what a run's own error or a stage's own lines say already."""
    match event:
        case StageBegan() if event.causes:
            why = "; ".join(map(str, event.causes[:MOST_CAUSES]))
            return [Words("▸", "yellow"), Words(f" {event.stage:<9} "), Words(why, "dim")]
        case StageSkipped():
            return [Words("✓", "green"), Words(f" {event.stage:<9} "), Words("up to date", "dim")]
        case StageRestored(source="DVC cache"):
            return [Words(f"{INDENT}restored from the DVC cache")]
        case StageRan():
            return [Words(INDENT), Words(f"{event.seconds:.1f} s", "dim")]
        case Warned():
            return [Words(INDENT), Words("warning:", "bold yellow"), Words(f" {event.text}")]
    return _of_the_watch(event)


def _of_the_watch(event: Event) -> list[Words]:
    match event:
        case WindowCounted():
            labels = f", {event.labels:,} with labels" if event.labels else ""
            what = f"{span(event.since, event.until)}: {event.rows:,} rows{labels}{', counted again' if event.again else ''}"
            return labelled("window", " ".join(filter(None, (event.model, event.version, what))))
        case AlertResolved():
            return [Words("resolved   ", "green"), Words(f"{event.rule}: {event.text}")]
        case AlertFired():
            return [Words("alert      ", "red"), Words(f"{event.severity} {event.rule}: {event.text}")]
        case RetrainingDecided():
            said = f"{event.rule} asks for a training" + (f" as of {event.as_of}" if event.as_of else "")
            return labelled("training", f"{said}{f': held back, {event.held_back}' if event.held_back else ''}")
        case RetrainingEnded():
            return labelled("training", event.outcome, "" if event.succeeded else "red")
    return _of_a_release(event) if isinstance(event, ReleaseMoved) else []


def _of_a_release(event: ReleaseMoved) -> list[Words]:
    style = {"promoted": "green", "aborted": "red", "inconclusive": "yellow"}.get(event.state, "bold")
    at = "" if event.state == "promoted" else f" at {event.step}"
    where = f"{event.step}: " if event.state == "running" else f"{event.state}{at}: "
    return [Words("release    ", style), Words(f"{event.release}, version {event.challenger}, {where}{event.reason}")]


def span(first: datetime, last: datetime) -> str:
    """From when until when, as short as it can be told."""
    if first.date() == last.date():
        clock = "%H:%M" if last - first >= SHORT else "%H:%M:%S"
        return f"{first:%Y-%m-%d} {first:{clock}} to {last:{clock}}"
    are_days = first.time() == last.time() == time()
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if are_days else f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def text_of(line: Iterable[Words]) -> Text:
    """The line for a console; nothing in it is markup."""
    from rich.text import Text

    return Text.assemble(*line)


def shown_on(console: Console) -> Listener:
    """A listener that says on a console what happens."""

    def show(event: Event) -> None:
        if line := words(event):
            console.print(text_of(line))

    return show


def logged_to(logger: Any) -> Listener:
    """A listener that logs what happens: what wants looking at, a warning or an alert that fires, as a warning."""

    def log(event: Event) -> None:
        wants_a_look = isinstance(event, Warned | AlertFired) and not isinstance(event, AlertResolved)
        said = event.text if isinstance(event, Warned) else "".join(word.text for word in words(event)).removeprefix(INDENT)
        if said:
            (logger.warning if wants_a_look else logger.info)("%s", said)

    return log
