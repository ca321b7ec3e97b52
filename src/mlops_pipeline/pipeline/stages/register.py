"""Register: put the evaluated model in the registry, and make it champion if the gate lets it pass."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.moments import shown_moment
from mlops_pipeline.config.pipeline import Settings, Then
from mlops_pipeline.contract.evaluation import FILE as EVALUATION
from mlops_pipeline.contract.evaluation import AgainstChampion, Evaluation
from mlops_pipeline.contract.reference import FILE as REFERENCE
from mlops_pipeline.contract.spec import FILE, Card, Contract
from mlops_pipeline.events import GateDecided, Listener, RuleApplied, Warned, ignored
from mlops_pipeline.files import read_json, sha256_of_file, write_json, write_text
from mlops_pipeline.inference.engine import load_engine, score
from mlops_pipeline.inference.formats import folder_of, formats_in
from mlops_pipeline.inference.int8 import NAME as INT8
from mlops_pipeline.inference.scorer import Scorer, contract_at, evaluation_at, example_rows, load_scorer, scorer_of
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.card import model_card
from mlops_pipeline.modelling.gate import Rule, decide, decide_again
from mlops_pipeline.modelling.report import Outcome, report, run_note
from mlops_pipeline.modelling.skew import Skew, skew_of
from mlops_pipeline.modelling.trained_rows import write_trained_rows
from mlops_pipeline.pages import in_markdown
from mlops_pipeline.registry.admission import IDENTITY_TAG, PASSED_TAG, WAITS_TAG, admitted, waiting, waits
from mlops_pipeline.registry.champion import RegistryWriter
from mlops_pipeline.registry.download import keep
from mlops_pipeline.registry.runs import Tracking
from mlops_pipeline.registry.versions import (
    AGAINST_TAG,
    AS_OF_TAG,
    EVALUATED_TAG,
    GATE_TAG,
    JUDGED_MODEL_TAG,
    JUDGED_TAG,
    LATENCY_TAG,
    MODEL_TAG,
    REASON_TAG,
    VERSION_TAG,
    Version,
    content_digest,
    identity_digest,
)

if TYPE_CHECKING:
    from rich.console import Console

LATENCY_CALLS = 20
LONG_TEXT = 50
"""Words of a text whose speed is told."""

WITHOUT_SUMMARY = (
    "an older release evaluated this model and summed no rows up, so `mlops monitor` has nothing to compare this version with: "
    "after `mlops run --from evaluate` the next version has a summary"
)


def register(settings: Settings, layout: Layout, console: Console, tell: Listener = ignored) -> None:
    """Register the version whatever the gate says; move the alias only if it passed; publish ``best_model``.

    Doing it again changes nothing: the version is found by its identity, or that of the fit that was judged before it was made
    on all rows (``registry.refit_on_all``). The champion is judged by today's gate
    like any other version, and stays champion if it fails: only a version that passed, or a person, takes its place. A model that passes
    now and did not before becomes a version of its own, since what lets it pass is among the files that the digest covers.
    """
    tracking = Tracking(settings, layout).open()
    registry = RegistryWriter(tracking)
    training, evaluation = contract_at(layout.training), evaluation_at(layout.evaluation / EVALUATION)
    with tempfile.TemporaryDirectory(prefix="mlops-register-") as temporary:
        training = msgspec.structs.replace(training, card=Card(**settings.registry.card.model_dump()))
        folder = _assembled(layout, training, Path(temporary) / "model")
        identity = identity_digest(folder)
        latency_ms = _latency_ms(load_scorer(folder, threads=1), folder)
        skew = skew_of(training, layout.replay, layout.raw, layout.test) if settings.gate.skew else None
        fit, place = _Fit(training, evaluation, identity, latency_ms, skew), Path(temporary) / "again"
        # What takes long is done before others are kept from deciding on the champion: a comparison, and a fit if this is to be champion.
        likely = _verdict(registry, settings, layout, fit)
        if settings.registry.refit_on_all and likely.passed and likely.again is None:
            _on_all_rows(settings, layout, training, likely.evaluation, place, console)
        with registry.deciding(tell):
            registry.admit_champions_of_before(tell)
            verdict = _verdict(registry, settings, layout, fit, likely.evaluation.champion)
            again, version, evaluation, rules = verdict.again, verdict.version, verdict.evaluation, verdict.rules
            passed, latency_ms = verdict.passed, verdict.latency_ms
            served, judged_identity = training, identity
            if again is not None or (settings.registry.refit_on_all and passed):
                place = registry.fetch(again) if again is not None else place
                folder, served, evaluation = _on_all_rows(settings, layout, training, evaluation, place, console)
                identity = identity_digest(folder)
                version = again or registry.find(identity)
            becomes: Then = "approval" if version is not None and version.held and not settings.then_is_told else settings.gate.then
            if version is not None and again is None and passed and version.refused and not _may_go_on(version, becomes, evaluation):
                version = None
            made = _Made(folder, identity, served, training, judged_identity)
            _tell_of_summary(settings, version, folder, tell)
            version = _registered(registry, tracking, version, made, evaluation, rules, passed, becomes, latency_ms)
            if passed and becomes != "approval" and version.refused:  # it waited, and needs no more
                registry.retag(version.number, {**admitted(version.content_sha256, evaluation.test_sha256), WAITS_TAG: ""})
                version = registry.get(version.number)
            becomes = "champion" if version.is_champion and not version.refused else becomes
            _hand_over(registry, version, rules, becomes, settings, tell)
            registry.publish(tell)
    option = option_for(layout.config, layout.project)
    outcome = Outcome(registry.name, version.number, passed, version.is_champion, rules, becomes, option)
    write_text(layout.report, report(settings, training, evaluation, layout.evaluation, outcome))
    _describe(tracking, registry, version.run_id, training, evaluation, outcome)
    write_json(
        layout.registration,
        {
            "model": registry.name,
            "content_sha256": version.content_sha256,
            "model_sha256": served.model_sha256,
            "judged_sha256": judged_identity,
            "passed": passed,
            "then": becomes,
            "rules": [rule.as_json() for rule in rules],
        },
    )
    _say(console, version, outcome, option_for(layout.config))


@dataclass(frozen=True)
class _Fit:
    """What was trained and evaluated, and what of it the gate is told besides."""

    training: Contract
    evaluation: Evaluation
    identity: str
    latency_ms: float
    skew: Skew | None


@dataclass(frozen=True)
class _Verdict:
    """What the gate says of a fit beside today's champion; the versions there are of it: fitted again on all rows, and in any way."""

    again: Version | None
    version: Version | None
    evaluation: Evaluation
    rules: list[Rule]
    latency_ms: float

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)


