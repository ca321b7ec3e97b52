"""The command line: a face of the pipeline that holds no logic of it."""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from mlops_pipeline import environment, terminal
from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_pipeline.config.pipeline import Settings
    from mlops_pipeline.config.serving import RecordStore
    from mlops_pipeline.events import Listener
    from mlops_pipeline.layout import Layout
    from mlops_pipeline.registry.admission import Word
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.registry.reader import RegisteredModel


class Group(TyperGroup):
    """Commands, each with the first sentence of its help, whole; alone it shows them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where no command is named."""
        if not args:
            print(ctx.get_help())
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands; typer's own cuts each to one line."""
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx) if not self.commands[name].hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=1000)) for name, command in shown])


app = typer.Typer(
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around help and errors cost half of the time of `mlops --help`
    context_settings={"max_content_width": 120},
    help="From a table of data to a served model, and back round.",
)
models = typer.Typer(cls=Group, help="Versions in the registry, and which one is champion.")
app.add_typer(models, name="models")

records = typer.Typer(cls=Group, help="What the server predicted, read back as a table.")
app.add_typer(records, name="records")

monitor = typer.Typer(cls=Group, help="What rows seen now are beside those the model was made from.")
app.add_typer(monitor, name="monitor")

labels = typer.Typer(cls=Group, help="What came of the predictions, as it becomes known.")
app.add_typer(labels, name="labels")

demo = typer.Typer(cls=Group, help="Stories that are told by running them.")
app.add_typer(demo, name="demo")

experiments = typer.Typer(cls=Group, help="Online tests: how long one has to run, and what it says so far.")
app.add_typer(experiments, name="experiment")

release = typer.Typer(cls=Group, help="A challenger on its way to all traffic, or back.")
app.add_typer(release, name="release")

features = typer.Typer(cls=Group, help="What columns that need other rows are made of.")
app.add_typer(features, name="features")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="the pipeline's settings; default: this project's")]
MonitoringConfig = Annotated[Path | None, typer.Option("--config", "-c", help="the watch's settings; default: this project's")]
ReleaseConfig = Annotated[Path | None, typer.Option("--config", "-c", help="the settings of releases; default: this project's")]
ServingConfig = Annotated[Path | None, typer.Option("--config", "-c", help="the server's settings; default: this project's")]
AsOf = Annotated[str | None, typer.Option(help="see no row at or after this moment (UTC); newest: all; default: as the last run was told")]
INTERRUPTED = 130
TABLE = "a table (CSV and other text, Parquet, Excel, JSON; packed or not)"
Raw = Annotated[bool, typer.Option("--raw", help="CSV: leave cells that a spreadsheet would run as a formula as they are")]


def _moment(option: str, help_text: str) -> Any:
    """An option that takes a moment as settings and --as-of do; it is in UTC then, without a zone."""

    def read(text: str) -> datetime:
        from mlops_pipeline.config.moments import moment_of

        try:
            return moment_of(text)
        except ValueError as error:
            raise PipelineError(f"{option} {text}: {error}") from error

    return typer.Option(option, parser=read, metavar="MOMENT", help=help_text)


Since = Annotated[datetime | None, _moment("--since", "from this moment on (UTC)")]
Until = Annotated[datetime | None, _moment("--until", "before this moment (UTC)")]
AsJson = Annotated[bool, typer.Option("--json", help="print it for a program")]
ModelName = Annotated[str | None, typer.Option("--model", help="only this name in the URL")]
Version = Annotated[str | None, typer.Option(help="only this version")]


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what the user can mend is one line on standard error and exit code 2."""
    environment.prepare()
    terminal.make_readable()
    # Importing and parsing make millions of objects that stay; looking for garbage among them takes a tenth of a run.
    gc.set_threshold(100_000, 50, 50)
    try:
        sys.exit(_ended(arguments))
    except PipelineError as error:
        _end_with(str(error))
    except TyperException as error:
        _end_with(_of_usage(error))
    except typer.Abort as stopped:
        if isinstance(stopped.__cause__, EOFError):  # which Typer takes for a person's, wherever it comes from
            raise stopped.__cause__ from None
        print("nothing is done", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        from mlops_pipeline.registry.rest import told

        said = told(error)  # before OSError, which what MLflow asks servers with raises too
        if said is None and isinstance(error, OSError):
            said = f"{error.filename or 'the system'}: {error.strerror or error}: check that it exists and may be written"
        if said is None and isinstance(error, UnicodeEncodeError):
            said = _not_in_utf_8(sys.argv[1:] if arguments is None else arguments)
        if said is None:
            raise
        _end_with(said)
    finally:
        # Else the interpreter looks through all of them once more before it ends, for up to a second.
        gc.freeze()


def _ended(arguments: list[str] | None) -> int | str:
    """Run a command, and see what it has printed written out; the code that it ended with."""
    try:
        # Typer gives the code that a command ended with, and takes Ctrl+C for one.
        code: int | str | None = app(arguments, prog_name="mlops", standalone_mode=False)
        if code == INTERRUPTED:
            print("stopped; what is finished stays, and the same command goes on from there", file=sys.stderr)
    except SystemExit as end:
        code = end.code
    problem = _flushed()
    if isinstance(problem, BrokenPipeError):
        return 1  # nobody reads on
    if problem is not None:
        raise PipelineError(f"standard output: {problem.strerror}: what this command said is not all there")
    return code or 0


def _flushed() -> OSError | None:
    """Write out what was printed; why it cannot be, after which Python does not try again, and say so, when it ends."""
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def _not_in_utf_8(words: list[str]) -> str | None:
    """What is told of the first word typed in another encoding, which may be a file's name and nothing else; None without one."""
    word = next((word for word in words if word.encode("utf-8", "replace").decode() != word), None)
    return None if word is None else f"{word!r}: holds a byte that is no UTF-8: write it in UTF-8"


def _of_usage(error: TyperException) -> str:
    """What is wrong with what was typed, in one line."""
    said, context = " ".join(error.format_message().split()).rstrip("."), getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mlops"
    return f"{command}: {said[0].lower()}{said[1:]}: `{command} --help` says what it takes"


