"""Which modalities are hidden: rates, never all, never what is not there."""

import pytest
import torch

from affectcore.nn.hiding import hide_each, hide_share

ALL = torch.ones(200_000, 3, dtype=torch.bool)


def drawn(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.7, 1.0])
def test_hide_each_hides_with_the_stated_probability(rate):
    kept = hide_each(ALL, drawn(ALL.shape), rate)
    assert kept.any(-1).all()
    hidden = 1 - kept.double().mean(0)
    assert hidden.tolist() == pytest.approx([rate - rate**3 / 3] * 3, abs=5e-3)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 2 / 3])
def test_hide_share_hides_the_stated_share(rate):
    kept = hide_share(ALL, drawn(ALL.shape), drawn(ALL.shape, 1), rate)
    assert kept.any(-1).all()
    assert (1 - kept.double().mean(0)).tolist() == pytest.approx([rate] * 3, abs=5e-3)


def test_what_is_absent_stays_absent_and_something_remains():
    present = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    for seed in range(20):
        u, v = drawn((3, 3), seed), drawn((3, 3), seed + 100)
        for kept in (hide_each(present, u, 1.0), hide_share(present, v, u, 2 / 3)):
            assert not (kept & ~present).any()
            assert kept[0].sum() == 1
            assert kept[1].tolist() == [False, True, False]
            assert not kept[2].any()