def _verdict(registry: RegistryWriter, settings: Settings, layout: Layout, fit: _Fit, compared: AgainstChampion | None = None) -> _Verdict:
    """Judge a fit; ``compared`` is a comparison made before, which holds if that version is still champion."""
    evaluation, latency_ms, size_mb = fit.evaluation, fit.latency_ms, fit.training.model_bytes / 1e6
    again = registry.fitted_again(fit.identity, evaluation.test_sha256) if settings.registry.refit_on_all else None
    version = again or registry.find(fit.identity)
    if version is not None and version.is_champion and not version.refused:
        then = [Rule(**rule) for rule in version.gate]
        # The time that was measured when it was registered: a busy machine says nothing new of the sitting champion.
        latency_ms = version.latency_ms or latency_ms
        rules = decide_again(settings.gate, evaluation, then, latency_ms=latency_ms, size_mb=size_mb, skew=fit.skew)
    else:
        against = _against_todays_champion(registry, settings, layout, fit, compared)
        evaluation, taken_back = msgspec.structs.replace(evaluation, champion=against), version.taken_back if version else ""
        rules = decide(settings.gate, evaluation, latency_ms=latency_ms, size_mb=size_mb, rolled_back=taken_back, skew=fit.skew)
    return _Verdict(again, version, evaluation, rules, latency_ms)


