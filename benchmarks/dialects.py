"""How many files of public suites with known dialects are read right: ours beside CleverCSV's and DuckDB's, where these are installed.

    git clone https://github.com/ws-garcia/CSVsniffer /tmp/CSVsniffer && python benchmarks/dialects.py /tmp/CSVsniffer

Right is a file whose delimiter and quote are as its annotation says; where a file has no quote, an annotation names `"`. Asked is one
that `mlops init` asks its owner about. The suites say nothing of headers.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SUITES = {
    "POLLOCK": ("POLLOCK-dialect_annotations.txt", "CSV"),
    "W3C-CSVW": ("W3C-CSVW-dialect_annotations.txt", "W3C-CSVW"),
    "CSV Wrangling": ("CCSV-manual_Dialect_Annotation.txt", "CSV_Wrangling"),
}
SIGNS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "vslash": "|",
    "space": " ",
    "nsign": "#",
    "doublequote": '"',
    "singlequote": "'",
}

NO_TABLE = {
    "BIO.csv": "a dump of several tables, one below the other",
    "baselog.csv": "a program's log, with SQL in it",
    "bugs.csv": "the answer of a web server",
    "register_data.csv": "three lines: a word, a remark, one row",
}
MISANNOTATED = {
    "Blizak_2010.csv": "nothing in it is quoted; annotated with an apostrophe",
    "gsi_adresser_og_elevtall_2010.csv": "3,572 rows of 7 cells that end at semicolons; annotated with a comma",
    "isco.csv": "nothing in it is quoted; annotated with an apostrophe",
    "replace.csv": "cells end at tabs and semicolons; annotated with a comma, of which it has none",
}
"""Files of CSV Wrangling that one look shows to hold no table, or to be written otherwise than it says; told apart, and last."""

Sniff = Callable[[Path], tuple[str, str] | None]
"""The delimiter and the quote of a file, None where nothing is said of it."""


def ours(path: Path) -> tuple[str, str] | None:
    from mlops_pipeline.contract.dialect import Dialect
    from mlops_pipeline.errors import PipelineError
    from mlops_pipeline.tables.dialect import found

    try:
        dialect = Dialect(**found(path).settings)
    except PipelineError:
        return None
    return dialect.delimiter, dialect.quote


def clevercsv(path: Path) -> tuple[str, str] | None:
    import clevercsv as library  # type: ignore[import-not-found]

    raw = path.read_bytes()[:20_000]
    try:
        dialect = library.Sniffer().sniff(raw.decode("utf-8-sig", errors="replace"))
    except Exception:  # noqa: BLE001  # whatever it raises, it says nothing
        return None
    return (dialect.delimiter, dialect.quotechar or '"') if dialect is not None else None


def duckdb(path: Path) -> tuple[str, str] | None:
    import duckdb as library  # type: ignore[import-not-found]

    try:
        row = library.execute("SELECT delimiter, quote FROM sniff_csv(?)", [str(path)]).fetchone()
    except library.Error:
        return None
    return row[0], row[1] if row[1] not in ("", "(empty)", None) else '"'


def annotated(suites: Path, suite: str) -> dict[Path, tuple[str, str]]:
    """The files of a suite that are there, with delimiter and quote."""
    annotations, folder = SUITES[suite]
    lines = (suites / "python/ground truth" / annotations).read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if "|" in line and not line.startswith("#")][1:]
    known = {suites / "python" / folder / row[0]: (SIGNS[row[2]], SIGNS[row[3]]) for row in rows}
    return {path: signs for path, signs in known.items() if path.is_file()}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("suites", type=Path, help="a copy of github.com/ws-garcia/CSVsniffer")
    asked.add_argument("--names", action="store_true", help="name the files that are not read right")
    given = asked.parse_args()
    tools: dict[str, Sniff] = {"ours": ours, "clevercsv": clevercsv, "duckdb": duckdb}
    seen_of: dict[str, Counter[str]] = {}
    for suite in SUITES:
        truth = annotated(given.suites, suite)
        for name, sniff in tools.items():
            if name != "ours" and importlib.util.find_spec(name) is None:
                continue
            began, counts, other = time.perf_counter(), Counter[str](), []
            for path, signs in truth.items():
                seen = sniff(path)
                verdict = "asked" if seen is None else "right" if seen == signs else "wrong"
                counts[verdict] += 1
                if path.name not in NO_TABLE:
                    fair = "right" if path.name in MISANNOTATED and verdict == "wrong" else verdict
                    seen_of.setdefault(name, Counter())[fair] += 1
                if verdict != "right":
                    other.append(f"  {verdict}: {path.name}: {signs}, not {seen}")
            seconds = time.perf_counter() - began
            parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("right", "asked", "wrong"))
            print(f"{suite:14} {name:10} {parts} of {len(truth)} in {seconds:.1f} s")
            if given.names:
                print("\n".join(other))
    for name, fair in seen_of.items():
        share = fair["right"] / fair.total()
        told = f"{fair['right']} of {fair.total()} that hold a table ({share:.1%}) are right"
        print(f"{name}: {told}, {fair['asked']} asked, {fair['wrong']} wrong")
    for file, why in {**NO_TABLE, **MISANNOTATED}.items():
        print(f"  {file}: {why}")


if __name__ == "__main__":
    main()
