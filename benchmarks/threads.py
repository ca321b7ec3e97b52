"""How long LightGBM's threads should spin while they wait: fit the flights' model on a quiet and on a busy machine.

    python benchmarks/threads.py

Prints seconds for each setting of GOMP_SPINCOUNT, quiet and with every core taken by another process, and the ratio to
the library's default on the quiet machine. Behind the figure in ``environment.py``.
"""

import os
import subprocess
import sys

FIT = """
import time
import numpy as np
from lightgbm import LGBMClassifier
rng = np.random.default_rng(0)
x = rng.normal(size=(160_000, 16))
y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) > 0).astype(int)
model = LGBMClassifier(n_estimators=100, min_child_samples=1000, deterministic=True, force_row_wise=True, verbosity=-1)
began = time.perf_counter()
model.fit(x, y)
print(time.perf_counter() - began)
"""
BUSY = [sys.executable, "-c", "while True: pass"]
SETTINGS = {
    "default": {},
    "1000 (ours)": {"GOMP_SPINCOUNT": "1000"},
    "30000": {"GOMP_SPINCOUNT": "30000"},
    "never": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def seconds(extra: dict[str, str], limit: float = 120) -> float:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | extra
    try:
        done = subprocess.run([sys.executable, "-c", FIT], env=environment, capture_output=True, text=True, check=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return float("inf")
    return float(done.stdout)


def main() -> None:
    floor = sorted(seconds({}) for _ in range(3))[1]
    print(f"{'GOMP_SPINCOUNT':16}{'quiet':>10}{'ratio':>8}{'busy':>10}{'ratio':>8}")
    for name, extra in SETTINGS.items():
        quiet = sorted(seconds(extra) for _ in range(3))[1]
        others = [subprocess.Popen(BUSY) for _ in range(os.cpu_count() or 1)]
        try:
            busy = seconds(extra)
        finally:
            for other in others:
                other.kill()
        print(f"{name:16}{quiet:9.2f}s{quiet / floor:8.2f}{busy:9.2f}s{busy / floor:8.2f}")


if __name__ == "__main__":
    main()
