"""A process that has imported a pipeline's libraries and forks for each program it is given: imports are half of a small run.

It is run as a program, `python forked.py SOCKET MODULE …`, and forks for each connection too. Each line that it is sent is programs
that are at work side by side, each line it answers their exit codes. A line that is one program has it begun, and its number answered.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO

from filelock import FileLock

from mlops_pipeline import environment

LIBRARIES = (
    *("mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.pyfunc"),
    *("pandera.io", "pandera.polars", "pyarrow.csv", "pyarrow.parquet", "sqlalchemy.dialects.sqlite"),
    *("dvc.repo", "dvc.repo.index", "dvc.data_cloud", "dvc.dirs", "dvc.lock", "dvc.utils.strictyaml", "dvc_render", "scmrepo.git"),
    *("lightgbm", "sklearn.ensemble", "skops.io", "optuna"),
    *("skl2onnx", "onnxmltools.convert.lightgbm", "onnxruntime"),
    *("pandera.backends.polars.builtin_checks", "jinja2", "platformdirs", "flufl.lock", "ruamel.yaml"),
    *("pyarrow.pandas_compat", "rich.status", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "matplotlib.style"),
    *(f"dvc.repo.{part}" for part in ("artifacts", "datasets", "metrics", "params", "plots", "stage")),
    *("dvc.cachemgr", "dvc.rwlock", "dvc.scm", "dvc_data.hashfile.db.local", "dvc_data.hashfile.status", "fsspec.implementations.memory"),
    *("dulwich.ignore", "dulwich.index", "dulwich.worktree", "scmrepo.noscm", "configobj", "alembic.command", "filelock"),
    *("mlflow.tracing.processor.base_mlflow", "mlflow.store.tracking.sqlalchemy_workspace_store"),
    *("mlflow.store.model_registry.sqlalchemy_workspace_store", "pandera.backends.polars.container", "pandas.api.internals"),
    *("dvc.cli.parser", "encodings.cp437", "encodings.utf_8_sig"),
)

OURS = tuple(
    f"mlops_pipeline.{module}"
    for module in (
        *("cli", "pipeline.runner", "pipeline.made", "pipeline.render", "registry.champion", "registry.runs", "inference.scorer"),
        *("modelling.evaluation", "modelling.plots", "modelling.tuning", "modelling.gate", "modelling.parts"),
        *("modelling.race", "modelling.against_champion", "modelling.blend", "modelling.by_class", "modelling.masked", "modelling.summary"),
        *("modelling.network_estimators", "modelling.formats.twins", "modelling.formats.int8", "modelling.formats.onnx"),
        *("parts", "alerts.parts", "inference.batch", "release.face", "monitoring.command", "monitoring.delivery"),
        *(f"pipeline.stages.{stage}" for stage in ("ingest", "validate", "split", "train", "evaluate", "register")),
    )
)
"""What a run imports of the package itself: used where a program's path leads to the same source."""

REPORTING = (
    *("plotly.graph_objs", "plotly.offline", "evidently.presets"),
    *("evidently.legacy.calculations.stattests", "evidently.legacy.renderers.html_widgets"),
)

LATE = ("MLFLOW_TRACKING_", "MLFLOW_REGISTRY_", "MLFLOW_HTTP_", "MLOPS_", "PYTHONPATH", "COLUMNS", "PYTEST_XDIST_WORKER")
"""Variables that are read when they are needed, by nothing that is imported ahead: each program may have its own."""

SET_BY_LIBRARIES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "_RJEM_MALLOC_CONF", "SPARK_LOCAL_IP", "PYARROW_IGNORE_TIMEZONE")
"""What scikit-learn, Polars and pandera set as they are imported: a test process has them from some test on, and a user's shell not."""


