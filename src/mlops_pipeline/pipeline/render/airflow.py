"""The pipeline as a DAG for Airflow 3.

A task runs `mlops run --to STAGE` and not `mlops stage`: all tasks share the project's folder and so DVC's cache. A second
try of a stage that ended does nothing, a night on which nothing changed does nothing, and the shell sees what Airflow did.
"""

import shlex

from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.environment import QUIET
from mlops_pipeline.layout import Layout
from mlops_pipeline.pipeline.artifacts import needs
from mlops_pipeline.pipeline.definition import STAGES, Stage
from mlops_pipeline.pipeline.render import terms

_FILE = '''{head}"""{name} as an Airflow DAG: put this file into your DAGs folder.

The worker finds the project by the Airflow Variable `mlops_project`, or AIRFLOW_VAR_MLOPS_PROJECT in its environment; `mlops`
is the one in the project's .venv, or else on the worker's path. MLFLOW_TRACKING_URI in its environment says where MLflow is.
"""

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

QUIET = {quiet}


def stage(name: str, summary: str, hours: int) -> BashOperator:
    """Bring the pipeline up to date as far as one stage."""
    return BashOperator(
        task_id=name,
        doc_md=summary,
        cwd="{{{{ var.value.mlops_project }}}}",
        bash_command=f'export PATH="$PWD/.venv/bin:$PATH" && exec mlops run --to {{name}} --config {config}{as_of}',
        env={env},
        append_env=True,
        execution_timeout=timedelta(hours=hours),
    )


with DAG(
    dag_id="{name}",
    description="From the source to the champion",
    schedule="{nightly}",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    # The tasks share one folder.
    max_active_tasks=1,
    dagrun_timeout=timedelta(hours=24),
    default_args={{
        "retries": {retries},
        "retry_delay": timedelta(seconds={backoff}),
        "retry_exponential_backoff": {factor},
        "max_retry_delay": timedelta(seconds={longest}),
    }},
    tags=["mlops-pipeline"],{params}
):
{stages}

{edges}
'''


def _in_f_string(text: str) -> str:
    """Text as it has to stand in a Python f-string in single quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("{", "{{").replace("}", "}}")


def airflow_dag(settings: Settings, layout: Layout) -> str:
    """The text of a Python file for Airflow's DAGs folder."""
    timed = terms.has_time(settings)
    return _FILE.format(
        head=terms.head(layout, " --target airflow"),
        name=terms.pipeline_name(settings),
        config=_in_f_string(shlex.quote(layout.relative(layout.config))),
        quiet="{\n" + "".join(f'    "{key}": "{value}",\n' for key, value in QUIET.items()) + "}",
        # Through the environment, so that what is typed into a form is never a command.
        as_of=' --as-of "$MLOPS_AS_OF"' if timed else "",
        env='{**QUIET, "MLOPS_AS_OF": "{{ params.as_of }}"}' if timed else "QUIET",
        params=f'\n    # {terms.AS_OF}\n    params={{"as_of": ""}},' if timed else "",
        nightly=terms.NIGHTLY,
        retries=Stage.retries,
        backoff=Stage.retry_delay_s,
        factor=Stage.retry_factor,
        longest=terms.LONGEST_BACKOFF_S,
        stages="\n".join(f'    {stage.name} = stage("{stage.name}", "{stage.summary}", hours={stage.hours})' for stage in STAGES),
        edges="\n".join(f"    [{', '.join(needs(stage))}] >> {stage.name}" for stage in STAGES if stage.reads),
    )
