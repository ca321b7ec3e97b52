"""The command line: a face of the pipeline that holds no logic of it."""

from __future__ import annotations

import gc
import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlops_pipeline import environment, terminal
from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.layout import Layout
    from mlops_pipeline.registry.champion import Registry
    from mlops_pipeline.registry.reader import RegisteredModel

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a table of data to a served model, and back round.",
)
models = typer.Typer(no_args_is_help=True, help="Versions in the registry, and which one is champion.")
app.add_typer(models, name="models")

records = typer.Typer(no_args_is_help=True, help="What the server predicted, read back as a table.")
app.add_typer(records, name="records")

monitor = typer.Typer(no_args_is_help=True, help="What rows seen now are beside those the model was made from.")
app.add_typer(monitor, name="monitor")

Config = Annotated[Path, typer.Option("--config", "-c", help="the pipeline's settings")]
CONFIG = Path("configs/training_config.yaml")
ServingConfig = Annotated[Path, typer.Option("--config", "-c", help="the server's settings")]
SERVING_CONFIG = Path("configs/serving_config.yaml")
AsOf = Annotated[str | None, typer.Option(help="see no row at or after this moment (UTC); newest: all; default: as the last run was told")]
Since = Annotated[datetime | None, typer.Option(help="from this moment on (UTC)")]
Until = Annotated[datetime | None, typer.Option(help="before this moment (UTC)")]
ModelName = Annotated[str | None, typer.Option("--model", help="only this name in the URL")]
Version = Annotated[str | None, typer.Option(help="only this version")]


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what the user can mend is one line on standard error and exit code 2."""
    environment.prepare()
    terminal.make_readable()
    # Importing and parsing make millions of objects that stay; looking for garbage among them takes a tenth of a run.
    gc.set_threshold(100_000, 50, 50)
    try:
        app(arguments)
    except PipelineError as error:
        _end_with(str(error))
    except Exception as error:
        from mlops_pipeline.registry.rest import told

        said = told(error)  # before OSError, which what MLflow asks servers with raises too
        if said is None and isinstance(error, OSError):
            said = f"{error.filename or 'the system'}: {error.strerror or error}: check that it exists and may be written"
        if said is None:
            raise
        _end_with(said)
    except KeyboardInterrupt:
        print("stopped; the next run goes on from the last finished stage", file=sys.stderr)
        sys.exit(130)
    finally:
        # Else the interpreter looks through all of them once more before it ends, for up to a second.
        gc.freeze()


def _end_with(error: str) -> NoReturn:
    from mlops_pipeline.config.tree import without_secrets

    print(f"error: {without_secrets(error)}", file=sys.stderr)
    sys.exit(2)


@app.command()
def run(
    config: Config = CONFIG,
    force: Annotated[bool, typer.Option("--force", help="run every stage, stale or not")] = False,
    start: Annotated[str | None, typer.Option("--from", help="run this stage and all after it, stale or not")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="stop after this stage")] = None,
    as_of: AsOf = None,
) -> None:
    """Bring the pipeline up to date: run the stages that are stale, and say why each is."""
    from mlops_pipeline.pipeline import runner
    from mlops_pipeline.pipeline.render import with_as_of

    settings, layout, console = _opened(config)
    settings = with_as_of(settings, layout, as_of)
    runner.run(settings, layout, console, force=force, start=start, stop=stop)


@app.command()
def status(config: Config = CONFIG, as_of: AsOf = None) -> None:
    """Say which stages are stale, and the cause of each: data, settings, code, environment or a missing output."""
    from mlops_pipeline.config.moments import shown_moment
    from mlops_pipeline.events import Cause
    from mlops_pipeline.pipeline import runner
    from mlops_pipeline.pipeline.definition import STAGES
    from mlops_pipeline.pipeline.render import with_as_of

    settings, layout, console = _opened(config)
    settings, asked = with_as_of(settings, layout), with_as_of(settings, layout, as_of)
    causes = runner.prepare(settings, layout, console).causes()
    if settings.as_of is not None:
        console.print(f"as of {shown_moment(settings.as_of)}: rows from then on are not seen", markup=False)
    if asked.as_of != settings.as_of:  # which this command does not store
        causes[STAGES[0].name].append(Cause("settings", f"as-of: `mlops run --as-of {as_of}` would change it"))
    if not any(causes.values()):
        causes[STAGES[-1].name] = runner.registry_causes(settings, layout)
    waits_for = ""
    for stage in STAGES:
        found = causes[stage.name]
        if found:
            console.print(f"[yellow]▸[/yellow] {stage.name:<9} stale", markup=True)
        elif waits_for:
            console.print(f"· {stage.name:<9} [dim]runs if {waits_for} makes something new[/dim]", markup=True)
        else:
            console.print(f"[green]✓[/green] {stage.name:<9} up to date", markup=True)
        waits_for = waits_for or (stage.name if found else "")
        for cause in found:
            console.print(f"            {cause}")


@app.command(hidden=True)
def stage(
    name: str,
    config: Config = CONFIG,
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=PATH", help="where one of its inputs lies")] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", metavar="NAME=PATH", help="where a copy of an output goes")] = None,
    as_of: AsOf = None,
) -> None:
    """Run one stage without asking the cache; DVC calls this, and orchestrators whose tasks share no folder."""
    from mlops_pipeline.events import kept_for
    from mlops_pipeline.lines import shown_on
    from mlops_pipeline.pipeline.artifacts import run_stage
    from mlops_pipeline.pipeline.definition import stage_named
    from mlops_pipeline.pipeline.render import refuse_an_old_definition, with_as_of

    settings, layout, console = _opened(config)
    if as_of and stage_named(name).reads:
        raise PipelineError(f"--as-of {as_of}: is for the stage that reads the sources: leave it out for '{name}'")
    settings = with_as_of(settings, layout, as_of)
    refuse_an_old_definition(settings, layout)
    tell = kept_for(settings, layout, shown_on(console))
    run_stage(stage_named(name), settings, layout, console, tell, inputs=inputs or (), outputs=outputs or ())


@app.command()
def render(
    config: Config = CONFIG,
    target: Annotated[str | None, typer.Option(help="dvc, argo, metadata, airflow or kubeflow; default: what the project keeps")] = None,
    output: Annotated[Path | None, typer.Option(help="file to write, for argo the folder; default: standard output, or its place")] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail if a file is not current")] = False,
) -> None:
    """Write the files of other programs (dvc.yaml, Argo, Airflow, Kubeflow) and metadata.json from the one definition."""
    from mlops_pipeline.pipeline.render import rendered, with_as_of

    settings, layout, console = _opened(config)
    for file in rendered(with_as_of(settings, layout), layout, target, output):
        if file.path is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(file.text.encode())  # a file's content, whatever the terminal can show
            continue
        name = layout.relative(file.path)
        if file.is_current():
            console.print(f"{name} is current")
        elif check:
            raise PipelineError(f"{name}: is not what the definition gives: run `mlops render` and commit it")
        else:
            file.write()
            console.print(f"{name} written")


@app.command()
def predict(
    source: Annotated[Path, typer.Option("--input", help="CSV or Parquet file with the model's columns")],
    target: Annotated[Path, typer.Option("--output", help="CSV or Parquet file to write")],
    model: Annotated[Path | None, typer.Option(help="model folder; default: the champion")] = None,
    config: Config = CONFIG,
) -> None:
    """Predict a table of any size with the champion; rows that break its schema are kept aside with the reason."""
    from mlops_pipeline.inference.batch import predict_file

    _, layout, console = _opened(config)
    folder = model or layout.best_model
    if not folder.exists():
        raise PipelineError(f"{folder}: there is no champion yet: run `mlops run` first, or name a folder with --model")
    done = predict_file(folder, source, target, console)
    console.print(f"{done.rows:,} rows predicted into {target} in {done.seconds:.1f} s ({done.engine})")
    for note in done.notes:
        console.print(_line(("note", "yellow"), f" {note}"))
    if done.rejects:
        console.print(_line((f"{done.rejected:,} rows rejected", "yellow"), f", with reasons in {done.rejects}"))


@app.command()
def serve(
    config: ServingConfig = SERVING_CONFIG,
    model: Annotated[str | None, typer.Option(help="serve only this: an alias, a version number or a model folder")] = None,
    port: Annotated[int | None, typer.Option(help="port; 0 takes a free one")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on; beyond loopback only with API keys")] = None,
    workers: Annotated[int | None, typer.Option(help="processes that share the port")] = None,
) -> None:
    """Put the champion behind HTTP: MLflow's protocol, the Open Inference Protocol, and a page at /."""
    from mlops_pipeline.config.serving import load_serving, only_model
    from mlops_pipeline.serving.supervisor import serve as serve_until_stopped

    settings = load_serving(config, host=host, port=port, workers=workers, **only_model(model))
    serve_until_stopped(settings, config)


