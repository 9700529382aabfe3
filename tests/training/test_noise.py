"""The noise pool against its definition: rates, moments, streams, and that every word is used."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import vmap

from affectcore.errors import TrainingError
from affectcore.nn.noise import Pool, Tape, fill

LIKE = torch.zeros((), dtype=torch.float64)


def pool(words: int, *purpose: str | int, seed: int = 0, like: torch.Tensor = LIKE, training: bool = True) -> Pool:
    return Pool(fill([seed], words, "cpu", *(purpose or ("test",)))[0], like, training)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_has_its_rate_and_keeps_the_mean(p):
    n = 400_000
    kept = pool(n).dropout(torch.ones(n, dtype=torch.float64), p)
    assert set(kept.unique().tolist()) == {0.0, 65536 / (65536 - round(p * 65536))}
    assert stats.binomtest(int((kept == 0).sum()), n, p).pvalue > 1e-4


def test_uniforms_and_normals_have_their_distribution():
    z = pool(4 * 50_000).normal(100_000).numpy()
    u = pool(2 * 100_000, "other").uniform(100_000).numpy()
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(np.corrcoef(z[:50_000], z[50_000:])[0, 1]) < 5 / math.sqrt(50_000)  # the two halves of Box-Muller


def test_the_extreme_words_stay_finite_and_below_one():
    for word in (-32768, 32767):
        words = torch.full((8,), word, dtype=torch.int16)
        for dtype in (torch.float32, torch.float64):
            assert bool(torch.isfinite(Pool(words, torch.zeros((), dtype=dtype)).normal(3)).all())
            assert bool((Pool(words, torch.zeros((), dtype=dtype)).uniform(4) < 1).all())


def test_float32_and_float64_read_the_same_words():
    single, double = (pool(4000, like=torch.zeros((), dtype=d)) for d in (torch.float32, torch.float64))
    a, b = single.normal(500), double.normal(500)
    assert a.dtype == torch.float32
    assert b.dtype == torch.float64
    torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)
    assert torch.equal(single.uniform(500).double(), double.uniform(500))


def test_a_row_depends_on_its_own_key_alone():
    assert torch.equal(fill([3, 5], 100, "cpu", "train", 7, 0)[1], fill([5], 100, "cpu", "train", 7, 0)[0])
    torch.manual_seed(0)
    a = fill([5], 100, "cpu", "train", 7, 0)
    torch.manual_seed(1)
    assert torch.equal(a, fill([5], 100, "cpu", "train", 7, 0))
    others = [([6], "train", 7, 0), ([5], "evaluate", 7, 0), ([5], "train", 8, 0), ([5], "train", 7, 1)]
    assert not any(torch.equal(a, fill(s, 100, "cpu", *key)) for s, *key in others)


def draw(noise):
    x = noise.dropout(torch.ones(5, 3, dtype=torch.float64), 0.3)
    return x, noise.normal(2, 3), noise.uniform(4), noise.dropout(x, 0.0), noise.normal(0), noise.uniform(0)


def test_the_tape_counts_what_the_pool_takes():
    for training in (True, False):
        tape = Tape(LIKE, training)
        shapes = [t.shape for t in draw(tape)]
        noise = pool(tape.words, training=training)
        assert [t.shape for t in draw(noise)] == shapes
        noise.close()
        assert tape.words == (15 if training else 0) + 2 * 6 + 2 * 4


def test_using_too_many_or_too_few_words_is_an_error():
    with pytest.raises(TrainingError, match="used 0 of the 5 words"):
        pool(5).close()
    with pytest.raises(TrainingError, match="more noise than its dry run"):
        pool(5).uniform(3)
    with pytest.raises(TrainingError, match=r"p = 1\.5"):
        pool(5).dropout(torch.ones(5), 1.5)


def test_evaluation_leaves_dropout_out_but_draws():
    noise = pool(12, training=False)
    x = torch.ones(3)
    assert noise.dropout(x, 0.9) is x
    assert noise.normal(6).std() > 0
    noise.close()


def test_everything_dropped_is_zero():
    assert pool(4).dropout(torch.ones(4), 1.0).tolist() == [0, 0, 0, 0]


def test_a_stack_of_rows_draws_what_each_row_draws_alone():
    rows = fill([0, 1, 2], 15 + 12 + 8, "cpu", "test")
    together = vmap(lambda w: draw(Pool(w, LIKE))[:3])(rows)
    for s in range(3):
        for a, b in zip(together, draw(Pool(rows[s], LIKE))):
            torch.testing.assert_close(a[s], b, atol=1e-14, rtol=0)
