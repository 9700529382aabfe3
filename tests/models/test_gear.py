"""GEAR: psi, W, swapped features, missing modalities, settings."""

import math
from dataclasses import replace

import pytest
import torch
from fusion_help import SILENT, built, whole

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress
from affectcore.nn.noise import Pool, Tape, fill

BEFORE, AFTER = Progress(1, 0, 10, 4), Progress(2, 0, 10, 4)
QUIET = {"dropout": 0.0, "fusion_dropout": 0.0, "swap_start": 2}


def trained(model, batch):
    """Return the output of a training pass."""
    tape = Tape(torch.zeros((), dtype=torch.float64))
    model(batch, tape)
    pool = Pool(fill([0], tape.words, "cpu", "gear")[0], torch.zeros((), dtype=torch.float64))
    return model(batch, pool)


def by_sample(model, output, batch, progress):
    """Return the terms by the formulas, sample by sample, for a regression."""
    c, y = model.config, batch.target.tolist()
    rows = range(len(y))

    def psi(loss):
        if c.amplification == "tanh":
            return math.tanh(loss**-c.q)
        return 2 / (1 + math.exp(loss))

    def mean(values):
        return sum(values) / max(len(values), 1)

    has = {m: [bool(v) for v in output.present[m]] for m in output.present}
    own = [abs(output.prediction[i].item() - y[i]) for i in rows]
    alone = {m: [abs(f[i].item() - y[i]) for i in rows] for m, f in output.biased.items()}
    swapped = [abs(output.swap.prediction[i].item() - y[i]) for i in rows]
    w = []
    for i in rows:
        there = [alone[m][i] for m in alone if has[m][i]]
        l_b = 0 if not there else min(there) if c.weighting == "min" else mean(there)
        hard = own[i]
        if c.swap_in_weight and progress.epoch >= c.swap_start:
            hard += c.swap_weight * swapped[i]
        w.append(1.0 if c.weighting == "none" else l_b / (l_b + hard + 1e-8))
    terms = {"task": mean([w[i] * own[i] for i in rows]), "swap": mean([w[i] * swapped[i] for i in rows])}
    terms |= {"bias": 0.0, "bias_swap": 0.0}
    for m, p in output.swap.partner.items():
        terms["bias"] += mean([psi(alone[m][i]) * alone[m][i] for i in rows if has[m][i]])
        loss = [abs(output.swap.biased[m][i].item() - y[p[i]]) for i in rows]
        terms["bias_swap"] += mean([psi(loss[i]) * loss[i] for i in rows if has[m][p[i]]])
    return terms


@pytest.mark.parametrize("weighting", ["mean", "min", "none"])
@pytest.mark.parametrize(("preset", "amplification"), [("clean", "tanh"), ("clean", "sigmoid"), ("author", "tanh")])
def test_losses_are_those_of_the_formulas(preset, amplification, weighting):
    model, batch = built("gear", preset, **QUIET, amplification=amplification, weighting=weighting, swap_weight=0.5)
    output = trained(model, batch)
    for progress in (BEFORE, AFTER):
        terms, _ = model.losses(output, batch, progress)
        expected = by_sample(model, output, batch, progress)
        assert {k: v.item() for k, v in terms.items()} == pytest.approx(expected, rel=1e-9)
    assert model.weights(BEFORE) == {"bias": 15, "swap": 0, "bias_swap": 0}
    assert model.weights(AFTER) == {"bias": 15, "swap": 0.5, "bias_swap": 7.5}


def test_psi_is_large_where_a_loss_is_small():
    for amplification, expected in (
        ("tanh", [1.0, 0.7615941560, 0.4621171573]),
        ("sigmoid", [1, 0.5378828427, 0.2384]),
    ):
        model, _ = built("gear", amplification=amplification, q=1.0)
        loss = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        value = model.amplified(loss, torch.ones(3))
        (slope,) = torch.autograd.grad(value, loss)  # psi itself lets no gradient through
        assert (3 * slope).tolist() == pytest.approx(expected, abs=1e-4)
        assert (3 * value).item() == pytest.approx(expected[1] + 2 * expected[2], abs=1e-4)


