"""What ``train --adapt`` does: a model, changed a little by corrected cases. Called by ``training``."""

from __future__ import annotations

from pathlib import Path

from .terminal import progress_bar, show_result


def adapt(model: str, cases: Path, output: Path, name: str | None, device: str, as_json: bool) -> None:
    """Adapt, and say what was measured before and after; the parent is kept when it is not better."""
    from ..train.adapt import adapt_model
    from ..train.corrections import read_corrections

    with progress_bar("adapt") as progress:
        corrections = read_corrections(cases)
        result = adapt_model(model, corrections, output, name=name, device=device, progress=progress)
    lines = [f"{one.held_out}, {one.structure}: Dice {one.before:.3f} -> {one.after:.3f}" for one in result.scores]
    lines += [result.verdict, f"report: {output / 'adaptation.json'}"]
    if result.spec:
        lines += [f"model: {output / 'model'}", f"install it: medsegreg model import {output / 'model'}"]
    data = {
        "model": str(output / "model") if result.spec else None,
        "parent": result.parent,
        "verdict": result.verdict,
        "dice_before": result.before,
        "dice_after": result.after,
        "scores": [vars(one) for one in result.scores],
        "seconds": result.seconds,
    }
    show_result("\n".join(lines), data, as_json)
