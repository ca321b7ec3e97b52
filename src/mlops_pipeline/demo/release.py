"""A challenger that is better and one that is worse, each released on the flights through a real server, with labels that come late."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from mlops_pipeline import project as projects
from mlops_pipeline import terminal
from mlops_pipeline.config.finding import MONITORING, PIPELINE, RELEASE, SERVING, project_here
from mlops_pipeline.config.moments import NEWEST
from mlops_pipeline.config.pipeline import load_settings, with_then
from mlops_pipeline.demo.release_picture import draw
from mlops_pipeline.demo.replay import Server, begun, last_line, served, settings_of
from mlops_pipeline.demo.year import POSITIVE, YEAR, configure, folder_for, of_month, rows_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.events import kept_for
from mlops_pipeline.files import make_own_folder, write_text
from mlops_pipeline.layout import layout_of
from mlops_pipeline.monitoring.labels import add_labels
from mlops_pipeline.monitoring.watched import watched
from mlops_pipeline.pipeline import runner
from mlops_pipeline.pipeline.render import with_as_of
from mlops_pipeline.release.opened import opened
from mlops_pipeline.release.shown import PAGE, known_of
from mlops_pipeline.release.table import Table

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.layout import Layout

OUTPUT = "data/demo"
LOG = "data/mlops.log"
ROWS_A_REQUEST = 5
FIRST_MONTH = 7
"""Of which rows are asked: after all that either version was trained and judged on."""
LABELS_EVERY = 80
"""Requests after which the labels of those before come in."""
STEPS = [
    {"shadow": 1.0, "least_rows": 1000, "least_labels": 800},
    {"weight": 0.05, "least_rows": 20},
    {"weight": 0.25, "least_rows": 500},
    {"weight": 0.5, "least_rows": 1000},
    {"weight": 1.0, "least_rows": 500},
]
GUARDRAILS = {
    "failures": {"figure": "failures", "worse_by": 0.05},
    "slow": {"figure": "latency.p50", "worse_by": 200.0},
    "drift": {"figure": "drift", "worse_by": 1.0},
    "quality": {"figure": "quality", "worse_by": 0.03, "must_hold": True},
}
END_S = 900.0
LOOK_WITHIN_S = 30.0
Say = Callable[[str], object]


@dataclass(frozen=True)
class Told:
    """What became of a release: ``known`` is what its page is made of; so many ``rows`` were asked meanwhile."""

    title: str
    known: dict[str, Any]
    rows: int
    seconds: float


def tell_release(console: Console, output: Path | None, folder: Path | None) -> None:
    """`mlops demo release`. Raises :class:`PipelineError`."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # the user's registry has no part in this

    say, began, target = console.print, time.perf_counter(), output or project_here() / OUTPUT
    with folder_for(folder) as place:
        told, page = _told(place, say)
    show(told, page, target, say)
    say(f"\n{target / 'release.png'}, the page release.html, the numbers in release.json · {time.perf_counter() - began:.0f} s")


def show(told: Sequence[Told], page: str, target: Path, say: Say) -> None:
    """Put the picture, the page and the numbers into a folder, and say what was decided."""
    target.mkdir(parents=True, exist_ok=True)
    draw([(each.title, each.known) for each in told], target / "release.png")
    write_text(target / "release.html", page)
    numbers = [{"title": each.title, "rows": each.rows, "seconds": round(each.seconds, 1), **each.known} for each in told]
    write_text(target / "release.json", msgspec.json.format(msgspec.json.encode(numbers), indent=2).decode() + "\n")
    for each in told:
        say(f"\n{each.title}: {each.known['state']} after {each.rows:,} rows, {each.seconds:.0f} s")
        for step in each.known["transitions"]:
            say(f"  {step['step']:<10} {step['state']:<9} {step['reason']}")


def _told(place: Path, say: Say) -> tuple[list[Told], str]:
    say("the flights' settings in a project of their own, all rows of 2013 with their features by its ingest")
    project = place / "flights"
    projects.new(project, None, None, "flights")
    configure(project)
    _lighten(project)
    shutil.copytree(project, place / "rows")
    _run(place / "rows", NEWEST, stop="ingest")
    # A day's flights are alike; what is said of intervals is of requests that might have come in any order.
    rows = of_month(rows_of(place / "rows"), FIRST_MONTH).sample(fraction=1.0, shuffle=True, seed=7)
    _run(project, f"{YEAR}-04-01")
    say("version 1 is champion: trained on January and February, judged on March")
    _run(project, f"{YEAR}-07-01", then="challenger")
    say("version 2 is to be released: trained on January to May, judged on June")
    _spoil(project)
    _run(project, f"{YEAR}-07-01", then="challenger")
    _approve(project, 3, "looked good to me")
    say("version 3 is to be released, too: it has learned its rows by heart, the gate refused it, and a person approved it")
    policy = {"steps": STEPS, "guardrails": GUARDRAILS, "expected_rows": 500, "patience": "1h"}
    return released(project, rows, policy, {2: "version 2, trained later", 3: "version 3, overfitted"}, POSITIVE, say)


def _run(project: Path, as_of: str, *, then: str | None = None, stop: str | None = None) -> None:
    """What `mlops run` does, in this process: four of their own would import the same libraries four times."""
    settings, layout = _opened(project)
    settings = with_as_of(with_then(settings, then), layout, as_of)
    file = project / LOG
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        runner.run(settings, layout, terminal.opened(log), stop=stop)


def _approve(project: Path, version: int, reason: str) -> None:
    """What `mlops models approve` does. Raises :class:`PipelineError` if the gate has refused nothing."""
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.registry.runs import Tracking

    settings, layout = _opened(project)
    registry, tell = RegistryWriter(Tracking(settings, layout)), kept_for(settings, layout)
    with registry.deciding(tell):
        if not registry.get(version).refused:
            raise PipelineError(f"{project}: the gate let version {version} pass, which it was to refuse: see {layout.report}")
        registry.settle(version, "approved", reason, "", tell)


