"""Pooling, batch normalisation and task losses against brute force and torch's own."""

import numpy as np
import pytest
import torch
from torch import nn

from affectcore.data.schema import Task
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import AttentionPooling, hide, last_observed, last_step, masked_mean, step_at


def sequences():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 2, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    x[~mask] = float("nan")
    return x, mask


def test_masked_mean_is_the_mean_of_observed_steps():
    x, mask = sequences()
    mean = masked_mean(x, mask)
    for i in (0, 1):
        torch.testing.assert_close(mean[i], x[i][mask[i]].mean(0), rtol=0, atol=1e-15)
    assert torch.equal(mean[2], torch.zeros(2, dtype=torch.float64))


def test_positions_of_last_steps():
    x, mask = sequences()
    assert last_observed(mask).tolist() == [2, 3, 0]
    x = hide(x, mask)
    assert torch.equal(last_step(x, torch.tensor([3, 4, 1])), x[torch.arange(3), [2, 3, 0]])
    assert torch.equal(step_at(x, torch.tensor([0, 1, 4])), x[torch.arange(3), [0, 1, 4]])


def test_attention_pooling_weighs_observed_steps_only():
    x, mask = sequences()
    pool = AttentionPooling(2, 3).double()
    out = pool(x, mask)
    for i in (0, 1):
        seen = x[i][mask[i]]
        weights = pool.score(torch.tanh(pool.project(seen))).softmax(0)
        torch.testing.assert_close(out[i], (weights * seen).sum(0), rtol=0, atol=1e-14)
    assert torch.equal(out[2], torch.zeros(2, dtype=torch.float64))


def test_batch_norm_equals_torch_in_training_and_evaluation():
    torch.manual_seed(0)
    mine, native = BatchNorm(4).double(), nn.BatchNorm1d(4).double()
    for _ in range(3):
        x = torch.randn(6, 4, dtype=torch.float64) * 2 + 1
        y, statistics = mine(x, True)
        torch.testing.assert_close(y, native(x), rtol=0, atol=1e-14)
        mine.remember(statistics)
    torch.testing.assert_close(mine.mean, native.running_mean, rtol=0, atol=1e-15)
    torch.testing.assert_close(mine.variance, native.running_var, rtol=0, atol=1e-15)
    torch.testing.assert_close(mine(x, False)[0], native.eval()(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_task_loss_is_the_mean_or_the_weighted_mean(kind):
    rng = np.random.default_rng(0)
    task = Task(kind, ("a",) if kind == "regression" else ("a", "b", "c"))
    raw = torch.tensor(rng.normal(size=(6, task.outputs)))
    target = {
        "regression": torch.tensor(rng.normal(size=6)),
        "single_label": torch.tensor([0, 1, 2, 0, 1, 2]),
        "multi_label": torch.tensor(rng.integers(0, 2, (6, 3)).astype(float)),
    }[kind]
    p = as_prediction(task, raw)
    if kind == "regression":
        each = (raw[:, 0] - target).abs()
    elif kind == "single_label":
        each = -raw.softmax(1).log()[torch.arange(6), target]
    else:
        q = raw.sigmoid()
        each = -(target * q.log() + (1 - target) * (1 - q).log()).mean(1)
    torch.testing.assert_close(task_loss(task, p, target), each.mean(), rtol=1e-12, atol=0)
    weight = torch.tensor([1.0, 0, 2, 0, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(task_loss(task, p, target, weight), (each * weight).sum() / 4, rtol=1e-12, atol=0)
    assert task_loss(task, p, target, torch.zeros(6, dtype=torch.float64)) == 0
