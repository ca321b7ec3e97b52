"""DVC as the one cache: what is stale and why, recording what ran, restoring what is stored."""

import hashlib
import json
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.config.moments import NEWEST, shown_moment
from mlops_pipeline.config.pipeline import PLACES, Settings
from mlops_pipeline.config.tree import shown
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.events import Cause
from mlops_pipeline.files import FOR_ITS_OWNER, replacing, time_and_size
from mlops_pipeline.layout import Layout, fixed_part
from mlops_pipeline.pipeline.current import State, keep, kept, states
from mlops_pipeline.pipeline.definition import STAGES, Stage
from mlops_pipeline.pipeline.render import CHECK, DEFAULTS, LOCK, as_of_in, code_of


class _Draft(yaml.CSafeDumper):
    """YAML that reads the same by version 1.1 and by 1.2, which take other words for numbers and truths."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's signature
        return True


def _text(draft: _Draft, value: str) -> yaml.ScalarNode:
    is_plain = re.fullmatch(r"[A-Za-z_/][\w/.-]*", value) and value.lower() not in _WORDS
    return draft.represent_scalar("tag:yaml.org,2002:str", value, style=None if is_plain else '"')


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_Draft.add_representer(str, _text)
_Draft.add_representer(OrderedDict, yaml.CSafeDumper.represent_dict)


@dataclass(frozen=True)
class _Read:
    """A DVC repository, the stages that are the pipeline's, what ``dvc add`` keeps, and how files were before anything ran."""

    repo: Any
    stages: dict[str, Any]
    added: list[Any]
    begun: dict[str, tuple[int, int] | None]


