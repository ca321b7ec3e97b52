"""Where a release stops a challenger that is faulty, and what clients see of it: `python -m benchmarks.release_faults`.

A real `mlops serve` of two workers, clients that ask all the time, labels a little later, and `mlops release start`, which watches. The
challenger throws, says NaN, sleeps, says the opposite of rows of one kind, or takes 30 ms more; with a shadow first, and without.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import Project, process_environment, trained
from tests.integration_tests.conftest import serving
from tests.integration_tests.faults import promote
from tests.integration_tests.release_faults import FAULTS, stopped


def _project(folder: Path) -> Project:
    """A champion, version 1, and a challenger of a format that does what a file tells it."""
    if folder.is_dir():
        return Project(folder, folder / "pipeline.yaml")
    project = trained(folder)
    shutil.copy(Path(__file__).parents[1] / "tests/integration_tests/faulty.py", project.folder / "faulty.py")
    train = {"estimator": "lightgbm", "params": {"n_estimators": 35, "num_leaves": 7}, "format": "faulty"}
    project.change(train=train, onnx={"enabled": False}, gate={"champion_margin": 1.0}, plugins=["faulty.py"])
    project.run()
    promote(project, "1")
    return project


def main() -> None:
    """Print a line for each fault; exit status 1 if any was not stopped where it could be seen, or clients saw an error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="what the challenger does, such as throw")
    parser.add_argument("--project", type=Path, help="one that was made by this before; made here if it is missing")
    given, wrong = parser.parse_args(), False
    with tempfile.TemporaryDirectory(prefix="mlops-release-faults-") as name:
        folder = Path(name)
        project = _project(given.project or folder / "project")

        def release(*words: str, timeout: float) -> None:
            command = [sys.executable, "-m", "mlops_pipeline", "release", *words]
            subprocess.run(command, env=process_environment(), capture_output=True, timeout=timeout, check=True)

        settings: dict[str, Any] = {"workers": 2, "limits": {"deadline_ms": 2000}, "release": {"file": str(folder / "releases.sqlite")}}
        with serving(project, folder / "serve", **settings) as server:
            for fault in FAULTS:
                if fault.does.startswith(given.only):
                    seen = stopped(server.url, server.folder, project.folder / "behaviour", fault, release)
                    wrong = wrong or bool(seen.wrong)
                    asked = f"{sum(seen.answers.values()):,} answers {dict(seen.answers)}"
                    print(
                        f"{fault.does:<10} {'shadow first' if fault.in_shadow else 'no shadow':<13} {seen.state} at {seen.step} after "
                        f"{seen.seconds:.0f} s; {asked}, champion's errors {seen.champions_errors}, {seen.touched} of {seen.users} users "
                        f"touched; {seen.reason}{'; WRONG: ' + '; '.join(seen.wrong) if seen.wrong else ''}",
                        flush=True,
                    )
    raise SystemExit(wrong)


if __name__ == "__main__":
    main()
