"""Modality dropout hides in training alone, passes everything else to its backbone, and equals the protocol."""

import pytest
import torch
from small_data import make

from affectcore.data.missing import missing_rate
from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training import loop
from affectcore.training.recipe import Recipe

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
NOW = Progress(0, 0, 1, 1)


def build(data, preset="clean", **settings):
    torch.manual_seed(0)
    return registry.build("modality_dropout", Shape.of(data), preset, **settings)


def pool_for(model, batch, step=0):
    tape = Tape(torch.zeros(()))
    model(batch, tape)
    return Pool(fill([0], tape.words, "cpu", "test", step)[0], torch.zeros(()))


def test_evaluation_is_the_backbone():
    data = make("unaligned")
    model, batch = build(data), data.split("train")
    output = model(batch, SILENT)
    assert torch.equal(output.prediction, model.backbone(batch, SILENT).prediction)
    assert output.batch is batch


def test_training_hides_at_the_rate_and_the_losses_see_the_same_batch():
    data = make("aligned", n=4000)
    model, batch = build(data, rate=0.4), data.split("train")
    output = model(batch, pool_for(model, batch))
    assert missing_rate(output.batch) == pytest.approx(0.4 - 0.4**3 / 3, abs=0.02)
    for i, m in enumerate(batch.modalities):
        assert torch.equal(output.batch.observed[m].any(-1), output.kept[:, i])
        assert not output.batch.features[m][~output.batch.observed[m]].any()
        assert not (output.batch.observed[m] & ~batch.observed[m]).any()
    terms, _ = model.losses(output, batch, NOW)
    expected, _ = model.backbone.losses(output.inner, output.batch, NOW)
    assert {k: v.item() for k, v in terms.items()} == {k: v.item() for k, v in expected.items()}
    given = []
    model.backbone.losses = lambda inner, b, progress: given.append((inner, b)) or ({}, {})
    model.losses(output, batch, NOW)
    assert given == [(output.inner, output.batch)]


def test_nan_under_a_hidden_modality_cannot_matter_in_training():
    data = make("aligned")
    model, batch = build(data, rate=1.0), data.split("train")
    pool = pool_for(model, batch)
    shown = model(batch, pool)
    nan, seen = torch.tensor(torch.nan), shown.batch.observed
    again = type(batch)(
        {m: torch.where(o.unsqueeze(-1), batch.features[m], nan) for m, o in seen.items()},
        batch.lengths, batch.observed, batch.target, batch.index, batch.group,
    )  # fmt: skip
    assert torch.equal(model(again, pool_for(model, batch)).prediction, shown.prediction)


def test_zero_fill_draws_nothing():
    data = make("aligned")
    model, batch = build(data, "zero_fill"), data.split("train")
    torch.manual_seed(0)
    plain = registry.build("mlp", Shape.of(data))
    tapes = [Tape(torch.zeros(())) for _ in range(2)]
    model(batch, tapes[0])
    plain(batch, tapes[1])
    assert tapes[0].words == tapes[1].words


def test_stages_weights_and_settings_are_the_backbones():
    data = make("aligned")
    model = build(data, backbone="late_fusion", backbone_settings=(("hidden", 5), ("fused", 0.25)))
    assert model.backbone.config.hidden == 5
    assert model.weights(NOW)["task"] == 0.25
    batch = data.split("train")
    stage = model.stages()[0]
    tape = Tape(torch.zeros(()))
    model.stage_losses(stage, batch, tape, NOW)
    pool = Pool(fill([0], tape.words, "cpu", "test")[0], torch.zeros(()))
    terms, _ = model.stage_losses(stage, batch, pool, NOW)
    pool.close()
    assert set(terms) == {"task", "task_text", "task_audio", "task_vision"}


def test_a_model_with_batch_statistics_keeps_them():
    data = make("aligned", n=40)
    model = build(data, backbone="lmf", backbone_preset="author")
    batch = data.split("train")
    output = model(batch, pool_for(model, batch))
    _, memo = model.losses(output, batch, NOW)
    before = {k: v.clone() for k, v in model.named_buffers()}
    model.remember(memo)
    assert memo
    assert any(not torch.equal(before[k], v) for k, v in model.named_buffers())


def test_it_helps_where_a_modality_is_missing_at_test():
    rng = torch.Generator().manual_seed(0)
    y = torch.rand(600, generator=rng) * 4 - 2
    x = {m: (y[:, None, None] + s * torch.randn(600, 1, 4, generator=rng)) for m, s in (("a", 0.3), ("b", 1.0))}
    data = AffectData(
        "two",
        Task("regression", ("y",)),
        x,
        y,
        {"train": range(300), "valid": range(300, 400), "test": range(400, 600)},
    )
    test = data.split("test", Selection("fixed"))
    test = test.with_observed({"a": torch.zeros_like(test.observed["a"])})
    recipe = Recipe(epochs=20, batch_size=30, lr=5e-3, selection="valid_last", patience=None)
    errors, settings = {}, (("input_dropout", 0.0), ("dropout", 0.0))
    for rate in (0.0, 0.5):

        def make_model(rate=rate):
            return registry.build("modality_dropout", Shape.of(data), rate=rate, backbone_settings=settings)

        (run,) = loop.fit(make_model, data, recipe, [0])
        errors[rate] = float((torch.as_tensor(loop.predict(make_model, run, test)) - test.target).abs().mean())
    assert errors[0.5] < 0.8 * errors[0.0]


def test_it_refuses_what_cannot_be_trained():
    data = make("aligned")
    with pytest.raises(ConfigError, match=r"rate = 1.2 must lie in \[0, 1\]"):
        build(data, rate=1.2)
    with pytest.raises(ConfigError, match="backbone 'linear' is not trained by gradients"):
        build(data, backbone="linear")
