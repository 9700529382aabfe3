"""MMIN: parameters, losses by hand, the teacher's two phases, what is hidden and what is a target."""

import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.nn.pooling import masked_mean
from affectcore.training import loop
from affectcore.training.recipe import Recipe

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
TEACHING, LEARNING = Progress(0, 0, 40, 4), Progress(1, 10, 40, 4)


def build(data, preset="clean", **settings):
    torch.manual_seed(0)
    small = traits("mmin").small | {"teacher_share": 0.25, "dropout": 0.0}
    return registry.build("mmin", Shape.of(data), preset, **(small | settings))


def train_pass(model, batch, step=0):
    tape = Tape(torch.zeros(()))
    model(batch, tape)
    return model(batch, Pool(fill([0], tape.words, "cpu", "test", step)[0], torch.zeros(())))


def test_parameters_are_the_ports_and_its_teachers_head():
    # counted on FcClassifier and ResidualAE of zeroQiaoba/GCNet, commit 8cce4a0: the model, the teacher's classifier
    assert registry.parameters("mmin", "author") == 3_873_665 + 65_921


def test_a_cascade_is_a_sum_of_autoencoders():
    data = make("aligned")
    c = build(data).double().imagine
    x = torch.randn(5, 24, dtype=torch.float64)
    total, latents, out = x, [], torch.zeros_like(x)
    for down, up in zip(c.down, c.up):
        total = total + out
        z = down.layers[1](F.leaky_relu(down.layers[0](total), 0.01))
        out = up.layers[1](F.relu(up.layers[0](z)))
        latents.append(z)
    last = c.last.layers[1](F.relu(c.last.layers[0](total + out)))
    found = c(x)
    torch.testing.assert_close(found[0], last, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], torch.cat(latents, -1), rtol=0, atol=1e-12)


def test_targets_are_the_teachers_embeddings_of_what_is_hidden_and_losses_leave_out_what_nobody_has():
    data = make("aligned")
    model, batch = build(data), data.split("train")
    for b in model.teacher.buffers():
        b.add_(0.1)  # the teacher is not the present encoder
    output = train_pass(model, batch)
    x = [masked_mean(batch.features[m], batch.observed[m]) for m in batch.modalities]
    shown = output.embedding.unflatten(-1, (3, -1))
    kinds = torch.zeros(3)
    for i, v in enumerate(x):
        zeros = torch.zeros_like(v)
        there, gone = model.encoders[i](v), model.encoders[i](zeros)
        kept = (shown[:, i] - there).abs().amax(-1) < 1e-6
        torch.testing.assert_close(shown[:, i], torch.where(kept[:, None], there, gone))
        expected = torch.where(kept[:, None], model.teacher[i](zeros), model.teacher[i](v))
        torch.testing.assert_close(output.target.unflatten(-1, (3, -1))[:, i], expected)
        known = batch.observed[batch.modalities[i]].any(-1)
        kinds += torch.stack([(kept & known).sum(), (~kept & known).sum(), (~known).sum()])
    assert (kinds > 0).all()
    assert not output.target.requires_grad
    terms, memo = model.losses(output, batch, LEARNING)
    gap = (output.imagined - output.target).square().unflatten(-1, (3, -1)).mean(-1)
    torch.testing.assert_close(terms["imagine"], gap[output.known].mean())
    torch.testing.assert_close(terms["cycle"], F.mse_loss(output.cycled, output.embedding))
    assert memo["learns"] == 0
    grads = torch.autograd.grad(
        terms["cycle"], model.encoders[0].layers[0].weight, allow_unused=True, retain_graph=True
    )
    through = torch.autograd.grad(
        F.mse_loss(output.cycled, output.embedding), model.encoders[0].layers[0].weight, retain_graph=True
    )
    assert (grads[0] - through[0]).abs().max() > 1e-6  # the embedding as a target is detached


