"""Settings from JSON files: what a person writes down once, for a training or a registration."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import InvalidSetting

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings_file(path: Path, kind: type[Settings]) -> Settings:
    """Settings of a kind; what the file leaves out has its default.

    Raises:
        InvalidSetting: no such file, not JSON, or the first entry that is wrong, by its name.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(
            f"The settings '{path}' cannot be read ({error})", "a JSON file", "check the path"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSetting(
            f"The settings '{path.name}' are not valid: {where}: {first['msg']}",
            f"the settings of {kind.__name__}",
            "correct this entry",
        ) from None
