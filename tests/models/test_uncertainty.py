"""Ensembles and drop-out left on: against the mean of separate models, and against frequencies."""

import numpy as np
import pytest
import torch
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.uncertainty import Dropping, disagreement, mean_prediction
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training import loop
from affectcore.training.ensemble import predict_ensemble
from affectcore.training.recipe import Recipe

KINDS = ("regression", "single_label", "multi_label")
ONE = torch.zeros((), dtype=torch.float64)


def evaluate(model, batch, seed=0):
    tape = Tape(ONE, training=False)
    model(batch, tape)
    pool = Pool(fill([seed], tape.words, "cpu", "evaluate")[0], ONE, training=False)
    with torch.no_grad():
        out = model(batch, pool)
    pool.close()
    return out


def build_of(name, data, **settings):
    def build():
        return registry.build(name, Shape.of(data), **settings).double()

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_is_the_mean_of_its_members(kind):
    data = make("pooled", kind)
    torch.manual_seed(0)
    model = build_of("ensemble", data, members=3)()
    batch = data.split("train").to("cpu", torch.float64)
    output = evaluate(model, batch)
    each = [evaluate(m, batch).prediction for m in model.members]
    scores = np.mean([loop.scores(data.task, x) for x in each], 0)
    np.testing.assert_allclose(loop.scores(data.task, output.prediction), scores, atol=1e-14)
    assert output.each.shape == (3, *each[0].shape)
    assert (each[0] - each[1]).abs().max() > 1e-3
    terms, _ = model.losses(output, batch, Progress(0, 0, 1, 1))
    want = [m.losses(o, batch, Progress(0, 0, 1, 1))[0]["task"] for m, o in zip(model.members, output.inner)]
    torch.testing.assert_close(terms["task"], sum(want) / 3)


def test_members_are_trained_as_if_alone():
    data = make("pooled", "single_label")
    quiet = {"backbone_settings": {"dropout": 0.0, "input_dropout": 0.0}}
    recipe = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last", clip_norm=None, eps=1e-30)
    (got,) = loop.fit(build_of("ensemble", data, members=2, **quiet), data, recipe, [0])
    start = loop.initial(build_of("ensemble", data, members=2, **quiet), 0)

    def alone():
        model = build_of("mlp", data, **quiet["backbone_settings"])()
        model.load_state_dict(start.others[0].state_dict())
        return model

    (one,) = loop.fit(alone, data, recipe, [0])
    for k, v in one.state.items():
        torch.testing.assert_close(got.state[f"others.0.{k}"], v, rtol=0, atol=1e-9)


def test_members_keep_statistics_and_stages_of_their_own():
    data = make("unaligned")
    small = {"text_hidden": 4, "text_out": 3, "audio_hidden": 4, "vision_hidden": 3, "batch_norm": True}
    build = build_of("ensemble", data, members=2, backbone="tfn", backbone_settings=small)
    recipe = Recipe(epochs=1, batch_size=6, patience=None, selection="valid_last")
    (got,) = loop.fit(build, data, recipe, [0])
    names = [k for k in got.state if "running" in k or "norm" in k]
    pairs = [(k, k.replace("backbone.", "others.0.")) for k in names if k.startswith("backbone.")]
    assert pairs
    start = build().state_dict()
    for own, other in pairs:
        if start[own].is_floating_point():
            assert not torch.equal(got.state[own], start[own]) or not torch.equal(got.state[other], start[other])


@pytest.mark.parametrize("kind", KINDS)
def test_drop_out_left_on_is_the_mean_of_passes(kind):
    data = make("pooled", kind)
    torch.manual_seed(0)
    model = build_of("mc_dropout", data, draws=7)()
    batch = data.split("train").to("cpu", torch.float64)
    output = evaluate(model, batch)
    assert output.each.std(0).min() > 1e-4
    scores = np.mean([loop.scores(data.task, x) for x in output.each], 0)
    np.testing.assert_allclose(loop.scores(data.task, output.prediction), scores, atol=1e-14)
    assert not torch.equal(evaluate(model, batch, seed=1).prediction, output.prediction)
    none = build_of("mc_dropout", data, draws=0)()
    none.load_state_dict(model.state_dict())
    torch.testing.assert_close(evaluate(none, batch).prediction, evaluate(model.backbone, batch).prediction)


def test_dropping_drops_at_the_rate_and_keeps_the_mean():
    x = torch.ones(200, 200, dtype=torch.float64)
    pool = Pool(fill([0], 2 * x.numel(), "cpu", "drop")[0], ONE, training=False)
    y = Dropping(pool).dropout(x, 0.3)
    assert set(y.unique().tolist()) == {0.0, 1 / 0.7}
    assert float((y == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(Dropping(pool).dropout(x, 0.0), x)
    assert not Dropping(pool).dropout(x, 1.0).any()
    assert not Dropping(pool).training


def test_drop_out_left_on_trains_and_predicts_stacked_as_alone():
    data = make("pooled", "single_label")
    recipe = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last")
    build = build_of("mc_dropout", data, draws=3)
    alone, stacked = (loop.fit(build, data, recipe, [0, 1], stacked=s) for s in (False, True))
    for a, b in zip(alone, stacked):
        assert a.history[-1].valid["loss"] == pytest.approx(b.history[-1].valid["loss"], abs=1e-9)
    assert alone[0].history[-1].valid["loss"] != pytest.approx(alone[1].history[-1].valid["loss"], abs=1e-4)


def test_disagreement_is_mutual_information_and_variance():
    task = {k: make("pooled", k).task for k in KINDS}
    same = torch.randn(1, 5, 3, dtype=torch.float64).expand(4, 5, 3)
    assert disagreement(task["single_label"], same).abs().max() < 1e-12
    sure = torch.tensor([[[50.0, 0, 0]], [[0, 50.0, 0]]], dtype=torch.float64)
    assert float(disagreement(task["single_label"], sure)) == pytest.approx(np.log(2))
    yes_no = torch.tensor([[[50.0, -50.0]], [[-50.0, -50.0]]], dtype=torch.float64)
    assert float(disagreement(task["multi_label"], yes_no)) == pytest.approx(np.log(2))
    assert disagreement(task["regression"], torch.tensor([[1.0, 2.0], [3.0, 2.0]])).tolist() == [1.0, 0.0]
    assert torch.isfinite(mean_prediction(task["multi_label"], torch.full((2, 1, 1), 500.0))).all()


def test_fits_of_several_seeds_are_an_ensemble():
    data = make("pooled", "single_label")
    build = build_of("mlp", data)
    fits = loop.fit(build, data, Recipe(epochs=1, patience=None), [0, 1, 2])
    valid = data.split("valid")
    mean, spread = predict_ensemble(build, fits, valid)
    each = np.stack([loop.predict(build, f, valid) for f in fits])
    np.testing.assert_allclose(mean, each.mean(0))
    np.testing.assert_allclose(spread, each.std(0))
    with pytest.raises(ConfigError, match="needs at least one fit"):
        predict_ensemble(build, [], valid)


def test_counts_of_members_and_draws_are_checked():
    shape = Shape.of(make("pooled"))
    with pytest.raises(ConfigError, match="ensemble: members = 0 must be"):
        registry.build("ensemble", shape, members=0)
    with pytest.raises(ConfigError, match="mc_dropout: draws = -1 must be"):
        registry.build("mc_dropout", shape, draws=-1)
