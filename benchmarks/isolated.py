"""What the benchmarks share: environments for other people's packages, and measurements in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
HERE = Path(__file__).parent
LIBRARY = HERE.parent / "MedSegReg"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "nnUNet_def_n_proc",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Attributes:
        threads: of every library in it.
        gpu: whether it sees one.
        timeout_s: wall time after which it is stopped, with all that it started.
    """

    threads: int = 1
    gpu: bool = False
    timeout_s: float = 3600


def python_of(work: Path, name: str) -> Path:
    """The interpreter of an environment."""
    return work / "environments" / name / "bin" / "python"


def create_environment(work: Path, name: str, steps: Sequence[Sequence[str]]) -> bool:
    """Create an environment unless it is complete: torch first, which a constraint then keeps, then each step by pip.

    Returns:
        Whether it was created now.
    """
    folder = work / "environments" / name
    ready = folder / "ready"
    if ready.exists():
        return False
    venv.create(folder, with_pip=True, clear=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(f"{TORCH}\n")
    for requirements in [(TORCH,), *steps]:
        command = [str(python_of(work, name)), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
        subprocess.run([*command, *requirements], check=True)
    ready.touch()
    return True


def run_isolated(command: Sequence[str], log: Path, limits: Limits, variables: Mapping[str, str] | None = None) -> str:
    """Run to the end in a session of its own, the library and this folder on its path; why it failed, or nothing."""
    environment = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(limits.threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(map(str, (LIBRARY, HERE))),
        **(variables or {}),
    }
    if not limits.gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with log.open("a") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            status = child.wait(limits.timeout_s)
        except subprocess.TimeoutExpired:
            return f"stopped after {limits.timeout_s:g} s"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if status == 0:
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"status {status}: {lines[-1].strip()[:200] if lines else 'no message'}"
