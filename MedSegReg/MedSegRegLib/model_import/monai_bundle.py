"""MONAI bundles, read as data. Import walk: run -> [monai bundle] -> model package.

A bundle's configuration is a program: ``_target_`` names classes and functions, ``$`` holds Python. Here ``_target_``
is only compared with names that are known, ``@name`` is looked up where it stands for plain data, and ``$`` in anything
that is needed ends the import. The parts follow MONAI's bundle specification.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from ..errors import MissingPackage, UnsafeFile, UnsupportedFile
from ..files.model_spec import ChannelSpec, LabelSpec
from ..progress import Progress
from ..report import Finding
from .imported import Imported, Wishes, checked_spec, fitting_weights, slug
from .isolation import read_weights_of
from .monai_transforms import intensity_and_grid
from .nnunet_labels import label_color, modality_of
from .nnunet_plans import Foreign
from .source_files import SourceFiles, described, json_object

METADATA = re.compile(r"^(?:.*/)?configs/metadata\.json$")
CONFIGURATIONS = ("inference.json", "inference.yaml", "inference.yml")
NETWORKS = ("UNet", "BasicUNet", "DynUNet", "SegResNet", "AttentionUnet", "VNet", "UNETR")
FIXED = ("spatial_dims", "in_channels", "out_channels")
NOTHING_MORE = re.compile(r"(?!)")
MAX_DEPTH = 8


class ChannelFormat(Foreign):
    """One input or output of ``network_data_format``."""

    modality: str = "any"
    num_channels: int = Field(1, ge=1, le=1024)
    channel_def: dict[str, str] = Field({})

    def names(self) -> list[str]:
        """In the order of the channels."""
        return [self.channel_def.get(str(n), f"channel {n}") for n in range(self.num_channels)]


class DataFormat(Foreign):
    """``network_data_format``."""

    inputs: dict[str, ChannelFormat] = Field(min_length=1)
    outputs: dict[str, ChannelFormat] = Field(min_length=1)


class Metadata(Foreign):
    """``metadata.json``."""

    name: str = ""
    version: str = "1.0.0"
    description: str = ""
    network_data_format: DataFormat


def is_bundle(source: SourceFiles) -> bool:
    """Whether a ``configs/metadata.json`` is there."""
    return any(METADATA.match(name) for name in source.names)


def read_bundle(source: SourceFiles, wishes: Wishes, progress: Progress) -> Imported:
    """The model package of a bundle.

    Raises:
        UnsupportedFile: a network, a reference or a transform that cannot be read as data.
        UnsafeFile: Python in what is needed.
    """
    metadata_file = next(name for name in source.names if METADATA.match(name))
    root = metadata_file.removesuffix("configs/metadata.json")
    metadata = described(Metadata, source.json(metadata_file), "metadata.json")
    config = _configuration(source, root)
    network, settings = _network(config)
    image = next(iter(metadata.network_data_format.inputs.values()))
    scores = next(iter(metadata.network_data_format.outputs.values()))
    dimensions = settings.get("spatial_dims", settings.get("dimensions", 3))
    steps, findings = intensity_and_grid(list(_transforms(config, "preprocessing")), dimensions)
    labels, regions = _labels(scores, list(_transforms(config, "postprocessing")), findings)
    content = {
        "title": metadata.name or source.title,
        "description": (metadata.description or f"MONAI bundle {source.title}")[:500],
        "version": metadata.version,
        "architecture": {
            "name": "monai",
            "dimensions": dimensions,
            "network": network,
            "settings": {key: value for key, value in settings.items() if key not in (*FIXED, "dimensions")},
            "multiple": _multiple(network, settings),
        },
        "channels": [ChannelSpec(name=name, modality=modality_of(image.modality)) for name in image.names()],
        "labels": labels,
        "regions": regions,
        **steps,
        **_tiles(config, dimensions),
        "training": {"source": "MONAI bundle", "version": metadata.version},
        **wishes.description,
        "name": wishes.name or slug(metadata.name or source.title),
        "licence": wishes.licence or wishes.description.get("licence", "not stated"),
    }
    for needed, meaning in (("tile_ijk", "roi_size of the inferer"), ("spacing_mm", "the transform Spacing")):
        if needed not in content:
            raise UnsupportedFile(
                f"The bundle does not say {needed} ({meaning})", "it, as plain numbers", "give a description with it"
            )
    spec = checked_spec(content)
    file = f"{root}models/model.pt"
    if file not in source.names:
        raise UnsupportedFile("The bundle has no models/model.pt", "its weights", "download the bundle completely")
    tensors, _ = read_weights_of(source.file(file), progress)
    return Imported(spec, [fitting_weights(spec, len(spec.channels), tensors, NOTHING_MORE, "network.")], findings)


def plain(value: Any, config: dict[str, Any], depth: int = 0) -> Any:
    """Data as it stands, with ``@name`` replaced by the data of that name.

    Raises:
        UnsafeFile: Python, or an object to be made.
        UnsupportedFile: a name that stands for nothing plain.
    """
    if isinstance(value, str) and value.startswith("$"):
        raise UnsafeFile(
            f"The bundle computes '{value[:60]}' with Python", "plain values", "give a description with this value"
        )
    if isinstance(value, dict) and "_target_" in value:
        raise UnsafeFile(
            f"The bundle makes an object of '{str(value['_target_'])[:60]}'", "plain values", "it cannot be imported"
        )
    if depth > MAX_DEPTH:
        raise UnsupportedFile("The bundle's values refer to each other too deeply", f"at most {MAX_DEPTH} times", "")
    if isinstance(value, str) and value.startswith("@"):
        found: Any = config
        for part in re.split("::|#", value[1:]):
            found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            raise UnsupportedFile(f"The bundle refers to '{value[:60]}'", "a value in the same file", "")
        return plain(found, config, depth + 1)
    if isinstance(value, dict):
        return {key: plain(item, config, depth + 1) for key, item in value.items()}
    return [plain(item, config, depth + 1) for item in value] if isinstance(value, list) else value


def _configuration(source: SourceFiles, root: str) -> dict[str, Any]:
    for name in CONFIGURATIONS:
        if f"{root}configs/{name}" in source.names:
            text = source.text(f"{root}configs/{name}")
            return json_object(text, name) if name.endswith("json") else _yaml(text)
    raise UnsupportedFile("The bundle has no configs/inference.json", "how its network is run", "")


def _yaml(text: str) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415  (optional)
    except ImportError:
        raise MissingPackage(
            "The bundle is configured in YAML, and PyYAML is not installed",
            "the package PyYAML",
            "install it with: pip install PyYAML",
        ) from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UnsupportedFile(
            f"inference.yaml cannot be read ({str(error)[:80]})", "YAML of plain values", ""
        ) from None
    return content if isinstance(content, dict) else {}


def _network(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Its name in the registry, and its settings as plain data."""
    named = config.get("network_def", config.get("network"))
    if not isinstance(named, dict) or not isinstance(named.get("_target_"), str):
        raise UnsupportedFile(f"The bundle's network is '{str(named)[:60]}'", "network_def with a _target_", "")
    target = named["_target_"]
    module, _, name = target.rpartition(".")
    if name not in NETWORKS or (
        module and module != "monai.networks.nets" and not module.startswith("monai.networks.nets.")
    ):
        raise UnsupportedFile(
            f"The bundle's network is '{target[:80]}'",
            f"one of {', '.join(NETWORKS)} of MONAI",
            "other networks cannot be imported; export the model to ONNX and import that",
        )
    return name, {key: plain(item, config) for key, item in named.items() if key != "_target_"}


