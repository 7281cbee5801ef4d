"""Results of nnU-Net become model packages with the same network, grid, intensities and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from foreign_models import (
    DATASET,
    GOLDEN,
    golden_weights,
    nnunet_dataset,
    nnunet_plans,
    write_nnunet_result,
    zip_folder,
)
from MedSegRegLib.errors import DamagedModel, ModelMismatch, OutputNotWritable, UnknownModel, UnsupportedFile
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.files.model_spec import GridSpec, ModelSpec
from MedSegRegLib.model_import.nnunet_labels import Dataset, labels_of, modality_of
from MedSegRegLib.model_import.nnunet_plans import (
    Configuration,
    Plans,
    architecture_of,
    grid_of,
    intensity_of,
    spacing_of,
)
from MedSegRegLib.model_import.run import import_model
from MedSegRegLib.model_import.source_files import described
from MedSegRegLib.preprocess import ClipStandardize, NonzeroZScore, PercentileRange, ScaleRange, ZScore
from MedSegRegLib.segment.network import build_network


def scores_of(spec: ModelSpec, weights: dict[str, torch.Tensor], shape: list[int]) -> torch.Tensor:
    network = build_network(spec.architecture, len(spec.channels), spec.classes).eval()
    network.load_state_dict(weights)
    image = torch.arange(int(torch.Size(shape).numel())).mul(0.3).cos().reshape(1, 1, *shape)
    with torch.inference_mode():
        return network(image).flatten()


@pytest.mark.parametrize("network", list(GOLDEN))
def test_imported_network_gives_the_scores_of_nnunets_own(tmp_path: Path, network: str) -> None:
    result = write_nnunet_result(tmp_path, network)
    spec, findings = import_model(result, tmp_path / "imported")
    read, (weights,) = read_model(tmp_path / "imported")
    assert read == spec
    assert not findings
    scores = scores_of(spec, weights, list(spec.tile_ijk[::-1][3 - spec.architecture.dimensions :]))
    expected = GOLDEN[network]["scores"]
    assert scores[:: len(scores) // 12].tolist() == pytest.approx(expected, abs=1e-4)
    assert len(weights) == len(GOLDEN[network]["shapes"])  # every tensor once
    assert [label.name for label in spec.labels] == ["ball", "core"]
    assert spec.tiling.mirror == (("i", "j", "k") if "3d" in network else ("i", "j"))
    assert (spec.name, spec.licence) == (
        f"dataset901-balls-{spec.training['configuration']}".replace("_", "-"),
        "CC0-1.0",
    )


def test_imports_an_exported_zip_with_its_folds_as_an_ensemble(tmp_path: Path) -> None:
    write_nnunet_result(tmp_path / "results", folds=("0", "1", "all"))
    archive = zip_folder(tmp_path / "results", tmp_path / "export.zip")
    spec, _ = import_model(archive, tmp_path / "imported", name="balls", licence="CC-BY-4.0")
    _, members = read_model(tmp_path / "imported")
    assert (spec.name, spec.licence, spec.weights) == (
        "balls",
        "CC-BY-4.0",
        ("weights-0.safetensors", "weights-1.safetensors"),
    )
    for fold, member in enumerate(members):
        wanted = golden_weights("plain 3d", fold)
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in member.items())


def test_imports_the_wanted_fold_only(tmp_path: Path) -> None:
    result = write_nnunet_result(tmp_path, folds=("0", "1"))
    spec, _ = import_model(result, tmp_path / "imported", folds=(1,))
    _, (weights,) = read_model(tmp_path / "imported")
    assert spec.weights == ("weights.safetensors",)
    assert torch.equal(
        weights["encoder.stages.0.0.convs.0.conv.bias"],
        golden_weights("plain 3d", 1)["encoder.stages.0.0.convs.0.conv.bias"],
    )
    with pytest.raises(UnknownModel, match="fold 4"):
        import_model(result, tmp_path / "other", folds=(4,))


def test_imports_a_cascade_with_its_first_stage(tmp_path: Path) -> None:
    low = write_nnunet_result(tmp_path)
    full = low.parent / low.name.replace("3d_fullres", "3d_cascade_fullres")
    low.rename(low.parent / low.name.replace("3d_fullres", "3d_lowres"))
    low = low.parent / low.name.replace("3d_fullres", "3d_lowres")
    plans = nnunet_plans()
    plans["configurations"]["3d_lowres"] = {**plans["configurations"]["3d_fullres"], "spacing": [3.0, 3.0, 3.0]}
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    checkpoint = torch.load(low / "fold_0" / "checkpoint_final.pth", weights_only=False)  # written here
    for folder, configuration in ((low, "3d_lowres"), (full, "3d_cascade_fullres")):
        checkpoint["init_args"]["configuration"] = configuration
        if folder == full:
            first = torch.zeros(3, 3, 1, 3, 3)
            checkpoint["network_weights"] = {
                name: first
                if name.endswith(("0.0.convs.0.conv.weight", "0.0.convs.0.all_modules.0.weight")) and "encoder" in name
                else t
                for name, t in checkpoint["network_weights"].items()
            }
        (folder / "fold_0").mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(nnunet_dataset()))
    spec, findings = import_model(tmp_path / DATASET, tmp_path / "imported", configuration="3d_cascade_fullres")
    previous, _ = read_model(tmp_path / "imported" / "previous")
    assert spec.previous_stage
    assert not previous.previous_stage
    assert previous.spacing_mm == (3.0, 3.0, 3.0)
    assert "previous/model.json" in spec.sha256
    assert any("also there: 3d_lowres" in finding.message for finding in findings)
    with pytest.raises(UnknownModel, match="first stage"):
        import_model(full, tmp_path / "alone")


def test_refuses_weights_that_are_not_of_the_plans_network(tmp_path: Path) -> None:
    result = write_nnunet_result(
        tmp_path, change=lambda checkpoint: checkpoint["network_weights"].pop("decoder.seg_layers.0.bias")
    )
    with pytest.raises(ModelMismatch, match=r"1 tensors .*bias: missing"):
        import_model(result, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    def spoil(checkpoint: dict[str, Any]) -> None:
        checkpoint["network_weights"]["decoder.seg_layers.0.bias"][0] = float("nan")

    with pytest.raises(DamagedModel, match=r"bias.*not finite"):
        import_model(write_nnunet_result(tmp_path, change=spoil), tmp_path / "imported")


def test_refuses_a_folder_name_that_contradicts_the_checkpoint(tmp_path: Path) -> None:
    result = write_nnunet_result(tmp_path, change=lambda checkpoint: checkpoint["init_args"].update(configuration="2d"))
    with pytest.raises(ModelMismatch, match="2d, 3d_fullres"):
        import_model(result, tmp_path / "imported")


def test_refuses_before_reading_when_the_output_holds_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(OutputNotWritable):
        import_model(tmp_path / "anything", tmp_path)


def test_names_the_configurations_that_are_there(tmp_path: Path) -> None:
    write_nnunet_result(tmp_path)
    with pytest.raises(UnknownModel, match="one of 3d_fullres"):
        import_model(tmp_path, tmp_path / "imported", configuration="3d_lowres")


def old_plans() -> dict[str, Any]:
    """The golden plans as nnU-Net wrote them before version 2.4."""
    plans = nnunet_plans()
    configuration = plans["configurations"]["3d_fullres"]
    settings = configuration.pop("architecture")["arch_kwargs"]
    configuration.update(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=3,
        unet_max_num_features=5,
        n_conv_per_stage_encoder=settings["n_conv_per_stage"],
        n_conv_per_stage_decoder=settings["n_conv_per_stage_decoder"],
        num_pool_per_axis=[1, 2, 2],
        pool_op_kernel_sizes=settings["strides"],
        conv_kernel_sizes=settings["kernel_sizes"],
    )
    return plans


def test_reads_old_plans_as_nnunet_does() -> None:
    configuration = old_plans()["configurations"]["3d_fullres"]
    architecture = architecture_of(configuration)
    assert architecture.features == (3, 5, 5)  # doubled at each stage, up to the limit
    assert architecture.kernels_kji[0] == (1, 3, 3)
    assert architecture.strides_kji[1] == (1, 2, 2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network_class_name": "os.system"}, "os.system"),
        ({"network_class_name": "my.package.PlainConvUNet"}, "my.package"),
        ({"nonlin": "torch.nn.ReLU"}, "nonlin"),
        ({"norm_op": "torch.nn.BatchNorm3d"}, "norm_op"),
        ({"conv_bias": False}, "conv_bias"),
        ({"dropout_op": "torch.nn.Dropout3d"}, "dropout_op"),
        ({"squeeze_excitation": True}, "squeeze_excitation"),
        ({"features_per_stage": [3, 4]}, "kernels_kji"),
        ({"n_conv_per_stage": 10**9}, "blocks_per_stage"),
    ],
)
def test_refuses_networks_that_are_not_known(change: dict[str, Any], match: str) -> None:
    configuration = nnunet_plans()["configurations"]["3d_fullres"]
    architecture = configuration["architecture"]
    place = architecture if "network_class_name" in change else architecture["arch_kwargs"]
    place.update(change)
    with pytest.raises(UnsupportedFile, match=match):
        architecture_of(configuration)


def test_follows_inheritance_and_refuses_circles() -> None:
    plans = nnunet_plans()
    plans["configurations"]["big"] = {"inherits_from": "3d_fullres", "batch_size": 9}
    plans["configurations"]["a"] = {"inherits_from": "b"}
    plans["configurations"]["b"] = {"inherits_from": "a"}
    read = described(Plans, plans, "plans.json")
    assert read.resolved("big")["batch_size"] == 9
    assert read.resolved("big")["patch_size"] == [8, 16, 16]
    with pytest.raises(ModelMismatch):
        read.resolved("a")


def plans_and_configuration(**changes: Any) -> tuple[Plans, Configuration]:
    plans = nnunet_plans()
    own = {key: changes.pop(key) for key in list(changes) if key in plans}
    plans.update(own)
    plans["configurations"]["3d_fullres"].update(changes)
    read = described(Plans, plans, "plans.json")
    return read, described(Configuration, read.resolved("3d_fullres"), "plans.json")


@pytest.mark.parametrize(
    ("scheme", "masked", "expected"),
    [
        ("ZScoreNormalization", False, (ZScore(),)),
        ("ZScoreNormalization", True, (NonzeroZScore(filled=True),)),
        ("RescaleTo01Normalization", False, (PercentileRange(low=0, high=100),)),
        ("RGBTo01Normalization", False, (ScaleRange(low=0, high=255),)),
        ("NoNormalization", False, ()),
    ],
)
def test_knows_nnunets_normalisations(scheme: str, masked: bool, expected: tuple[object, ...]) -> None:
    plans, configuration = plans_and_configuration(normalization_schemes=[scheme], use_mask_for_norm=[masked])
    assert intensity_of(plans, configuration, 1) == [expected]


def test_takes_the_figures_of_ct_from_the_plans() -> None:
    figures = {"mean": 60.0, "std": 40.0, "percentile_00_5": -90.0, "percentile_99_5": 300.0, "median": 1.0}
    plans, configuration = plans_and_configuration(
        normalization_schemes=["CTNormalization"], foreground_intensity_properties_per_channel={"0": figures}
    )
    assert intensity_of(plans, configuration, 1) == [(ClipStandardize(low=-90, high=300, mean=60, std=40),)]
    with pytest.raises(ModelMismatch, match="2"):
        intensity_of(plans, configuration, 2)


def test_refuses_a_normalisation_that_is_not_known() -> None:
    with pytest.raises(UnsupportedFile, match="normalization_schemes"):
        plans_and_configuration(normalization_schemes=["MyNormalization"])


def test_exchanges_axes_as_nnunet_transposes() -> None:
    plans, configuration = plans_and_configuration(transpose_forward=[2, 0, 1], spacing=[1.0, 2.0, 3.0])
    grid, _ = grid_of(plans, configuration)  # the network's slowest axis is the image's i, the next its k
    assert grid == GridSpec(
        axes="jki",
        fit="field_of_view",
        interpolation="cubic",
        normalise_first=True,
        crop_to_nonzero=True,
        thick_slices=3.0,
    )
    assert spacing_of(plans, configuration) == (3.0, 2.0, 1.0)


def test_turns_images_for_totalsegmentator_and_reorienting_readers() -> None:
    total, findings = grid_of(*plans_and_configuration(dataset_name="Dataset297_TotalSegmentator_total_3mm_1559subj"))
    assert (total.axes, len(findings)) == ("ras", 1)
    reoriented, _ = grid_of(*plans_and_configuration(image_reader_writer="NibabelIOWithReorient"))
    assert reoriented.axes == "ras"


def test_keeps_the_size_of_pictures() -> None:
    assert spacing_of(*plans_and_configuration(image_reader_writer="NaturalImage2DIO")) == (None, None, None)


def test_says_so_when_resampling_is_not_nnunets() -> None:
    _, findings = grid_of(*plans_and_configuration(resampling_fn_data="my_resampling"))
    assert "my_resampling" in findings[0].message
    linear, findings = grid_of(*plans_and_configuration(resampling_fn_data="resample_torch_fornnunet"))
    assert (linear.interpolation, linear.thick_slices, findings) == ("linear", None, [])


def read_labels(**content: Any) -> tuple[list[str], tuple[int, ...]]:
    labels, regions = labels_of(described(Dataset, nnunet_dataset(**content), "dataset.json"))
    return [label.name for label in labels], regions


def test_leaves_out_the_ignore_label() -> None:
    assert read_labels(labels={"background": 0, "a": 2, "b": 1, "ignore": 3}) == (["b", "a"], ())


def test_names_what_remains_visible_of_nested_regions() -> None:
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    names = ["whole tumor without tumor core", "tumor core without enhancing tumor", "enhancing tumor"]
    assert read_labels(labels=labels, regions_class_order=[1, 2, 3]) == (names, (1, 2, 3))


def test_keeps_the_order_in_which_regions_are_painted() -> None:
    labels = {"background": 0, "whole": [1, 2], "left": [2]}
    assert read_labels(labels=labels, regions_class_order=[1, 2]) == (["whole without left", "left"], (1, 2))
    disjoint = {"background": 0, "both": [1, 2], "core": [2, 3]}
    assert read_labels(labels=disjoint, regions_class_order=[1, 3]) == (
        ["both without core", "label 2", "core"],
        (1, 3),
    )


@pytest.mark.parametrize(
    "content",
    [
        {"labels": {"0": "background", "1": "liver"}},  # nnU-Net v1
        {"labels": {"background": 0, "a": 1.5}},
        {"labels": {"background": 0, "a": True}},
        {"labels": {"background": 0, "a": 1, "b": 3}},
        {"labels": {"background": 0, "a": 1, "b": 1}},
        {"labels": {"background": 1, "a": 2}},
        {"labels": {"background": 0, "a": [1, 2], "b": 2}},  # regions without their order
        {"labels": {"background": 0}, "channel_names": {}},
    ],
)
def test_refuses_labels_that_nnunet_could_not_have_trained(content: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFile):
        read_labels(**content)


def test_tells_the_modality_by_the_channels_name() -> None:
    assert [modality_of(name) for name in ("T1w", "CT", "FLAIR", "R", "PET")] == ["MR", "CT", "MR", "any", "PT"]
