"""MMIM: likelihood, entropy and contrast against independent forms, the two stages, memory, switches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fusion_help import SILENT, START, built, terms_of, whole
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.mmim import class_entropy
from affectcore.models.contract import Shape
from affectcore.models.naive import twin


def test_both_stages_equal_the_naive_twins_over_steps():
    torch.set_default_dtype(torch.float64)
    try:
        model, batch = built("mmim", "author", memory=6)
        batch = whole(batch)
        batch = batch.rows(batch.observed["text"][:, 0].nonzero()[:, 0])  # the published code divides by their length
        batch = batch.rows(torch.arange(len(batch) // 2 * 2))
        model.config = replace(model.config, memory=len(batch) // 2)
        model.codes, model.owner = model.codes[: len(batch) // 2], model.owner[: len(batch) // 2]
        naive = twin(model).eval()
        bound, main = model.stages()
        for part in torch.arange(len(batch)).chunk(2):
            b = batch.rows(part)
            both = zip((bound, main), naive.losses(b))
            for stage, his in both:
                terms, memo = model.stage_losses(stage, b, SILENT, START)
                mine = sum(model.weights(START).get(k, 1.0) * v for k, v in terms.items())
                torch.testing.assert_close(mine, his, rtol=0, atol=1e-11)
                for loss, m in ((mine, model), (his, naive)):
                    m.zero_grad()
                    loss.backward()
                    with torch.no_grad():
                        for name, p in m.named_parameters():
                            if p.grad is not None and name.startswith("bounds") == (stage is bound):
                                p.sub_(0.01 * p.grad)
            model.remember({k: v.detach() for k, v in memo.items()})
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_likelihood_is_a_normals_unless_shortened():
    model, _ = built("mmim", free_variance=True)
    x, y = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    bound = model.bounds["audio"]
    mean, v = (b(F.relu(a(x))) for a, b in (bound.mean, bound.variance))
    normal = torch.distributions.Normal(mean, (v / 2).exp())
    torch.testing.assert_close(bound(x, y), (normal.log_prob(y) + 0.5 * np.log(2 * np.pi)).sum(1))


def test_the_short_likelihood_grows_with_the_variance_and_the_full_one_does_not():
    for short, expected in ((True, True), (False, False)):
        model, batch = built("mmim", short_likelihood=short, free_variance=True)
        wide = []
        for bias in (0.0, 8.0, 16.0):
            with torch.no_grad():
                for b in model.bounds.values():
                    b.variance[1].bias.fill_(bias)
            wide.append(-terms_of(model, batch)[0]["lld"].item())
        assert (wide[0] < wide[1] < wide[2] < 0) == expected
        assert (abs(wide[2]) < 1e-3) == expected


def test_the_variance_is_held_within_a_tanh():
    model, _ = built("mmim")
    x, y = torch.zeros(3, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    bound = model.bounds["audio"]
    with torch.no_grad():
        bound.variance[1].weight.zero_()
        bound.variance[1].bias.fill_(50.0)
    mean = bound.mean[1](F.relu(bound.mean[0](x)))
    torch.testing.assert_close(bound(x, y), (-((mean - y) ** 2) / (2 * np.e) - 0.5).sum(1))


def test_the_entropy_is_half_the_log_determinant_of_each_class():
    x = torch.randn(40, 3, dtype=torch.float64)
    owner = torch.zeros(40, 3, dtype=torch.float64)
    owner[:20, 0] = owner[20:37, 1] = owner[37:, 2] = 1  # the last class is too small for three features
    parts = [x[:20].numpy(), x[20:37].numpy()]
    expected = sum(np.linalg.slogdet(np.cov(p.T, bias=True) + 0.01 * np.eye(3))[1] / 2 for p in parts) / 3
    assert class_entropy(x, owner, 0.01).item() == pytest.approx(expected)


def test_the_contrast_is_a_cross_entropy_over_the_batchs_predictions():
    model, batch = built("mmim")
    alone = whole(batch)
    output = model(alone, SILENT)
    expected = 0.0
    for m, h in output.vectors.items():
        scores = F.cosine_similarity(h[:, None], model.predict[m](output.fused)[None], dim=-1)
        expected += F.cross_entropy(scores, torch.arange(len(alone)))
    torch.testing.assert_close(terms_of(model, alone)[0]["nce"], expected)


def test_missing_modalities_count_in_no_term_of_information():
    model, batch = built("mmim")
    alone = whole(batch)
    hidden = batch.with_observed(
        {m: batch.observed[m] & torch.isin(batch.index, alone.index).unsqueeze(1) for m in batch.modalities}
    )
    full, part = terms_of(model, alone)[0], terms_of(model, hidden)[0]
    for k in ("nce", "lld", "entropy"):
        torch.testing.assert_close(part[k], full[k], rtol=1e-11, atol=0)


def test_the_bound_needs_both_modalities_of_a_pair():
    model, batch = built("mmim")
    assert not batch.observed["text"][0].any()
    assert batch.observed["audio"][0].any()
    rest = batch.rows(torch.arange(1, len(batch)))
    torch.testing.assert_close(terms_of(model, batch)[0]["lld"], terms_of(model, rest)[0]["lld"])


def test_each_stage_reaches_its_own_parameters():
    model, batch = built("mmim")
    bound, main = model.stages()
    terms, memo = model.stage_losses(bound, batch, SILENT, START)
    assert set(terms) == {"bound"}
    assert not memo
    reached = torch.autograd.grad(terms["bound"], list(model.parameters()), allow_unused=True)
    for (name, _), g in zip(model.named_parameters(), reached):
        assert (g is not None) == (name.startswith("bounds") and ".project." not in name), name
    terms, memo = model.stage_losses(main, batch, SILENT, START)
    assert set(terms) == set(main.losses)
    assert terms["lld"].item() == pytest.approx(terms_of(model, batch)[0]["bound"].item())


def test_the_memory_holds_the_last_vectors():
    model, batch = built("mmim", memory=8)
    seen = []
    for part in (torch.arange(5), torch.arange(5, 12)):
        output = model(batch.rows(part), SILENT)
        _, memo = model.losses(output, batch.rows(part), START)
        seen.append(torch.tanh(model.bounds["audio"].project(output.vectors["audio"])).detach())
        with torch.no_grad():
            model.remember(memo)
    torch.testing.assert_close(model.codes[:, :1], torch.cat(seen)[-8:])
    there = batch.observed["audio"].any(1)[-8:]
    assert torch.equal(model.owner[:, 0].sum(1) > 0, there & (batch.target[-8:] != 0))


@pytest.mark.parametrize(("kind", "groups"), [("single_label", 3), ("multi_label", 1)])
def test_classes_of_the_entropy_follow_the_task(kind, groups):
    model, batch = built("mmim", kind=kind)
    assert model.owner.shape == (8, 2, groups)
    assert torch.isfinite(terms_of(model, batch)[0]["entropy"])
    g = model._groups(batch.target)
    assert (g.sum(1) == 1).all()


def test_mmim_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="vector 3 must be 4 or more"):
        built("mmim", vector=3)
    with pytest.raises(ConfigError, match="needs two or more, got audio alone"):
        registry.build("mmim", Shape.of(make("aligned").only(("audio",))))