@dataclass(frozen=True)
class Begun:
    """A program at work in a session of its own, asked and told as a :class:`subprocess.Popen` is."""

    pid: int
    code: Path

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return int(self.code.read_text()) if self.code.exists() else None

    def wait(self, timeout: float = 600) -> int:
        """Raises :class:`subprocess.TimeoutExpired`."""
        deadline, pause = time.monotonic() + timeout, threading.Event()
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            pause.wait(0.01)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Forking:
    """A process that forks for each program, in an environment that all of them have.

    It is a fork itself, of one that has imported the modules: started by whoever asks first in a run of tests, it is there for all
    of xdist's workers, and ends with the last of them.
    """

    def __init__(self, environ: dict[str, str], modules: tuple[str, ...] = (*LIBRARIES, *OURS), within: Forking | None = None) -> None:
        """``within``: another one, of which this is a fork: the libraries are there, the package is imported from where its path leads."""
        self.at_work = threading.Lock()
        self.output = tempfile.TemporaryDirectory(prefix="mlops-forked-")
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid():08x}")[:8]
        place = Path(tempfile.gettempdir()) / f"mlops-{run}"
        place.mkdir(mode=0o700, exist_ok=True)
        assert place.stat().st_uid == os.getuid(), f"{place}: is somebody else's"
        at = place / hashlib.sha256(" ".join((environ.get("PYTHONPATH", ""), *modules)).encode()).hexdigest()[:6]
        with FileLock(at.with_suffix(".lock")):
            try:
                self.connection, self.reader, self.pid = _connected(at)
            except OSError:  # nobody has begun it, or it has just ended
                at.unlink(missing_ok=True)
                at.with_suffix(".json").write_text(json.dumps(environ))
                if within is None:
                    self.first = _begun(at, modules, environ)
                else:
                    within.fork_off(at, modules, environ)
                self.connection, self.reader, self.pid = _connected(at)
            self.environ: dict[str, str] = json.loads(at.with_suffix(".json").read_text())

    def serves(self, environ: dict[str, str]) -> bool:
        """Whether a program with this environment can be forked here: if only variables differ that are read late."""
        names = [name for name in {**self.environ, **environ} if self.environ.get(name) != environ.get(name)]
        return self.connection.fileno() != -1 and all(name.startswith(LATE) and name in environ for name in names)

    def run(self, folder: Path, timeout: float = 600, **program: Any) -> subprocess.CompletedProcess[str] | None:
        """What a program did: ``module`` or ``text``, with ``arguments`` and ``environ``; None if another one is still at work.

        Raises :class:`subprocess.TimeoutExpired`.
        """
        if not self.at_work.acquire(blocking=False):
            return None
        try:
            return self._run([{"folder": str(folder), **program}], timeout)[0]
        finally:
            self.at_work.release()

    def run_at_once(self, programs: Sequence[dict[str, Any]], timeout: float = 600) -> list[subprocess.CompletedProcess[str]]:
        """What programs did that were at work side by side. Raises :class:`subprocess.TimeoutExpired`."""
        with self.at_work:
            return self._run(programs, timeout)

    def begin(self, folder: Path, log: Path, **program: Any) -> Begun:
        """A program that is at work beside the test, what it says in one file; whoever begins it ends it."""
        with self.at_work:
            code = Path(tempfile.mkdtemp(dir=self.output.name)) / "code"
            log.write_bytes(b"")  # a test may look before the program opens it
            return Begun(self._told({"folder": str(folder), "out": str(log), "err": str(log), "code": str(code), **program}, 600), code)

    def fork_off(self, at: Path, modules: Sequence[str], environ: dict[str, str]) -> None:
        """Let a fork import modules and be asked at a socket of its own, as :func:`main` is."""
        log = Path(self.output.name) / at.name
        begun = self.begin(at.parent, log, text="import __main__; __main__.main()", arguments=[str(at), *modules], environ=environ)
        pause = threading.Event()
        while "listens\n" not in log.read_text():
            assert begun.poll() is None, log.read_text()
            pause.wait(0.01)

    def _run(self, programs: Sequence[dict[str, Any]], timeout: float) -> list[subprocess.CompletedProcess[str]]:
        texts = [{name: str(Path(self.output.name, f"{name}-{place}")) for name in ("out", "err")} for place in range(len(programs))]
        codes = self._told([{**program, **text} for program, text in zip(programs, texts, strict=True)], timeout)
        return [
            subprocess.CompletedProcess(program["arguments"], code, Path(text["out"]).read_text(), Path(text["err"]).read_text())
            for program, text, code in zip(programs, texts, codes, strict=True)
        ]

    def _told(self, line: Any, timeout: float) -> Any:
        """What it prints when it is told something."""
        self.connection.sendall(json.dumps(line).encode() + b"\n")
        if not select.select([self.connection], [], [], timeout)[0]:
            os.kill(self.pid, signal.SIGKILL)
            self.connection.close()
            raise subprocess.TimeoutExpired(str(line), timeout)
        said = self.reader.readline()
        assert said, "the process that forks has ended"
        return json.loads(said)

    def end(self) -> None:
        """Let it end."""
        self.reader.close()
        self.connection.close()
        self.output.cleanup()


