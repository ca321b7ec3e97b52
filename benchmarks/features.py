"""What raw rows cost, and that nothing skews: the flights' champion by raw flights and by finished features, in the same run.

    python -m benchmarks.features [--project FOLDER] [--seconds 4] [--rounds 3] [--before COMMIT]

First July is replayed: every flight that is held out, as its source has it, through the recipe as a frame, as columns and as single
rows, beside the training table, to the bit; then through the server, raw beside finished. Then requests a second: one row over 16
connections, and 1,000 rows a request over 4, each time other rows in turn; raw and finished alternate, and the ratio is the median of
the rounds. Last a model without a recipe, served by the code of now and by that of ``--before``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from benchmarks.measure import BIN, REPOSITORY, environment
from benchmarks.serving import launch, load

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.features.online import features_of
from mlops_pipeline.features.replay import read_replay
from mlops_pipeline.features.rows import typed_rows
from mlops_pipeline.features.translated import same
from mlops_pipeline.inference.scorer import contract_at
from mlops_pipeline.layout import Layout, layout_of
from mlops_pipeline.tables.source import read_source

BEFORE = "36c3228"
"""The last commit of before the server took raw rows."""

SINGLE, MANY, BODIES = 2_000, 1_000, 20
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class July:
    """The held-out flights: as their source has them, and as the training table has them, in the same order."""

    raw: pl.DataFrame
    features: pl.DataFrame


def july(project: Path, layout: Layout) -> July:
    """Read the source again, and find the rows that are held out."""
    data = load_settings(layout.config).dataset
    contract = contract_at(layout.training)
    recipe = type(contract.recipe)(target=data.target)  # nothing is looked up or derived: the rows as they came
    plain = data.model_copy(
        update={"derive": {}, "lookups": (), "columns": {name: data.columns[name] for name in (*contract.raw, *_outcome(data))}}
    )
    plain = plain.model_copy(update={"target": _outcome(data)[0]})
    rows = pl.concat(typed_rows(chunk, plain, recipe, ()).table for chunk in read_source(data.read_as, layout, 8, plain.columns))
    kept = rows.filter(pl.col(_outcome(data)[0]).is_not_null()).select(list(contract.raw))
    table = pl.read_parquet(layout.raw)
    if kept.height != table.height:
        raise SystemExit(f"{project}: the source has changed since it was read: run `mlops run`")
    held = table.with_row_index("place").join(pl.read_parquet(layout.test).unique(), on=table.columns, how="semi", nulls_equal=True)
    return July(kept[held["place"]], held.select(list(contract.columns)))


def _outcome(data: Any) -> list[str]:
    """The column of the source that the target is made of."""
    from mlops_pipeline.features.needs import roots_of

    return sorted(roots_of(data.derive[data.target]) & data.columns.keys()) if data.target in data.derive else [data.target]


def replayed(layout: Layout, rows: July) -> None:
    """July through the recipe, each way, beside the table. Raises SystemExit at the first difference."""
    contract = contract_at(layout.training)
    features = features_of(contract, read_replay(layout.replay).state)
    given = rows.raw.rows()
    ways = {
        "a frame": lambda: features.of_frame(rows.raw).rows(),
        "columns": lambda: features.of_rows(given),
        "single rows": lambda: [features.of_rows([row])[0] for row in given],
    }
    for way, compute in ways.items():
        began = time.process_time()
        made = compute()
        taken = (time.process_time() - began) / len(given) * 1e6
        for number, (ours, theirs) in enumerate(zip(made, rows.features.rows(), strict=True)):
            wrong = [name for name, one, other in zip(contract.columns, ours, theirs, strict=True) if not same(one, other)]
            if wrong:
                raise SystemExit(f"July as {way}: row {number} differs in {', '.join(wrong)}")
        print(f"July as {way}: {len(given):,} rows equal the table to the bit, {taken:.1f} µs of CPU a row", flush=True)


# -------------------------------------------------------------------------------------------------------- the server


@dataclass(frozen=True)
class Server:
    """A running server, with the mark of its processes."""

    port: int
    mark: str


@contextmanager
def served(model: Path, state: Path | None, folder: Path, source: Path | None = None) -> Iterator[Server]:
    """A server; ``source`` is the code it runs, by default this one."""
    folder.mkdir()
    port = launch.free_port()
    content: dict[str, Any] = {"models": {"champion": str(model)}, "record": {"mode": "relaxed", "folder": str(folder / "records")}}
    if state is not None:
        content["features"] = {"state": str(state)}
    (folder / "serving.yaml").write_text(json.dumps(content))
    words = [BIN / "python", "-m", "mlops_pipeline", "serve", "--config", folder / "serving.yaml", "--port", port]
    there = environment(PYTHONPATH=str((source or REPOSITORY) / "src"))
    with launch.running(launch.Command.of(words, there), port, "/ready", folder) as mark:
        yield Server(port, mark)


def bodies_of(frame: pl.DataFrame, size: int, count: int) -> list[bytes]:
    """So many requests of so many rows each, drawn over the whole frame."""
    chosen = frame.sample(min(size * count, frame.height), shuffle=True, seed=0) if size == 1 else frame
    moments = [name for name, held in chosen.schema.items() if held == pl.Datetime("us")]
    dicts = chosen.with_columns(pl.col(moments).dt.to_string("%Y-%m-%d %H:%M:%S")).to_dicts()
    return [
        json.dumps({"records": part}).encode()
        for part in (dicts[begin : begin + size] for begin in range(0, min(len(dicts), size * count), size))
    ]


def predictions(port: int, bodies: Sequence[bytes]) -> np.ndarray:
    found = []
    for body in bodies:
        status, content = launch.ask(port, "POST", "/predict", body, HEADERS)
        if status != 200:
            raise SystemExit(f"/predict answered {status}: {content[:300].decode(errors='replace')}")
        found += [row.get("probabilities", row) for row in json.loads(content)["predictions"]]
    return np.array([list(row.values()) if isinstance(row, dict) else row for row in found])


def asked_july(port: int, rows: July) -> None:
    """Every flight of July by the server, raw beside finished. Raises SystemExit if an answer differs."""
    size = -(-rows.raw.height // MANY)
    raw, finished = (predictions(port, bodies_of(frame, MANY, size)) for frame in (rows.raw, rows.features))
    if len(raw) != rows.raw.height or not np.array_equal(raw, finished):
        raise SystemExit(f"July by the server: {int((raw != finished).sum())} outputs differ")
    print(f"July by the server: {len(raw):,} raw flights are answered as their finished features are", flush=True)


def loaded(port: int, bodies: Sequence[bytes], rows: int, connections: int, seconds: int, folder: Path) -> load.Load:
    with launch.cores(of_load=True):
        seen = load.measure(
            f"http://127.0.0.1:{port}/predict", bodies, HEADERS, rows=rows, connections=connections, seconds=seconds, folder=folder
        )
    if not seen.valid:
        raise SystemExit(f"{rows:,} rows a request: {seen.faults}")
    return seen


def against(
    name: str, limit: float, ways: Sequence[tuple[str, Server, Sequence[bytes]]], rows: int, connections: int, wanted: Any, folder: Path
) -> None:
    """Two ways (what it is called, the server, bodies) in turn: rates, and the first's to the second's, with the bound it is held against.

    Beside them the server's processor time a row, which tells more where other work runs on the machine.
    """
    seen: list[list[load.Load]] = [[], []]
    spent: list[list[float]] = [[], []]
    for _, server, bodies in ways:
        loaded(server.port, bodies, rows, connections, 1, folder)
    for _ in range(wanted.rounds):
        for which, (_, server, bodies) in enumerate(ways):
            before = launch.spent(server.mark)
            one = loaded(server.port, bodies, rows, connections, wanted.seconds, folder)
            seen[which].append(one)
            spent[which].append((launch.spent(server.mark) - before) / (one.requests_per_second * wanted.seconds * rows) * 1e6)
    ratios = [one.requests_per_second / other.requests_per_second for one, other in zip(*seen, strict=True)]
    rates = [statistics.median(one.requests_per_second * rows for one in each) for each in seen]
    slow = [statistics.median(one.p99_ms for one in each) for each in seen]
    cpu = [statistics.median(each) for each in spent]
    told = ", ".join(
        f"{title} {rate:,.0f} rows/s, p99 {late:.1f} ms, {each:.1f} µs of CPU a row"
        for (title, _, _), rate, late, each in zip(ways, rates, slow, cpu, strict=True)
    )
    ratio = f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), by CPU {cpu[1] / cpu[0]:.2f}"
    print(f"{name}: {told}: {ratio}, at least {limit:g}", flush=True)


def without_recipe(model: Path, folder: Path) -> Path:
    """The same model as if its table had held the finished features."""
    place = folder / "plain"
    shutil.copytree(model, place)
    contract = json.loads((place / "training.json").read_text())
    for key in ("raw", "made", "expressions", "recipe", "raw_example"):
        contract.pop(key, None)
    (place / "training.json").write_text(json.dumps(contract))
    return place


@contextmanager
def code_of(commit: str, folder: Path) -> Iterator[Path]:
    """The package as a commit has it."""
    place = folder / "before"
    place.mkdir()
    archive = subprocess.run(["git", "archive", commit, "src"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(place)], input=archive, check=True)
    yield place


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--project", type=Path, default=REPOSITORY, metavar="FOLDER", help="where `mlops run` has made the champion")
    arguments.add_argument("--seconds", type=int, default=4, help="seconds a load lasts")
    arguments.add_argument("--rounds", type=int, default=3, help="how often raw and finished take turns")
    arguments.add_argument("--before", default=BEFORE, metavar="COMMIT", help="whose code a model without a recipe is also served by")
    wanted = arguments.parse_args()
    config = wanted.project / "configs/training_config.yaml"
    layout = layout_of(load_settings(config), config, wanted.project)
    rows = july(wanted.project, layout)
    replayed(layout, rows)
    model, state = layout.best_model.resolve(), layout.replay / "state"
    single = [bodies_of(frame, 1, SINGLE) for frame in (rows.raw, rows.features)]
    many = [bodies_of(frame, MANY, BODIES) for frame in (rows.raw, rows.features)]
    with tempfile.TemporaryDirectory(prefix="mlops-features-") as temporary:
        folder = Path(temporary)
        with served(model, state, folder / "now") as server:
            asked_july(server.port, rows)
            pairs = [("raw", server, single[0]), ("finished", server, single[1])]
            against("one row, 16 connections", 0.5, pairs, 1, 16, wanted, folder)
            pairs = [("raw", server, many[0]), ("finished", server, many[1])]
            against(f"{MANY:,} rows, 4 connections", 0.6, pairs, MANY, 4, wanted, folder)
        plain = without_recipe(model, folder)
        with (
            code_of(wanted.before, folder) as source,
            served(plain, None, folder / "plain-now") as now,
            served(plain, None, folder / "plain-before", source) as before,
        ):
            pairs = [("now", now, single[1]), (f"at {wanted.before}", before, single[1])]
            against("without a recipe, one row, 16 connections", 0.98, pairs, 1, 16, wanted, folder)


if __name__ == "__main__":
    sys.exit(main())
