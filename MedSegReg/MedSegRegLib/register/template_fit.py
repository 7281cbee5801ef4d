"""A template's place in an image within a second: few voxels, few starts. Beside ``run``, for who looks for boxes only.

The whole head at 8 mm finds the place from the header, the centres and the principal axes; the brain alone, at 8 and
then 4 mm, refines it. No search over rotations and no measured quality: both are ``run``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..progress import Progress
from .affine import optimise_linear
from .pyramid import Pair, Study
from .settings import LinearModel, SimilarityName
from .starts import find_start

COARSE_MM, FINE_MM = 8.0, 4.0
ITERATIONS = 30
SIMILARITY: SimilarityName = "mi"


@dataclass(frozen=True, eq=False)
class Template:
    """A head, and the same where only its brain counts; both at ``FINE_MM``."""

    head: Study
    brain: Study


def fit_template(template: Template, image: Study, progress: Progress) -> tuple[np.ndarray, float]:
    """Template RAS to image RAS, affine, and the mutual information inside the brain (nats).

    Raises:
        NoOverlap, Diverged, Cancelled.
    """
    fine = image.coarsen(FINE_MM)
    head = Pair.at(template.head, fine, COARSE_MM)
    matrix = find_start(head, SIMILARITY, progress, model="affine", search=False).matrix
    stages: tuple[tuple[Pair, LinearModel], ...] = (
        (head, "similarity"),
        (head, "affine"),
        (Pair.at(template.brain, fine, COARSE_MM), "affine"),
        (Pair.at(template.brain, fine, FINE_MM), "affine"),
    )
    for number, (pair, model) in enumerate(stages, start=1):
        matrix, match = optimise_linear(pair, matrix, model, SIMILARITY, iterations=ITERATIONS, progress=progress)
        progress.update(number / len(stages), "looking for the structures")
    return matrix, match.value
