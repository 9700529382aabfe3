"""Drawing an incomplete view, losses at hidden steps, and the small pieces that its users share."""

import pytest
import torch
from incomplete_help import SILENT
from small_data import make

from affectcore.models.baselines.views import drawn_rate, fit_steps, hide_steps, joined, normalise_batch, smooth_l1_at
from affectcore.nn.noise import Pool, fill

BATCH = make("unaligned", n=400).split("train")


def pool(seed=0):
    return Pool(fill([seed], 200_000, "cpu", "views")[0], torch.zeros(()))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_steps_are_hidden_at_the_rate_and_nothing_else_changes(rate):
    view = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, rate))
    for m in BATCH.modalities:
        before, after = BATCH.observed[m], view.observed[m]
        assert not (after & ~before).any()
        share = 1 - after.sum() / before.sum()
        assert share == pytest.approx(rate, abs=0 if rate in (0, 1) else 0.06)
        torch.testing.assert_close(view.features[m], BATCH.features[m] * after.unsqueeze(-1))


def test_ends_stay_unless_the_data_have_no_more_than_these():
    view = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, 1.0), ends=("audio",))
    length, rows = BATCH.lengths["audio"], torch.arange(len(BATCH))
    for where in (torch.zeros_like(length), length - 1):
        assert torch.equal(view.observed["audio"][rows, where], BATCH.observed["audio"][rows, where])
    assert view.observed["audio"].sum(1).max() == 2
    assert not view.observed["text"].any()
    single = make("pooled").split("train")
    assert not hide_steps(single, pool(), {"text": 1.0, "face": 1.0}, ends=("text",)).observed["text"].any()


def test_a_shared_draw_hides_the_same_steps_and_rates_may_differ_by_sample():
    view = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, 0.5), shared=True)
    both = BATCH.observed["audio"][:, :4] & BATCH.observed["text"]
    assert torch.equal(view.observed["audio"][:, :4][both], view.observed["text"][both])
    own = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, 0.5))
    assert not torch.equal(own.observed["audio"][:, :4][both], own.observed["text"][both])
    rates = torch.tensor([0.0, 1.0]).repeat(len(BATCH) // 2).unsqueeze(1)
    view = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, rates))
    assert torch.equal(view.observed["text"][::2], BATCH.observed["text"][::2])
    assert not view.observed["text"][1::2].any()


def test_a_rate_per_sample_is_uniform_below_the_highest():
    rates = drawn_rate(BATCH, pool(), 0.6, True)
    assert rates.shape == (len(BATCH), 1)
    assert 0 <= rates.min() < rates.max() < 0.6
    assert rates.mean() == pytest.approx(0.3, abs=0.04)
    assert drawn_rate(BATCH, SILENT, 0.6, False) == 0.6


def test_the_error_at_steps_is_a_mean_over_their_features():
    x, y, where = torch.randn(2, 3, 4) * 2, torch.randn(2, 3, 4), torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()
    total = 0.0
    for b, t in where.nonzero().tolist():
        for d in (x[b, t] - y[b, t]).abs().tolist():
            total += 0.5 * d * d if d < 1 else d - 0.5
    assert smooth_l1_at(x, y, where, 0.0).item() == pytest.approx(total / 8, rel=1e-5)
    assert smooth_l1_at(x, y, torch.zeros_like(where), 1e-6) == 0
    x[1] = float("nan")
    assert torch.isfinite(smooth_l1_at(x, y, where, 0.0))


def test_small_pieces():
    x = torch.randn(6, 5)
    expected = torch.nn.BatchNorm1d(5, affine=False)(x)
    torch.testing.assert_close(normalise_batch(x), expected)
    steps = torch.randn(2, 3, 4)
    assert torch.equal(fit_steps(steps, 2), steps[:, :2])
    assert torch.equal(fit_steps(steps, 5)[:, :3], steps)
    assert not fit_steps(steps, 5)[:, 3:].any()
    view = hide_steps(BATCH, pool(), dict.fromkeys(BATCH.modalities, 0.5))
    both, n = joined(BATCH, view), len(BATCH)
    assert len(both) == 2 * n
    assert torch.equal(both.features["text"][n:], view.features["text"])
    assert torch.equal(both.observed["text"][:n], BATCH.observed["text"])
    assert torch.equal(both.target[n:], BATCH.target)
