"""Clone, type every row, print the table.

python3 -m acceptance                          every row; 1 if one fails
python3 -m acceptance --only prefect           what contains a text, and what it needs
python3 -m acceptance --output acceptance.md   the table as Markdown too
"""

from __future__ import annotations

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    # Here, as what is imported next is not there before 3.11.
    print(f"error: {sys.executable} is not Python 3.11, 3.12 or 3.13: name one, e.g. make acceptance PYTHON=python3.12", file=sys.stderr)
    sys.exit(2)

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from pathlib import Path

from acceptance import commands, interfaces, tree
from acceptance.promises import Result, Row, Unmet, as_markdown, as_text, chosen, closing_line, missing_need
from acceptance.session import Session, base_python, environment, package_access


def main() -> int:
    """Type the rows; the exit code."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    rows = chosen(
        [*commands.rows(asked.suite, asked.full), *tree.rows(asked.notebooks), *interfaces.rows()],
        asked.only,
        again=asked.again is not None,
    )
    if not rows:
        return refused(f"--only {', '.join(asked.only)}: no row contains it: leave it out to see all")
    if asked.again and not (asked.again / "clone/.git").exists():
        return refused(f"--again {asked.again}: holds no clone: name a folder that --keep left")
    if asked.output and not asked.output.absolute().parent.is_dir():
        return refused(f"--output {asked.output}: its folder is not there: make it, or name another")
    folder = asked.again.absolute() if asked.again else Path(tempfile.mkdtemp(prefix="acceptance-"))
    try:
        head = cloned(asked.repository, folder, again=asked.again is not None)
        print(head, flush=True)
        session = session_in(folder)
        results = typed(rows, session)
    finally:
        if asked.keep or asked.again:
            print(f"kept: {folder} (go on there with --again {folder})")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    closing = closing_line(results, time.monotonic() - began)
    print(f"\n{as_text(results, shutil.get_terminal_size((150, 50)).columns)}\n\n{closing}")
    if asked.output:
        asked.output.write_text(as_markdown(results, session.public(head), closing), encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


def refused(why: str) -> int:
    """Say in one line why nothing is typed; the exit code."""
    print(f"error: {why}", file=sys.stderr)
    return 2


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python3 -m acceptance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="tests/", help="what pytest is given (default: tests/)")
    parser.add_argument("--notebooks", default="", help="which notebooks are run again (default: all; small: one of a single cell)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="rows that contain this, and those that they need; may be said again"
    )
    parser.add_argument(
        "--full", action="store_true", help="install with the pip that Python brings, and on the other Pythons of this machine, too"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the table as Markdown, too")
    parser.add_argument("--repository", type=Path, default=Path.cwd(), help="what is cloned (default: here)")
    parser.add_argument("--keep", action="store_true", help="leave the clone where it is")
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="go on in a clone that --keep has left, without what rows need")
    return parser.parse_args()


def cloned(repository: Path, folder: Path, *, again: bool) -> str:
    """Clone HEAD into an empty folder, unless it is there from before; what was cloned, in a line."""

    def git(where: Path, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(refused(f"{where}: {' '.join(done.stderr.split())}: name a Git repository with --repository"))
        return done.stdout.strip()

    place = folder / "clone"
    if again:
        return f"again the clone of {git(place, 'log', '-1', '--format=%h %s')} in {folder}"
    git(repository, "clone", "--quiet", "--no-hardlinks", git(repository, "rev-parse", "--show-toplevel"), str(place))
    changed = git(repository, "status", "--porcelain").splitlines()
    left_out = f"; {len(changed)} files are changed or new and not committed: they are not in it" if changed else ""
    return f"a fresh clone of {git(place, 'log', '-1', '--format=%h %s')}{left_out}"


def session_in(folder: Path) -> Session:
    """A session with a home of its own, so that nothing is written into the user's."""
    home, scratch = folder / "home", folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for place in (home, scratch):
        place.mkdir(exist_ok=True)
    return Session(folder / "clone", scratch, environment(os.environ, home, base_python()), package_access(os.environ))


def typed(rows: list[Row], session: Session) -> list[Result]:
    """Every row's result, told as soon as it is known."""
    results: list[Result] = []
    failed: set[str] = set()
    for row in rows:
        need = missing_need(row, failed)
        result = Result(row, False, f"not typed: «{need}» failed", 0.0) if need else one(row, session)
        results.append(result)
        print(result.line(), flush=True)
        if not result.passed:
            failed.add(row.name)
            print(textwrap.indent(result.detail, "    "), flush=True)
    return results


def one(row: Row, session: Session) -> Result:
    """Type a row's lines and look at what they did."""
    session.begin(row.within, installs=row.installs)
    began = time.monotonic()
    try:
        seen, passed = row.check(session, *row.types), True
    except Unmet as unmet:
        seen, passed = str(unmet), False
    except Exception as error:  # noqa: BLE001  # whatever an answer lacks, the row fails and the others go on
        seen, passed = f"what it answered is not what was expected: {type(error).__name__}: {error}", False
    seconds, detail = time.monotonic() - began, "" if passed else session.public(session.detail())
    return Result(row, passed, type(seen)(session.public(seen)), seconds, detail)


if __name__ == "__main__":
    sys.exit(main())