@app.command()
def deploy(
    manifests: Annotated[Path, typer.Option(help="Kubernetes objects, one of them the Deployment")] = Path("k8s/model-deployment.yaml"),
    image: Annotated[str | None, typer.Option(help="image of the serving container, instead of the file's")] = None,
    context: Annotated[str | None, typer.Option(help="kubeconfig context; default: the current one, or the pod's own cluster")] = None,
    namespace: Annotated[str | None, typer.Option(help="default: the context's")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="change nothing; the cluster says what would change")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for the rollout, and again for the way back")] = 600,
    force_conflicts: Annotated[bool, typer.Option("--force-conflicts", help="take over fields that others manage")] = False,
) -> None:
    """Apply the manifests to a Kubernetes cluster, wait for the rollout, and go back to the version before if it fails."""
    from mlops_pipeline.rollout.cluster import connect, printable
    from mlops_pipeline.rollout.deploy import Order, read_order
    from mlops_pipeline.rollout.deploy import deploy as roll_out

    def say(text: str) -> None:
        print(printable(text), flush=True)

    order = Order(manifests, image, dry_run, force_conflicts, timeout)
    objects = read_order(order)
    sys.exit(roll_out(connect(context, namespace, say), order, objects, namespace_is_given=namespace is not None, say=say))


