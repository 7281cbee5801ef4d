"""The module file as Slicer loads it: quickly, without torch, with what the generic tests ask for."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULE = HERE.parents[1] / "MedSegReg"

IMPORT_IN_A_CHILD = """
import sys, time
sys.path[:0] = [{module!r}, {here!r}]
import slicer, vtk
from standin.scripted_modules import submodules
for name, submodule in submodules().items():
    sys.modules["slicer." + name] = submodule
    setattr(slicer, name, submodule)
start = time.perf_counter()
import MedSegReg
seconds = time.perf_counter() - start
heavy = {{"torch", "qt", "ctk", "PySide6", "monai", "pydantic", "MedSegRegLib", "MedSegRegPanels"}}
loaded = sorted({{name.split(".")[0] for name in sys.modules}} & heavy)
sys.stdout.write(f"{{seconds}} {{','.join(loaded)}}")
"""


def test_importing_the_module_file_is_quick_and_loads_neither_torch_nor_the_library():
    code = IMPORT_IN_A_CHILD.format(module=str(MODULE), here=str(HERE))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, _, loaded = answer.partition(" ")
    assert loaded == ""
    assert float(seconds) < 0.3


def test_the_module_file_holds_no_algorithm():
    assert len((MODULE / "MedSegReg.py").read_text(encoding="utf-8").splitlines()) <= 250


def test_the_module_tells_what_slicers_generic_tests_ask_for(desktop, module):
    parent = types.SimpleNamespace(path=str(MODULE / "MedSegReg.py"))
    module.MedSegReg(parent)
    assert parent.title == "MedSegReg"
    assert parent.categories == ["Segmentation", "Registration"]
    assert parent.contributors
    assert parent.helpText
    assert parent.acknowledgementText


def test_samples_are_offered_only_after_slicer_has_started(desktop, module, sample_data):
    module.MedSegReg(types.SimpleNamespace(path=""))
    assert sample_data == []
    desktop.application.signals.startupCompleted.emit()
    assert [source["sampleName"] for source in sample_data] == list(module.SAMPLES)


@pytest.fixture
def sample_data(monkeypatch):
    """Slicer's SampleData, as far as it is called: what was registered."""
    registered = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    return registered


def test_each_sample_is_registered_with_an_address_that_gives_the_file(module, sample_data, monkeypatch, tmp_path):
    folder = tmp_path / "a folder" / "samples"
    folder.mkdir(parents=True)
    for name in module.SAMPLES.values():
        (folder / name).write_bytes(name.encode())
    monkeypatch.setattr(module, "LIBRARY", folder.parent)
    module.registerSampleData()
    assert [source["sampleName"] for source in sample_data] == list(module.SAMPLES)
    for source in sample_data:
        copied, _ = urllib.request.urlretrieve(source["uris"], tmp_path / source["fileNames"])
        assert Path(copied).read_bytes() == source["fileNames"].encode()
        assert source["checksums"] == "SHA256:" + hashlib.sha256(Path(copied).read_bytes()).hexdigest()


def test_a_sample_that_is_not_in_the_installation_is_not_offered(module, sample_data, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LIBRARY", tmp_path)
    module.registerSampleData()
    assert sample_data == []


def test_all_named_samples_are_shipped_with_a_picture(module, sample_data):
    module.registerSampleData()
    assert [source["sampleName"] for source in sample_data] == list(module.SAMPLES)
    assert all(Path(source["thumbnailFileName"]).is_file() for source in sample_data)
