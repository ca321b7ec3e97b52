"""A project of one's own: what `mlops new` makes, and what of it `mlops upgrade` brings up to date."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.config.finding import FOLDER, MARKER, PIPELINE, RELEASE, SERVING, pipeline_files, release_config
from mlops_pipeline.config.monitoring import monitoring_schema
from mlops_pipeline.config.pipeline import json_schema, load_settings
from mlops_pipeline.config.release import release_schema
from mlops_pipeline.config.serving import serving_schema
from mlops_pipeline.config.tree import BoundedLoader
from mlops_pipeline.errors import PipelineError, one_line, without_secrets
from mlops_pipeline.files import replacing, text_of, write_text
from mlops_pipeline.layout import DVC_FILE, files_of, fixed_part, layout_of
from mlops_pipeline.pages import text as rendered_page
from mlops_pipeline.pipeline.render import LOCK, in_the_way, rendered
from mlops_pipeline.plugins import DISTRIBUTION
from mlops_pipeline.scaffold import SCHEMA_LINE, name_from, starter
from mlops_pipeline.tables.columns import ColumnUse
from mlops_pipeline.tables.database import queried

TEMPLATES = Path(__file__).parent / "pages/project"
EXAMPLES = {"flights": "late", "reviews": "sentiment"}
"""Examples and their targets; each is a folder of settings in the wheel, with its table where no package ships that."""

OURS = {
    "Makefile": "Makefile.txt",
    ".github/workflows/pipeline.yaml": "ci.yaml.txt",
}
"""Files that stay ours until the user changes them, and their templates."""

THEIRS = {
    "src/own_parts.py": "own_parts.py.txt",
    "tests/test_project.py": "test_project.py.txt",
}
"""Files that are the user's from the first moment."""

RELEASE_TEMPLATE = "release_config.yaml.txt"
"""Settings that an upgrade brings to a project that never had any; what they say holds without them, too."""


@dataclass(frozen=True)
class Made:
    """A new project: its folder, the name of its pipeline, which rows it holds out and why, its columns, what to know besides."""

    folder: Path
    name: str
    split: str = ""
    columns: list[ColumnUse] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A file that `mlops upgrade` would write; ``mine``: the user has changed it since it was written."""

    path: Path
    shown: str
    before: str
    after: str
    mine: bool

    def diff(self) -> str:
        """What would change, as a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), f"a/{self.shown}", f"b/{self.shown}"
        )
        return without_secrets("".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines))


def new(folder: Path, data: Path | None, target: str | None, example: str | None, given: Mapping[str, Any] | None = None) -> Made:
    """Make a project: Git, DVC, settings, a README, a place for parts, a test, CI; nothing is left of one that fails.

    ``data`` is a file, a folder or a pattern; what is ``given`` of ``dataset.source`` may be a query in its place.

    Raises :class:`PipelineError` if the folder holds something that is in the way, or the table cannot be described.
    """
    name = name_from(folder.resolve().name)
    files, split, columns = _files(folder, name, data, target, example, given or {})
    if example is not None and _table_of(example):
        data = _example(example) / f"{example}.csv"
    there = [path for path in (*files, *([DVC_FILE] if PIPELINE in files else [])) if (folder / path).exists()]
    if data is not None and (place := folder / _place_of(data, folder)).exists() and not place.samefile(data):
        there.append(_place_of(data, folder))
    if there or (folder.exists() and not folder.is_dir()):
        raise PipelineError(f"{folder}: {there[0] if there else 'a file'} is there already: name another folder")
    beside = (".git", ".dvc", ".dvcignore", DVC_FILE, LOCK, *(_kept_by_dvc(_place_of(data, folder)) if data is not None else ()))
    with _whole_or_not_at_all(folder, [folder / path for path in (*files, *beside)]):
        notes = _make(folder, files, data)
    here = Path(sys.executable).with_name("mlops")
    if here.exists() and shutil.which("mlops") is None:
        notes += (f"mlops is not on your path: activate its environment first, `. {here.with_name('activate')}`",)
    return Made(folder, name if example is None else example, split, columns, notes)


