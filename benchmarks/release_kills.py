"""Releases whose controller, workers, server and database are killed at random: `python -m benchmarks.release_kills --releases 50`.

Two versions take turns as champion while a client asks all the time. After at most three kills a release is carried on to its end; then its
steps must be the policy's, one version champion, the one that the table says, and no transition untold; no answer may be a 5xx.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import Project, process_environment, trained
from tests.forked import Forking
from tests.integration_tests.conftest import postgresql_server
from tests.integration_tests.release_kills import PostgreSQL, kill_releases


def _project(there: Path | None, folder: Path) -> Project:
    if there is not None:
        return Project(there, there / "pipeline.yaml")
    project = trained(folder)
    project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
    project.run("--then", "challenger")
    return project


def main() -> None:
    """Print how many kills hit what, and what was wrong; exit status 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--postgresql", action="store_true", help="table and record are there, and it is killed; else a file that is held")
    parser.add_argument("--project", type=Path, help="one that has versions 1 and 2, one of them champion; made here by default")
    asked = parser.parse_args()
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="mlops-release-kills-") as temporary:
        folder = Path(temporary)
        project = _project(asked.project, folder / "project")
        forking = Forking(process_environment())
        try:
            database = None
            if asked.postgresql:
                server = stack.enter_context(postgresql_server())
                database = PostgreSQL(server, str(server.get_uri()))
            began = time.perf_counter()
            seen = kill_releases(project, folder / "released", forking, asked.releases, asked.seed, database)
        finally:
            forking.end()
    hit = ", ".join(f"{count} {what}" for what, count in sorted(seen.kills.items()))
    answers = ", ".join(f"{count:,} of {status}" for status, count in sorted(seen.answers.items()))
    states = ", ".join(f"{count} {state}" for state, count in sorted(seen.states.items()))
    said = "; ".join(seen.wrong) or "every state of the policy, one champion, no transition untold"
    print(f"{asked.releases} releases ({states}), killed: {hit}; answers: {answers}; {time.perf_counter() - began:.0f} s: {said}")
    raise SystemExit(bool(seen.wrong))


if __name__ == "__main__":
    main()
