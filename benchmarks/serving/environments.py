"""The peers' own environments, each with the pins that were found to work together."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(".venv-peers")


@dataclass(frozen=True)
class Environment:
    """A virtual environment: what goes in, what must go out again, which Python makes it."""

    name: str
    packages: tuple[str, ...]
    without: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    system_python: bool = False

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return ROOT / self.name / "bin" / "python"


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        # Triton's Python backend needs a shared libpython of the interpreter's own micro version.
        Environment("pytriton", ("nvidia-pytriton==0.7.0", "onnxruntime", "pillow>=11"), system_python=True),
        # Its own dependencies clash on a plain install; see benchmarks/serving.md.
        Environment(
            "clip",
            ("clip-server==0.8.3", "clip-client==0.8.3", "docarray==0.21.0", "numpy<2", "onnxruntime", "setuptools<81"),
            options=("--index-strategy", "unsafe-best-match"),
        ),
        Environment(
            "infinity",
            ("infinity-emb[torch,server,vision,optimum]==0.0.78", "aiohttp"),
            without=("torchvision",),
        ),
    )
}


def ensure(name: str) -> Path:
    """The interpreter of a peer's environment, made if it is not there; a broken one is made anew."""
    environment = ENVIRONMENTS[name]
    done = ROOT / name / ".ready"
    if not done.is_file():
        shutil.rmtree(ROOT / name, ignore_errors=True)
        python = "/usr/bin/python3.11" if environment.system_python else sys.executable
        _uv("venv", "--quiet", "--python", python, str(ROOT / name))
        _uv(
            "pip",
            "install",
            "--quiet",
            *environment.options,
            "--python",
            str(environment.python),
            *environment.packages,
        )
        for package in environment.without:
            _uv("pip", "uninstall", "--quiet", "--python", str(environment.python), package)
        done.touch()
    return environment.python.absolute()


def _uv(*arguments: str) -> None:
    print("uv", *arguments, file=sys.stderr)
    subprocess.run([str(Path(sys.executable).with_name("uv")), *arguments], check=True)
