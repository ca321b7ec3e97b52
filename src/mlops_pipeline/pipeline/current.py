"""That every stage is up to date, kept with the state of every file that DVC looked at: while none has changed, it need not look again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mlops_pipeline.files import write_text

State = tuple[int, int, int] | None
"""When a file or a folder was written, in ns, its bytes, and its inode, by which DVC knows a file again, too; None where there is none."""


def states(files: Iterable[Path], folders: Iterable[Path] = ()) -> dict[str, State]:
    """The state of some files, of all that lies in those that are folders, and of the folders alone in others, two levels deep, by path.

    A folder's own state changes when a name is added to it or taken away.
    """
    found: dict[str, State] = {}
    for path in files:
        _add(os.fspath(path), found, levels=None)
    for path in folders:
        _add(os.fspath(path), found, levels=1)
    return found


def _add(path: str, found: dict[str, State], levels: int | None) -> None:
    found[path] = _state(path)
    if levels == 0:
        return
    try:
        there = list(os.scandir(path))
    except OSError:  # it is a file, or is not there
        return
    for entry in there:
        if levels is None or entry.is_dir():
            _add(entry.path, found, None if levels is None else levels - 1)


def _state(path: str) -> State:
    try:
        there = Path(path).stat()
    except OSError:
        return None
    return there.st_mtime_ns, there.st_size, there.st_ino


def keep(file: Path, known: Mapping[str, State]) -> None:
    """Keep the states by which all was up to date; where nothing can be written, DVC is asked again."""
    with suppress(OSError):
        write_text(file, json.dumps(known))


def kept(file: Path) -> dict[str, State] | None:
    """What was kept, if every file is still as it was then, and None otherwise."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known: dict[str, State] = {path: state and tuple(state) for path, state in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return known if known and all(_state(path) == state for path, state in known.items()) else None
