"""Where models lie: those that are shipped, and those of the user, which come and go as whole packages."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from ..errors import DamagedModel, InvalidSetting, ModelError, OutputNotWritable, UnknownModel
from .model_archive import extract_archive, is_model_archive, package_files, require_whole
from .model_package import AGAIN, read_spec
from .model_signature import SIGNATURE_FILE
from .model_spec import ModelSpec

SHIPPED = Path(__file__).parent.parent / "models"
LIST = "list the models with 'medsegreg model list'"
STAGING = ".staging-"
ABANDONED_SECONDS = 24 * 3600
Outcome = Literal["installed", "replaced", "repaired", "unchanged"]


def user_store() -> Path:
    """The user's folder of models: ``$MEDSEGREG_MODELS``, else ``~/.medsegreg/models``. It need not exist."""
    return Path(os.environ.get("MEDSEGREG_MODELS") or Path.home() / ".medsegreg" / "models")


def list_models() -> tuple[dict[Path, ModelSpec], dict[Path, ModelError]]:
    """The descriptions of all models by their folders, shipped ones first, and what is wrong with the others.

    Of two with one name the user's counts. Descriptions are checked, and that all files are there; hashes are checked
    when a model is loaded, and by :func:`require_whole`.
    """
    specs, faults = _read_store(SHIPPED)
    users, users_faults = _read_store(user_store())
    taken = {spec.name for spec in users.values()}
    return {folder: spec for folder, spec in specs.items() if spec.name not in taken} | users, faults | users_faults


def model_folder(name: str | Path) -> Path:
    """The folder of a model given by its name (of its folder, or in its description) or by the path of its folder.

    Raises:
        UnknownModel: neither; the known names are listed.
    """
    for folder in (user_store() / name, SHIPPED / name, Path(name)):
        if (folder / "model.json").is_file():
            return folder
    known = {spec.name: folder for folder, spec in list_models()[0].items()}
    if str(name) in known:
        return known[str(name)]
    raise UnknownModel(
        f"There is no model '{name}'", f"one of: {', '.join(known) or 'none'}, or the folder of a model", LIST
    )


def is_package(source: Path) -> bool:
    """Whether this is a model in our own format: its folder, or an archive of one or many.

    Raises:
        UnsupportedFile, UnsafeFile, DamagedFile: an archive that is not looked into.
    """
    return (source / "model.json").is_file() if source.is_dir() else is_model_archive(source)


@contextmanager
def staging_folder() -> Iterator[Path]:
    """A folder in the user's store where packages are made ready; it is gone afterwards, with all that is left in it.

    Raises:
        OutputNotWritable: the store cannot be written, or there is no space.
    """
    store = user_store()
    try:
        store.mkdir(parents=True, exist_ok=True)
        for left in store.glob(f"{STAGING}*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=store) as name:
            yield Path(name)
    except OSError as error:
        raise OutputNotWritable(
            f"The store '{store}' cannot be written ({error.strerror})",
            "a writable folder with space",
            "free some space, or set $MEDSEGREG_MODELS to another folder",
        ) from error


def stage(source: Path, staging: Path) -> list[Path]:
    """Copy the packages of a folder or archive of :func:`is_package` into the staging folder, and verify them there.

    Raises:
        UnknownModel, DamagedModel, MissingPackage: a package is not whole.
        UnsafeFile, UnsupportedFile, DamagedFile, OutputNotWritable: of :func:`extract_archive`.
    """
    if not source.is_dir():
        return extract_archive(source, staging)
    package = staging / require_whole(source).name
    for name in package_files(source):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, package / name)
    require_whole(package)
    return [package]


def install(packages: Sequence[Path], replace: bool = False) -> dict[str, Outcome]:
    """Move verified packages out of the staging folder into the user's store: all of them, or none.

    Args:
        replace: a model of the same name and other content gives way.

    Returns:
        What happened to each name: ``unchanged`` when the same content is there already, ``repaired`` when that was
        damaged.

    Raises:
        OutputNotWritable: a name is taken by other content.
    """
    plan = {read_spec(package).name: package for package in packages}
    steps = {name: _outcome(name, package, replace) for name, package in plan.items()}
    with ExitStack() as undo:
        for name, (outcome, giving_way) in steps.items():
            for number, old in enumerate(giving_way):
                _move(old, plan[name].with_name(f".old-{number}-{name}"), undo)
            if outcome != "unchanged":
                _move(plan[name], user_store() / name, undo)
        undo.pop_all()
    return {name: outcome for name, (outcome, _) in steps.items()}


def remove_model(name: str) -> Path:
    """Remove a model, damaged or not, from the user's store.

    Args:
        name: of its folder, or in its description.

    Returns:
        The folder that is gone.

    Raises:
        InvalidSetting: a shipped model.
        UnknownModel: no such model.
    """
    specs, faults = _read_store(user_store())
    folders = [folder for folder in (*specs, *faults) if folder.name == name]
    folders += [folder for folder, spec in specs.items() if spec.name == name]
    if folders:
        with staging_folder() as trash:
            os.replace(folders[0], trash / "removed")
        return folders[0]
    shipped = _read_store(SHIPPED)[0]
    if name in {text for folder, spec in shipped.items() for text in (folder.name, spec.name)}:
        raise InvalidSetting(f"'{name}' is shipped with MedSegReg", "a model of your own", LIST)
    raise UnknownModel(f"There is no model '{name}' in '{user_store()}'", "a model of your own", LIST)


def _outcome(name: str, package: Path, replace: bool) -> tuple[Outcome, list[Path]]:
    """What installing a package would be, and the folders of the store that give way."""
    users = _users_folders(name)
    existing = users or [folder for folder, spec in _read_store(SHIPPED)[0].items() if spec.name == name]
    if not existing:
        return "installed", []
    if any(_identity(folder) != _identity(package) for folder in existing):
        if replace:
            return "replaced", users
        raise OutputNotWritable(
            f"There is a model '{name}' already, with other content",
            "a free name",
            "replace it (--replace), or keep it",
        )
    try:
        require_whole(existing[0])
    except ModelError:
        return "repaired", users
    return "unchanged", []


def _users_folders(name: str) -> list[Path]:
    """Folders of the user's store that hold the model of this name, whole or damaged."""
    specs, faults = _read_store(user_store())
    target = user_store() / name
    folders = [folder for folder, spec in specs.items() if spec.name == name]
    folders += [folder for folder in faults if folder == target]
    if os.path.lexists(target) and target not in folders:
        raise OutputNotWritable(f"'{target}' is there and is no model '{name}'", "a free name", "move it away")
    return folders


def _identity(folder: Path) -> tuple[bytes, bytes]:
    """The description, which holds the sha256 of everything else, and the signature."""
    signature = folder / SIGNATURE_FILE
    return (folder / "model.json").read_bytes(), signature.read_bytes() if signature.is_file() else b""


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    os.replace(source, target)
    undo.callback(os.replace, target, source)


def _read_store(store: Path) -> tuple[dict[Path, ModelSpec], dict[Path, ModelError]]:
    specs: dict[Path, ModelSpec] = {}
    faults: dict[Path, ModelError] = {}
    for folder in sorted(path.parent for path in store.glob("*/model.json") if not path.parent.name.startswith(".")):
        try:
            package_files(folder)
            specs[folder] = read_spec(folder)
        except ModelError as error:
            faults[folder] = error
        except OSError as error:
            faults[folder] = DamagedModel(f"'{folder.name}' cannot be read ({error.strerror})", "a whole model", AGAIN)
    return specs, faults
