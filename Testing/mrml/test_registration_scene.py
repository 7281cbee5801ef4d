"""The scene that ``medsegreg register -o result.mrb`` leaves for Slicer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import slicer

from MedSegRegLib.cli.registration_outputs import RegistrationOutputs
from MedSegRegLib.mrml.headless import load_scene
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.transform import Affine, Transform


def test_the_moving_volume_lies_under_the_transform_with_the_inverse_beside_it(an_image, tmp_path):
    shift = np.eye(4)
    shift[:3, 3] = (4.0, -3.0, 2.0)
    settings = RegistrationSettings(linear="none", deformable=None)
    fixed, moving = replace(an_image, name="fixed"), replace(an_image, name="moving")
    result = register(fixed, moving, settings, initial=Transform((Affine(shift),)))
    outputs = RegistrationOutputs(tmp_path / "result.mrb")
    assert outputs.write(result, fixed, moving, {}) == [tmp_path / "result.mrb"]
    scene = load_scene(tmp_path / "result.mrb")
    parent = scene.GetFirstNodeByName("moving").GetParentTransformNode()
    to_parent = slicer.util.arrayFromTransformMatrix(parent)
    np.testing.assert_allclose(np.linalg.inv(to_parent), shift, atol=1e-6)
    assert scene.GetFirstNodeByName("fixed").GetParentTransformNode() is None
    inverse = slicer.util.arrayFromTransformMatrix(scene.GetFirstNodeByName("fixed to moving (inverse)"))
    np.testing.assert_allclose(inverse, shift, atol=1e-6)
