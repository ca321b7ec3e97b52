"""What a look at a long release takes: seconds, memory, by how many answers there are and how many are new.

    python -m benchmarks.release_look [--answers 1000000] [--new 1000]

A record in SQLite is written first: a challenger asked in the shadow of half of the answers, then answering 50 %, a label for every third.
"""

from __future__ import annotations

import argparse
import resource
import secrets
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.config.release import Guardrail, Policy, Step
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.monitoring.state import Label
from mlops_pipeline.records.encoding import encode, form_of, read_rows, recorded_columns
from mlops_pipeline.records.entry import Entry, RecordLayout
from mlops_pipeline.records.reading import news
from mlops_pipeline.records.writer import open_database
from mlops_pipeline.release.evidence import evidence_of
from mlops_pipeline.release.ledger import Ledger

BEGAN = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
LAYOUT = RecordLayout("a" * 64, "binary", ("size",), ("kind",), frozenset(), ("no", "yes"))
REFERENCE = Reference(task="binary", classes=["no", "yes"], rows=0, columns={})
POLICY = Policy(guardrails={**Policy().guardrails, "sliced": Guardrail(figure="quality", worse_by=0.1, slices=("kind",))})
GROUP = 5_000


def entries(first: int, count: int, shadow: bool) -> list[Entry]:
    """So many answers: by both, one behind the other's back, or by either."""
    rng = np.random.default_rng(first)
    made = []
    for place in range(first, first + count):
        number, arm = (place // 2, ("champion", "shadow")[place % 2]) if shadow else (place, ("champion", "challenger")[rng.integers(2)])
        yes = np.float32(rng.beta(2, 6))
        made.append(
            Entry(
                f"request-{number:012}", BEGAN + place * 0.01, int(rng.gamma(4, 500)), "champion",
                "1" if arm == "champion" else "2", LAYOUT, 1,
                numbers=np.zeros((1, 1), np.float32), categories=np.array([["abcdefgh"[number % 8]]], object),
                outputs=np.array([[1 - yes, yes]], np.float32), arm=arm, unit=f"request-{number:012}",
            )
        )  # fmt: skip
    return made


def written(store: Any, first: int, count: int, shadow: bool) -> None:
    form = form_of(LAYOUT, 1)
    for begin in range(first, first + count, GROUP):
        group = entries(begin, min(GROUP, first + count - begin), shadow)
        store.write(begin, read_rows(len(group), b"".join(encode(each, form) for each in group)), {1: recorded_columns(LAYOUT)})


def labels(first: int, count: int, at: int) -> list[Label]:
    return [
        Label(at + place, "request", f"request-{first + place:012}", 0, 0.0, ["no", "yes"][place % 4 == 0], None, BEGAN)
        for place in range(0, count, 3)
    ]


def looked(ledger: Ledger, folder: Path, new: list[Label], since: float) -> str:
    """One look, as the controller does it."""
    began, cpu = time.perf_counter(), time.process_time()
    ledger.label(new)
    with news(folder, ledger.read_to, since=datetime.fromtimestamp(BEGAN, UTC), model="champion") as found:
        ledger.read(found.frames, found.withdrawn, found.read_to)
    read = time.process_time() - cpu
    found = evidence_of(POLICY, Step(weight=0.5), since, ledger.observations(), splits_evenly=True)
    used, peak = time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{ledger.rows:>9,} rows kept, {found.rows:>9,} of the step: {time.perf_counter() - began:6.2f} s, {used:6.2f} CPU s "
        f"({read:.2f} of reading); {peak:,.0f} MB at most so far"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=1_000)
    given = parser.parse_args()
    half = given.answers // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_database(folder, 0, secrets.token_hex(16))
        written(store, 0, half, shadow=True)
        written(store, half, half, shadow=False)
        since = BEGAN + half * 0.01 - 1
        ledger = Ledger("1", "2", REFERENCE, ("kind",))
        came = [*labels(0, half // 2, 1), *labels(half, half, half)]
        print(f"before the first: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB", flush=True)
        print(f"the first look   {looked(ledger, folder, came, since)}", flush=True)
        for _ in range(2):
            print(f"nothing new      {looked(ledger, folder, [], since)}", flush=True)
        for turn in range(2):
            written(store, given.answers + turn * given.new, given.new, shadow=False)
            print(f"{given.new:,} new        {looked(ledger, folder, labels(half + turn, 300, 2 * half + turn), since)}", flush=True)
        store.close()


if __name__ == "__main__":
    main()
