"""What nnU-Net's ``dataset.json`` says: channels, labels, regions. Import walk: nnunet -> [labels]."""

from __future__ import annotations

import colorsys
from typing import Any, Literal

from pydantic import AliasChoices, Field, StrictInt

from ..errors import UnsupportedFile
from ..files.model_spec import LabelSpec
from .nnunet_plans import Foreign

IGNORED, BACKGROUND = "ignore", "background"
MODALITIES: dict[str, Literal["MR", "CT", "US", "PT", "XR"]] = {
    "ct": "CT", "cta": "CT", "cbct": "CT", "hu": "CT",
    "mr": "MR", "mri": "MR", "t1": "MR", "t1w": "MR", "t1c": "MR", "t1ce": "MR", "t1gd": "MR", "t1n": "MR", "t2": "MR",
    "t2w": "MR", "t2f": "MR", "flair": "MR", "adc": "MR", "dwi": "MR", "pd": "MR",
    "pt": "PT", "pet": "PT", "suv": "PT", "us": "US", "ultrasound": "US", "xr": "XR", "xray": "XR", "x-ray": "XR",
}  # fmt: skip


class Dataset(Foreign):
    """``dataset.json``."""

    channel_names: dict[str, str] = Field(validation_alias=AliasChoices("channel_names", "modality"), min_length=1)
    labels: dict[str, StrictInt | tuple[StrictInt, ...]]
    regions_class_order: tuple[StrictInt, ...] | None = None
    title: str = Field("", validation_alias="name")
    description: Any = ""
    licence: Any = Field("", validation_alias=AliasChoices("licence", "license"))

    @property
    def channels(self) -> list[str]:
        """Names in their order."""
        return [self.channel_names[key] for key in sorted(self.channel_names, key=lambda key: (len(key), key))]


def modality_of(channel: str) -> Literal["MR", "CT", "US", "PT", "XR", "any"]:
    """What image a channel of this name is; ``any`` when the name does not tell."""
    return MODALITIES.get(channel.strip().lower(), "any")


def labels_of(dataset: Dataset) -> tuple[tuple[LabelSpec, ...], tuple[int, ...]]:
    """The labels 1, 2, 3, ... and, for a network of regions, the label that each of its channels paints.

    Raises:
        UnsupportedFile: labels that nnU-Net would not have trained with either.
    """
    foreground = {name: value for name, value in dataset.labels.items() if name != IGNORED and value not in (0, (0,))}
    if dataset.labels.get(BACKGROUND) != 0:
        raise UnsupportedFile(
            f"dataset.json has the labels {str(dataset.labels)[:80]}",
            "the format of nnU-Net v2, name: value, with 'background': 0",
            "models of nnU-Net v1 cannot be imported",
        )
    if any(isinstance(value, tuple) and len(value) > 1 for value in foreground.values()):
        names, regions = _painted(foreground, dataset.regions_class_order)
    else:
        single = {value[0] if isinstance(value, tuple) else value: name for name, value in foreground.items()}
        names, regions = single, ()
    if sorted(names) != list(range(1, len(names) + 1)) or (not regions and len(names) != len(foreground)):
        raise UnsupportedFile(f"The label values are {sorted(names)}", "1, 2, 3, ... without gaps", "")
    labels = (LabelSpec(value=value, name=names[value], color=label_color(value)) for value in sorted(names))
    return tuple(labels), regions


def _painted(
    foreground: dict[str, int | tuple[int, ...]], order: tuple[int, ...] | None
) -> tuple[dict[int, str], tuple[int, ...]]:
    """Names of what remains visible of each region when later ones are painted over it."""
    if order is None or len(order) != len(foreground):
        raise UnsupportedFile(
            f"dataset.json has {len(foreground)} regions and paints {len(order or ())}",
            "regions_class_order for each",
            "",
        )
    regions = [(name, {value} if isinstance(value, int) else set(value)) for name, value in foreground.items()]
    names = {value: f"label {value}" for _, members in regions for value in members}
    for number, (value, (name, members)) in enumerate(zip(order, regions, strict=True)):
        over = [(other, inside) for other, inside in regions[number + 1 :] if inside & members]
        widest = [other for other, inside in over if not any(inside < wider for _, wider in over)]
        names[value] = f"{name} without {' and '.join(widest)}" if widest else name
    return names, order


def label_color(value: int) -> tuple[float, float, float]:
    """Neighbouring values differ in hue by the golden angle."""
    r, g, b = colorsys.hsv_to_rgb(value * 0.381966 % 1.0, 0.55, 0.95)
    return round(r, 3), round(g, 3), round(b, 3)
