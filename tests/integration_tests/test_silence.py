"""Nobody is told anything: what every command asks the system for, seen by strace, with an empty home and no variable set.

No name is looked up, nothing beyond loopback is reached, and no file is written but in the project, the temporary folder and the
places that the README names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import BIN, REPOSITORY, Project, lacking, unused_port
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import FLOW_FILE, stop, until_healthy

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("prefect"), pytest.mark.usefixtures("prefect_api")]

WRITING = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
TRACED = ("strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", f"trace=connect,sendto,sendmsg,sendmmsg,{WRITING}")
NAMED = ("~/.cache/matplotlib", "~/.config/matplotlib", "~/.prefect", "/var/tmp/dvc")  # noqa: S108
"""Where else the README says that files go."""
SYSTEM = ("/dev", "/proc")
FLOW = f"import runpy; runpy.run_path({str(FLOW_FILE)!r})['training_pipeline'](config_path='pipeline.yaml')"


def reached(line: str) -> str:
    """The address beyond loopback, or the server of names, that a traced call reaches; empty if it is neither."""
    if "= -1 ENOENT" in line or "= -1 ECONNREFUSED" in line:
        return ""
    if named := re.search(r'sun_path=@?"([^"]*(?:nscd|resolve)[^"]*)"', line):
        return named[1]
    for port, address in re.findall(r'htons\((\d+)\).*?"([0-9a-fA-F.:]+)"', line):
        if port == "53" or not (address.startswith(("127.", "::ffff:127.")) or address == "::1"):
            return f"{address}:{port}"
    return ""


def written(line: str, here: str = "/") -> Iterator[str]:
    """The files and folders that a traced call of a program that works in a folder makes or may change."""
    call = re.match(rf"(?:\d+ +)?({WRITING.replace(',', '|')})\(", line)
    if call is None or " = -1 " in line or (call[1].startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)):
        return
    for folder, name in re.findall(r'(?:\w+<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', line):
        yield os.path.normpath(Path(folder or here, name))


def test_what_strace_says_is_understood() -> None:
    assert reached('7 connect(4<socket:[1]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0')
    assert reached('connect(4, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("20.1.2.3")}, 16) = -1 EINPROGRESS (…)')
    assert reached('sendto(4, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "fd::1", &sin6_addr)}, 28) = 1')
    assert reached('connect(4, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = 0')
    assert not reached('connect(4, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)')
    assert not reached('connect(4, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0')
    assert list(written('9 openat(AT_FDCWD</p>, "a/b", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</p/a/b>')) == ["/p/a/b"]
    assert list(written('renameat(3</p>, "a", 4</q>, "b") = 0')) == ["/p/a", "/q/b"]
    assert list(written('openat(AT_FDCWD</p>, "a", O_RDONLY|O_CLOEXEC) = 3</p/a>')) == []
    assert list(written('mkdir("/home/x", 0777) = -1 EEXIST (File exists)')) == []


def test_no_command_tells_anybody_anything_or_writes_where_nobody_expects_it(registered: Project, tmp_path: Path) -> None:
    from prefect.settings import get_current_settings

    folder, home, logs = tmp_path / "project", tmp_path / "home", tmp_path / "logs"
    shutil.copytree(registered.folder, folder, symlinks=True)
    for made in (home, logs, tmp_path / "tmp"):
        made.mkdir()
    project, port = Project(folder, folder / registered.config.name), unused_port()
    project.change(train={"params": {"n_estimators": 22}})
    (folder / "serving.yaml").write_text(yaml.safe_dump({"pipeline": "pipeline.yaml", "port": port}))
    environ = {"HOME": str(home), "TMPDIR": str(tmp_path / "tmp"), "PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src")}
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if not shutil.which("strace") or subprocess.run([*TRACED, "true"], capture_output=True, check=False).returncode:
        lacking("strace that may trace", "make system")

    def traced(name: str, *words: str) -> list[str]:
        return [*TRACED, "-o", str(logs / name), *words]

    def done(name: str, *words: str, **more: str) -> None:
        ended = subprocess.run(
            traced(name, *words), cwd=folder, env={**environ, **more}, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    done("run", "mlops", "run", "-c", "pipeline.yaml")
    project.change(gate={"max_size_mb": 50})
    api = str(get_current_settings().api.url)
    done("flow", sys.executable, "-c", FLOW, PREFECT_API_URL=api)
    done("predict", "mlops", "predict", "--input", "table.csv", "--output", "out.csv", "-c", "pipeline.yaml")
    done("monitor", "mlops", "monitor", "report", "--current", "table.csv", "-c", "pipeline.yaml")
    with (logs / "server").open("wb") as said:
        words = traced("serve", "mlops", "serve", "-c", "serving.yaml")
        server = subprocess.Popen(words, cwd=folder, env=environ, stdout=said, stderr=said, start_new_session=True)
    try:
        until_healthy(server, logs / "server", f"http://127.0.0.1:{port}/ready")
        row = {"size": 0.5, "weight": 9.0, "kind": "a"}
        assert post(f"http://127.0.0.1:{port}/predict", {"records": [row]})[0] == 200
    finally:
        stop(server)
    places = (str(folder), str(tmp_path / "tmp"), *SYSTEM, *(named.replace("~", str(home)) for named in NAMED))
    for name in ("run", "flow", "predict", "monitor", "serve"):
        lines = (logs / name).read_text().splitlines()
        assert len(lines) > 100, name
        assert [line for line in lines if reached(line)] == [], name
        files = {file for line in lines for file in written(line, str(folder))}
        assert {file for file in files if not file.startswith(places)} <= {f"{home}/.cache", f"{home}/.config"}, name