def _end_with(error: str) -> NoReturn:
    from mlops_pipeline.errors import without_secrets

    _flushed()
    print(f"error: {terminal.steady(without_secrets(error))}", file=sys.stderr)
    sys.exit(2)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        from mlops_pipeline.plugins import DISTRIBUTION

        print(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _with_options(
    of_package: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="print the version, and end")
    ] = False,
) -> None: ...


@app.command()
def run(
    config: Config = None,
    force: Annotated[bool, typer.Option("--force", help="run every stage, stale or not")] = False,
    start: Annotated[str | None, typer.Option("--from", help="run this stage and all after it, stale or not")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="stop after this stage")] = None,
    as_of: AsOf = None,
    then: Annotated[
        str | None, typer.Option(help="what a version that passes the gate becomes, this time: champion, challenger or approval")
    ] = None,
    reason: Annotated[str, typer.Option(help="why: kept with a version that this run makes, and with its run in MLflow")] = "",
) -> None:
    """Bring the pipeline up to date: run the stages that are stale, and say why each is."""
    from mlops_pipeline.config.pipeline import with_then
    from mlops_pipeline.lines import shown_on
    from mlops_pipeline.pipeline import runner
    from mlops_pipeline.pipeline.render import with_as_of
    from mlops_pipeline.release.wake import waking

    settings, layout, console = _opened(config)
    settings = with_as_of(with_then(settings, then).with_reason(reason), layout, as_of)
    listeners = [waking(settings, layout, shown_on(console))]
    runner.run(settings, layout, console, force=force, start=start, stop=stop, listeners=listeners)
    if stop is None:
        from mlops_pipeline.pipeline.made import made

        for line in made(settings, layout):
            console.print(line)


@app.command()
def status(config: Config = None, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Say which stages are stale, and the cause of each: data, settings, code, environment or a missing output."""
    from mlops_pipeline.config.finding import option_for
    from mlops_pipeline.config.moments import shown_moment
    from mlops_pipeline.events import Cause
    from mlops_pipeline.pipeline import runner
    from mlops_pipeline.pipeline.definition import STAGES
    from mlops_pipeline.pipeline.render import with_as_of

    settings, layout, console = _opened(config)
    settings, asked = with_as_of(settings, layout), with_as_of(settings, layout, as_of)
    causes = runner.prepare(settings, layout, terminal.opened(sys.stderr) if as_json else console).causes()
    moment = None if settings.as_of is None else shown_moment(settings.as_of)
    if asked.as_of != settings.as_of:  # which this command does not store
        again = f"`mlops run --as-of {as_of}{option_for(layout.config)}`"
        causes[STAGES[0].name].append(Cause("settings", f"as-of: {again} would change it"))
    if not any(causes.values()):
        causes[STAGES[-1].name] = runner.registry_causes(settings, layout)
    if as_json:
        told = [
            {"stage": stage.name, "stale": bool(found), "causes": [{"kind": cause.kind, "detail": cause.detail} for cause in found]}
            for stage in STAGES
            for found in (causes[stage.name],)
        ]
        print(json.dumps({"pipeline": settings.name, "as_of": moment, "up_to_date": not any(causes.values()), "stages": told}, indent=2))
        return
    if moment is not None:
        console.print(f"as of {moment}: rows from then on are not seen")
    waits_for = ""
    stages_of: dict[Cause, list[str]] = {}
    for stage in STAGES:
        found = causes[stage.name]
        if found:
            short = "; ".join(cause.kind for cause in found if not cause.detail)
            console.print(f"[yellow]▸[/yellow] {stage.name:<9} stale{short and f': {short}'}", markup=True)
        elif waits_for:
            console.print(f"· {stage.name:<9} [dim]runs if {waits_for} makes something new[/dim]", markup=True)
        else:
            console.print(f"[green]✓[/green] {stage.name:<9} up to date", markup=True)
        waits_for = waits_for or (stage.name if found else "")
        for cause in found:
            if cause.detail:
                stages_of.setdefault(cause, []).append(stage.name)
    for cause, names in stages_of.items():
        console.print(f"  {cause} ({'every stage' if len(names) == len(STAGES) else ', '.join(names)})")


@app.command(hidden=True)
def stage(
    name: str,
    config: Config = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=PATH", help="where one of its inputs lies")] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", metavar="NAME=PATH", help="where a copy of an output goes")] = None,
    as_of: AsOf = None,
) -> None:
    """Run one stage without asking the cache; DVC calls this, and orchestrators whose tasks share no folder."""
    from mlops_pipeline.lines import shown_on
    from mlops_pipeline.pipeline.artifacts import run_stage
    from mlops_pipeline.pipeline.definition import stage_named
    from mlops_pipeline.pipeline.render import refuse_an_old_definition, with_as_of
    from mlops_pipeline.pipeline.runner import refuse_beside_a_run
    from mlops_pipeline.release.wake import told_for

    settings, layout, console = _opened(config)
    refuse_beside_a_run(layout)
    if as_of and stage_named(name).reads:
        raise PipelineError(f"--as-of {as_of}: is for the stage that reads the sources: leave it out for '{name}'")
    settings = with_as_of(settings, layout, as_of)
    refuse_an_old_definition(settings, layout)
    tell = told_for(settings, layout, shown_on(console))
    run_stage(stage_named(name), settings, layout, console, tell, inputs=inputs or (), outputs=outputs or ())


@app.command()
def render(
    config: Config = None,
    target: Annotated[
        str | None, typer.Option(help="dvc, argo, metadata, airflow, kubeflow or kubernetes; default: what the project keeps")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="file to write, for argo the folder; default: standard output, or its place")] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail if a file is not current")] = False,
) -> None:
    """Write the files of other programs (dvc.yaml, Argo, Airflow, Kubeflow, Kubernetes) and metadata.json from the one definition."""
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
    source: Annotated[Path, typer.Option("--input", help=f"{TABLE} with the source's columns, or the model's")],
    target: Annotated[Path, typer.Option("--output", help="CSV or Parquet file to write")],
    model: Annotated[Path | None, typer.Option(help="model folder; default: the champion")] = None,
    inputs: Annotated[
        str, typer.Option(help="what the file holds: raw (the source's columns), features (the model's) or either")
    ] = "either",
    raw: Raw = False,
    config: Config = None,
) -> None:
    """Predict a table of any size with the champion; rows that break its schema are kept aside with the reason."""
    from mlops_pipeline.config.serving import inputs_of
    from mlops_pipeline.inference.batch import predict_file
    from mlops_pipeline.registry.champion import prove

    settings, layout, console = _opened(config)
    folder = model or layout.best_model
    if not folder.exists():
        raise PipelineError(f"{folder}: {_without(settings, layout, model)}, or name a folder with --model")
    if noted := prove(settings, layout, folder):
        console.print(_line(("note", "yellow"), f" {noted}"))
    done = predict_file(folder, source, target, console, raw=raw, inputs=inputs_of(inputs), state=layout.asked_state(settings))
    console.print(f"{done.rows:,} row{'s' * (done.rows != 1)} predicted into {target} in {done.seconds:.1f} s ({done.engine})")
    for note in done.notes:
        console.print(_line(("note", "yellow"), f" {note}"))
    if done.rejects:
        console.print(_line((f"{done.rejected:,} row{'s' * (done.rejected != 1)} rejected", "yellow"), f", with reasons in {done.rejects}"))


@app.command()
def serve(
    config: ServingConfig = None,
    model: Annotated[str | None, typer.Option(help="serve only this: an alias, a version number or a model folder")] = None,
    port: Annotated[int | None, typer.Option(help="port; 0 takes a free one")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on; beyond loopback only with API keys")] = None,
    workers: Annotated[int | None, typer.Option(help="processes that share the port")] = None,
) -> None:
    """Put the champion behind HTTP: MLflow's protocol, the Open Inference Protocol, and a page at /."""
    from mlops_pipeline.config.finding import serving_config
    from mlops_pipeline.config.serving import load_serving, only_model
    from mlops_pipeline.serving.supervisor import serve as serve_until_stopped

    path = serving_config(config)
    read = partial(load_serving, path, host=host, port=port, workers=workers, **only_model(model))
    serve_until_stopped(read(), path, partial(read, running=True))


@app.command()
def deploy(
    manifests: Annotated[
        Path | None,
        typer.Option(help="Kubernetes objects, one of them the Deployment; default: k8s/model-deployment.yaml, or as we render it"),
    ] = None,
    image: Annotated[str | None, typer.Option(help="image of the serving container, instead of the file's")] = None,
    context: Annotated[str | None, typer.Option(help="kubeconfig context; default: the current one, or the pod's own cluster")] = None,
    namespace: Annotated[str | None, typer.Option(help="default: the context's")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="change nothing; the cluster says what would change")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="seconds to wait for the rollout, and again for the way back")] = 600,
    force_conflicts: Annotated[bool, typer.Option("--force-conflicts", help="take over fields that others manage")] = False,
    config: Config = None,
) -> None:
    """Apply the manifests to a Kubernetes cluster, wait for the rollout, and go back to the version before if it fails."""
    from mlops_pipeline.pages import visible
    from mlops_pipeline.rollout.cluster import connect
    from mlops_pipeline.rollout.deploy import Order, manifests_here, read_order
    from mlops_pipeline.rollout.deploy import deploy as roll_out

    if manifests is not None and config is not None:
        raise PipelineError(f"--config {config}: says for which pipeline manifests are rendered: leave it or --manifests out")

    def say(text: str) -> None:
        print(visible(text), flush=True)

    place, text = (manifests, None) if manifests is not None else manifests_here(config, say)
    order = Order(place, image, dry_run, force_conflicts, timeout, text)
    objects = read_order(order)
    sys.exit(roll_out(connect(context, namespace, say), order, objects, namespace_is_given=namespace is not None, say=say))