def test_a_sample_that_biased_features_explain_weighs_little():
    alone = {"text": torch.tensor([0.0, 3.0]), "face": torch.tensor([0.2, 1.0])}
    present = {m: torch.ones(2) for m in alone}
    for weighting, expected in (("mean", [0.1 / 1.1, 2 / 3]), ("min", [0, 0.5]), ("none", [1, 1])):
        model, _ = built("gear", weighting=weighting)
        loss = torch.ones(2, requires_grad=True)
        weight = model.sample_weight(alone, present, loss)
        assert weight.tolist() == pytest.approx(expected, abs=1e-6)
        assert not weight.requires_grad
    model, _ = built("gear")
    none = model.sample_weight(alone, {**present, "text": torch.zeros(2)}, torch.ones(2))
    assert none.tolist() == pytest.approx([0.2 / 1.2, 0.5])  # the face alone counts


def test_the_swap_mixes_own_robust_with_a_partners_biased_features():
    model, batch = built("gear", **QUIET)
    output = trained(model, batch)
    x, partner = {}, output.swap.partner
    for m, p in partner.items():
        assert p.sort().values.tolist() == list(range(len(batch)))
        b, mask, seen = model.branches[m], batch.observed[m], batch.observed[m].any(1)
        c, biased = b.robust(batch.features[m], mask, SILENT), b.biased(batch.features[m], mask, SILENT)
        x[m] = torch.stack([b.mix_robust(torch.cat([c[i], biased[p[i]]])).relu() for i in range(len(batch))])
        x[m] = x[m].masked_fill(~seen[:, None], 0).unsqueeze(1)
        f = torch.stack([b.head(b.mix_biased(torch.cat([c[i], biased[p[i]]])).relu()) for i in range(len(batch))])
        torch.testing.assert_close(output.swap.biased[m], f[:, 0])
    assert len({tuple(p.tolist()) for p in partner.values()}) == len(partner)  # drawn for each modality
    expected = model.backbone(replace(output.reduced, features=x), SILENT).prediction
    torch.testing.assert_close(output.swap.prediction, expected)
    assert model(batch, SILENT).swap is None
    assert set(model.losses(model(batch, SILENT), batch, AFTER)[0]) == {"task", "bias"}


def test_each_loss_moves_its_own_features():
    model, batch = built("gear", **QUIET)
    terms, _ = model.losses(trained(model, batch), batch, AFTER)
    parts = {"robust", "mix_robust", "biased", "mix_biased", "head"}
    reached = {}
    for name, loss in terms.items():
        grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
        names = [n for (n, _), g in zip(model.named_parameters(), grads) if g is not None]
        reached[name] = {n.split(".")[2] if n.startswith("branches") else "backbone" for n in names}
    assert reached["task"] == reached["swap"] == {"backbone", "robust", "mix_robust"}
    assert reached["bias"] == reached["bias_swap"] == parts - {"robust", "mix_robust"}


def test_swapped_features_count_in_the_weight_of_the_code_alone():
    outputs = {}
    for swap_in_weight in (False, True):
        model, batch = built("gear", **QUIET, swap_in_weight=swap_in_weight)
        output = trained(model, batch)
        outputs[swap_in_weight] = [model.losses(output, batch, p)[0]["task"].item() for p in (BEFORE, AFTER)]
    assert outputs[False][0] == outputs[False][1] == outputs[True][0]
    assert outputs[True][1] < outputs[False][1]


def test_the_code_reads_the_first_step_of_a_text():
    model, batch = built("gear", first_step=True)
    mean, _ = built("gear")
    batch = whole(batch)
    batch = batch.rows(batch.observed["text"][:, 0].nonzero()[:, 0])
    assert len(batch) > 2
    steps = torch.arange(batch.features["text"].shape[1])
    first = batch.with_observed({"text": (steps < 1).expand_as(batch.observed["text"])})
    torch.testing.assert_close(model(batch, SILENT).prediction, mean(first, SILENT).prediction)
    assert (model(batch, SILENT).prediction - mean(batch, SILENT).prediction).abs().max() > 1e-3


