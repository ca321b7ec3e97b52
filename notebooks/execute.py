"""Run notebooks from top to bottom, in place: `python notebooks/execute.py [NOTEBOOK …]`, all of this folder by default.

Like `jupyter execute --inplace`, but what is stored says nothing of when, how fast and on whose machine it ran, so that
a second run changes no byte; and a notebook that wrote to stderr, or grew too large, is not stored.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
MAX_BYTES = 400_000
CELL_TIMEOUT_S = 600
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
OURS = ("MLFLOW_", "PREFECT_", "DVC_", "IPYTHON", "JUPYTER_", "MPL")


class UnsoundNotebook(Exception):
    """A notebook cannot be read, or what it gave is not fit to be kept."""


def read(path: Path) -> Any:
    """The notebook as it is stored; raises :class:`UnsoundNotebook` if there is none."""
    import nbformat

    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        with warnings.catch_warnings(action="ignore"):  # cells without an id get one
            nbformat.validate(content, version=4)
            return nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    except FileNotFoundError as error:
        raise UnsoundNotebook("no such file: name a notebook, or none for all of notebooks/") from error
    except (ValueError, nbformat.ValidationError) as error:
        reason = textwrap.shorten(str(error).strip().splitlines()[0], 100)
        raise UnsoundNotebook(f"not a notebook of format 4 ({reason}): save it anew from Jupyter, or take it back from Git") from error


def execute(path: Path) -> Any:
    """The notebook with the outputs of a fresh kernel of this environment, whose working folder is that of the notebooks.

    Raises :class:`UnsoundNotebook` if it cannot be read, or a cell fails.
    """
    import matplotlib.font_manager  # noqa: F401  # makes its list of fonts where there is none, of which a kernel would speak on stderr
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = read(path)
    with tempfile.TemporaryDirectory() as home:
        # No kernel of another environment, no server and no start-up file of the user's changes what comes out.
        environ = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        environ |= {"IPYTHONDIR": home, "TMPDIR": home, "PYTHONHASHSEED": "0"}
        specs = KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share/jupyter/kernels")])
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs, transport_encryption="auto"),
            timeout=CELL_TIMEOUT_S,
            startup_timeout=300,
            iopub_timeout=60,  # else outputs of a busy machine are dropped with no more than a warning
            record_timing=False,
            coalesce_streams=True,  # else what is printed lies in as many pieces as it came in
            resources={"metadata": {"path": str(FOLDER)}},
        )
        try:
            client.execute(env=environ, cleanup_kc=True)
        except CellExecutionError as error:
            failed = next(n for n, cell in enumerate(notebook.cells, 1) if any(o.output_type == "error" for o in cell.get("outputs", [])))
            raise UnsoundNotebook(f"cell {failed} failed: {error.ename}: {' '.join(error.evalue.split())}") from error
    notebook.metadata = nbformat.from_dict(copy.deepcopy(METADATA))  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        cell.metadata.clear()
        _plain(cell)
    return notebook


def text_of(notebook: Any) -> str:
    """The notebook as it is to be stored; raises :class:`UnsoundNotebook` if it wrote to stderr or is too large."""
    import nbformat

    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise UnsoundNotebook(f"cell {number} wrote to stderr: {output.text.strip().splitlines()[0]}")
    text: str = nbformat.writes(notebook) + "\n"  # type: ignore[no-untyped-call]
    if len(text.encode()) > MAX_BYTES:
        raise UnsoundNotebook(f"{len(text.encode()):,} bytes, more than {MAX_BYTES:,}: fewer or smaller pictures")
    return text


def _plain(cell: Any) -> None:
    """Outputs without the metadata of frontends, pictures in few bytes."""
    for output in cell.get("outputs", []):
        if "metadata" in output:
            output.metadata.clear()
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = base64.b64encode(_drawing(base64.b64decode(output.data["image/png"]))).decode()


def _drawing(png: bytes) -> bytes:
    """A picture of a few colours as such: a third of the bytes, and none that name the version of what drew it."""
    from PIL import Image

    smaller = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def main(arguments: list[str]) -> int:
    """Execute and store each notebook; the first that fails ends it, stored as it was."""
    from nbclient.exceptions import CellTimeoutError

    for path in [Path(argument) for argument in arguments] or sorted(FOLDER.glob("*.ipynb")):
        try:
            text = text_of(execute(path))
        except (CellTimeoutError, UnsoundNotebook, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 2
        changed = text != path.read_text(encoding="utf-8")
        if changed:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {'written' if changed else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
