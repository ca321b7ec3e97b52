"""A process that has imported a pipeline's libraries and forks for each program it is given: imports are half of a small run.

It is run as a program, `python forked.py MODULE …`; each line of its input is a program, each line it prints an exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from mlops_pipeline import environment

LIBRARIES = (
    *("mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.pyfunc"),
    *("pandera.io", "pandera.polars", "pyarrow.csv", "pyarrow.parquet", "sqlalchemy.dialects.sqlite"),
    *("dvc.repo", "scmrepo.git", "lightgbm", "sklearn.ensemble", "skops.io", "optuna"),
    *("skl2onnx", "onnxmltools.convert.lightgbm", "onnxruntime"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "matplotlib.style"),
)

REPORTING = ("evidently.presets", "evidently.legacy.calculations.stattests", "evidently.legacy.renderers.html_widgets")

LATE = ("MLFLOW_TRACKING_", "MLFLOW_REGISTRY_", "MLFLOW_HTTP_", "MLOPS_", "PYTHONPATH", "PYTEST_CURRENT_TEST")
"""Variables that are read when they are needed, by nothing that is imported ahead: each program may have its own."""


class Forking:
    """A process that forks for each program, in an environment that all of them have."""

    def __init__(self, environ: dict[str, str], modules: tuple[str, ...] = LIBRARIES) -> None:
        self.environ, self.at_work = {k: v for k, v in environ.items() if k != "PYTEST_CURRENT_TEST"}, threading.Lock()
        self.output = tempfile.TemporaryDirectory(prefix="mlops-forked-")
        words = (sys.executable, str(Path(__file__)), *modules)
        self.process = subprocess.Popen(words, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def serves(self, environ: dict[str, str]) -> bool:
        """Whether a program with this environment can be forked here: if only variables differ that are read late."""
        names = [name for name in {**self.environ, **environ} if self.environ.get(name) != environ.get(name)]
        return self.process.poll() is None and all(name.startswith(LATE) and name in environ for name in names)

    def run(self, folder: Path, timeout: float = 600, **program: Any) -> subprocess.CompletedProcess[str] | None:
        """What a program did: ``module`` or ``text``, with ``arguments`` and ``environ``; None if another one is still at work.

        Raises :class:`subprocess.TimeoutExpired`.
        """
        if not self.at_work.acquire(blocking=False):
            return None
        out, err = (Path(self.output.name, name) for name in ("out", "err"))
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"folder": str(folder), "out": str(out), "err": str(err), **program}) + "\n")
            stdin.flush()
            if not select.select([stdout], [], [], timeout)[0]:
                self.process.kill()
                raise subprocess.TimeoutExpired(str(program), timeout)
            ended = stdout.readline()
            assert ended, "the process that forks has ended"
            return subprocess.CompletedProcess(program["arguments"], int(ended), out.read_text(), err.read_text())
        finally:
            self.at_work.release()

    def end(self) -> None:
        """Let it end."""
        self.process.communicate(timeout=60)
        self.output.cleanup()


def become(program: dict[str, Any]) -> None:
    """What a fresh Python does with `-c` or `-m`: the program's folder, arguments and outputs, and its text run as the main module."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(program[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(program["folder"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.update(program.get("environ", {}))
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [program["folder"], *places, *(place for place in sys.path[1:] if place not in before)]
    sys.argv = ["-c", *program["arguments"]]
    if "module" in program:
        for name in [name for name in sys.modules if name.partition(".")[0] == program["module"]]:
            del sys.modules[name]  # it is found anew, where this program's path has it
        runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
    else:
        exec(compile(program["text"], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102 - the text is the test's own


def main() -> None:
    environment.prepare()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    if "mlflow.sklearn" in sys.argv:  # what it asks of every installed package when it saves its first model
        importlib.import_module("mlflow.utils.requirements_utils")._init_packages_to_modules_map()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
