"""What a run has made, and how to work with it: in commands that can be typed as they stand."""

import os
import shlex
from pathlib import Path

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.champion import registered_model

WIDTH = 10


def made(settings: Settings, layout: Layout) -> list[str]:
    """The report, and how to predict, serve and watch; or why there is no champion to do that with."""
    option, rows = option_for(layout.config), _typed(layout.test)
    lines = {"report": _near(layout.report)}
    if layout.best_model.exists():
        lines |= {
            "card": _near(layout.model_card),
            "predict": f"mlops predict --input {rows} --output {_typed(layout.root / 'data/predictions.csv')}{option}",
            "serve": f"mlops serve{option}",
            "watch": f"mlops monitor report --current {rows}{option}",
        }
    lines["next"] = _next(settings, layout, option)
    return ["", *(f"{name:<{WIDTH}}{text}" for name, text in lines.items() if text and (name != "report" or Path(text).exists()))]


def _next(settings: Settings, layout: Layout, option: str) -> str:
    """What to do where the gate has turned the newest version down; empty if it has not, or nobody can tell now."""
    model = registered_model(settings, layout)
    try:
        return model.turned_down(option) if layout.best_model.exists() else model.without_champion(option)
    except PipelineError:
        return ""


def _typed(path: Path) -> str:
    return shlex.quote(_near(path))


def _near(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path)
