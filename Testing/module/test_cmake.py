"""What Slicer's build and the Extensions Index read."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOT_CMAKE = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = json.loads((REPOSITORY / "MedSegReg.json").read_text(encoding="utf-8"))
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def lister():
    spec = importlib.util.spec_from_file_location("list_module_files", REPOSITORY / "tools" / "list_module_files.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def field(name: str) -> str:
    return re.search(rf'^set\(EXTENSION_{name} "([^"]*)"\)', ROOT_CMAKE, re.MULTILINE).group(1)


def test_every_file_of_the_module_is_listed(lister):
    text = (REPOSITORY / "MedSegReg" / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts, resources = lister.module_files()
    assert text == lister.with_lists(text, scripts, resources), "run: python tools/list_module_files.py"
    assert {"MedSegReg.py", "MedSegRegLib/__init__.py", "MedSegRegPanels/__init__.py"} <= set(scripts)
    needed = ("UI/MedSegReg.ui", "requirements.txt", "Icons/MedSegReg.png")
    assert {f"Resources/{name}" for name in needed} <= set(resources)


def test_a_new_file_is_noticed_and_generated_ones_are_not(lister, tmp_path):
    generated = ("Lib/__pycache__/x.pyc", "x.egg-info/PKG-INFO", "Testing/t.py", ".DS_Store")
    for name in ("Lib/__init__.py", "Lib/models/a/model.json", *generated):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert lister.module_files(tmp_path) == (["Lib/__init__.py"], ["Lib/models/a/model.json"])


def test_no_file_name_needs_quoting_in_cmake(lister):
    scripts, resources = lister.module_files()
    assert [name for name in scripts + resources if re.search(r"[\s;()#\"$\\]", name)] == []


@pytest.mark.parametrize(
    "name",
    ["HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS", "RECOMMENDS", "KEYWORDS"],
)
def test_the_extension_names_its(name):
    assert field(name)


def test_the_index_entry_has_the_keys_of_its_schema():
    required = {"$schema", "category", "scm_url"}
    optional = {
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "dicom_support_rule",
        "enabled",
        "tier",
    }
    assert required <= set(ENTRY) <= required | optional
    assert ENTRY["$schema"] == SCHEMA
    assert ENTRY["tier"] in range(1, 6)
    assert b"\r" not in (REPOSITORY / "MedSegReg.json").read_bytes()


def test_the_index_entry_agrees_with_cmake():
    assert re.search(r"^project\((\w+)\)", ROOT_CMAKE, re.MULTILINE).group(1) == "MedSegReg"
    assert ENTRY["build_dependencies"] == field("DEPENDS").split()
    assert ENTRY["scm_url"] == field("HOMEPAGE")
    assert re.search(r"/Slicer(-|_|Extension-)?[A-Z]\w+$", ENTRY["scm_url"])


def test_the_pictures_of_the_extension_are_png_files_of_this_repository():
    prefix = "https://raw.githubusercontent.com/medsegreg/SlicerMedSegReg/main/"
    for url in (field("ICONURL"), *field("SCREENSHOTURLS").split()):
        assert url.startswith(prefix)
        path = REPOSITORY / url.removeprefix(prefix)
        if "Screenshots" in path.parts and not path.parent.is_dir():
            pytest.skip("the screenshots have not been taken yet")
        assert path.read_bytes()[:8] == PNG, url


def test_the_licence_is_the_full_apache_text():
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed")
def test_cmake_reads_the_module_lists(tmp_path):
    """With Slicer's macros replaced by ones that check that every listed file exists."""
    module = (REPOSITORY / "MedSegReg").as_posix()
    (tmp_path / "CMakeLists.txt").write_text(
        f'''cmake_minimum_required(VERSION 3.16)
project(Check NONE)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${{ARGN}})
  foreach(file ${{M_SCRIPTS}} ${{M_RESOURCES}})
    if(NOT EXISTS "{module}/${{file}}")
      message(FATAL_ERROR "${{file}} is listed but not there")
    endif()
  endforeach()
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "SCRIPT" "" ${{ARGN}})
  if(NOT EXISTS "${{CMAKE_CURRENT_SOURCE_DIR}}/${{T_SCRIPT}}")
    message(FATAL_ERROR "no test ${{T_SCRIPT}}")
  endif()
endfunction()
set(BUILD_TESTING ON)
add_subdirectory("{module}" module)
''',
        encoding="utf-8",
    )
    command = ["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "build")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
