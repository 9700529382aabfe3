"""Constant, linear, late fusion, TFN and LMF against independent forms; what the models refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import mean_absolute_error, roc_auc_score
from small_data import make
from traits import traits

from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
DONE = Selection("fixed")


def built(name, data, preset="clean", **settings):
    torch.manual_seed(0)
    return registry.build(name, Shape.of(data), preset, **settings)


def pooled(batch):
    """The mean over observed steps by a plain loop, zeros where there are none."""
    rows = []
    for i in range(len(batch)):
        parts = []
        for m in batch.modalities:
            x = batch.features[m][i][batch.observed[m][i]].double().numpy()
            parts.append(x.mean(0) if len(x) else np.zeros(batch.features[m].shape[-1]))
        rows.append(np.concatenate(parts))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_constant_is_the_median_or_the_class_shares(kind):
    data = make("aligned", kind, 40)
    y, test = data.split("train").target.numpy(), data.split("test", DONE)
    model = built("constant", data)
    assert model.fit(data, 0).rule == "fixed"
    scores = model.predict(test)
    assert len(scores) == len(test)
    if kind == "regression":
        assert np.ptp(scores) == 0
        errors = [mean_absolute_error(y, np.full(len(y), c)) for c in np.linspace(-3, 3, 601)]
        assert mean_absolute_error(y, np.full(len(y), scores[0])) <= min(errors) + 1e-9
        mean = built("constant", data, statistic="mean")
        mean.fit(data, 0)
        assert mean.predict(test)[0] == pytest.approx(y.mean())
    else:
        shares = [(y == c).mean() for c in range(3)] if kind == "single_label" else y.mean(0)
        np.testing.assert_allclose(scores, np.tile(shares, (len(test), 1)))


@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_linear_chooses_on_validation_what_a_plain_search_chooses(kind):
    data = make("unaligned", kind, 160)
    train, valid, test = data.split("train"), data.split("valid"), data.split("test", DONE)
    x, xv, xt = pooled(train), pooled(valid), pooled(test)
    y, yv = train.target.numpy(), valid.target.numpy()
    best, expected = -np.inf, None
    for strength in (10, 30, 100, 300, 1000, 3000) if kind == "regression" else (0.1, 0.03, 0.01, 0.003, 0.001):
        if kind == "regression":
            m = Ridge(alpha=strength).fit(x, y)
            value, scores = -mean_absolute_error(yv, m.predict(xv)), m.predict(xt)
        elif kind == "single_label":
            m = LogisticRegression(C=strength, max_iter=3000).fit(x, y)
            value, scores = roc_auc_score(yv, m.predict_proba(xv), multi_class="ovr"), m.predict_proba(xt)
        else:
            ms = [LogisticRegression(C=strength, max_iter=3000).fit(x, y[:, c]) for c in range(2)]
            value = np.mean([roc_auc_score(yv[:, c], ms[c].predict_proba(xv)[:, 1]) for c in range(2)])
            scores = np.stack([m.predict_proba(xt)[:, 1] for m in ms], 1)
        if value >= best if kind != "regression" else value > best:
            best, expected = value, scores
    model = built("linear", data)
    selection = model.fit(data, 0)
    assert selection.rule == "valid_best"
    assert selection.value == pytest.approx(best)
    np.testing.assert_allclose(model.predict(test), expected, atol=1e-6)


def test_linear_never_looks_at_test_and_learns_the_signal():
    data = make("pooled", "single_label", 400)
    model = built("linear", data)
    model.fit(data, 0)
    test = data.split("test", DONE)
    y = test.target.numpy()
    assert (model.predict(test).argmax(1) == y).mean() > np.bincount(y).max() / len(y) + 0.08
    with pytest.raises(ConfigError, match="choosing among 5 penalties needs a split named valid"):
        built("linear", data).fit(data.with_splits({"train": np.arange(100), "test": np.arange(100, 240)}), 0)
    alone = data.with_splits({"train": np.arange(100), "test": np.arange(100, 240)})
    assert built("linear", data, C=(0.01,)).fit(alone, 0).rule == "fixed"
    with pytest.raises(ConfigError, match="predict was called before fit"):
        built("linear", data).predict(test)
    with pytest.raises(ConfigError, match="C must hold positive numbers"):
        built("linear", data, C=()).fit(data, 0)


def test_linear_gives_a_label_that_never_varies_its_share():
    x = np.random.default_rng(0).normal(size=(30, 1, 2)).astype(np.float32)
    y = np.stack([x[:, 0, 0] > 0, np.zeros(30)], 1).astype(np.float32)
    splits = {"train": np.arange(15), "valid": np.arange(15, 30)}
    data = AffectData("one", Task("multi_label", ("a", "never")), {"text": x}, y, splits)
    model = built("linear", data)
    model.fit(data, 0)
    assert np.all(model.predict(data.split("valid"))[:, 1] == 0)


def test_late_fusion_averages_the_modalities_that_are_there():
    data = make("unaligned", "single_label")
    model, batch = built("late_fusion", data), data.split("train")
    output = model(batch, SILENT)
    each = torch.stack([output.unimodal[m] for m in batch.modalities], 1)
    there = torch.stack([batch.observed[m].any(1) for m in batch.modalities], 1).float()
    expected = (each * there.unsqueeze(2)).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(output.prediction[2:], expected[2:])
    torch.testing.assert_close(output.prediction[1], each[1].mean(0))  # nothing observed: all networks at zero
    assert not there[0, 0]
    torch.testing.assert_close(output.prediction[0], each[0, 1:].mean(0))


def test_late_fusion_trains_each_network_on_its_own_samples():
    data = make("unaligned")
    model, batch = built("late_fusion", data), data.split("train")
    output = model(batch, SILENT)
    terms, _ = model.losses(output, batch, Progress(0, 0, 1, 1))
    seen = batch.observed["text"].any(1)
    expected = (output.unimodal["text"][seen, 0] - batch.target[seen]).abs().mean()
    torch.testing.assert_close(terms["task_text"], expected)
    grads = torch.autograd.grad(terms["task_text"], model.last.parameters(), allow_unused=True)
    assert [g is not None for g in grads] == [True, True, False, False, False, False]


def test_lmf_is_tfns_product_read_by_the_sum_of_rank_one_tensors():
    data = make("aligned")
    model, batch = (
        built("lmf", data, **traits("lmf").small, rank=2).double(),
        data.split("train").to("cpu", torch.float64),
    )
    output = model(batch, SILENT)
    z = [torch.nn.functional.pad(v, (1, 0), value=1.0) for v in output.vectors.values()]
    product = torch.einsum("bi,bj,bk->bijk", *z)  # what TFN forms
    tensor = sum(
        w * torch.einsum("i,j,k->ijk", *(f[r, :, 0] for f in model.factors)) for r, w in enumerate(model.mix[0])
    )
    expected = (product * tensor).sum((1, 2, 3)) + model.bias
    torch.testing.assert_close(output.prediction, expected)
    plain = built("lmf", data, **traits("lmf").small, rank_weights=False)
    assert plain.mix is None


def test_tfn_reads_the_outer_product_and_bounds_a_regression():
    data = make("aligned")
    model, batch = built("tfn", data, **traits("tfn").small).double(), data.split("train").to("cpu", torch.float64)
    output = model(batch, SILENT)
    z = [torch.nn.functional.pad(v, (1, 0), value=1.0) for v in output.vectors.values()]
    h = torch.einsum("bi,bj,bk->bijk", *z).flatten(1)
    for layer in model.post[:2]:
        h = torch.relu(layer(h))
    torch.testing.assert_close(output.prediction, 6 * torch.sigmoid(model.post[2](h)[:, 0]) - 3)
    with torch.no_grad():
        model.post[2].bias.fill_(1e3)
    assert model(batch, SILENT).prediction.max() <= 3


def test_models_refuse_what_they_cannot_do():
    data = make("unaligned")
    with pytest.raises(ConfigError, match="tfn: the product 2001 x 2001 x 33 = 132132033 exceeds"):
        built("tfn", data, sequential=(), audio_hidden=2000, vision_hidden=32, other_hidden=2000)
    with pytest.raises(ConfigError, match="mult: needs two modalities or more to attend across, got text alone"):
        built("mult", data.only(("text",)))
    with pytest.raises(ConfigError, match="attention of 50 features cannot be split into 7 heads"):
        built("mult", data, heads=7)
    with pytest.raises(ConfigError, match="text has 4 steps, fewer than the kernel 5"):
        built("mult", data, preset="author")
    with pytest.raises(ConfigError, match="kernel 4 must be odd"):
        built("mult", data, kernel=4)


def test_mult_takes_two_or_four_modalities():
    data = make("unaligned")
    assert built("mult", data.only(("audio", "vision")), **traits("mult").small).last.in_features == 2 * 8
    b = data.split("train")
    x = {f"m{i}": b.features["text"] for i in range(4)}
    four = AffectData("four", data.task, x, b.target, {"train": np.arange(len(b))})
    model = built("mult", four, **traits("mult").small)
    assert model.last.in_features == 4 * 3 * 8
    assert model(four.split("train"), SILENT).prediction.shape == (len(b),)


def test_tfn_reaches_both_ends_of_any_scale():
    data = make("pooled")
    task = Task("regression", ("arousal",), 1.0, 9.0)
    model = registry.build("tfn", replace(Shape.of(data), task=task), **traits("tfn").small)
    batch, noise = data.split("train"), SILENT
    for bias, end in ((100.0, 9.0), (-100.0, 1.0)):
        with torch.no_grad():
            model.post[2].bias.fill_(bias)
            torch.testing.assert_close(model(batch, noise).prediction, torch.full((len(batch),), end))
