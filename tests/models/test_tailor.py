"""TAILOR: counts, who may attend to whom, losses by their definitions, the reversed gradient."""

import pytest
import torch
import torch.nn.functional as F
from small_data import make, spoil
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Pool

START = Progress(0, 0, 10, 1)
SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def model_of(preset="clean", size="aligned", **more):
    data = make(size, "multi_label")
    torch.manual_seed(0)
    model = registry.build("tailor", Shape.of(data), preset, **(traits("tailor").small | {"width": 16} | more)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model, data.split("train").to("cpu", torch.float64)


def test_parameters_are_those_of_the_published_code_but_six_poolers():
    ours = registry.parameters("tailor", "author")
    assert ours == 10_403_900
    assert ours + 6 * (256 * 256 + 256) == 10_798_652  # counted on the published model


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
def test_losses_count_observed_steps_alone(size):
    model, batch = model_of(size=size)
    terms, _ = model.losses(model(batch, SILENT), batch, START)
    spoiled, _ = model.losses(model(spoil(batch, 5.0), SILENT), batch, START)
    for k, v in terms.items():
        torch.testing.assert_close(spoiled[k], v, rtol=0, atol=0)
    author, _ = model_of("author", size)
    terms, _ = author.losses(author(batch, SILENT), batch, START)
    spoiled, _ = author.losses(author(spoil(batch, 5.0), SILENT), batch, START)
    assert all(abs((spoiled[k] - v).item()) > 1e-6 for k, v in terms.items())


def test_losses_by_their_definitions():
    model, batch = model_of(first_step=True)
    o = model(batch, SILENT)
    terms, _ = model.losses(o, batch, START)
    orth, told = [], []
    names = list(batch.features)
    for a in range(3):
        for kind, other in [("private", b) for b in range(a)] + [("shared", a)]:
            pair = getattr(o, kind)[other]
            per_sample = []
            for i in range(len(batch)):
                seen_a, seen_b = batch.observed[names[a]][i], batch.observed[names[other]][i]
                per_sample.append((o.private[a][i][seen_a] @ pair[i][seen_b].T).square().sum())
            orth.append(torch.stack(per_sample).mean())
        first, second = model.adversary
        for x in (o.private[a], o.shared[a]):
            seen = x[batch.observed[names[a]]]
            logits = second(F.relu(first(seen)))
            told.append(F.cross_entropy(logits, torch.full((len(seen),), a)))
    torch.testing.assert_close(terms["orth"], torch.stack(orth).sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms["adv"], torch.stack(told).sum(), rtol=0, atol=1e-12)
    common = sum(x[:, 0] * batch.observed[m][:, :1] for m, x in zip(names, o.shared))
    expected = F.binary_cross_entropy_with_logits(model.common(common), batch.target)
    torch.testing.assert_close(terms["shared"], expected, rtol=0, atol=1e-12)
    assert set(model.weights(START)) | {"cls"} == set(terms)


def test_the_shared_parts_learn_to_confuse_the_adversary_and_the_adversary_to_tell():
    model, batch = model_of(adv_weight=1.0)
    o = model(batch, SILENT)
    adv = model.losses(o, batch, START)[0]["adv"]
    straight = torch.zeros((), dtype=torch.float64)
    first, second = model.adversary
    for i, (m, x) in enumerate(zip(batch.features, o.shared)):
        seen = x[batch.observed[m]]
        straight = straight + F.cross_entropy(second(F.relu(first(seen))), torch.full((len(seen),), i))
    weights = model.shared.weight, first.weight
    reversed_, _ = torch.autograd.grad(adv, weights, retain_graph=True)
    plain, told = torch.autograd.grad(straight, weights, retain_graph=True)
    torch.testing.assert_close(reversed_, -plain, rtol=0, atol=1e-12)
    (private,) = torch.autograd.grad(adv, first.weight, retain_graph=True)
    assert (private * told).sum() > 0


def test_places_in_the_joint_sequence_do_not_depend_on_the_batch():
    """A batch cut to its longest sequences keeps the places of those behind: masks hide what was cut."""
    model, batch = model_of(size="unaligned")
    short = {m: int(batch.lengths[m][:4].max()) for m in batch.features}
    rows = batch.rows(torch.arange(4))
    cut = rows.__class__(
        {m: x[:, : short[m]] for m, x in rows.features.items()}, rows.lengths,
        {m: x[:, : short[m]] for m, x in rows.observed.items()}, rows.target, rows.index, rows.group,
    )  # fmt: skip
    torch.testing.assert_close(model(cut, SILENT).prediction, model(rows, SILENT).prediction, rtol=0, atol=1e-12)


def test_published_drop_out_of_logits_makes_a_probability_one_half():
    model, batch = model_of(logit_dropout=0.5)
    quiet = {"dropout": 0.0, "private_dropout": 0.0, "shared_dropout": 0.0}
    model, batch = model_of(logit_dropout=0.5, **quiet)

    class Half:
        training = True

        def dropout(self, x, p):
            return x * (torch.arange(x.numel()).view(x.shape) % 2) if p == 0.5 else x

    assert (model(batch, Half()).prediction[:, 0] == 0).all()
    assert (model(batch, SILENT).prediction[:, 0] != 0).all()


def test_settings_that_cannot_be_are_refused():
    alone = Shape({"text": 4}, {"text": 3}, SHAPES["mosei_emotions"].task)
    with pytest.raises(ConfigError, match="needs two modalities or more to tell apart, got text alone"):
        registry.build("tailor", alone)
    with pytest.raises(ConfigError, match="20 steps together, more than joint_positions 19"):
        model_of(joint_positions=19)
    with pytest.raises(ConfigError, match="text has 5 steps, more than positions 4"):
        model_of(positions=4)
