"""CLUE: effects, who learns from which loss, settings."""

import pytest
import torch
import torch.nn.functional as F
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
FIRST = Progress(0, 0, 10, 2)


def model_of(kind="single_label", **settings):
    data = make("unaligned", kind)
    torch.manual_seed(0)
    model = registry.build("clue", Shape.of(data), text_hidden=4, hidden=5, **settings).double()
    return model, data.split("train").to("cpu", torch.float64)


def test_the_direct_effect_is_subtracted():
    for fusion in ("sum", "hm"):
        model, batch = model_of(alpha=0.5, fusion=fusion)
        o = model(batch, SILENT)
        a, b = o.inner.prediction.sigmoid(), o.text.sigmoid()
        expected = (o.inner.prediction + o.text).sigmoid() if fusion == "sum" else a * b / (1 + a * b)
        torch.testing.assert_close(o.total, expected.log())
        torch.testing.assert_close(o.prediction, o.total - 0.5 * o.direct)


@pytest.mark.parametrize("kind", ["single_label", "regression", "multi_label"])
def test_each_loss_moves_its_own_part(kind):
    model, batch = model_of(kind)
    terms, _ = model.losses(model(batch, SILENT), batch, FIRST)
    reached = {}
    for name, loss in terms.items():
        grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
        reached[name] = {n.split(".")[0] for (n, _), g in zip(model.named_parameters(), grads) if g is not None}
    assert reached == {"task": {"backbone", "branch"}, "text": {"branch"}, "constant": {"constant"}}
    if kind == "single_label":
        o = model(batch, SILENT)
        torch.testing.assert_close(terms["task"], F.cross_entropy(o.total, batch.target))
        expected = F.cross_entropy(o.direct, o.total.softmax(-1))
        torch.testing.assert_close(terms["constant"], expected)


def test_settings_that_cannot_hold():
    for settings, message in (
        ({"fusion": "max"}, "fusion 'max' must be one of sum, hm"),
        ({"backbone": "linear"}, "not trained by gradients"),
    ):
        with pytest.raises(ConfigError, match=message):
            model_of(**settings)
    with pytest.raises(ConfigError, match="fusion 'hm' needs a single_label task"):
        model_of("regression", fusion="hm")
    assert set(dict(model_of(constant_loss=False)[0].losses(*_pair(), FIRST)[0])) == {"task", "text"}


def _pair():
    model, batch = model_of(constant_loss=False)
    return model(batch, SILENT), batch
