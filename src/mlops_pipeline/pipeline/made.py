"""What a run has made, and how to work with it: in commands that can be typed as they stand."""

import os
import shlex
from pathlib import Path

from mlops_pipeline.config.finding import option_for
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.layout import Layout
from mlops_pipeline.registry.champion import registered_model

WIDTH = 10


def made(settings: Settings, layout: Layout) -> list[str]:
    """The report, and how to predict, serve and watch; or why there is no champion to do that with."""
    option, rows = option_for(layout.config), _typed(layout.test)
    lines = {"report": _near(layout.evaluation / "report.html")}
    if layout.best_model.exists():
        lines |= {
            "card": _near(layout.model_card),
            "predict": f"mlops predict --input {rows} --output {_typed(layout.root / 'data/predictions.csv')}{option}",
            "serve": f"mlops serve{option}",
            "watch": f"mlops monitor report --current {rows}{option}",
        }
    else:
        lines["next"] = registered_model(settings, layout).without_champion(option)
    return ["", *(f"{name:<{WIDTH}}{text}" for name, text in lines.items() if name != "report" or Path(text).exists())]


def _typed(path: Path) -> str:
    return shlex.quote(_near(path))


def _near(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path)
