"""What the pipeline itself costs, beside an idle `dvc repro` and beside a plain script in the obvious style.

    python benchmarks/pipeline.py [--runs 5] [--no-peer]

Works in a fresh clone of what is committed. «Own cost» is the wall time of `mlops run` less the seconds spent in the
model's own fit and predict.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from measure import REPOSITORY, clone, median, seconds, told

TIMED = """
import sys, time
from mlops_pipeline.inference.engine import OnnxEngine
from mlops_pipeline.modelling import estimators
from mlops_pipeline.modelling.formats.skops import SkopsEngine
spent = [0.0]
def timed(function):
    def wrapped(*arguments, **named):
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[0] += time.perf_counter() - began
    return wrapped
estimators.fit, estimators.predict = timed(estimators.fit), timed(estimators.predict)
OnnxEngine.predict, SkopsEngine.predict = timed(OnnxEngine.predict), timed(SkopsEngine.predict)
from mlops_pipeline.cli import main
try:
    main(["run"])
finally:
    open(sys.argv[1], "w").write(str(spent[0]))
"""


def own_cost(folder: Path) -> float:
    """Wall seconds of a whole run of a stale pipeline, less the model's own."""
    record = folder / ".spent"
    wall = seconds([sys.executable, "-c", TIMED, str(record)], folder, PYTHONPATH=str(folder / "src"))
    return wall - float(record.read_text())


def forget(folder: Path, *, store: bool) -> None:
    """Outputs and cache go, so that every stage runs; the MLflow database too, if asked."""
    for place in ("data/raw", "data/processed", "models", ".dvc/cache", *(("mlflow",) if store else ())):
        shutil.rmtree(folder / place, ignore_errors=True)
    (folder / "mlflow").mkdir(exist_ok=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--no-peer", action="store_true")
    asked = arguments.parse_args()
    bytecode = Path(shutil.__file__).parent.joinpath("__pycache__").is_dir() and any(
        (Path(sys.prefix) / "lib").glob("python*/site-packages/mlflow/__pycache__/*.pyc")
    )
    print(f"libraries' bytecode compiled: {'yes' if bytecode else 'no'}; medians of {asked.runs} (least to most)")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as temporary:
        folder = clone(Path(temporary) / "clone")
        here = {"PYTHONPATH": str(folder / "src")}
        first, later = [], []
        for _ in range(asked.runs):
            forget(folder, store=True)
            first.append(own_cost(folder))
        for _ in range(asked.runs):
            forget(folder, store=False)
            later.append(own_cost(folder))
        told("own cost of a whole run, MLflow's database new", first, "at most 12")
        told("own cost of a whole run", later, "at most 8")
        command = [sys.executable, "-m", "mlops_pipeline"]
        seconds([*command, "run"], folder, **here)
        idle, repro = [], []
        for _ in range(asked.runs):
            idle.append(seconds([*command, "run"], folder, **here))
            repro.append(seconds(["dvc", "repro"], folder, **here))
        told("mlops run, nothing changed", idle, "at most 1.2")
        told("dvc repro, nothing changed", repro)
        print(f"{'ratio of the two':46} {median(idle) / median(repro):8.2f}     at most 1")
        told("mlops status", [seconds([*command, "status"], folder, **here) for _ in range(asked.runs)], "at most 1.2")
        told("mlops --help", [seconds([*command, "--help"], folder, **here) for _ in range(asked.runs)], "at most 0.15")
        if not asked.no_peer:
            peer = [seconds([sys.executable, str(REPOSITORY / "benchmarks/plain_script.py")], Path(temporary)) for _ in range(asked.runs)]
            told("plain Prefect and MLflow script, whole", peer)
            whole = []
            for _ in range(asked.runs):
                forget(folder, store=True)
                whole.append(seconds([*command, "run"], folder, **here))
            told("mlops run, whole, MLflow's database new", whole)
            print(f"{'ratio of the two':46} {median(whole) / median(peer):8.2f}")


if __name__ == "__main__":
    main()
