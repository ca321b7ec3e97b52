"""What a run must record so that it can be repeated: code, lock, Python, platform, threads."""

import os
import platform
import subprocess
from pathlib import Path

from mlops_pipeline.files import sha256_of_file


def environment_facts(project: Path, lock: Path) -> dict[str, str]:
    """Git commit and whether the tree was dirty, the lock's digest, Python, platform and thread count, as tags."""
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
        facts["git_dirty"] = str(bool(_git(project, "status", "--porcelain", "--untracked-files=no"))).lower()
    elif os.environ.get("MLOPS_GIT_COMMIT"):  # an image knows what it was built from, and holds no repository
        facts["git_commit"] = os.environ["MLOPS_GIT_COMMIT"]
    return facts


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
