"""Atlases that vote: each alone, all alike, and each where it looks like the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.errors import Cancelled, InputError
from MedSegRegLib.files import read_image, read_labels, write_image, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.transform import Transform
from MedSegRegLib.workflows.atlas import Atlas, fuse_votes, segment_by_atlases
from MedSegRegLib.workflows.soft_labels import transfer_labels

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((24, 24, 24), (2.5, 2.5, 2.5), (-28.75, -28.75, -28.75))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(1.0,), iterations=(20,), stiffness=1.0)
)
HEAD = make_head(GRID)


def ball(value: int = 3, name: str = "ball") -> Labels:
    k, j, i = np.indices(GRID.shape_kji)
    ras = GRID.map_voxels(np.stack((i, j, k), axis=-1))
    inside = np.linalg.norm(ras - (-6.0, 3.0, 2.0), axis=-1) < 9
    return Labels.from_array(np.where(inside, value, 0), GRID, (Structure(value, name),))


def atlas(seed: int) -> Atlas:
    """The head and its ball, bent."""
    bend = make_bend(GRID, largest_mm=5.0, sigma_mm=9.0, seed=seed)
    image = bent(HEAD, bend, seed=seed)
    return Atlas(Image(image.tensor, GRID, f"atlas {seed}"), resample_labels(ball(), GRID, Transform((bend,))))


ATLASES = [atlas(seed) for seed in (21, 22, 23)]


def dice(labels: Labels, value: int = 3) -> float:
    one, other = labels.tensor == value, ball().tensor == 3
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_one_atlas_carries_its_labels():
    result = segment_by_atlases(HEAD, ATLASES[:1], settings=FAST)
    assert dice(result.labels) > 0.88 > dice(ATLASES[0].labels)
    assert bool((result.agreement.tensor == 1).all())
    assert result.labels.structures[0].name == "ball"


@pytest.mark.parametrize("fusion", ["local", "majority"])
def test_several_atlases_are_better_than_one_on_average(fusion):
    together = segment_by_atlases(HEAD, ATLASES, fusion=fusion, settings=FAST)
    alone = [
        dice(transfer_labels(one.labels, GRID, found.transform))
        for one, found in zip(ATLASES, together.registrations, strict=True)
    ]
    assert dice(together.labels) > np.mean(alone)
    share = together.agreement.tensor
    assert 0.3 < float(share.min()) < 1
    assert bool((share[0, 0] == 1).all()) or float(share[0, 0].mean()) > 0.99  # far from the ball all agree


def test_an_atlas_counts_where_it_looks_like_the_image():
    """Two atlases are right in one place each; in a majority the third, which is wrong everywhere, decides."""
    noise = Image(torch.randn(HEAD.tensor.shape, generator=torch.Generator().manual_seed(0)), GRID, "noise")
    still = RegistrationSettings(linear="none", deformable=None)
    wrong = Labels(torch.zeros_like(ball().tensor), GRID, ball().structures)
    atlases = [Atlas(noise, wrong), Atlas(HEAD, ball()), Atlas(noise, wrong)]
    assert dice(segment_by_atlases(HEAD, atlases, fusion="majority", settings=still).labels) == 0
    assert dice(segment_by_atlases(HEAD, atlases, fusion="local", settings=still).labels) > 0.99


def test_votes_are_counted_by_their_weight_and_ties_go_to_the_first():
    votes = [torch.tensor([[[1, 2, 5]]]), torch.tensor([[[2, 2, 6]]]), torch.tensor([[[2, 1, 7]]])]
    equal = [torch.ones(1, 1, 3)] * 3
    labels, share = fuse_votes(votes, equal)
    assert labels.tolist() == [[[2, 2, 5]]]
    torch.testing.assert_close(share, torch.tensor([[[2 / 3, 2 / 3, 1 / 3]]]))
    labels, _ = fuse_votes(votes, [torch.full((1, 1, 3), weight) for weight in (4.0, 1.0, 1.0)])
    assert torch.equal(labels, votes[0])


def test_atlases_that_name_a_value_differently_are_refused():
    other = Atlas(ATLASES[0].image, ball(name="cube"))
    with pytest.raises(InputError, match="'ball' in one atlas and 'cube' in another"):
        segment_by_atlases(HEAD, [ATLASES[0], other])
    with pytest.raises(InputError, match="no atlas"):
        segment_by_atlases(HEAD, [])


def test_it_can_be_cancelled():
    with pytest.raises(Cancelled):
        segment_by_atlases(HEAD, ATLASES, settings=FAST, progress=Progress(should_cancel=lambda: True))


def test_the_command_reads_atlases_in_pairs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(HEAD, tmp_path / "head.nii.gz")
    for number, one in enumerate(ATLASES[:2]):
        write_image(one.image, tmp_path / f"image{number}.nii.gz")
        write_labels(one.labels, tmp_path / f"labels{number}.seg.nrrd")
    (tmp_path / "fast.json").write_text(FAST.model_dump_json())
    pairs = [("-a", f"image{n}.nii.gz", "-l", f"labels{n}.seg.nrrd") for n in (0, 1)]
    command = ("atlas", "head.nii.gz", "--settings", "fast.json", "-o", "out.seg.nrrd")
    code, out, err = run(*command, *pairs[0], *pairs[1], "--agreement", "share.nii.gz")
    assert (code, out.strip()) == (0, "written: out.seg.nrrd"), err
    assert dice(read_labels(tmp_path / "out.seg.nrrd")) > 0.9
    assert float(read_image(tmp_path / "share.nii.gz").tensor.max()) == 1.0
    code, _, err = run(*command, *pairs[0], "-a", "image1.nii.gz", "--overwrite")
    assert code == 3
    assert "2 atlases and 1 label maps" in err
    code, _, err = run(*command, *pairs[0], "--fusion", "best", "--overwrite")
    assert code == 3
    assert "local or majority" in err
