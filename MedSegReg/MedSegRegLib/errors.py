"""The exception tree. Every error says what was found, what was expected and what to do."""

from __future__ import annotations


class MedSegRegError(Exception):
    """Base of every error that a user may see.

    Args:
        found: what was found, with the actual value.
        expected: what would have been right.
        fix: what the user can do now.
    """

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        sentences = [found, f"Expected: {expected}" if expected else "", f"To do: {fix}" if fix else ""]
        super().__init__(" ".join(f"{s.rstrip('.')}." for s in sentences if s))


class Cancelled(MedSegRegError):
    """The user asked to stop. Nothing was written."""

    def __init__(self, found: str = "The run was cancelled", expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)


class DeviceUnavailable(MedSegRegError):
    """The asked compute device is not there or cannot be used."""


class InputError(MedSegRegError):
    """An image, a mask, a transform or a setting that cannot be worked on."""


class EmptyVolume(InputError):
    """There are no voxels."""


class InvalidGeometry(InputError):
    """The voxel grid has no usable position in the world (NaN, zero spacing, singular matrix)."""


class SpacingOutOfRange(InvalidGeometry):
    """Voxels smaller or larger than medical images have: most often a wrong unit."""


class GeometryMismatch(InputError):
    """Two things that must share one grid do not."""


class TooFewVoxels(InputError):
    """The image is too small for the work."""


class TooLarge(InputError):
    """The work needs more memory than there is."""


class NonFiniteVoxels(InputError):
    """NaN or infinite intensities."""


class NoContrast(InputError):
    """All intensities are equal."""


class ComponentCount(InputError):
    """Vector, RGB or tensor voxels where one value a voxel is needed, or a wrong channel count."""


class DimensionError(InputError):
    """2D or 4D data where a volume is needed."""


class NotAnImage(InputError):
    """A label map or another kind of data where an image is needed."""


class StructureNotFound(InputError):
    """The image does not show what is looked for."""


class InvalidSetting(InputError):
    """An option whose value is outside what is allowed."""


class FileError(MedSegRegError):
    """A file that cannot be read or written."""


class DamagedFile(FileError):
    """Truncated, or its header contradicts its content."""


class UnsupportedFile(FileError):
    """A file type that is not read here."""


class UnsafeFile(FileError):
    """A file that reaches outside its folder, or claims more memory than it can hold."""


class OutputNotWritable(FileError):
    """The result could not be put there: missing or read-only folder, or the name is taken."""


class ModelError(MedSegRegError):
    """A model that cannot be used."""


class UnknownModel(ModelError):
    """No model of that name."""


class DamagedModel(ModelError):
    """Truncated, altered (sha256), not finite, or not valid against the schema."""


class ModelMismatch(ModelError):
    """The model does not fit its weights or the input."""


class NonFiniteOutput(ModelError):
    """The network gave NaN or infinite scores: never turned into labels."""


class RegistrationError(MedSegRegError):
    """A registration that cannot start or did not succeed."""


class NoOverlap(RegistrationError):
    """Fixed and moving share no space."""


class Diverged(MedSegRegError):
    """The similarity or the training loss is not a number."""


class WorkerLost(MedSegRegError):
    """Another process that the work needs has ended: of a distributed training, or the one that runs a job."""


class FoldingError(RegistrationError):
    """The deformation folds although a diffeomorphism was asked for."""


class DatasetError(MedSegRegError):
    """A training or evaluation set with faults; all of them are listed at once."""


class NodeError(MedSegRegError):
    """A scene node that was removed, belongs to a closed scene or has the wrong type."""


class MissingPackage(MedSegRegError):
    """An optional package is needed for this and is not installed."""