@app.command()
def key(
    name: Annotated[str | None, typer.Argument(help="whose it is: stands in log and record")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="what it is good for: predict, metrics, admin, labels, monitoring; default: predict")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="a model that it may ask; default: all")] = None,
    expires: Annotated[str | None, typer.Option(help="90d, 12h, 1y or a moment (UTC); default: never")] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="requests a second; default: as many as come")] = None,
    rows: Annotated[float | None, typer.Option(min=0, help="rows a second; default: as many as come")] = None,
    file: Annotated[
        Path | None, typer.Option(help="the file of keys that its digest is added to; default: api_keys_file of the server's settings")
    ] = None,
    config: ServingConfig = None,
) -> None:
    """Make an API key for the server: the key for the client, and its digest for the server. Without NAME it has every right."""
    from mlops_pipeline.config.finding import serving_here
    from mlops_pipeline.config.issue import Rights, issue, issue_to

    rights = Rights(scope or (), model or (), expires, rate, rows)
    if name is None and (rights != Rights() or file):
        raise PipelineError("mlops key: a key with rights needs a name: mlops key NAME --scope predict")
    made = issue() if name is None else issue_to(name, rights, file, config or serving_here())
    print(f"key (give it to the client, it is shown only now): {made.secret}")
    print(f"digest (the server knows the key by it):           {made.digest}")
    lines = textwrap.indent(made.entry, "  ")
    if made.file is not None:
        print(f"\nAdded to {made.file}, which a running server reads within two seconds:\n\n{lines}", end="")
    elif name is None:
        print("\nInto the server's settings, with the client's name in place of client:\n")
        print(f'  api_keys: {{client: "{made.digest}"}}')
        print(f"\nor as a line of the file that its api_keys_file names:\n\n{lines}", end="")
    else:
        print(f"\nInto the server's settings, below api_keys:, or into the file that its api_keys_file names:\n\n{lines}", end="")


