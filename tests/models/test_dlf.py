"""DLF: the published count, losses against torch's and plain loops, lengths, refusals."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from small_data import longer, make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Tape

LIKE = torch.zeros((), dtype=torch.float64)
STILL = Tape(LIKE, training=False)
START = Progress(0, 0, 1, 1)


def built(preset="clean", size="aligned", kind="regression", **more):
    data = make(size, kind)
    torch.manual_seed(0)
    model = registry.build("dlf", Shape.of(data), preset, **(traits("dlf").small | more)).double()
    return model, data.split("train").to("cpu", torch.float64)


def test_parameters_of_the_published_code():
    live = registry.parameters("dlf", "author")
    assert live == 1_628_605
    d, t = 50, 46
    stack = 2 * (12 * d * d + 13 * d) + 2 * d
    heads = (t * d * d + d) + (t * d * d + t * d) + (t * d + 1)  # of a modality's shared steps
    dead = 4 * stack + 3 * (t * d * d + d) + 3 * heads  # cross-modal stacks, projections for a cosine
    assert live + dead == 2_923_308  # counted on the published code without BERT
    assert registry.parameters("dlf", "author", SHAPES["mosi_unaligned"]) > live  # flattened steps


def test_losses_of_the_published_code():
    model, batch = built("author")
    o = model(batch, STILL)
    terms, _ = model.losses(o, batch, START)
    y = batch.target
    torch.testing.assert_close(terms["task"], F.l1_loss(o.prediction, y))
    for name, each in (("task_shared", o.heads[:1]), ("task_language", o.heads[1:2]), ("task_others", o.heads[2:])):
        torch.testing.assert_close(terms[name], sum(F.l1_loss(h, y) for h in each))
    torch.testing.assert_close(terms["reconstruction"], sum(F.mse_loss(a, b) for a, b in zip(o.rebuilt, o.steps)))
    torch.testing.assert_close(terms["specific"], sum(F.mse_loss(a, b) for a, b in zip(o.again, o.specific)))
    cosine, minus = torch.nn.CosineEmbeddingLoss(), -torch.ones(1)
    for size in (0, 4):
        model, _ = built("author", cosine_size=size)
        terms, _ = model.losses(o, batch, START)
        rows = [(s.reshape(-1, size or 8), c.reshape(-1, size or 8)) for s, c in zip(o.specific, o.shared)]
        torch.testing.assert_close(terms["orthogonality"], sum(cosine(s, c, minus) for s, c in rows), atol=1e-6, rtol=0)
    weights = {"task_language": 3.0, "reconstruction": 0.1, "specific": 0.1, "orthogonality": 0.01, "margin": 0.01}
    assert model.weights(START) == pytest.approx(weights)


@pytest.mark.parametrize("kind", ["regression", "single_label", "multi_label"])
def test_margins_of_like_and_other_targets(kind):
    model, _ = built(kind=kind)
    x = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = {
        "regression": torch.tensor([1.0, 1.0, -2.0, 0.5, 1.0], dtype=torch.float64),
        "single_label": torch.tensor([0, 0, 1, 2, 1]),
        "multi_label": torch.tensor([[0.0, 1], [0, 1], [1, 1], [0, 0], [1, 0]], dtype=torch.float64),
    }[kind]
    points = [(v, y[i]) for m in x for i, v in enumerate(m)]
    anchors = []
    for a, (v, t) in enumerate(points):
        far = [(t != u).double().mean() if kind != "regression" else (t - u).abs() for _, u in points]
        like = [i for i, f in enumerate(far) if f == 0 and i != a]
        other = [i for i, f in enumerate(far) if f > 0]
        cos = [F.cosine_similarity(v, w, 0) for w, _ in points]
        pairs = [(0.15 * far[k] - cos[j] + cos[k]).clamp(min=0) for j, k in product(like, other)]
        if pairs:
            anchors.append(torch.stack(pairs).mean())
    torch.testing.assert_close(model.margin(x, y), torch.stack(anchors).mean(), atol=1e-7, rtol=0)
    assert torch.isfinite(model.margin(x[:1, :1], y[:1]))  # nobody to compare with


def test_means_count_observed_steps():
    model, batch = built()
    o = model(batch, STILL)
    terms, _ = model.losses(o, batch, START)
    expected = sum((a - b)[m].square().mean() for a, b, m in zip(o.rebuilt, o.steps, o.masks))
    torch.testing.assert_close(terms["reconstruction"], expected)
    assert all((x[~m] == 0).all() for x, m in zip(o.shared, o.masks))


def test_the_length_is_that_of_the_data():
    model, batch = built(size="unaligned")
    shown = model(batch, STILL).prediction
    torch.testing.assert_close(model(longer(batch, 2), STILL).prediction, shown)
    n = {m: int(v.max()) for m, v in batch.lengths.items()}
    cut = batch.map(lambda x: x)
    short = type(batch)(
        {m: x[:, : n[m]] for m, x in cut.features.items()}, cut.lengths,
        {m: x[:, : n[m]] for m, x in cut.observed.items()}, cut.target, cut.index, cut.group,
    )  # fmt: skip
    torch.testing.assert_close(model(short, STILL).prediction, shown)


def test_another_modality_leads_without_text():
    data = make("aligned").only(("audio", "vision"))
    model = registry.build("dlf", Shape.of(data), **traits("dlf").small)
    assert model.modalities == ("audio", "vision")
    assert registry.build("dlf", Shape.of(make("pooled")), **traits("dlf").small).modalities == ("text", "face")
    with pytest.raises(ConfigError, match="needs a second modality beside the leading one, got text alone"):
        registry.build("dlf", Shape.of(make("aligned").only(("text",))))
    for message, settings in (
        ("kernel 4 must be odd", {"kernel": 4}),
        ("cosine_size 3 must divide width 8", {"cosine_size": 3}),
        ("has 5 steps, fewer than the kernel 7; set same_length", {"kernel": 7, "same_length": False}),
    ):
        with pytest.raises(ConfigError, match=message):
            built(**settings)
