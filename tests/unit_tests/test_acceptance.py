"""The pure parts of `make acceptance`: which rows are typed, where, and how what they showed is told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from acceptance import cluster, commands, interfaces, setting_up, tree
from acceptance.__main__ import one
from acceptance.cluster import no_engine
from acceptance.commands import auc, promised, summary, without_a_model
from acceptance.promises import InPart, Result, Row, Unmet, as_markdown, as_text, chosen, closing_line
from acceptance.session import Session, environment, package_access
from acceptance.setting_up import locked

from tests.conftest import REPOSITORY, wait_for


def says(text: str) -> Callable[..., str]:
    return lambda *_: text


A = Row("a", "One", "first", ("echo a | cat",), says("a"))
B = Row("b", "One", "second", ("echo b",), says("b"), needs=("a",))
C = Row("c", "Two", "third", ("echo c", "echo " + "long " * 30), says("c"), needs=("b",))


@pytest.fixture
def session(tmp_path: Path) -> Session:
    for name in ("clone", "scratch", "home"):
        (tmp_path / name).mkdir()
    at = Session(tmp_path / "clone", tmp_path / "scratch", environment({"PATH": "/usr/bin:/bin"}, tmp_path / "home", Path(sys.executable)))
    at.begin(30)
    return at


def test_a_part_brings_what_it_needs_in_order() -> None:
    assert chosen([A, B, C], []) == [A, B, C]
    assert chosen([A, B, C], ["THIRD"]) == [A, B, C]
    assert chosen([A, B, C], ["echo b"]) == [A, B]
    assert chosen([A, B, C], ["nothing like it"]) == []


def test_every_name_that_a_row_needs_is_a_row_before_it() -> None:
    names: list[str] = []
    for row in [*commands.rows("tests/", full=False), *tree.rows(), *interfaces.rows()]:
        assert set(row.needs) <= set(names), row.name
        assert row.name not in names
        names.append(row.name)


def test_the_tables_show_every_row_and_the_failure() -> None:
    results = [Result(A, True, "one | two", 1.0), Result(C, False, "three", 2.25, "$ echo c\nc\n[exit code 1]")]
    text = as_text(results, 120)
    assert "✓ One         echo a | cat" in text
    assert "✗ Two         echo c" in text
    assert max(map(len, text.splitlines())) <= 120
    page = as_markdown(results, "a fresh clone of abc", closing_line(results, 61.4))
    assert page.startswith("# 1 of 2 rows pass in 1 min 1 s\n")
    assert "| ✓ | One | first | `echo a \\| cat` | one \\| two | 1.0 |" in page
    assert page.endswith("## ✗ c\n\n```text\n$ echo c\nc\n[exit code 1]\n```\n")


def test_nothing_of_the_caller_goes_along_but_the_way_to_packages(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    caller = {
        "HOME": "/home/somebody",
        "PATH": f"{venv}/bin:/usr/bin",
        "PYTHONPATH": "/elsewhere",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "PREFECT_API_URL": "http://elsewhere",
        "PIP_INDEX_URL": "http://somebody:secret@packages",
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certificates",
        "UV_INDEX_PRIVATE_PASSWORD": "secret",
        "NPM_CONFIG__AUTHTOKEN": "secret",
        "DOCKER_AUTH_CONFIG": "secret",
        "DOCKER_HOST": "unix:///engine",
        "PIP_TARGET": "/elsewhere",
        "PIP_NO_DEPS": "1",
        "PIP_NO_COMPILE": "0",
        "BYTECODE": "",
        "BYTECODE_OF": "/environment",
        "UV_PYTHON": "3.12",
    }
    made = environment(caller, tmp_path / "home", Path("/usr/bin/python3"))
    assert made["PATH"] == "/usr/bin"
    assert (made["HOME"], made["PYTHON"]) == (str(tmp_path / "home"), "/usr/bin/python3")
    assert (made["SSL_CERT_FILE"], made["DOCKER_HOST"], made["PIP_CACHE_DIR"]) == (
        "/certificates", "unix:///engine", "/home/somebody/.cache/pip",
    )  # fmt: skip
    assert (made["PIP_NO_COMPILE"], made["BYTECODE"], made["BYTECODE_OF"]) == ("0", "", "/environment")
    left_out = {"PYTHONPATH", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "VIRTUAL_ENV", "PIP_TARGET", "PIP_NO_DEPS", "UV_PYTHON"}
    access = package_access(caller)
    assert not made.keys() & (left_out | access.keys())
    assert access == {name: caller[name] for name in ("PIP_INDEX_URL", "https_proxy", "UV_INDEX_PRIVATE_PASSWORD", "DOCKER_AUTH_CONFIG")}


def test_only_rows_that_install_are_given_what_may_hold_a_password(session: Session) -> None:
    session.access = {"PIP_INDEX_URL": "http://somebody:secret@packages"}
    assert session.type("echo :$PIP_INDEX_URL").out == ":\n"
    session.begin(30, installs=True)
    assert session.type("echo :$PIP_INDEX_URL").out == ":http://somebody:secret@packages\n"


def test_neither_passwords_nor_folders_of_this_machine_are_shown(session: Session) -> None:
    session.access = {"UV_INDEX_PRIVATE_PASSWORD": "s3cret"}

    def leaks(at: Session, line: str) -> str:
        at.type(line)
        raise Unmet(f"{at.folder}/models and {at.scratch} at http://me:s3cret@packages/simple")

    line = "echo 'Looking in indexes: http://packages'; echo http://me:other@packages $UV_INDEX_PRIVATE_PASSWORD $PWD"
    result = one(Row("leaks", "One", "nothing", (line,), leaks, installs=True), session)
    page = as_markdown([result], "head", "closing")
    assert "$CLONE/models and $SCRATCH at http://***@packages/simple" in page
    assert "Looking in indexes: ***\nhttp://***@packages *** $CLONE\n" in page
    assert not [text for text in ("s3cret", "other@", str(session.folder), str(session.scratch)) if text in page.split("## ✗")[1]]
    assert "other@" not in page


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("--index-url https://packages\na==1 --hash=sha256:00\n", "names an index"),
        ("a==1 \\\n    --hash=sha256:00\nb==2\n", "without version or hash: b==2"),
        ("a>=1 --hash=sha256:00\n", "without version or hash: a>=1"),
    ],
)
def test_a_lock_with_an_index_or_without_a_hash_is_told(lock: str, fault: str) -> None:
    with pytest.raises(Unmet, match=fault):
        locked(lock)


def test_a_locks_pins_are_read_with_extras_and_markers() -> None:
    lock = "# head\nA_b[x]==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\na-b==2 --hash=sha256:22\n"
    assert locked(lock) == {"a-b": {"1.0", "2"}}


def test_pytests_closing_lines_are_read() -> None:
    text = "TOTAL    8123   1211   2050    180    84%\n=== 3 failed, 1200 passed, 2 skipped, 1 warning, 2 errors in 12.3s (0:00:12) ===\n"
    assert summary(text) == ({"passed": 1200, "failed": 3, "error": 2, "skipped": 2}, 84)
    assert summary("collected 0 items\n=== no tests ran in 0.01s ===\n") == ({}, None)


def test_the_area_under_the_curve_agrees_with_scikit_learn() -> None:
    import numpy as np
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    labels, scores = random.random(500) > 0.7, random.integers(0, 20, 500).astype(float)
    assert auc(labels.tolist(), scores.tolist()) == pytest.approx(roc_auc_score(labels, scores))


def test_a_line_that_ends_otherwise_than_it_should_is_told(session: Session) -> None:
    assert session.type("echo $SCRATCH; exit 3", code=3).out == f"{session.scratch}\n"
    with pytest.raises(Unmet, match="exit code 1 instead of 2"):
        session.type("echo said; false", code=2)
    assert session.detail().startswith("$ echo said; false\nsaid\n[exit code 1 ")
    session.begin(0.5)
    with pytest.raises(Unmet, match="had not ended"):
        session.type("sleep 60")


def test_a_server_ends_with_its_block_and_all_that_it_started(session: Session) -> None:
    port = session.port()
    line = f"sleep 600 & echo $! >$SCRATCH/child; exec {sys.executable} -m http.server --bind 127.0.0.1 $PORT"
    with session.serving(line, f"http://127.0.0.1:{port}/"):
        child = Path("/proc") / (session.scratch / "child").read_text().strip()
        assert child.exists()
    wait_for(lambda: not child.exists(), 60, "the end of what the server had started")
    with (
        pytest.raises(Unmet, match="ended with exit code 7 before it was ready"),
        session.serving("echo why; exit 7", f"http://127.0.0.1:{port}/"),
    ):
        pass
    assert "why" in session.detail()


def test_a_servers_own_error_is_shown_not_what_it_says_as_it_shuts_down(session: Session) -> None:
    line = "trap 'seq 100; exit' TERM; echo why >&2; touch $SCRATCH/up; while :; do sleep 0.1; done"
    with pytest.raises(Unmet, match="asked in vain"), session.serving(line, (session.scratch / "up").is_file):
        raise Unmet("asked in vain")
    assert session.detail().endswith("\nwhy")


def test_cleaning_up_has_a_clock_of_its_own_and_hides_nothing(session: Session) -> None:
    session.begin(0.5)
    with pytest.raises(Unmet, match="`sleep 60` had not ended"):
        try:
            session.type("sleep 60")
        finally:
            assert "[exit code 7 " in session.tidy("sleep 1; touch $SCRATCH/tidy; exit 7")
    assert (session.scratch / "tidy").is_file()
    assert session.detail().startswith("$ sleep 60\n")


def test_a_container_is_removed_when_the_rows_time_is_up(session: Session, tmp_path: Path) -> None:
    """A `docker` that hangs in `run` and takes a second to remove: what counts is what is typed at it, and when."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(
        f'#!/bin/sh\ncase $1 in run) sleep 60;; rm|logs) sleep 1;; esac\necho "$1" >>{tmp_path}/asked\necho "said by $1"\n',
        encoding="utf-8",
    )
    mlops = tmp_path / "bin/mlops"
    mlops.write_text("#!/bin/sh\necho 'key: a'\necho 'digest: b'\n", encoding="utf-8")
    for program in (docker, mlops):
        program.chmod(0o755)
    session.environ["PATH"] = f"{tmp_path}/bin:{session.environ['PATH']}"
    session.begin(5)
    security = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    container = {"securityContext": security, "command": ["serve"], "resources": {"limits": {"memory": "1Gi"}}}
    spec = {"template": {"spec": {"securityContext": {"runAsUser": 1, "runAsGroup": 1, "runAsNonRoot": True}}}}
    objects = [{"kind": "Deployment", "spec": spec}, {"kind": "ConfigMap", "data": {"serving_config.yaml": "uri: http://registry"}}]
    with pytest.raises(Unmet, match="`docker run` had not ended"):
        cluster.pod_in_a_container(session, objects, container, "docker build", "docker run")
    assert (tmp_path / "asked").read_text().split() == ["build", "logs", "rm", "rmi"]
    assert "said by logs" in session.detail()


