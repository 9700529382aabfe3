"""HHMPN: counts, who reads whose steps, the graph of labels, the switches of the published code."""

import pytest
import torch
from small_data import longer, make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.hhmpn import co_occurrence
from affectcore.models.contract import Shape
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def model_of(preset="clean", size="aligned", **more):
    data = make(size, "multi_label")
    torch.manual_seed(0)
    model = registry.build("hhmpn", Shape.of(data), preset, **(traits("hhmpn").small | more)).double()
    return model, data.split("train").to("cpu", torch.float64)


def test_parameters_are_those_of_the_published_code_but_what_nothing_reads():
    def linear(a, b):
        return a * b + b

    step_layers = 9 * (4 * 512 * 512 + 2 * 512 * 512 + 2 * 512 + 4 * 512)  # three stacks of three layers
    projections = linear(300, 512) + linear(74, 512) + linear(35, 512)
    last = 2 * linear(3072, 3072) + linear(3072, 512) + linear(1536, 1024) + linear(1024, 512) + linear(512, 6)
    scores = 2 * (linear(512, 32) + linear(32, 1))
    ours = registry.parameters("hhmpn", "author")
    assert ours == 368_306_753
    assert ours + step_layers + projections + last + scores == 405_289_673  # counted on the published model


def test_the_label_graph_keeps_pairs_that_often_occur_together():
    y = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1]])
    # shares: 2 / sqrt(8), 1 / sqrt(8), 0
    assert co_occurrence(y, 0.5) == ((1, 1, 0), (1, 1, 0), (0, 0, 1))
    assert co_occurrence(y, 0.2) == ((1, 1, 1), (1, 1, 0), (1, 0, 1))
    assert co_occurrence(torch.zeros(3, 2)) == ((1, 0), (0, 1))


def test_labels_hear_of_labels_that_the_graph_lets_them_see():
    alone, batch = model_of(label_graph=((1, 0), (1, 1)))
    with torch.no_grad():
        for p in alone.parameters():
            p.add_(0.1 * torch.randn_like(p))
    before = alone(batch, SILENT).states
    with torch.no_grad():
        alone.labels[1] += 1.0
    after = alone(batch, SILENT).states
    assert torch.equal(after[:, :, 0], before[:, :, 0])
    with torch.no_grad():
        alone.labels[0] += 1.0
    assert (alone(batch, SILENT).states[:, :, 1] - after[:, :, 1]).abs().max() > 1e-4
    silent, _ = model_of(among_labels=False)
    assert silent.decoders[0][0].among is None


def test_published_code_reads_the_steps_of_another_modality():
    for exchanged in (False, True):
        model, batch = model_of(exchanged=exchanged)
        gone = batch.with_observed({"vision": torch.zeros_like(batch.observed["vision"])})
        states = model(gone, SILENT).states.detach()
        # without a step to read, labels stay what the networks make of them: equal for all samples
        constant = [float((states[2:, i] - states[2:3, i]).abs().max()) < 1e-12 for i in range(3)]
        assert constant == ([True, False, False] if exchanged else [False, False, True])


def test_weights_run_over_modalities_or_as_published_over_labels():
    model, batch = model_of()
    torch.testing.assert_close(model(batch, SILENT).weight.sum(2), torch.ones(len(batch), 2, dtype=torch.float64))
    model, batch = model_of(over_labels=True)
    torch.testing.assert_close(model(batch, SILENT).weight.sum(1), torch.ones(len(batch), 3, dtype=torch.float64))


def test_scores_are_products_with_the_labels_or_with_vectors_of_their_own():
    model, batch = model_of()
    o = model(batch, SILENT)
    state = model.join((o.weight.transpose(1, 2).unsqueeze(-1) * o.states).sum(1))
    torch.testing.assert_close(o.prediction, torch.einsum("bqd,qd->bq", state, model.labels), rtol=0, atol=1e-12)
    assert not hasattr(model, "vectors")
    assert model_of(tied=False)[0].vectors.shape == model.labels.shape


def test_with_the_future_mask_steps_see_what_is_before_them():
    model, batch = model_of("author", future_mask=True)
    o, after = model(batch, SILENT), model(longer(batch, 3), SILENT)
    for a, b in zip(o.steps, after.steps):
        torch.testing.assert_close(b[:, : a.shape[1]], a, rtol=0, atol=1e-12)
    model, _ = model_of("author", future_mask=False)
    assert (model(longer(batch, 3), SILENT).steps[0][:, :5] - model(batch, SILENT).steps[0]).abs().max() > 1e-6


def test_settings_that_cannot_be_are_refused():
    alone = Shape({"text": 4}, {"text": 3}, SHAPES["mosei_emotions"].task)
    with pytest.raises(ConfigError, match="needs two modalities or more to send messages, got text alone"):
        registry.build("hhmpn", alone)
    with pytest.raises(ConfigError, match="label_graph needs 2 rows of 2"):
        model_of(label_graph=((1,),))
    with pytest.raises(ConfigError, match="must let every label see itself"):
        model_of(label_graph=((0, 1), (1, 1)))
