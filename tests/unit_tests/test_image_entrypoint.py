"""What the pipeline's image does before its command: the image's project into an empty volume, by one container at a time."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, process_environment, wait_for

SUMS = "the image's project\n"


@pytest.fixture
def entered(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a command as the image does, in a folder, with a small project in the image's place."""
    project = tmp_path / "image/project"
    for folder in ("configs", "data", ".dvc", *(f"src/{name}" for name in "abcdefgh")):
        (project / folder).mkdir(parents=True)
        (project / folder / "file").write_text(folder)
    project.with_suffix(".sums").write_text(SUMS)
    script = tmp_path / "image/docker-entrypoint"
    script.write_text((REPOSITORY / "docker/docker-entrypoint").read_text().replace("/opt/project", str(project)))
    script.chmod(0o755)

    def start(folder: Path, *words: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([script, *words], cwd=folder, env=process_environment(), text=True, **pipes)

    return start


def told(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """What a program has said and complained of, and its exit code."""
    said, complained = process.communicate(timeout=120)
    return said, complained, process.returncode


def test_several_that_start_at_once_in_an_empty_volume_all_find_the_whole_project(
    entered: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    command = ("sh", "-c", "cat .from-image src/a/file src/h/file && ls -d mlflow models")
    several = [entered(tmp_path / "volume", *command) for _ in range(4)]
    assert [told(process) for process in several] == [(f"{SUMS}src/asrc/hmlflow\nmodels\n", "", 0)] * 4


def test_who_starts_while_another_fills_the_volume_waits_and_copies_nothing_after_it(
    entered: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    held = os.open(volume, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        late = entered(volume, "ls")
        wait_for(lambda: late.poll() is not None or waits_for(volume), 120, "the other, that waits")
        assert late.poll() is None
        assert list(volume.iterdir()) == []
        (volume / ".dvc").mkdir()
        (volume / ".from-image").write_text(SUMS)
    finally:
        os.close(held)
    assert told(late) == ("", "", 0)


def waits_for(folder: Path) -> bool:
    """Whether a process waits for a folder's lock."""
    inode = folder.stat().st_ino
    return any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_what_is_started_holds_the_volume_no_longer(entered: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    assert told(entered(tmp_path / "volume", "flock", "--nonblock", ".", "echo", "is free")) == ("is free\n", "", 0)


def test_a_project_of_somebodys_own_without_dvc_is_left_alone(entered: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/dvc.yaml").write_text("mine")
    said, complained, code = told(entered(tmp_path / "mine", "ls"))
    assert (said, code) == ("", 2)
    assert "holds dvc.yaml, but no .dvc: run 'git init && dvc init' in your project first" in complained
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["dvc.yaml"]
