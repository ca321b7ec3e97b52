"""Virtual environments of the peers: made at first use, kept, made anew when their list of packages changes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import BIN, environment

HERE = Path(__file__).resolve().parent
PYTHON = "3.11"


def packages(name: str) -> Path:
    """The pinned packages of a peer."""
    return HERE / "peers" / f"{name}.txt"


def peer(name: str) -> Path:
    """The folder of a peer's programs, made if need be."""
    folder, wanted = HERE / ".peers" / name, packages(name).read_text()
    installed = folder / "packages.txt"
    if not installed.is_file() or installed.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", PYTHON, str(folder))
        _uv("pip", "install", "--compile-bytecode", "--python", str(folder / "bin/python"), "-r", str(packages(name)))
        installed.write_text(wanted)
    return folder / "bin"


def library(name: str) -> Path:
    """A folder with a library that is tried beside our own environment, made if need be."""
    folder = HERE / ".peers" / name
    if not folder.is_dir():
        into = ("--python", str(BIN / "python"), "--target", str(folder))
        _uv("pip", "install", "--compile-bytecode", "--no-deps", *into, "-r", str(packages(name)))
    return folder


def _uv(*words: str) -> None:
    done = subprocess.run([BIN / "uv", *words], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(words)} failed: {done.stderr.strip()[-1000:]}")
