"""Files on disk: digests, and writes that leave either the old content or the new one, never half."""

import ctypes
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mlops_pipeline.errors import PipelineError


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


FOR_ALL, FOR_ITS_OWNER = 0o644, 0o600
"""Who may read a file: everybody, or its owner alone."""


@contextmanager
def replacing(path: Path, mode: int = FOR_ALL) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, its owner's alone, that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, *, on_disk: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``folder`` that takes its place when the block ends without an error.

    The old folder goes first, so a kill between the two steps leaves none: a missing output makes its stage run again.
    ``on_disk``: the names of the folder and of what lies in it are on the disk then, as files are that :func:`durable` wrote.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        if on_disk:
            sync(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        if on_disk:
            sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def swap(new: Path, place: Path) -> None:
    """Put a folder in the place of another in one step; the old one is then where the new one was.

    Linux exchanges two names at once (renameat2(2), RENAME_EXCHANGE). Where that is not to be had, the place is empty
    for the moment between two renames.
    """
    if not place.exists():
        new.rename(place)
        return
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, at_once = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if exchange is not None and exchange(here, os.fsencode(new), here, os.fsencode(place), at_once) == 0:
        return
    aside = place.with_name(f".{place.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    new.rename(place)
    aside.rename(new)


@contextmanager
def durable(path: Path, mode: int = FOR_ALL) -> Iterator[BinaryIO]:
    """Open a new file to write; when the block ends its content is on the disk, and its name when its folder is (:func:`sync`)."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def replace_durably(path: Path, content: bytes, mode: int = FOR_ALL) -> None:
    """Write a file so that a reader sees the old or the new one, the new on the disk; its name is when its folder is (:func:`sync`)."""
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    with durable(new, mode) as stream:
        stream.write(content)
    new.replace(path)


def linked(old: Path, new: Path) -> bool:
    """Give a file a second name; False on another file system, or one without links."""
    try:
        new.hardlink_to(old)
    except OSError:
        return False
    return True


def sync(folder: Path) -> None:
    """See to it that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_own_folder(folder: Path) -> None:
    """Make the folder, its owner's alone, its name as durable as what will lie in it."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(0o700, parents=True, exist_ok=True)
    for path in new:
        sync(path.parent)


def make_own_file(path: Path) -> None:
    """See to it that a file, which may be SQLite's and not opened yet, is its owner's alone, with what SQLite keeps beside it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FOR_ITS_OWNER))
    for file in (path, *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm", "journal"))):
        # One of before may be another's, whom it is left to.
        with suppress(FileNotFoundError, PermissionError):
            file.chmod(FOR_ITS_OWNER)


def text_of(path: Path) -> str:
    """What a text file holds. Raises :class:`PipelineError` if it is not UTF-8, as what PowerShell writes is not."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None


def time_and_size(path: Path) -> tuple[int, int] | None:
    """By what an edit of a file is noticed: when it was written, in ns, and how many bytes it has; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, keys in the order given; NaN becomes null."""
    write_text(path, json.dumps(_without_nan(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def in_json(value: Any) -> Any:
    """A value as JSON has it: keys as text, NumPy's numbers as Python's, None for a number that is not finite."""
    if isinstance(value, dict):
        return {str(key): in_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