def test_gaps_are_zeros_and_missing_modalities_count_in_the_code():
    clean, batch = built("gear")
    code, _ = built("gear", gaps=True)
    assert {m: (there == 0).tolist() for m, there in clean(batch, SILENT).present.items()} == {
        m: (~batch.observed[m].any(1)).tolist() for m in batch.modalities
    }
    assert all((there == 1).all() for there in code(batch, SILENT).present.values())
    zeros = replace(batch, observed={m: batch.valid(m) for m in batch.modalities})
    torch.testing.assert_close(code(batch, SILENT).prediction, clean(zeros, SILENT).prediction)
    assert ((code(batch, SILENT).prediction - clean(batch, SILENT).prediction).abs() > 1e-3).any()


@pytest.mark.parametrize("weighting", ["mean", "min"])
def test_a_missing_modality_has_no_part_and_a_sample_without_any_no_weight(weighting):
    model, batch = built("gear", **QUIET, weighting=weighting)
    nothing = ~torch.stack([batch.observed[m].any(1) for m in batch.modalities]).any(0)
    assert nothing.any()
    output = model(batch, SILENT)
    other = {m: torch.where(output.present[m] > 0, f, batch.target) for m, f in output.biased.items()}
    for name, loss in model.losses(replace(output, biased=other), batch, AFTER)[0].items():
        torch.testing.assert_close(loss, model.losses(output, batch, AFTER)[0][name], msg=name)
    elsewhere = torch.where(nothing, output.prediction + 100, output.prediction)
    task = model.losses(replace(output, prediction=elsewhere), batch, AFTER)[0]["task"]
    torch.testing.assert_close(task, model.losses(output, batch, AFTER)[0]["task"])


def test_any_backbone_reads_the_robust_features():
    settings = (("text_hidden", 6), ("text_out", 4), ("audio_hidden", 6), ("vision_hidden", 5), ("post_hidden", 8))
    for kind in ("regression", "single_label", "multi_label"):
        model, batch = built("gear", kind=kind, backbone="tfn", backbone_settings=settings)
        output = model(batch, SILENT)
        assert dict(model.backbone.shape.dims) == dict.fromkeys(batch.modalities, 8)
        torch.testing.assert_close(output.prediction, model.backbone(output.reduced, SILENT).prediction)
        for m, z in output.robust.items():
            torch.testing.assert_close(output.reduced.features[m][:, 0], z * output.present[m][:, None])


def test_a_backbone_keeps_its_other_losses():
    settings = (("width", 8), ("feedforward", 16))
    model, batch = built("gear", backbone="misa", backbone_settings=settings)
    output = trained(model, batch)
    terms, _ = model.losses(output, batch, AFTER)
    inner, _ = model.backbone.losses(output.inner, output.reduced, AFTER)
    assert set(terms) == {*inner, "bias", "swap", "bias_swap"}
    for name in set(inner) - {"task"}:
        torch.testing.assert_close(terms[name], inner[name])
        assert model.weights(AFTER).get(name, 1.0) == model.backbone.weights(AFTER).get(name, 1.0)
    assert terms["task"] != inner["task"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "linear"}, "gear: backbone 'linear' is an estimator"),
        ({"backbone": "mmim"}, "gear: backbone 'mmim' has several optimisation stages, one is needed"),
        ({"amplification": "exp"}, "gear: amplification 'exp' must be one of tanh, sigmoid"),
        ({"weighting": "max"}, "gear: weighting 'max' must be one of mean, min, none"),
        ({"q": 0.0}, "gear: q = 0.0 must be > 0"),
    ],
)
def test_settings_that_cannot_hold(settings, message):
    with pytest.raises(ConfigError, match=message):
        built("gear", **settings)


def test_parameters_are_those_of_the_published_code_but_what_nothing_reads():
    assert registry.parameters("gear", "author") == 372_071 - 3 * 33
