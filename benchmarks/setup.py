"""Set-up in an empty clone: how long `make setup` takes and how large the environment is.

    python benchmarks/setup.py [--runs 1]

The package cache of uv is used as it is found: empty on a new machine, warm after a first time; say which.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from measure import clone, seconds, told


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=1)
    times, sizes = [], []
    for _ in range(arguments.parse_args().runs):
        with tempfile.TemporaryDirectory(prefix="mlops-setup-") as temporary:
            folder = clone(Path(temporary) / "clone")
            times.append(seconds(["make", "setup"], folder))
            size = subprocess.run(["du", "-sm", str(folder / ".venv")], capture_output=True, text=True, check=True).stdout
            sizes.append(int(size.split()[0]) / 1024)
    told("make setup in an empty clone", times, "at most 120")
    told("size of .venv, bytecode compiled", sizes, "at most 2", "GiB")


if __name__ == "__main__":
    main()
