"""The record of predictions: what an entry costs the server's loop, beside the obvious way to write it.

    python benchmarks/record.py [--rate 15000] [--seconds 6] [--rows 1] [--categories 3] [--folder DIR] [--uri postgresql://...]

One thread stands for the loop of a worker: it adds entries at the given rate and computes in Python for the rest of its
time. What it gets done then, beside what it gets done when it only makes the entries, is what the record leaves it. Floors,
measured in the same run: no record at all; and the obvious way, where the loop appends to a list and a thread of the same
process writes it with ``executemany`` into the same tables.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from measure import REPOSITORY

from mlops_pipeline.records.encoding import encode, form_of, read_rows, recorded_columns
from mlops_pipeline.records.entry import Entry, RecordLayout
from mlops_pipeline.records.process import open_store
from mlops_pipeline.records.sqlite import SQLiteFiles
from mlops_pipeline.serving.record import Recorder

ROUNDS = 3
PIECE = 2000
"""Steps of the loop's own work between two looks at the clock: about 40 µs."""


class Service:
    """What a request's entry is made of."""

    def __init__(self, rows: int, categories: int) -> None:
        names = tuple(f"kind{k}" for k in range(categories))
        self.layout = RecordLayout("a" * 64, "binary", tuple(f"n{k}" for k in range(30)), names, frozenset(), ("no", "yes"))
        rng = np.random.default_rng(0)
        self.rows = rows
        self.numbers = rng.normal(size=(rows, 30)).astype(np.float32)
        self.outputs = rng.random((rows, 2)).astype(np.float32)
        self.categories = np.full((rows, categories), "JFK", object)
        self.count = 0

    def entry(self) -> Entry:
        self.count += 1
        return Entry(
            f"{self.count:032x}", time.time(), 812, "champion", "3", self.layout, self.rows,
            self.numbers.copy(), self.categories.copy(), self.outputs.copy(), None, "",
        )  # fmt: skip