def test_a_row_that_fails_leaves_the_clone_as_it_was(session: Session) -> None:
    (session.folder / "settings").write_text("before", encoding="utf-8")
    back = "cp before settings"
    (session.folder / "before").write_text("before", encoding="utf-8")
    for line, told, within in (("echo after >settings; false", "exit code 1", 30), ("echo after >settings; sleep 60", "had not ended", 1)):
        session.begin(within)
        with pytest.raises(Unmet, match=told), session.undone_by(back):
            session.type(line)
        assert (session.folder / "settings").read_text() == "before"
    session.begin(30)
    with pytest.raises(Unmet, match="`false` ended"), session.undone_by("false", back):
        session.type("echo after >settings")
    assert (session.folder / "settings").read_text() == "before"


@pytest.mark.parametrize("flow", ["", "mkdir -p models/artifacts/model/half"], ids=["nothing", "a half"])
def test_a_flow_that_brings_no_model_back_leaves_the_one_before(session: Session, flow: str) -> None:
    model = session.folder / "models/artifacts/model"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("before", encoding="utf-8")
    with pytest.raises(Unmet, match="did not bring the missing model back"), without_a_model(session):
        assert not model.exists()
        session.type(flow)
    assert [file.name for file in model.iterdir()] == ["MLmodel"]