@app.command()
def parts(
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say what estimators, encoders, metrics, checks, gate rules, formats, stores and channels there are, whose, which are used here."""
    from mlops_pipeline.config.finding import pipeline_here
    from mlops_pipeline.config.pipeline import load_settings, parts_listed

    path = config or pipeline_here()
    listed = parts_listed(load_settings(path) if path else None)
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    marks = {True: "✓", False: " ", None: "–"}
    names, owners = (max(len(part[key]) for part in listed) for key in ("name", "owner"))
    lines: dict[str, list[str]] = {}
    for part in listed:
        keys = f" ({', '.join(part['settings'])})" if part["settings"] else ""
        line = f"  {marks[part['used']]} {part['name']:<{names}}  {part['owner']:<{owners}}  {part['summary']}{keys}"
        lines.setdefault(part["kind"], []).append(line.rstrip())
    for kind, of_kind in lines.items():
        print("\n".join([kind, *of_kind]))


@app.command("config")
def show_config(
    config: Config = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema instead")] = False,
    serving: Annotated[bool, typer.Option("--serving", help="the server's settings, not the pipeline's")] = False,
    monitoring: Annotated[bool, typer.Option("--monitoring", help="the watch's settings")] = False,
    release: Annotated[bool, typer.Option("--release", help="the settings of releases")] = False,
    experiment: Annotated[
        bool, typer.Option("--experiment", help="an online test's settings: --schema, or --config names the file")
    ] = False,
) -> None:
    """Print the resolved settings, every default filled in, or their JSON schema."""
    if experiment:
        from mlops_pipeline.config.experiment import experiment_schema, load_experiment

        if not schema and config is None:
            _end_with("--experiment: name the test's settings with --config, or ask for --schema")
        print(experiment_schema() if schema or config is None else load_experiment(config).model_dump_json(indent=2))
        return
    if release:
        from mlops_pipeline.config.finding import release_config
        from mlops_pipeline.config.release import load_releases, release_schema

        print(release_schema() if schema else load_releases(release_config(config)).model_dump_json(indent=2))
        return
    if monitoring:
        from mlops_pipeline.config.finding import monitoring_config
        from mlops_pipeline.config.monitoring import load_monitoring, monitoring_schema, shown_monitoring

        print(monitoring_schema() if schema else json.dumps(shown_monitoring(load_monitoring(monitoring_config(config))), indent=2))
        return
    from mlops_pipeline.config.finding import pipeline_config, pipeline_here, serving_config, serving_here

    if serving:
        from mlops_pipeline.config.serving import load_serving, serving_schema, shown_serving

        print(
            serving_schema(config or serving_here())
            if schema
            else json.dumps(shown_serving(load_serving(serving_config(config))), indent=2)
        )
        return
    from mlops_pipeline.config.pipeline import json_schema, load_settings, shown_settings

    if schema:
        print(json_schema(config or pipeline_here()))
        return
    print(json.dumps(shown_settings(load_settings(pipeline_config(config))), indent=2))


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder to make")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="your table, copied into the project: CSV and other text, Parquet, Excel, JSON; a folder or a pattern of such files",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="the column to predict")] = None,
    example: Annotated[str | None, typer.Option("--example", help="a project that is there to be looked at: flights or reviews")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--source", help="KEY=VALUE of dataset.source: delimiter=tab; or sql=… and uri=… in place of --data"),
    ] = None,
) -> None:
    """Make a project of your own: Git, DVC, settings for your table, a README, a place for parts, a test, CI."""
    from mlops_pipeline.config.dataset import given_of_source
    from mlops_pipeline.project import new as make

    is_query = data is None and bool(given)
    made = make(folder, data, target, example, given_of_source(given or [], with_place=is_query))
    console = terminal.opened()
    if made.columns:
        from mlops_pipeline.tables.columns import as_table

        console.print(as_table(made.columns))
    for line in (made.split, *made.notes, f"{folder}: a project with a pipeline called {made.name}"):
        if line:
            console.print(line)
    here = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    described = example is not None or target is not None
    steps = f"{here}mlops run" if described else f"{here}mlops init --input FILE --target COLUMN"
    console.print(f"next: {steps}{'' if described else ', with your table'}; README.md says what else there is")


@app.command()
def upgrade(
    yes: Annotated[bool, typer.Option("--yes", help="write without asking; what you have changed is left as it is")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="write over what you have changed too")] = False,
) -> None:
    """Bring the project's own files (CI, Makefile, schemas, .gitignore, dvc.yaml) to this version, after showing what changes."""
    from mlops_pipeline.config.finding import project_here
    from mlops_pipeline.project import upgrade as found
    from mlops_pipeline.project import write

    project = project_here()
    changes, notes = found(project)
    for change in changes:
        print(change.diff(), end="")
    kept = [change for change in changes if change.mine and not overwrite]
    for line in (*notes, *(f"{change.shown} was changed by you: it is left as it is; --overwrite takes ours" for change in kept)):
        print(line)
    wanted = [change for change in changes if change not in kept]
    if not wanted:
        print("nothing to write: the project is up to date")
        return
    names = ", ".join(change.shown for change in wanted)
    if not yes:
        if not sys.stdin.isatty():
            raise PipelineError(f"{names}: nothing is written without a yes: `mlops upgrade --yes`")
        if not typer.confirm(f"write {names}?"):
            print("nothing is written")
            return
    write(project, wanted)
    print(f"{names} written: look at `git diff`, and commit it")


@app.command()
def init(
    target: Annotated[str, typer.Option("--target", help="the column to predict")],
    source: Annotated[
        Path | None,
        typer.Option("--input", help="your table: CSV and other text, Parquet, Excel, JSON; a folder or a pattern of such files"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="where to write the settings; default: configs/training_config.yaml")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--source", help="KEY=VALUE of dataset.source: delimiter=tab; or sql=… and uri=… in place of --input"),
    ] = None,
) -> None:
    """Write a settings file for your own table: columns and kinds from all its rows, everything else to your taste."""
    from contextlib import nullcontext

    from mlops_pipeline.config.dataset import given_of_source
    from mlops_pipeline.config.finding import PIPELINE, option_for, project_here
    from mlops_pipeline.files import write_text
    from mlops_pipeline.scaffold import SCHEMA_LINE, name_from, starter
    from mlops_pipeline.tables.columns import as_table
    from mlops_pipeline.tables.database import queried

    project = project_here()
    place = output or project / PIPELINE
    keys = given_of_source(given or [], with_place=source is None)
    if place.exists():
        other = name_from(source.stem if source is not None else target)
        raise PipelineError(f"--output {place}: exists already: name a new file, such as configs/{other}.yaml")
    name = name_from(project.name) if output is None else None
    with nullcontext(source) if source is not None else queried(keys, project) as table:
        made = starter(table, target, place, name=name, given=keys)
    head = f"{SCHEMA_LINE}\n" if place.with_name("training_config.schema.json").is_file() else ""
    write_text(place, head + made.text)
    console = terminal.opened()
    console.print(as_table(made.columns))
    console.print(made.split)
    if not any((folder / ".dvc").is_dir() for folder in place.resolve().parents):
        console.print("this is no project yet: `git init && dvc init` makes it one; `mlops new DIR` makes one with all that belongs to it")
    console.print(f"{place} written: read it, then `mlops run{option_for(place)}`")


@app.command()
def doctor(config: Config = None, as_json: AsJson = False) -> None:
    """Say what of the environment works, what is missing, and how to mend it."""
    from mlops_pipeline.doctor import examine

    findings = examine(config)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    console = terminal.opened()
    for finding in () if as_json else findings:
        mark = ("✓", "green") if finding.works else ("–", "yellow") if finding.optional else ("✗", "red")
        console.print(_line(mark, f" {finding.name:<18} {finding.seen}" + (f"  → {finding.remedy}" if not finding.works else "")))
    if any(not finding.works and not finding.optional for finding in findings):
        sys.exit(1)


@models.command("list")
def list_models(as_json: AsJson = False, config: Config = None) -> None:
    """Every version, newest first."""
    import datetime

    from rich.table import Table
    from rich.text import Text

    model, console, option = _registered_model(config)
    versions = model.versions()
    if as_json:
        print(json.dumps({"model": model.name, "versions": [version.as_json(option) for version in versions]}, indent=2))
        return
    table = Table("version", "alias", "gate", "weights", "registered", "run", title=model.name, title_justify="left")
    for version in versions:
        when = datetime.datetime.fromtimestamp(version.created, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        gate = "passed" if version.passed else "failed" if version.gate else "never judged"
        waits = ["waits for approval"] if version.waits else []
        gate = ", ".join([gate, *(f"{one.decision} by {one.by}" for one in version.decisions[-1:]), *waits])
        cells = (str(version.number), ", ".join(sorted(version.aliases)), gate, version.model_sha256[:12], when, version.run_id[:8])
        table.add_row(*map(Text, cells))
    console.print(table if table.row_count else f"{model.name}: no version is registered yet: run `mlops run{option}`")


@models.command("show")
def show_model(
    version: Annotated[int | None, typer.Argument(help="default: the champion")] = None, as_json: AsJson = False, config: Config = None
) -> None:
    """One version: digest, run, held-out data and the gate's reasons."""
    model, console, option = _registered_model(config)
    found = model.get(version) if version is not None else model.champion()
    if found is None:
        raise PipelineError(f"{model.name}: {model.without_champion(option)}, or name a version")
    if as_json:
        print(json.dumps({"model": model.name, **found.as_json(option)}, indent=2))
        return
    console.print(
        _line((f"{model.name} version {found.number}", "bold"), f" ({', '.join(sorted(found.aliases))})" if found.aliases else "")
    )
    facts = {
        "content": found.content_sha256,
        "weights": found.model_sha256,
        "judged as": found.judged_sha256 and f"{found.judged_sha256}, then fitted again on all rows",
        "evaluated on": found.evaluated_on,
        "run": found.run_id,
        "as of": found.as_of,
        "made because": found.made_because,
        "rolled back": found.rolled_back,
    }
    for name, value in facts.items():
        if value:
            console.print(f"  {name:<13} {value}")
    for rule in found.gate:
        console.print(_line(("  ✓", "green") if rule["passed"] else ("  ✗", "red"), f" {rule['name']}: {rule['text']}"))
    if refused := found.why_refused(option):
        console.print(_line(("  not taken", "yellow"), f": {refused}"))
    for one in found.decisions:
        console.print(f"  {one.decision} by {one.by} at {one.time}: {one.reason}")


@models.command()
def promote(
    version: int,
    override: Annotated[str | None, typer.Option(help="why, if the gate said no: approves it, and is kept for good")] = None,
    config: Config = None,
) -> None:
    """Make a version champion by hand."""
    registry, _, console, tell = _decider(config)
    with registry.deciding(tell):
        promoted = registry.promote(version, override, tell)
        registry.publish(tell)
    console.print(f"{registry.name} version {promoted.number} is champion")


Reason = Annotated[str, typer.Option("--reason", help="why; kept for good, with who said so")]
By = Annotated[str, typer.Option("--by", help="who says so; default: MLOPS_USER, or the system's user")]


@models.command()
def approve(version: int, reason: Reason, by: By = "", as_json: AsJson = False, config: Config = None) -> None:
    """Let a version be taken although its gate did not let it pass, or somebody rejected it; one that waits for it becomes champion."""
    _decide("approved", version, reason, by, config, as_json=as_json)


@models.command()
def reject(version: int, reason: Reason, by: By = "", as_json: AsJson = False, config: Config = None) -> None:
    """Keep a version out of servers, predictions and best_model, whatever its gate said."""
    _decide("rejected", version, reason, by, config, as_json=as_json)


@models.command()
def rollback(config: Config = None) -> None:
    """Make the former champion champion again."""
    from mlops_pipeline.release.face import end_releases

    registry, layout, console, tell = _decider(config)
    with registry.deciding(tell):
        registry.admit_champions_of_before(tell)
        registry.former_champion()
        end_releases(layout.config, console, "`mlops models rollback`")
        gone, back = registry.rollback(tell)
        registry.publish(tell)
    console.print(f"{registry.name} version {back.number} is champion again; version {gone.number} stays out until it is promoted by hand")


@features.command("refresh")
def refresh_features(
    rows: Annotated[
        Path | None, typer.Option("--input", help="a file of new rows, or of outcomes, as the source has them; default: the source itself")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="make the state of the source's rows alone, whatever it holds")] = False,
    config: Config = None,
) -> None:
    """Bring the features' state up to date: each row counts once, however often it comes."""
    from mlops_pipeline.features.refresh import refresh

    settings, layout, console = _opened(config)
    refresh(settings, layout, console, rows, anew=anew)


@features.command("show")
def show_features(as_json: AsJson = False, config: Config = None) -> None:
    """Say what the features' state is of: since when, by which keys, how much."""
    from mlops_pipeline.features.refresh import show

    settings, layout, console = _opened(config)
    show(settings, layout, console, as_json=as_json)


@records.command("show")
def show_records(
    request: Annotated[str, typer.Argument(help="a request's id, or how it begins: what was answered, and by which arm")] = "",
    limit: Annotated[int, typer.Option(min=1, help="rows")] = 20,
    since: Since = None,
    until: Until = None,
    model: ModelName = None,
    version: Version = None,
    config: ServingConfig = None,
) -> None:
    """The newest predictions, the last one lowest; or all that was said to one request."""
    from mlops_pipeline.records.show import show

    shown = show(_records_of(config), limit=limit, since=since, until=until, model=model, version=version, request=request)
    terminal.opened().print(shown)


@records.command("export")
def export_records(
    target: Annotated[Path, typer.Option("--output", help="Parquet or CSV file to write")],
    since: Since = None,
    until: Until = None,
    model: ModelName = None,
    version: Version = None,
    raw: Raw = False,
    as_training: Annotated[bool, typer.Option("--as-training", help="rows as they came, with the target where labels came")] = False,
    shadows: Annotated[bool, typer.Option("--shadows", help="also what a release's challenger said behind answers")] = False,
    config: ServingConfig = None,
) -> None:
    """Every answer with its features, a row each, as a table that any tool reads."""
    from mlops_pipeline.records.reading import export

    if as_training and shadows:
        raise PipelineError("--shadows: nobody was told what a shadow said, so it is no row to train on: leave it or --as-training out")
    if as_training:
        from mlops_pipeline.monitoring.as_training import export_as_training
        from mlops_pipeline.monitoring.watched import watched

        store = _records_of(config)
        done = export_as_training(watched(None), store, target, since=since, until=until, model=model, version=version, raw=raw)
        terminal.opened().print("\n".join([f"{done.rows:,} rows written into {target}, {done.labelled:,} with a label", *done.notes]))
        return
    notes: list[str] = []
    store = _records_of(config)
    rows = export(store, target, since=since, until=until, model=model, version=version, raw=raw, shadows=shadows, notes=notes)
    terminal.opened().print("\n".join([f"{rows:,} rows written into {target}", *notes]))


@monitor.command("report")
def monitor_report(
    reference: Annotated[str | None, typer.Option(help=f"{TABLE}, or a period; default: the champion's training window")] = None,
    current: Annotated[str | None, typer.Option(help=f"{TABLE}, or a period of the table: 2013-10, 2013-10-01..2013-10-14")] = None,
    since: Annotated[datetime | None, _moment("--from", "instead of --current: the table's rows from this moment on (UTC)")] = None,
    until: Annotated[datetime | None, _moment("--until", "and before this moment (UTC)")] = None,
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
    config: Config = None,
) -> None:
    """Compare two tables: missing values, drift, the model's quality, a median; a page and JSON."""
    from mlops_pipeline.config.finding import pipeline_here
    from mlops_pipeline.monitoring.command import report

    made = report(
        terminal.opened(),
        reference=reference,
        current=current,
        since=since,
        until=until,
        output=output,
        config=config,
        default_config=None if config else pipeline_here(),
        target=target,
        prediction=prediction,
        quantile_column=quantile_column,
        drift_share=drift_share,
    )
    if fail_on_drift and made.has_drifted:
        sys.exit(1)


@monitor.command("run")
def monitor_run(
    close: Annotated[bool, typer.Option("--close", help="end the window now, though it is not full")] = False,
    as_of: Annotated[
        str | None, typer.Option(help="what a training would see: no row from this moment on; default: the window's end")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="write the figures for Prometheus there, too, for node_exporter's textfile collector")
    ] = None,
    config: MonitoringConfig = None,
) -> None:
    """Count the windows of the record that have ended, tell of what is wrong, and train again where a rule asks for it."""
    from mlops_pipeline.monitoring.background import step_back

    step_back()
    from mlops_pipeline.monitoring.face import run_once

    run_once(terminal.opened(), config, close=close, as_of=as_of, metrics=metrics)


