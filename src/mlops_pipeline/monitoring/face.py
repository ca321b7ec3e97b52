"""The watch's commands: what is read from files and the registry, what is done, and the lines that are said of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import given_of_source
from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import Listener, current_user, kept_for
from mlops_pipeline.files import write_text
from mlops_pipeline.lines import Words, labelled, shown_on, text_of
from mlops_pipeline.monitoring.job import Ran, run
from mlops_pipeline.monitoring.judging import STOP
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.shown import put_there
from mlops_pipeline.monitoring.state import WatchState
from mlops_pipeline.monitoring.status import as_json, lines
from mlops_pipeline.monitoring.watched import Watched, watched

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


@contextmanager
def _opened(config: Path | None) -> Iterator[tuple[Watched, WatchState]]:
    watch = watched(config)
    with closing(watch.state()) as state:
        yield watch, state


def run_once(console: Console, config: Path | None, *, close: bool, as_of: str | None, metrics: Path | None = None) -> None:
    """`mlops monitor run`. Raises :class:`PipelineError` if a channel has not taken what it is to tell."""
    _check_as_of(as_of)
    with _opened(config) as (watch, state):
        done = run(watch, state, _listener(watch, console), close=close, as_of=as_of)
        figures = put_there(watch, state)
    if metrics is not None:
        write_text(metrics, figures)
    _told(console, done)
    if done.problems:
        what = "; ".join(f"channel '{name}': {why}" for name, why in done.problems.items())
        raise PipelineError(f"{what}: what it has not taken is kept, and goes out with the next `mlops monitor run`")


def keep_watching(console: Console, config: Path | None, every: str) -> None:
    """`mlops monitor watch`: until it is stopped."""
    from rich.console import Group
    from rich.live import Live

    pause = _seconds("--every", every)
    with _opened(config):
        pass  # settings that are no good end it, once they were good they may be mended
    shown: list[Text] = []
    due = 0.0

    def look() -> None:
        """One round, if it is time for it: while a training that a round has started goes on, those after it are within it."""
        nonlocal shown, due
        if time.monotonic() < due:
            return
        due, problem = time.monotonic() + pause, ""
        try:
            # What was known of versions and databases a while ago may hold no more.
            with _opened(config) as (watch, state):
                try:
                    done = run(watch, state, _listener(watch, console), meanwhile=look)
                    problem = "; ".join(f"channel '{name}': {why}" for name, why in done.problems.items())
                    put_there(watch, state)
                finally:
                    shown = [_wrapped(line) for line in lines(watch, state)]
        except PipelineError as error:  # a database that is away comes back
            problem = str(error)
        looked = [labelled("looked", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()) + f" UTC, again in {every}")]
        looked += [labelled("problem", problem, "red")] if problem else []
        live.update(Group(*shown, *map(_wrapped, looked)), refresh=True)

    with Live(console=console, auto_refresh=False) as live:
        while True:
            look()
            time.sleep(pause)


def show_status(console: Console, config: Path | None, *, as_json: bool) -> None:
    """`mlops monitor status`."""
    with _opened(config) as (watch, state):
        if as_json:
            print(_as_json(watch, state))
            return
        for line in lines(watch, state):
            console.print(text_of(line))


_as_json = as_json


def open_page(console: Console, config: Path | None, output: Path | None, *, show: bool) -> None:
    """`mlops monitor open`."""
    import webbrowser

    from mlops_pipeline.monitoring.history import write_page

    with _opened(config) as (watch, state):
        path = write_page(watch, state, output or watch.state_file.with_name("watch.html"))
    console.print(str(path))
    if show:
        webbrowser.open(path.resolve().as_uri())


def render_rules(config: Path | None, output: Path | None, silent_after: str, *, check: bool) -> None:
    """`mlops monitor rules`. Raises :class:`PipelineError` where a file is to be checked and is not what the settings give."""
    from mlops_pipeline.monitoring.prometheus_rules import rendered_rules

    text = rendered_rules(watched(config), silent_after, _seconds("--silent-after", silent_after))
    if output is None:
        print(text, end="")
    elif not check:
        write_text(output, text)
    elif not output.is_file() or output.read_text(encoding="utf-8") != text:
        raise PipelineError(f"{output}: is not what the settings give: run `mlops monitor rules --output {output}` and commit it")


def silence(console: Console, config: Path | None, rule: str, length: str, model: str, why: str) -> None:
    """`mlops monitor silence`."""
    with _opened(config) as (watch, state):
        if rule != "*" and rule not in watch.settings.rules:
            raise PipelineError(f"rule '{rule}': there is no such rule: use one of {', '.join(watch.settings.rules)}, or '*'")
        if model != "*" and model not in watch.models:
            raise PipelineError(f"--model {model}: is not watched: use one of {', '.join(watch.models)}")
        now = time.time()
        until = now if length == "0" else now + _seconds("--for", length)
        with state.writing():
            state.silence(rule, model, until, current_user(), why, now)
    end = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until))
    console.print(f"{rule}: {'nobody is told until ' + end if until > now else 'told of again'}")


def switch_training(console: Console, config: Path | None, value: str, why: str) -> None:
    """`mlops monitor stop` and `resume`."""
    with _opened(config) as (watch, state), state.writing():
        state.switch(STOP, value, current_user(), why, time.time())
    stopped = f"no training is started until `mlops monitor resume{watch.option}`"
    console.print(stopped if value == "stopped" else "rules may ask for trainings again")


def take_labels(console: Console, config: Path | None, table: Path | None, given: Sequence[str], target: str | None) -> None:
    """`mlops labels add`."""
    from mlops_pipeline.tables.database import queried

    if (table is None) == (not given):
        raise PipelineError("give either --input FILE, or --source sql=… and --source uri=…")
    with _opened(config) as (watch, state):
        wait_s = _seconds("labels.wait", watch.settings.labels.wait)
        classes = _classes(watch)
        if table is not None:
            added = add_labels(state, watch.pipeline, table, str(table), target, wait_s=wait_s, classes=classes)
        else:
            with queried(given_of_source(given, with_place=True), watch.layout.project) as rows:
                added = add_labels(state, watch.pipeline, rows, "--source", target, wait_s=wait_s, classes=classes)
        for note in added.notes:
            console.print(text_of([Words("note", "yellow"), Words(f" {note}")]))
        console.print(str(added))


def _classes(watch: Watched) -> list[Any]:
    """The classes that the champion knows, in every spelling; none where they cannot be told."""
    from mlops_pipeline.contract.spec import FILE
    from mlops_pipeline.inference.scorer import contract_at

    try:
        contract = contract_at(watch.layout.best_model / FILE)
    except (PipelineError, OSError):
        return []
    return [*contract.classes, *contract.answers]


def _seconds(option: str, length: str) -> float:
    try:
        return seconds_of(length)
    except ValueError as error:
        raise PipelineError(f"{option} {length}: {error}") from error


def _check_as_of(as_of: str | None) -> None:
    from mlops_pipeline.config.moments import NEWEST, moment_of

    if as_of is not None and as_of != NEWEST:
        try:
            moment_of(as_of)
        except ValueError as error:
            raise PipelineError(f"--as-of {as_of}: {error}; {NEWEST} for every row") from error


def _listener(watch: Watched, console: Console) -> Listener:
    return kept_for(watch.pipeline, watch.layout, shown_on(console))


def _told(console: Console, done: Ran) -> None:
    if not (done.counted or done.again):
        console.print("no window has ended since the last run, and no label has come")
    if done.sent:
        console.print(f"{done.sent} message{'s' * (done.sent != 1)} delivered")
    if done.retraining.startswith(("under way", "waits", "asked")):
        console.print(f"training   {done.retraining}")


def _wrapped(words: Sequence[Words]) -> Text:
    """A line on a screen that is drawn anew, where what does not fit would be cut."""
    from rich.text import Text

    return Text.assemble(*words, no_wrap=False, overflow="fold")
