"""What the benchmarks share: whole commands timed, a fresh clone, medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def environment(**extra: str) -> dict[str, str]:
    """This environment's programs first, and no store but the project's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_"))}
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **extra,
    }


def seconds(words: Sequence[str], folder: Path, **extra: str) -> float:
    """Wall time of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment(**extra), capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return taken


def clone(folder: Path) -> Path:
    """A fresh clone of what is committed, run with this environment and the clone's own source."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    return folder


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def told(name: str, values: Sequence[float], limit: str = "", unit: str = "s") -> None:
    """One line: median, least and most, and the bound it is held against."""
    print(f"{name:46} {median(values):8.2f} {unit:3} ({min(values):.2f} to {max(values):.2f}) {limit}", flush=True)
