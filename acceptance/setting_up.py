"""What sets up: the lock and its packages, other Pythons, the README's first commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from acceptance.promises import InPart, Unmet, expect
from acceptance.session import Session

STAGES = ["ingest", "validate", "split", "train", "evaluate", "register"]
MINORS = (11, 12, 13)
LOCKED_ON = 11
"""A model folder names the Python that it was made with, and so the committed dvc.lock is that of one Python."""

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")


def locked(text: str) -> dict[str, set[str]]:
    """The versions that a lock pins by normalised name. Raises :class:`Unmet` for a pin without a hash, or a line that names an index."""
    pins: dict[str, set[str]] = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        expect(not re.match(r"\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", entry), f"the lock names an index: {entry}")
        pin = PIN.match(entry)
        if pin is None or "--hash=sha256:" not in entry:
            raise Unmet(f"the lock has an entry without version or hash: {entry[:100]}")
        pins.setdefault(normalised(pin[1]), set()).add(pin[2])
    return pins


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def set_up(at: Session, venv: str, install: str, install_itself: str) -> str:
    at.type(venv)
    pip = at.type("pip --version").out.split()[1]
    at.type(install)
    at.type(install_itself)
    pins = locked((at.folder / "requirements.txt").read_text())
    found = installed_from(at, pins)
    at.type("pip check")
    version = at.type("python -V").out.split()[1]
    at.type("mlops --help")
    return f"{found} packages, each of the locked version, by hash; no index lines; `pip check` finds nothing (pip {pip}, Python {version})"


def installed_from(at: Session, pins: dict[str, set[str]], python: str = "python") -> int:
    """How many packages are installed, all of them as locked, but for pip's own and the project."""
    listed = json.loads(at.type(f"{python} -m pip list --format json --disable-pip-version-check").out)
    found = {normalised(package["name"]): package["version"] for package in listed}
    strays = {name: version for name, version in found.items() if version not in pins.get(name, set())}
    for name in ("pip", "setuptools", "wheel", "mlops-pipeline"):
        strays.pop(name, None)
    expect(not strays, f"installed, and not as locked: {strays}")
    expect(len(found) > 50, f"only {len(found)} packages are installed")
    return len(found)


def other_pythons(environ: dict[str, str], own: int) -> dict[int, str]:
    """The other Pythons of the contract on this machine that start."""
    found: dict[int, str] = {}
    for minor in MINORS:
        name = f"python3.{minor}"
        root = Path(environ.get("PYENV_ROOT") or os.environ.get("PYENV_ROOT") or Path(os.environ.get("HOME", "/")) / ".pyenv")
        candidates = [shutil.which(name, path=environ["PATH"]), *sorted(map(str, root.glob(f"versions/3.{minor}.*/bin/{name}")))]
        for candidate in filter(None, candidates):
            words = [candidate, "-c", "import sys, venv; print(sys.version_info[1])"]
            done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
            if minor != own and done.stdout.strip() == str(minor):
                found[minor] = candidate
                break
    return found


def other_versions(full: bool) -> Any:
    def resolved(at: Session, *lines: str) -> str:
        own = int(at.type("python -c 'import sys; print(sys.version_info[1])'").out)
        seen = []
        if full:
            there = other_pythons(at.environ, own)
            for minor, python in there.items():
                at.settings["OTHER"] = python
                for line in lines:
                    at.type(line)
                count = installed_from(at, locked((at.folder / "requirements.txt").read_text()), '"$SCRATCH"/other/bin/python')
                seen.append(f"3.{minor}: {count} packages installed by hash, `pip check` and the imports pass")
                shutil.rmtree(at.scratch / "other")
            absent = [f"3.{minor}" for minor in MINORS if minor != own and minor not in there]
            if not absent:
                return "; ".join(seen)
            lacking = f"not installed, as not on this machine: {', '.join(absent)}"
            expect(at.environ.get("MLOPS_TEST_STRICT") != "1", lacking)
            return InPart("; ".join([*seen, lacking]))
        at.type(lines[0])
        for minor in MINORS:
            if minor == own:
                continue
            at.settings["OTHER"] = f"3.{minor}"
            said = at.type(lines[1]).said
            count = len(re.findall(r"^ \+ ", said, re.MULTILINE))
            expect(count > 50, f"uv would install only {count} packages on Python 3.{minor}")
            seen.append(f"3.{minor}: {count}")
        return f"resolves with hashes, not installed (`--full` does): {', '.join(seen)} packages"

    return resolved


def readme_run(at: Session, clone: str, run: str, again: str, status: str) -> str:
    at.type(clone)
    folder = at.scratch / "readme"
    first = at.type(run, folder=folder)
    ran = re.findall(r"^▸ (\w+)", first.out, re.MULTILINE)
    expect(ran == STAGES, f"`make run` told of the stages {ran}")
    figure = re.search(r"roc_auc (0\.\d+)", first.out)
    champion = re.search(r"flights version (\d+): champion", first.out)
    if figure is None or champion is None:
        raise Unmet("`make run` told no roc_auc or no champion")
    expect((folder / "models/artifacts/report.html").stat().st_size > 10_000, "there is no report.html")
    second = at.type(again, folder=folder)
    expect(second.out.count("up to date") == len(STAGES) and "▸" not in second.out, "a second `make run` did something")
    minor = int(at.type(".venv/bin/python -c 'import sys; print(sys.version_info[1])'", folder=folder).out)
    changed = at.type(status, folder=folder).out.splitlines()
    expect(changed == [] or (minor != LOCKED_ON and changed == [" M dvc.lock"]), f"the tree is not clean afterwards: {changed}")
    tree = "the tree is clean" if not changed else f"dvc.lock notes the model of Python 3.{minor}, the committed one is of 3.{LOCKED_ON}"
    shutil.rmtree(folder)
    return (
        f"six stages in {first.seconds:.0f} s with the set-up, roc_auc {figure[1]}, version {champion[1]} champion, report.html; "
        f"again: nothing to do, {second.seconds:.1f} s; {tree}"
    )


def tests_parts(at: Session, install: str) -> str:
    at.type(install)
    count = installed_from(at, locked((at.folder / "requirements-dev.txt").read_text()))
    return f"{count} packages as locked, by hash"
