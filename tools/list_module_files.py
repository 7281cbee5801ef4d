"""Write the lists of scripts and resources into MedSegReg/CMakeLists.txt; Slicer packages only what is listed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

MODULE = Path(__file__).parents[1] / "MedSegReg"
NOT_PACKAGED = {"CMakeLists.txt", "Testing"}


def module_files(module: Path = MODULE) -> tuple[list[str], list[str]]:
    """Python scripts and resources below the module folder, as sorted POSIX paths relative to it."""
    found = sorted(
        path.relative_to(module).as_posix()
        for path in module.rglob("*")
        if path.is_file() and not _is_left_out(path.relative_to(module))
    )
    return [name for name in found if name.endswith(".py")], [name for name in found if not name.endswith(".py")]


def with_lists(cmake: str, scripts: list[str], resources: list[str]) -> str:
    """The text of a CMakeLists.txt with both lists replaced."""
    for variable, names in (("MODULE_PYTHON_SCRIPTS", scripts), ("MODULE_PYTHON_RESOURCES", resources)):
        block = f"set({variable}\n" + "".join(f"  {name}\n" for name in names) + "  )"
        cmake = re.sub(rf"set\({variable}\n[^)]*\)", lambda _, block=block: block, cmake)
    return cmake


def _is_left_out(path: Path) -> bool:
    generated = any(part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    return generated or path.parts[0] in NOT_PACKAGED or path.suffix in (".pyc", ".pyo")


def main() -> int:
    """Rewrite the file in place."""
    target = MODULE / "CMakeLists.txt"
    scripts, resources = module_files()
    text = with_lists(target.read_text(encoding="utf-8"), scripts, resources)
    target.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{target.name}: {len(scripts)} scripts, {len(resources)} resources\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
