"""Packages are installed only when work starts and only after a yes."""
# ruff: noqa: N802, N803, PLC0415 - stands in for Slicer, whose names are camelCase; the scene is loaded late

from __future__ import annotations

import ast
import importlib
import sys
import types
import zipfile
from pathlib import Path
from subprocess import CalledProcessError
from typing import ClassVar

import pytest
from packaging.requirements import Requirement

from MedSegRegLib.errors import FileError, MissingPackage

MODULE = Path(__file__).parents[2] / "MedSegReg"
REQUIREMENTS = MODULE / "Resources" / "requirements.txt"
COMES_WITH_SLICER = {"numpy", "SimpleITK", "vtk", "slicer", "torch"}
COMES_WITH_TORCH_FOR_CUDA = {"triton"}
IMPORT_NAMES = {"scikit-image": "skimage"}
OUTSIDE_SLICER = ("cli.py", "cli", "train", "evaluate")  # need typer, rich, monai, matplotlib: the wheel's dependencies


@pytest.fixture
def dependencies(module):
    return importlib.import_module("MedSegRegPanels.dependencies")


@pytest.fixture
def messages(monkeypatch):
    import slicer

    seen = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: seen.append(text))
    return seen


@pytest.fixture(autouse=True)
def resolver(dependencies, monkeypatch):
    """pip is not asked; its plan would be what is missing."""
    monkeypatch.setattr(dependencies, "planInstallation", lambda missing, options=(): [str(r) for r in missing])


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


def test_a_declined_installation_stops_the_work(dependencies, messages, monkeypatch, missing_package):
    def decline(requirements, constraints, requester):
        raise RuntimeError("User declined package installation")

    monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=decline))
    assert not dependencies.ensureDependencies(missing_package)


def test_only_missing_packages_are_installed(dependencies, monkeypatch, tmp_path):
    asked = []
    ensure = types.SimpleNamespace(pip_ensure=lambda requirements, constraints, requester: asked.extend(requirements))
    monkeypatch.setitem(sys.modules, "slicer.packaging", ensure)
    path = tmp_path / "requirements.txt"
    path.write_text("scipy>=1.11\nno-such-package-of-this-name>=1\nscipy>=9999\n", encoding="utf-8")
    assert dependencies.ensureDependencies(path)
    assert [str(requirement) for requirement in asked] == ["no-such-package-of-this-name>=1", "scipy>=9999"]


@pytest.mark.parametrize("agreed", [True, False])
def test_an_older_slicer_asks_before_it_installs(dependencies, monkeypatch, missing_package, agreed):
    import slicer

    installed = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *text, **options: agreed)
    monkeypatch.setattr(slicer.util, "pip_install", installed.extend)
    assert dependencies.ensureDependencies(missing_package) is agreed
    assert installed[2:] == (["no-such-package-of-this-name>=1"] if agreed else [])
    assert installed[:1] == (["--constraint"] if agreed else [])


def test_a_failed_installation_is_told(dependencies, messages, monkeypatch, missing_package):
    def fail(requirements, constraints, requester):
        raise CalledProcessError(1, "pip")

    monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=fail))
    assert not dependencies.ensureDependencies(missing_package)
    assert "network" in messages[0]


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


def test_an_installation_that_would_replace_packages_is_not_begun(dependencies, messages, monkeypatch, missing_package):
    def refuse(missing, options=()):
        raise MissingPackage("It would replace numpy", "packages that are only added", "use a newer Slicer")

    monkeypatch.setattr(dependencies, "planInstallation", refuse)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    assert not dependencies.ensureDependencies(missing_package)
    assert "would replace numpy" in messages[0]


def test_a_package_that_is_in_use_in_another_version_needs_a_restart(dependencies, messages, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace(__version__="0.1"))
    assert not dependencies.ensureDependencies(REQUIREMENTS)
    assert "safetensors 0.1" in messages[0]
    assert "Restart" in messages[0]


def test_the_log_tells_each_step(dependencies, messages, monkeypatch, missing_package):
    monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=lambda *a, **k: None))
    lines = []
    assert dependencies.ensureDependencies(missing_package, lines.append)
    assert [line.split(":")[0] for line in lines] == ["Missing", "Would add", "Done."]


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
def plan(module, wheels):
    """Asks the real pip, without a network."""
    asked = importlib.import_module("MedSegRegPanels.resolver").planInstallation
    return lambda *names: asked(list(map(Requirement, names)), ["--no-index", "--find-links", str(wheels)])


def test_pip_says_what_it_would_add(plan):
    assert plan("harmless-part>=1", "numpy") == ["harmless-part 1.0"]


def test_a_package_that_would_replace_another_is_refused(plan):
    with pytest.raises(MissingPackage, match="would replace packages"):
        plan("greedy-part")


def test_a_package_that_cannot_be_found_is_told(plan):
    with pytest.raises(FileError, match="no-such-part"):
        plan("no-such-part")