class Cache:
    """The DVC repository of one project, seen through one pipeline's stages, read once, and not at all where all is known to be current."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._settings, self._layout = settings, layout
        self._unwritten: list[Any] = []
        self._moved: set[str] = set()
        self._content: dict[str, Any] | None = None
        self._drafted: tuple[int, int] | None = None
        self._current = kept(self._kept)
        if self._current is None:
            self._dvc  # noqa: B018 - what cannot be read is told before anything is done

    @property
    def _kept(self) -> Path:
        """Where it is kept that all stages are up to date: beside DVC's own notes, which no commit holds.

        By its whole path: what a copy of the project brings with it is of the original's files.
        """
        name = hashlib.sha256(os.fsencode(self._layout.dvc_file.resolve())).hexdigest()[:12]
        return self._layout.project / f".dvc/tmp/mlops-current-{name}.json"

    @property
    def _is_read(self) -> bool:
        return "_dvc" in self.__dict__

    @cached_property
    def _dvc(self) -> _Read:
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.ERROR)
        logging.getLogger("dvc_objects").setLevel(logging.CRITICAL)
        layout = self._layout
        try:
            repo = Repo(str(layout.project))
            _mend_locks(repo)
            there = repo.index.stages
        except NotDvcRepoError as error:
            raise PipelineError(f"{layout.project}: is no project of DVC's: run `dvc init`") from error
        except DvcException as error:
            raise PipelineError(f"{layout.project}: DVC cannot read this project ({one_line(error)}): {_remedy(error)}") from error
        stages = {stage.name: stage for stage in there if stage.path == str(layout.dvc_file)}
        added = [stage for stage in there if stage.is_data_source and not stage.deps and not stage.frozen]
        return _Read(repo, stages, added, self._as_begun(stages))

    def _as_begun(self, stages: Mapping[str, Any]) -> dict[str, tuple[int, int] | None]:
        """What no stage makes, as it is at the run's beginning, and the settings as they were when they were read."""
        made = {self._layout.relative(Path(out.fs_path)) for stage in stages.values() for out in stage.outs}
        read = {path: state for stage in STAGES for path, state in self._now(stages[stage.name]).items() if path not in made}
        if self._current is not None:  # how it was before DVC was asked
            known = {self._layout.relative(Path(path)): state and state[:2] for path, state in self._current.items()}
            read = {path: known.get(path, state) for path, state in read.items()}
        config = self._layout.relative(self._layout.config)
        return {**read, config: self._settings.read_as} if self._settings.read_as is not None else read

    def _now(self, stage: Any) -> dict[str, tuple[int, int] | None]:
        paths = sorted({Path(dep.fs_path) for dep in stage.deps})
        return {self._layout.relative(path): time_and_size(path) for path in paths}

    def _looked_at(self) -> dict[str, State]:
        """The state of all by which DVC tells whether a stage is up to date; empty where some of it is not on this machine's disk."""
        repo, root = self._dvc.repo, self._layout.project
        of_stages = [each for stage in self._dvc.stages.values() for each in (*stage.deps, *stage.outs)]
        if any(each.fs.protocol != "local" for each in of_stages) or repo.cache.local is None:
            return {}
        own = [
            root / ".dvc/config",
            root / ".dvc/config.local",
            root / ".dvcignore",
            self._layout.config,
            self._layout.dvc_file,
            self._lock,
        ]
        return states({*own, *(Path(each.fs_path) for each in of_stages)}, [Path(repo.cache.local.path), Path(repo.cache.legacy.path)])

    def causes(self, stages: Sequence[Stage] = STAGES) -> dict[str, list[Cause]]:
        """Why each of the stages is stale, by name; an empty list for a stage that is up to date."""
        if not self._is_read and kept(self._kept) is not None:
            return {stage.name: [] for stage in stages}
        from dvc.utils.serialize import load_yaml

        recorded, looked_at = self._recorded(), self._looked_at()
        with self._asking():
            settings = load_yaml(str(self._layout.config))  # by the version of YAML that what is recorded was read by
            status: dict[str, list[Any]] = {stage.name: next(iter(self._dvc.stages[stage.name].status().values()), []) for stage in stages}
        found = {stage.name: self._explain(stage, status[stage.name], recorded, settings) for stage in stages}
        if looked_at and len(found) == len(STAGES) and not any(found.values()) and not self._moved:
            keep(self._kept, looked_at)
        return found

    def dependencies(self, stage: Stage) -> dict[str, tuple[int, int] | None]:
        """The files that a stage which now begins depends on, with time and size, by which :meth:`edited` notices an edit.

        A process works by the settings and the code that it began with: of these it is how they were then.
        """
        return {path: self._dvc.begun.get(path, state) for path, state in self._now(self._dvc.stages[stage.name]).items()}

    def edited(self, stage: Stage, before: Mapping[str, tuple[int, int] | None]) -> list[str]:
        """Those of the files that are not what they were."""
        return [path for path, state in self._now(self._dvc.stages[stage.name]).items() if state != before.get(path)]

    def commit(self, stage: Stage) -> None:
        """Take in what the stage has left on disk, as ``dvc repro`` does; :meth:`write` then puts it into ``dvc.lock``."""
        with self._asking():
            self._dvc.stages[stage.name].save()
            self._dvc.stages[stage.name].commit()
        self._keep_close(stage)
        self._unwritten.append(self._dvc.stages[stage.name])

    def keep_added(self, stage: Stage) -> dict[str, str]:
        """Take in those files of `dvc add` that the stage has read and that have changed since, as ``dvc repro`` does.

        Else a push would send what they held before, and a clone would train on it. Returns the files for Git that say so, each with
        what kept it from being written, as where the data are mounted to be read alone; empty if nothing did.
        """
        from dvc.exceptions import DvcException
        from dvc.stage.serialize import to_single_stage_file
        from dvc.utils.serialize import dump_yaml

        read = {folder for dep in self._dvc.stages[stage.name].deps for folder in (Path(dep.fs_path), *Path(dep.fs_path).parents)}
        kept: dict[str, str] = {}
        with self._asking():
            for added in self._dvc.added:
                # A file that is as recorded and that no cache holds, as in CI, has not changed: of it nothing is to be committed.
                if not any(out.workspace_status() for out in added.outs if Path(out.fs_path) in read):
                    continue
                problem = ""
                try:
                    added.save()
                    added.commit()
                    with replacing(Path(added.path)) as temporary:
                        dump_yaml(str(temporary), to_single_stage_file(added))
                except (OSError, DvcException) as error:  # DVC's own: another file of the same entry is not here
                    problem = one_line(getattr(error, "strerror", None) or error)
                kept[self._layout.relative(Path(added.path))] = problem
        return kept

    def commit_places(self, stage: Stage) -> None:
        """Take in where something is kept now, which makes nothing else of a stage that is up to date."""
        if stage.name in self._moved:
            self._moved.remove(stage.name)
            self.commit(stage)

    def write(self, *, draft: bool = False) -> None:
        """Write what was committed to ``dvc.lock``.

        A ``draft`` says the same, but is not spelled as DVC would, which takes it a third of a second: a later call does that. DVC empties
        the file first and a kill would leave it so; here another one is written, which takes its place when it is whole.
        """
        if not self._is_read:  # nothing has run
            return
        check = self._dvc.stages.get(CHECK)
        with self._asking():
            if check is not None and check.status():  # what it would look at was rendered just before
                check.save()
                check.commit()
                self._unwritten.append(check)
            if self._unwritten or (self._drafted and not draft):
                self._write(draft=draft)

    def _write(self, *, draft: bool) -> None:
        from dvc.stage.serialize import to_lockfile
        from dvc.utils.serialize import dump_yaml, load_yaml

        lock = self._lock
        if self._content is None or time_and_size(lock) != self._drafted:
            self._content = load_yaml(str(lock)) if lock.exists() else {}
        self._content.setdefault("schema", "2.0")
        stages = self._content.setdefault("stages", {})
        for stage in self._unwritten:
            stages.update(deepcopy(to_lockfile(stage)))  # two stages' settings, where one object, would be written by reference
        with replacing(lock) as temporary:
            if draft:
                with temporary.open("w", encoding="utf-8") as stream:
                    yaml.dump(self._content, stream, _Draft, sort_keys=False, default_flow_style=False)
            else:
                dump_yaml(str(temporary), self._content)
        self._unwritten = []
        self._drafted = time_and_size(lock) if draft else None

    def restore(self, stage: Stage) -> bool:
        """Bring back outputs that are gone from disk but stored; False if they are not stored."""
        stored = self._dvc.stages[stage.name]
        try:
            with self._asking():
                if any(not out.use_cache or out.changed_cache() for out in stored.outs if not out.exists):
                    return False
                stored.checkout(force=True)
        except (PipelineError, OSError):
            return False
        self._keep_close(stage)
        return all(path.exists() for path in stage.outputs(self._layout))

    def _keep_close(self, stage: Stage) -> None:
        """Make rows that were set aside their owner's alone again: DVC puts files back that everybody reads."""
        if self._layout.quarantine in stage.outputs(self._layout) and self._layout.quarantine.exists():
            self._layout.quarantine.chmod(FOR_ITS_OWNER)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Hold DVC's lock, in the project's folder, relative to which DVC spells paths."""
        from dvc.exceptions import DvcException

        before = Path.cwd()
        os.chdir(self._layout.project)
        try:
            with self._dvc.repo.lock:
                yield
        except DvcException as error:
            raise PipelineError(f"{self._layout.dvc_file}: DVC says: {one_line(error)}") from error
        finally:
            os.chdir(before)

    @property
    def _lock(self) -> Path:
        return self._layout.dvc_file.with_name("dvc.lock")

    def _recorded(self) -> dict[str, Any]:
        path = self._lock
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
            return dict(content["stages"])
        except FileNotFoundError:
            return {}
        except (yaml.YAMLError, TypeError, KeyError) as error:
            raise PipelineError(f"{path}: is damaged: restore it with `git checkout`, or delete it to run everything") from error

    def _gone(self, stage: Stage, recorded: dict[str, Any]) -> list[str]:
        """Files of a source of several that the stage has read and that are no more: DVC does not miss what nobody names."""
        source = self._settings.dataset.source.path
        if stage.reads or source is None or (self._layout.project / source).is_file():
            return []
        folder = self._layout.relative(fixed_part(self._layout.project / source))
        read = [dep["path"] for dep in recorded.get(stage.name, {}).get("deps", [])]
        there = {self._layout.relative(Path(dep.fs_path)) for dep in self._dvc.stages[stage.name].deps}
        return [path for path in read if path.startswith(f"{folder}/") and path not in there]

    def _locked(self) -> dict[str, Any]:
        return dict(yaml.load((self._layout.project / LOCK).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))

    def _explain(self, stage: Stage, status: list[Any], recorded: dict[str, Any], settings: dict[str, Any]) -> list[Cause]:
        if status and stage.name not in recorded:
            return [Cause("never run")]
        causes = [Cause("data", f"{path} (gone)") for path in self._gone(stage, recorded)]
        code = set(code_of(stage, self._settings, self._layout))
        config, before = self._layout.relative(self._layout.config), self._recorded_settings(stage, recorded)
        for entry in status:
            if not isinstance(entry, dict):
                causes.append(self._of_command(stage, str(entry), recorded))
                continue
            for path, state in entry.get("changed deps", {}).items():
                if isinstance(state, dict) and (moved := _moved(state, before, config, settings)):
                    self._moved.add(stage.name)
                    state = {key: what for key, what in state.items() if key not in moved}  # noqa: PLW2901
                if path == LOCK:
                    causes += _changed_lock(state, before, self._locked(), config)
                elif isinstance(state, dict):
                    sides = ((key, before.get(config, {}).get(key, _UNSET), settings.get(key, _UNSET)) for key in state)
                    causes += [Cause("settings", line) for side in sides for line in _differences(*side)]
                elif path == self._layout.relative(self._layout.lock):
                    causes.append(Cause("environment", path))
                else:
                    causes.append(Cause("code" if path in code else "data", path if state == "modified" else f"{path} ({state})"))
            for path in entry.get("changed outs", {}):
                there = (self._layout.project / path).exists()
                causes.append(Cause("output changed" if there else "output missing", path))
        equal = {key: old for key, old in before.get(config, {}).items() if key in settings and settings[key] == old}
        return causes + [Cause("settings", line) for key, old in equal.items() for line in _differences(key, old, settings[key])]

    def _recorded_settings(self, stage: Stage, recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The sections that a stage was last run by, by file: as DVC has read them, and those that it asks for no more."""
        read = {self._layout.relative(Path(dep.fs_path)): dep.hash_info.value or {} for dep in self._dvc.stages[stage.name].params}
        written = recorded.get(stage.name, {}).get("params", {})
        return {path: {**written.get(path, {}), **read.get(path, {})} for path in {*written, *read}}

    def _of_command(self, stage: Stage, said: str, recorded: dict[str, Any]) -> Cause:
        """Why a stage's command is another one: the as-of is an argument of it."""
        before, now = as_of_in({"stages": recorded}, stage.name), self._settings.as_of
        return Cause("command", said) if before == now or stage.reads else Cause("settings", f"as-of: {_moment(before)} → {_moment(now)}")