@monitor.command("watch")
def monitor_watch(
    every: Annotated[str, typer.Option(help="how often: 1min, 1h")] = "1min",
    config: MonitoringConfig = None,
) -> None:
    """The same again and again, with the state of things on the screen."""
    from mlops_pipeline.monitoring.background import step_back

    step_back()
    from mlops_pipeline.monitoring.face import keep_watching

    keep_watching(terminal.opened(), config, every)


@monitor.command("status")
def monitor_status(as_json: AsJson = False, config: MonitoringConfig = None) -> None:
    """How the model does, in ten lines."""
    from mlops_pipeline.monitoring.face import show_status

    show_status(terminal.opened(), config, as_json=as_json)


@monitor.command("open")
def monitor_open(
    output: Annotated[Path | None, typer.Option(help="the file; default: data/monitoring/watch.html")] = None,
    show: Annotated[bool, typer.Option("--show/--no-show", help="open it in the browser, where there is one")] = True,
    config: MonitoringConfig = None,
) -> None:
    """The page of the watch, one file that opens offline: quality over time, drift, labels, alerts, trainings."""
    from mlops_pipeline.monitoring.face import open_page

    open_page(terminal.opened(), config, output, show=show)


@monitor.command("rules")
def monitor_rules(
    output: Annotated[Path | None, typer.Option(help="the file; default: standard output")] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail if the file is not current")] = False,
    silent_after: Annotated[str, typer.Option(help="the watch is silent when it has not run for so long")] = "2d",
    config: MonitoringConfig = None,
) -> None:
    """The rules as Prometheus reads them, for one that scrapes the server's /metrics."""
    from mlops_pipeline.monitoring.face import render_rules

    render_rules(config, output, silent_after, check=check)


