"""Versions in MLflow's registry, and the alias that says which one is champion.

The order of writes is what keeps exactly one valid champion through a kill at any moment: artifacts first, then the
version with its digest and the gate's reasons, then the history, then the word that is to be told, then the alias, then the local link.
Each step is found done, or done again, by the next run. Whoever moves the alias, or gives a person's word, tells of it by this file, and
only by it: at least once, since what is to be told stands on the version until it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.moments import rfc3339
from mlops_pipeline.config.pipeline import Settings, registry_uri, tracking_uri
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.events import ChampionChanged, Event, How, Listener, VersionDecided, Warned, as_line, current_user, event_of
from mlops_pipeline.files import read_json, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.admission import LONGEST_REASON, WAITS_TAG, Decision, Word, next_decision, was_champion_before
from mlops_pipeline.registry.download import Origin, Unfit, alone_beside, fetch, is_complete, put_copy, tidy_beside
from mlops_pipeline.registry.lock import putting_off, store_lock
from mlops_pipeline.registry.reader import RegisteredModel, RegistryUnreachable
from mlops_pipeline.registry.runs import described
from mlops_pipeline.registry.versions import (
    BECAME_TAG,
    CHALLENGER,
    CHAMPION,
    CONTENT_TAG,
    HISTORY_TAG,
    LOOKED_AT_TAG,
    ROLLED_BACK_TAG,
    TOLD_TAG,
    UNTOLD_TAG,
    Version,
    content_digest,
    holds,
    identity_digest,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlops_pipeline.registry.runs import Tracking


REMEMBERED = 500
"""So many former champions are kept, the last ones: a registered model's tag has 5,000 characters in PostgreSQL."""


@dataclass(frozen=True)
class Settled:
    """A person's word on a version, and what became of the version by it; ``former`` is who was champion before."""

    decision: Decision
    version: Version
    former: Version | None
    waited: bool
    """Whether it was to become champion by an approval."""

    @property
    def why_not_champion(self) -> str:
        """Why a version that waited for approval did not become champion by it; empty if it did, or did not wait."""
        if not self.waited or self.version.is_champion or self.former is None:
            return ""
        return f"version {self.former.number} is, with which its gate never compared it"


def registered_model(settings: Settings, layout: Layout) -> RegisteredModel:
    """The model that a pipeline registers; nothing is read or made yet."""
    default = layout.default_tracking_uri
    return RegisteredModel(registry_uri(settings, default), settings.registry.model or settings.name, default)


