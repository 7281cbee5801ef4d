"""Packages are installed only when work starts and only after a yes."""
# ruff: noqa: N802, N803, PLC0415 - stands in for Slicer, whose names are camelCase; the scene is loaded late

from __future__ import annotations

import ast
import importlib
import sys
import types
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from packaging.requirements import Requirement

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
    def decline(requirements, requester):
        raise RuntimeError("User declined package installation")

    monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=decline))
    assert not dependencies.ensureDependencies(missing_package)


def test_only_missing_packages_are_installed(dependencies, monkeypatch, tmp_path):
    asked = []
    ensure = types.SimpleNamespace(pip_ensure=lambda requirements, requester: asked.extend(requirements))
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
    assert installed == (["no-such-package-of-this-name>=1"] if agreed else [])


def test_a_failed_installation_is_told(dependencies, messages, monkeypatch, missing_package):
    def fail(requirements, requester):
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

    present, calls = False, []

    @classmethod
    def torchInstalled(cls):
        return cls.present

    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
        self.calls.append((askConfirmation, torchVersionRequirement))


def test_torch_comes_through_its_extension_and_asks_first(dependencies, monkeypatch):
    monkeypatch.setattr(dependencies, "TORCH", Requirement("torch>=9999"))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchLogic))
    assert not dependencies.ensureDependencies(REQUIREMENTS)  # installTorch gives None when the user declines
    assert PyTorchLogic.calls == [(True, ">=9999")]


def test_a_torch_that_is_too_old_is_named_with_the_way_out(dependencies, messages, monkeypatch):
    monkeypatch.setattr(dependencies, "TORCH", Requirement("torch>=9999"))
    monkeypatch.setattr(PyTorchLogic, "present", True)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchLogic))
    assert not dependencies.ensureDependencies(REQUIREMENTS)
    assert ">=9999" in messages[0]
    assert "uninstall" in messages[0]