def _opened(project: Path) -> tuple[Settings, Layout]:
    settings = load_settings(project / PIPELINE)
    return settings, layout_of(settings, project / PIPELINE, project)


def released(
    project: Path, rows: pl.DataFrame, policy: Mapping[str, Any], versions: Mapping[int, str], positive: str, say: Say
) -> tuple[list[Told], str]:
    """Release some versions of a project one after the other, its server asked of these rows meanwhile; what became of each, and the page.

    ``versions`` by number with their titles; ``rows`` have the pipeline's columns, its target and its time. Raises :class:`PipelineError`.
    """
    asking, told = _Asking(_settings(project, policy), rows, positive), []
    with served(project) as server:
        for version, title in versions.items():
            say(f"rows are asked over HTTP while `mlops release start {version}` looks at them")
            told.append(asking.release(server, version, title))
        with closing(watched(project / MONITORING).state()) as state:
            page = state.shown(PAGE)
    return told, "" if page is None else page.content


class _Asking:
    """Rows that are asked in order, and whose labels come a while after them."""

    def __init__(self, config: Path, rows: pl.DataFrame, positive: str) -> None:
        self._config, self._rows, self._positive, self._place = config, rows, positive, 0

    def release(self, server: Server, version: int, title: str) -> Told:
        """Ask until the release of a version is over."""
        began, first = time.monotonic(), self._place
        with _controller(self._config, version) as controller:
            of = opened(self._config)
            with closing(of.table()) as table:
                self._until_begun(table, version, controller)
                while (table.current().get(of.model)) is not None:
                    if controller.poll() is not None or time.monotonic() - began > END_S:
                        raise PipelineError(f"the release of version {version} came to no end: {last_line(_log(self._config))}")
                    self._ask_some(server)
                    self._until_looked_at(controller)
                known = known_of(of, table, {})["releases"][0]
        return Told(title, known, self._place - first, time.monotonic() - began)

    def _until_begun(self, table: Table, version: int, controller: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + END_S
        while not any(each.challenger == str(version) for each in table.releases()):
            if controller.poll() is not None or time.monotonic() > deadline:
                raise PipelineError(f"`mlops release start {version}` did not begin: {last_line(_log(self._config))}")
            time.sleep(0.1)

    def _until_looked_at(self, controller: subprocess.Popen[bytes]) -> None:
        """Wait for the controller's next look: on a quick machine the month would be over before the release is."""
        now, deadline = time.time(), time.monotonic() + LOOK_WITHIN_S
        with closing(watched(self._config.with_name(Path(MONITORING).name)).state()) as state:
            while controller.poll() is None and state.shown_names().get(PAGE, 0.0) < now and time.monotonic() < deadline:
                time.sleep(0.05)

    def _ask_some(self, server: Server) -> None:
        import polars as pl

        watch = watched(self._config.with_name(Path(MONITORING).name))
        known_later = [watch.pipeline.dataset.target, watch.pipeline.dataset.time_column or ""]
        names = [name for name in self._rows.columns if name not in known_later]
        some = self._rows[self._place : self._place + ROWS_A_REQUEST * LABELS_EVERY]
        if not some.height:
            raise PipelineError("there are no more rows to ask of: the release is not over")
        ids = [f"row-{self._place + row}" for row in range(some.height)]
        for start in range(0, some.height, ROWS_A_REQUEST):
            part = some[start : start + ROWS_A_REQUEST]
            server.ask(part.select(names).to_dicts(), ids[start : start + ROWS_A_REQUEST], self._positive)
        self._place += some.height
        table = watch.state_file.with_name("labels.parquet")
        make_own_folder(table.parent)
        some.select(pl.Series("id", ids), *known_later).write_parquet(table)
        with closing(watch.state()) as state:
            add_labels(state, watch.pipeline, table, "labels")


@contextmanager
def _controller(config: Path, version: int) -> Iterator[subprocess.Popen[bytes]]:
    """`mlops release start`, at work until its release is over."""
    process = begun(config.parent.parent, _log(config), "release", "start", str(version), "--config", str(config))
    try:
        yield process
        process.wait(60)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def _log(config: Path) -> Path:
    return config.parent.parent / "data/release.log"


def _lighten(project: Path) -> None:
    """Settings of models that are as far apart, made in a third of the time, and of a gate that refuses what has learned by heart.

    That is much too sure of itself: its chances are 0.12 off what came, those of the others 0.02.
    """
    params = {"n_estimators": 100, "learning_rate": 0.09}
    _change(project, train={"params": params}, evaluate={"resamples": 50, "importance_rows": 100}, gate={"max_calibration_error": 0.05})


def _spoil(project: Path) -> None:
    """Settings that learn the rows by heart."""
    _change(project, train={"params": {"n_estimators": 60, "learning_rate": 1.0, "num_leaves": 127}})


def _change(project: Path, **sections: Mapping[str, Any]) -> None:
    path = project / PIPELINE
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, section in sections.items():
        params = {**settings[name].get("params", {}), **section.get("params", {})}
        settings[name] |= {**section, **({"params": params} if params else {})}
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _settings(project: Path, policy: Mapping[str, Any]) -> Path:
    """The settings of the project's server, watch and releases; the path of the last."""
    settings_of(project)
    content = {
        "serving": Path(SERVING).name,
        "monitoring": Path(MONITORING).name,
        "look_s": 1,
        "auto": False,
        "policy": dict(policy),
    }
    (project / RELEASE).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return project / RELEASE