class RegistryWriter(RegisteredModel):
    """The registered model of one pipeline, to be written too: MLflow opens the store when something is."""

    def __init__(self, tracking: Tracking) -> None:
        model = registered_model(tracking.settings, tracking.layout)
        super().__init__(model.uri, model.name, tracking.layout.default_tracking_uri)
        self._tracking, self._layout = tracking, tracking.layout

    @property
    def _option(self) -> str:
        """What a command that an error names needs, to mean this pipeline."""
        return option_for(self._layout.config)

    @property
    def _client(self) -> MlflowClient:
        return self._tracking.client

    @contextmanager
    def deciding(self, tell: Listener) -> Iterator[None]:
        """Only one process at a time may decide on the champion; what those before it could not tell is told first.

        What is done :func:`~mlops_pipeline.registry.lock.afterwards` is, when others may decide again.
        """

        def waits() -> None:
            tell(Warned(pipeline=self._tracking.settings.name, text="another process decides on the champion: this one waits until it has"))

        with putting_off(), store_lock(self.uri, self._layout, "champion", waits):
            versions = self.versions()
            for version in versions:
                if version.tags.get(UNTOLD_TAG):
                    self._tell_late(version, tell)
            champion = next((version for version in versions if version.is_champion), None)
            if champion is not None:
                self._tell_of_another(champion, tell)
            yield

    def became_champion(self, number: int, since: float) -> How | None:
        """How a version last became champion since a moment, in seconds since 1970, whoever is champion now; None if it did not.

        Known for sure only while :meth:`deciding`, since then what was begun before is told.
        """
        event = event_of(self.get(number).tags.get(BECAME_TAG, ""))
        return event.how if isinstance(event, ChampionChanged) and event.time.timestamp() >= since else None

    def _tell_late(self, version: Version, tell: Listener) -> None:
        """What its maker began and was killed over: it may not have come to it, and then there is nothing to tell."""
        event = event_of(version.tags[UNTOLD_TAG])
        if isinstance(event, ChampionChanged) and version.is_champion:
            self._tidy(version)
        elif not isinstance(event, VersionDecided) or not _stands(event, version):
            event = None
        self._tell(version.number, event, tell)

    def _tell_of_another(self, champion: Version, tell: Listener) -> None:
        """Tell of an alias that was moved by MLflow's own page or client, which tell nobody here, nor note whom to go back to.

        Nobody is told of one that may not be taken, and is not: servers keep the one before.
        """
        told = [version.number for version in self.versions() if version.tags.get(TOLD_TAG)]
        if champion.number in told or champion.refused:
            return
        from mlflow.exceptions import MlflowException

        former = told[0] if len(told) == 1 else None
        event = self._changed(champion, former, "moved outside", user="")
        try:
            if not told:  # what was champion before this was noted was told of, and the next is held against it
                self.retag(champion.number, {TOLD_TAG: "true"})
                return
            if former is not None:
                self._note_former(former)
            self._note(champion.number, event)
        except MlflowException:  # who may only read leaves it to those who may write
            return
        self._tell(champion.number, event, tell)

    def _note(self, number: int, event: Event) -> None:
        """Have the next who decides tell of what is about to be done, if this process does not come to it."""
        self.retag(number, {UNTOLD_TAG: as_line(event).decode()})

    def _tell(self, number: int, event: Event | None, tell: Listener) -> None:
        """Tell of what is done, and note that it is told."""
        if event is not None:
            tell(event)
        if isinstance(event, ChampionChanged):
            self.retag(number, {TOLD_TAG: "true", BECAME_TAG: as_line(event).decode()})
            for former in self.versions():
                if former.number != number and former.tags.get(TOLD_TAG):
                    self.retag(former.number, {TOLD_TAG: ""})
        self.retag(number, {UNTOLD_TAG: ""})

    def champion_besides(self, model_sha256: str) -> tuple[Version, Path] | None:
        """The champion and its folder on this machine; None if there is none, or if it is this very model."""
        version = self.champion()
        return None if version is None or version.is_of(model_sha256) else (version, self.fetch(version))

    def fitted_again(self, identity_sha256: str, evaluated_on: str) -> Version | None:
        """The newest version that was fitted again on all rows, after this fit was judged on those rows."""
        versions = (one for one in self.versions() if one.judged_sha256 == identity_sha256 and one.evaluated_on == evaluated_on)
        return next(versions, None)

    def add(self, folder: Path, content_sha256: str, run_id: str, tags: dict[str, str]) -> Version:
        """Store a model folder and register it as a new version, tags and all in one step."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        logged = self._client.create_logged_model(
            self._tracking.experiment_id, name=self.name, source_run_id=run_id, tags={CONTENT_TAG: content_sha256}
        )
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        made = self._client.create_model_version(
            self.name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            tags={CONTENT_TAG: content_sha256, **tags},
            model_id=logged.model_id,
        )
        return self.get(int(made.version))

    def add_file(self, version: Version, file: Path) -> None:
        """Put a file beside those of a stored version, which its digest does not cover; a version of MLflow's older kind keeps none."""
        made = self._client.get_model_version(self.name, str(version.number))
        if made.model_id:
            self._client.log_model_artifact(made.model_id, str(file))

    def retag(self, number: int, tags: dict[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, str(number), key, value)

    def describe(self, number: int, model: str, version: str) -> None:
        """Describe the model and a version of it, where no person has."""
        registered = self._client.get_registered_model(self.name)
        if registered.description != (wanted := described(registered.description, model)):
            self._client.update_registered_model(self.name, wanted)
        made = self._client.get_model_version(self.name, str(number))
        if made.description != (wanted := described(made.description, version)):
            self._client.update_model_version(self.name, str(number), wanted)

    def admit_champions_of_before(self, tell: Listener) -> None:
        """Have those versions of before taken that were champion, or are; it is done once, and told.

        The gate's tag, which counts of them, was written over when the gate looked at a champion again. An alias that somebody sets
        later admits nothing.
        """
        versions = self.versions()
        if not versions or LOOKED_AT_TAG in self._client.get_registered_model(self.name).tags:
            return
        sealed = min((version.number for version in versions if version.is_sealed), default=versions[0].number + 1)
        champions = {version.number for version in versions if version.is_champion} | {*self._history()}
        before = [version for version in versions[::-1] if version.number in champions and version.number < sealed]
        lacking = {version.number: was_champion_before(version.tags, version.content_sha256) for version in before}
        found = [number for number, tags in lacking.items() if tags]
        for number in found:
            self.retag(number, lacking[number])
        self._client.set_registered_model_tag(self.name, LOOKED_AT_TAG, json.dumps(found))
        if found:
            which = f"{self.name} version{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
            text = f"{which}: champion before versions were sealed, and taken as before whatever later gates said"
            tell(Warned(pipeline=self._tracking.settings.name, text=text))

    def make_champion(self, number: int, how: How, tell: Listener, reason: str = "") -> None:
        """Move the alias, after noting today's champion as a former one, and tell of it; nothing moves if it is champion already."""
        champion, version = self.champion(), self.get(number)
        if champion is not None and champion.number == number:
            self._tidy(version)
            self._tell_of_another(version, tell)  # the alias may have been moved in MLflow before it might be taken
            return
        if champion is not None:
            self._note_former(champion.number)
        self._move(version, champion, how, reason, tell)

    def _move(self, version: Version, former: Version | None, how: How, reason: str, tell: Listener) -> None:
        """Move the alias and tell of it; who is killed between is spoken for by the next who decides."""
        event = self._changed(version, None if former is None else former.number, how, reason)
        self._note(version.number, event)
        self._client.set_registered_model_alias(self.name, CHAMPION, str(version.number))
        self._tidy(version)
        self._tell(version.number, event, tell)

    def _changed(self, version: Version, former: int | None, how: How, reason: str = "", user: str | None = None) -> ChampionChanged:
        return ChampionChanged(
            pipeline=self._tracking.settings.name,
            model=self.name,
            version=version.number,
            former=former,
            content_sha256=version.content_sha256,
            run_id=version.run_id,
            how=how,
            reason=one_line(reason, LONGEST_REASON),  # a tag has room for 5,000 characters
            user=current_user() if user is None else user,
        )

    def _tidy(self, champion: Version) -> None:
        """A champion is no challenger any more, and waits for nobody."""
        if CHALLENGER in champion.aliases:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)
        if champion.tags.get(WAITS_TAG):
            self.retag(champion.number, {WAITS_TAG: ""})

    def make_challenger(self, number: int) -> None:
        """Let a version that passed its gate be called challenger; the champion stays."""
        self._client.set_registered_model_alias(self.name, CHALLENGER, str(number))

    def without_challenger(self, number: int) -> None:
        """A version is challenger no more, if it was."""
        if CHALLENGER in self.get(number).aliases:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)

    def promote(self, number: int, override: str | None, tell: Listener, how: How = "promoted by hand", reason: str = "") -> Version:
        """Make a version champion and tell of it; one that may not be taken only by an override, which approves it and is kept for good.

        Raises :class:`PipelineError` for a version that was never evaluated on held-out rows, whatever the reason.
        """
        version = self._judged(number)
        if override is not None:
            self.decide(number, "approved", override, tell)
        elif version.refused and (version.decisions or version.waits):
            raise PipelineError(f"{self.name} version {number}: {version.why_refused(self._option)}")
        elif version.refused:
            failed = "; ".join(rule["text"] for rule in version.gate if not rule["passed"]) or "no reason stored"
            raise PipelineError(
                f"{self.name} version {number}: failed the gate ({failed}): give --override REASON to promote it all the same"
            )
        self.fetch(version)
        self.retag(number, {ROLLED_BACK_TAG: ""})
        self.make_champion(number, how, tell, override or reason)
        return self.get(number)

    def decide(self, number: int, word: Word, reason: str, tell: Listener, by: str = "") -> Decision:
        """Note a person's word on a version beside those before it, and tell of it; by default the person is who is at work.

        Raises :class:`PipelineError` without a reason, for a version that was never evaluated, and for a champion to be rejected.
        """
        version, reason, by = self._judged(number), " ".join(reason.split()), " ".join(by.split()) or current_user()
        if not reason or len(reason) > LONGEST_REASON:
            raise PipelineError(f"the reason has {len(reason):,} characters: give one of 1 to {LONGEST_REASON:,}, for those who ask later")
        if word == "rejected" and version.is_champion:
            back = f"`mlops models rollback{self._option}`"
            raise PipelineError(f"{self.name} version {number}: is champion: promote another first, or {back}")
        event = VersionDecided(
            pipeline=self._tracking.settings.name,
            model=self.name,
            version=number,
            content_sha256=version.content_sha256,
            run_id=version.run_id,
            decision=word,
            by=by,
            reason=reason,
        )
        made = Decision(word, by, reason, rfc3339(event.time), version.content_sha256)
        self._note(number, event)
        self.retag(number, {next_decision(version.tags): msgspec.json.encode(made).decode()})
        self._tell(number, event, tell)
        return made

    def settle(self, number: int, word: Word, reason: str, by: str, tell: Listener) -> Settled:
        """Note a person's word, and let a version that waited for it become champion if its gate saw today's champion.

        Raises :class:`PipelineError` as :meth:`decide` does. To be called while :meth:`deciding`.
        """
        before, former = self.get(number), self.champion()
        made = self.decide(number, word, reason, tell, by)
        waited = word == "approved" and before.waits
        settled = self.get(number)
        if waited and before.was_judged_against(former):
            settled = self.promote(number, None, tell, "approved by a person", made.reason)
        elif waited:
            self.wait_no_more(number)
        if settled.is_champion:  # the alias may have been moved in MLflow before anybody let it be taken
            self._tell_of_another(settled, tell)
        return Settled(made, settled, former, waited)

    def wait_no_more(self, number: int) -> None:
        """A person's approval is all that a version is to have; it is champion only if it is promoted."""
        self.retag(number, {WAITS_TAG: ""})

    def _judged(self, number: int) -> Version:
        version = self.get(number)
        if not version.evaluated_on or not version.content_sha256:
            first = f"register it with `mlops run{self._option}` first"
            raise PipelineError(f"{self.name} version {number}: was never evaluated on held-out rows: {first}")
        return version

    def former_champion(self) -> tuple[Version, Version]:
        """The champion, and the one before it that may be taken. Raises :class:`PipelineError` if there is none."""
        current, history = self._to_roll_back()
        return current, self.get(history[-1])

    def rollback(self, tell: Listener, reason: str = "") -> tuple[Version, Version]:
        """Make the former champion that may be taken champion again, and tell of it; the one that goes is not promoted again by a run."""
        current, history = self._to_roll_back()
        former = self.get(history[-1])
        self.fetch(former)
        self.retag(current.number, {ROLLED_BACK_TAG: rfc3339(datetime.now(UTC))})
        self._move(former, current, "rolled back", reason, tell)
        self._write_history(history[:-1])
        return current, self.get(former.number)

    def _to_roll_back(self) -> tuple[Version, list[int]]:
        """The champion, and those before it up to the one that may be taken."""
        current = self.champion()
        if current is None:
            raise PipelineError(f"{self.name}: has no champion to roll back from")
        versions = self.versions()
        there = {version.number for version in versions if not version.refused}
        # One that had the alias until it was moved in MLflow is noted by who tells of that, and nobody tells of one that may not be taken.
        told = [version.number for version in versions if version.tags.get(TOLD_TAG)]
        history = [*self._history(), *(told if len(told) == 1 else ())]
        former = [number for number in history if number != current.number]
        while history and (history[-1] == current.number or history[-1] not in there):
            history.pop()
        if not history:
            why = "none of those before it may be taken" if former else "is the first champion"
            raise PipelineError(f"{self.name}: version {current.number}: {why}: there is none to roll back to")
        return current, history

    def fetch(self, version: Version) -> Path:
        """The version's model folder on this machine, downloaded once and checked against its digest. Raises :class:`PipelineError`."""
        folder = self._layout.versions / (version.content_sha256[:16] or f"version-{version.number}")
        if is_complete(folder, version.content_sha256):
            return folder
        if version.tags.get(CONTENT_TAG) and not version.content_sha256:
            anew = f"register it anew with `mlops run{self._option}`"
            raise Unfit("checksum", f"{self.name} version {version.number}: its digest is none: {anew}")
        artifacts = tracking_uri(self._tracking.settings, self._layout.default_tracking_uri)
        origin = Origin(self.uri, self.name, version.number, version.location, version.content_sha256, artifacts)
        with alone_beside(folder):
            if not is_complete(folder, version.content_sha256):
                fetch(origin, folder, by_mlflow=True)
        return folder

    def publish(self, tell: Listener) -> Path | None:
        """Point ``models/registry/best_model`` and the model card at the champion; None without one that may be taken, which is told."""
        champion = self.champion()
        if champion is None:
            return None
        place = self._layout.best_model
        if champion.refused:
            text = f"{self.name} version {champion.number}, which MLflow calls champion, {champion.why_refused(self._option)}"
            tell(Warned(pipeline=self._tracking.settings.name, text=text))
            return None
        folder = self.fetch(champion)
        card = folder / "MODEL_CARD.md"
        with alone_beside(place):
            tidy_beside(place)
            # The card first: who dies after it leaves a model that is not the champion, and the next run does both.
            if card.exists():
                write_text(self._layout.model_card, card.read_text(encoding="utf-8"))
            if not _is(place, champion.content_sha256):
                # A folder and no link, since MLflow refuses to read a model through one.
                put_copy(folder, place)
        return place

    def _history(self) -> list[int]:
        """The former champions, the last one last. Raises :class:`PipelineError` where somebody has spoiled the tag."""
        text = self._client.get_registered_model(self.name).tags.get(HISTORY_TAG, "[]")
        try:
            return msgspec.json.decode(text, type=list[int])
        except msgspec.DecodeError as error:
            what = f"{self.name}: the registered model's tag {HISTORY_TAG} = {text[:40]!r}"
            raise PipelineError(f"{what}: is no list of versions: mend it in MLflow, or delete it") from error

    def _note_former(self, number: int) -> None:
        """Note who was champion, to be gone back to."""
        history = self._history()
        if history[-1:] != [number]:
            self._write_history([*history, number])

    def _write_history(self, history: list[int]) -> None:
        self._client.set_registered_model_tag(self.name, HISTORY_TAG, json.dumps(history[-REMEMBERED:]))


