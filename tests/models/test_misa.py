"""MISA: the three losses against brute force, each switch, what a missing modality counts for."""

from itertools import combinations

import numpy as np
import pytest
import torch
from fusion_help import SILENT, built, terms_of, total, whole
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.misa import difference, moment_distance
from affectcore.models.contract import Shape
from affectcore.models.naive import twin


def test_losses_and_their_gradients_equal_the_naive_twins():
    model, batch = built("misa", "author")
    naive = twin(model).eval()
    ours, (theirs,) = total(model, terms_of(model, batch)[0]), naive.losses(batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours.backward()
    theirs.backward()
    mine, his = (sorted(p.grad.norm().item() for p in m.parameters() if p.grad is not None) for m in (model, naive))
    assert mine == pytest.approx(his, abs=1e-10)


def test_the_moment_distance_is_that_of_numpy_and_has_a_slope_at_zero():
    x = torch.randn(9, 3, 4, dtype=torch.float64)
    w = torch.ones(9, 3, 1, dtype=torch.float64)
    w[:2, 1] = 0
    rows = [x[:, m][w[:, m, 0] > 0].numpy() for m in range(3)]
    found = [[r.mean(0), *(((r - r.mean(0)) ** k).mean(0) for k in (2, 3, 4))] for r in rows]
    pairs = list(combinations(range(3), 2))
    expected = sum(np.linalg.norm(a - b) for i, j in pairs for a, b in zip(found[i], found[j])) / 3
    assert moment_distance(x, w, 4).item() == pytest.approx(expected)
    same = x[:, :1].expand(-1, 3, -1).clone().requires_grad_()
    distance = moment_distance(same, torch.ones_like(w), 5)
    distance.backward()
    assert distance.item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(same.grad).all()


def test_the_difference_is_the_squared_correlation_of_features():
    shared, private = torch.randn(2, 7, 2, 5, dtype=torch.float64)
    expected = 0.0
    for a, b in (
        (private[:, 0], shared[:, 0]), (private[:, 1], shared[:, 1]), (private[:, 0], private[:, 1]),
    ):  # fmt: skip
        a, b = (v - v.mean(0) for v in (a, b))
        a, b = (v / (v.norm(dim=1, keepdim=True) + 1e-6) for v in (a, b))
        expected += (a.T @ b).square().mean().item()
    ones = torch.ones(7, 2, 1, dtype=torch.float64)
    assert difference(shared, private, ones).item() == pytest.approx(expected)
    apart = torch.zeros_like(shared)  # codes that live in different halves of the samples share no product
    other = torch.zeros_like(shared)
    apart[:2, :, 0], other[2:4, :, 1] = torch.tensor([1.0, -1.0]).view(2, 1), torch.tensor([1.0, -1.0]).view(2, 1)
    assert difference(apart[..., :1, :], other[..., :1, :], ones[:, :1]).item() == 0


def test_a_missing_modality_counts_in_no_loss_of_its_own():
    model, batch = built("misa")
    alone = whole(batch)
    hidden = batch.with_observed(
        {m: batch.observed[m] & torch.isin(batch.index, alone.index).unsqueeze(1) for m in batch.modalities}
    )
    full, part = terms_of(model, alone)[0], terms_of(model, hidden)[0]
    for k in ("sim", "diff", "recon"):
        torch.testing.assert_close(part[k], full[k], rtol=1e-12, atol=0)


def test_the_author_cuts_other_sequences_at_the_texts_length():
    for preset, matters in (("author", False), ("clean", True)):
        model, batch = built("misa", preset)
        late = torch.arange(batch.features["audio"].shape[1]) >= batch.lengths["text"][:, None]
        x = dict(batch.features)
        x["audio"] = torch.where((late & batch.observed["audio"]).unsqueeze(2), x["audio"] + 1, x["audio"])
        changed = type(batch)(x, batch.lengths, batch.observed, batch.target, batch.index, batch.group)
        gap = (model(changed, SILENT).prediction - model(batch, SILENT).prediction).abs().max()
        assert (gap > 1e-6) == matters


def test_the_error_of_a_regression_is_squared_or_absolute():
    for squared in (True, False):
        model, batch = built("misa", squared_error=squared)
        error = model(batch, SILENT).prediction - batch.target
        expected = error.square().mean() if squared else error.abs().mean()
        torch.testing.assert_close(terms_of(model, batch)[0]["task"], expected)


def test_misa_refuses_one_modality_and_no_moment():
    with pytest.raises(ConfigError, match="moments 0 must be 1 or more"):
        built("misa", moments=0)
    with pytest.raises(ConfigError, match="needs two or more, got text alone"):
        registry.build("misa", Shape.of(make("aligned").only(("text",))))
