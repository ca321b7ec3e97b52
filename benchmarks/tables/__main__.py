"""Real tables from packages: a served prediction in at most four commands, and as good as the best of three plain scripts.

    python benchmarks/tables [NAME…] [--packages PYTHON] [--keep FOLDER] [--seconds N]

Each table gets a project of its own: `mlops init`, `mlops run`, `mlops serve` and one request, with no edit in between (and
`mlops models promote --override` where the gate refuses one: 28 rows prove nothing). The scripts (``scripts.py``) are given the
same training and held-out rows. The environment with the packages is made at first use, in ``.packages`` beside this file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pandas as pd  # noqa: E402
from measure import BIN, environment  # noqa: E402
from scripts import RESAMPLES, paired_error, said_of, score  # noqa: E402

SERVED_S = 60


class Stopped(Exception):
    """A command ended badly; the message is its last line."""


@dataclass
class Row:
    """What became of one table."""

    name: str
    rows: int
    commands: int = 0
    seconds: float = 0.0
    metric: str = ""
    ours: float = math.nan
    error: float = math.nan
    paired: float = math.nan
    """One standard error of the difference to the best script, on the same held-out rows."""
    dummy: float = math.nan
    scripts: dict[str, float] | None = None
    chosen: str = ""
    engine: str = ""
    stopped: str = ""

    @property
    def sign(self) -> float:
        return -1.0 if self.metric == "rmse" else 1.0

    @property
    def best(self) -> tuple[str, float]:
        known = {name: value for name, value in (self.scripts or {}).items() if math.isfinite(value)}
        name = max(known, key=lambda each: self.sign * known[each], default="")
        return name, known.get(name, math.nan)

    @property
    def is_good(self) -> bool:
        """At least the best script's less one standard error."""
        return not self.stopped and self.sign * (self.ours - self.best[1]) >= -self.error

    @property
    def is_near(self) -> bool:
        """At least the best script's less one standard error of the difference."""
        return not self.stopped and self.sign * (self.ours - self.best[1]) >= -self.paired

    @property
    def beats_dummy(self) -> bool:
        return not self.stopped and self.sign * (self.ours - self.dummy) >= 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--packages", type=Path, help="a Python that has the packages; default: one made here")
    arguments.add_argument("--keep", type=Path, help="leave the projects in this folder")
    arguments.add_argument(
        "--seconds", type=int, help="time of each race, where a machine under load is to stand for a quiet one; default: ours"
    )
    asked = arguments.parse_args()
    place = asked.keep or Path(tempfile.mkdtemp(prefix="mlops-tables-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        python = asked.packages or packages()
        done = subprocess.run([python, HERE / "tables.py", place, *asked.names], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        rows = [tried(json.loads(line), place, asked.seconds) for line in done.stdout.splitlines()]
        summed(rows)
    finally:
        if asked.keep is None:
            shutil.rmtree(place, ignore_errors=True)


def packages() -> Path:
    """The Python of an environment with the packages, made once."""
    folder = HERE / ".packages"
    python = folder / "bin/python"
    if not (folder / "made").is_file():
        subprocess.run([BIN / "uv", "venv", "--quiet", "--clear", folder], check=True)
        subprocess.run([BIN / "uv", "pip", "install", "--quiet", "--python", python, "-r", HERE / "requirements.txt"], check=True)
        (folder / "made").touch()
    return python


def tried(table: dict[str, Any], place: Path, budget_s: int | None = None) -> Row:
    """Take one table from its file to a served prediction, and the scripts over the same rows."""
    row = Row(table["name"], table["rows"])
    project = place / f"project-{row.name}"
    project.mkdir()
    for words in (["git", "init", "--quiet"], [str(BIN / "dvc"), "init", "--quiet"]):
        subprocess.run(words, cwd=project, check=True, env=environment())
    began = time.perf_counter()
    try:
        typed(row, project, "init", "--input", table["file"], "--target", table["target"], "--output", f"{row.name}.yaml")
        if budget_s is not None:
            given_time(project / f"{row.name}.yaml", budget_s)
        typed(row, project, "run", "--config", f"{row.name}.yaml")
        row.seconds = time.perf_counter() - began
        root = project / "pipelines" / row.name
        if not (root / "models/registry/best_model").exists():
            typed(row, project, "models", "promote", "1", "--override", "tried in a benchmark", "--config", f"{row.name}.yaml")
        read(row, root, table["target"])
        row.engine = served(row, project, root)
    except Stopped as stop:
        row.stopped = str(stop)
    print(shown(row), flush=True)
    return row


def given_time(settings: Path, budget_s: int) -> None:
    """Write the time of the race into a settings file."""
    line = "  estimator: auto\n"
    settings.write_text(settings.read_text().replace(line, f"{line}  time_budget_s: {budget_s}\n"))


def typed(row: Row, project: Path, *words: str) -> None:
    """One command of ours, counted."""
    row.commands += 1
    done = subprocess.run([BIN / "mlops", *words], cwd=project, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
        raise Stopped(f"mlops {words[0]}: {next((line for line in reversed(last) if line.startswith('error')), last[-1])}")


def read(row: Row, root: Path, target: str) -> None:
    """The figures of the evaluation, and the scripts' on the same rows."""
    evaluation = json.loads((root / "models/artifacts/evaluation/evaluation.json").read_text())
    training = json.loads((root / "models/artifacts/training.json").read_text())
    row.metric, row.chosen = evaluation["metric"], training.get("race", {}).get("chosen", training["estimator"])
    main = evaluation["metrics"][row.metric]
    row.ours, row.dummy = main["value"], evaluation["baseline"][row.metric]
    row.error = (main["high"] - main["low"]) / (2 * 1.96)
    train, test = (pd.read_parquet(root / f"data/processed/{row.name}.{part}.parquet") for part in ("train", "test"))
    theirs = said_of(train, test, target, row.metric)
    y, ours = judged(pd.read_parquet(root / "models/artifacts/evaluation/predictions.parquet"), train, test, target, row.metric)
    row.scripts = {name: score(y, said, row.metric) for name, said in theirs.items()}
    if row.best[0]:
        row.paired = paired_error(y, ours, theirs[row.best[0]], row.metric)


def judged(predictions: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, target: str, metric: str) -> tuple[Any, Any]:
    """The truth of the held-out rows, and what our model said of them, as the scripts say it."""
    truth, said = test[target].to_numpy(), predictions.iloc[:, 1:]
    if metric == "rmse":
        return truth.astype(float), said.iloc[:, 0].to_numpy()
    classes = sorted(train[target].unique())
    if metric == "roc_auc":
        return truth == classes[-1], said[f"probability_{classes[-1]}"].to_numpy()
    by_name = {f"probability_{name}": name for name in classes}
    return truth, said.idxmax(axis=1).map(by_name).to_numpy()


def served(row: Row, project: Path, root: Path) -> str:
    """One prediction of the real server for the model's own example; the engine that gave it."""
    folder = root / "models/registry/best_model"
    example = json.loads((folder / "input_example.json").read_text())
    record = dict(zip(example["columns"], example["data"][0], strict=True))
    (project / "serving.yaml").write_text(f"pipeline: {row.name}.yaml\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    row.commands += 1
    words = [BIN / "mlops", "serve", "--config", "serving.yaml", "--port", str(port)]
    with (
        (project / "serve.log").open("w") as log,
        subprocess.Popen(words, cwd=project, env=environment(), stdout=log, stderr=log) as server,
    ):
        try:
            answer = asked(port, {"records": [record]}, server)
        finally:
            server.terminate()
    if len(answer["predictions"]) != 1:
        raise Stopped(f"mlops serve: answered {answer}")
    return "onnx" if (folder / "onnx/model.onnx").is_file() else "skops"


def asked(port: int, body: Any, server: subprocess.Popen[bytes]) -> Any:
    """The answer to a request, as soon as the server gives one."""
    until = time.monotonic() + SERVED_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise Stopped(f"mlops serve: {error}") from error
        else:
            if answer.status == 200:
                return json.loads(text)
            if answer.status != 503 or time.monotonic() > until:
                raise Stopped(f"mlops serve: {answer.status} {text[:300]!r}")
        finally:
            connection.close()
        time.sleep(0.2)


def shown(row: Row) -> str:
    if row.stopped:
        return f"{row.name:14} {row.rows:7,} rows  STOPPED after {row.commands} commands: {row.stopped}"
    name, best = row.best
    mark = "" if row.is_good and row.beats_dummy else "  WORSE than the dummy" if not row.beats_dummy else "  BEHIND the script"
    figures = f"{row.metric:8} {row.ours:10.4f} ± {row.error:8.4f}  {name:8} {best:10.4f} ± {row.paired:8.4f}  dummy {row.dummy:10.4f}"
    way = f"{row.seconds:4.0f} s  {row.commands} commands  {row.engine}  {row.chosen}{mark}"
    return f"{row.name:14} {row.rows:7,} rows  {figures}  {way}"


def summed(rows: list[Row]) -> None:
    reached = sum(not row.stopped and row.commands <= 4 for row in rows)
    good, above = sum(row.is_good for row in rows), sum(row.beats_dummy for row in rows)
    print(f"{len(rows)} tables")
    print(f"{reached} reached a served prediction in at most 4 commands")
    print(f"{good} are no worse than the best script less one standard error (of ours, on the held-out rows)")
    print(f"{sum(row.is_near for row in rows)} are less one of the difference, the second ± ({RESAMPLES} resamples of the rows)")
    print(f"{above} are no worse than the dummy")


if __name__ == "__main__":
    main()
