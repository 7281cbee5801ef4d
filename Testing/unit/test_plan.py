"""What a run is said to take, against what it takes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MedSegRegLib.files.architectures import ContextUNetArchitecture, UNetArchitecture
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment import Model, make_plan, segment
from MedSegRegLib.segment.plan import tile_bytes
from MedSegRegLib.segment.prepare import grid_of, window_around
from small_training import random_network, small_spec
from streamed import CPU, model_of, random_image

TOO_LITTLE, TOO_MUCH = 0.9, 1.5
"""What the predicted peak of the process may be of the measured one."""
HEAD = Geometry.from_spacing((180, 220, 160), (1.0, 1.0, 1.2))
PEAK_OF_A_RUN = """
import json, sys
from pathlib import Path
import numpy as np
from streamed import model_of
from small_training import small_spec
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import make_plan, segment
found = []
for side, features in json.loads(sys.argv[1]):
    architecture = UNetArchitecture(features=features, blocks_per_stage=1)
    model = model_of(small_spec(60, architecture=architecture, tile_ijk=(side,) * 3))
    geometry = Geometry.from_spacing((side,) * 3)
    image = Image.from_array(np.random.default_rng(0).random(geometry.shape_kji, np.float32), geometry)
    segment(image, model)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = 1024 * int(status["VmHWM"].split()[0])
    found.append((make_plan(model, geometry).host_bytes, peak))
