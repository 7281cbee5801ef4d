"""Optional packages are loaded only at use and report nothing to anyone; int8 graphs work."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_networks import CPU, a_source, installed, noise, use_cache

from MedSegRegLib.errors import TooFewVoxels
from MedSegRegLib.segment.engines import make_engine
from MedSegRegLib.segment.engines.quantise import quantise

OPTIONAL = ("openvino", "onnx", "onnxscript", "onnxruntime", "nncf")
needs_all = pytest.mark.skipif(not installed(*OPTIONAL), reason=f"{', '.join(OPTIONAL)} are not all installed")
STAND_IN = 'import os\nopen(os.environ["SEEN"], "a").close()\n'
"""In the place of openvino_telemetry: leaves a file when it is imported, and sends nothing."""
RUN_ALL = """
import sys
contacted = []
sys.addaudithook(lambda event, details: contacted.append(event) if event.startswith("socket.") else None)
import torch
from engine_networks import CPU, a_source, noise
from dataclasses import replace
from MedSegRegLib.segment.engines import make_engine
from MedSegRegLib.segment.engines.quantise import quantise
source = a_source()
for name in ("torch", "openvino", "onnxruntime"):
    make_engine(name, source, CPU).run(noise(source))
source = replace(source, int8=quantise(source, [noise(source)[0]]))
make_engine("openvino-int8", source, CPU).run(noise(source))
assert "openvino_telemetry" not in sys.modules, "the package itself was loaded"
assert not contacted, contacted
"""


@pytest.fixture
def child(tmp_path):
    """Run code in a process whose home is empty; gives (standard output, telemetry was imported, files in the home)."""
    home, stand_in, seen = tmp_path / "home", tmp_path / "stand_in", tmp_path / "seen"
    home.mkdir()
    (stand_in / "openvino_telemetry").mkdir(parents=True)
    (stand_in / "openvino_telemetry" / "__init__.py").write_text(STAND_IN)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (stand_in, here, here.parents[1] / "MedSegReg")))
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "OMP_NUM_THREADS") if name in os.environ}
    environment = kept | {"PYTHONPATH": paths, "HOME": str(home), "USERPROFILE": str(home), "SEEN": str(seen)}
    environment["MEDSEGREG_CACHE"] = str(tmp_path / "cache")

    def _run(code: str) -> tuple[str, bool, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, seen.exists(), sorted(str(path.relative_to(home)) for path in home.rglob("*"))

    return _run


def test_importing_the_engines_loads_no_optional_package(child):
    code = f"import sys, MedSegRegLib.segment.engines; print([p for p in {OPTIONAL} if p in sys.modules])"
    assert child(code)[0].strip() == "[]"


@needs_all
def test_a_plain_import_of_openvino_would_report(child):
    assert child("import openvino")[1], "this is what the next test would miss"


@needs_all
def test_no_engine_reports_contacts_prints_or_leaves_files_in_the_home_folder(child):
    assert child(RUN_ALL) == ("", False, [])


@needs_all
def test_an_int8_graph_gives_nearly_the_labels_of_the_network(tmp_path, monkeypatch):
    use_cache(tmp_path / "cache", monkeypatch)
    source = a_source("3D, more classes than features")
    source = replace(source, int8=quantise(source, list(noise(source, count=4))))
    engine, plain = make_engine("openvino-int8", source, CPU), make_engine("torch", source, CPU)
    assert "int8" in engine.description
    given, expected = engine.run(noise(source)), plain.run(noise(source))
    assert not torch.equal(given, expected)
    assert torch.corrcoef(torch.stack((given.flatten(), expected.flatten())))[0, 1] > 0.99
    other = replace(source, tile=(12, 12, 16))
    assert make_engine("openvino-int8", other, CPU).run(noise(other)).shape[2:] == (12, 12, 16)


def test_refuses_to_quantise_without_examples():
    with pytest.raises(TooFewVoxels, match="no example tiles"):
        quantise(a_source(), [])
