"""One step of a training: rates, optimizers, precision, early stop; torch's own schedules are the second opinion."""

from __future__ import annotations

import math

import pytest
import torch

from MedSegRegLib.errors import InvalidSetting
from MedSegRegLib.files.architectures import MonaiArchitecture
from MedSegRegLib.train.batches import AugmentedBatches, Batch
from MedSegRegLib.train.checkpoint import History, Training, load_checkpoint, save_checkpoint
from MedSegRegLib.train.loop import begin, is_over, train_network
from MedSegRegLib.train.optimise import learning_rate, precision, take_step
from small_training import ball_example, small_settings, small_spec

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def a_batch() -> Batch:
    return next(AugmentedBatches([ball_example(n) for n in range(2)], small_settings()).epoch(0, 0, CPU))


def steps(batch: Batch, count: int = 3, scaler: torch.amp.GradScaler | None = None, **changes) -> Training:
    settings = small_settings(**changes)
    training = begin(settings, CPU)
    training.scaler = scaler or training.scaler
    for _ in range(count):
        take_step(training, training.network, batch, settings)
    return training


def weights(training: Training) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(training.network.parameters()).detach()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cosine", lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)),
        ("polynomial", lambda optimizer: torch.optim.lr_scheduler.PolynomialLR(optimizer, 10, 0.9)),
        ("constant", lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
    ],
)
def test_the_rate_falls_as_torchs_own_schedules_do(name, make):
    settings = small_settings(epochs=10, schedule=name, warm_up_epochs=0, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = make(optimizer)
    for epoch in range(10):
        assert learning_rate(settings, epoch) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_the_rate_rises_over_the_warm_up():
    settings = small_settings(epochs=1000, warm_up_epochs=4, learning_rate=1, schedule="constant")
    rates = [learning_rate(settings, epoch / 2) for epoch in range(12)]
    assert rates[:8] == sorted(set(rates[:8]))
    assert rates[0] == pytest.approx(0.05)
    assert rates[8:] == [1.0] * 4


def test_the_optimizer_is_the_one_that_was_asked_for(a_batch):
    assert isinstance(begin(small_settings(), CPU).optimizer, torch.optim.AdamW)
    training = steps(a_batch, optimizer="sgd")
    (group,) = training.optimizer.param_groups
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert (group["nesterov"], group["momentum"]) == (True, 0.99)
    assert not torch.equal(weights(training), weights(steps(a_batch)))


def test_a_training_with_momentum_goes_on_exactly(a_batch, tmp_path):
    whole, half = steps(a_batch, 4, optimizer="sgd"), steps(a_batch, 2, optimizer="sgd")
    save_checkpoint(tmp_path / "c.safetensors", half)
    settings = small_settings(optimizer="sgd")
    again = begin(settings, CPU)
    load_checkpoint(tmp_path / "c.safetensors", again)
    for _ in range(2):
        take_step(again, again.network, a_batch, settings)
    torch.testing.assert_close(weights(again), weights(whole), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("first", "second"), [("adamw", "sgd"), ("sgd", "adamw")])
def test_a_checkpoint_of_another_optimizer_is_refused(first, second, a_batch, tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", steps(a_batch, 1, optimizer=first))
    with pytest.raises(InvalidSetting, match="another optimizer"):
        load_checkpoint(tmp_path / "c.safetensors", begin(small_settings(optimizer=second), CPU))


@pytest.mark.parametrize("name", ["auto", "float16"])
def test_a_cpu_computes_in_half_precision_only_where_bfloat16_is_asked_for(name, a_batch):
    assert precision(small_settings(precision=name), CPU) == torch.float32
    assert torch.equal(weights(steps(a_batch, precision=name)), weights(steps(a_batch, precision="float32")))
    assert not begin(small_settings(precision=name), CPU).scaler.is_enabled()


def test_bfloat16_on_a_cpu_gives_nearly_the_same_steps_without_a_scale(a_batch):
    assert precision(small_settings(precision="bfloat16"), CPU) == torch.bfloat16
    assert not begin(small_settings(precision="bfloat16"), CPU).scaler.is_enabled()
    half, full = (weights(steps(a_batch, precision=name)) for name in ("bfloat16", "float32"))
    assert not torch.equal(half, full)
    assert float((half - full).abs().mean()) < 0.1 * float(full.abs().mean())


def test_a_scaled_loss_gives_the_same_steps(a_batch):
    scaled = steps(a_batch, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    torch.testing.assert_close(weights(scaled), weights(steps(a_batch)), atol=1e-5, rtol=1e-4)
    assert scaled.history.skipped_steps == 0


@pytest.mark.parametrize(("scale", "skipped"), [(1024.0, 0), (1.0, 1)])
def test_a_gradient_beyond_the_largest_number_halves_the_scale_and_is_no_fault_until_that_is_one(
    scale, skipped, a_batch
):
    settings = small_settings()
    training = begin(settings, CPU)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    next(training.network.parameters()).register_hook(lambda slope: slope * math.inf)
    take_step(training, training.network, a_batch, settings)
    assert training.scaler.get_scale() == scale / 2
    assert training.history.skipped_steps == skipped
    assert training.history.step_losses == []
    assert torch.equal(weights(training), weights(begin(settings, CPU)))


def test_a_loss_that_is_not_finite_counts_also_where_it_is_scaled(a_batch):
    images, labels = a_batch
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    training = steps((torch.full_like(images, math.nan), labels), 2, scaler=scaler)
    assert training.history.skipped_steps == 2
    assert torch.isfinite(weights(training)).all()


def test_the_state_of_the_scale_comes_back(a_batch, tmp_path):
    training = steps(a_batch, 3, scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
    save_checkpoint(tmp_path / "c.safetensors", training)
    again = begin(small_settings(), CPU)
    again.scaler = torch.amp.GradScaler("cpu")
    load_checkpoint(tmp_path / "c.safetensors", again)
    assert again.scaler.state_dict() == training.scaler.state_dict()
    assert again.scaler.get_scale() == 64.0


def test_without_deep_supervision_only_the_full_resolution_learns(a_batch):
    deep, flat = (steps(a_batch, 1, deep_supervision=chosen, model=three_stages()) for chosen in (True, False))
    start = begin(small_settings(model=three_stages()), CPU).network.decoder.seg_layers
    coarse, fine = range(2)
    assert torch.equal(flat.network.decoder.seg_layers[coarse].weight, start[coarse].weight)
    assert not torch.equal(flat.network.decoder.seg_layers[fine].weight, start[fine].weight)
    assert not torch.equal(deep.network.decoder.seg_layers[coarse].weight, start[coarse].weight)


def three_stages():
    return small_spec(architecture={"name": "plain_conv_unet", "features": (4, 8, 8), "blocks_per_stage": 1})


def test_a_network_of_one_resolution_is_trained_too(a_batch):
    model = small_spec(
        architecture=MonaiArchitecture(
            name="monai", network="UNet", settings={"channels": [4, 8], "strides": [2]}, multiple=2
        )
    )
    assert len(steps(a_batch, 1, model=model).history.step_losses) == 1


def history(*scores: float) -> History:
    return History(losses=[1.0] * len(scores), validation_dice=[[score] for score in scores])


@pytest.mark.parametrize(
    ("scores", "patience", "over"),
    [
        ((), 1, False),
        ((0.5,), 1, False),
        ((0.5, 0.4), 1, True),
        ((0.5, 0.4, 0.3), 3, False),
        ((0.5, 0.4, 0.6, 0.5), 2, False),
        ((0.5, 0.4, 0.3), 0, False),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 2, True),
    ],
)
def test_a_training_ends_when_validation_gets_no_better(scores, patience, over):
    assert is_over(history(*scores), small_settings(epochs=5, patience=patience)) == over


def test_an_early_end_stays_one(tmp_path):
    settings = small_settings(epochs=50, learning_rate=1e-9, patience=2)
    source = AugmentedBatches([ball_example(0), ball_example(1)], settings)
    training = train_network(source, [ball_example(2)], settings, tmp_path)
    assert 3 <= len(training.history.losses) < 10
    again = train_network(source, [ball_example(2)], settings, tmp_path)
    assert again.history == training.history


def test_an_epoch_has_as_many_steps_as_asked_for_and_shows_all_examples_in_turn():
    examples = [ball_example(n) for n in range(3)]
    source = AugmentedBatches(examples, small_settings(batch_size=2, steps_per_epoch=6))
    assert source.steps == len(list(source.epoch(0, 0, CPU))) == 6
    order = source._order(0)
    assert [sorted(order[n : n + 3]) for n in range(0, 12, 3)] == [[0, 1, 2]] * 4
    assert AugmentedBatches(examples, small_settings(batch_size=2)).steps == 2


@needs_cuda
@pytest.mark.parametrize("name", ["auto", "bfloat16", "float16"])
def test_half_precision_learns_on_a_gpu_and_goes_on(name, tmp_path):
    examples = [ball_example(n) for n in range(4)]
    settings = small_settings(epochs=6, precision=name, steps_per_epoch=8)
    source = AugmentedBatches(examples, settings)
    first = train_network(source, examples[:1], settings, tmp_path, device="cuda", stop_after_minutes=0)
    assert first.scaler.is_enabled() == (name == "float16")
    done = train_network(source, examples[:1], settings, tmp_path, device="cuda").history
    assert done.losses[-1] < done.losses[0]
    assert done.skipped_steps == 0
