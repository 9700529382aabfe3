"""C-MIB: the published count and loss, bottlenecks against torch's distributions, what is drawn when."""

import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill

LIKE = torch.zeros((), dtype=torch.float64)
STILL = Tape(LIKE, training=False)
START = Progress(0, 0, 1, 1)


def built(preset="clean", size="aligned", kind="regression", **more):
    data = make(size, kind)
    torch.manual_seed(0)
    model = registry.build("c_mib", Shape.of(data), preset, **(traits("c_mib").small | more)).double()
    return model, data.split("train").to("cpu", torch.float64)


def test_parameters_of_the_published_code():
    assert registry.parameters("c_mib", "author") == registry.parameters("c_mib") == 944_100


@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_losses_of_every_code(kind):
    model, batch = built(kind=kind)
    o = model(batch, STILL)
    terms, _ = model.losses(o, batch, START)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(o.mu, o.sigma), normal(LIKE, LIKE + 1))
    torch.testing.assert_close(terms["kl"], kl.mean((1, 2)).sum())
    loss = {
        "regression": F.l1_loss, "single_label": F.cross_entropy, "multi_label": F.binary_cross_entropy_with_logits
    }[kind]  # fmt: skip
    torch.testing.assert_close(terms["unimodal"], sum(loss(y, batch.target) for y in o.unimodal))
    assert model.weights(START) == {"task": 2.0, "kl": 1e-3}


def test_every_vector_passes_its_bottleneck():
    model, batch = built()
    o = model(batch, STILL)
    codes = []
    for b, x in zip(model.bottlenecks, o.vectors):
        h = F.relu(b.first(x))
        codes.append(b.mu(h))
        assert (F.softplus(b.sigma(h) - 5) > 0).all()
    torch.testing.assert_close(torch.stack(codes), o.mu[:3])  # in evaluation a code is its mean
    fused = model.bottlenecks[3]
    mu, sigma = fused(F.relu(model.fuse(torch.cat(codes, 1))))
    torch.testing.assert_close((mu, sigma), (o.mu[3], o.sigma[3]))
    torch.testing.assert_close(o.prediction, fused.head(mu)[:, 0])
    gone = ~batch.observed["text"].any(1)
    assert (o.vectors[0][gone] == 0).all()
    last = [int(s.nonzero().max()) for s in batch.observed["text"][~gone]]
    x = batch.features["text"] * batch.observed["text"].unsqueeze(2)
    steps = F.conv1d(x.transpose(1, 2), model.project[0].weight, padding=1).transpose(1, 2)[~gone]
    torch.testing.assert_close(o.vectors[0][~gone], torch.stack([s[i] for s, i in zip(steps, last)]))


def test_codes_are_drawn_in_training_and_if_asked_in_evaluation():
    off = {"attention_dropout": 0.0, "relu_dropout": 0.0, "residual_dropout": 0.0, "embed_dropout": 0.0}
    for preset, words in (("author", 4 * 12 * 16), ("clean", 0)):
        model, batch = built(preset, **off)
        for training in (True, False):
            tape = Tape(LIKE, training)
            model(batch, tape)
            assert tape.words == (4 * 12 * 16 if training else words)  # 12 samples, 8 features, two words a normal
        pool = Pool(fill([0], words, "cpu", "t")[0], LIKE, training=False)
        assert torch.equal(model(batch, pool).prediction, model(batch, STILL).prediction) == (preset == "clean")


def test_starts_and_refusals():
    model, _ = built("author", hidden=2000, bert_start=True)
    assert model.bottlenecks[0].first.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert built(hidden=2000)[0].bottlenecks[0].first.weight.std() > 0.1
    with pytest.raises(ConfigError, match="kernel 4 must be odd"):
        built(kernel=4)
