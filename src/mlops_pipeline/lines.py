"""What is said of an event, in one line, wherever it is said: on the console, in Prefect's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlops_pipeline.events import Event, Listener, StageBegan, StageRan, StageRestored, StageSkipped, Warned

if TYPE_CHECKING:
    from rich.console import Console

INDENT = " " * 12
"""What sets a line under its stage's name."""

MOST_CAUSES = 4


class Words(NamedTuple):
    """Some words of a line, and how a console that has styles shows them."""

    text: str
    style: str = ""


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
    return []


def shown_on(console: Console) -> Listener:
    """A listener that says on a console what happens."""

    def show(event: Event) -> None:
        from rich.text import Text

        if line := words(event):
            console.print(Text.assemble(*line))

    return show
