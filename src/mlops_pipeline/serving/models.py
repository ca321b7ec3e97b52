"""The models that are served: loaded, proved against their expected outputs, and replaced when the registry says so."""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from mlops_pipeline.config.serving import Inputs, Limits
from mlops_pipeline.contract.evaluation import FILE as EVALUATION
from mlops_pipeline.contract.evaluation import Evaluation, evaluation_of
from mlops_pipeline.contract.spec import FILE, Contract, Unreadable, contract_of
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.inference.formats import Engine
from mlops_pipeline.inference.proof import FILE as EXPECTED
from mlops_pipeline.inference.proof import Expected, Unproven, prove
from mlops_pipeline.inference.raw import RawInput
from mlops_pipeline.inference.signature import ANY_LENGTH, Length, Lengths, Signature
from mlops_pipeline.registry.download import Unfit
from mlops_pipeline.registry.versions import CHAMPION, Found, holds
from mlops_pipeline.serving.source import Look, ModelSource

WARM_ROWS = (1, 64)
WARM_CALLS = 3
LONGEST_PAUSE_S = 60.0

Content = TypeVar("Content")


@dataclass(frozen=True)
class Options:
    """How models are loaded: threads of each engine, and the server's own policy on rows."""

    threads: int = 1
    reject_unseen: bool = False
    refuse_extra: bool = False
    max_rows: int = 10_000
    lengths: Lengths = ANY_LENGTH
    inputs: Inputs = "either"
    option: str = ""
    """What a command that an error names needs, to mean the pipeline."""


def lengths_of(limits: Limits) -> Lengths:
    """How long the texts of a request may be, by the server's settings."""
    longest = [Length(each.characters, each.most_bytes) for each in (limits.id, limits.category, limits.text)]
    return Lengths(longest[0], longest[1], longest[2], limits.text.request)


@dataclass(frozen=True)
class Loaded:
    """A model that can take traffic. ``name`` is its name in the URL; ``version`` is empty for a folder outside the registry."""

    name: str
    reference: str
    version: str
    content_sha256: str
    folder: Path
    signature: Signature = field(repr=False)
    engine: Engine = field(repr=False)
    contract: Contract = field(repr=False)
    evaluation: Evaluation = field(repr=False)
    gate: tuple[dict[str, Any], ...] = field(repr=False)
    mlflow_version: str
    """Of the MLflow that wrote the model, which MLflow's clients ask for."""
    loaded_at: float
    raw: RawInput | None = field(default=None, repr=False)
    """How it takes rows as the source has them; None where it does not, or may not."""

    def limited(self, max_rows: int, lengths: Lengths) -> Loaded:
        """The same with other limits of what one request may hold."""
        raw = None if self.raw is None else self.raw.limited(max_rows, lengths)
        return dataclasses.replace(self, signature=dataclasses.replace(self.signature, max_rows=max_rows, lengths=lengths), raw=raw)

    def is_what(self, found: Found) -> bool:
        """Whether this is the very version that a reference means."""
        return (self.content_sha256, self.version) == (found.content_sha256, found.number)


class Failure(NamedTuple):
    """Why a model could not be loaded or found; ``reason`` is a word for metrics."""

    name: str
    reason: str
    detail: str


def load(name: str, reference: str, found: Found, folder: Path, options: Options) -> Loaded:
    """Check a folder, read it, warm it up, and compare what it predicts with what it is expected to.

    Raises :class:`Unfit` in one line that names the file.
    """
    _check_digest(folder, found)
    contract = _read(folder / FILE, contract_of)
    evaluation = _read(folder / EVALUATION, evaluation_of)
    if found.admitted_on not in ("", evaluation.test_sha256):
        raise Unfit("gate", f"{folder / EVALUATION}: is not what the gate let pass: register the version anew with `mlops run`")
    expected = _decoded(folder / EXPECTED, Expected)
    if not expected.rows:
        raise Unfit("missing", f"{folder / 'expected.json'}: holds no row: register the version anew with `mlops run`")
    engine = _engine(folder, contract, options.threads)
    signature = Signature.of(
        contract,
        reject_unseen=options.reject_unseen,
        refuse_extra=options.refuse_extra,
        max_rows=options.max_rows,
        lengths=options.lengths,
        precision=engine.precision,
    )
    _prove(folder, signature, engine, expected)
    # A folder that is replaced while it is read would mix two versions.
    _check_digest(folder, found)
    return Loaded(
        name=name,
        reference=reference,
        version=found.number,
        content_sha256=found.content_sha256,
        folder=folder,
        signature=signature,
        engine=engine,
        contract=contract,
        evaluation=evaluation,
        gate=found.gate,
        mlflow_version=_mlflow_version(folder),
        loaded_at=time.time(),
        raw=RawInput.taken(contract, signature, options.inputs),
    )


