"""The lite forms: the counts of the paper's table, their extra losses by brute force, what they need."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from fusion_help import SILENT, built, terms_of, whole
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.models.shapes import SHAPES

COUNTS = {"tfn": 644_230, "mult": 756_038, "misa": 153_094, "mmim": 367_494, "tetfn": 555_782}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameters_are_those_of_the_papers_table(name, count):
    entry = registry.entry(f"lite_{name}")
    assert SHAPES[entry.shape].dims == {"text": 300, "audio": 74, "vision": 35}
    assert registry.parameters(entry.name, "author") == registry.parameters(entry.name) == count


def test_moments_and_overlap_by_loops():
    model, batch = built("lite_misa")
    output = model(batch, SILENT)
    terms = terms_of(model, batch)[0]
    there = {m: batch.observed[m].any(1) for m in batch.modalities}
    codes = [s[t] for s, t in zip(output.shared, there.values())]
    gaps = []
    for a, b in combinations(codes, 2):
        gaps += [((a**k).mean(0) - (b**k).mean(0)).square().mean() for k in range(1, 6)]
    torch.testing.assert_close(terms["moments"], torch.stack(gaps).mean())
    inner = [
        torch.stack([torch.dot(x, y) ** 2 for x, y in zip(s[t], p[t])]).mean()
        for s, p, t in zip(output.shared, output.private, there.values())
    ]
    torch.testing.assert_close(terms["overlap"], torch.stack(inner).mean())


def test_contrast_is_the_cross_entropy_of_both_directions():
    model, batch = built("lite_mmim")
    alone = whole(batch)
    output = model(alone, SILENT)
    own, expected = torch.arange(len(alone)), []
    for view in output.views[1:]:
        scores = F.cosine_similarity(output.views[0][:, None], view[None], dim=-1) / 0.07
        expected.append((F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2)
    full = terms_of(model, alone)[0]["contrast"]
    torch.testing.assert_close(full, torch.stack(expected).mean())
    hidden = batch.with_observed(
        {m: batch.observed[m] & torch.isin(batch.index, alone.index).unsqueeze(1) for m in batch.modalities}
    )
    torch.testing.assert_close(terms_of(model, hidden)[0]["contrast"], full)


def test_tfn_forms_the_whole_product():
    model, batch = built("lite_tfn")
    batch = whole(batch)
    vectors = []
    for m, layer in zip(batch.modalities, model.encode):
        rows = [x[o].mean(0) for x, o in zip(batch.features[m], batch.observed[m])]
        vectors.append(F.pad(torch.relu(layer(torch.stack(rows))), (0, 1), value=1.0))
    h = torch.einsum("bi,bj,bk->bijk", *vectors).flatten(1)
    for layer in model.post:
        h = torch.relu(layer(h))
    torch.testing.assert_close(model(batch, SILENT).prediction, model.last(h)[:, 0])


def test_mult_joins_step_by_step_where_lengths_agree_and_by_shares_where_not():
    model, batch = built("lite_mult", "author", size="aligned")
    x = {m: model.project[m](batch.features[m]) for m in batch.modalities}
    parts = [cross(x[a], x[b], None, SILENT, 0.0) for (a, b), cross in zip(model.pairs, model.cross)]
    h = F.gelu(model.norm(model.join(torch.cat(parts, -1)))).mean(1)
    torch.testing.assert_close(model(batch, SILENT).prediction, model.last(torch.relu(model.post(h)))[:, 0])
    model, batch = built("lite_mult")
    data = batch.features["audio"].clone().requires_grad_()
    one = replace(batch, features=dict(batch.features) | {"audio": data}).rows(torch.tensor([2]))
    model(one, SILENT).prediction.sum().backward()
    assert (data.grad[2] != 0).any(1).sum() == batch.observed["audio"][2].sum()


def test_the_smoothed_loss_of_classes():
    for name in COUNTS:
        model, batch = built(f"lite_{name}", kind="single_label")
        y = model(batch, SILENT).prediction
        expected = 0.9 * F.cross_entropy(y, batch.target) - 0.1 * y.log_softmax(1).mean()
        torch.testing.assert_close(terms_of(model, batch)[0]["task"], expected)


def test_each_form_says_what_it_needs():
    data = make("aligned")
    with pytest.raises(ConfigError, match="LiteMISA: needs two modalities or more, got audio alone"):
        registry.build("lite_misa", Shape.of(data.only(("audio",))))
    with pytest.raises(ConfigError, match="LiteTETFN: needs a modality named text, got audio, vision"):
        registry.build("lite_tetfn", Shape.of(data.only(("audio", "vision"))))
