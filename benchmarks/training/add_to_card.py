"""Add what was measured elsewhere to the card of a model: ``python add_to_card.py MODEL TEXT.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from MedSegRegLib.files.model_package import read_package, write_package


def main(
    model: Annotated[Path, typer.Argument(help="Folder of the model.")],
    text: Annotated[Path, typer.Argument(help="Markdown to put at the end of the card.")],
) -> None:
    """Rewrite the package; the weights stay as they are."""
    spec, files = read_package(model)
    card = (
        f"{(model / 'README.md').read_text(encoding='utf-8').rstrip()}\n\n{text.read_text(encoding='utf-8').strip()}\n"
    )
    kept = {name: content for name, content in files.items() if name != "README.md"}
    write_package(model, spec.model_copy(update={"sha256": {}}), kept, card)


if __name__ == "__main__":
    typer.run(main)