class Watch:
    """Follows the registry: a thread that replaces each model when its reference means another version.

    ``models`` gives each name its reference. ``on_loaded`` takes a name and its new model, ``on_failed`` a name, a reason
    and a detail, once for each distinct failure until the name is well again, and ``on_dropped`` the same of a model that is to answer
    no more; all are called in the thread. ``meanwhile`` is called at each look, for what else is watched. ``pause`` waits some seconds
    and says whether to end.
    """

    def __init__(
        self,
        source: ModelSource,
        models: dict[str, str],
        options: Options,
        *,
        on_loaded: Callable[[str, Loaded], None],
        on_failed: Callable[[str, str, str], None],
        on_dropped: Callable[[str, str, str], None] = lambda *_: None,
        meanwhile: Callable[[], object] = lambda: None,
        poll_s: float = 5.0,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._source, self._models, self._options = source, dict(models), options
        self._on_loaded, self._on_failed, self._on_dropped = on_loaded, on_failed, on_dropped
        self._meanwhile, self._poll_s = meanwhile, poll_s
        self._stopped, self._called = threading.Event(), threading.Event()
        self._pause = pause or self._wait
        self._served: dict[str, Loaded] = {}
        self._told: dict[str, set[Failure]] = {name: set() for name in models}
        self._retries: dict[str, _Retry] = {}
        self._waited = 0.0
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)

    def first_load(self) -> tuple[dict[str, Loaded], list[Failure]]:
        """Load every model now. One whose version is unfit is served as it last was, from this machine, and still counts as failed."""
        failures: list[Failure] = []
        self._look(_Listener(lambda _name, _loaded: None, failures.append, failures.append))
        return dict(self._served), failures

    def load_version(self, name: str, number: str) -> Loaded:
        """A version by its number, proved like any other, to answer beside what is served; in any thread.

        Raises :class:`Unfit`.
        """
        try:
            found = self._source.resolve(number)
            if refused := found.why_refused(self._options.option):
                raise Unfit("gate", f"version {found.number} {refused}")
            return load(name, number, found, self._source.folder(found), self._options)
        except Exception as error:
            raise _fault(error) from error

    def limit(self, max_rows: int, lengths: Lengths) -> None:
        """Let requests of what is loaded from now on hold so much."""
        self._options = dataclasses.replace(self._options, max_rows=max_rows, lengths=lengths)

    def start(self) -> None:
        """Begin to follow the registry."""
        self._thread.start()

    def look_now(self) -> None:
        """Look at the registry at once: somebody says that it has changed; from any thread."""
        self._called.set()

    def _wait(self, seconds: float) -> bool:
        self._called.wait(seconds)
        self._called.clear()
        return self._stopped.is_set()

    def stop(self, seconds: float = 5.0) -> None:
        """End the thread; a load that is under way gets some seconds to finish."""
        self._stopped.set()
        self._called.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _watch(self) -> None:
        to = _Listener(self._on_loaded, lambda failure: self._on_failed(*failure), lambda failure: self._on_dropped(*failure))
        seconds = self._poll_s
        while not self._pause(seconds) and not self._stopped.is_set():
            self._waited += seconds
            try:
                self._meanwhile()
                reachable = self._look(to)
            except Exception:
                logging.getLogger(__name__).exception("the watch on models goes on after an error of a listener")
                reachable = False
            seconds = self._poll_s if reachable else _longer(seconds, self._poll_s)

    def _look(self, to: _Listener) -> bool:
        """Bring every model up to date; whether the registry answered."""
        try:
            look = self._source.look(sorted(set(self._models.values())))
        except Exception as error:  # noqa: BLE001  # the thread outlives whatever a registry says
            for name in self._models:
                self._tell(to, name, _fault(error))
            return False
        for name, reference in self._models.items():
            self._note_rejection(name, reference, look, to)
            fault = look.faults.get(reference)
            if fault is not None:
                self._tell(to, name, fault)
            found = None if fault is not None and name in self._served else look.found.get(reference)
            is_brought = found is not None and self._bring(name, reference, found, to)
            if not self._is_turned_down(name, reference, look, to) and is_brought and fault is None:
                self._told[name].clear()
        return not look.unreachable

    def _note_rejection(self, name: str, reference: str, look: Look, to: _Listener) -> None:
        """Note that a person has rejected what a reference meant last: else it would be taken again while the registry is away."""
        last = self._source.remembered(reference) if look.registered and reference != CHAMPION else None
        rejected = None if last is None else look.rejected(last.number, last.content_sha256)
        if rejected is not None:
            try:
                self._source.remember(reference, rejected)
            except Unfit as fault:
                self._tell(to, name, fault)

    def _is_turned_down(self, name: str, reference: str, look: Look, to: _Listener) -> bool:
        """Whether a person has rejected what is served, which then answers no more.

        But for a champion: who follows its alias is not left without an answer, and is told.
        """
        served = self._served.get(name)
        rejected = None if served is None else look.rejected(served.version, served.content_sha256)
        if rejected is None:
            return False
        if reference == CHAMPION:
            said = "was rejected and answers on, as the last champion that could be served: promote another version"
            self._tell(to, name, Unfit("gate", f"version {rejected.number} {said}"))
            return True
        del self._served[name]
        failure = Failure(name, "gate", f"version {rejected.number} {rejected.why_refused(self._options.option)}")
        self._told[name].add(failure)
        to.dropped(failure)
        return True

    def _bring(self, name: str, reference: str, found: Found, to: _Listener) -> bool:
        """Serve what a reference means; whether that is what is served now."""
        served = self._served.get(name)
        if served is not None and served.is_what(found):
            self._retries.pop(name, None)
            return True
        retry = self._retries.get(name)
        if retry is not None and retry.found != found:
            retry = None
        if retry is not None and self._waited < retry.due:
            return False
        try:
            self._serve(name, reference, found, to, anew=retry is not None)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a new version, the old one stays
            pause = _longer(retry.pause, self._poll_s) if retry is not None else self._poll_s
            self._retries[name] = _Retry(found, pause, self._waited + pause)
            self._tell(to, name, _fault(error))
            self._fall_back(name, reference, found, to)
            return False
        self._retries.pop(name, None)
        return True

    def _serve(self, name: str, reference: str, found: Found, to: _Listener, *, anew: bool = False) -> None:
        if refused := found.why_refused(self._options.option):
            raise Unfit("gate", f"version {found.number} {refused}")
        served = self._served.get(name)
        if served is not None and served.content_sha256 == found.content_sha256:
            loaded = dataclasses.replace(served, version=found.number, gate=found.gate).limited(
                self._options.max_rows, self._options.lengths
            )
        else:
            loaded = load(name, reference, found, self._source.folder(found, anew=anew), self._options)
        to.loaded(name, loaded)
        self._served[name] = loaded
        try:
            self._source.remember(reference, found)
        except Unfit as fault:
            self._tell(to, name, fault)

    def _fall_back(self, name: str, reference: str, found: Found, to: _Listener) -> None:
        """At a start, serve the version that a reference meant last instead of one that is unfit."""
        last = self._source.remembered(reference)
        if name in self._served or last is None or (last.content_sha256, last.number) == (found.content_sha256, found.number):
            return
        try:
            self._serve(name, reference, last, to)
        except Exception as error:  # noqa: BLE001  # as above
            self._tell(to, name, _fault(error))

    def _tell(self, to: _Listener, name: str, fault: Unfit) -> None:
        failure = Failure(name, fault.reason, fault.detail)
        if failure not in self._told[name]:
            self._told[name].add(failure)
            to.failed(failure)