@monitor.command("silence")
def monitor_silence(
    rule: Annotated[str, typer.Argument(help="a rule's name, or '*' for every one")],
    until: Annotated[str, typer.Option("--for", help="how long: 2h, 3d; 0 ends a silence")],
    model: Annotated[str, typer.Option(help="only this name in the URL")] = "*",
    why: Annotated[str, typer.Option(help="kept with it")] = "",
    config: MonitoringConfig = None,
) -> None:
    """Tell nobody of a rule for a while; what it says is kept all the same."""
    from mlops_pipeline.monitoring.face import silence

    silence(terminal.opened(), config, rule, until, model, why)


@monitor.command("stop")
def monitor_stop(why: Annotated[str, typer.Option(help="kept with it")] = "", config: MonitoringConfig = None) -> None:
    """Start no more trainings, whatever rules ask for, until `mlops monitor resume`."""
    from mlops_pipeline.monitoring.face import switch_training

    switch_training(terminal.opened(), config, "stopped", why)


@monitor.command("resume")
def monitor_resume(why: Annotated[str, typer.Option(help="kept with it")] = "", config: MonitoringConfig = None) -> None:
    """Let rules ask for trainings again."""
    from mlops_pipeline.monitoring.face import switch_training

    switch_training(terminal.opened(), config, "running", why)