def _stands(event: VersionDecided, version: Version) -> bool:
    """Whether a person's word that was about to be written on a version is among those there."""
    said = Decision(event.decision, event.by, event.reason, rfc3339(event.time), event.content_sha256)
    return said in version.decisions


@dataclass(frozen=True)
class Lacking:
    """Why the recorded registration does not hold any more, or that all that ``best_model`` lacks is the champion's files."""

    registration: str = ""
    best_model: bool = False


def lacking(settings: Settings, layout: Layout) -> Lacking:
    """What the registry, asked once, or the link to its champion lacks.

    Asks the store without MLflow, whose import alone would take longer than the rest of an idle run. Only a clear
    «yes, it is there» counts: anything else sends the run through MLflow's own client.
    """
    try:
        recorded = read_json(layout.registration)
    except (OSError, ValueError):
        return Lacking("models/artifacts/registration.json is missing")
    try:
        there = [version for version in registered_model(settings, layout).versions() if version.content_sha256]
    except PipelineError as error:
        return Lacking(str(error))
    missing = _missing(settings, there, recorded)
    champion = next((version for version in there if version.is_champion and not version.refused), None)
    return Lacking(missing, best_model=not missing and champion is not None and not _is(layout.best_model, champion.content_sha256))


def _missing(settings: Settings, there: list[Version], recorded: dict[str, Any]) -> str:
    name = settings.registry.model or settings.name
    champion = next((version for version in there if version.is_champion), None)
    if champion is not None and was_champion_before(champion.tags, champion.content_sha256) and not champion.decisions:
        return f"whether {name} version {champion.number}, made before versions were sealed, may be taken"
    if recorded["content_sha256"] not in {version.content_sha256 for version in there}:
        return f"{name} does not hold this model"
    if settings.then_is_told and settings.gate.then != "approval":
        waiting = next((one for one in there if one.waits and one.content_sha256 == recorded["content_sha256"]), None)
        if waiting is not None:
            return f"{name} version {waiting.number} waits for approval, and this run is told what it becomes"
    if champion is None:
        is_champion = recorded["passed"] and recorded.get("then", "champion") == "champion"
        return f"{name} has lost its champion" if is_champion else ""
    return ""


