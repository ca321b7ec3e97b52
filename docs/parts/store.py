"""A store of records of one's own: a folder of JSON lines, one file a run of a worker, that other tools read as they are."""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import store
from mlops_pipeline.records.encoding import Columns, Row
from mlops_pipeline.records.query import Filter, Recorded, columns_of, recorded
from mlops_pipeline.records.store import StoreError

FIELDS = ("time", "request_id", "model", "version", "rows", "latency_us", "error")


class Lines(Frozen):
    """Its settings, below record.settings."""

    prefix: str = Field("records", min_length=1, description="what the names of its files begin with")


def folder_of(where: str) -> Path:
    """The folder of ``lines:///a/folder``, or a folder as it stands."""
    return Path(where.removeprefix("lines://"))


class Written:
    """What is recorded, read line by line, so that memory stays bounded."""

    def __init__(self, files: list[Path], wanted: Filter) -> None:
        self._files, self._wanted = files, wanted
        self.layouts = list({layout.digest(): layout for _, layout in self._all() if layout is not None}.values())

    def requests(self, limit: int | None) -> Iterator[Recorded]:  # noqa: ARG002  # more than a limit will do
        """All of them: a limit only says how many would do."""
        for line, layout in self._all():
            yield recorded([line[name] for name in FIELDS], layout, base64.b64decode(line["blob"]))

    def _all(self) -> Iterator[tuple[dict[str, Any], Columns | None]]:
        for file in self._files:
            seen: set[int] = set()
            with file.open("rb") as lines:
                for text in lines:
                    if not text.endswith(b"\n"):
                        break  # a kill left half a line, which was never acknowledged
                    line = json.loads(text)
                    if line["count"] not in seen and self._wanted.takes(line["time"], line["model"], line["version"]):
                        yield line, columns_of(line["columns"]) if line["columns"] else None
                    seen.add(line["count"])  # a group that came again is there twice


@contextmanager
def read_lines(where: str, wanted: Filter, settings: Lines) -> Iterator[Written]:
    """Open what is recorded."""
    yield Written(sorted(folder_of(where).glob(f"{settings.prefix}.*.jsonl")), wanted)


@store("lines", reader=read_lines, schemes=("lines",), settings=Lines)
class LineFiles:
    """A folder of JSON lines, one file a run of a worker."""

    def __init__(self, where: str, worker: int, token: str, settings: Lines) -> None:
        self._folder = folder_of(where)
        self._path = self._folder / f"{settings.prefix}.{worker}.{token}.jsonl"
        self._end: int | None = None

    def open(self) -> None:
        """Make the folder, so that what is wrong shows before the first request."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            if self._end is None:  # a writer that was killed may have left half a line
                self._end = self._path.read_bytes().rfind(b"\n") + 1
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}: let the server write there") from error

    def write(self, first: int, rows: Sequence[Row], layouts: Mapping[int, Columns]) -> None:
        """Write a group; on return it outlives a loss of power. The same group may come again."""
        lines = []
        for count, (*small, number, blob) in enumerate(rows, first):
            columns = layouts.get(number)
            kept = {"columns": columns.as_json() if columns else None, "blob": base64.b64encode(bytes(blob)).decode()}
            lines.append(json.dumps({"count": count, **dict(zip(FIELDS, small, strict=True)), **kept}))
        self.open()
        try:
            with self._path.open("r+b") as file:
                file.truncate(file.seek(min(self._end or 0, file.seek(0, os.SEEK_END))))  # without half a group that did not fit
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
                self._end = file.tell()
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}: let the server write there") from error

    def close(self) -> None:
        """Nothing is open between groups."""