@labels.command("add")
def add_labels(
    source: Annotated[
        Path | None, typer.Option("--input", help="a table: request_id and row, or id, or the entity and a time; and what came of it")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--source", help="in place of --input: sql=… and uri=… of a query")] = None,
    target: Annotated[str | None, typer.Option(help="the column with what came of it; default: the pipeline's target, or label")] = None,
    config: MonitoringConfig = None,
) -> None:
    """Add what came of predictions; the same table twice adds nothing, and windows are counted again by the next `mlops monitor run`."""
    from mlops_pipeline.monitoring.face import take_labels

    take_labels(terminal.opened(), config, source, given or [], target)


ExperimentConfig = Annotated[Path, typer.Option("--config", "-c", help="the test's settings: arms, metrics, how sure")]


@experiments.command("plan")
def plan_experiment(
    config: ExperimentConfig,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="a table of what the metrics are today, a row for each unit or event; default: the record"),
    ] = None,
    per_day: Annotated[float | None, typer.Option(help="units a day; default: as many as the rows' times say")] = None,
    since: Annotated[datetime | None, _moment("--since", "of the record: from this moment on (UTC); default: 30 days ago")] = None,
    releases: Annotated[Path | None, typer.Option(help="of the record: the settings of releases; default: this project's")] = None,
    as_json: AsJson = False,
) -> None:
    """How many units a test needs to find the least effects, by running it some hundred times on your own rows."""
    if source is not None:
        from mlops_pipeline.experiments.face import plan

        if since is not None or releases is not None:
            _end_with("experiment plan: --since and --releases are of the record: leave them out, or --input")
        plan(terminal.opened(), config, source, per_day, as_json=as_json)
        return
    from mlops_pipeline.release.face import plan_test

    first = datetime.now(UTC) - timedelta(days=30) if since is None else since.replace(tzinfo=UTC)
    plan_test(terminal.opened(), releases, config, first, per_day, as_json=as_json)


Why = Annotated[str, typer.Option("--reason", help="kept with it")]


@experiments.command("start")
def start_experiment(
    version: int,
    config: ExperimentConfig,
    reason: Why = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="carry it on here until it is over")] = True,
    releases: Annotated[Path | None, typer.Option(help="the settings of releases, with their guardrails; default: this project's")] = None,
) -> None:
    """Run a test of a version beside the champion at fixed shares, until it is decided or as many units came as it may have."""
    from mlops_pipeline.release.face import begin_test

    begin_test(terminal.opened(), releases, config, version, reason, wait=wait)


@experiments.command("report")
def report_experiment(
    source: Annotated[
        Path | None, typer.Option("--input", help="a table of outcomes: the arm, the metrics, and who and when if there is one")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="the test's settings; needed with --input")] = None,
    output: Annotated[Path | None, typer.Option(help="the page; figures for a program beside it; default: NAME.html")] = None,
    number: Annotated[int | None, typer.Option("--release", help="a test that was begun with `experiment start`, by its number")] = None,
    releases: Annotated[Path | None, typer.Option(help="the settings of releases; default: this project's")] = None,
    as_json: AsJson = False,
) -> None:
    """What a test says so far, at any time and as often as you like; ends with 1 if the arms did not get their shares."""
    if number is not None:
        from mlops_pipeline.release.face import report_test

        if source is not None or config is not None:
            _end_with("--release: the test's rows are on record, and its settings with its release: leave --input and --config out")
        told = report_test(terminal.opened(), releases, number, output, as_json=as_json)
    elif source is None or config is None:
        _end_with(
            "experiment report: name a table with --input and its settings with --config, or a test that we run with --release NUMBER"
        )
    else:
        from mlops_pipeline.experiments.face import report

        told = report(terminal.opened(), config, source, output, as_json=as_json)
    if not told:
        sys.exit(1)


@release.command("start")
def release_start(
    version: int,
    reason: Why = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="carry it on here until it is over")] = True,
    config: ReleaseConfig = None,
) -> None:
    """Begin a release of a version beside the champion, and carry it on until it is champion, or thrown out."""
    from mlops_pipeline.release.face import start

    start(terminal.opened(), config, version, reason, wait=wait)


@release.command("watch")
def release_watch(config: ReleaseConfig = None) -> None:
    """The controller: carry releases on, and begin one for each version that becomes challenger, with the state of things on the screen."""
    from mlops_pipeline.release.face import watch

    watch(terminal.opened(), config)


@release.command("status")
def release_status(as_json: AsJson = False, config: ReleaseConfig = None) -> None:
    """The last release, and what was decided of it."""
    from mlops_pipeline.release.face import status

    status(terminal.opened(), config, as_json=as_json)


@release.command("pause")
def release_pause(reason: Why = "", config: ReleaseConfig = None) -> None:
    """Decide nothing until `resume`; the challenger answers what it answers now."""
    from mlops_pipeline.release.face import change

    change(terminal.opened(), config, "paused", reason)


@release.command("resume")
def release_resume(reason: Why = "", config: ReleaseConfig = None) -> None:
    """Go on after `pause`."""
    from mlops_pipeline.release.face import change

    change(terminal.opened(), config, "running", reason)