def prove(settings: Settings, layout: Layout, folder: Path) -> str:
    """Compare a pipeline's own model folder with what is registered; other folders are whatever their user takes them for.

    Gives what a user has to know of it: that the champion is another, or that the registry does not answer. Raises
    :class:`PipelineError` if no version has these files, or the one that has may not be taken.
    """
    place = folder.resolve()
    if place != layout.best_model.resolve() and place.parent != layout.versions.resolve():
        return ""
    model, named, option = registered_model(settings, layout), layout.relative(folder), option_for(layout.config)
    try:
        versions = model.versions()
    except RegistryUnreachable as error:
        return f"{named} could not be compared with its registration: {error}"
    if not versions:
        return f"{named} could not be compared with its registration: {model.name} has no version in {hidden(model.uri)}"
    digests = (content_digest(folder), identity_digest(folder))
    same = sorted((version for version in versions if version.content_sha256 in digests), key=lambda version: bool(version.refused))
    if not same:
        raise PipelineError(f"{named}: its files are those of no version of {model.name}: `mlops run{option}` brings the champion's back")
    if same[0].refused:
        raise PipelineError(f"{named}: {model.name} version {same[0].number} {same[0].why_refused(option)}")
    champion = next((version for version in versions if version.is_champion), None)
    if place != layout.best_model.resolve() or champion is None or champion.content_sha256 in digests:
        return ""
    refused = champion.why_refused(option)
    why = f"which MLflow calls champion, {refused}" if refused else f"is champion now: `mlops run{option}` brings its files here"
    return f"version {same[0].number} predicts; version {champion.number}{',' * bool(refused)} {why}"


def _is(folder: Path, content_sha256: str) -> bool:
    return (folder / "MLmodel").is_file() and holds(folder, content_sha256)
