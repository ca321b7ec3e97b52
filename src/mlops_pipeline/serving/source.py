"""Which version a reference means, and its files on this machine: from the pipeline's own folder, the cache, or its artifact store."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mlops_pipeline.config.serving import is_folder
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import read_json, write_json
from mlops_pipeline.registry.admission import last_word
from mlops_pipeline.registry.download import Origin, Unfit, alone_beside, fetch, is_complete
from mlops_pipeline.registry.reader import no_champion_among, stored_versions
from mlops_pipeline.registry.versions import CHAMPION, Found, Version, content_digest

KEPT = 5
"""Fetched versions that stay in the cache although none is served."""


@dataclass(frozen=True)
class Look:
    """What one look at the registry found. A reference may have both: what it meant last, and why that is all that is known."""

    found: dict[str, Found]
    faults: dict[str, Unfit]
    unreachable: bool
    registered: dict[str, Version] = field(default_factory=dict)
    """Every version there is, by its number; none where the registry was not asked, or gave no answer."""

    def rejected(self, number: str, content_sha256: str) -> Found | None:
        """A version as it is now, if a person's last word on this very content is that it is not to be taken."""
        version = self.registered.get(number)
        if version is None or version.content_sha256 != content_sha256:
            return None
        last = last_word(version.tags, content_sha256)
        return _found(version) if last is not None and last.decision == "rejected" else None


@dataclass
class ModelSource:
    """A registered model. ``versions`` is where the pipeline keeps its folders, ``cache`` where this server keeps what it fetched.

    ``server`` is the MLflow server behind ``mlflow-artifacts:/`` addresses; by default the registry, if that is one.
    """

    registry: str
    model: str
    versions: Path
    cache: Path
    server: str = ""
    option: str = ""
    """What a command that an error names needs, to mean the pipeline."""

    def __post_init__(self) -> None:
        self._digests: dict[Path, tuple[object, str]] = {}

    def resolve(self, reference: str) -> Found:
        """What an alias, a version's number or a folder's path means now, or meant last if the registry gives no answer.

        Raises :class:`Unfit`.
        """
        look = self.look([reference])
        if reference not in look.found:
            raise look.faults[reference]
        return look.found[reference]

    def look(self, references: Iterable[str]) -> Look:
        """What references mean, as of one moment."""
        found: dict[str, Found] = {}
        faults: dict[str, Unfit] = {}
        named = []
        for reference in references:
            if not is_folder(reference):
                named.append(reference)
                continue
            try:
                found[reference] = self._folder_itself(Path(reference).expanduser().absolute())
            except Unfit as fault:
                faults[reference] = fault
        unreachable, registered = False, dict[str, Version]()
        if named:
            try:
                versions = stored_versions(self.registry, self.model)
            except PipelineError as error:
                unreachable = True
                for reference in named:
                    remembered = self.remembered(reference)
                    if remembered is not None:
                        found[reference] = remembered
                    faults[reference] = Unfit("unreachable", str(error))
            else:
                registered = {str(version.number): version for version in versions}
                for reference in named:
                    try:
                        found[reference] = self._in_registry(reference, versions)
                    except Unfit as fault:
                        faults[reference] = fault
        return Look(found, faults, unreachable, registered)

    def folder(self, found: Found, *, anew: bool = False) -> Path:
        """A complete folder with this content on this machine, fetched if there is none. Raises :class:`Unfit`.

        ``anew`` fetches it all the same, if it can be: versions made before have files that their digest does not cover.
        """
        if not found.number:
            return Path(found.location)
        name = found.content_sha256[:16]
        place = self.cache / "versions" / name

        def held() -> Path | None:
            return next((folder for folder in (self.versions / name, place) if is_complete(folder, found.content_sha256)), None)

        here = None if anew else held()
        if here is not None:
            return here
        try:
            with alone_beside(place):
                here = held()
                if here is not None and not anew:
                    return here
                try:
                    fetch(self._origin(found), place)
                except Unfit:
                    if here is None:
                        raise
                    return here
        except OSError as error:
            raise Unfit("cache", f"{self.cache}: cannot be written ({one_line(error)}): name another folder for the cache") from error
        return place

    def remember(self, reference: str, found: Found) -> None:
        """Note what a reference means, for a start without the registry. Raises :class:`Unfit` if it cannot be written."""
        if is_folder(reference) or self.remembered(reference) == found:
            return
        from filelock import FileLock

        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache / ".lock"):
                notes = self._notes()
                notes.setdefault(self._key, {})[reference] = msgspec.to_builtins(found)
                write_json(self.cache / "served.json", notes)
                self._tidy({str(note.get("content_sha256", ""))[:16] for known in notes.values() for note in known.values()})
        except OSError as error:
            raise Unfit(
                "cache", f"{self.cache}: cannot be written ({one_line(error)}): a start without the registry will not find this version"
            ) from error

    def remembered(self, reference: str) -> Found | None:
        """What a reference meant when a version was last served by it."""
        try:
            return msgspec.convert(self._notes().get(self._key, {}).get(reference), Found)
        except msgspec.ValidationError:
            return None

    def _tidy(self, served: set[str]) -> None:
        """Drop fetched versions that are not served any more, but for the newest."""
        fetched = [folder for folder in (self.cache / "versions").glob("[!.]*") if folder.name not in served]
        for folder in sorted(fetched, key=lambda folder: folder.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _key(self) -> str:
        return f"{hidden(self.registry)} {self.model}"

    def _notes(self) -> dict[str, dict[str, Any]]:
        try:
            return msgspec.convert(read_json(self.cache / "served.json"), dict[str, dict[str, Any]])
        except (OSError, ValueError):
            return {}

    def _in_registry(self, reference: str, versions: list[Version]) -> Found:
        wanted = [v for v in versions if (str(v.number) == reference if reference.isdigit() else reference in v.aliases)]
        if not wanted and reference == CHAMPION:
            raise Unfit("missing", f"{self.model}: {no_champion_among(versions, self.option)}")
        if not wanted:
            there = ", ".join(str(version.number) for version in versions[:10]) or "none"
            called = ", ".join(sorted({alias for version in versions for alias in version.aliases})) or "none"
            raise Unfit(
                "missing",
                f"{self.model}: has no version or alias '{reference}': there are versions {there} and aliases {called} "
                "(a folder is named with a slash, as in ./model)",
            )
        version = wanted[0]
        if not version.content_sha256:
            raise Unfit("checksum", f"{self.model} version {version.number}: carries no digest: register it with `mlops run{self.option}`")
        return _found(version)

    def _folder_itself(self, folder: Path) -> Found:
        if not (folder / "MLmodel").is_file():
            raise Unfit("missing", f"{folder}: is no model folder (MLmodel is missing): name one that `mlops run` made")
        try:
            stamp = [(file.stat().st_mtime_ns, file.stat().st_size, file.stat().st_ino) for file in sorted(folder.glob("**/*"))]
            known = self._digests.get(folder)
            if known is None or known[0] != stamp:
                known = self._digests[folder] = (stamp, content_digest(folder))
        except OSError as error:
            raise Unfit("unreadable", f"{folder}: cannot be read ({one_line(error)})") from error
        return Found("", known[1], str(folder))

    def _origin(self, found: Found) -> Origin:
        return Origin(self.registry, self.model, int(found.number), found.location, found.content_sha256, self.server)


def _found(version: Version) -> Found:
    return Found(str(version.number), version.content_sha256, version.location, dict(version.tags))
