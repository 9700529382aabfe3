"""EMT-DLFR: losses against the naive twin, SimSiam, tokens of a text encoder, refusals."""

import math
from dataclasses import replace

import pytest
import torch
from incomplete_help import SILENT, gradient, pools, small

from affectcore.errors import ConfigError
from affectcore.models.baselines.emt_dlfr import Attraction, interleaved_sinusoids
from affectcore.models.contract import Progress
from affectcore.models.naive import twin

START = Progress(0, 0, 1, 1)


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
def test_the_training_loss_and_its_gradient_equal_the_naive_form(size):
    model, batch = small("emt_dlfr", "author", size, hide_rate=0.4, reconstruction_weight=0.7)
    one, two = pools(model, batch)
    terms, _ = model.losses(model(batch, one), batch, START)
    ours = sum(model.weights(START).get(k, 1.0) * v for k, v in terms.items())
    naive = twin(model).train()
    theirs = naive.total(batch, model.view(batch, two))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    sizes = [
        sorted(g.norm().item() for g in gradient(x, list(m.parameters()))) for x, m in ((ours, model), (theirs, naive))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-8, abs=1e-9)


def test_attraction_is_simsiam():
    torch.manual_seed(0)
    layer, x = Attraction(4, 3).double(), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    p, z = layer(x)
    projector = torch.nn.Sequential(layer.project, torch.nn.BatchNorm1d(4, affine=False).double())
    norm = torch.nn.BatchNorm1d(3).double()
    torch.testing.assert_close(z, projector(x))
    torch.testing.assert_close(p, layer.down(norm(layer.up(projector(x))).relu()))
    assert not z.requires_grad
    assert not gradient(p.sum(), [layer.project.bias])[0].any()  # the normalisation takes it out again


def test_equal_views_attract_perfectly_under_an_identical_predictor():
    model, batch = small("emt_dlfr", hide_rate=0.0)
    terms, _ = model.losses(model(batch, pools(model, batch, 1)[0]), batch, START)
    assert terms["reconstruction"] == 0
    torch.testing.assert_close(terms["complete"], terms["task"])
    assert -4 <= terms["attraction"] <= 4


def test_positions_interleave():
    code = interleaved_sinusoids(3, 5, torch.zeros((), dtype=torch.float64))
    for t in range(3):
        for k in range(5):
            angle = t * 10000 ** (-2 * (k // 2) / 5)
            assert code[t, k] == pytest.approx(math.cos(angle) if k % 2 else math.sin(angle), abs=1e-12)


def test_the_author_preset_reads_the_sentence_token_and_not_the_separator():
    model, batch = small("emt_dlfr", "author")
    row, end = 2, int(batch.lengths["text"][2]) - 1

    def changed(step):
        x = batch.features["text"].clone()
        x[row, step] += 1
        new = model(replace(batch, features={**batch.features, "text": x}), SILENT).prediction
        return (new - model(batch, SILENT).prediction)[row].abs().item()

    assert end >= 2
    assert changed(end) == 0
    assert changed(0) > 1e-4
    assert changed(1) > 1e-6


def test_weights_and_refusals():
    model, _ = small("emt_dlfr", attraction_weight=0.5, reconstruction_weight=0.25)
    assert model.weights(START) == {"complete": 0.5, "attraction": 0.5, "reconstruction": 0.25}
    with pytest.raises(ConfigError, match="width 9 cannot be split into 2 heads"):
        small("emt_dlfr", width=9)
    with pytest.raises(ConfigError, match="hide_rate -1 must lie"):
        small("emt_dlfr", hide_rate=-1)
