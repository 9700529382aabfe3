"""TFR-Net: losses against the naive twin, what its temporal stack sees, the discrepancy of moments, refusals."""

from dataclasses import replace

import pytest
import torch
from incomplete_help import SILENT, gradient, pools, small

from affectcore.errors import ConfigError
from affectcore.models.baselines.tfr_net import central_moments
from affectcore.models.contract import Progress
from affectcore.models.naive import twin


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
def test_the_training_loss_and_its_gradient_equal_the_naive_form(size):
    model, batch = small("tfr_net", "author", size, hide_rate=0.4, skip_zero=False)
    one, two = pools(model, batch)
    progress = Progress(1, 0, 1, 2)
    weights = model.weights(progress)
    terms, _ = model.losses(model(batch, one), batch, progress)
    ours = sum(weights.get(k, 1.0) * v for k, v in terms.items())
    naive = twin(model).train()
    theirs = naive.total(batch, model.view(batch, two), weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    sizes = [
        sorted(g.norm().item() for g in gradient(x, list(m.parameters()))) for x, m in ((ours, model), (theirs, naive))
    ]
    if len(sizes[0]) == len(sizes[1]):
        assert sizes[0] == pytest.approx(sizes[1], rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("preset", ["author", "clean"])
def test_what_is_rebuilt_depends_on_the_company_in_the_author_preset_alone(preset):
    model, batch = small("tfr_net", preset, hide_rate=0.0)
    order = torch.arange(len(batch)).flip(0)
    with torch.no_grad():
        one = model(batch, pools(model, batch, 1)[0])
        other = model(batch.rows(order), pools(model, batch, 1)[0])
    gap = max((other.rebuilt[m] - one.rebuilt[m][order]).abs().max().item() for m in one.rebuilt)
    assert gap > 1e-3 if preset == "author" else gap < 1e-12


def test_only_hidden_steps_are_rebuilt_and_only_from_the_epoch_on():
    model, batch = small("tfr_net", "author", hide_rate=0.0, generation_start=2)
    terms, _ = model.losses(model(batch, pools(model, batch, 1)[0]), batch, Progress(0, 0, 1, 1))
    assert terms["generation_text"] == 0
    assert not model(batch, SILENT).rebuilt
    assert [model.weights(Progress(e, 0, 9, 3))["generation_vision"] for e in range(3)] == [0, 0, 20]
    assert model.weights(Progress(2, 0, 9, 3))["similarity_audio"] == 2 * 5
    hidden, batch = small("tfr_net", "author", hide_rate=1.0, rate_per_sample=False)
    out = hidden(batch, pools(hidden, batch, 1)[0])
    assert torch.equal(out.removed["audio"], batch.observed["audio"])


def test_moments_of_samples():
    x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    # means 2 and 2, second moments 1 and 8/3, third 0 and 0; a distance of zero is the root of 1e-12
    assert central_moments(x, y).item() == pytest.approx(5 / 3 + 2e-6, rel=1e-5)
    torch.testing.assert_close(central_moments(x, x), torch.tensor(3e-6), rtol=1e-4, atol=0)


def test_the_clean_maximum_leaves_the_padding_out():
    model, batch = small("tfr_net")
    loud = {m: torch.where(batch.valid(m).unsqueeze(-1), x, 50.0) for m, x in batch.features.items()}
    same = model(replace(batch, features=loud), SILENT).prediction
    torch.testing.assert_close(same, model(batch, SILENT).prediction, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"audio_kernel": 4}, "kernel 4 of audio must be odd"),
        ({"temporal_heads": 3}, "4 steps of text cannot be split into temporal_heads 3"),
        ({"hide_rate": 1.5}, r"hide_rate 1.5 must lie in \[0, 1\]"),
        ({"heads": 3}, "8 features cannot be split into 3 heads"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError, match=message):
        small("tfr_net", **settings)