def _transforms(config: dict[str, Any], part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name without module and ``d``, and settings, of each transform; values are left as they are written."""
    chain = config.get(part, {})
    for one in chain.get("transforms", []) if isinstance(chain, dict) else []:
        if isinstance(one, dict) and isinstance(one.get("_target_"), str) and one.get("_disabled_") is not True:
            name = one["_target_"].rpartition(".")[2]
            settings = {key: item for key, item in one.items() if key not in ("_target_", "keys", "_disabled_")}
            yield name.removesuffix("d"), Settings(settings, config)


class Settings(dict[str, Any]):
    """Of a transform; each is made plain when it is asked for."""

    def __init__(self, settings: dict[str, Any], config: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = config

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value."""
        return plain(super().get(key, default), self._config)


def _labels(
    scores: ChannelFormat, post: list[tuple[str, dict[str, Any]]], findings: list[Finding]
) -> tuple[list[LabelSpec], tuple[int, ...]]:
    names = scores.names()
    sigmoid = any(name == "Activations" and settings.get("sigmoid") is True for name, settings in post)
    if sigmoid and len(names) > 1:
        findings.append(
            Finding.warn("Its structures may overlap: of those at one place, the last in the list is shown")
        )
    shown = names if sigmoid else names[1:]
    labels = [LabelSpec(value=n, name=name, color=label_color(n)) for n, name in enumerate(shown, start=1)]
    return labels, tuple(range(1, len(shown) + 1)) if sigmoid else ()


def _tiles(config: dict[str, Any], dimensions: int) -> dict[str, Any]:
    """MONAI's tensors are [C, I, J, K]: the first axis of a tile is the grid's k."""
    inferer = config.get("inferer")
    if not isinstance(inferer, dict) or not str(inferer.get("_target_", "")).endswith("SlidingWindowInferer"):
        return {}
    sides = plain(inferer.get("roi_size"), config)
    if not isinstance(sides, list) or len(sides) != dimensions:
        return {}
    overlap = plain(inferer.get("overlap", 0.25), config)
    tile = (*sides[::-1], 1)[:3]
    return {"tile_ijk": tile, "tile_overlap": overlap, "tiling": {"placement": "stride", "padding": "zero"}}


def _multiple(network: str, settings: dict[str, Any]) -> int:
    """How often the network halves its input."""
    strides = settings.get("strides")
    if network in ("UNet", "AttentionUnet", "DynUNet") and isinstance(strides, list):
        return math.prod(max(s) if isinstance(s, list) else int(s) for s in strides)
    if network == "SegResNet":
        return 2 ** (len(settings.get("blocks_down", (1, 2, 2, 4))) - 1)
    return 32 if network == "UNETR" else 16