def test_a_home_of_prefects_begins_with_the_first_ones_database_and_keeps_its_own(session: Session) -> None:
    def runs(name: str) -> list[tuple[str]]:
        with closing(sqlite3.connect(session.scratch / name / "prefect.db")) as database:
            return database.execute("select id from flow_run").fetchall()

    commands.prefect_home(session, "prefect-alone")
    assert session.type("echo $PREFECT_HOME").out == f"{session.scratch}/prefect-alone\n"
    assert not (session.scratch / "prefect-alone").exists()
    (session.scratch / commands.EMBEDDED).mkdir()
    with closing(sqlite3.connect(session.scratch / commands.EMBEDDED / "prefect.db")) as first:
        first.execute("pragma journal_mode = wal")
        first.execute("create table flow_run (id text)")
        with first:
            first.execute("insert into flow_run values ('of the first')")
        commands.prefect_home(session, "prefect-next")  # what a server that was ended has not yet put into its file comes along
    assert runs("prefect-next") == [("of the first",)]
    with closing(sqlite3.connect(session.scratch / "prefect-next/prefect.db")) as its_own, its_own:
        its_own.execute("insert into flow_run values ('its own')")
    commands.prefect_home(session, "prefect-next")
    assert runs("prefect-next") == [("of the first",), ("its own",)]
    assert runs(commands.EMBEDDED) == [("of the first",)]