def _may_go_on(version: Version, becomes: Then, evaluation: Evaluation) -> bool:
    """Whether one that passed and waits stays the same version: it waits on, or was judged on these very rows and is let go of."""
    waited = waits(version.tags, version.content_sha256)  # an alias that somebody sets by hand ends no wait
    return waited and (becomes == "approval" or version.evaluated_on == evaluation.test_sha256)


def _hand_over(registry: RegistryWriter, version: Version, rules: list[Rule], then: Then, settings: Settings, tell: Listener) -> None:
    """Tell of the gate, and make of the version what one that passes becomes."""
    passed = all(rule.passed for rule in rules)
    judged = tuple(RuleApplied(rule.name, rule.passed, rule.text) for rule in rules)
    content, run_id = version.content_sha256, version.run_id
    tell(
        GateDecided(
            pipeline=settings.name,
            model=registry.name,
            version=version.number,
            content_sha256=content,
            run_id=run_id,
            passed=passed,
            rules=judged,
            then=then,
        )
    )
    if (version.is_champion and not version.refused) or (passed and then == "champion"):
        registry.fetch(version)
        registry.make_champion(version.number, "passed the gate", tell)
    elif passed and then == "challenger":
        registry.fetch(version)
        registry.make_challenger(version.number)
    elif passed and (not version.waits or (settings.then_is_told and not version.held)):
        # Or it was approved once, and another is champion since.
        registry.retag(version.number, waiting(content, by_a_run=settings.then_is_told))


def _assembled(layout: Layout, training: Contract, folder: Path) -> Path:
    """The version's own folder: the MLflow model, its twin, what it was trained and judged on, in short too, and expected outputs."""
    shutil.copytree(layout.model, folder)
    for form in formats_in(layout.evaluation):
        shutil.copytree(folder_of(form, layout.evaluation), folder_of(form, folder))
    write_json(folder / FILE, training.as_json())
    shutil.copy(layout.evaluation / EVALUATION, folder / EVALUATION)
    if (layout.evaluation / REFERENCE).exists():  # not where an older release has evaluated
        shutil.copy(layout.evaluation / REFERENCE, folder / REFERENCE)
    write_trained_rows(folder, training, layout.train)
    _expect(folder)
    return folder


def _tell_of_summary(settings: Settings, version: Version | None, folder: Path, tell: Listener) -> None:
    if version is None and not (folder / REFERENCE).exists():
        tell(Warned(pipeline=settings.name, text=WITHOUT_SUMMARY))


def _expect(folder: Path) -> None:
    """Write what the model in a folder says of its own example."""
    rows = example_rows(folder)
    write_json(folder / "expected.json", {"rows": rows.to_dicts(), "outputs": load_scorer(folder).predict(rows).tolist()})


def _on_all_rows(
    settings: Settings, layout: Layout, judged: Contract, evaluation: Evaluation, folder: Path, console: Console
) -> tuple[Path, Contract, Evaluation]:
    """A version's folder with a fit on all rows, made now if it is not there, its contract, and the evaluation that tells of it."""
    from mlops_pipeline.modelling.refit import refit

    if folder.exists():
        return folder, contract_at(folder / FILE), msgspec.structs.replace(evaluation, refit=evaluation_at(folder / EVALUATION).refit)
    made = refit(settings, layout, judged, evaluation.test_sha256, folder, console)
    evaluation = msgspec.structs.replace(evaluation, refit=made.facts)
    write_json(folder / EVALUATION, evaluation.as_json())
    _expect(folder)
    console.print(f"            fitted again on all {made.contract.train_rows:,} rows; the figures are those of the fit that was judged")
    return folder, made.contract, evaluation