@contextmanager
def _whole_or_not_at_all(folder: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Take the folder, or these paths in it, away again if the block ends in an error; what was there before stays."""
    made = [path for path in (folder, *paths) if not path.exists()]
    around = {parent for path in made for parent in path.parents if not parent.exists()}
    there = [path for path in paths if path not in made]
    try:
        yield
    except BaseException:
        _bring_back(there, made)
        for path in made:
            with suppress(OSError):
                if path.is_file():
                    path.unlink()
                else:
                    shutil.rmtree(path)
        for parent in sorted(around, reverse=True):  # those within others first
            with suppress(OSError):
                parent.rmdir()
        raise


def _bring_back(there: Iterable[Path], made: Iterable[Path]) -> None:
    """Make files again of links into what is taken away: where DVC is told to keep tables by links, it has made one of the user's own."""
    gone = [Path(os.path.realpath(path)) for path in made]
    for link in [file for path in there for file in (path, *path.rglob("*")) if file.is_symlink()]:
        kept = Path(os.path.realpath(link))
        if any(kept.is_relative_to(path) for path in gone):
            with replacing(link) as file:
                shutil.copyfile(kept, file)


def _files(
    folder: Path, name: str, data: Path | None, target: str | None, example: str | None, given: Mapping[str, Any]
) -> tuple[dict[str, str], str, list[ColumnUse]]:
    """Every text file of a new project, which rows its pipeline holds out, and what becomes of each column."""
    if example is not None and (data is not None or target is not None):
        raise PipelineError(f"--example {example}: brings its own table and target: leave --data and --target out")
    if (data is None and "sql" not in given) != (target is None):
        raise PipelineError(f"--{'target' if target is None else 'data'} is missing: --data FILE and --target COLUMN go together")
    if data is not None and "sql" in given:
        raise PipelineError("--source sql: is a table, as --data is: leave one of them out")
    split, settings, table, columns = "", {}, None, []
    if example is not None:
        home = _example(example)
        settings = {f"{FOLDER}/{path.name}": path.read_text(encoding="utf-8") for path in _settings_in(home)}
        licence = home / "LICENSE.txt"
        settings |= {"data/LICENSE.txt": licence.read_text(encoding="utf-8")} if licence.is_file() else {}
        name, target, table = example, EXAMPLES[example], _table_of(example)
    elif data is not None and target is not None:
        if not files_of(data):
            what = "holds no file: name your table" if data.is_dir() else "there is no such file, and none that matches it: name your table"
            raise PipelineError(f"--data {data}: {what}")
        if not data.exists() and data.resolve().is_relative_to(folder.resolve()):
            raise PipelineError(f"--data {data}: a pattern in the project itself: `mlops new` without a table, then `mlops init --input`")
        table = _place_of(data, folder)
        made = starter(data, target, folder / PIPELINE, path=table, name=name, given=given)
        split, columns, settings = made.split, made.columns, {PIPELINE: f"{SCHEMA_LINE}\n{made.text}"}
    elif target is not None:
        with queried(given, folder) as rows:
            made = starter(rows, target, folder / PIPELINE, name=name, given=given)
        split, columns, settings = made.split, made.columns, {PIPELINE: f"{SCHEMA_LINE}\n{made.text}"}
    settings.setdefault(SERVING, _template("serving_config.yaml.txt"))
    settings.setdefault(RELEASE, _template(RELEASE_TEMPLATE))
    files = {
        **{path: _template(template) for path, template in {**OURS, **THEIRS}.items()},
        ".gitignore": _template("gitignore.txt"),
        "requirements.txt": f"{_pin()}\npytest>=9\n",
        "data/.gitkeep": "",
        "README.md": rendered_page("project/README.md", name=name, target=target, table=table, rows=f"data/processed/{name}.test.parquet"),
        **settings,
        **_schemas(),
    }
    return {**files, MARKER: _marker(files)}, split, columns


def _make(folder: Path, files: dict[str, str], data: Path | None) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        write_text(folder / path, text)
    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet", "--initial-branch=main")
    _init_dvc(folder)
    beside = [".dvc/config", ".dvc/.gitignore", ".dvcignore"]
    if data is not None:
        place = folder / _place_of(data, folder)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            if data.is_dir():
                shutil.copytree(data, place)
            elif data.is_file():
                shutil.copyfile(data, place)
            else:
                place.mkdir()
                for part in files_of(data):
                    shutil.copyfile(part, place / part.name)
        _keep_by_dvc(folder, place)
        beside += _kept_by_dvc(_place_of(data, folder))[1:]
    if (folder / PIPELINE).is_file():
        settings = load_settings(folder / PIPELINE)
        for file in rendered(settings, layout_of(settings, folder / PIPELINE, folder), "dvc"):
            file.write()
            beside += [file.path.relative_to(folder.resolve()).as_posix()] if file.path else []
    return _committed(folder, [path for path in (*files, *beside) if (folder / path).exists()])


def upgrade(project: Path) -> tuple[list[Change], list[str]]:
    """What `mlops upgrade` would write, and what it leaves alone and why. Raises :class:`PipelineError` outside a project."""
    if not (project / ".dvc").is_dir():
        raise PipelineError(f"{project}: is no project: go to one, or make one with `mlops new DIR`")
    if (project / "src/mlops_pipeline").is_dir():
        raise PipelineError(f"{project}: is the package's own project: `mlops render` keeps its files current")
    written, others = _written(project), _others(project)
    changes, notes = [], []
    for path, after in _current(project, is_made_by_us=_is_made_by_us(project)):
        shown, place = path, project / path
        before = text_of(place) if place.is_file() else ""
        if not before and path in written and not place.exists():
            notes.append(f"{shown} was taken away since: it is left out")
        elif before != after:
            is_whole = path in OURS or path.endswith(".schema.json")
            mine = path in others or bool(is_whole and before and _digest(before) != written.get(path))
            changes.append(Change(place, shown, before, after, mine))
    return changes, notes


def write(project: Path, changes: list[Change]) -> None:
    """Write the changes, and note what was written, so that the next upgrade knows what the user changes from now on."""
    for change in changes:
        write_text(change.path, change.after)
    written = _written(project)
    marker = project / MARKER
    if marker.is_file():
        known = [*OURS, *_schemas(), RELEASE]
        there = {path: text_of(project / path) for path in known if (project / path).is_file()}
        taken, now = {change.shown for change in changes}, dict(_current(project, is_made_by_us=_is_made_by_us(project)))
        # What somebody else has put where one of ours would be stays theirs; settings are never written over.
        ours = {path for path, text in there.items() if path in taken or path == RELEASE or text == now.get(path)}
        kept = {path: _digest(there[path]) for path in ours if path in taken or path not in written}
        write_text(marker, _marked_with(text_of(marker), {**written, **kept}))


def _is_made_by_us(project: Path) -> bool:
    """Whether `mlops new` has made the project, whose marker says so: by which files one names nothing can be told.

    Upgrades note schemas that they wrote into other projects, and older ones noted a Makefile of the user's there.
    """
    marker = project / MARKER
    return marker.is_file() and any(line.startswith(_MADE) for line in text_of(marker).splitlines())


def _current(project: Path, *, is_made_by_us: bool) -> Iterator[tuple[str, str]]:
    """The files that are kept up to date, as they should be now; what a user adds to those that both write stays."""
    for path, template in OURS.items():
        if is_made_by_us:
            yield path, _template(template)
    if is_made_by_us and release_config(None, project) is None:
        yield RELEASE, _template(RELEASE_TEMPLATE)
    described = pipeline_files(project)
    if is_made_by_us or described:
        yield from (
            (path, text) for path, text in _schemas(project / PIPELINE).items() if is_made_by_us or path.startswith(f"{FOLDER}/training")
        )
    ignored = project / ".gitignore"
    yield ".gitignore", _with_lines(text_of(ignored) if ignored.is_file() else "", _template("gitignore.txt"))
    requirements = project / "requirements.txt"
    if requirements.is_file():
        pattern = rf"^{re.escape(DISTRIBUTION)}(\[[^\]]*\])?==\S+"
        version = importlib.metadata.version(DISTRIBUTION)
        text = text_of(requirements)
        yield "requirements.txt", re.sub(pattern, rf"{DISTRIBUTION}\1=={version}", text, flags=re.MULTILINE)
    for config in described:
        text = text_of(config)
        shown = config.relative_to(project).as_posix()
        if "yaml-language-server" not in text.partition("\n")[0]:
            yield shown, f"{SCHEMA_LINE}\n{text}"
        settings = load_settings(config)
        layout = layout_of(settings, config, project)
        if layout.dvc_file.is_file():
            for file in rendered(settings, layout, "dvc"):
                yield layout.relative(file.path or project), file.text


def _others(project: Path) -> set[str]:
    """The files of DVC's that hold what is not of `mlops render`."""
    layouts = (layout_of(load_settings(config), config, project) for config in pipeline_files(project))
    return {layout.relative(layout.dvc_file) for layout in layouts if in_the_way(layout)}


def _with_lines(text: str, wanted: str) -> str:
    """A file with the lines of another that it lacks, at its end."""
    there = set(text.splitlines())
    lacking = [line for line in wanted.splitlines() if line and not line.startswith("#") and line not in there]
    return text + "".join(f"{line}\n" for line in lacking) if text else wanted


def _example(name: str) -> Path:
    """The folder of an example: in the wheel, or the repository's own settings where the package runs from there."""
    if name not in EXAMPLES:
        raise PipelineError(f"--example {name}: there is no such example: use one of {', '.join(EXAMPLES)}")
    home = Path(__file__).parent
    for folder in (home / "examples" / name, home.parents[1] / FOLDER):
        if (folder / Path(PIPELINE).name).is_file():
            return folder
    raise PipelineError(f"--example {name}: is not in this installation: install the wheel anew")


def _settings_in(home: Path) -> list[Path]:
    return [path for path in (home / Path(PIPELINE).name, home / Path(SERVING).name) if path.is_file()]


def _table_of(example: str) -> str | None:
    """Where the table of an example lies in a project, if it brings one."""
    return f"data/{example}.csv" if (_example(example) / f"{example}.csv").is_file() else None


def _place_of(data: Path, folder: Path) -> str:
    """Where a table lies in the project: where it is, or under ``data``; the files of a pattern in a folder called as theirs."""
    inside = fixed_part(data).resolve()
    return inside.relative_to(folder.resolve()).as_posix() if inside.is_relative_to(folder.resolve()) else f"data/{inside.name}"


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _schemas(config: Path | None = None) -> dict[str, str]:
    """The schemas that editors check settings with; that of a pipeline knows the parts which its settings name."""
    return {
        f"{FOLDER}/training_config.schema.json": json_schema(config) + "\n",
        f"{FOLDER}/serving_config.schema.json": serving_schema() + "\n",
        f"{FOLDER}/monitoring_config.schema.json": monitoring_schema() + "\n",
        f"{FOLDER}/release_config.schema.json": release_schema() + "\n",
    }


def _pin() -> str:
    return f"{DISTRIBUTION}=={importlib.metadata.version(DISTRIBUTION)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_MADE = "# Written by `mlops new`"
_MARKER_HEAD = f"""\
{_MADE}: by these digests `mlops upgrade` knows which of its files you have changed since.
# A line `configuration: configs/mine.yaml` says which pipeline commands mean, where it is not configs/training_config.yaml.
"""


def _marker(files: dict[str, str]) -> str:
    return _marked_with(
        _MARKER_HEAD, {path: _digest(text) for path, text in files.items() if path in (*OURS, RELEASE) or path.endswith(".schema.json")}
    )


def _marked_with(text: str, digests: dict[str, str]) -> str:
    """The marker's text with other digests; every other line stays."""
    head = re.sub(r"^files:.*(\n[ \t].*)*\n?", "", text, flags=re.MULTILINE)
    return head + yaml.safe_dump({"files": digests}, sort_keys=True)


def _written(project: Path) -> dict[str, str]:
    try:
        content = yaml.load(text_of(project / MARKER), Loader=BoundedLoader)  # noqa: S506  # a safe loader, with one check more
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise PipelineError(f"{project / MARKER}: is not valid YAML: {one_line(error)}: mend it, or take it away") from error
    files = content.get("files") if isinstance(content, dict) else None
    return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}