@release.command("abort")
def release_abort(reason: Why = "", config: ReleaseConfig = None) -> None:
    """All traffic to the champion, now."""
    from mlops_pipeline.release.face import change

    change(terminal.opened(), config, "aborted", reason)


@release.command("promote")
def release_promote(reason: Why = "", by: By = "", config: ReleaseConfig = None) -> None:
    """Let a release leave a step whose policy asks for a person."""
    from mlops_pipeline.release.face import promote

    promote(terminal.opened(), config, reason, by)


@release.command("replay")
def release_replay(version: int, since: Since = None, until: Until = None, as_json: AsJson = False, config: ReleaseConfig = None) -> None:
    """What a version would have said of rows on record, beside the champion; ends with 1 if a guardrail is known to be broken."""
    from mlops_pipeline.release.face import replay

    if not replay(terminal.opened(), config, version, since, until, as_json=as_json):
        sys.exit(1)


@release.command("render")
def release_render(
    target: Annotated[str, typer.Argument(help="httproute (Gateway API), kserve, or rollouts (Argo)")],
    step: Annotated[
        str | None, typer.Option(help="the step to be at, such as '5 %'; default: where the release is, else the first")
    ] = None,
    name: Annotated[str | None, typer.Option(help="of KServe's InferenceService; default: the pipeline's")] = None,
    config: ReleaseConfig = None,
) -> None:
    """The policy as manifests, for those who split traffic elsewhere; on standard output."""
    from mlops_pipeline.release.face import render

    render(config, target, step, name)


@monitor.command("reference")
def monitor_reference(
    version: Annotated[int | None, typer.Option(help="default: the champion")] = None,
    config: Config = None,
) -> None:
    """Write the summary of a version's rows that later rows are compared with, if it was registered without one."""
    from mlops_pipeline.monitoring.reference import write_reference

    settings, layout, console = _opened(config)
    write_reference(settings, layout, version, console)


@demo.command("year")
def demo_year(
    output: Annotated[Path | None, typer.Option(help="folder for year.png and year.json; default: data/demo")] = None,
    folder: Annotated[Path | None, typer.Option(help="keep the projects there, to look into; default: a temporary folder")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="one flight in ten until May, to see that it works; figures mean nothing")] = False,
) -> None:
    """A year of flights through a real server: never retrained, the loop, every month; a table and a picture in five minutes."""
    from mlops_pipeline.demo.year import tell_year

    tell_year(terminal.opened(), output, folder, quick=quick)


@demo.command("release")
def demo_release(
    output: Annotated[Path | None, typer.Option(help="folder for release.png, .html and .json; default: data/demo")] = None,
    folder: Annotated[Path | None, typer.Option(help="keep the project there, to look into; default: a temporary folder")] = None,
) -> None:
    """A better challenger becomes champion under replayed flights, and a worse one is thrown out: a picture in a minute or two."""
    from mlops_pipeline.demo.release import tell_release

    tell_release(terminal.opened(), output, folder)


def _decide(word: Word, version: int, reason: str, by: str, config: Path | None, *, as_json: bool) -> None:
    from mlops_pipeline.config.finding import option_for

    registry, layout, console, tell = _decider(config, as_json=as_json)
    with registry.deciding(tell):
        settled = registry.settle(version, word, reason, by, tell)
        if settled.version.is_champion:
            registry.publish(tell)
    made, is_champion = settled.decision, settled.version.is_champion
    if as_json:
        facts = {"decision": made.decision, "by": made.by, "reason": made.reason, "time": made.time, "content_sha256": made.content_sha256}
        print(json.dumps({"model": registry.name, "version": version, **facts, "champion": is_champion}))
        return
    console.print(f"{registry.name} version {version} is {made.decision} by {made.by}" + ", and champion" * settled.waited * is_champion)
    if word == "approved" and not is_champion:
        why = f", since {settled.why_not_champion}" if settled.why_not_champion else ""
        console.print(f"it is not champion{why}: `mlops models promote {version}{option_for(layout.config)}` makes it so")


def _without(settings: Settings, layout: Layout, model: Path | None) -> str:
    from mlops_pipeline.config.finding import option_for
    from mlops_pipeline.registry.champion import registered_model

    if model is not None:
        return "does not exist"
    return registered_model(settings, layout).without_champion(option_for(layout.config))


def _records_of(config: Path | None) -> RecordStore:
    from mlops_pipeline.config.finding import serving_config
    from mlops_pipeline.config.serving import load_serving
    from mlops_pipeline.server_layout import place_of

    path = serving_config(config)
    return place_of(load_serving(path), path).store


def _line(*parts: str | tuple[str, str]) -> Any:
    """A line for the console, parts of it with a style; nothing in it is markup."""
    from rich.text import Text

    return Text.assemble(*parts)


def _opened(config: Path | None) -> tuple[Settings, Layout, Console]:
    from mlops_pipeline.config.finding import pipeline_config
    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import find_project, layout_of

    path = pipeline_config(config)
    settings = load_settings(path)
    return settings, layout_of(settings, path, find_project(path)), terminal.opened()


def _registered_model(config: Path | None) -> tuple[RegisteredModel, Any, str]:
    """The model that a pipeline registers, a console, and what a command needs to mean it."""
    from mlops_pipeline.config.finding import option_for
    from mlops_pipeline.registry.champion import registered_model

    settings, layout, console = _opened(config)
    return registered_model(settings, layout), console, option_for(layout.config)


def _decider(config: Path | None, *, as_json: bool = False) -> tuple[RegistryWriter, Layout, Console, Listener]:
    """The registry as it is written to, and who is told of it: a person on standard error where a program reads the output."""
    from mlops_pipeline.lines import shown_on
    from mlops_pipeline.registry.champion import RegistryWriter
    from mlops_pipeline.registry.runs import Tracking
    from mlops_pipeline.release.wake import told_for

    settings, layout, console = _opened(config)
    tell = told_for(settings, layout, shown_on(terminal.opened(sys.stderr) if as_json else console))
    return RegistryWriter(Tracking(settings, layout)), layout, console, tell