def _mend_locks(repo: Any) -> None:
    """DVC empties the file of its locks before it writes it: one that a kill has left so is taken away, or nothing would run again."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = str(repo.tmp_dir)
    path = Path(folder, RWLOCK_FILE)
    if not path.exists():
        return
    # As DVC does when it changes that file, so that none is taken away that another process is just writing.
    with make_lock(str(Path(folder, RWLOCK_LOCK)), tmp_dir=folder, hardlink_lock=repo.config["core"].get("hardlink_lock", False)):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            path.unlink()


def _moment(as_of: datetime | None) -> str:
    return NEWEST if as_of is None else shown_moment(as_of)


def _changed_lock(state: Any, recorded: dict[str, Any], current: dict[str, Any], config: str) -> list[Cause]:
    """What changed in ``mlops.lock``: versions, and defaults that the settings take now, instead of what they said or of older ones."""
    if not isinstance(state, dict):
        return [Cause("environment", f"{LOCK} ({state})")]
    causes = []
    for key in state:
        section = key.removeprefix(f"{DEFAULTS}.")
        if section == key:
            group, _, name = key.partition(".")
            new = current.get(group, {}).get(name, _UNSET) if name else current.get(group, _UNSET)
            old = recorded.get(LOCK, {}).get(key, _UNSET if name else {})
            causes += [Cause("environment", line.removeprefix(f"{group}.")) for line in _differences(key, old, new)]
        else:
            new = current.get(DEFAULTS, {}).get(section, _UNSET)
            was_default, said = recorded.get(LOCK, {}).get(key, _UNSET), recorded.get(config, {}).get(section, _UNSET)
            if isinstance(said, dict) and isinstance(new, dict):
                said = {**new, **said}  # what the file left out of a section was by default before, too
            lines = _differences(section, said if was_default is _UNSET else was_default, new)
            causes += [Cause("settings", line) for line in lines or (f"{section}: now by default",)]
    return causes


def _remedy(error: Exception) -> str:
    """What to do about a file that DVC cannot read."""
    path = os.path.normpath(getattr(error, "path", ""))
    if path == ".":
        return "mend what it names"
    effect = "runs every stage of its pipeline" if path.endswith(".lock") else "writes it anew"
    return f"restore it with `git checkout {path}`, or delete it and `mlops run` {effect}"


def _moved(changed: Iterable[str], recorded: dict[str, Any], config: str, current: dict[str, Any]) -> list[str]:
    """Those of some changed sections, there or by default, of which nothing differs but where something is kept (:data:`PLACES`)."""
    found = []
    for key in changed:
        section = key.removeprefix(f"{DEFAULTS}.")
        old = recorded.get(config, {}).get(section, recorded.get(LOCK, {}).get(f"{DEFAULTS}.{section}"))
        sides = [side or {} for side in (old, current.get(section))]
        if section in PLACES and all(isinstance(side, dict) for side in sides):
            defaults = Settings.model_fields[section].default.model_dump(mode="json")
            before, now = ({**defaults, **side, **dict.fromkeys(PLACES[section])} for side in sides)
            found += [key] if before == now else []
    return found


_UNSET = object()
"""A key that is not there: null can say something else, such as that a rule of the gate is off."""


def _differences(key: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [line for k in keys for line in _differences(f"{key}.{k}", old.get(k, _UNSET), new.get(k, _UNSET))]
    return [] if _is_same(old, new) else [f"{key}: {_shown(old)} → {_shown(new)}"]


def _is_same(old: Any, new: Any) -> bool:
    """Whether two values say the same: 1, 1.0 and true are equal, for DVC too, but to a library a count, a share and a truth."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_is_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return type(old) is type(new) and bool(old == new)


def _shown(value: Any) -> str:
    text = "unset" if value is _UNSET else "null" if value is None else str(shown(value))
    return text if len(text) <= 60 else text[:57] + "…"
