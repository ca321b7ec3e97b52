"""Sizes of the images, how long they take to build and to be ready, printed beside what was promised.

python benchmarks/images.py        (needs the docker client; BASE_IMAGE names another base)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KEY = "benchmark"
STARTS = 5


def main() -> None:
    """Build both images, build them again, change a source file and build once more; start the server several times."""
    for dockerfile, tag in (("docker/Dockerfile.serve", "mlops-pipeline-serve:bench"), ("docker/Dockerfile", "mlops-pipeline:bench")):
        first, again = build(dockerfile, tag, REPOSITORY), build(dockerfile, tag, REPOSITORY)
        with tempfile.TemporaryDirectory() as folder:
            changed = build(dockerfile, f"{tag}-changed", copy_with_a_change(Path(folder)))
        whole, base = size(tag), base_size(dockerfile)
        print(
            f"{tag}: {(whole - base) / 1e6:.0f} MB over its base of {base / 1e6:.0f} MB; base {os.environ.get('BASE_IMAGE', 'as pinned')}"
        )
        print(f"  build {first:.1f} s (layers of earlier builds reused), nothing changed {again:.1f} s, one source file {changed:.1f} s")
        docker("rmi", "--force", f"{tag}-changed")
    seconds = [start("mlops-pipeline-serve:bench") for _ in range(STARTS)]
    print(f"docker run to ready: median {statistics.median(seconds):.2f} s of {STARTS} ({min(seconds):.2f} to {max(seconds):.2f})")


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def build(dockerfile: str, tag: str, context: Path) -> float:
    """Seconds that a build takes."""
    base = os.environ.get("BASE_IMAGE")
    begun = time.perf_counter()
    options = ("--build-arg", f"BASE_IMAGE={base}") if base else ()
    docker("build", "--quiet", *options, "--file", str(context / dockerfile), "--tag", tag, str(context))
    return time.perf_counter() - begun


def copy_with_a_change(folder: Path) -> Path:
    """The files that Git knows, with one line more in one source file."""
    for name in subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split():
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    with (folder / "src/mlops_pipeline/errors.py").open("a") as file:
        file.write(f"\nCHANGED = {time.time()}\n")
    return folder


def size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def base_size(dockerfile: str) -> int:
    """The size of the base image, bytes."""
    pinned = next(
        line.split("=", 1)[1] for line in (REPOSITORY / dockerfile).read_text().splitlines() if line.startswith("ARG BASE_IMAGE=")
    )
    return size(os.environ.get("BASE_IMAGE", pinned))


def start(image: str) -> float:
    """Seconds from `docker run` to the first answer that it is ready, with the champion of this project."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "api_keys"
        keys.write_text(f"me: sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
        keys.chmod(0o644)
        Path(folder).chmod(0o755)
        model = REPOSITORY / "models/registry/best_model"
        begun = time.perf_counter()
        name = docker(
            *("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--publish", "127.0.0.1::8000"),  # noqa: S108
            *("--volume", f"{keys}:/run/secrets/api_keys:ro", "--volume", f"{model}:/models/champion:ro", image),
        ).strip()
        try:
            ports = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", name))
            address = f"http://127.0.0.1:{ports['8000/tcp'][0]['HostPort']}/ready"
            while not is_ready(address):
                time.sleep(0.02)
            return time.perf_counter() - begun
        finally:
            docker("rm", "--force", "--volumes", name)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  # our own address
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