class _Listener(NamedTuple):
    loaded: Callable[[str, Loaded], None]
    failed: Callable[[Failure], None]
    dropped: Callable[[Failure], None]


class _Retry(NamedTuple):
    found: Found
    pause: float
    due: float


def _longer(pause: float, least: float) -> float:
    return max(min(2 * pause, LONGEST_PAUSE_S), least)


def _fault(error: Exception) -> Unfit:
    if isinstance(error, Unfit):
        return error
    return Unfit("unreadable", str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {one_line(error)}")


def _mlflow_version(folder: Path) -> str:
    found = re.search(r"^mlflow_version: (\S+)$", (folder / "MLmodel").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def _check_digest(folder: Path, found: Found) -> None:
    try:
        is_whole = holds(folder, found.content_sha256)
    except OSError as error:
        raise Unfit("unreadable", f"{folder}: cannot be read ({one_line(error)})") from error
    if not is_whole:
        raise Unfit("checksum", f"{folder}: its files do not match their digest {found.content_sha256[:16]}: restore it, or remove it")


def _decoded(path: Path, kind: type[Content]) -> Content:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise Unfit("missing", f"{path}: is missing: register the version anew with `mlops run`") from error
    except (OSError, ValueError) as error:
        raise Unfit("unreadable", f"{path}: is damaged ({one_line(error)}): restore it, or promote another version") from error


def _read(path: Path, reader: Callable[[bytes], Content]) -> Content:
    try:
        return reader(path.read_bytes())
    except FileNotFoundError as error:
        raise Unfit("missing", f"{path}: is missing: register the version anew with `mlops run`") from error
    except (Unreadable, OSError) as error:
        raise Unfit("unreadable", f"{path}: {one_line(error)}") from error


def _engine(folder: Path, contract: Contract, threads: int) -> Engine:
    try:
        return load_engine(folder, contract, threads)
    except PipelineError as error:
        raise Unfit("unreadable", str(error)) from error


def _prove(folder: Path, signature: Signature, engine: Engine, expected: Expected) -> None:
    """Warm the engine up, then compare its outputs on the expected rows."""
    try:
        prove(signature, engine, expected, WARM_ROWS, WARM_CALLS)
    except Unproven as error:
        raise Unfit(error.reason, f"{folder / EXPECTED}: {error}") from error
