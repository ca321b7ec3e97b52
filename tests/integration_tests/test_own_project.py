"""A project of one's own: the built wheel in an environment of its own, a folder made by `mlops new`, and every command typed in it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml
from dvc.repo import Repo
from rich.console import Console

from mlops_pipeline.config.finding import PIPELINE
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.config.release import Releases, load_releases
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline.cache import Cache
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.pipeline.runner import run
from mlops_pipeline.project import new, upgrade, write
from tests.conftest import BIN, REPOSITORY, lacking, make_project, unused_port, wait_for
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import started, until_healthy

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Shop:
    """A folder, and an environment that knows the package from its wheel alone."""

    folder: Path
    programs: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "COV_", "DVC_", "PYTHON", "VIRTUAL"))}
        return {
            **kept,
            "PATH": f"{self.programs}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
            "MLOPS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a user has none of those that lie beside
            "HOME": str(self.folder.parent),
        }

    def type(self, line: str, code: int = 0) -> str:
        """What a line typed in the folder says; it ends with ``code``."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def change(self, path: str, **keys: object) -> None:
        file = self.folder / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **keys}, sort_keys=False))


def write_visits(path: Path, rows: int = 400) -> None:
    """Visits to a shop: words, figures and whether something was bought, which they half explain."""
    import numpy as np

    rng = np.random.default_rng(3)
    minutes, way = rng.gamma(3, 4, rows).round(4), rng.choice(["on foot", "by bus", "by car"], rows)
    bought = minutes + 8 * (way == "by car") + rng.normal(0, 3, rows) > 15
    frame = {"minutes": minutes, "way": way, "bags": rng.integers(0, 5, rows), "bought": np.where(bought, "yes", "no")}
    pl.DataFrame(frame).write_csv(path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment: the wheel, and beside it the libraries of this one."""
    place = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        lacking("uv", "pip install uv")
    build = [str(uv), "build", "--quiet", "--wheel", "--out-dir", str(place), str(REPOSITORY)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode and "hatchling" in done.stderr and "Failed to" in done.stderr:
        lacking("hatchling, which builds the wheel,", "let uv fetch it once: uv build --wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("*.whl")
    subprocess.run([str(uv), "venv", "--quiet", "--python", sys.executable, str(place / "venv")], check=True)
    python = place / "venv/bin/python"
    subprocess.run([str(uv), "pip", "install", "--quiet", "--no-deps", "--offline", "--python", str(python), str(wheel)], check=True)
    (libraries,) = (place / "venv/lib").glob("python*/site-packages")
    (libraries / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "venv/bin"


@pytest.fixture(scope="module")
def shop(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project that `mlops new` has made, and that has run."""
    place = tmp_path_factory.mktemp("own")
    write_visits(place / "visits.csv")
    told = Shop(place, installed).type("mlops new shop --data visits.csv --target bought")
    assert "next: cd shop && mlops run" in told
    made = Shop(place / "shop", installed)
    assert made.type("git status --porcelain") == ""
    assert made.type("git log --oneline").count("\n") == 1
    assert "roc_auc" in made.type("make run")
    return made


@pytest.fixture(scope="module")
def address(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `mlops serve`, typed in the project, answers."""
    port, log = unused_port(), tmp_path_factory.mktemp("serve") / "log"
    url = f"http://127.0.0.1:{port}"
    with started(
        str(shop.programs / "mlops"), "serve", "--port", str(port), cwd=shop.folder, log=log, **shop.environ, PYTHONPATH=""
    ) as process:
        until_healthy(process, log, f"{url}/ready")
        yield url


def test_what_a_run_says_to_type_works_as_it_stands(shop: Shop) -> None:
    told = shop.type("mlops run")
    assert told.count("up to date") == 6
    commands = re.findall(r"^(?:predict|watch) +(mlops .+)$", told, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        shop.type(command)
    assert (shop.folder / "data/monitoring/report.html").is_file()
    assert "prediction" in pl.read_csv(shop.folder / "data/predictions.csv").columns
    assert (shop.folder / re.findall(r"^report +(.+)$", told, re.MULTILINE)[0]).is_file()


def test_a_request_is_answered_and_recorded(shop: Shop, address: str) -> None:
    status, said, _ = post(f"{address}/predict", {"records": [{"minutes": 31.5, "way": "by car", "bags": 1}]})
    assert (status, said["predictions"][0]["probabilities"]["yes"] > 0.5) == (200, True)
    # What is on record only now is not there at once: until then the command says that no server has answered here.
    wait_for(lambda: any((shop.folder / "data/records").glob("*.sqlite")) and "yes" in shop.type("mlops records show"), 60, "the record")


def test_every_other_command_finds_what_is_there(shop: Shop) -> None:
    assert "champion" in shop.type("mlops models list")
    assert "version 1" in shop.type("cd data && mlops models show")
    assert "lightgbm" in shop.type("mlops parts")
    assert json.loads(shop.type("mlops config"))["dataset"]["source"]["path"] == "data/visits.csv"
    assert json.loads(shop.type("mlops config --serving"))["pipeline"] == "training_config.yaml"
    assert "requirements.txt is missing" not in shop.type("mlops doctor")
    assert "2 passed" in shop.type("python -m pytest -p no:cacheprovider")
    assert "up to date" in shop.type("dvc status")
    shop.type("dvc repro")
    assert shop.type("git status --porcelain --untracked-files=all").replace("A  ", "?? ").split("?? ")[1:] == [
        "data/validation/shop.schema.yaml\n",
        "dvc.lock\n",
        "models/artifacts/metrics.json\n",
    ]


def test_versions_are_the_environment_and_the_users_files_are_code(shop: Shop, tmp_path: Path) -> None:
    copy = Shop(tmp_path / "copy", shop.programs)
    shutil.copytree(shop.folder, copy.folder)
    assert "site-packages" not in (copy.folder / "dvc.yaml").read_text()
    lock = copy.folder / "mlops.lock"
    own = copy.folder / "src/own_parts.py"
    own.write_text(re.sub(r"^# ?", "", own.read_text(), flags=re.MULTILINE))
    copy.change("configs/training_config.yaml", plugins=["src/own_parts.py"], evaluate={"metrics": ["cost"]})
    assert "code: src/own_parts.py" in copy.type("mlops status")
    assert "src/own_parts.py" in (copy.folder / "dvc.yaml").read_text()
    copy.change("configs/training_config.yaml", evaluate={}, tuning={"trials": 2})
    assert "tuning: unset → {'trials': 2}" in copy.type("mlops status")
    locked = yaml.safe_load(lock.read_text())
    recorded = copy.folder / "dvc.lock"
    recorded.write_text(recorded.read_text().replace(f"lightgbm: {locked['versions']['lightgbm']}", "lightgbm: 3.9.9"))
    assert f"environment: lightgbm: 3.9.9 → {locked['versions']['lightgbm']}" in copy.type("mlops status")


def test_a_section_that_is_taken_out_makes_its_stages_stale(shop: Shop, tmp_path: Path) -> None:
    copy = Shop(tmp_path / "copy", shop.programs)
    shutil.copytree(shop.folder, copy.folder)
    config = copy.folder / "configs/training_config.yaml"
    content = yaml.safe_load(config.read_text())
    content.pop("split")
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert "split" in re.findall(r"▸ (\w+) +stale", copy.type("mlops status"))
    assert "split" in copy.type("dvc status")


def test_dvc_does_not_work_by_a_file_that_is_older_than_the_settings(shop: Shop, tmp_path: Path) -> None:
    copy = Shop(tmp_path / "copy", shop.programs)
    shutil.copytree(shop.folder, copy.folder)
    copy.change("configs/training_config.yaml", tuning={"trials": 2})
    assert "run `mlops render`" in copy.type("dvc repro", code=255)
    copy.type("mlops render")
    assert re.findall(r"^(\w+):$", copy.type("dvc status"), re.MULTILINE) == ["settings", "train"]


def test_a_folder_that_is_not_empty_keeps_what_is_in_it(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my shop (2)"
    folder.mkdir()
    write_visits(folder / "visits.csv")
    (folder / "secret.txt").write_text("mine")
    made = Shop(folder, installed)
    made.type("mlops new . --data visits.csv --target bought")
    assert yaml.safe_load((folder / "configs/training_config.yaml").read_text())["name"] == "my_shop__2"
    assert made.type("git status --porcelain") == "?? secret.txt\n"
    assert "README.md is there already" in made.type("mlops new . --data visits.csv --target bought", code=2).replace(
        "Makefile", "README.md"
    )
    assert "no column 'bougth'" in made.type("mlops new sub --data visits.csv --target bougth", code=2)
    assert not (folder / "sub").exists()


def test_upgrade_shows_what_it_writes_and_leaves_what_the_user_changed(shop: Shop, tmp_path: Path) -> None:
    copy = Shop(tmp_path / "copy", shop.programs)
    shutil.copytree(shop.folder, copy.folder)
    assert "the project is up to date" in copy.type("mlops upgrade")
    makefile, ignored, pins = copy.folder / "Makefile", copy.folder / ".gitignore", copy.folder / "requirements.txt"
    makefile.write_text("run:\n\techo mine\n")
    ignored.write_text("/mine/\n/mlflow/\n")
    pins.write_text("mlops-pipeline==0.0.1\nmine==1\n")
    release, marker = copy.folder / "configs/release_config.yaml", copy.folder / ".mlops.yaml"
    release.unlink()  # of a project that was made before there were releases
    marker.write_text("".join(line for line in marker.read_text().splitlines(keepends=True) if "release_config.yaml" not in line))
    refused = copy.type("mlops upgrade < /dev/null", code=2)
    assert "-mlops-pipeline==0.0.1\n+mlops-pipeline==0.1.0\n mine==1\n" in refused
    assert "+++ b/configs/release_config.yaml" in refused
    assert "nothing is written without a yes" in refused
    told = copy.type("mlops upgrade --yes")
    assert "Makefile was changed by you: it is left as it is" in told
    assert "+/data/raw/" in told
    assert makefile.read_text() == "run:\n\techo mine\n"
    assert ignored.read_text().startswith("/mine/\n/mlflow/\n")
    assert pins.read_text() == "mlops-pipeline==0.1.0\nmine==1\n"
    assert load_releases(release) == Releases(), "what it says holds without it, too"
    release.unlink()
    assert "configs/release_config.yaml was taken away since: it is left out" in copy.type("mlops upgrade --yes --overwrite")
    assert "mlops run" in makefile.read_text()
    assert not release.exists()


def test_a_project_without_a_table_takes_one_later(installed: Path, tmp_path: Path) -> None:
    assert "mlops init --input FILE --target COLUMN" in Shop(tmp_path, installed).type("mlops new later")
    made = Shop(tmp_path / "later", installed)
    write_visits(made.folder / "data/visits.csv")
    assert "1 skipped" not in made.type("mlops init --input data/visits.csv --target bought && python -m pytest -p no:cacheprovider")
    content = yaml.safe_load((made.folder / "configs/training_config.yaml").read_text())
    assert (content["name"], content["dataset"]["source"]["path"], "paths" in content) == ("later", "data/visits.csv", False)
    made.type("mlops run --to ingest")


@pytest.mark.parametrize("place", ["visits.csv", "visits"])
def test_rows_that_are_appended_are_what_a_push_sends(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a clone would get the table of before, and train on it without a word. A place that cannot be written stops no run."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def part_of(source: Path) -> Path:
        return source if source.suffix else source / "january.csv"

    data = tmp_path / place
    part_of(data).parent.mkdir(exist_ok=True)
    write_visits(part_of(data), 60)
    project = new(tmp_path / "shop", data, "bought", None).folder
    file, table = project / f"data/{place}.dvc", project / "data" / place
    settings = load_settings(project / PIPELINE)
    layout = layout_of(settings, project / PIPELINE, project)
    said = io.StringIO()

    def ingest() -> None:
        run(settings, layout, Console(file=said, width=200), stop="ingest")

    before = file.read_text()
    ingest()
    assert (file.read_text(), "commit" in said.getvalue()) == (before, False)
    part = part_of(table)
    part.write_text(part.read_text() + "7.5,by car,2,yes\n")
    ingest()
    assert f"DVC keeps what was read now: commit data/{place}.dvc" in said.getvalue()
    text = part.read_text()
    with monkeypatch.context() as patched:
        patched.setattr("dvc.stage.Stage.commit", refuse)
        assert Cache(settings, layout).keep_added(STAGES[0]) == {}  # it is kept already
        part.write_text(text + "1.5,on foot,0,no\n")
        assert Cache(settings, layout).keep_added(STAGES[0]) == {f"data/{place}.dvc": "Read-only file system"}
        part.write_text(text)
    said.seek(0)
    said.truncate()
    shutil.move(project / ".dvc/cache", tmp_path / "cache")
    run(settings, layout, Console(file=said, width=200), force=True, stop="ingest")
    assert "DVC keeps" not in said.getvalue()  # what is there is what the file says, whatever the cache of this machine holds
    shutil.rmtree(project / ".dvc/cache")
    shutil.move(tmp_path / "cache", project / ".dvc/cache")
    shutil.rmtree(table) if table.is_dir() else table.unlink()
    with Repo(str(project)) as repo:
        repo.checkout([str(file)])
    assert part.read_text() == text


def test_an_entry_of_dvc_of_which_another_file_is_not_here_stops_no_run(tmp_path: Path) -> None:
    data = tmp_path / "visits.csv"
    write_visits(data, 60)
    project = new(tmp_path / "shop", data, "bought", None).folder
    entry, table = project / "data/visits.csv.dvc", project / "data/visits.csv"
    text = entry.read_text()
    entry.write_text(text + "- md5: c4ca4238a0b923820dcc509a6f75849b\n  size: 1\n  hash: md5\n  path: not_pulled.csv\n")
    table.write_text(table.read_text() + "7.5,by car,2,yes\n")
    settings = load_settings(project / PIPELINE)
    said = io.StringIO()
    run(settings, layout_of(settings, project / PIPELINE, project), Console(file=said, width=200), stop="ingest")
    assert "data/visits.csv.dvc cannot be written (output 'data/not_pulled.csv' does not exist)" in said.getvalue()


def test_the_flights_are_an_example_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    Shop(tmp_path, installed).type("mlops new flights --example flights")
    made = Shop(tmp_path / "flights", installed)
    assert (made.folder / "configs/training_config.yaml").read_text() == (REPOSITORY / "configs/training_config.yaml").read_text()
    assert made.type("mlops status").count("never run") == 6
    assert made.type("git status --porcelain") == ""


def test_a_pattern_of_files_and_a_query_are_tables_of_a_new_project(tmp_path: Path) -> None:
    months = tmp_path / "months"
    months.mkdir()
    for month in ("01", "02"):
        write_visits(months / f"visits-{month}.csv", 60)
    (months / "readme.txt").write_text("not a table")
    made = new(tmp_path / "files", months / "visits-*.csv", "bought", None)
    assert sorted(path.name for path in (made.folder / "data/months").iterdir()) == ["visits-01.csv", "visits-02.csv"]
    assert yaml.safe_load((made.folder / PIPELINE).read_text())["dataset"]["source"]["path"] == "data/months"

    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE visits (minutes REAL, way TEXT, bags INTEGER, bought TEXT)")
        shop.executemany("INSERT INTO visits VALUES (?, ?, ?, ?)", pl.read_csv(months / "visits-01.csv").rows())
    given = {"sql": "SELECT * FROM visits ORDER BY rowid", "uri": f"sqlite:///{tmp_path}/shop.db"}
    made = new(tmp_path / "query", None, "bought", None, given)
    assert yaml.safe_load((made.folder / PIPELINE).read_text())["dataset"]["source"] == given
    assert [use.name for use in made.columns] == ["minutes", "way", "bags", "bought"]
    with pytest.raises(PipelineError, match=r"--data .*: there is no such file, and none that matches it: name your table"):
        new(tmp_path / "none", months / "*.parquet", "bought", None)
    with pytest.raises(PipelineError, match="--data is missing: --data FILE and --target COLUMN go together"):
        new(tmp_path / "none", None, "bought", None)
    assert not (tmp_path / "none").exists()


def mine(folder: Path) -> dict[str, bool]:
    """What an upgrade would write, and whether it takes that for the user's; it writes the rest."""
    changes, _ = upgrade(folder)
    write(folder, [change for change in changes if not change.mine])
    return {change.shown: change.mine for change in changes}


def test_what_the_user_had_before_ours_stays_the_users_however_often_an_upgrade_comes(tmp_path: Path) -> None:
    folder = new(tmp_path / "shop", None, None, None).folder
    makefile, marker, pins = folder / "Makefile", folder / ".mlops.yaml", folder / "requirements.txt"
    makefile.write_text("run:\n\techo mine\n")  # of a project that was made before ours had one
    marker.write_text("".join(line for line in marker.read_text().splitlines(keepends=True) if "Makefile" not in line))
    for version in ("0.0.1", "0.0.2"):
        pins.write_text(f"mlops-pipeline=={version}\n")
        assert mine(folder) == {"Makefile": True, "requirements.txt": False}
    assert makefile.read_text() == "run:\n\techo mine\n"


@pytest.mark.parametrize("noted", [False, True], ids=["as it was", "after an older upgrade"])
def test_a_project_that_is_not_ours_gets_no_makefile_and_keeps_its_own_stages(noted: bool, tmp_path: Path) -> None:
    """Older upgrades noted the user's Makefile as ours, and the next would have written over it."""
    project = make_project(tmp_path / "theirs")
    (project.folder / "configs").mkdir()
    project.config.rename(project.folder / PIPELINE)
    makefile = "run:\n\techo mine\n"
    digests = {"files": {"Makefile": hashlib.sha256(makefile.encode()).hexdigest()}}
    (project.folder / ".mlops.yaml").write_text(f"configuration: {PIPELINE}\n" + (yaml.safe_dump(digests) if noted else ""))
    (project.folder / "Makefile").write_text(makefile)
    (project.folder / "dvc.yaml").write_text("stages: {theirs: {cmd: make theirs}}\n")
    ours = ("configs/training_config.schema.json", ".gitignore", PIPELINE, "mlops.lock")
    assert mine(project.folder) == {**dict.fromkeys(ours, False), "dvc.yaml": True}
    assert mine(project.folder) == {"dvc.yaml": True}
    assert "theirs" in (project.folder / "dvc.yaml").read_text()


def test_a_file_that_is_not_in_utf_8_is_told_in_one_line(tmp_path: Path) -> None:
    folder = new(tmp_path / "shop", None, None, None).folder
    (folder / "requirements.txt").write_text("mlops-pipeline==0.0.1\n", encoding="utf-16")
    with pytest.raises(PipelineError, match=r"requirements\.txt: is not text in UTF-8 \(.*\): save it as UTF-8$"):
        upgrade(folder)


def test_nothing_is_left_of_a_project_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    (there / "data").mkdir(parents=True)
    write_visits(there / "data/visits.csv", 60)

    def refuse(*_: object) -> tuple[str, ...]:
        raise PipelineError("no room")

    monkeypatch.setattr("mlops_pipeline.project._committed", refuse)
    for folder in (there, tmp_path / "deep/er/shop"):
        with pytest.raises(PipelineError, match="no room"):
            new(folder, there / "data/visits.csv", "bought", None)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["there", "there/data", "there/data/visits.csv"]


def test_a_table_of_which_dvc_has_made_a_link_is_a_file_again_where_no_project_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DVC does where its user's settings say so (cache.type); what the link leads to goes with the rest."""
    there = tmp_path / "there"
    there.mkdir()
    table = there / "visits.csv"
    write_visits(table, 60)
    before = table.read_bytes()

    def link(folder: Path, table: Path) -> None:
        kept = folder / ".dvc/cache/kept"
        kept.parent.mkdir(parents=True, exist_ok=True)
        table.rename(kept)
        table.symlink_to(kept)
        raise PipelineError("no room")

    monkeypatch.setattr("mlops_pipeline.project._keep_by_dvc", link)
    with pytest.raises(PipelineError, match="no room"):
        new(there, table, "bought", None)
    assert [path.name for path in there.iterdir()] == ["visits.csv"]
    assert not table.is_symlink()
    assert table.read_bytes() == before


def test_a_folder_with_a_file_of_dvcs_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    write_visits(tmp_path / "visits.csv", 60)
    with pytest.raises(PipelineError, match=r"dvc\.yaml is there already: name another folder"):
        new(tmp_path, tmp_path / "visits.csv", "bought", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "visits.csv"]
