"""ITHP: the published count and losses, guides of other lengths, what is drawn when."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Tape

LIKE = torch.zeros((), dtype=torch.float64)
STILL = Tape(LIKE, training=False)
START = Progress(0, 0, 1, 1)


def built(preset="clean", size="aligned", kind="regression", **more):
    data = make(size, kind)
    torch.manual_seed(0)
    model = registry.build("ithp", Shape.of(data), preset, **(traits("ithp").small | more)).double()
    return model, data.split("train").to("cpu", torch.float64)


def test_parameters_of_the_published_code():
    assert registry.parameters("ithp", "author") == registry.parameters("ithp") == 1_052_154


def test_losses_of_the_published_code():
    model, batch = built("author")
    o = model(batch, STILL)
    terms, _ = model.losses(o, batch, START)
    scaled = [(x - x.min()) / (x.max() - x.min()) for x in (batch.features["audio"], batch.features["vision"])]
    errors = [F.mse_loss(y, x) for y, x in zip(o.foretold, scaled)]
    normal = torch.distributions.Normal
    kl = [
        torch.distributions.kl_divergence(normal(m, (0.5 * v).exp()), normal(LIKE, LIKE + 1)).mean()
        for m, v in zip(o.mu, o.logvar)
    ]
    torch.testing.assert_close(terms["task"], F.mse_loss(o.prediction, batch.target))
    torch.testing.assert_close(terms["kl"], kl[0] + 0.3 * kl[1])
    torch.testing.assert_close(terms["guide"], 8 * errors[0] + 0.3 * 32 * errors[1])
    assert model.weights(START) == {"kl": 0.05, "guide": 0.05}


def test_the_path_from_text_to_prediction():
    model, batch = built("author")
    x = batch.features["text"]
    o = model(batch, STILL)
    z = x
    for stage, mu in zip(model.bottlenecks, o.mu):
        z = stage.law(F.relu(stage.first(z))).chunk(2, -1)[0]
        torch.testing.assert_close(mu, z)
    h = torch.tanh(model.pooler(model.norm(model.expand(z) + x)[:, 0]))
    torch.testing.assert_close(o.prediction, model.head(h)[:, 0])
    assert all(((y > 0) & (y < 1)).all() for y in o.foretold)


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
def test_guides_count_what_is_observed(size):
    model, batch = built(size=size)
    o = model(batch, STILL)
    terms, _ = model.losses(o, batch, START)
    text, total = batch.observed["text"], 0.0
    for k, (m, y) in enumerate(zip(("audio", "vision"), o.foretold)):
        x, seen, errors = batch.features[m], batch.observed[m], []
        for i in range(len(batch)):
            for t in range(text.shape[1]):
                if size == "aligned" and text[i, t] and seen[i, t]:
                    errors.append((y[i, t] - x[i, t]).square().mean())
                if size == "unaligned" and text[i, t] and seen[i].any():
                    errors.append((y[i, t] - x[i, seen[i]].mean(0)).square().mean())
        total = total + (8, 0.3 * 32)[k] * torch.stack(errors).mean()
    torch.testing.assert_close(terms["guide"], total)


def test_as_many_bottlenecks_as_guides():
    model, batch = built(size="pooled", kind="single_label")
    assert len(model.bottlenecks) == 1
    assert model.weights(START)["kl"] == 2 / 8
    terms, _ = model.losses(model(batch, STILL), batch, START)
    assert np.isfinite(terms["guide"].item())
    data = make("aligned").only(("audio", "vision"))
    assert registry.build("ithp", Shape.of(data)).prime == "audio"  # without text the first modality leads
    with pytest.raises(ConfigError, match="needs a second modality to guide the first, got text alone"):
        registry.build("ithp", Shape.of(make("aligned").only(("text",))))


def test_codes_are_drawn_in_training_and_if_asked_in_evaluation():
    rest = {"code_dropout": 0.0, "dropout": 0.0, "head_dropout": 0.0}
    drawn = 2 * 12 * 5 * (6 + 4)  # two words a normal; 12 samples, 5 steps
    for preset, words in (("author", drawn), ("clean", 0)):
        model, batch = built(preset, **rest)
        for training in (True, False):
            tape = Tape(LIKE, training)
            model(batch, tape)
            assert tape.words == (drawn if training else words)
