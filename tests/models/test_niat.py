"""NIAT: what the fused vector sees, who trains the discriminator, alignment by brute force, refusals."""

from dataclasses import replace

import pytest
import torch
from incomplete_help import SILENT, gradient, pools, small
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models.baselines.niat import align
from affectcore.models.contract import Progress

START = Progress(0, 0, 1, 1)


@pytest.mark.parametrize("future_mask", [True, False])
def test_under_the_future_mask_the_first_step_sees_itself_alone(future_mask):
    model, batch = small("niat", "author", "aligned", future_mask=future_mask, text_kernel=1)
    x = batch.features["text"].clone()
    x[:, 1:] += 1
    gap = model(replace(batch, features={**batch.features, "text": x}), SILENT).fused - model(batch, SILENT).fused
    assert gap.abs().max() == 0 if future_mask else gap.abs().max() > 1e-4


def losses(preset, **settings):
    model, batch = small("niat", preset, "aligned", **settings)
    terms, memo = model.losses(model(batch, pools(model, batch, 1)[0]), batch, START)
    return model, terms, memo


def test_the_published_discriminator_never_learns():
    model, terms, memo = losses("author")
    total = sum(model.weights(START)[k] * v for k, v in terms.items())
    assert all(not g.any() for g in gradient(total, list(model.discriminator.parameters())))
    assert set(memo) == {"complete", "noisy"}  # statistics of both views, in this order


def test_adversary_and_generator_learn_from_their_own_losses_alone():
    model, terms, memo = losses("clean")
    judge, fusion = list(model.discriminator.parameters()), list(model.stack.parameters())
    assert not memo
    assert all(not g.any() for g in gradient(terms["adversarial"], judge))
    assert any(g.any() for g in gradient(terms["adversarial"], fusion))
    assert any(g.any() for g in gradient(terms["discriminator"], judge))
    assert all(not g.any() for g in gradient(terms["discriminator"], fusion))


def test_adversarial_terms_are_cross_entropies():
    model, batch = small("niat", "clean", "aligned")
    out = model(batch, pools(model, batch, 1)[0])
    terms, _ = model.losses(out, batch, START)
    entropy = torch.nn.BCELoss()
    ones = torch.ones_like(out.passed)
    torch.testing.assert_close(terms["adversarial"], entropy(out.passed.sigmoid(), ones))
    expected = entropy(out.real.sigmoid(), ones) + entropy(out.fake.sigmoid(), 0 * ones)
    torch.testing.assert_close(terms["discriminator"], expected)
    torch.testing.assert_close(out.passed, out.fake)  # the same vectors, the same weights
    assert model.weights(START) == pytest.approx(
        {"task": 0.5, "complete": 0.5, "reconstruction": 0.08, "adversarial": 0.12, "discriminator": 0.1}
    )


def test_targets_are_detached_in_clean_and_learn_in_author():
    for preset, attached in (("author", True), ("clean", False)):
        model, batch = small("niat", preset, "aligned")
        assert model(batch, pools(model, batch, 1)[0]).target.requires_grad is attached


def test_alignment_averages_the_steps_that_fall_on_a_step():
    batch = make("unaligned").split("train")
    out = align(batch)
    for i in range(len(batch)):
        goal = int(batch.lengths["text"][i])
        for m in ("audio", "vision"):
            own = int(batch.lengths[m][i])
            for t in range(batch.features["text"].shape[1]):
                falls = [s for s in range(own) if s * goal // own == t and batch.observed[m][i, s]]
                assert bool(out.observed[m][i, t]) is bool(falls)
                if falls:
                    torch.testing.assert_close(out.features[m][i, t], batch.features[m][i, falls].mean(0))
    same = make("aligned").split("train")
    again = align(same)
    for m in same.modalities:
        torch.testing.assert_close(again.features[m], same.features[m])
        assert torch.equal(again.observed[m], same.observed[m])


def test_scores_are_bounded_and_settings_checked():
    model, batch = small("niat")
    with torch.no_grad():
        model.last.bias.fill_(50)
    torch.testing.assert_close(model(batch, SILENT).prediction, torch.full((len(batch),), 3.0, dtype=torch.float64))
    free, _ = small("niat", bounded=False)
    with torch.no_grad():
        free.last.bias.fill_(50)
    assert free(batch, SILENT).prediction.min() > 3
    for settings, message in (
        ({"vision_kernel": 4}, "kernel 4 of vision must be odd"),
        ({"heads": 3}, "widths' sum 16 cannot be split into 3 heads"),
        ({"hide_rate": 2}, "hide_rate 2 must lie"),
    ):
        with pytest.raises(ConfigError, match=message):
            small("niat", **settings)