def _init_dvc(folder: Path) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    if (folder / ".dvc").is_dir():
        return
    with Repo.init(str(folder)) as repo, repo.config.edit() as settings:
        settings["core"] |= {"analytics": False, "check_update": False, "autostage": True}


def _kept_by_dvc(table: str) -> list[str]:
    """A table's place in the project, and what DVC writes beside it."""
    return [table, f"{table}.dvc", (Path(table).parent / ".gitignore").as_posix()]


def _keep_by_dvc(folder: Path, table: Path) -> None:
    """Put the table among what DVC keeps, so that a clone can get it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            repo.add(str(table))
    except DvcException as error:
        raise PipelineError(f"{table}: DVC cannot keep it: {one_line(error)}") from error


def _committed(folder: Path, paths: list[str]) -> tuple[str, ...]:
    """Make the first commit; what hinders it is a note, since the project is whole without it."""
    who = () if _git_says(folder, "config", "user.email") else ("-c", "user.name=mlops new", "-c", "user.email=mlops@localhost")
    try:
        _git(folder, "add", "--", *paths)
        _git(
            folder,
            *who,
            "-c",
            "commit.gpgsign=false",
            "commit",
            "--quiet",
            "--no-verify",
            "--message",
            "A new pipeline project",
            "--",
            *paths,
        )
    except PipelineError as error:
        return (f"nothing is committed yet ({error}): mend that, and commit it",)
    return (
        ("Git knows no name of yours: the first commit is by «mlops new»; `git config user.name` and `user.email` set yours",)
        if who
        else ()
    )


def _git(folder: Path, *arguments: str) -> None:
    try:
        subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError as error:
        raise PipelineError("git: is not installed: install it (apt-get install git), a project is kept in it") from error
    except subprocess.SubprocessError as error:
        raise PipelineError(f"git {arguments[0]}: {one_line(getattr(error, 'stderr', '') or error)}") from error


def _git_says(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
