"""The tasks joint and template through a real child, against the same work in this process."""

from __future__ import annotations

import numpy as np
import pytest
from test_workflow_joint import FAST, FIXED, MOVING
from test_workflow_template import DRAWN, STUDIES
from test_workflow_template import FAST as QUICK

from MedSegRegLib.errors import InvalidSetting
from MedSegRegLib.jobs import Supervisor
from MedSegRegLib.workflows.joint import refine_jointly
from MedSegRegLib.workflows.template import build_template

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        with Supervisor(folder=tmp_path_factory.mktemp("jobs")) as supervisor:
            yield supervisor


def test_joint_gives_the_same_as_in_this_process(jobs):
    arguments = {"settings": FAST.model_dump(mode="json"), "rounds": 1, "device": "cpu"}
    values = {
        "fixed": FIXED.image,
        "moving": MOVING.image,
        "fixed_labels": FIXED.labels,
        "moving_labels": MOVING.labels,
    }
    result, here = (
        jobs.wait(jobs.submit("joint", arguments, values)),
        refine_jointly(FIXED, MOVING, settings=FAST, rounds=1),
    )
    assert (result.data["sentence"], result.data["kept"]) == (here.sentence, here.kept)
    for name, study in (("fixed", here.fixed), ("moving", here.moving)):
        np.testing.assert_array_equal(result.labels(f"{name}_fused").numpy(), study.fused.numpy())
        np.testing.assert_array_equal(result.image(f"{name}_disagreement").numpy(), study.disagreement.numpy())
        assert result.data[f"{name}_structures"]["structure"] == [row.name for row in study.structures]
    points = np.random.default_rng(0).uniform(-15, 15, (20, 3))
    np.testing.assert_allclose(result.transform("transform").map_points(points), here.transform.map_points(points))


def test_joint_needs_labels_of_both_or_a_model(jobs):
    values = {"fixed": FIXED.image, "moving": MOVING.image, "fixed_labels": FIXED.labels}
    with pytest.raises(InvalidSetting, match="1 label maps and no model"):
        jobs.wait(jobs.submit("joint", {}, values))


def test_template_gives_the_same_as_in_this_process(jobs):
    arguments = {"settings": QUICK.model_dump(mode="json"), "rounds": 1, "device": "cpu"}
    values = {f"study{number}": study for number, study in enumerate(STUDIES)}
    values |= {f"labels{number}": drawn for number, drawn in enumerate(DRAWN)}
    result = jobs.wait(jobs.submit("template", arguments, values))
    here = build_template(STUDIES, DRAWN, settings=QUICK, rounds=1)
    np.testing.assert_array_equal(result.image("template").numpy(), here.image.numpy())
    np.testing.assert_array_equal(result.labels("labels").numpy(), here.labels.numpy())
    np.testing.assert_array_equal(result.image("probabilities").numpy(), here.probabilities.numpy())
    points = np.random.default_rng(0).uniform(-15, 15, (20, 3))
    np.testing.assert_allclose(result.transform("inverse1").map_points(points), here.inverses[1].map_points(points))