print(json.dumps(found))
"""


@pytest.fixture
def a_model() -> Model:
    return model_of(small_spec(2))


def on_gpu(model: Model) -> Model:
    """What a plan reads of a model on a GPU."""

    class Engine:
        device, head = torch.device("cuda"), model.engines[0].head
        description = "torch on a card"

    return replace(model, engines=(Engine(),) * len(model.engines))


def test_the_tiles_are_those_that_are_run(a_model):
    image, said = random_image((40, 33, 25)), []
    plan = make_plan(a_model, image.geometry)
    segment(image, a_model, progress=Progress(lambda fraction, message: said.append(message)))
    assert plan.tiles == sum(message.startswith("tile ") for message in said)
    assert f"of {plan.tiles}" in said[0]
    assert plan.grid_ijk == grid_of(image.geometry, a_model.spec).size_ijk
    assert (plan.tile_ijk, plan.batch, plan.device, plan.blend_on) == ((16, 16, 16), 1, CPU, CPU)


def test_a_region_needs_only_its_own_tiles(a_model):
    window = window_around(grid_of(HEAD, a_model.spec), HEAD.window((20, 30, 40), (30, 40, 20)).corners_ras())
    whole, part = make_plan(a_model, HEAD), make_plan(a_model, HEAD, window)
    assert part.grid_ijk == window.size_ijk
    assert part.tiles < whole.tiles / 50
    assert part.host_bytes < whole.host_bytes


def test_mirroring_runs_each_tile_for_each_mirror_image():
    model = model_of(small_spec(2, tiling={"mirror": ["i", "k"]}))
    once, mirrored = (make_plan(replace(model, seconds_per_tile=0.5), HEAD, mirror=m) for m in (False, True))
    assert mirrored.tiles == 4 * once.tiles
    assert mirrored.seconds == 4 * once.seconds


def test_every_member_of_an_ensemble_runs_each_tile():
    spec = small_spec(2)
    one, five = (model_of(spec, *[random_network(spec, seed) for seed in range(count)]) for count in (1, 5))
    assert make_plan(five, HEAD).tiles == 5 * make_plan(one, HEAD).tiles
    assert make_plan(five, HEAD).host_bytes >= make_plan(one, HEAD).host_bytes


def test_the_time_grows_with_the_tiles(a_model):
    timed = replace(a_model, seconds_per_tile=0.25)
    for geometry in (HEAD, Geometry.from_spacing((60, 50, 40)), Geometry.from_spacing((60, 50, 80))):
        plan = make_plan(timed, geometry)
        assert plan.seconds == pytest.approx(0.25 * plan.tiles)
    assert make_plan(a_model, HEAD).seconds is None


def test_the_stages_of_a_cascade_are_added_up(a_model):
    coarse = replace(model_of(small_spec(3, spacing_mm=(4.0, 4.0, 4.0))), seconds_per_tile=0.1)
    both = replace(a_model, previous=coarse, seconds_per_tile=0.2)
    first, second = make_plan(coarse, HEAD), make_plan(replace(a_model, seconds_per_tile=0.2), HEAD)
    plan = make_plan(both, HEAD)
    assert plan.tiles == first.tiles + second.tiles
    assert plan.seconds == pytest.approx(first.seconds + second.seconds)
    assert plan.host_bytes >= max(first.host_bytes, second.host_bytes)
    assert make_plan(replace(both, previous=replace(coarse, seconds_per_tile=None)), HEAD).seconds is None


def test_the_sentence_says_it_in_words(a_model):
    sentence = make_plan(a_model, HEAD).sentence()
    plan = make_plan(a_model, HEAD)
    assert sentence.startswith(f"{plan.tiles} tiles of 16 x 16 x 16 voxels on a grid of 180 x 220 x 192 (1 x 1 x 1 mm)")
    assert f"{plan.host_bytes / 2**30:.1f} GiB of memory" in sentence
    assert "torch" in sentence
    assert sentence.endswith("time not measured yet")
    assert "GPU" not in sentence
    for per_tile, said in (
        (10 / plan.tiles, "about 10 s"),
        (89 / plan.tiles, "89 s"),
        (1800 / plan.tiles, "about 30 min"),
    ):
        assert said in make_plan(replace(a_model, seconds_per_tile=per_tile), HEAD).sentence()


def test_on_a_gpu_the_network_and_the_blending_are_in_its_memory():
    spec = small_spec(2, tile_ijk=(64, 64, 64), architecture=UNetArchitecture(features=(32, 64, 128)))
    model = model_of(spec)
    cpu, gpu = make_plan(model, HEAD), make_plan(on_gpu(model), HEAD)
    assert (gpu.device.type, gpu.blend_on.type, gpu.batch) == ("cuda", "cuda", 8)
    assert gpu.host_bytes < cpu.host_bytes
    assert gpu.device_bytes > gpu.batch * tile_bytes(spec, 2)
    assert cpu.device_bytes == 0
    assert "on the GPU" in gpu.sentence()


@pytest.mark.parametrize(("side", "batch"), [(192, 1), (128, 1), (96, 2), (64, 8), (32, 8)])
def test_small_tiles_are_run_together_on_a_gpu(side, batch):
    model = model_of(small_spec(2, tile_ijk=(side,) * 3))
    assert make_plan(on_gpu(model), HEAD).batch == batch
    assert make_plan(model, HEAD).batch == 1


def test_memory_does_not_grow_with_the_labels_where_the_network_has_a_head():
    few, many = (make_plan(model_of(small_spec(labels)), HEAD) for labels in (10, 200))
    weights = 2 * (200 - 10) * (4 + 1) * 4
    assert many.host_bytes - few.host_bytes < weights


def test_a_larger_tile_a_finer_network_and_half_precision_are_weighed():
    wide = small_spec(architecture=UNetArchitecture(features=(32, 64)), tile_ijk=(32, 32, 32))
    narrow = small_spec(architecture=UNetArchitecture(features=(8, 16)), tile_ijk=(32, 32, 32))
    long = small_spec(architecture=UNetArchitecture(features=(8, 16)), tile_ijk=(32, 32, 64))
    assert tile_bytes(wide, 4) == pytest.approx(4 * tile_bytes(narrow, 4), rel=1e-6)
    assert tile_bytes(long, 4) == pytest.approx(2 * tile_bytes(narrow, 4), rel=1e-6)
    assert tile_bytes(wide, 2) == pytest.approx(tile_bytes(wide, 4) / 2, rel=1e-6)
    other = small_spec(architecture=ContextUNetArchitecture(name="context_unet"), tile_ijk=(32, 32, 32))
    assert tile_bytes(other, 4) > tile_bytes(narrow, 4)


def test_numbers_stay_exact_beyond_32_bits(a_model):
    vast = Geometry.from_spacing((4096, 4096, 4096), (1.0, 1.0, 1.0))
    plan = make_plan(a_model, vast)
    assert plan.tiles == (4096 // 8 - 1) ** 3
    assert plan.host_bytes > 13 * 4096**3
    for number in (plan.tiles, plan.host_bytes, plan.device_bytes, *plan.grid_ijk):
        assert type(number) is int
    assert f"{plan.host_bytes / 2**30:.1f} GiB" in plan.sentence()
    assert not math.isinf(make_plan(replace(a_model, seconds_per_tile=0.1), vast).seconds)


def test_a_network_over_slices_has_a_tile_for_each_slice():
    flat = UNetArchitecture(dimensions=2, features=(4, 8))
    model = model_of(small_spec(2, architecture=flat, tile_ijk=(256, 256, 1), spacing_mm=(None, None, None)))
    assert make_plan(model, HEAD).tiles == HEAD.size_ijk[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_peak_of_the_process_is_near_the_prediction():
    runs = [(64, (8, 8)), (96, (24, 8))]
    folders = [str(Path(path).resolve()) for path in sys.path if path]
    child = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {folders!r}\n{PEAK_OF_A_RUN}", json.dumps(runs)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    (small, small_peak), (large, large_peak) = json.loads(child.stdout)
    assert large_peak > 1.5 * small_peak
    assert TOO_LITTLE * small_peak < small < TOO_MUCH * small_peak
    assert TOO_LITTLE * large_peak < large < TOO_MUCH * large_peak
