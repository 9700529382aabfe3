"""Losses for rare classes against torch's own and formulas by hand, and what logit adjustment promises."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Output, Progress, Shape
from affectcore.models.imbalance import class_counts, class_weights

END = Progress(0, 0, 1, 1)
COUNTS, SAMPLES = {"single_label": (30, 8, 2), "multi_label": (30, 5)}, 40


def loss_of(kind, preset="clean", **settings):
    """The loss on fixed logits, and the logits and targets."""
    data = make("pooled", kind)
    needs = {"counts": COUNTS[kind], "samples": SAMPLES if kind == "multi_label" else 0}
    model = registry.build("imbalance", Shape.of(data), preset, **needs, **settings).double()
    batch = data.split("train").to("cpu", torch.float64)
    f = torch.randn(len(batch), data.task.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms, _ = model.losses(Output(f), batch, END)
    return terms["task"], f, batch.target


def test_weights_and_smoothing_are_torchs_but_for_the_denominator():
    w = class_weights(COUNTS["single_label"], "inverse", 8.0)
    assert w == pytest.approx([40 / (3 * 30), 40 / (3 * 8), 40 / (3 * 2)])
    got, f, y = loss_of("single_label", "weighted", smoothing=0.1)
    want = F.cross_entropy(f, y, torch.tensor(w, dtype=torch.float64), label_smoothing=0.1, reduction="none").mean()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)  # weights are kept in float32
    got, f, y = loss_of("multi_label", "weighted", most=3.0)
    pos = torch.tensor([10 / 30, 3.0], dtype=torch.float64)  # 35 / 5 cut at 3
    torch.testing.assert_close(got, F.binary_cross_entropy_with_logits(f, y, pos_weight=pos), rtol=1e-6, atol=0)


def test_other_weights_are_roots():
    assert class_weights((30, 8, 2), "sqrt", 8.0) == pytest.approx(np.sqrt([40 / 90, 40 / 24, 40 / 6]))
    assert class_weights((30, 8, 2), "root_max", 3.0) == pytest.approx([1.0, np.sqrt(30 / 8), 3.0])
    assert class_weights((30, 8, 2), "none", 8.0) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("kind", COUNTS)
def test_focal_is_the_papers(kind):
    got, f, y = loss_of(kind, "focal")
    p = (
        f.softmax(-1).gather(-1, y[:, None])
        if kind == "single_label"
        else torch.where(y > 0, f.sigmoid(), 1 - f.sigmoid())
    )
    torch.testing.assert_close(got, (-((1 - p) ** 2) * p.log()).mean())
    plain, f, y = loss_of(kind, gamma=0.0)
    task = F.cross_entropy if kind == "single_label" else F.binary_cross_entropy_with_logits
    torch.testing.assert_close(plain, task(f, y))


def test_focal_has_a_gradient_where_the_true_class_is_certain():
    data = make("pooled", "single_label")
    model = registry.build("imbalance", Shape.of(data), "focal", gamma=0.5).double()
    batch = data.split("train").to("cpu", torch.float64)
    f = (100.0 * F.one_hot(batch.target, 3)).double().requires_grad_()
    model.losses(Output(f), batch, END)[0]["task"].backward()
    assert torch.isfinite(f.grad).all()


def test_adjusted_logits_are_the_papers_and_the_balanced_softmax():
    got, f, y = loss_of("single_label", "logit_adjusted", tau=2.0)
    prior = torch.tensor(COUNTS["single_label"], dtype=torch.float64) / 40
    torch.testing.assert_close(got, F.cross_entropy(f + 2 * prior.log(), y), rtol=1e-6, atol=0)
    balanced, f, y = loss_of("single_label", "balanced_softmax")
    n = prior * 40
    each = n[y] * f.gather(-1, y[:, None])[:, 0].exp() / (n * f.exp()).sum(-1)
    torch.testing.assert_close(balanced, -each.log().mean(), rtol=1e-6, atol=0)
    assert balanced == loss_of("single_label", "logit_adjusted")[0]


def test_adjusted_logits_are_bayes_optimal_for_balanced_accuracy():
    """On a table of probabilities the minimiser of the adjusted loss is log P(y | x) / P(y) up to a constant a row."""
    rng = np.random.default_rng(0)
    joint = rng.random((6, 3)) * np.array([1.0, 0.2, 0.05])
    joint = torch.tensor(joint / joint.sum(), dtype=torch.float64)
    counts = joint.sum(0)
    f = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([f], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        loss = -(joint * (f + counts.log()).log_softmax(-1)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    want = (joint / counts).log()
    centred = [x - x.mean(-1, keepdim=True) for x in (f.detach(), want)]
    torch.testing.assert_close(*centred, rtol=0, atol=1e-4)


def test_labels_shift_by_their_odds_and_smooth_towards_a_half():
    got, f, y = loss_of("multi_label", "logit_adjusted", smoothing=0.2)
    share = torch.tensor(COUNTS["multi_label"], dtype=torch.float64) / SAMPLES
    want = F.binary_cross_entropy_with_logits(f + share.logit(), 0.8 * y + 0.1)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_predictions_are_the_backbones_own():
    data = make("pooled", "single_label")
    torch.manual_seed(0)
    model = registry.build("imbalance", Shape.of(data), "logit_adjusted", counts=(5, 4, 3))
    from fusion_help import SILENT

    batch = data.split("train")
    assert torch.equal(model(batch, SILENT).prediction, model.backbone(batch, SILENT).prediction)


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_are_those_of_training(kind):
    data = make("pooled", kind)
    y = data.split("train").target.numpy()
    want = np.bincount(y, minlength=3) if kind == "single_label" else y.sum(0)
    assert class_counts(data) == tuple(want.astype(int))
    with pytest.raises(ConfigError, match="has no classes to count"):
        class_counts(make("pooled"))


def test_a_model_without_counts_can_be_built_and_not_trained():
    data = make("pooled", "single_label")
    model = registry.build("imbalance", Shape.of(data), "weighted")
    output = Output(torch.zeros(len(data.split("train")), 3))
    with pytest.raises(ConfigError, match="imbalance: weights and adjusted logits need `counts`"):
        model.losses(output, data.split("train"), END)


def test_what_cannot_be_is_refused_in_one_line():
    one, many = Shape.of(make("pooled", "single_label")), Shape.of(make("pooled", "multi_label"))
    for message, shape, settings in (
        ("a regression task has no classes", Shape.of(make("pooled")), {}),
        ("counts must name 3 classes, got 2", one, {"tau": 1.0, "counts": (3, 4)}),
        ("samples = 0 must exceed every count of a label, 4", many, {"tau": 1.0, "counts": (3, 4)}),
        (r"counts = \(3, 0\) must be whole numbers >= 1", many, {"counts": (3, 0)}),
        ("weighting = 'cubic' must be one of none", one, {"weighting": "cubic"}),
        (r"smoothing = 1.0 must be in \[0, 1\)", one, {"smoothing": 1.0}),
        ("gamma = -1 must be >= 0", one, {"gamma": -1}),
    ):
        with pytest.raises(ConfigError, match=message) as e:
            registry.build("imbalance", shape, **settings)
        assert "\n" not in str(e.value)
