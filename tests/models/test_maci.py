"""MACI on other models: which vector it reads, what the arms of a comparison are."""

from dataclasses import replace

import pytest
import torch
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
FIRST = Progress(0, 0, 10, 2)


def model_of(**settings):
    data = make("unaligned", "single_label")
    torch.manual_seed(0)
    model = registry.build("maci", Shape.of(data), **settings).double()
    batch = data.split("train").to("cpu", torch.float64)
    model.remember(model.classes.gather(batch, FIRST))
    return model, batch


@pytest.mark.parametrize(("backbone", "field"), [("mlp", "prediction"), ("tfn", "vectors"), ("mult", "hidden")])
def test_the_head_reads_the_joint_vector_of_the_backbone(backbone, field):
    settings = tuple(traits(backbone).small.items())
    model, batch = model_of(backbone=backbone, backbone_settings=settings)
    assert model.field == field
    output = model(batch, SILENT)
    assert output.prediction.exp().sum(-1).tolist() == pytest.approx([1] * len(batch))
    inner = model.backbone(batch, SILENT)
    torch.testing.assert_close(output.prediction, model.head(model._joint(inner), model.classes, False))
    terms, _ = model.losses(output, batch, FIRST)
    expected = -output.prediction.gather(-1, batch.target.unsqueeze(-1)).mean()
    torch.testing.assert_close(terms["task"], expected)


def test_without_a_new_head_only_the_passes_differ():
    model, batch = model_of(replace_head=False, paths=(("text", "zeros", 0.5), ("", "prior", 0.25)))
    assert not hasattr(model, "head")
    plain = model.backbone(batch, SILENT).prediction
    blank = batch.with_observed({"text": torch.zeros_like(batch.observed["text"])})
    prior = model.classes.shares().log()
    expected = plain - 0.5 * model.backbone(blank, SILENT).prediction - 0.25 * prior
    torch.testing.assert_close(model(batch, SILENT).prediction, expected)


@pytest.mark.parametrize("kind", ["words", "deleted", "mean", "shuffle"])
def test_counterfactual_text(kind):
    model, batch = model_of(paths=(("text", kind, 1.0),), words=(10, 11))
    tokens = torch.arange(batch.features["text"].shape[-2]).expand(len(batch), -1) + 10
    output = model(replace(batch, extras={"tokens": tokens}), SILENT)
    factual = model._pass(batch, SILENT)[2]
    torch.testing.assert_close(output.prediction, factual - output.counterfactuals[0])
    if kind == "deleted":
        kept = {"text": torch.arange(tokens.shape[1]).expand_as(tokens) < 2}
        torch.testing.assert_close(output.counterfactuals[0], model._pass(batch.with_observed(kept), SILENT)[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "linear"}, "backbone 'linear' is not trained by gradients"),
        ({"backbone": "cider", "backbone_preset": "author"}, "has several optimisation stages"),
        ({"joint": "soul"}, "has no field 'soul'"),
        ({"encodings": "all"}, "encodings 'all' must be one of means"),
    ],
)
def test_settings_that_cannot_hold(settings, message):
    if settings.get("backbone") == "cider":
        settings = settings | {"backbone_settings": (("width", 8), ("heads", 2))}
    with pytest.raises(ConfigError, match=message):
        model_of(**settings)
