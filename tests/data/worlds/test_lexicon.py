"""The lexicon world: word laws, reversal out of distribution, exact posteriors, aligned and unaligned lengths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from worlds_help import FROZEN, loss

from affectcore.data.worlds import Sizes, make
from affectcore.data.worlds.lexicon import COUNTS, DIFFICULTIES, PAD, WORDS, Settings
from affectcore.errors import ConfigError

HEADLINE = DIFFICULTIES["headline"]


def bag(batch, keep):
    """Counts of words by sample, of the kept words alone."""
    out = np.zeros((len(batch), len(keep)))
    np.add.at(out, (np.arange(len(batch))[:, None], batch.extras["tokens"].numpy()), 1)
    return out[:, keep]


def test_words_of_a_kind_go_with_the_class_as_set(draw):
    w = draw("lexicon")
    for split, factor in (("train", 1.0), ("test_ood", -1.0)):
        batch = w.data.split(split, FROZEN)
        tokens, y = batch.extras["tokens"].numpy(), batch.target.numpy()
        for kind, strength in ((1, 1.2), (2, 1.2 * factor)):
            up, down = ((w.truth.role == kind) & (w.truth.sign == s) for s in (1, -1))
            odds = [np.log(up[tokens[y == c]].sum() / down[tokens[y == c]].sum()) for c in (0, 2)]
            assert odds[1] - odds[0] == pytest.approx(4 * strength, abs=0.35)  # 2 positions apart, 2 signs


def test_spurious_words_predict_in_training_and_reverse_out_of_distribution(draw):
    w = draw("lexicon")
    spurious = w.truth.role == 2
    train = w.data.split("train")
    model = LogisticRegression(C=0.1, max_iter=500).fit(bag(train, spurious), train.target.numpy() == 2)
    auc = {}
    for s in ("test", "test_ood"):
        b = w.data.split(s, FROZEN)
        auc[s] = np.corrcoef(model.predict_proba(bag(b, spurious))[:, 1], b.target.numpy() == 2)[0, 1]
    assert auc["test"] > 0.3
    assert auc["test_ood"] < -0.3


def test_class_counts_and_label_shift():
    w = make("lexicon", 0, replace(HEADLINE, label_shift=True))
    for split, which in (("train", "train"), ("test", "train"), ("test_ood", "ood")):
        share = torch.bincount(w.data.split(split, FROZEN).target).numpy()
        want = np.array(COUNTS[3][which])
        assert np.allclose(share / share.sum(), want / want.sum(), atol=5e-4)


@pytest.mark.parametrize("classes", [3, 7])
def test_posteriors_equal_brute_force(classes):
    s = Settings(classes=classes, words=30, stable_words=6, spurious_words=6, steps=4, label_shift=True)
    w = make("lexicon", 1, s, Sizes(60, 20, 40))
    t = w.truth
    for split, e in (("test", 0), ("test_ood", 1)):
        batch = w.data.split(split, FROZEN)
        hide = batch.observed["text"].clone()
        hide[:, 1] = False
        batch = batch.with_observed({"text": hide})
        tokens = batch.extras["tokens"].numpy()
        bayes, stable = w.bayes(batch), w.oracle(batch)
        for n in range(8):
            p, q = t.prior[e].copy(), t.prior[e].copy()
            for step in np.flatnonzero(hide[n].numpy()):
                word = np.exp(t.log_p[e, :, tokens[n, step]])
                p *= word
                if t.role[tokens[n, step]] != 2:
                    q *= word / (1 - np.exp(t.log_p[e][:, t.role == 2]).sum(1))
            for i, m in enumerate(("audio", "vision")):
                b, k = t.blocks[m], int(batch.lengths[m][n])
                u = b.inner(batch.features[m][n : n + 1].numpy())[0, :k]
                cov = b.rho ** np.abs(np.arange(k)[:, None] - np.arange(k))
                density = []
                for c in range(classes):
                    d = u - t.gain[i] * t.positions[c] * b.directions[0]
                    density.append(-0.5 * np.einsum("td,ts,sd->", d, np.linalg.inv(cov), d))
                likelihood = np.exp(np.array(density) - max(density))
                p, q = p * likelihood, q * likelihood
            assert np.allclose(bayes[n], p / p.sum(), atol=1e-5)
            assert np.allclose(stable[n], q / q.sum(), atol=1e-5)


def test_stable_posterior_is_the_same_in_and_out_of_distribution_and_bayes_is_better(draw):
    w = draw("lexicon")
    b, ood = w.data.split("test", FROZEN), w.data.split("test_ood", FROZEN)
    assert loss(w.oracle(b), b) == pytest.approx(loss(w.oracle(ood), ood), rel=0.05)
    assert loss(w.bayes(ood), ood) < loss(w.oracle(ood), ood)
    p = w.bayes(ood)
    entropy = -(p * np.log(p)).sum(1)
    assert loss(p, ood) == pytest.approx(entropy.mean(), abs=0.03)  # calibrated under the law of the item


def test_text_is_the_embedding_of_its_tokens(draw):
    w = draw("lexicon")
    train = w.data.split("train")
    tokens = train.extras["tokens"].numpy()
    seen = train.observed["text"].numpy()
    assert np.array_equal(w.truth.embedding[tokens][seen], train.features["text"].numpy()[seen])
    assert (tokens[~seen] == PAD).all()
    assert (tokens[seen] >= WORDS).all()


def test_aligned_and_unaligned_lengths():
    a = make("lexicon", 0, HEADLINE, Sizes(300, 50, 50)).data
    u = make("lexicon", 0, replace(HEADLINE, aligned=False), Sizes(300, 50, 50)).data
    assert set(a.steps.values()) == {12}
    assert u.steps == {"text": 12, "audio": 36, "vision": 24}
    b = a.split("train")
    assert all(torch.equal(b.lengths["text"], b.lengths[m]) for m in ("audio", "vision"))
    b = u.split("train")
    ratio = b.lengths["audio"] / b.lengths["text"]
    assert bool(((ratio > 2) | (b.lengths["text"] == 1)).all())
    assert bool((ratio <= 3).all())
    assert torch.equal(b.extras["tokens"], a.split("train").extras["tokens"])  # the text does not move


@pytest.mark.parametrize(
    ("field", "value"),
    [("classes", 2), ("stable", -1), ("spurious", -0.5), ("shift", -2), ("words", 80), ("stable_words", 3),
     ("spurious_words", 0), ("gain", (0.1, 0)), ("audio_rate", 0), ("steps", 0), ("dims", (24, 16, 1)), ("video", 0)],
)  # fmt: skip
def test_bad_settings(field, value):
    with pytest.raises(ConfigError) as e:
        replace(HEADLINE, **{field: value})
    assert str(e.value).startswith(f"{field} = {value!r}: ")
