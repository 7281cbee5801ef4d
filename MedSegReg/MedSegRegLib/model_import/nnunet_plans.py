"""What nnU-Net's ``plans.json`` says, as far as it matters for running a network. Import walk: nnunet -> [plans].

Whatever names code in nnU-Net (network, normalisation, resampling, reader) is compared with the names known here.
Format: Isensee et al., nnU-Net v2, both the plans of today (``architecture``) and those before version 2.4.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictInt

from ..errors import ModelMismatch, UnsupportedFile
from ..files.architectures import UNetArchitecture
from ..files.model_spec import GridSpec
from ..preprocess import ClipStandardize, IntensityStep, NonzeroZScore, PercentileRange, ScaleRange, ZScore
from ..report import Finding
from .source_files import described

PLAIN, RESIDUAL = "plain_conv_unet", "residual_encoder_unet"
NETWORKS = {
    "PlainConvUNet": PLAIN,
    "ResidualEncoderUNet": RESIDUAL,
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": PLAIN,
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": RESIDUAL,
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet": RESIDUAL,
}
REORIENTING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
PIXEL_READERS = ("NaturalImage2DIO",)  # pictures without a size in millimetres
SPLINE, NO_RESAMPLING = "resample_data_or_seg_to_shape", "no_resampling_data_or_seg_to_shape"
LINEAR = ("resample_torch_simple", "resample_torch_fornnunet")
THICK_SLICES = 3.0
CT = "CTNormalization"


class Foreign(BaseModel):
    """What is read of another tool's file; further keys do not matter."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True)


class ArchitectureSettings(Foreign):
    """``arch_kwargs``: every one of them matters, so an unknown one is refused."""

    model_config = ConfigDict(extra="forbid")

    n_stages: StrictInt
    features_per_stage: tuple[StrictInt, ...]
    conv_op: Literal[
        "torch.nn.modules.conv.Conv3d", "torch.nn.modules.conv.Conv2d", "torch.nn.Conv3d", "torch.nn.Conv2d"
    ]
    kernel_sizes: tuple[tuple[StrictInt, ...], ...]
    strides: tuple[tuple[StrictInt, ...], ...]
    blocks: StrictInt | tuple[StrictInt, ...] = Field(
        validation_alias=AliasChoices("n_conv_per_stage", "n_blocks_per_stage")
    )
    n_conv_per_stage_decoder: StrictInt | tuple[StrictInt, ...]
    conv_bias: Literal[True]
    norm_op: Literal[
        "torch.nn.modules.instancenorm.InstanceNorm3d",
        "torch.nn.modules.instancenorm.InstanceNorm2d",
        "torch.nn.InstanceNorm3d",
        "torch.nn.InstanceNorm2d",
    ]
    norm_op_kwargs: NormSettings
    dropout_op: None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: Literal["torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"]
    nonlin_kwargs: ActivationSettings
    nonlin_first: Literal[False] = False
    deep_supervision: bool = False
    stem_channels: None = None
    bottleneck_channels: None = None


class NormSettings(Foreign):
    """Of the instance normalisation."""

    model_config = ConfigDict(extra="forbid")

    eps: float = Field(1e-5, ge=0.99e-5, le=1.01e-5)
    affine: Literal[True]


class ActivationSettings(Foreign):
    """Of the leaky ReLU."""

    model_config = ConfigDict(extra="forbid")

    inplace: bool = True
    negative_slope: float = Field(0.01, ge=0.0099, le=0.0101)


class NamedArchitecture(Foreign):
    """``architecture`` of today's plans."""

    network_class_name: str
    arch_kwargs: ArchitectureSettings


class OldArchitecture(Foreign):
    """The same in plans before nnU-Net 2.4, as in the archives of TotalSegmentator."""

    network_class_name: str = Field(validation_alias="UNet_class_name")
    base: StrictInt = Field(validation_alias="UNet_base_num_features")
    most: StrictInt = Field(validation_alias="unet_max_num_features")
    blocks: tuple[StrictInt, ...] = Field(validation_alias="n_conv_per_stage_encoder")
    decoder_blocks: tuple[StrictInt, ...] = Field(validation_alias="n_conv_per_stage_decoder")
    kernels: tuple[tuple[StrictInt, ...], ...] = Field(validation_alias="conv_kernel_sizes")
    strides: tuple[tuple[StrictInt, ...], ...] = Field(validation_alias="pool_op_kernel_sizes")


class Intensities(Foreign):
    """Of the training set's foreground in one channel."""

    mean: float
    std: float
    low: float = Field(validation_alias="percentile_00_5")
    high: float = Field(validation_alias="percentile_99_5")


class Configuration(Foreign):
    """One of ``configurations``, inheritance resolved; sizes and spacings are in the order of the network's axes."""

    patch_size: tuple[StrictInt, ...] = Field(min_length=2, max_length=3)
    spacing: tuple[float, ...] = Field(min_length=2, max_length=3)
    normalization_schemes: tuple[
        Literal[
            "CTNormalization",
            "ZScoreNormalization",
            "RescaleTo01Normalization",
            "RGBTo01Normalization",
            "NoNormalization",
        ],
        ...,
    ]
    use_mask_for_norm: tuple[bool, ...]
    preprocessor_name: Literal["DefaultPreprocessor"] = "DefaultPreprocessor"
    resampling_fn_data: str = SPLINE
    resampling_fn_data_kwargs: dict[str, Any] = {}
    previous_stage: str | None = None