@app.command()
def key() -> None:
    """Make an API key for the server: the key for the client, and the digest for the server's settings."""
    import hashlib
    import secrets

    made = secrets.token_urlsafe(32)
    digest = f"sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    print(f"key (give it to the client, it is shown only now): {made}")
    print(f"digest (the server knows the key by it):           {digest}")
    print("\nInto the server's settings, with the client's name in place of client:\n")
    print(f'  api_keys: {{client: "{digest}"}}')
    print("\nor as a line of the file that its api_keys_file names:\n")
    print(f"  client: {digest}")


@app.command()
def parts(
    config: Annotated[Path | None, typer.Option("--config", "-c", help=f"the pipeline's settings; default: {CONFIG} if there")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it for a program")] = False,
) -> None:
    """Say what estimators, encoders, metrics, checks, gate rules, formats and stores there are, whose, and which are used here."""
    from mlops_pipeline.config.pipeline import load_settings, parts_listed

    path = config or (CONFIG if CONFIG.is_file() else None)
    listed = parts_listed(load_settings(path) if path else None)
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    marks = {True: "✓", False: " ", None: "–"}
    names, owners = (max(len(part[key]) for part in listed) for key in ("name", "owner"))
    lines: dict[str, list[str]] = {}
    for part in listed:
        line = f"  {marks[part['used']]} {part['name']:<{names}}  {part['owner']:<{owners}}  {part['summary']}"
        lines.setdefault(part["kind"], []).append(line.rstrip())
    for kind, of_kind in lines.items():
        print("\n".join([kind, *of_kind]))


@app.command("config")
def show_config(
    config: Config = CONFIG,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema instead")] = False,
    serving: Annotated[bool, typer.Option("--serving", help="the server's settings, not the pipeline's")] = False,
) -> None:
    """Print the resolved settings, every default filled in, or their JSON schema."""
    if serving:
        from mlops_pipeline.config.serving import load_serving, serving_schema, shown_serving

        path = SERVING_CONFIG if config == CONFIG else config
        print(serving_schema() if schema else json.dumps(shown_serving(load_serving(path)), indent=2))
        return
    from mlops_pipeline.config.pipeline import json_schema, load_settings, shown_settings

    print(json_schema(config) if schema else json.dumps(shown_settings(load_settings(config)), indent=2))


@app.command()
def init(
    source: Annotated[Path, typer.Option("--input", help="your CSV or Parquet table")],
    target: Annotated[str, typer.Option("--target", help="the column to predict")],
    output: Annotated[Path, typer.Option("--output", help="where to write the settings")],
) -> None:
    """Write a settings file for your own table: columns and kinds from its first rows, everything else to your taste."""
    from mlops_pipeline.scaffold import starter

    if output.exists():
        raise PipelineError(f"--output {output}: exists already: name a new file")
    made = starter(source, target, output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(made.text, encoding="utf-8")
    console = terminal.opened()
    console.print(made.split)
    console.print(f"{output} written: read it, then `mlops run --config {shlex.quote(str(output))}`")


@app.command()
def doctor(config: Config = CONFIG) -> None:
    """Say what of the environment works, what is missing, and how to mend it."""
    from mlops_pipeline.doctor import examine

    console = terminal.opened()
    findings = examine(config)
    for finding in findings:
        mark = ("✓", "green") if finding.works else ("–", "yellow") if finding.optional else ("✗", "red")
        console.print(_line(mark, f" {finding.name:<18} {finding.seen}" + (f"  → {finding.remedy}" if not finding.works else "")))
    if any(not finding.works and not finding.optional for finding in findings):
        sys.exit(1)


@models.command("list")
def list_models(config: Config = CONFIG) -> None:
    """Every version, newest first."""
    import datetime

    from rich.table import Table

    model, console = _registered_model(config)
    table = Table("version", "alias", "gate", "weights", "registered", "run", title=model.name, title_justify="left")
    for version in model.versions():
        when = datetime.datetime.fromtimestamp(version.created, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        gate = "passed" if version.passed else "failed" if version.gate else "never judged"
        table.add_row(
            str(version.number), "champion" if version.is_champion else "", gate, version.model_sha256[:12], when, version.run_id[:8]
        )
    console.print(table if table.row_count else f"{model.name}: no version is registered yet: run `mlops run`")


@models.command("show")
def show_model(version: Annotated[int | None, typer.Argument(help="default: the champion")] = None, config: Config = CONFIG) -> None:
    """One version: digest, run, held-out data and the gate's reasons."""
    model, console = _registered_model(config)
    found = model.get(version) if version is not None else model.champion()
    if found is None:
        raise PipelineError(f"{model.name}: has no champion yet: run `mlops run`, or name a version")
    console.print(_line((f"{model.name} version {found.number}", "bold"), " (champion)" if found.is_champion else ""))
    facts = {
        "content": found.content_sha256,
        "weights": found.model_sha256,
        "judged as": found.judged_sha256 and f"{found.judged_sha256}, then fitted again on all rows",
        "evaluated on": found.evaluated_on,
        "run": found.run_id,
        "rolled back": found.rolled_back,
    }
    for name, value in facts.items():
        if value:
            console.print(f"  {name:<13} {value}")
    for rule in found.gate:
        console.print(_line(("  ✓", "green") if rule["passed"] else ("  ✗", "red"), f" {rule['name']}: {rule['text']}"))


@models.command()
def promote(
    version: int,
    override: Annotated[str | None, typer.Option(help="why, if the gate said no; kept with the version")] = None,
    config: Config = CONFIG,
) -> None:
    """Make a version champion by hand."""
    from mlops_pipeline.events import ChampionChanged, kept_for
    from mlops_pipeline.lines import shown_on

    settings, layout, console = _opened(config)
    registry = _registry_of(settings, layout)
    with registry.deciding():
        former = registry.champion()
        promoted = registry.promote(version, override)
        if former is None or former.number != promoted.number:
            kept_for(settings, layout, shown_on(console))(
                ChampionChanged(
                    pipeline=settings.name,
                    model=registry.name,
                    version=promoted.number,
                    former=former.number if former else None,
                    content_sha256=promoted.content_sha256,
                    run_id=promoted.run_id,
                    how="promoted by hand",
                    reason=override or "",
                )
            )
        registry.publish()
    console.print(f"{registry.name} version {promoted.number} is champion")


@models.command()
def rollback(config: Config = CONFIG) -> None:
    """Make the former champion champion again."""
    from mlops_pipeline.events import ChampionChanged, kept_for
    from mlops_pipeline.lines import shown_on

    settings, layout, console = _opened(config)
    registry = _registry_of(settings, layout)
    with registry.deciding():
        gone, back = registry.rollback()
        kept_for(settings, layout, shown_on(console))(
            ChampionChanged(
                pipeline=settings.name,
                model=registry.name,
                version=back.number,
                former=gone.number,
                content_sha256=back.content_sha256,
                run_id=back.run_id,
                how="rolled back",
            )
        )
        registry.publish()
    console.print(f"{registry.name} version {back.number} is champion again; version {gone.number} stays out until it is promoted by hand")


@records.command("show")
def show_records(
    limit: Annotated[int, typer.Option(min=1, help="rows")] = 20,
    since: Since = None,
    until: Until = None,
    model: ModelName = None,
    version: Version = None,
    config: ServingConfig = SERVING_CONFIG,
) -> None:
    """The newest predictions, the last one lowest."""
    from mlops_pipeline.records.show import show

    terminal.opened().print(show(_records_of(config), limit=limit, since=since, until=until, model=model, version=version))


@records.command("export")
def export_records(
    target: Annotated[Path, typer.Option("--output", help="Parquet or CSV file to write")],
    since: Since = None,
    until: Until = None,
    model: ModelName = None,
    version: Version = None,
    config: ServingConfig = SERVING_CONFIG,
) -> None:
    """Every prediction with its features, a row each, as a table that any tool reads."""
    from mlops_pipeline.records.reading import export

    rows = export(_records_of(config), target, since=since, until=until, model=model, version=version)
    terminal.opened().print(f"{rows:,} rows written into {target}")


@monitor.command("report")
def monitor_report(
    reference: Annotated[str | None, typer.Option(help="CSV or Parquet file, or a period; default: the champion's training window")] = None,
    current: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, or a period of the table: 2013-10, 2013-10-01..2013-10-14")
    ] = None,
    since: Annotated[datetime | None, typer.Option("--from", help="instead of --current: the table's rows from this moment on")] = None,
    until: Annotated[datetime | None, typer.Option(help="and before this moment")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for report.html and report.json; default: data/monitoring")] = None,
    target: Annotated[str | None, typer.Option(help="column with what came of it; default: the pipeline's, else target")] = None,
    prediction: Annotated[
        str, typer.Option(help="column with what the model said; where it is missing the champion predicts")
    ] = "prediction",
    quantile_column: Annotated[
        str | None, typer.Option(help="column whose median is compared; default: feature_1, else the first of numbers")
    ] = None,
    drift_share: Annotated[float, typer.Option(help="the dataset has drifted when this share of its columns has")] = 0.5,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="end with 1 if the dataset has drifted")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help=f"the pipeline's settings; default: {CONFIG} if there")] = None,
) -> None:
    """Compare two tables: missing values, drift, the model's quality, a median; a page and JSON."""
    from mlops_pipeline.monitoring.command import report

    made = report(
        terminal.opened(),
        reference=reference,
        current=current,
        since=since,
        until=until,
        output=output,
        config=config,
        default_config=CONFIG,
        target=target,
        prediction=prediction,
        quantile_column=quantile_column,
        drift_share=drift_share,
    )
    if fail_on_drift and made.has_drifted:
        sys.exit(1)


def _records_of(config: Path) -> str | Path:
    from mlops_pipeline.config.serving import load_serving
    from mlops_pipeline.server_layout import place_of

    settings = load_serving(config)
    return settings.record.uri or place_of(settings, config).records


def _line(*parts: str | tuple[str, str]) -> Any:
    """A line for the console, parts of it with a style; nothing in it is markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def _opened(config: Path) -> tuple[Settings, Layout, Console]:
    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import find_project, layout_of

    settings = load_settings(config)
    return settings, layout_of(settings, config, find_project(config)), terminal.opened()


def _registered_model(config: Path) -> tuple[RegisteredModel, Any]:
    from mlops_pipeline.registry.champion import registered_model

    settings, layout, console = _opened(config)
    return registered_model(settings, layout), console


def _registry_of(settings: Settings, layout: Layout) -> Registry:
    from mlops_pipeline.registry.champion import Registry
    from mlops_pipeline.registry.runs import Tracking

    return Registry(Tracking(settings, layout))
