"""Objectives against DomainBed's formulas written out environment by environment, autograd, and brute force."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta
from small_data import make

from affectcore.data.schema import Task
from affectcore.errors import ConfigError
from affectcore.models import objectives, registry
from affectcore.models.contract import Output, Progress, Shape
from affectcore.nn.losses import sample_loss, task_loss, two_way_kl
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.studies.spec import DataSpec, RunSpec
from affectcore.training import loop
from affectcore.training.recipe import Recipe

KINDS = ("regression", "single_label", "multi_label")
LATE, EARLY = Progress(9, 99, 100, 10), Progress(0, 0, 100, 10)


def setup(name, kind="single_label", preset="clean", **settings):
    """A wrapped MLP in float64, a batch of 40 with unequal environments, and noise without drop-out."""
    data = make("unaligned", kind, n=80)
    torch.manual_seed(0)
    model = registry.build(name, Shape.of(data), preset, **settings).double()
    batch = data.split("train").to("cpu", torch.float64)
    environment = torch.tensor([0] * 17 + [1] * 6 + [2] * 17)[torch.randperm(40)]
    return model, batch.__class__(**{**vars(batch), "environment": environment})


def noise_of(model, batch, seed=0):
    tape = Tape(torch.zeros((), dtype=torch.float64))
    model(batch, tape)
    return Pool(fill([seed], tape.words, "cpu", "test")[0], torch.zeros((), dtype=torch.float64))


def quiet():
    return Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def total(model, terms, progress=LATE):
    weights = model.weights(progress)
    return sum(weights.get(k, 1.0) * v for k, v in terms.items())


def parts(model, batch):
    """Per environment: prediction, target, representation, and the scalar task loss."""
    output = model.backbone(batch, quiet())
    z = output.prediction if output.representation is None else output.representation
    rows = [batch.environment == e for e in range(3)]
    f = [output.prediction[r] for r in rows]
    y = [batch.target[r] for r in rows]
    return f, y, [z[r] for r in rows], [task_loss(model.shape.task, a, b) for a, b in zip(f, y)]


def losses(model, batch, progress=LATE):
    return model.losses(model(batch, quiet()), batch, progress)


def domainbed_irm(task, f, y):
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    one = task_loss(task, f[::2] * scale, y[::2])
    two = task_loss(task, f[1::2] * scale, y[1::2])
    g1, g2 = (torch.autograd.grad(v, scale, create_graph=True)[0] for v in (one, two))
    return g1 * g2


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_autograds(kind):
    task = Task(kind, ("a",) if kind == "regression" else ("a", "b", "c"))
    g = torch.Generator().manual_seed(0)
    f = torch.randn((7,) if kind == "regression" else (7, 3), generator=g, dtype=torch.float64)
    y = {"regression": f[:, None].sum(-1) * 0.3, "single_label": torch.arange(7) % 3}.get(kind, (f > 0.4).double())
    w = torch.ones(7, dtype=torch.float64, requires_grad=True)
    (want,) = torch.autograd.grad(sample_loss(task, f * (w if kind == "regression" else w[:, None]), y).sum(), w)
    torch.testing.assert_close(objectives.slopes(kind, f, y), want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_irm_is_domainbeds_and_the_papers_form_is_the_square(kind):
    model, batch = setup("irm", kind, environments=3)
    f, y, _, each = parts(model, batch)
    terms, _ = losses(model, batch)
    want = sum(domainbed_irm(model.shape.task, a, b) for a, b in zip(f, y)) / 3
    torch.testing.assert_close(terms["irm"], want, rtol=0, atol=1e-14)
    torch.testing.assert_close(terms["task"], sum(each) / 3, rtol=0, atol=1e-14)
    params = list(model.parameters())
    ours = torch.autograd.grad(total(model, terms), params)
    theirs = torch.autograd.grad(sum(each) / 3 + 100 * want, params)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
    model, batch = setup("irm", kind, "paper", environments=3)
    terms, _ = losses(model, batch)
    slopes = [objectives.slopes(kind, a, b).mean() for a, b in zip(f, y)]
    torch.testing.assert_close(terms["irm"], sum(s**2 for s in slopes) / 3, rtol=0, atol=1e-14)


def test_the_product_of_halves_is_unbiased_and_the_square_is_not():
    g = torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hot = torch.ones(4, 1, dtype=torch.float64)
    drawn = torch.tensor([*itertools.product(range(8), repeat=4)])  # every batch of four, with replacement
    halves, square = (torch.stack([objectives.irm_penalty(g[d], hot, h) for d in drawn]).mean() for h in (True, False))
    assert float(halves) == pytest.approx(float(g.mean() ** 2), abs=1e-12)
    assert float(square) > float(g.mean() ** 2) + 0.05


def test_vrex_is_domainbeds():
    model, batch = setup("vrex", environments=3)
    each = torch.stack(parts(model, batch)[3])
    terms, _ = losses(model, batch)
    want = each.mean() + 10 * ((each - each.mean()) ** 2).mean()
    torch.testing.assert_close(total(model, terms), want, rtol=0, atol=1e-13)


def test_the_bottleneck_is_domainbeds():
    model, batch = setup("ib_irm", environments=3)
    _, _, z, _ = parts(model, batch)
    terms, _ = losses(model, batch)
    assert z[0].shape[1] == model.backbone.config.hidden
    torch.testing.assert_close(terms["bottleneck"], sum(v.var(dim=0).mean() for v in z) / 3, rtol=0, atol=1e-14)
    assert model.weights(EARLY) == {"irm": 1.0, "bottleneck": 0.0}
    assert model.weights(LATE) == {"irm": 100.0, "bottleneck": 100.0}


@pytest.mark.parametrize("preset", ["clean", "paper"])
def test_coral_is_domainbeds_and_the_papers(preset):
    model, batch = setup("coral", preset=preset, environments=3)
    _, _, z, _ = parts(model, batch)
    want = 0.0
    for a, b in itertools.combinations(z, 2):
        gap = torch.cov(a.T) - torch.cov(b.T)
        if preset == "clean":
            want += (a.mean(0) - b.mean(0)).pow(2).mean() + gap.pow(2).mean()
        else:
            want += gap.norm() ** 2 / (4 * len(gap) ** 2)
    torch.testing.assert_close(losses(model, batch)[0]["coral"], want / 3, rtol=0, atol=1e-13)


def test_groupdro_is_domainbeds_over_steps():
    model, batch = setup("groupdro", environments=3, eta=0.5)
    q = torch.ones(3, dtype=torch.float64)
    for _ in range(3):
        each = torch.stack(parts(model, batch)[3])
        q = q * (0.5 * each.detach()).exp()
        q = q / q.sum()
        terms, memo = losses(model, batch)
        torch.testing.assert_close(terms["task"], torch.dot(each, q), rtol=0, atol=1e-13)
        model.remember(memo)
    torch.testing.assert_close(model.q, q, rtol=0, atol=1e-13)
    assert model.q.max() - model.q.min() > 0.02


def test_absent_and_single_environments_do_no_harm():
    for name in ("irm", "vrex", "ib_irm", "groupdro", "coral"):
        model, batch = setup(name, environments=5)
        few = batch.rows(torch.cat([(batch.environment == 0).nonzero()[:, 0], (batch.environment == 1).nonzero()[0]]))
        terms, _ = losses(model, few)
        assert all(torch.isfinite(v) for v in terms.values()), name
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(total(model, terms), model.parameters()))
    each = [task_loss(model.shape.task, *x) for x in zip(*parts(model, few)[:2])][:2]
    model = setup("erm", environments=5)[0]
    torch.testing.assert_close(losses(model, few)[0]["task"], sum(each) / 2)


def test_erm_is_the_backbones_loss_unless_environments_count():
    model, batch = setup("erm")
    assert losses(model, batch)[0]["task"] == model.backbone.losses(model(batch, quiet()), batch, LATE)[0]["task"]
    balanced, _ = setup("erm", environments=3)
    torch.testing.assert_close(losses(balanced, batch)[0]["task"], sum(parts(balanced, batch)[3]) / 3)


def test_eiils_split_is_the_best_of_all_and_what_gradient_steps_find():
    g = torch.randn(8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def value(weights):
        return (weights @ g) ** 2 + ((1 - weights) @ g) ** 2

    splits = torch.tensor([*itertools.product([0.0, 1.0], repeat=8)], dtype=torch.float64)
    sign = (g > 0).double()
    assert float(value(sign)) == pytest.approx(max(float(value(s)) for s in splits))
    logits = torch.randn(8, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        adam.zero_grad()
        (-value(logits.sigmoid())).backward()
        adam.step()
    learned = (logits.sigmoid() > 0.5).double()
    assert torch.equal(learned, sign) or torch.equal(learned, 1 - sign)


def test_eiil_is_erm_and_then_irm_on_the_frozen_models_split():
    model, batch = setup("eiil", reference=0.5)
    terms, memo = model.losses(model(batch, noise_of(model, batch)), batch, EARLY)
    output = model(batch, quiet())
    assert model.weights(EARLY) == {"irm": 0.0}
    whole = task_loss(model.shape.task, output.prediction, batch.target)
    torch.testing.assert_close(losses(model, batch, EARLY)[0]["task"], whole)
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.add_(0.3)
        model.remember(memo)  # in the first phase the frozen model follows
    assert all(torch.equal(a, b) for a, b in zip(model.frozen.buffers(), model.backbone.parameters()))
    old = model.frozen(batch, quiet()).prediction
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.mul_(-0.7)
    output = model(batch, noise_of(model, batch))
    torch.testing.assert_close(output.reference, old)  # and no drop-out in it
    terms, memo = model.losses(output, batch, LATE)
    up = objectives.slopes("single_label", old, batch.target) > 0
    assert 0 < up.sum() < len(up)
    each = [task_loss(model.shape.task, output.prediction[r], batch.target[r]) for r in (up, ~up)]
    torch.testing.assert_close(terms["task"], sum(each) / 2)
    want = sum(domainbed_irm(model.shape.task, output.prediction[r], batch.target[r]) for r in (up, ~up)) / 2
    torch.testing.assert_close(terms["irm"], want)
    before = [b.clone() for b in model.frozen.buffers()]
    with torch.no_grad():
        model.remember(memo)
    assert all(torch.equal(a, b) for a, b in zip(before, model.frozen.buffers()))


@pytest.mark.parametrize("kind", KINDS)
def test_mixup_is_the_textbooks(kind):
    model, batch = setup("mixup", kind, alpha=1.0, backbone_settings={"dropout": 0.0, "input_dropout": 0.0})
    output = model(batch, noise_of(model, batch))
    terms, _ = model.losses(output, batch, LATE)
    s, j = output.share, output.partner
    assert sorted(j.tolist()) == [*range(len(batch))]
    assert 0.05 < s < 0.95
    x = {m: s * v + (1 - s) * v[j] for m, v in batch.features.items()}  # hidden values are zero
    seen = {m: o | o[j] for m, o in batch.observed.items()}
    f = model.backbone(batch.__class__(**{**vars(batch), "features": x, "observed": seen}), quiet()).prediction
    y, task = batch.target, model.shape.task
    if kind == "single_label":
        want = s * F.cross_entropy(f, y) + (1 - s) * F.cross_entropy(f, y[j])
    else:
        want = task_loss(task, f, s * y + (1 - s) * y[j])
    torch.testing.assert_close(terms["task"], want)
    assert type(model(batch, quiet())) is Output  # nothing is mixed in evaluation


def test_shares_of_mixup_are_betas():
    for alpha in (0.2, 1.0, 3.0):
        model = setup("mixup", alpha=alpha)[0]
        pool = Pool(fill([0], 40_000, "cpu", "beta")[0], torch.zeros((), dtype=torch.float64))
        drawn = model.quantiles[(pool.uniform(20_000) * objectives.QUANTILES).long()]
        for x in (0.01, 0.1, 0.5, 0.8, 0.99):
            assert float((drawn <= x).double().mean()) == pytest.approx(beta.cdf(x, alpha, alpha), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_rdrop_is_the_papers(kind):
    model, batch = setup("rdrop", kind, alpha=3.0)
    output = model(batch, noise_of(model, batch))
    p, q = (o.prediction for o in output.inner)
    assert (p - q).abs().max() > 0.01
    terms, _ = model.losses(output, batch, LATE)
    y, task = batch.target, model.shape.task
    if kind == "single_label":
        a, b = torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
    elif kind == "multi_label":
        a, b = torch.distributions.Bernoulli(logits=p), torch.distributions.Bernoulli(logits=q)
    else:
        a, b = torch.distributions.Normal(p, 1.0), torch.distributions.Normal(q, 1.0)
    kl = (torch.distributions.kl_divergence(a, b) + torch.distributions.kl_divergence(b, a)) / 2
    whole = task_loss(task, p, y) + task_loss(task, q, y) + 3.0 * kl.mean()  # the paper's sum, twice ours
    torch.testing.assert_close(2 * total(model, terms), whole)
    torch.testing.assert_close(two_way_kl(task, p, q).mean(), kl.mean())


BACKBONES = [
    ("tfn", "author", {"text_hidden": 4, "text_out": 3, "audio_hidden": 4, "vision_hidden": 3, "post_hidden": 4}),
    ("late_fusion", "joint", {"hidden": 5}),
]
NAMES = {"irm": 3, "ib_irm": 3, "groupdro": 3, "coral": 3, "eiil": 0, "mixup": 0, "rdrop": 0}


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b[0])
@pytest.mark.parametrize("name", NAMES)
def test_other_backbones_train_stacked_as_alone(name, backbone):
    inner, preset, settings = backbone
    data = make("pooled" if inner == "tfn" else "aligned", "single_label")
    more = {"environments": NAMES[name]} if NAMES[name] else {}

    def build():
        return registry.build(
            name, Shape.of(data), backbone=inner, backbone_preset=preset, **{"backbone_settings": settings, **more}
        ).double()

    recipe = Recipe(epochs=2, batch_size=12, patience=None, selection="valid_last", lr=3e-3)
    single = loop.fit(build, data, recipe, [0, 1])
    stacked = loop.fit(build, data, recipe, [0, 1], stacked=True)
    for one, two in zip(single, stacked):
        assert max(float((v - two.state[k]).abs().max()) for k, v in one.state.items()) < 1e-9
    assert max(float((v - single[1].state[k]).abs().max()) for k, v in single[0].state.items()) > 1e-3


def test_the_backbones_statistics_and_stages_are_kept():
    data = make("unaligned")
    settings = {"backbone": "tfn", "backbone_settings": BACKBONES[0][2] | {"batch_norm": True}, "environments": 3}

    def build():
        return registry.build("groupdro", Shape.of(data), **settings).double()

    (got,) = loop.fit(build, data, Recipe(epochs=1, batch_size=6, patience=None, selection="valid_last"), [0])
    start = build().state_dict()
    moved = {
        k for k, v in got.state.items() if not torch.equal(v, start[k]) and k not in dict(build().named_parameters())
    }
    assert "q" in moved
    assert any("norm" in k for k in moved)


def test_settings_travel_as_json():
    data = DataSpec("w", "world", "environments")
    overrides = {"environments": 2, "backbone": "mlp", "backbone_settings": {"hidden": 16}}
    spec = RunSpec("s", "irm", "smoke", 0, data, "irm", overrides=overrides)
    again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    config = registry.config("irm", **again.overrides)
    assert config == registry.config("irm", environments=2, backbone_settings={"hidden": 16})
    assert config.backbone_settings == (("hidden", 16),)
    hash(config)
    nested = {"backbone": "rdrop", "backbone_settings": {"backbone": "tfn", "backbone_settings": {"post_hidden": 4}}}
    assert registry.build("erm", Shape.of(make("aligned")), **nested).backbone.backbone.config.post_hidden == 4
    assert registry.modules("erm", **nested)[-1] == "affectcore.models.baselines.tfn"


def test_what_cannot_be_wrapped_is_refused_in_one_line():
    shape = Shape.of(make("aligned"))
    for message, name, settings in (
        ("irm: backbone 'linear' is an estimator", "irm", {"backbone": "linear"}),
        ("model 'mlpp' is unknown", "erm", {"backbone": "mlpp"}),
        ("mlp: setting 'hiden' is unknown", "erm", {"backbone_settings": {"hiden": 3}}),
        ("late_fusion', preset 'clean', gives 'task' no weight", "vrex", {"backbone": "late_fusion"}),
        (r"environments = 0 must be a whole number >= 1", "coral", {"environments": 0}),
        (r"eiil: reference = 1.5 must be in \(0, 1\)", "eiil", {"reference": 1.5}),
        ("mixup: alpha = 0 must be > 0", "mixup", {"alpha": 0}),
        ("rdrop: alpha = -1 must be >= 0", "rdrop", {"alpha": -1}),
    ):
        with pytest.raises(ConfigError, match=message) as e:
            registry.build(name, shape, **settings)
        assert "\n" not in str(e.value)
    model, batch = setup("vrex", environments=3)
    with pytest.raises(ConfigError, match="vrex: the data name no environments"):
        losses(model, batch.__class__(**{**vars(batch), "environment": None}))
    model, batch = setup("vrex", environments=2)  # the batch holds three
    assert torch.isnan(losses(model, batch)[0]["task"])
    model, batch = setup("rdrop", term="nll")
    with pytest.raises(ConfigError, match=r"rdrop: backbone 'mlp' has no loss 'nll' \(setting `term`\), it has task"):
        losses(model, batch)


def test_a_penalty_finds_the_invariant_feature():
    """Two environments: x0 causes y with noise, x1 follows y almost surely but to another degree in each."""
    rng = np.random.default_rng(0)
    n = 1400
    e = np.arange(n) % 2
    y = rng.integers(0, 2, n)
    x0 = np.where(rng.random(n) < 0.75, y, 1 - y) * 2.0 - 1
    x1 = np.where(rng.random(n) < np.where(e == 0, 0.95, 0.75), y, 1 - y) * 2.0 - 1
    from affectcore.data.schema import AffectData

    data = AffectData(
        "coloured", Task("single_label", ("no", "yes")), {"text": np.stack([x0, x1], 1)[:, None]}, y,
        {"train": np.arange(0, 1200), "valid": np.arange(1200, n)}, environment=e,
    )  # fmt: skip
    recipe = Recipe(epochs=20, batch_size=300, lr=0.03, patience=None, selection="valid_last", clip_norm=None,
                    weight_decay=0.0)  # fmt: skip

    def use_of_spurious(name, **settings):
        def build():
            mlp = {"hidden": 8, "dropout": 0.0, "input_dropout": 0.0}
            return registry.build(name, Shape.of(data), backbone_settings=mlp, environments=2, **settings)

        (got,) = loop.fit(build, data, recipe, [0])
        batch = data.split("valid")
        flipped = batch.features["text"] * torch.tensor([1.0, -1.0])
        p, q = (
            loop.predict(build, got, batch.__class__(**{**vars(batch), "features": {"text": x}}))[:, 1]
            for x in (batch.features["text"], flipped)
        )
        return float(np.abs(p - q).mean())

    erm = use_of_spurious("erm")
    assert use_of_spurious("vrex", weight=1000.0) < 0.6 * erm
    assert use_of_spurious("irm", weight=1000.0) < 0.6 * erm
