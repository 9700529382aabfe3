"""LDDU: counts, losses against brute force, calibration, history, classes, gates, families, switches."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import formula, wave
from scipy import stats
from small_data import make
from torch import nn
from traits import traits

from affectcore.errors import ConfigError
from affectcore.evaluation.metrics import jaccard, micro_f1, micro_precision, micro_recall
from affectcore.models import lddu, registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.naive import twin
from affectcore.models.shapes import SHAPES
from affectcore.nn.contrastive import LEFT_OUT
from affectcore.nn.labels import as_labels
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training.bench import random_batch

START = Progress(0, 0, 10, 1)
SMALL = traits("lddu").small | {"dropout": 0.0, "queue": 200}
QUIET = {"label_dropout": 0.0, "head_dropout": 0.0, "latent_dropout": 0.0, "attention_dropout": 0.0}
SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def model_of(preset="clean", **more):
    data = make("aligned", "multi_label")
    torch.manual_seed(0)
    model = registry.build("lddu", Shape.of(data), preset, **(SMALL | more)).double()
    if model.queue is not None and model.queue.sums is not None:
        model.queue.sum_up()  # in double precision
    return model, data.split("train").to("cpu", torch.float64)


def with_intensity(batch):
    level = batch.target * (0.5 + 2 * torch.rand(batch.target.shape, generator=torch.Generator().manual_seed(0)))
    return replace(batch, extras={"intensity": level})


def noise_for(model, batch):
    tape = Tape(batch.target)
    model(batch, tape)
    return Pool(fill([0], tape.words, "cpu", "lddu")[0], torch.zeros((), dtype=torch.float64))


# --- counts


def test_parameters_are_those_of_the_published_code_but_what_nothing_reads():
    poolers = [nn.Linear(256, 256) for _ in range(3)]
    second = [nn.Linear(6 * 128, 256), nn.Linear(256, 6)] * 2
    unread = sum(p.numel() for layer in [*poolers, *second] for p in layer.parameters())
    assert unread == 594_188
    ours = registry.parameters("lddu", "author")
    assert ours == 5_492_519
    assert ours + unread == 6_086_707  # counted on the published model


def test_golden_numbers_of_the_published_code():
    """Probabilities and calibration loss printed by the published code on weights and inputs by formula, float64."""
    shape = SHAPES["mosei_emotions"]
    model = registry.build("lddu", shape, "author", queue=64).double()
    formula(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(0.1).add_(0.9 if "norm" in name and name.endswith("weight") else 0.0)
    batch = random_batch(shape, 2).to("cpu", torch.float64)
    features = {m: wave(tuple(v.shape), float(i)) for i, (m, v) in enumerate(batch.features.items())}
    batch = replace(batch, features=features, target=(wave((2, 6), 3.0) > 0).double())
    output = model(batch, SILENT)
    expected = [
        [0.482579803566, 0.461561056259, 0.458484043181, 0.482232853235, 0.511847043361, 0.533272495207],
        [0.482562394317, 0.461528564953, 0.458454982868, 0.482217763648, 0.511845558450, 0.533292467534],
    ]  # fmt: skip
    torch.testing.assert_close(
        output.prediction.sigmoid(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-11
    )
    assert model.losses(output, batch, START)[0]["ocl"].item() == pytest.approx(0.028881132782714, abs=1e-12)


# --- losses


def test_author_losses_equal_the_published_order_of_operations_over_several_steps():
    model, batch = model_of("author", **QUIET)
    naive = twin(model).double()
    weights = model.weights(START)
    for _ in range(6):  # 72 rows a step into a queue of 200
        terms, memo = model.losses(model(batch, SILENT), batch, START)
        for k, v in naive.terms(batch).items():
            torch.testing.assert_close(terms[k], v, rtol=0, atol=1e-10, msg=k)
        model.remember(memo)
    loss = sum(weights.get(k, 1.0) * v for k, v in model.losses(model(batch, SILENT), batch, START)[0].items())
    (theirs,) = naive.losses(batch)
    for m in (model, naive):
        m.zero_grad()
    loss.backward()
    theirs.backward()
    ours, others = ([p.grad for p in m.parameters() if p.grad is not None] for m in (model, naive))
    size = [math.sqrt(sum(float(g.square().sum()) for g in gs)) for gs in (ours, others)]
    assert size[0] == pytest.approx(size[1], rel=1e-9)
    torch.testing.assert_close(model.labels.grad, naive.embedding.grad, rtol=1e-8, atol=1e-11)


def test_the_floor_of_the_contrastive_loss_is_entropy():
    """Dossier: with perfectly clustered codes 5.78 to 5.80 nats at the label frequencies of MOSEI."""
    frequency = torch.tensor([0.53, 0.25, 0.22, 0.10, 0.18, 0.09])
    count = 9343 / 18
    entropy = -(frequency * frequency.log() + (1 - frequency) * (1 - frequency).log()).mean()
    assert math.log(count) - float(entropy) == pytest.approx(5.79, abs=0.05)


def test_calibration_is_zero_when_the_norm_is_the_error_plus_a_constant():
    error = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(lddu.agree(error, error + 3.7)) == pytest.approx(0, abs=1e-15)
    assert float(lddu.agree(error, -error)) > 1e-3
    a, b = error.flatten().softmax(0), (-error).flatten().softmax(0)
    both = F.kl_div(a.log(), b, reduction="sum") + F.kl_div(b.log(), a, reduction="sum")
    assert float(lddu.agree(error, -error)) == pytest.approx(float(both), abs=1e-14)


def test_the_calibration_wants_a_larger_norm_for_a_larger_error():
    error = torch.tensor([[0.1, 0.9]], dtype=torch.float64)
    norm = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(lddu.agree(error, norm), norm)
    assert gradient[0, 0] > 0 > gradient[0, 1]


def test_masked_entries_do_not_count_in_the_calibration():
    a, b = torch.rand(4, 2, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    mask = torch.tensor([True, False, True, False]).unsqueeze(-1).expand(4, 2)
    torch.testing.assert_close(lddu.agree(a, b, mask), lddu.agree(a[::2], b[::2]), rtol=0, atol=1e-15)
    assert float(lddu.agree(a, b, mask & False)) == 0


def test_the_published_calibration_trains_the_norm_to_follow_the_probability():
    """Its stationary point is u = p + const - logsumexp over the labels of p, whatever the target."""
    p = torch.rand(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = (p - p.logsumexp(-1, keepdim=True)).requires_grad_()
    model, batch = model_of("author")
    o = model(batch, SILENT)
    logit = torch.logit(p)
    fake = replace(o, direct=logit, latent=replace(o.latent), norm=u)
    (gradient,) = torch.autograd.grad(model._calibration(fake, p, batch, {}), u)
    assert gradient.abs().max() < 1e-15
    at_error = (p - 1).abs().requires_grad_()
    (gradient,) = torch.autograd.grad(model._calibration(replace(fake, norm=at_error), p * 0 + 1, batch, {}), at_error)
    assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["both", "error", "history", "code", "mse"])
def test_forms_of_calibration(kind):
    model, batch = model_of(calibration=kind, **QUIET)
    rows = batch.index
    if kind in ("both", "history"):
        with torch.no_grad():
            model.seen[rows[:8]] = 4.0
            model.right[rows[:8]] = torch.randint(5, (8, 2), generator=torch.Generator().manual_seed(1)).double()
    o = model(batch, SILENT)
    terms, _ = model.losses(o, batch, START)
    u, p, y = o.spread.pow(2).sum((1, 3)).sqrt(), o.direct.sigmoid(), batch.target
    error = 0.5 * lddu.agree((p - y).abs(), u)
    wrong = 1 - model.right[rows[:8]] / 4 if kind in ("both", "history") else None
    history = 0.5 * lddu.agree(wrong, u[:8]) if wrong is not None else 0
    s, v = p.softmax(1).flatten(), u.flatten().softmax(0)
    expected = {
        "both": error + history,
        "error": error,
        "history": history,
        "code": (F.kl_div(v.log(), s, reduction="batchmean") + F.kl_div(s.log(), v, reduction="batchmean")) / 2,
        "mse": (o.spread.pow(2).mean((1, 3)) - (p - y).abs()).pow(2).mean(),
    }[kind]
    torch.testing.assert_close(terms["ocl"], expected, rtol=0, atol=1e-13)


def test_history_counts_correct_labels_per_row_of_the_data_set():
    model, batch = model_of()
    right = 0
    for _ in range(3):
        o = model(batch, SILENT)
        _, memo = model.losses(o, batch, START)
        right = right + ((o.logit > 0) == (batch.target > 0.5)).double()
        model.remember(memo)
    assert torch.equal(model.right[batch.index], right)
    assert model.seen[batch.index].tolist() == [3.0] * len(batch)
    assert float(model.seen.sum()) == 3 * len(batch)


def test_a_history_that_is_too_short_for_the_data_is_refused():
    data = make("aligned", "multi_label")
    registry.build("lddu", Shape.of(data), **(SMALL | {"history_rows": len(data)})).accept(data)
    short = registry.build("lddu", Shape.of(data), **(SMALL | {"history_rows": len(data) - 1}))
    with pytest.raises(ConfigError, match=f"history_rows {len(data) - 1} must be at least the {len(data)} samples"):
        short.accept(data)
    registry.build("lddu", Shape.of(data), **(SMALL | {"history_rows": 1, "calibration": "none"})).accept(data)


def test_optional_terms_by_brute_force():
    model, batch = model_of("early_variant", kl_weight=0.2)
    o = model(batch, SILENT)
    terms, _ = model.losses(o, batch, START)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(o.location, o.spread), normal)
    torch.testing.assert_close(terms["kl"], sum(kl[:, m].sum(-1).mean() for m in range(3)), rtol=0, atol=1e-12)
    rec = sum(F.mse_loss(o.reconstruction[:, m], o.features[:, m]) for m in range(3))
    torch.testing.assert_close(terms["rec"], rec, rtol=0, atol=1e-12)
    assert {"cls", "scl", "kl", "rec"} == set(terms)
    assert model.uncertain is None
    assert len(model.info) == 0


def test_intensity_terms_by_brute_force():
    model, batch = model_of(ordinal_weight=0.1, rank_weight=0.2, intensity_pairs=True, **QUIET)
    batch = with_intensity(batch)
    o = model(batch, SILENT)
    terms, memo = model.losses(o, batch, START)
    level, u, y = batch.extras["intensity"], o.norm, batch.target
    pairs = [
        F.softplus(u[s, j] - u[w, j])
        for j in range(2) for s in range(len(y)) for w in range(len(y))
        if y[s, j] and y[w, j] and level[w, j] < level[s, j]
    ]  # fmt: skip
    assert len(pairs) > 3
    torch.testing.assert_close(terms["rank"], torch.stack(pairs).mean(), rtol=0, atol=1e-13)
    probability = o.ordinal.sigmoid()
    assert (probability[..., :-1] > probability[..., 1:]).all()
    assert terms["ordinal"] > 0
    assert torch.equal(memo["queue_rows"][:, -1], level.unsqueeze(1).expand(-1, 3, -1).flatten())
    rows, classes = o.latent.row.flatten(0, 2), model.classes(y).flatten()
    t, each = model.config.temperature, []
    level = memo["queue_rows"][:, -1]
    for i in range(len(rows)):
        log_p = (rows[i] @ rows.T / t).masked_fill(torch.arange(len(rows)) == i, -math.inf).log_softmax(-1)
        w = (classes == classes[i]) * (1 - (level - level[i]).abs() / 3) * (torch.arange(len(rows)) != i)
        each.append(-(w * log_p.masked_fill(w == 0, 0)).sum() / w.sum() if w.sum() > 0 else w.sum() * 0)
    torch.testing.assert_close(terms["scl"], torch.stack(each).mean(), rtol=0, atol=1e-10)
    with pytest.raises(ConfigError, match="rank_weight need batch"):
        model.losses(o, replace(batch, extras={}), START)


# --- classes, gates, output


def test_classes_of_the_schemes():
    y = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    for scheme, n in ((36, 12), (18, 6), (12, 4), (6, 2)):
        model, _ = model_of(scheme=scheme)
        c = model.classes(y)
        assert c.shape == (2, 3, 2)
        assert model.n_classes == n
        assert int(c.max()) < n
        merged, present = scheme in (12, 6), scheme in (18, 6)
        assert (c[0, 0, 0] == c[0, 1, 0]) == merged  # the same emotion in two modalities
        assert c[0, 0, 0] == c[1, 0, 0]
        assert (c[0, 0, 1] == LEFT_OUT) == present
        assert c[0, 0, 1] != c[1, 0, 1]
    six = registry.build("lddu", SHAPES["mosei_emotions"])
    numbers = six.classes(torch.stack([torch.zeros(6), torch.ones(6)]))
    assert six.n_classes == 36
    assert sorted(numbers.flatten().tolist()) == list(range(36))


@pytest.mark.parametrize("gate", ["p", "entropy", "oracle", "scalar", "half", "mu", "sigma"])
def test_gates(gate):
    model, batch = model_of(gate=gate, gate_detached=gate == "entropy")
    o = model(batch, SILENT)
    p = o.direct.sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()) / math.log(2)
    g = {
        "p": p,
        "entropy": 1 - entropy,
        "oracle": 1 - (p - batch.target).abs(),
        "scalar": p * 0 + 0.5,
        "half": p * 0 + 0.5,
        "mu": p * 0 + 1,
        "sigma": p * 0,
    }[gate]
    torch.testing.assert_close(o.gate, g, rtol=0, atol=1e-13)
    centre = 0 if o.centre is None else o.centre.sigmoid()
    uncertain = 0 if o.uncertain is None else o.uncertain.sigmoid()
    torch.testing.assert_close(o.prediction.sigmoid(), g * centre + (1 - g) * uncertain, rtol=0, atol=1e-13)
    assert (o.centre is None) == (gate == "sigma")
    gradient = torch.autograd.grad(o.logit.sum(), list(model.info.parameters()), allow_unused=True)
    assert all((g is None) == (gate in ("scalar", "half", "mu", "sigma", "entropy")) for g in gradient)


def test_mixing_keeps_digits_where_a_probability_is_nearly_one():
    a, b = torch.tensor([60.0], dtype=torch.float64), torch.tensor([55.0], dtype=torch.float64)
    half = torch.tensor([0.5], dtype=torch.float64)
    assert float(lddu.mixed(half, half, a, b)) == pytest.approx(
        -math.log(0.5 * (math.exp(-60) + math.exp(-55))), abs=1e-9
    )


def test_evaluation_draws_nothing():
    for family in ("gaussian", "mixture"):
        model, batch = model_of(family=family, sampled=True)
        assert torch.equal(model(batch, SILENT).prediction, model(batch, SILENT).prediction)
        assert torch.equal(model(batch, SILENT).drawn, model(batch, SILENT).location)
        assert not torch.equal(model(batch, noise_for(model, batch)).drawn, model(batch, SILENT).location)


def test_a_regression_is_one_label_on_the_scale_and_a_class_is_one_present_label():
    data = make("aligned")
    model = registry.build("lddu", Shape.of(data), **SMALL)
    y = as_labels(data.task, torch.tensor([-3.0, 0.0, 3.0]), torch.zeros(1))
    assert y.tolist() == [[0.0], [0.5], [1.0]]
    shown = model(data.split("train"), SILENT)
    torch.testing.assert_close(shown.prediction, 6 * shown.logit[:, 0].sigmoid() - 3)
    data = make("aligned", "single_label")
    assert as_labels(data.task, torch.tensor([2, 0]), torch.zeros(1)).tolist() == [[0, 0, 1], [1, 0, 0]]


# --- families


FAMILIES = [
    {},
    {"sampled": True},
    {"unit_spread": True},
    {"family": "low_rank", "rank": 2, "sampled": True},
    {"family": "mixture", "components": 2, "sampled": True},
    {"family": "mixture", "components": 4, "contrast_spread": False},
    {"family": "student", "sampled": True},
    {"family": "vmf", "sampled": True},
    {"family": "knn", "neighbours": 3},
    {"family": "point"},
    {"family": "none"},
    {"label_pooling": "mean"},
    {"scheme": 18},
    {"scheme": 6, "contrast_spread": False},
    {"queue": 0},
    {"scl_weight": 0.0, "ocl_weight": 0.0, "dir_weight": 0.0, "gate": "half"},
]


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()) or "base")
def test_every_family_learns(settings):
    model, batch = model_of(**(QUIET | settings))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    seen = []
    for _ in range(12):
        output = model(batch, noise_for(model, batch))
        terms, memo = model.losses(output, batch, START)
        weights = model.weights(START)
        optimizer.zero_grad()
        sum(weights.get(k, 1.0) * v for k, v in terms.items()).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        unread = {k for k, p in model.named_parameters() if p.grad is None}
        assert not unread
        optimizer.step()
        model.remember(memo)
        seen.append(float(terms["cls"].detach()))
    assert seen[-1] < seen[0]


def test_densities_against_scipy():
    k = 5
    g = torch.Generator().manual_seed(0)
    mu, x = (torch.randn(k, dtype=torch.float64, generator=g) for _ in range(2))
    scale = torch.rand(k, dtype=torch.float64, generator=g) + 0.3
    factor = torch.randn(k, 2, dtype=torch.float64, generator=g)
    row, one = mu, torch.ones(1, dtype=torch.float64)
    gauss = lddu.Latent(mu, scale, row, scale=scale)
    covariance = np.diag(scale.numpy() ** 2)
    expected = stats.multivariate_normal(mu.numpy(), covariance).logpdf(x.numpy())
    assert float(lddu.log_density(gauss, x)) == pytest.approx(expected, abs=1e-12)
    low = lddu.Latent(mu, scale, row, scale=scale, factor=factor)
    expected = stats.multivariate_normal(mu.numpy(), covariance + (factor @ factor.T).numpy()).logpdf(x.numpy())
    assert float(lddu.log_density(low, x)) == pytest.approx(expected, abs=1e-11)
    student = lddu.Latent(mu, scale, row, scale=scale, freedom=3.5 * one)
    expected = stats.t(3.5, mu.numpy(), scale.numpy()).logpdf(x.numpy()).sum()
    assert float(lddu.log_density(student, x)) == pytest.approx(expected, abs=1e-12)
    means, log_w = torch.stack([mu, -mu]), torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    two = lddu.Latent(mu, scale, row, components=(means, torch.stack([scale, scale]), log_w))
    parts = [w * stats.multivariate_normal(m, covariance).pdf(x.numpy()) for w, m in zip((0.3, 0.7), means.numpy())]
    assert float(lddu.log_density(two, x)) == pytest.approx(math.log(sum(parts)), abs=1e-12)
    with pytest.raises(ConfigError, match="no density"):
        lddu.log_density(lddu.Latent(mu, scale, row), x)
    wide = F.normalize(torch.randn(2, 128, dtype=torch.float64, generator=g), dim=-1)
    for kappa in (20.0, 300.0):
        fisher = lddu.Latent(wide[0], scale, row, concentration=kappa * one)
        expected = stats.vonmises_fisher(wide[0].numpy(), kappa).logpdf(wide[1].numpy())
        assert float(lddu.log_density(fisher, wide[1])) == pytest.approx(float(expected), abs=1e-4)


def test_a_row_of_a_vmf_gives_expected_cosines():
    """A_k is the ratio of Bessel functions I_{k/2} / I_{k/2-1}; the bound used is below it by less than 1 %."""
    from scipy.special import ive

    for k, kappa in ((128, 30.0), (128, 400.0), (16, 5.0)):
        exact = ive(k / 2, kappa) / ive(k / 2 - 1, kappa)
        ours = float(lddu.mean_resultant(torch.tensor(kappa, dtype=torch.float64), k))
        assert exact * 0.99 < ours <= exact


def test_a_mixture_of_one_compares_as_a_gaussian():
    one, batch = model_of(family="mixture", components=1)
    rows = torch.randn(4, one.queue.rows.shape[1] - 1, dtype=torch.float64)
    rows = torch.cat([rows, torch.zeros(4, 1, dtype=torch.float64)], -1)
    torch.testing.assert_close(one._logits(rows, rows), rows @ rows.T / 0.07, rtol=0, atol=1e-11)
    two, _ = model_of(family="mixture", components=2)
    o = two(batch, SILENT)
    f = o.latent.row.flatten(0, 2)[:3].detach()
    (a, log_a) = f[:, :-2].view(3, 2, -1), f[:, -2:]
    kernel = [
        [sum(math.exp(log_a[i, c] + log_a[j, d] + a[i, c] @ a[j, d] / 0.07) for c in range(2) for d in range(2))
         for j in range(3)] for i in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(two._logits(f, f), torch.tensor(kernel, dtype=torch.float64).log(), rtol=0, atol=1e-11)


def test_neighbours_are_rows_of_the_same_modality_and_label():
    model, batch = model_of(family="knn", neighbours=3, queue=100, **QUIET)
    assert torch.equal(model(batch, SILENT).spread, torch.ones_like(model(batch, SILENT).spread))  # empty: distance 1
    o = model(batch, SILENT)
    model.remember(model.losses(o, batch, START)[1])
    again = model(batch, SILENT)
    rows = F.normalize(o.location, dim=-1).detach()
    for b, m, j in ((0, 0, 0), (3, 2, 1)):
        distance = sorted(1 - float(rows[b, m, j] @ rows[i, m, j]) for i in range(len(batch)))
        assert again.spread[b, m, j].tolist() == pytest.approx([min(d, 1.0) for d in distance[:3]], abs=1e-12)


# --- switches and checks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "q"}, "gate 'q' must be one of p, entropy"),
        ({"scheme": 7}, "scheme 7 must be one of 36, 18, 12, 6"),
        ({"positions": 4}, "text has 5 steps, more than positions 4"),
        ({"width": 18, "heads": 2}, "width 18 must be a multiple of 4"),
        ({"family": "mixture", "anchors": "all"}, "use anchors 'batch'"),
        ({"family": "knn", "queue": 2}, "looks for 8 neighbours"),
        ({"family": "vmf", "kl_weight": 0.1}, "kl_weight needs family 'gaussian', got 'vmf'"),
        ({"family": "none", "rec_weight": 0.1}, "rec_weight needs a latent"),
        ({"family": "point", "sampled": True}, "family 'point' cannot be sampled"),
        ({"family": "vmf", "unit_spread": True}, "unit_spread needs a family with a scale"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        model_of(**settings)


def test_switches_of_the_published_code_change_what_they_name():
    clean, batch = model_of(**QUIET)
    shown = clean(batch, SILENT).prediction
    assert clean.attention[0].key is not None
    shared, _ = model_of(separate_values=False)
    assert shared.attention[0].key is None
    for settings in ({"activation": "relu"}, {"gate": "entropy"}, {"padded": True}):
        other, _ = model_of(**(QUIET | settings))
        other.load_state_dict(clean.state_dict())
        assert (other(batch, SILENT).prediction - shown).abs().max() > 1e-6, settings
    rows = {}
    for settings in ({}, {"joint_norm": True}, {"contrast_spread": False}):
        other, _ = model_of(**(QUIET | settings))
        rows[str(settings)] = other(batch, SILENT).latent.row
        torch.testing.assert_close(rows[str(settings)].norm(dim=-1), torch.ones_like(rows[str(settings)][..., 0]))
    assert [r.shape[-1] for r in rows.values()] == [16, 16, 8]
    assert model_of(random_queue=True)[0].queue.rows.abs().sum() > 0
    assert model_of()[0].queue.rows.abs().sum() == 0


# --- what the papers' numbers say


def test_logged_precision_and_recall_give_the_logged_f1_and_exchange_under_a_swap():
    p, r = 0.517892, 0.672196
    assert 2 * p * r / (p + r) == pytest.approx(0.585041, abs=1e-6)
    g = np.random.default_rng(0)
    truth, said = (g.random((50, 6)) < 0.3).astype(int), (g.random((50, 6)) < 0.4).astype(int)
    assert micro_f1(truth, said) == micro_f1(said, truth)
    assert jaccard(truth, said, empty=0.0) == jaccard(said, truth, empty=0.0)
    assert micro_precision(truth, said) == micro_recall(said, truth)
    assert micro_precision(truth, said) != micro_precision(said, truth)