def test_a_row_done_in_part_is_no_row_that_passes() -> None:
    results = [Result(A, True, "a", 1.0), Result(B, True, InPart("b, not c"), 1.0), Result(C, False, "c", 1.0)]
    assert [result.mark for result in results] == ["✓", "–", "✗"]
    assert closing_line(results, 2) == "1 of 3 rows pass, 1 in part, in 2 s"
    assert "| – | One | second | `echo b` | b, not c | 1.0 |" in as_markdown(results, "", "")


def test_what_is_seen_in_part_stays_so_and_fails_where_all_is_asked_for(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_up, "other_pythons", lambda *_: {})
    row = Row("others", "One", "others", (), setting_up.other_versions(full=True))
    session.environ["PATH"] = f"{Path(sys.executable).parent}:{session.environ['PATH']}"
    result = one(row, session)
    assert result.mark == "–"
    assert "not installed, as not on this machine: 3.1" in result.seen
    session.environ["MLOPS_TEST_STRICT"] = "1"
    assert one(row, session).mark == "✗"


def test_an_engine_that_is_not_there_is_told_with_the_remedy(session: Session, tmp_path: Path) -> None:
    session.environ["PATH"] = str(tmp_path / "none")
    assert no_engine(session) == "there is no `docker` client, by which podman is reached too"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "bin/docker").chmod(0o755)
    session.environ["PATH"] = f"{tmp_path}/bin:/usr/bin:/bin"
    assert "podman: its socket in DOCKER_HOST" in no_engine(session)


def test_what_pytest_is_given_is_what_its_row_promises() -> None:
    assert promised("tests/") == "all tests, with coverage"
    assert promised('-m "not slow" tests/') == "the fast tests, with coverage"
    assert promised("tests/unit_tests") == "the tests of `tests/unit_tests`, with coverage"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--again", "nowhere"], "error: --again nowhere: holds no clone: name a folder that --keep left\n"),
        (["--only", "no such row"], "error: --only no such row: no row contains it: leave it out to see all\n"),
        (["--output", "nowhere/a.md"], "error: --output nowhere/a.md: its folder is not there: make it, or name another\n"),
        (["--repository", "/"], "error: /: fatal: not a git repository"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(words: list[str], told: str, tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "acceptance", *words], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_too_old_is_refused_in_a_line() -> None:
    """The version is looked at before anything is imported that it lacks."""
    code = "import sys, runpy; sys.version_info = (3, 10, 1, 'final', 0); sys.modules['tomllib'] = None; runpy.run_module('acceptance')"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {sys.executable} is not Python 3.11, 3.12 or 3.13: name one, e.g. make acceptance PYTHON=python3.12\n"
