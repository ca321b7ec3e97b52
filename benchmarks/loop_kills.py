"""The loop killed 30 times at random moments, during labels, windows, delivery and retraining: `python -m benchmarks.loop_kills`.

After six kills the work is gone on with to its end, and compared with that of a memory that nobody disturbed; then a new one begins.
Waiting for a starter that may only be slow (half a minute for a message, a minute for a training) is left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.conftest import process_environment, trained
from tests.forked import Forking
from tests.integration_tests.loop_kills import kill_the_loop
from tests.integration_tests.test_monitoring_loop import record_windows


def main() -> None:
    """Print how many kills hit what; exit status 1 if a window was lost or counted twice, an alert lost, or there is not one champion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    asked, began = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mlops-kills-") as temporary:
        folder = Path(temporary)
        recorded = record_windows(trained(folder / "trained"), folder / "recorded")
        forking = Forking(process_environment())
        try:
            seen = kill_the_loop(recorded.project, recorded.server, recorded.labels, folder, forking, asked.kills, asked.seed)
        finally:
            forking.end()
    hit = ", ".join(f"{count} of `mlops {words}`" for words, count in sorted(seen.kills.items()))
    said = "; ".join(seen.wrong) or "nothing lost, nothing twice, one champion"
    print(f"{seen.kills.total()} SIGKILLs ({hit}) in {time.perf_counter() - began:.0f} s: {said}")
    raise SystemExit(bool(seen.wrong))


if __name__ == "__main__":
    main()