def _begun(at: Path, modules: Sequence[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process that has imported the modules and waits for those who connect."""
    words = (sys.executable, str(Path(__file__)), str(at), *modules)
    begun = subprocess.Popen(words, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    assert begun.stdout is not None
    assert begun.stdout.readline(), "what is to fork could not import its modules"
    begun.stdout.close()
    return begun


def _connected(at: Path) -> tuple[socket.socket, BinaryIO, int]:
    """A connection to a process of one's own that forks, and its number. Raises :class:`OSError` if nobody is there."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(at))
        reader = connection.makefile("rb", buffering=0)
        if not (said := reader.readline()):
            raise ConnectionError(f"{at}: has ended")
    except OSError:
        connection.close()
        raise
    return connection, reader, json.loads(said)


def become(program: dict[str, Any]) -> None:
    """What a fresh Python does with `-c` or `-m`: the program's folder, arguments and outputs, and its text run as the main module."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        shared = number == 2 and program["err"] == program["out"]
        os.dup2(1 if shared else os.open(program[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(program["folder"])
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.update(program.get("environ", {}))
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [program["folder"], *places, *(place for place in sys.path[1:] if place not in before)]
    sys.argv = ["-c", *program["arguments"]]
    if places != before:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlops_pipeline"]:
            del sys.modules[name]  # it is found anew, where this program's path has it
    if "module" in program:
        runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
    else:
        exec(compile(program["text"], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102 - the text is the test's own


def run_to_its_end(program: dict[str, Any]) -> NoReturn:
    """A program and what Python does at its end, but for taking every module apart: of all that is imported ahead, that takes seconds."""
    code = 0
    try:
        become(program)
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
        if asked.code is not None and not isinstance(asked.code, int):
            print(asked.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - whatever it is, it ends with its traceback
        code = 1
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def begin(program: dict[str, Any]) -> NoReturn:
    """A program in a session of its own: its number is printed when it is at work, its exit code is written to a file at its end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        run_to_its_end(program)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    place = Path(program["code"])
    place.with_suffix(".new").write_text(str(code))
    place.with_suffix(".new").replace(place)
    os._exit(0)


def _warm() -> None:
    """What each run would make anew of what is imported: templates as code, the classes of MLflow's tables, the letters of a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sqlalchemy.orm import configure_mappers

    from mlops_pipeline import pages

    configure_mappers()
    for template in Path(pages.__file__).parent.iterdir():
        if template.suffix in (".html", ".md"):
            pages._environment(template.suffix == ".html").get_template(template.name)
    figure = Figure()
    figure.subplots().set_title("title 0123456789")
    FigureCanvasAgg(figure).print_png(io.BytesIO())


def main() -> None:
    at, *modules = sys.argv[1:]
    environment.prepare()
    for module in modules:
        importlib.import_module(module)
    if "mlflow.sklearn" in modules:  # what it asks of every installed package when it saves its first model
        importlib.import_module("mlflow.utils.requirements_utils")._init_packages_to_modules_map()
    if "mlops_pipeline.modelling.plots" in modules:
        _warm()
    gc.collect()
    gc.freeze()  # a program that looks for garbage among all that is imported copies every page of it
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(at)
    listening.listen()
    print("listens", flush=True)
    listening.settimeout(1)
    serving: list[int] = []
    while True:
        was_asked, serving = bool(serving), [child for child in serving if os.waitpid(child, os.WNOHANG) == (0, 0)]
        if was_asked and not serving:
            break
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        child = os.fork()
        if child == 0:
            listening.close()
            os.dup2(connection.fileno(), 0)
            os.dup2(connection.fileno(), 1)
            connection.close()
            print(os.getpid(), flush=True)
            fork_for(sys.stdin)
        connection.close()
        serving.append(child)
    listening.close()
    for left in (Path(at), Path(f"{at}.json"), Path(f"{at}.lock")):
        left.unlink(missing_ok=True)
    with suppress(OSError):  # another is at work in that folder
        Path(at).parent.rmdir()


def fork_for(lines: TextIO) -> NoReturn:
    """Do what lines say until whoever writes them has ended."""
    begun: list[int] = []
    for line in lines:
        begun = [child for child in begun if os.waitpid(child, os.WNOHANG) == (0, 0)]
        told, children = json.loads(line), list[int]()
        if isinstance(told, dict):
            child = os.fork()
            if child == 0:
                begin(told)
            begun.append(child)
            continue
        for program in told:
            child = os.fork()
            if child == 0:
                run_to_its_end(program)
            children.append(child)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
    os._exit(0)
