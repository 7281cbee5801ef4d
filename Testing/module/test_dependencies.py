"""Packages are installed only when work starts and only after a yes."""
# ruff: noqa: N802, N803, PLC0415 - stands in for Slicer, whose names are camelCase; the scene is loaded late

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import sys
import types
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest
from packaging.requirements import Requirement

MODULE = Path(__file__).parents[2] / "MedSegReg"
REQUIREMENTS = MODULE / "Resources" / "requirements.txt"
COMES_WITH_SLICER = {"numpy", "SimpleITK", "vtk", "slicer", "torch"}
COMES_WITH_TORCH_FOR_CUDA = {"triton"}
IMPORT_NAMES = {"scikit-image": "skimage"}
OUTSIDE_SLICER = ("cli.py", "cli", "train", "evaluate")  # need typer, rich, monai, matplotlib: the wheel's dependencies


@pytest.fixture
def dependencies(desktop, module):
    return importlib.import_module("MedSegRegPanels.dependencies")


@pytest.fixture
def messages(monkeypatch):
    import slicer

    seen = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: seen.append(text))
    return seen


@pytest.fixture
def missing_package(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# comment\n\nno-such-package-of-this-name>=1\n", encoding="utf-8")
    return path


def test_the_requirements_parse_and_pin_nothing(dependencies):
    requirements = dependencies.loadRequirements(REQUIREMENTS)
    assert requirements
    assert "==" not in "".join(str(requirement.specifier) for requirement in requirements)
    assert "torch" not in {requirement.name for requirement in requirements}


def test_the_requirements_hold_all_that_the_library_imports_inside_slicer(dependencies):
    provided = {IMPORT_NAMES.get(r.name, r.name) for r in dependencies.loadRequirements(REQUIREMENTS)}
    needed = set()
    for path in (MODULE / "MedSegRegLib").rglob("*.py"):
        if path.relative_to(MODULE / "MedSegRegLib").parts[0] not in OUTSIDE_SLICER:
            needed |= imported_packages(path)
    assert needed - provided - COMES_WITH_SLICER - COMES_WITH_TORCH_FOR_CUDA - set(sys.stdlib_module_names) == set()


def imported_packages(path: Path) -> set[str]:
    """Packages that a file imports when it is loaded."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_nothing_is_asked_when_all_is_there(dependencies, messages):
    assert dependencies.ensureDependencies(REQUIREMENTS)
    assert messages == []


class Recorded:
    """In the place of the installer: it is asked, and has nothing to do."""

    busy = False

    def __init__(self):
        self.asked, self.lines = [], []

    def install(self, wanted, onDone, options=(), ask=True):
        self.asked.append((list(map(str, wanted)), list(options), ask))
        onDone(True)

    def reinstall(self, same, onDone):
        self.asked.append(list(same))
        onDone(True)

    def log(self, line):
        self.lines.append(line)


def test_only_missing_packages_are_installed_and_the_work_waits(dependencies, tmp_path, messages):
    path = tmp_path / "requirements.txt"
    path.write_text("scipy>=1.11\nno-such-package-of-this-name>=1\nscipy>=9999\n", encoding="utf-8")
    installer, told = Recorded(), []
    assert not dependencies.ensureDependencies(path, installer, told.append)
    assert installer.asked == [(["no-such-package-of-this-name>=1", "scipy>=9999"], [], True)]
    assert told == [True]


def test_while_pip_is_at_work_nothing_else_is_begun(dependencies, missing_package, desktop):
    installer = Recorded()
    installer.busy = True
    assert not dependencies.ensureDependencies(missing_package, installer)
    assert installer.asked == []
    assert "being installed" in desktop.statuses[-1]


def test_a_repair_keeps_the_versions(dependencies, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("scipy>=1.11\nno-such-package-of-this-name>=1\n", encoding="utf-8")
    installer = Recorded()
    dependencies.repair(path, installer, lambda done: None)
    assert installer.asked == [[f"scipy=={importlib.metadata.version('scipy')}"]]


def test_a_bundle_is_looked_for_in_its_folder_only(dependencies, missing_package, tmp_path):
    installer = Recorded()
    dependencies.installBundle(tmp_path, missing_package, installer, lambda done: None)
    wanted = ["no-such-package-of-this-name>=1"]
    assert installer.asked == [(wanted, ["--no-index", "--find-links", str(tmp_path)], False)]


def test_a_bundle_adds_nothing_where_nothing_is_missing(dependencies, tmp_path):
    installer, told = Recorded(), []
    dependencies.installBundle(tmp_path, REQUIREMENTS, installer, told.append)
    assert (installer.asked, told) == ([], [True])


def test_without_the_pytorch_extension_the_message_says_how_to_get_it(dependencies, messages, monkeypatch):
    monkeypatch.setattr(dependencies, "TORCH", Requirement("torch>=9999"))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    assert not dependencies.ensureDependencies(REQUIREMENTS)
    assert "Extensions Manager" in messages[0]


class PyTorchLogic:
    """As PyTorchUtilsLogic of the extension PyTorch."""

    calls: ClassVar[list] = []

    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
        self.calls.append((askConfirmation, forceComputationBackend, torchVersionRequirement))


def test_torch_comes_through_its_extension_asks_first_and_is_small_without_a_card(dependencies, monkeypatch):
    monkeypatch.setattr(dependencies, "installedVersion", lambda requirement: None)
    monkeypatch.setattr(dependencies.shutil, "which", lambda name: None)
    monkeypatch.setattr(dependencies, "GPU_DRIVERS", ())
    monkeypatch.setattr(dependencies.sys, "platform", "linux")
    monkeypatch.setattr(dependencies, "TORCH", Requirement("torch>=9999"))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchLogic))
    assert not dependencies.ensureDependencies(REQUIREMENTS)  # installTorch gives None when the user declines
    assert PyTorchLogic.calls == [(True, "cpu", ">=9999")]


def test_a_driver_of_a_graphics_card_leaves_the_build_to_the_extension(dependencies, monkeypatch, tmp_path):
    monkeypatch.setattr(dependencies, "GPU_DRIVERS", (str(tmp_path),))
    assert dependencies._backend() is None


def test_a_torch_that_is_too_old_is_named_with_the_way_out(dependencies, messages, monkeypatch):
    monkeypatch.setattr(dependencies, "TORCH", Requirement("torch>=9999"))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchLogic))
    assert not dependencies.ensureDependencies(REQUIREMENTS)
    assert ">=9999" in messages[0]
    assert "uninstall" in messages[0]


def test_a_package_that_is_in_use_in_another_version_needs_a_restart(dependencies, messages, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace(__version__="0.1"))
    assert not dependencies.ensureDependencies(REQUIREMENTS)
    assert "safetensors 0.1" in messages[0]
    assert "Restart" in messages[0]


@pytest.fixture
def wheels(tmp_path):
    """A folder with one wheel that can be added, and one that would replace numpy."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, needs in (("harmless-part", ""), ("greedy-part", "Requires-Dist: numpy<1\n")):
        module = name.replace("-", "_")
        with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
            facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}"
            wheel.writestr(f"{module}-1.0.dist-info/METADATA", facts)
            wheel.writestr(
                f"{module}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{module}-1.0.dist-info/RECORD", "")
    return folder


