"""Recipes: validation, and schedules against torch's own schedulers."""

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from affectcore.errors import ConfigError
from affectcore.training.recipe import PRESETS, Group, Recipe, StageRecipe, preset
from affectcore.training.selection import RULES

BAD = {
    "optimizer": "rmsprop", "lr": 0.0, "weight_decay": -1.0, "momentum": 1.0, "betas": (0.9, 1.0), "eps": 0.0,
    "schedule": "cyclic", "warmup": 1.0, "warmup_from": 2.0, "final": -0.1, "decay_factor": 0.0, "decay_epochs": 0,
    "epochs": 0, "patience": 0, "batch_size": 2.5, "clip_norm": 0.0, "clip_value": float("nan"),
    "clip_prefixes": (("head", -1.0),), "ema_decay": 1.0, "clip_each": 0.0, "accumulate": 0, "thresholds": (0.2, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("field", BAD)
def test_an_illegal_value_is_named(field):
    with pytest.raises(ConfigError, match=f"recipe: {field} = ") as e:
        Recipe(**{field: BAD[field]})
    assert "\n" not in str(e.value)


def test_unknown_names_are_named():
    with pytest.raises(ConfigError, match="recipe 'huge' is unknown: use small"):
        preset("huge")
    with pytest.raises(ConfigError, match="field 'learning_rate' is unknown"):
        preset("small", learning_rate=1.0)
    with pytest.raises(ConfigError, match="group 'text'"):
        Recipe(groups=(Group("text", lr=-1.0),))


def test_stages_are_checked_and_may_come_from_json():
    for bad in ({"lr": 0.0}, {"clip_value": -1.0}, {"optimizer": "lion"}, {"weight_decay": -1.0}):
        with pytest.raises(ConfigError, match=r"recipe: stage 'gan' needs a known optimizer, lr > 0"):
            Recipe(stages=(StageRecipe("gan", **bad),))
    with pytest.raises(ConfigError, match="stages names one twice: gan, gan"):
        Recipe(stages=(StageRecipe("gan"), StageRecipe("gan")))
    recipe = preset(
        "small", stages=[{"name": "gan", "lr": 0.5, "clip_norm": 0}], groups=[{"prefix": "head", "lr": 0.1}]
    )
    assert recipe.stages == (StageRecipe("gan", lr=0.5, clip_norm=0),)
    assert recipe.groups == (Group("head", lr=0.1),)
    gan = recipe.of_stages("gan")
    assert (gan.lr, gan.clip_norm, gan.weight_decay) == (0.5, None, recipe.weight_decay)
    assert recipe.of_stages("other") is recipe


def test_presets_change_by_name_and_know_their_rule():
    assert preset("lddu", epochs=3).epochs == 3
    assert all(r.selection in RULES and not RULES[r.selection].leaky for r in PRESETS.values())


def torch_factors(scheduler, steps, values=None):
    out = []
    for i in range(steps):
        out.append(scheduler.optimizer.param_groups[0]["lr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps without optimiser steps
            scheduler.step(*([] if values is None else [values[i]]))
    return out


def sgd():
    return torch.optim.SGD([torch.zeros(1)], lr=1.0)


def test_cosine_after_warmup_is_torchs():
    recipe = Recipe(schedule="cosine", final=0.1)
    want = torch_factors(lr_scheduler.CosineAnnealingLR(sgd(), 19, eta_min=0.1), 20)
    assert [recipe.factor(i, 20, 0) for i in range(20)] == pytest.approx(want)
    warm = recipe.but(warmup=0.2, warmup_from=0.5)
    got = [warm.factor(i, 25, 0) for i in range(25)]
    assert got[:5] == pytest.approx([0.6, 0.7, 0.8, 0.9, 1.0])
    assert got[5:] == pytest.approx(want)


def test_cosine_uncut_counts_from_the_first_step():
    recipe = Recipe(schedule="cosine_uncut", warmup=0.1)
    assert recipe.factor(4, 100, 0) == pytest.approx(0.5)
    assert recipe.factor(50, 100, 0) == pytest.approx(0.5)
    assert recipe.factor(10, 100, 0) == pytest.approx((1 + math.cos(math.pi * 0.1)) / 2)


def test_linear_is_torchs():
    want = torch_factors(lr_scheduler.LinearLR(sgd(), 1.0, 0.2, 9), 10)
    recipe = Recipe(schedule="linear", final=0.2)
    assert [recipe.factor(i, 10, 0) for i in range(10)] == pytest.approx(want)


def test_step_is_torchs():
    want = torch_factors(lr_scheduler.StepLR(sgd(), 3, 0.5), 10)
    assert [Recipe(schedule="step", decay_epochs=3).factor(0, 1, e) for e in range(10)] == pytest.approx(want)


@pytest.mark.parametrize("higher", [False, True])
def test_plateau_is_torchs(higher):
    torch.manual_seed(0)
    values = (torch.rand(40) + torch.linspace(0, 0.3, 40)).tolist()
    mode = "max" if higher else "min"
    scheduler = lr_scheduler.ReduceLROnPlateau(sgd(), mode, 0.5, patience=3, threshold=0)
    want = torch_factors(scheduler, 40, values)
    recipe = Recipe(schedule="plateau", decay_epochs=3)
    assert [recipe.factor(0, 1, e, values[:e], higher) for e in range(40)] == pytest.approx(want)
    assert want[-1] < 1
