"""CARAT: counts, prototypes sample after sample, who is rebuilt from whom, label slots that change places."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.carat import follow_each
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill

START = Progress(0, 0, 10, 1)
SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def model_of(preset="clean", **more):
    data = make("aligned", "multi_label")
    torch.manual_seed(0)
    model = registry.build("carat", Shape.of(data), preset, **(traits("carat").small | more)).double()
    return model, data.split("train").to("cpu", torch.float64)


def trained(model, batch, seed=0):
    tape = Tape(batch.target)
    model(batch, tape)
    return model(batch, Pool(fill([seed], tape.words, "cpu", "carat")[0], torch.zeros((), dtype=torch.float64)))


def test_parameters_are_those_of_the_published_code_but_three_poolers():
    ours = registry.parameters("carat", "author")
    assert ours == 7_162_360
    assert ours + 3 * (256 * 256 + 256) == 7_359_736  # counted on the published model


def test_prototypes_follow_sample_after_sample():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 2, 3, 4, dtype=torch.float64, generator=g)
    y = (torch.rand(7, 3, generator=g) < 0.4).double()
    start = torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=g)
    loop = start.clone()
    for b in range(7):
        for m in range(2):
            for j in range(3):
                sign = 0 if y[b, j] == 1 else 1
                loop[m, sign, j] = 0.9 * loop[m, sign, j] + 0.1 * x[b, m, j]
    members = torch.stack([y, 1 - y], 1)
    torch.testing.assert_close(follow_each(start, x, members, 0.9), loop, rtol=0, atol=1e-14)


def test_prototypes_are_of_normalised_latents_of_the_batch():
    model, batch = model_of(momentum=0.5)
    o = trained(model, batch)
    _, memo = model.losses(o, batch, START)
    model.remember(memo)
    latent = F.normalize(o.latent, dim=-1)
    expected = torch.zeros(model.config.latent, dtype=torch.float64)
    for b in range(len(batch)):
        if batch.target[b, 1] == 1:
            expected = 0.5 * expected + 0.5 * latent[b, 2, 1]
    torch.testing.assert_close(model.prototypes[2, 0, 1], expected, rtol=0, atol=1e-14)


def test_each_modality_is_rebuilt_from_the_others_and_its_prototype():
    model, batch = model_of()
    with torch.no_grad():
        model.prototypes.normal_(generator=torch.Generator().manual_seed(0))
    o = model(batch, SILENT)
    near = torch.einsum("bmqk,msqk->bmsq", F.normalize(o.latent, dim=-1), model.prototypes).softmax(2)
    filled = torch.einsum("bmsq,msqk->bmqk", near, model.prototypes)
    for m in range(3):
        parts = [model.decode[i](filled[:, i]) if i == m else o.rebuilt[:, i] for i in range(3)]
        torch.testing.assert_close(o.alpha[:, m], model.rebuild[m](torch.cat(parts, -1)), rtol=0, atol=1e-12)
        beta = model.rebuild[m](torch.cat(list(o.alpha.unbind(1)), -1))
        torch.testing.assert_close(o.beta[:, m], beta, rtol=0, atol=1e-12)
    score = torch.einsum("bmqd,mqd->bmq", o.beta, model.weight).amax(1)
    aggregate = model.aggregate(o.beta.flatten(2)).sigmoid().mean(1)
    torch.testing.assert_close(o.prediction.sigmoid(), (aggregate + score.sigmoid()) / 2, rtol=0, atol=1e-12)


def test_the_nearer_prototype_in_evaluation_and_a_mixture_in_training():
    soft, batch = model_of()
    hard, _ = model_of(hard=True)
    with torch.no_grad():
        for model in (soft, hard):
            model.prototypes.normal_(generator=torch.Generator().manual_seed(0))
    assert (soft(batch, SILENT).alpha - hard(batch, SILENT).alpha).abs().max() > 1e-3
    torch.testing.assert_close(trained(soft, batch).alpha, trained(hard, batch).alpha, rtol=0, atol=0)


def test_label_slots_are_shuffled_with_their_labels():
    model, batch = model_of()
    y = (torch.arange(len(batch)).unsqueeze(1) % torch.tensor([2, 3]) == 0).double()
    batch = replace(batch, target=y)
    o = trained(model, batch)
    logits, labels = o.shuffled
    assert torch.equal(labels.sum(0), y.sum(0).expand(3, 2))  # a permutation of the samples in each slot
    slots = torch.stack([o.beta[..., j, :].flatten(0, 1) for j in range(2)])  # (q, B M, d)
    for b, m in ((0, 0), (5, 2)):
        found = [
            (i, k)
            for i in range(slots.shape[1]) for k in range(slots.shape[1])
            if torch.allclose(model.aggregate(torch.cat([slots[0, i], slots[1, k]])), logits[b, m], rtol=0, atol=1e-12)
        ]  # fmt: skip
        assert any(y[i // 3, 0] == labels[b, m, 0] and y[k // 3, 1] == labels[b, m, 1] for i, k in found)
    assert not torch.equal(trained(model, batch, seed=1).shuffled[1], labels)


def test_losses_by_their_definitions_and_their_weights():
    model, batch = model_of(beta_mse_weight=0.5)
    o = trained(model, batch)
    terms, _ = model.losses(o, batch, START)
    y, bce = batch.target, F.binary_cross_entropy_with_logits
    torch.testing.assert_close(terms["lsr"], bce(torch.einsum("bmqd,mqd->bmq", o.features, model.weight).amax(1), y))
    torch.testing.assert_close(terms["agg"], bce(o.aggregate, y.unsqueeze(1).repeat(1, 3, 1)))
    torch.testing.assert_close(terms["recon"], sum(F.mse_loss(o.rebuilt[:, m], o.features[:, m]) for m in range(3)))
    torch.testing.assert_close(terms["beta_mse"], sum(F.mse_loss(o.beta[:, m], o.features[:, m]) for m in range(3)))
    assert set(model.weights(START)) | {"beta"} == set(terms)
    assert "beta_mse" not in model_of()[0].losses(o, batch, START)[0]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="text has 5 steps, more than positions 4"):
        model_of(positions_text=4)
    with pytest.raises(ConfigError, match=r"momentum 1.0 must lie in \[0, 1\)"):
        model_of(momentum=1.0)
