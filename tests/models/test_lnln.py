"""LNLN: losses against the naive twin, whose gradient is reversed, what completeness is taught, refusals."""

import pytest
import torch
from incomplete_help import SILENT, gradient, plenty, pools, small

from affectcore.errors import ConfigError
from affectcore.models.baselines.lnln import reverse
from affectcore.models.contract import Progress
from affectcore.models.naive import twin

START = Progress(0, 0, 1, 1)


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
def test_the_training_loss_and_its_gradient_equal_the_naive_form(size):
    model, batch = small("lnln", "author", size)
    one, two = pools(model, batch)
    terms, _ = model.losses(model(batch, one), batch, START)
    ours = sum(model.weights(START)[k] * v for k, v in terms.items())
    view, rates = model.view(batch, two)
    naive = twin(model).train()
    theirs = naive.total(batch, view, rates["text"])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    sizes = [
        sorted(g.norm().item() for g in gradient(x, list(m.parameters()))) for x, m in ((ours, model), (theirs, naive))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-8, abs=1e-9)


def terms_of(preset="clean", **settings):
    model, batch = small("lnln", preset, **settings)
    out = model(batch, pools(model, batch, 1)[0])
    return model, out, model.losses(out, batch, START)[0], batch


def test_a_reversed_value_keeps_its_value():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse(x), x)
    assert torch.equal(gradient(reverse(x).sum(), [x])[0], -torch.ones_like(x))


def test_the_published_proxy_climbs_the_task_loss():
    by = {}
    for everywhere in (True, False):
        model, _, terms, _ = terms_of("author", reverse_all=everywhere)
        proxy = list(model.proxy.parameters())
        by[everywhere] = [gradient(terms[k], proxy) for k in ("task", "adversarial")]
    for a, b in zip(by[True][0], by[False][0]):
        torch.testing.assert_close(a, -b)
    for a, b in zip(by[True][1], by[False][1]):
        torch.testing.assert_close(a, b)  # the discriminator's gradient is reversed in both


def test_the_complete_view_learns_from_being_a_target_in_author_alone():
    for attached in (True, False):
        _, out, _, _ = terms_of(attached_targets=attached)
        assert out.complete.requires_grad is attached


def test_completeness_is_what_was_drawn_or_what_is_observed():
    _, out, terms, batch = terms_of(hide_rate=0.0, ends=())
    seen = batch.observed["text"].sum(1) / batch.lengths["text"]
    torch.testing.assert_close(out.true_completeness.squeeze(1).double(), seen.double())
    assert seen.min() == 0  # a sample that lacks its text is incomplete though nothing was hidden
    _, drawn, _, _ = terms_of(hide_rate=0.0, drawn_completeness=True)
    assert (drawn.true_completeness == 1).all()
    expected = (out.completeness.squeeze(1) - seen).square().mean()
    torch.testing.assert_close(terms["completeness"], expected, check_dtype=False)


def test_half_of_the_samples_are_spared():
    model, batch = small("lnln")
    spared = []
    for seed in range(40):
        _, rates = model.view(batch, plenty(seed))
        spared.append(torch.cat([r == 0 for r in rates.values()]))
    assert torch.cat(spared).double().mean() == pytest.approx(0.5, abs=0.05)


def test_the_adversarial_term_is_a_cross_entropy_of_corrected_against_complete():
    _, out, terms, batch = terms_of()
    n = len(out.judged) // 2
    labels = torch.cat([torch.ones(n), torch.zeros(n)]).long()
    torch.testing.assert_close(terms["adversarial"], torch.nn.functional.cross_entropy(out.judged, labels))
    torch.testing.assert_close(terms["task"], (out.prediction - batch.target).square().mean())


def test_any_modality_may_dominate_and_one_must():
    model, batch = small("lnln", dominant="vision")
    assert model.others == ("text", "audio")
    assert torch.isfinite(model(batch, SILENT).prediction).all()
    for settings, message in (
        ({"dominant": "face"}, "dominant 'face' must be one of two or more modalities, got text, audio, vision"),
        ({"width": 7}, "width 7 cannot be split into 2 heads"),
        ({"complete_share": 2}, "complete_share 2 must lie"),
    ):
        with pytest.raises(ConfigError, match=message):
            small("lnln", **settings)
