"""What a run must record so that it can be repeated: code, lock, Python, platform, threads."""

import os
import platform
import subprocess
from pathlib import Path

from mlops_pipeline.files import sha256_of_file


def environment_facts(project: Path, lock: Path, config: Path) -> dict[str, str]:
    """Git commit and whether the tree was dirty, the lock's digest, Python, platform and thread count, as tags.

    A configuration that Git does not track makes the tree dirty: the commit does not hold what the run was told.
    What Git does not say is left out.
    """
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", ""),
    }
    if lock.exists():
        facts["lock_sha256"] = sha256_of_file(lock)
    commit = _git(project, "rev-parse", "HEAD")
    if commit is not None:
        facts["git_commit"] = commit
        facts |= _state(project, config)
    elif os.environ.get("MLOPS_GIT_COMMIT"):  # an image knows what it was built from, and holds no repository
        facts["git_commit"] = os.environ["MLOPS_GIT_COMMIT"]
    return facts


def _state(project: Path, config: Path) -> dict[str, str]:
    """Whether the tree is dirty, and whether the configuration is in Git: in the project's repository, or in one of its own."""
    place = config.resolve().parent
    inside = _git(place, "rev-parse", "--show-toplevel") is not None
    tracked = inside and _git(place, "ls-files", "--error-unmatch", "--", f":(literal){config.name}") is not None
    changes = _git(project, "status", "--porcelain", "--untracked-files=no")
    if tracked and changes == "":  # a repository inside the project's has its own changes
        changes = _git(place, "status", "--porcelain", "--untracked-files=no", "--", f":(literal){config.name}")
    facts = {"config_in_git": "tracked" if tracked else "not tracked" if inside else "outside any repository"}
    if not tracked or changes is not None:
        facts["git_dirty"] = str(not tracked or bool(changes)).lower()
    return facts


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