@pytest.fixture
def pip(desktop, module, wheels, wait_until, tmp_path):
    """The real pip, without a network, into a folder of its own: ``pip(name, ...)`` waits as the window does."""
    made = importlib.import_module("MedSegRegPanels.installer").Installer()
    made.target, made.told = tmp_path / "site", []

    def run(*names):
        options = ["--no-index", "--find-links", str(wheels), "--target", str(made.target)]
        made.install(list(map(Requirement, names)), made.told.append, options)
        wait_until(lambda: not made.busy, 300)

    made.run = run
    return made


def test_pip_says_what_it_would_add_and_adds_it_after_a_yes(pip, desktop, longest_block):
    pip.run("harmless-part>=1")
    assert pip.told == [True]
    assert (pip.target / "harmless_part-1.0.dist-info").is_dir()
    assert "Install them into Slicer's Python now?" in desktop.messages[0]
    assert [line.split(":")[0] for line in pip.lines[:2]] == ["Missing", "Would add"]
    assert pip.lines[1] == "Would add: harmless-part 1.0"
    assert pip.lines[-1] == "Done."
    assert longest_block() < 0.3


def test_after_a_no_nothing_is_installed(pip, desktop):
    desktop.agrees = False
    pip.run("harmless-part")
    assert pip.told == [False]
    assert not pip.target.exists()
    assert "declined" in pip.lines[-1]


def test_a_package_that_would_replace_another_is_refused(pip, desktop):
    pip.run("greedy-part")
    assert pip.told == [False]
    assert "would replace packages" in desktop.messages[0]
    assert not pip.target.exists()


def test_a_package_that_cannot_be_found_is_told(pip, desktop):
    pip.run("no-such-part")
    assert pip.told == [False]
    assert "no-such-part" in desktop.messages[0]


def test_pip_can_be_stopped(pip, desktop, wait_until):
    pip.install([Requirement("harmless-part")], pip.told.append)
    assert pip.busy
    pip.install([Requirement("scipy")], pytest.fail)  # one at a time
    pip.cancel()
    wait_until(lambda: not pip.busy, 60)
    assert pip.told == [False]
    assert "Stopped" in pip.lines[-1]
    assert desktop.messages == []