class Plain:
    """The obvious way: a list, a thread, executemany."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.files = SQLiteFiles(folder, 0, "0" * 32)
        self.form = form_of(service.layout, 1)
        self.columns = {1: recorded_columns(service.layout)}
        self.entries: list[Entry] = []
        self.written = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def work(self) -> None:
        while not self.ending.wait(0.03) or self.entries:
            group, self.entries = self.entries, []
            if group:
                rows = read_rows(len(group), b"".join(encode(entry, self.form) for entry in group))
                self.files.write(self.written, rows, self.columns)
                self.written += len(group)
        self.files.close()

    def close(self) -> None:
        self.ending.set()
        self.thread.join()


async def busy(service: Service, add: Callable[[Entry], Any], rate: float, seconds: float) -> tuple[float, float]:
    """Pieces of work a second of a loop that is never idle, and the longest turn of the loop in milliseconds."""
    began = turn = time.perf_counter()
    done, sent, longest = 0, 0, 0.0
    while (now := time.perf_counter()) - began < seconds:
        longest, turn = max(longest, now - turn), now
        while sent < (now - began) * rate:
            add(service.entry())
            sent += 1
        for _ in range(PIECE):
            pass
        done += 1
        await asyncio.sleep(0)
    return done / (time.perf_counter() - began), 1e3 * longest


@contextmanager
def folder_in(place: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlops-record-", dir=place) as name:
        yield Path(name)


async def cost_of_add(service: Service, where: Any, entries: int) -> tuple[float, float]:
    """Microseconds of ``add``, and entries a second that are committed when the loop does nothing else."""
    loop = asyncio.get_running_loop()
    made = await recorder(where, loop, durable=True)
    ready: Sequence[Entry] = [service.entry() for _ in range(entries)]
    began = time.perf_counter()
    for start in range(0, entries, 50):
        for entry in ready[start : start + 50]:
            made.add(entry)
        await asyncio.sleep(0)
    added = time.perf_counter() - began
    await made.close()
    return 1e6 * added / entries, entries / (time.perf_counter() - began)


async def closed_loop(service: Service, where: Any, clients: int, seconds: float) -> tuple[float, float]:
    """Durable answers a second of so many clients, each waiting for its answer, and the median wait in milliseconds."""
    loop = asyncio.get_running_loop()
    made = await recorder(where, loop, durable=True)
    ending = time.perf_counter() + seconds
    waits: list[float] = []

    async def client() -> None:
        while (began := time.perf_counter()) < ending:
            await asyncio.shield(made.add(service.entry()))  # type: ignore[arg-type]
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    await made.close()
    return len(waits) / seconds, 1e3 * statistics.median(waits)


async def recorder(where: Any, loop: asyncio.AbstractEventLoop, *, durable: bool) -> Recorder:
    """A recorder whose writer is up."""
    made = Recorder(open_store(where, 0), loop, durable=durable, loss_ms=200, max_bytes=1 << 30)
    made.start()
    made.add(Entry("first", time.time(), 0, "champion", "3", None, 0))
    while made.pending:
        await asyncio.sleep(0.01)
    return made


async def compare(arguments: argparse.Namespace) -> None:
    service = Service(arguments.rows, arguments.categories)
    loop = asyncio.get_running_loop()
    rate, seconds = arguments.rate, arguments.seconds
    print(f"{rate:,} entries/s of {service.rows} row(s) of 30 numbers and {arguments.categories} categories, {seconds} s, {ROUNDS} rounds")
    shares: dict[str, list[float]] = {"durable": [], "relaxed": [], "thread": []}
    turns: dict[str, list[float]] = {name: [] for name in ("nothing", *shares)}
    kept: dict[str, list[float]] = {name: [] for name in shares}
    for _ in range(ROUNDS):
        alone, longest = await busy(service, lambda _: None, rate, seconds)
        turns["nothing"].append(longest)
        for name, lost in shares.items():
            with folder_in(arguments.folder) as folder:
                began = time.perf_counter()
                if name == "thread":
                    plain = Plain(folder, service)
                    rest, longest = await busy(service, plain.add, rate, seconds)
                    plain.close()
                    written = plain.written
                else:
                    made = await recorder(arguments.uri or folder, loop, durable=name == "durable")
                    rest, longest = await busy(service, made.add, rate, seconds)
                    await made.close()
                    written = made.written
                kept[name].append(written / (time.perf_counter() - began))
            lost.append(1 - rest / alone)
            turns[name].append(longest)
    print(f"  no record: longest turn of the loop {statistics.median(turns['nothing']):.1f} ms")
    for name, lost in shares.items():
        print(
            f"  {name}: the loop loses {statistics.median(lost):.1%} of its time ({1e6 * statistics.median(lost) / rate:.1f} µs an entry), "
            f"{statistics.median(kept[name]):,.0f} entries/s on disk, longest turn {statistics.median(turns[name]):.1f} ms"
        )
    ratio = statistics.median(shares["relaxed"]) / max(1e-9, statistics.median(shares["thread"]))
    print(f"  relaxed against a thread with executemany: {ratio:.2f} of its cost")
    with folder_in(arguments.folder) as folder:
        add, most = await cost_of_add(service, arguments.uri or folder, 60_000 // (1 + service.rows // 10))
    print(f"add: {add:.2f} µs; {most:,.0f} entries/s committed when the loop only adds")
    for clients in (1, 16, 64):
        with folder_in(arguments.folder) as folder:
            answers, wait = await closed_loop(service, arguments.uri or folder, clients, 3)
        print(f"durable, {clients} clients that wait: {answers:,.0f} answers/s, median wait {wait:.2f} ms")
    print(f"one write of 4 KiB with fdatasync there: {fsync_ms(arguments.folder):.2f} ms")


def fsync_ms(place: str | None) -> float:
    with folder_in(place) as folder:
        handle = os.open(folder / "file", os.O_RDWR | os.O_CREAT)
        taken = []
        for _ in range(100):
            began = time.perf_counter()
            os.write(handle, b"x" * 4096)
            os.fdatasync(handle)
            taken.append(1e3 * (time.perf_counter() - began))
        os.close(handle)
    return statistics.median(taken)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rate", type=int, default=15_000)
    arguments.add_argument("--seconds", type=float, default=6)
    arguments.add_argument("--rows", type=int, default=1)
    arguments.add_argument("--categories", type=int, default=3)
    arguments.add_argument("--folder", help="where the files are made; default: the system's folder for temporary files")
    arguments.add_argument("--uri", help="a PostgreSQL address instead")
    uvloop.run(compare(arguments.parse_args()))


if __name__ == "__main__":
    print(f"{REPOSITORY.name}: SQLite {sqlite3.sqlite_version}")
    main()
