"""Where models lie: those that are shipped, and those of the user."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UnknownModel
from .model_package import ModelSpec, read_spec

SHIPPED = Path(__file__).parent.parent / "models"


def user_store() -> Path:
    """The user's folder of models: ``$MEDSEGREG_MODELS``, else ``~/.medsegreg/models``. It need not exist."""
    return Path(os.environ.get("MEDSEGREG_MODELS") or Path.home() / ".medsegreg" / "models")


def list_models() -> list[ModelSpec]:
    """The descriptions of all models, shipped ones first; of two with one name the user's counts.

    Raises:
        DamagedModel: names the first folder whose description is not valid.
    """
    return list({spec.name: spec for spec in map(read_spec, _folders())}.values())


def model_folder(name: str | Path) -> Path:
    """The folder of a model given by its name (of its folder, or in its description) or by the path of its folder.

    Raises:
        UnknownModel: neither; the known names are listed.
    """
    for folder in (Path(name), user_store() / name, SHIPPED / name):
        if (folder / "model.json").is_file():
            return folder
    known = {read_spec(folder).name: folder for folder in _folders()}
    if str(name) in known:
        return known[str(name)]
    raise UnknownModel(
        f"There is no model '{name}'",
        f"one of: {', '.join(known) or 'none'}, or the folder of a model",
        "list them with 'medsegreg model list'",
    )


def _folders() -> list[Path]:
    return [path.parent for store in (SHIPPED, user_store()) for path in sorted(store.glob("*/model.json"))]
