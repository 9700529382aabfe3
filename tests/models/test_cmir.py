"""CmIR: published counts, what R_dec measures, every term against plain loops, every switch, stacked = single."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.data.schema import AffectData, Batch, Task
from affectcore.data.worlds import environments
from affectcore.data.worlds.base import Sizes
from affectcore.errors import ConfigError
from affectcore.models import cmir as module
from affectcore.models import registry
from affectcore.models.cmir import TABLE_7, CmIR, Drop
from affectcore.models.contract import Progress, Shape
from affectcore.models.naive import twin
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training import loop
from affectcore.training.recipe import Recipe

SMALL = traits("cmir").small
DATA = make("aligned")
SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)
QUIET = {"relu_dropout": 0.0, "residual_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0}
START = Progress(0, 0, 3, 1)


def with_environments(data: AffectData, n: int = 2) -> AffectData:
    """The data with environment numbers in turn, and as counterfactuals twice the features with noise."""
    b = data._all
    g = torch.Generator().manual_seed(3)
    extras = {
        f"counterfactual/{m}": x.unsqueeze(1) + torch.randn(len(x), 2, *x.shape[1:], generator=g)
        for m, x in b.features.items()
    }
    return data._with(_all=replace(b, environment=b.index % n, extras=extras))


def small(preset="clean", data=DATA, **more) -> CmIR:
    torch.manual_seed(0)
    model: CmIR = registry.build("cmir", Shape.of(data), preset, **(SMALL | QUIET | more)).double()
    return model


def batch_of(data=DATA) -> Batch:
    return data.split("train").to("cpu", torch.float64)


def drawn(model, batch, seed=0):
    """The noise of one training pass."""
    like = torch.zeros((), dtype=torch.float64)
    tape = Tape(like)
    model(batch, tape)
    return Pool(fill([seed], tape.words, "cpu", "test")[0], like)


def run(model, batch):
    pool = drawn(model, batch)
    output = model(batch, pool)
    pool.close()
    terms, memo = model.losses(output, batch, START)
    return output, terms, memo


def reached(model, loss):
    """Names of the parameters with a gradient that is not zero."""
    names = dict(model.named_parameters())
    grads = torch.autograd.grad(loss, list(names.values()), allow_unused=True, retain_graph=True)
    return {k for k, g in zip(names, grads) if g is not None and g.abs().max() > 0}


def count(m):
    return sum(p.numel() for p in m.parameters())


# --- the published model


def test_parameters_of_the_published_configuration():
    model = registry.build("cmir", SHAPES["mosi_mag"], "paper")
    assert [count(g) for g in model.encoders] == [181_548] * 3
    assert [count(r) for r in model.decoders] == [181_398] * 3
    assert count(model.predictor) == 247_297
    assert count(model) == 3_682_435
    deberta = 183_831_552  # microsoft/deberta-v3-base without its head
    assert round((count(model) + deberta) / 1e6, 2) == 187.51  # Table 9
    mustard = Shape(
        {"text": 768, "audio": 60, "vision": 36, "hcf": 4},
        dict.fromkeys(("text", "audio", "vision", "hcf"), 50),
        Task("multi_label", ("sarcasm",)),
    )
    model = registry.build("cmir", mustard, "paper", **TABLE_7["mustard"], joined="hcf")
    assert model.modalities == ("text", "audio", "vision")
    assert sum(count(m) for m in (model.encoders, model.decoders, model.predictor)) == 149_377


def test_published_weights_are_constant():
    paper = registry.build("cmir", SHAPES["mosi_mag"], "paper")
    expected = {"invariance": 0.1, "decorrelation": 0.001, "reconstruction": 0.05}
    assert paper.weights(START) == paper.weights(Progress(40, 4000, 5000, 50)) == expected
    mosei = registry.build("cmir", SHAPES["mosei"], "paper", **TABLE_7["mosei"])
    assert mosei.weights(START) == {"invariance": 0.1, "decorrelation": 0.1, "reconstruction": 0.01}
    assert (mosei.config.count, mosei.config.alpha, mosei.config.hidden) == (5, 1.0, 128)


@pytest.mark.parametrize(
    ("axis", "independent", "copies", "identical"), [("batch", 574, 85, 1173), ("features", 586, 49, 1180)]
)
def test_decorrelation_prefers_copies_in_orthogonal_subspaces_to_independent_codes(
    axis, independent, copies, identical
):
    # 48 samples of 150 features; copies: the same 75 numbers, written in two orthogonal subspaces
    g = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(8):
        a, b, z = (torch.randn(48, n, generator=g, dtype=torch.float64) for n in (150, 150, 75))
        q = torch.linalg.qr(torch.randn(150, 150, generator=g, dtype=torch.float64))[0]
        pairs = ((a, b), (z @ q[:, :75].T, z @ q[:, 75:].T), (a, a))
        rows.append([module.sample_dependence(*p, standardise=axis).item() for p in pairs])
    mean = np.mean(rows, 0)
    assert mean[[0, 2]] == pytest.approx([independent, identical], rel=0.02)
    assert mean[1] == pytest.approx(copies, rel=0.1)
    assert max(r[1] for r in rows) < 0.2 * min(r[0] for r in rows)


def test_losses_equal_the_naive_form_on_the_same_noise(monkeypatch):
    model, batch = small("paper"), batch_of()
    naive = twin(model).double()
    pool = drawn(model, batch)
    eps = pool.normal(2, 3, len(batch), 10)  # as `environments` draws them: environment, modality
    draws = iter([eps[e, m] for m in range(3) for e in range(2)])
    monkeypatch.setattr(torch, "randn_like", lambda x: next(draws))
    (theirs,) = naive.losses(batch)
    _, terms, _ = run(model, batch)
    ours = sum(model.weights(START).get(k, 1.0) * v for k, v in terms.items())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)  # 1e-12 stands under every root here
    theirs.backward()
    ours.backward()
    sizes = [sorted(p.grad.norm().item() for p in m.parameters()) for m in (model, naive)]
    assert sizes[0] == pytest.approx(sizes[1], abs=1e-8)


# --- environments and invariance


def test_virtual_environments_add_growing_noise():
    x = torch.zeros(3, 4000, 10, dtype=torch.float64)
    like = torch.zeros((), dtype=torch.float64)

    def spread(**settings):
        model = small(count=4, **settings)
        tape = Tape(like)
        model.environments(x, batch_of(), tape)
        made = model.environments(x, batch_of(), Pool(fill([0], tape.words, "cpu", "e")[0], like))
        return made, [round(v.std().item(), 2) for v in made]

    assert spread(alpha=0.5)[1] == [0.5, 1.0, 1.5, 2.0]
    made, stds = spread(alpha=2.0, alpha_of="last")
    assert stds == [0.5, 1.0, 1.5, 2.0]
    assert (made[0] * made[1]).mean().abs() < 0.02  # drawn anew
    made, _ = spread(fresh_noise=False)
    torch.testing.assert_close(made[3], 4 * made[0])
    assert (made[0, 0] * made[0, 1]).mean().abs() < 0.02  # still anew per modality
    made, _ = spread(variants="one", alpha=1.0)
    assert len(made) == 1
    sizes = made[0].square().mean((0, 2))  # by sample, of 30 numbers
    assert sizes.min() < 2 < 8 < sizes.max()
    assert made.square().mean().sqrt() == pytest.approx(np.sqrt(7.5), rel=0.05)  # mean of 1, 4, 9, 16


@pytest.mark.parametrize("e", [1, 2, 5])
def test_the_sum_over_pairs_is_a_product_with_ranks(e):
    z = torch.randn(e, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    plain = sum(((a - b).abs().sum() for a, b in combinations(z, 2)), torch.zeros(()))
    torch.testing.assert_close(module.pairwise_l1(z), plain.double())
    if e > 1:
        ours, theirs = (torch.autograd.grad(f, z)[0] for f in (module.pairwise_l1(z), plain))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pairs", ["sum", "mean"])
@pytest.mark.parametrize("features", ["sum", "mean"])
def test_invariance_sums_over_pairs_of_environments(pairs, features):
    model = small(count=3, pairs=pairs, invariance_features=features)
    o, terms, _ = run(model, batch_of())
    assert o.variants.shape == (4, 3, 12, 10)
    each = [(a - b).abs() for a, b in combinations(o.variants, 2)]
    assert len(each) == 6
    inner = [(v.sum(-1) if features == "sum" else v.mean(-1)).mean(-1).sum() for v in each]
    expected = torch.stack(inner).sum() / (6 if pairs == "mean" else 1)
    torch.testing.assert_close(terms["invariance"], expected)


def test_invariance_vanishes_with_the_noise():
    def at(alpha):
        return run(small(alpha=alpha), batch_of())[1]["invariance"].item()

    assert at(0.0) == 0
    assert at(1e-6) == pytest.approx(10 * at(1e-7), rel=1e-3)  # proportional: a smaller alpha is a smaller weight
    assert "invariance" not in run(small(count=0), batch_of())[1]
    assert set(small(count=0).weights(START)) == {"decorrelation", "reconstruction"}


def test_relative_invariance_is_free_of_scale():
    o, _, _ = run(small(count=3), batch_of())
    torch.testing.assert_close(module.relative_invariance(7 * o.variants), module.relative_invariance(o.variants))
    z, pairs = o.variants, list(combinations(o.variants, 2))
    apart = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
    spread = (z[0] - z[0].mean(1, keepdim=True)).abs().mean()
    torch.testing.assert_close(module.relative_invariance(z), apart / spread)


@pytest.mark.parametrize(
    ("kind", "distance"), [("regression", "absolute"), ("single_label", "classes"), ("multi_label", "labels")]
)
def test_the_alternative_invariance_compares_predictions(kind, distance):
    data = make("aligned", kind)
    model = small(data=data, invariance="prediction")
    o, terms, _ = run(model, batch_of(data))
    expected = torch.zeros((), dtype=torch.float64)
    for m, (head,) in enumerate(model.heads):
        outputs = [head(z) for z in o.variants[:, m]]
        for a, b in combinations(outputs, 2):
            if distance == "absolute":
                expected = expected + (a - b).abs().mean()
            elif distance == "classes":
                p, q = torch.distributions.Categorical(logits=a), torch.distributions.Categorical(logits=b)
                kl = torch.distributions.kl_divergence
                expected = expected + 0.5 * (kl(p, q) + kl(q, p)).mean()
            else:
                p, q = torch.distributions.Bernoulli(logits=a), torch.distributions.Bernoulli(logits=b)
                kl = torch.distributions.kl_divergence
                expected = expected + 0.5 * (kl(p, q) + kl(q, p)).sum(-1).mean()
    torch.testing.assert_close(terms["invariance"], expected)
    assert not any(k.startswith("heads") for k in reached(model, terms["invariance"]))  # the codes' business
    assert all(k.startswith("heads") for k in reached(model, terms["heads"]))  # and no further supervision of them
    assert set(model.weights(START)) <= set(terms)


def test_true_environments_compare_the_heads_of_all_environments():
    data = with_environments(DATA)
    model, batch = small(data=data, environments="true", invariance="prediction"), batch_of(data)
    o, terms, _ = run(model, batch)
    assert len(o.variants) == 1
    a, b = batch.environment == 0, batch.environment == 1
    apart, learn = 0.0, 0.0
    for (first, second), z in zip(model.heads, o.invariant):
        apart = apart + (first(z) - second(z)).abs().mean()
        learn = learn + (first(z)[a, 0] - batch.target[a]).square().mean()
        learn = learn + (second(z)[b, 0] - batch.target[b]).square().mean()
    torch.testing.assert_close(terms["invariance"], apart)
    torch.testing.assert_close(terms["heads"], learn)
    assert not any(k.startswith("heads") for k in reached(model, terms["invariance"]))
    with pytest.raises(ConfigError, match="true environments need data with environments"):
        run(model, replace(batch, environment=None))


@pytest.mark.parametrize("kind", ["coral", "mmd"])
def test_true_environments_compare_codes_of_like_targets(kind):
    data = with_environments(DATA, 3)
    model, batch = small(data=data, environments="true", invariance=kind, count=2, label_bins=2), batch_of(data)
    o, terms, _ = run(model, batch)
    order = batch.target.argsort()
    bins = [set(order[:6].tolist()), set(order[6:].tolist())]  # halves of the 12 samples
    total = torch.zeros((), dtype=torch.float64)
    for z in o.invariant:
        parts = []
        unit = torch.cdist(z, z).square().mean()
        for part in bins:
            a, b = ([i for i in part if batch.environment[i] == e] for e in (0, 1))  # number 2 is nobody's
            if kind == "coral":
                if min(len(a), len(b)) > 1:
                    mean = (z[a].mean(0) - z[b].mean(0)).square().mean()
                    parts.append(mean + (z[a].T.cov() - z[b].T.cov()).square().mean())
                continue

            def k(x, y, unit=unit):
                d = torch.cdist(x, y).square()
                return torch.stack([torch.exp(-d / (w * unit)) for w in module.BANDWIDTHS]).mean()

            if a and b:
                parts.append(k(z[a], z[a]) + k(z[b], z[b]) - 2 * k(z[a], z[b]))
        total = total + torch.stack(parts).mean()
    torch.testing.assert_close(terms["invariance"], total)
    labels = with_environments(make("aligned", "single_label"))
    _, terms, _ = run(small(data=labels, environments="true", invariance=kind), batch_of(labels))
    assert terms["invariance"] > 0


def test_oracle_environments_are_the_counterfactual_features():
    data = with_environments(DATA)
    model, batch = small(data=data, environments="oracle"), batch_of(data)
    o, terms, _ = run(model, batch)
    for e in range(2):
        other = replace(batch, features={m: batch.extras[f"counterfactual/{m}"][:, e] for m in batch.modalities})
        other = other.with_observed({})
        torch.testing.assert_close(o.variants[e + 1], model(other, SILENT).invariant)
    assert terms["invariance"] > 0
    same = {f"counterfactual/{m}": x for m, x in batch.features.items()}
    model = small(data=data, environments="oracle", count=1)
    assert run(model, replace(batch, extras=same))[1]["invariance"] == 0
    with pytest.raises(ConfigError, match="count 2 needs as many counterfactuals, 'counterfactual/text' has 1"):
        run(small(environments="oracle"), replace(batch, extras=same))
    with pytest.raises(ConfigError, match="need the batch's extra 'counterfactual/text'"):
        run(small(environments="oracle"), batch_of())


def test_the_environments_world_brings_what_each_kind_needs():
    data = environments.build(0, environments.Settings(), Sizes(40, 10, 10)).data
    for settings in (
        {"environments": "oracle", "count": 1},
        {"environments": "true", "count": 2, "invariance": "prediction"},
        {"environments": "true", "count": 2, "invariance": "mmd"},
        {"environments": "virtual", "count": 4},
    ):
        model, batch = small(data=data, sequence="linear", **settings), batch_of(data)
        _, terms, _ = run(model, batch)
        assert terms["invariance"] > 0
        assert {"encoders.0.invariant.weight", "steps.1.project.weight"} <= reached(model, terms["invariance"])


# --- what codes share


def test_scales_and_diagonal_of_the_published_decorrelation():
    a, b = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = np.array([[x @ y for y in (b - b.mean(0)) / b.std(0)] for x in (a - a.mean(0)) / a.std(0)])
    c = np.where(np.eye(7) == 1, c, 0.3 * c)
    literal = np.sqrt((c**2).sum())
    for scale, value in (
        ("literal", literal), ("correlation", literal / 5), ("rms", literal / 7), ("mean_square", literal**2 / 49),
    ):  # fmt: skip
        assert module.sample_dependence(a, b, 0.3, "batch", scale).item() == pytest.approx(value)
    still = torch.ones(7, 5, dtype=torch.float64, requires_grad=True)  # a code that does not vary
    module.sample_dependence(still, b).backward()
    assert torch.isfinite(still.grad).all()


def test_other_measures_of_dependence_against_plain_forms():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 9, 4, dtype=torch.float64, generator=g)
    expected = np.corrcoef(a.T, b.T)[:4, 4:]
    np.testing.assert_allclose(module.cross_correlation(a, b), expected)
    unit = [(z - z.mean(0)) / (z - z.mean(0)).norm(dim=1, keepdim=True) for z in (a, b)]
    assert module.misa_difference(a, b).item() == pytest.approx((unit[0].T @ unit[1]).square().mean().item())
    centre = torch.eye(9, dtype=torch.float64) - 1 / 9
    kernels = [torch.exp(-d / d.mean()) for d in (torch.cdist(z, z).square() for z in (a, b))]
    trace = torch.trace(kernels[0] @ centre @ kernels[1] @ centre) / 64
    assert module.hsic(a, b).item() == pytest.approx(trace.item())


def test_the_corrected_estimate_is_zero_by_chance_and_the_running_one_remembers():
    model, batch = small(decorrelation="features", cross_estimate="running"), batch_of()
    o, terms, memo = run(model, batch)
    now = module.cross_correlation(o.invariant, o.spurious)
    torch.testing.assert_close(terms["decorrelation"], module.norm(0.1 * now).sum())
    model.remember(memo)
    o, terms, _ = run(model, batch)
    torch.testing.assert_close(terms["decorrelation"], module.norm(0.19 * now).sum())
    g = torch.Generator().manual_seed(0)
    c = module.cross_correlation(*torch.randn(2, 400, 30, 10, dtype=torch.float64, generator=g))
    assert c.square().sum((-2, -1)).mean() == pytest.approx(100 / 29, rel=0.03)  # what is subtracted


def test_club_compares_a_pair_with_all_pairs_and_moves_codes_alone():
    model, batch = small(decorrelation="club"), batch_of()
    o, terms, _ = run(model, batch)
    bound = learn = 0.0
    for q, a, b in zip(model.foretell, o.invariant, o.spurious):
        mean, logvar = q(a).chunk(2, -1)
        normal = torch.distributions.Normal(mean, torch.exp(0.5 * torch.tanh(logvar)))
        own = normal.log_prob(b).sum(-1)
        every = torch.stack([normal.log_prob(y).sum(-1) for y in b])  # pair of i's law with j's code
        bound = bound + (own - every.mean(0)).mean()
        learn = learn - own.mean() - 0.5 * b.shape[-1] * np.log(2 * np.pi)
    torch.testing.assert_close(terms["decorrelation"], bound)
    torch.testing.assert_close(terms["dependence"], learn)
    assert not any(k.startswith("foretell") for k in reached(model, terms["decorrelation"]))
    assert all(k.startswith("foretell") for k in reached(model, terms["dependence"]))
    assert model.weights(START).get("dependence", 1.0) == 1.0


def test_an_adversary_foretells_one_code_from_the_other():
    model, batch = small(decorrelation="adversary"), batch_of()
    _, terms, _ = run(model, batch)
    torch.testing.assert_close(terms["decorrelation"] + terms["dependence"], torch.tensor(3.0, dtype=torch.float64))
    before = reached(model, terms["decorrelation"])
    assert {"encoders.0.spurious.weight", "encoders.0.invariant.weight"} <= before
    assert all(k.startswith("foretell") for k in reached(model, terms["dependence"]))


@pytest.mark.parametrize("kind", ["samples", "features", "misa", "hsic"])
def test_every_decorrelation_reaches_both_codes(kind):
    model = small(decorrelation=kind, cross_estimate="corrected")
    _, terms, _ = run(model, batch_of())
    assert {"encoders.2.spurious.weight", "encoders.2.invariant.weight"} <= reached(model, terms["decorrelation"])


# --- reconstruction, prediction, controls


def test_reconstruction_is_the_mean_square_and_can_stop_at_its_target():
    model, batch = small(), batch_of()
    o, terms, _ = run(model, batch)
    parts = [r(torch.cat([a, b], -1)) for r, a, b in zip(model.decoders, o.invariant, o.spurious)]
    torch.testing.assert_close(terms["reconstruction"], sum(F.mse_loss(y, x) for y, x in zip(parts, o.pooled)))
    perfect = replace(o, pooled=torch.stack(parts))
    assert model.reconstruction(perfect) == 0
    stop = small(stop_target=True)
    _, other, _ = run(stop, batch)
    torch.testing.assert_close(other["reconstruction"], terms["reconstruction"])
    p, q = model.steps[0].project.weight, stop.steps[0].project.weight
    g, h = torch.autograd.grad(terms["reconstruction"], p)[0], torch.autograd.grad(other["reconstruction"], q)[0]
    assert (g - h).abs().max() > 1e-6


def test_only_the_invariant_code_predicts():
    model, batch = small(), batch_of()
    o = model(batch, SILENT)
    torch.testing.assert_close(o.prediction, model.predict(o.invariant, Drop())[:, 0])
    assert not any("spurious" in k or k.startswith("decoders") for k in reached(model, o.prediction.sum()))
    assert o.variants.shape[0] == 1  # no environment in evaluation
    assert (model.predictor.layers[1](torch.ones(1, 12).double()) < 0).any()
    h = F.relu(model.predictor.layers[0](o.invariant.transpose(0, 1).flatten(1)))
    h = F.relu(model.predictor.layers[2](model.predictor.layers[1](h)))  # no ReLU between, Figure 7
    torch.testing.assert_close(model.predictor.layers[3](h)[:, 0], o.prediction)


def test_vanilla_and_the_architecture_alone():
    off = {"invariance_weight": 0.0, "decorrelation_weight": 0.0, "reconstruction_weight": 0.0}
    vanilla, plain = small(codes=False, **off), small(**off)
    for model in (vanilla, plain):
        o, terms, _ = run(model, batch_of())
        assert set(terms) == {"task"}
        assert model.weights(START) == {}
        assert len(o.variants) == 1  # nothing is drawn for nobody
    o = vanilla(batch_of(), SILENT)
    assert torch.equal(o.invariant, o.pooled)
    assert not hasattr(vanilla, "encoders")
    assert not any("spurious" in k for k in reached(plain, run(plain, batch_of())[1]["task"]))


def test_noise_augmentation_predicts_from_every_variant():
    model, batch = small(perturbed_prediction=True, invariance_weight=0.0), batch_of()
    o, terms, _ = run(model, batch)
    expected = [F.mse_loss(model.predict(z, Drop())[:, 0], batch.target) for z in o.variants]
    assert len(expected) == 3
    torch.testing.assert_close(terms["task"], torch.stack(expected).mean())
    torch.testing.assert_close(o.prediction, o.perturbed[0])


def test_task_losses():
    for kind in ("regression", "single_label", "multi_label"):
        data = make("aligned", kind)
        batch = batch_of(data)
        y = torch.randn(12, data.task.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        if kind == "regression":
            cases = [({}, F.mse_loss), ({"regression": "absolute"}, F.l1_loss)]
            y = y[:, 0]
        elif kind == "single_label":
            smooth = lambda y, t: F.cross_entropy(y, t, label_smoothing=0.2)  # noqa: E731
            cases = [({}, F.cross_entropy), ({"label_smoothing": 0.2}, smooth)]
        else:
            smooth = lambda y, t: F.binary_cross_entropy_with_logits(y, 0.8 * t + 0.1)  # noqa: E731
            cases = [({}, F.binary_cross_entropy_with_logits), ({"label_smoothing": 0.2}, smooth)]
        weight = torch.arange(12, dtype=torch.float64)
        for settings, loss in cases:
            model = small(data=data, **settings)
            torch.testing.assert_close(model._task(y, batch.target), loss(y, batch.target))
            each = torch.stack([loss(y[i : i + 1], batch.target[i : i + 1]) for i in range(12)])
            torch.testing.assert_close(model._task(y, batch.target, weight), (each * weight).sum() / weight.sum())


def test_the_jacobian_is_autograd_s():
    data = make("aligned", "single_label")
    model, batch = small(data=data, jacobian_weight=0.5), batch_of(data)
    o, terms, _ = run(model, batch)
    j = torch.autograd.functional.jacobian(
        lambda x: model.predict(model.encode(x.unsqueeze(0), Drop())[0][0], Drop()), o.pooled.detach()
    )
    torch.testing.assert_close(terms["jacobian"], j.square().sum() / len(batch))
    assert {"encoders.0.first.weight", "predictor.layers.3.weight"} <= reached(model, terms["jacobian"])
    assert model.weights(START)["jacobian"] == 0.5


# --- scale and noise


def test_norms_fix_the_scale_of_x_and_of_codes():
    batch = batch_of()
    model = small(representation_norm="layer")
    with torch.no_grad():
        model.steps[0].project.weight.mul_(50)
    o = model(batch, SILENT)
    torch.testing.assert_close(
        o.pooled[0, 2:].square().mean(-1), torch.ones(10, dtype=torch.float64), rtol=1e-2, atol=0
    )
    model = small(representation_norm="batch")
    o, _, memo = run(model, batch)
    torch.testing.assert_close(o.pooled.mean(1), torch.zeros(3, 10, dtype=torch.float64), rtol=0, atol=1e-9)
    before = model(batch, SILENT).pooled
    model.remember(memo)
    assert (model(batch, SILENT).pooled - before).abs().max() > 1e-3
    assert not any(p.requires_grad for p in model.scale.parameters())
    o = small(code_norm=True)(batch, SILENT)
    torch.testing.assert_close(o.invariant.mean(-1), torch.zeros(3, 12, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_noise_protocol():
    like = torch.zeros((), dtype=torch.float64)
    x = torch.full((3, 2000, 10), 2.0, dtype=torch.float64)

    def noisy(training, **settings):
        model = small(noise_rate=0.4, **settings)
        tape = Tape(like, training)
        model.disturbed(x, tape)
        pool = Pool(fill([0], tape.words, "cpu", "n")[0], like, training)
        y = model.disturbed(x, pool)
        pool.close()
        return y

    for y in (noisy(True), noisy(False), noisy(False, test_noise="laplace")):
        assert y.mean().item() == pytest.approx(1.2, abs=0.01)
        assert y.std().item() == pytest.approx(0.4, abs=0.01)
    laplace = (noisy(False, test_noise="laplace") - 1.2) / 0.4
    assert laplace.pow(4).mean().item() == pytest.approx(6, rel=0.2)  # kurtosis; 3 of a Gaussian
    erased = noisy(False, test_noise="erase")
    assert set(erased.unique().tolist()) == {0.0, 2.0}
    assert (erased == 0).double().mean().item() == pytest.approx(0.4, abs=0.01)
    both = noisy(False, test_noise="laplace_or_erase")
    hit = ((both == 0) | (both == 2)).all(-1)  # by sample, in all modalities alike
    assert torch.equal(hit[0], hit[1])
    assert hit[0].double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(noisy(True, train_noise="none"), x)
    assert torch.equal(noisy(False, test_noise="none"), x)


# --- sequences


def test_humour_features_are_joined_to_text_and_vectors_are_read_by_networks():
    b = DATA.split("train")
    x = dict(b.features) | {"hcf": b.features["text"][..., :4]}
    data = AffectData(
        "hcf",
        DATA.task,
        x,
        b.target,
        {"train": np.arange(len(b))},
        observed=dict(b.observed) | {"hcf": b.observed["text"]},
    )
    model = small(data=data, sequence="transformer_conv", joined="hcf", heads=1)
    assert model.modalities == ("text", "audio", "vision")
    assert model.steps[1].transformer.layers[0].attention.features == 3  # the modality's own width
    o, terms, _ = run(model, batch_of(data))
    assert o.pooled.shape[0] == 3
    assert {"steps.3.project.weight", "join.weight"} <= reached(model, terms["task"])
    vectors = small(sequence="mlp")
    batch = batch_of()
    o = vectors(batch, SILENT)
    mean = torch.stack([v[s].mean(0) for v, s in zip(batch.features["audio"], batch.observed["audio"]) if s.any()])
    s = vectors.steps[1]
    seen = batch.observed["audio"].any(-1)
    torch.testing.assert_close(o.pooled[1][seen], s.second(F.relu(s.project(mean))))
    assert (o.pooled[1][~seen] == 0).all()


def test_refusals_name_setting_value_and_rule():
    cases = {
        "invariance 'l1' compares one sample": {"environments": "true"},
        "invariance 'mmd' needs environments 'true', got virtual": {"invariance": "mmd"},
        "count >= 2, their number, got 1": {"environments": "true", "invariance": "coral", "count": 1},
        "kernel 2 must be odd": {"kernel": 2},
        "alpha_dec 0 must lie": {"alpha_dec": 0},
        "noise_rate 1.5 must lie": {"noise_rate": 1.5},
        "decorrelation 'mi' must be one of samples": {"decorrelation": "mi"},
        "joined 'hcf' needs modalities of that name": {"joined": "hcf"},
        "invariance_weight -1 must be at least 0": {"invariance_weight": -1},
        "attention of 10 features cannot be split into 3 heads": {"heads": 3},
    }
    for message, settings in cases.items():
        with pytest.raises(ConfigError, match=message):
            small(**settings)


# --- all switches run stacked


VARIANTS = {
    "heads": {"invariance": "prediction", "decorrelation": "club", "representation_norm": "batch", "dropout": 0.2},
    "true": {"environments": "true", "invariance": "prediction", "decorrelation": "adversary", "code_norm": True},
    "coral": {"environments": "true", "invariance": "coral", "decorrelation": "hsic", "representation_norm": "layer"},
    "mmd": {"environments": "true", "invariance": "mmd", "decorrelation": "misa", "noise_rate": 0.2},
    "oracle": {"environments": "oracle", "decorrelation": "features", "cross_estimate": "running"},
    "one": {"variants": "one", "jacobian_weight": 0.1, "perturbed_prediction": True},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_term_runs_stacked(settings):
    data = with_environments(make("aligned"))
    recipe = Recipe(epochs=2, batch_size=12, patience=None)

    def build():
        return registry.build("cmir", Shape.of(data), **(SMALL | {"sequence": "linear"} | settings)).double()

    single = loop.fit(build, data, recipe, [0, 1])
    stacked = loop.fit(build, data, recipe, [0, 1], stacked=True)
    for one, two in zip(single, stacked):
        for k, v in one.state.items():
            torch.testing.assert_close(two.state[k], v, rtol=0, atol=1e-9, msg=k)