def _latency_ms(scorer: Scorer, folder: Path) -> float:
    """Median milliseconds to predict one row, after a first call that warms up."""
    row = example_rows(folder).head(1).to_dicts()
    seconds = []
    for _ in range(LATENCY_CALLS + 1):
        began = time.perf_counter()
        rows = scorer.signature.from_records(row)
        score(scorer.engine, rows.numbers, rows.categories)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[1:])[LATENCY_CALLS // 2] * 1000


def _speeds(folder: Path) -> dict[str, float]:
    """Median milliseconds of one row, texts of ``LONG_TEXT`` words, by the exact and the quantised twin; empty without it."""
    names = [form.name for form in formats_in(folder) if form.name in ("onnx", INT8)]
    if len(names) < 2:
        return {}
    contract = contract_at(folder / FILE)
    # Without the proof: its expected rows are those of the quantised one, which the server takes.
    scorers = {name: scorer_of(contract, load_engine(folder, contract, 1, name)) for name in sorted(names)}
    (row,) = example_rows(folder).head(1).to_dicts()
    for name, column in contract.columns.items():
        if column.kind == "text":
            words = str(row[name]).split() or ["word"]
            row[name] = " ".join(words[place % len(words)] for place in range(LONG_TEXT))
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(LATENCY_CALLS + 1):  # by turns, so that a busy machine slows both
        for name, scorer in scorers.items():
            rows = scorer.signature.from_records([row])
            began = time.perf_counter()
            score(scorer.engine, rows.numbers, rows.categories)
            seconds[name].append(time.perf_counter() - began)
    return {name: sorted(taken[1:])[LATENCY_CALLS // 2] * 1000 for name, taken in seconds.items()}


def _against_todays_champion(
    registry: RegistryWriter, settings: Settings, layout: Layout, fit: _Fit, compared: AgainstChampion | None
) -> AgainstChampion | None:
    """The stored comparison if it is with today's champion; made again if another became champion since."""
    from mlops_pipeline.modelling.against_champion import compare
    from mlops_pipeline.modelling.evaluation import held_out

    training = fit.training
    found = registry.champion_besides(training.model_sha256)
    if found is None:
        return None
    champion, folder = found
    for known in (fit.evaluation.champion, compared):
        if known is not None and known.content_sha256 == champion.content_sha256:
            return known
    test, ours = held_out(settings, layout, training.classes)
    rules, things = settings.evaluate, settings.split.together
    return compare(champion, folder, ours, training, test, layout.train, rules, settings.seed, things)


@dataclass(frozen=True)
class _Made:
    """What is registered: a folder, its contract, and that of the judged fit, which is another after a refit; the identity of each."""

    folder: Path
    identity: str
    served: Contract
    judged: Contract
    judged_identity: str

    @property
    def tags(self) -> dict[str, str]:
        tags = {MODEL_TAG: self.served.model_sha256}
        if self.served.judged_sha256:
            tags |= {JUDGED_TAG: self.judged_identity, JUDGED_MODEL_TAG: self.served.judged_sha256}
        return tags


def _registered(
    registry: RegistryWriter,
    tracking: Tracking,
    version: Version | None,
    made: _Made,
    evaluation: Evaluation,
    rules: list[Rule],
    passed: bool,
    becomes: Then,
    latency_ms: float,
) -> Version:
    tags = {
        **made.tags,
        EVALUATED_TAG: evaluation.test_sha256,
        AGAINST_TAG: evaluation.champion.content_sha256 if evaluation.champion else "",
        GATE_TAG: json.dumps([rule.as_json() for rule in rules]),
        PASSED_TAG: str(passed).lower(),
        LATENCY_TAG: f"{latency_ms:.3f}",
        f"mlops.{evaluation.metric}": str(evaluation.metrics[evaluation.metric].value),
    }
    if version is not None:
        if not version.is_champion or list(version.gate) != [rule.as_json() for rule in rules]:
            registry.retag(version.number, tags)
        return registry.get(version.number)
    # The run is that of the fit that was judged: it holds the figures.
    run_id = tracking.record_training(made.judged, None)
    tracking.record_evaluation(
        run_id,
        read_json(tracking.layout.metrics),
        tracking.layout.evaluation,
        sha256_of_file(tracking.layout.evaluation / EVALUATION),
    )
    # What let it pass, or did not, is among the files that the digest covers.
    write_json(made.folder / EVALUATION, evaluation.as_json())
    card = model_card(tracking.settings, tracking.layout, made.served, evaluation, rules, made.identity, _speeds(made.folder))
    write_text(made.folder / "MODEL_CARD.md", card)
    content = content_digest(made.folder)
    let_pass: dict[str, str] = {}
    if passed and becomes == "approval":
        let_pass = waiting(content, by_a_run=tracking.settings.then_is_told)
    elif passed:
        let_pass = admitted(content, evaluation.test_sha256)
    why = _why(tracking.settings)
    added = registry.add(made.folder, content, run_id, {**tags, **why, IDENTITY_TAG: made.identity, **let_pass})
    tracking.tag(run_id, why)
    if passed:
        keep(made.folder, tracking.layout.versions / content[:16])
    return added


def _why(settings: Settings) -> dict[str, str]:
    """Tags that say what the run was told: why it is made, and from when on it sees no row."""
    as_of = "" if settings.as_of is None else shown_moment(settings.as_of)
    return {name: value for name, value in ((REASON_TAG, settings.reason), (AS_OF_TAG, as_of)) if value}


def _describe(
    tracking: Tracking, registry: RegistryWriter, run_id: str, training: Contract, evaluation: Evaluation, outcome: Outcome
) -> None:
    """What MLflow shows first of the run, the model and the version."""
    layout, settings = tracking.layout, tracking.settings
    note = run_note(
        settings,
        training,
        evaluation,
        outcome,
        config=shlex.quote(layout.relative(layout.config)),
        lock=layout.lock.name if layout.lock.exists() else None,
        tags=tracking.client.get_run(run_id).data.tags,
    )
    tracking.describe(
        run_id, note, {PASSED_TAG: str(outcome.passed).lower(), VERSION_TAG: f"{outcome.model} {outcome.version}"}, layout.report
    )
    about = f"Models of the pipeline {in_markdown(settings.name)}: what is {in_markdown(training.target)}? ({training.task})"
    registry.describe(outcome.version, f"{about} The alias `champion` names the version that is served.", note)


def _say(console: Console, version: Version, outcome: Outcome, option: str) -> None:
    from rich.text import Text

    for rule in outcome.rules:
        mark = ("✓", "green") if rule.passed else ("✗", "red")
        console.print(Text.assemble(" " * 12, mark, f" {rule.name}: {rule.text}"))
    verdict: list[tuple[str, str]]
    if outcome.passed and outcome.then == "challenger":
        first = "" if option else f"`mlops release start {version.number}` tries it on traffic first, "
        then = f"{first}`mlops models promote {version.number}{option}` makes it champion"
        verdict = [("challenger", "bold green"), (f": {then}", "")]
    elif outcome.passed and outcome.then == "approval":
        verdict = [("waits for approval", "bold yellow"), (f": `mlops models approve {version.number} --reason REASON{option}`", "")]
    elif outcome.passed:
        verdict = [("champion", "bold green")]
    elif version.is_champion:
        then = "promote another version by hand, or train one that passes"
        verdict = [("stays champion, but does not pass today's gate", "bold yellow"), (f": {then}", "")]
    else:
        verdict = [("not promoted", "bold yellow")]
    console.print(Text.assemble(f"            {outcome.model} version {version.number}: ", *verdict))