class Plans(Foreign):
    """``plans.json``."""

    dataset_name: str = ""
    plans_name: str = ""
    transpose_forward: tuple[Literal[0, 1, 2], Literal[0, 1, 2], Literal[0, 1, 2]] = (0, 1, 2)
    image_reader_writer: str = "SimpleITKIO"
    label_manager: Literal["LabelManager"] = "LabelManager"
    configurations: dict[str, dict[str, Any]]
    intensities: dict[str, Intensities] = Field(
        {},
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        ),
    )

    def resolved(self, name: str) -> dict[str, Any]:
        """A configuration with what it inherits.

        Raises:
            ModelMismatch: no configuration of that name, or one that inherits from itself.
        """
        content: dict[str, Any] = {}
        seen: list[str] = []
        next_name: str | None = name
        while next_name is not None:
            if next_name in seen or next_name not in self.configurations:
                raise ModelMismatch(
                    f"plans.json has no configuration '{next_name}'",
                    f"one of {', '.join(self.configurations)}",
                    "name one of them",
                )
            seen.append(next_name)
            content = {**self.configurations[next_name], **content}
            next_name = content.pop("inherits_from", None)
        return content


def architecture_of(configuration: dict[str, Any]) -> UNetArchitecture:
    """The network that a resolved configuration describes.

    Raises:
        UnsupportedFile: another network, or a setting that changes what is computed.
    """
    where = "the network in plans.json"
    if "architecture" not in configuration:
        old = described(OldArchitecture, configuration, where)
        name, dimensions = old.network_class_name, len(old.kernels[0]) if old.kernels else 0
        content: dict[str, Any] = {
            "features": tuple(min(old.base << stage, old.most) for stage in range(min(len(old.blocks), 32))),
            "blocks_per_stage": old.blocks,
            "decoder_blocks": old.decoder_blocks,
            "kernels_kji": old.kernels,
            "strides_kji": old.strides,
        }
    else:
        named = described(NamedArchitecture, configuration["architecture"], where)
        settings = named.arch_kwargs
        name, dimensions = named.network_class_name, int(settings.conv_op[-2])
        decoder = settings.n_conv_per_stage_decoder
        content = {
            "features": settings.features_per_stage,
            "blocks_per_stage": settings.blocks,
            "decoder_blocks": (decoder,) * (settings.n_stages - 1) if isinstance(decoder, int) else decoder,
            "kernels_kji": settings.kernel_sizes,
            "strides_kji": settings.strides,
        }
    if name not in NETWORKS:
        raise UnsupportedFile(
            f"The network is '{name[:80]}'",
            "PlainConvUNet or ResidualEncoderUNet of dynamic_network_architectures",
            "networks of other packages cannot be imported; export the model to ONNX and import that",
        )
    return described(UNetArchitecture, {"name": NETWORKS[name], "dimensions": dimensions, **content}, where)


def grid_of(plans: Plans, configuration: Configuration) -> tuple[GridSpec, list[Finding]]:
    """How nnU-Net brings an image onto this configuration's grid."""
    findings = []
    letters = "ijk"
    if plans.image_reader_writer in REORIENTING_READERS:
        letters = "ras"
    elif "totalsegmentator" in plans.dataset_name.lower():
        letters = "ras"
        findings.append(
            Finding.info("TotalSegmentator turns images to right, anterior, superior first; so is done here")
        )
    axes = "".join(letters[::-1][axis] for axis in plans.transpose_forward[::-1])
    resampling, options = configuration.resampling_fn_data, configuration.resampling_fn_data_kwargs
    if resampling not in (SPLINE, NO_RESAMPLING, *LINEAR) or options.get("order", 3) not in (1, 3):
        findings.append(
            Finding.warn(
                f"Images were resampled by '{resampling[:60]}', order {options.get('order', 3)}: not known here",
                "compare the first results with those of nnU-Net",
            )
        )
    content = {
        "axes": axes,
        "fit": "field_of_view",
        "interpolation": "linear" if resampling in LINEAR or options.get("order") == 1 else "cubic",
        "normalise_first": True,
        "crop_to_nonzero": True,
        "thick_slices": THICK_SLICES if options.get("force_separate_z") is None and resampling == SPLINE else None,
    }
    return described(GridSpec, content, "transpose_forward in plans.json"), findings


def spacing_of(plans: Plans, configuration: Configuration) -> tuple[float | None, float | None, float | None]:
    """Along the grid's i, j, k; None where the image keeps its own."""
    if plans.image_reader_writer in PIXEL_READERS or configuration.resampling_fn_data == NO_RESAMPLING:
        return None, None, None
    i, j, *k = configuration.spacing[::-1]
    return i, j, k[0] if k else None


def intensity_of(plans: Plans, configuration: Configuration, channels: int) -> list[tuple[IntensityStep, ...]]:
    """The steps of each channel.

    Raises:
        ModelMismatch: the plans do not have one scheme a channel, or lack the figures of a CT channel.
    """
    schemes, masked = configuration.normalization_schemes, configuration.use_mask_for_norm
    if len(schemes) != channels or len(masked) != channels:
        raise ModelMismatch(
            f"plans.json normalises {len(schemes)} channels, dataset.json has {channels}", "the same number", ""
        )
    return [_steps(scheme, masked[n], plans.intensities.get(str(n))) for n, scheme in enumerate(schemes)]


def _steps(scheme: str, masked: bool, trained: Intensities | None) -> tuple[IntensityStep, ...]:
    if scheme == CT:
        if trained is None:
            raise ModelMismatch("plans.json has no intensities of a CT channel", "mean, std and percentiles of it", "")
        return (ClipStandardize(low=trained.low, high=trained.high, mean=trained.mean, std=trained.std),)
    if scheme == "ZScoreNormalization":
        return (NonzeroZScore(filled=True) if masked else ZScore(),)
    if scheme == "RescaleTo01Normalization":
        return (PercentileRange(low=0.0, high=100.0),)
    return (ScaleRange(low=0.0, high=255.0),) if scheme == "RGBTo01Normalization" else ()