def test_every_sample_keeps_one_modality_and_the_share_is_the_rate():
    data = make("aligned", n=3000)
    for rate, share in ((0.5, 0.5), (0.9, 2 / 3), (0.0, 0.0)):
        model, batch = build(data, missing_rate=rate), data.split("train")
        output = train_pass(model, batch)
        full = torch.cat(
            [e(masked_mean(batch.features[m], batch.observed[m])) for e, m in zip(model.encoders, batch.modalities)], -1
        )
        hidden = ((output.embedding - full).unflatten(-1, (3, -1)).abs().amax(-1) > 1e-6)[2:]
        assert hidden.float().mean().item() == pytest.approx(share, abs=0.02)
        assert not hidden.all(-1).any()


def test_the_teacher_learns_first_then_stands_still_while_the_encoders_go_on():
    data = make("aligned")
    model, batch = build(data), data.split("train")
    assert model.weights(TEACHING) == {"teacher": 1, "task": 0, "imagine": 0, "cycle": 0}
    assert model.weights(LEARNING) == {"teacher": 0, "task": 1, "imagine": 4, "cycle": 2}
    with torch.no_grad():
        for p in model.encoders.parameters():
            p.add_(0.3)
    for progress, follows in ((TEACHING, True), (LEARNING, False)):
        before = [b.clone() for b in model.teacher.buffers()]
        terms, memo = model.losses(train_pass(model, batch), batch, progress)
        with torch.no_grad():
            for p in model.encoders.parameters():
                p.add_(0.1)
            model.remember(memo)
        same = [torch.equal(a, b) for a, b in zip(model.teacher.buffers(), model.encoders.parameters())]
        still = [torch.equal(a, b) for a, b in zip(model.teacher.buffers(), before)]
        assert all(same) is follows
        assert all(still) is not follows
    assert set(terms) == set(model.weights(LEARNING))


@pytest.mark.parametrize("stacked", [False, True])
def test_in_the_loop_the_teacher_is_the_encoder_at_the_end_of_its_share(stacked):
    data = make("aligned")
    recipe = Recipe(epochs=4, batch_size=6, patience=None, selection="valid_last", lr=3e-3, weight_decay=0.0)
    two = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last", lr=3e-3, weight_decay=0.0)

    def make_model(share):
        return registry.build("mmin", Shape.of(data), **(traits("mmin").small | {"teacher_share": share})).double()

    (run,) = loop.fit(lambda: make_model(0.5), data, recipe, [0], stacked=stacked)
    (taught,) = loop.fit(lambda: make_model(0.99), data, two, [0], stacked=stacked)
    for k, v in taught.state.items():
        if k.startswith("encoders."):
            torch.testing.assert_close(run.state[k.replace("encoders.", "teacher.", 1)], v, rtol=0, atol=1e-12)
            assert not torch.equal(run.state[k], v)


def test_evaluation_hides_nothing_and_imagines_nothing_more():
    data = make("aligned")
    model, batch = build(data, missing_rate=0.9), data.split("train")
    output = model(batch, SILENT)
    assert output.target is None
    assert output.teacher is None
    assert set(model.losses(output, batch, LEARNING)[0]) == {"task"}


def test_squared_and_small_init():
    data = make("aligned")
    model, batch = build(data, "author", small_init=True), data.split("train")
    output = model(batch, SILENT)
    torch.testing.assert_close(
        model.losses(output, batch, LEARNING)[0]["task"], (output.prediction - batch.target).square().mean()
    )
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, torch.nn.Linear)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert build(data).encoders[0].layers[0].bias.any()
    torch.testing.assert_close(next(model.teacher.buffers()), next(model.encoders.parameters()).detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing_rate": 1.0}, r"missing_rate = 1.0 .* must lie in \[0, 1\)"),
        ({"teacher_share": -0.1}, r"teacher_share = -0.1 must lie in \[0, 1\)"),
        ({"blocks": 0}, "one block"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(make("aligned"), **settings)
