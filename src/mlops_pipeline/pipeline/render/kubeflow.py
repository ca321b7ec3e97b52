"""The pipeline for Kubeflow Pipelines: a Python file that the kfp SDK compiles, a container component a stage.

The components share no folder: `mlops stage --input … --output …` takes and leaves each artifact at the path that Kubeflow gives it.
"""

import json

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.artifacts import inputs_of, is_folder, makers, outputs_of, sources
from mlops_pipeline.pipeline.definition import STAGES, Stage
from mlops_pipeline.pipeline.render import terms

_FILE = '''{head}"""{name} for Kubeflow Pipelines: `python THIS_FILE pipeline.yaml` compiles it where kfp is installed.

MLOPS_IMAGE names another image than this version's. What MLflow asks for (a user, a password) goes to the tasks as a Secret:
kfp-kubernetes has use_secret_as_env for that.
"""

import os
import sys

from kfp import compiler, dsl

IMAGE = os.environ.get("MLOPS_IMAGE", "{image}")


def stage(name: str, tracking_uri: str, *arguments: str) -> dsl.ContainerSpec:
    """A stage in a fresh container, on the artifacts that it is handed."""
    where = f"MLFLOW_TRACKING_URI={{tracking_uri}}"
    command = ["{entrypoint}", "env", where, "mlops", "stage", name, "--config", {config}]
    return dsl.ContainerSpec(image=IMAGE, command=command, args=list(arguments))


def prepared(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """What holds for every stage. Kubeflow's own cache knows neither the settings nor the code in the image: it stays off."""
    task.set_caching_options(False)
    task.set_retry({retries}, backoff_duration="{backoff}s", backoff_factor={factor}, backoff_max_duration="{longest}s")
    task.set_cpu_request("1").set_cpu_limit("2").set_memory_request("2Gi").set_memory_limit("4Gi")
    return task


{components}


@dsl.pipeline(name="{name}", description="From the source to the champion")
def pipeline({parameters}):
    """The stages, in the order that follows from who makes what another reads."""
{tasks}


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, sys.argv[1])
'''

_COMPONENT = '''@dsl.container_component
def {name}(
{parameters}
):
    """{summary}"""
    return stage(
        "{name}",
        tracking_uri,
{artifacts}
    )'''


def kubeflow_pipeline(settings: Settings, layout: Layout) -> str:
    """The text of a Python file that compiles with the kfp SDK."""
    given = [f"{name}: str" for name in sources(settings, layout)]
    return _FILE.format(
        head=terms.head(layout, " --target kubeflow"),
        name=terms.pipeline_name(settings),
        image=terms.image(),
        entrypoint=terms.ENTRYPOINT,
        config=json.dumps(layout.relative(layout.config), ensure_ascii=False),
        retries=Stage.retries,
        backoff=Stage.retry_delay_s,
        factor=float(Stage.retry_factor),
        longest=terms.LONGEST_BACKOFF_S,
        components="\n\n\n".join(_component(stage, settings, layout) for stage in STAGES),
        parameters=", ".join(
            [*given, f'tracking_uri: str = "{terms.TRACKING_URI}"', *(['as_of: str = ""'] if terms.has_time(settings) else [])]
        ),
        tasks="\n".join(_task(stage, settings, layout) for stage in STAGES),
    )


def _component(stage: Stage, settings: Settings, layout: Layout) -> str:
    inputs, outputs = inputs_of(stage, settings, layout), outputs_of(stage, layout)
    parameters = [
        "tracking_uri: str",
        *(["as_of: str"] if _is_told(stage, settings) else []),
        *(f"{name}: dsl.Input[dsl.Artifact]" for name in inputs),
        *(f"{name}: dsl.Output[dsl.{_kind(stage, name, layout)}]" for name in outputs),
    ]
    artifacts = [
        *(['"--as-of"', "as_of"] if _is_told(stage, settings) else []),
        *(line for name in inputs for line in ('"--input"', f'f"{name}={{{name}.path}}"')),
        *(line for name in outputs for line in ('"--output"', f'f"{name}={{{name}.path}}"')),
    ]
    return _COMPONENT.format(
        name=stage.name,
        summary=stage.summary,
        parameters="\n".join(f"    {parameter}," for parameter in parameters),
        artifacts="\n".join(f"        {pair}," for pair in artifacts),
    )


def _is_told(stage: Stage, settings: Settings) -> bool:
    """Whether a stage takes the run's as-of: the one that reads the sources does."""
    return terms.has_time(settings) and not stage.reads


def _kind(stage: Stage, name: str, layout: Layout) -> str:
    """Kubeflow's own word for an artifact: tables are datasets, the model is a model, pages are shown as pages."""
    path = outputs_of(stage, layout)[name]
    if name == "model":
        return "Model"
    return {".parquet": "Dataset", ".csv": "Dataset", ".html": "HTML"}.get("" if is_folder(path) else path.suffix, "Artifact")


def _task(stage: Stage, settings: Settings, layout: Layout) -> str:
    lines, handed = [], {"tracking_uri": "tracking_uri", **({"as_of": "as_of"} if _is_told(stage, settings) else {})}
    if stage.reads:
        handed |= {name: f'{maker.name}_task.outputs["{name}"]' for name, maker in makers(stage).items()}
    else:
        for name in inputs_of(stage, settings, layout):
            lines.append(f"    {name}_file = dsl.importer(artifact_uri={name}, artifact_class=dsl.Artifact, reimport=True)")
            handed[name] = f"{name}_file.output"
    arguments = "".join(f"            {name}={value},\n" for name, value in handed.items())
    lines.append(f"    {stage.name}_task = prepared(\n        {stage.name}(\n{arguments}        )\n    )")
    return "\n".join(lines)
