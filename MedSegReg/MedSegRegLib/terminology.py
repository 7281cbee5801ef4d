"""Coded meaning of a structure <-> the string that Slicer keeps it in: in scenes and in .seg.nrrd files alike.

Slicer's format is ``context~category~type~modifier~anatomic context~region~region modifier|`` where each code is
``scheme^value^meaning`` (vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry).
"""

from __future__ import annotations

import colorsys

from .errors import InputError
from .image import Code, Structure

CONTEXT = "Segmentation category and type - DICOM master list"
ANATOMIC_CONTEXT = "Anatomic codes - DICOM master list"
SEPARATORS = "^~|\n"
GOLDEN_RATIO = 0.618033988749895
UNSPECIFIED = Code("SCT", "85756007", "Tissue")  # what Slicer gives a segment that nobody coded


def terminology_entry(structure: Structure) -> str:
    """Slicer's serialized terminology of a structure, empty when it has no code.

    Raises:
        InputError: a code contains one of Slicer's separators.

    >>> terminology_entry(Structure(1, "liver", code=Code("SCT", "10200004", "Liver"))).split("~")[2]
    'SCT^10200004^Liver'
    """
    if structure.code is None:
        return ""
    codes = (_code_string(structure.category), _code_string(structure.code), _code_string(structure.modifier))
    return "~".join((CONTEXT, *codes, ANATOMIC_CONTEXT, "^^", "^^")) + "|"


def coded_structure(value: int, name: str, color: tuple[float, float, float], entry: str) -> Structure:
    """The structure of a segment; an entry that is empty or incomplete leaves it without codes.

    >>> structure = Structure(1, "liver", code=Code("SCT", "10200004", "Liver"))
    >>> coded_structure(1, "liver", structure.color, terminology_entry(structure)) == structure
    True
    """
    fields = [_code(field) for field in entry.rstrip("|").split("~")]
    if len(fields) < 4 or fields[1] is None or fields[2] in (None, UNSPECIFIED):
        return Structure(value, name, color)
    return Structure(value, name, color, fields[2], fields[1], fields[3])


def generic_structure(value: int) -> Structure:
    """``label 7`` with a colour of its own, for label maps without names."""
    return Structure(value, f"label {value}", colorsys.hsv_to_rgb((value * GOLDEN_RATIO) % 1, 0.6, 0.9))


def _code_string(code: Code | None) -> str:
    if code is None:
        return "^^"
    parts = (code.scheme, code.value, code.meaning)
    if any(separator in part for part in parts for separator in SEPARATORS):
        raise InputError(
            f"The code {parts} contains one of ^ ~ | or a line break",
            "a code without these signs",
            "correct the code in the model's label list",
        )
    return "^".join(parts)


def _code(text: str) -> Code | None:
    parts = text.split("^")
    return Code(*parts) if len(parts) == 3 and parts[1] else None
