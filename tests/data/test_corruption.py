"""Corruptions against NumPy written anew, their distributions, and what must not move."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from affectcore import streams
from affectcore.data import corruption as c
from affectcore.data.protocol import PerBatch, Protocol
from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, DataError

NAMES = ("text", "audio", "vision")


def batch(n: int = 30, steps: int = 6, dim: int = 4, seed: int = 0) -> Batch:
    r = np.random.default_rng(seed)
    lengths = {k: torch.tensor(r.integers(2, steps + 1, n)) for k in NAMES}
    observed = {
        k: (torch.arange(steps) < lengths[k][:, None]) & torch.tensor(r.random((n, steps)) < 0.9) for k in NAMES
    }
    features = {k: torch.tensor(r.normal(2, 3, (n, steps, dim)), dtype=torch.float32) for k in NAMES}
    features = {k: x * observed[k][..., None] for k, x in features.items()}
    ids = torch.tensor(r.permutation(5 * n)[:n])
    tokens = torch.tensor(r.integers(1000, 2000, (n, steps)))
    return Batch(features, lengths, observed, torch.arange(n).float(), ids, ids // 3, extras={"tokens": tokens})


def complete(n: int, steps: int, dim: int) -> Batch:
    ids, ones = torch.arange(n), torch.ones(n, steps, dtype=torch.bool)
    x = dict.fromkeys(NAMES, torch.zeros(n, steps, dim))
    return Batch(x, dict.fromkeys(NAMES, ones.sum(-1)), dict.fromkeys(NAMES, ones), ids.float(), ids, ids)


EVERY: list[tuple[str, float, dict[str, Any]]] = [
    ("gaussian", 0.5, {}),
    ("blend_gaussian", 0.3, {}),
    ("blend_laplace", 0.3, {}),
    ("erase", 0.3, {}),
    ("laplace_or_erasing", 0.3, {}),
    ("time_shuffle", 1.0, {}),
    ("time_shuffle", 0.5, {}),
]
every = pytest.mark.parametrize(("name", "rate", "options"), EVERY)


@every
def test_order_and_company_do_not_matter(name: str, rate: float, options: dict[str, Any]) -> None:
    b, rows = batch(), torch.tensor([4, 29, 0, 11])
    protocol = c.make_corruption(name, rate, 2, **options)
    assert protocol.name in (name, f"{name}_gaussian")
    whole, part = protocol(b), protocol(b.rows(rows))
    for k in NAMES:
        assert torch.equal(part.features[k], whole.features[k][rows])
        assert torch.equal(part.observed[k], whole.observed[k][rows])
    other = c.make_corruption(name, rate, 3, **options)(b)
    assert not torch.equal(other.features["text"], whole.features["text"])
    assert whole.features["text"].dtype == torch.float32


@every
def test_only_the_named_modality_and_never_what_is_hidden(name: str, rate: float, options: dict[str, Any]) -> None:
    b = batch()
    hit = c.make_corruption(name, rate, 2, modalities=("audio",), **options)(b)
    assert torch.equal(hit.features["text"], b.features["text"])
    assert torch.equal(hit.features["vision"], b.features["vision"])
    assert not torch.equal(hit.features["audio"], b.features["audio"])
    assert bool((hit.features["audio"][~hit.observed["audio"]] == 0).all())
    every_modality = c.make_corruption(name, rate, 2, **options)(b)
    assert torch.equal(every_modality.features["audio"], hit.features["audio"])  # a modality has its own stream
    with pytest.raises(ConfigError, match="modality 'smell' is unknown"):
        c.make_corruption(name, rate, modalities=("smell",), **options)(b)


@every
def test_rate_zero_changes_nothing(name: str, rate: float, options: dict[str, Any]) -> None:
    b = batch()
    same = c.make_corruption(name, 0.0, 2, **options)(b)
    assert all(torch.equal(same.features[k], b.features[k]) for k in NAMES)


# Formulas


def test_noise_against_numpy() -> None:
    b = batch()
    scale = c.feature_scale(b)
    x = {k: v.numpy().astype(np.float64) for k, v in b.features.items()}
    for k in NAMES:
        steps = [x[k][i, t] for i in range(30) for t in range(6) if bool(b.observed[k][i, t])]
        assert scale[k].numpy() == pytest.approx(np.std(steps, axis=0), rel=1e-5)
    ids = b.index.numpy()
    for k in NAMES:
        seen, s = b.observed[k].numpy()[..., None], scale[k].numpy()
        z = streams.normal(streams.key(1, "corruption", "gaussian", k), ids, 6, 4)
        assert c.GaussianNoise(0.7, 1, scale=scale)(b).features[k].numpy() == pytest.approx(
            (x[k] + 0.7 * s * z) * seen, abs=1e-4
        )
        z = streams.normal(streams.key(1, "corruption", "blend", f"gaussian {k}"), ids, 6, 4)
        assert c.Blend(0.7, 1, scale=scale)(b).features[k].numpy() == pytest.approx(
            (0.3 * x[k] + 0.7 * s * z) * seen, abs=1e-4
        )
        u = streams.uniform(streams.key(1, "corruption", "erase", k), ids, 6, 4)
        assert c.Erase(0.7, 1)(b).features[k].numpy() == pytest.approx(x[k] * (u >= 0.7))


def test_distributions() -> None:
    b = complete(60, 10, 20)
    gaussian = c.GaussianNoise(2.0)(b).features["text"].flatten().double().numpy()
    assert stats.kstest(gaussian, stats.norm(scale=2).cdf).pvalue > 1e-3
    laplace = c.make_corruption("blend_laplace", 1.0)(b).features["text"].flatten().double().numpy()
    assert stats.kstest(laplace, stats.laplace(scale=1 / np.sqrt(2)).cdf).pvalue > 1e-3
    assert stats.kstest(laplace, stats.norm.cdf).pvalue < 1e-3
    assert np.var(laplace) == pytest.approx(1, abs=0.08)
    text, audio = (c.GaussianNoise(1.0)(b).features[k].flatten().numpy() for k in ("text", "audio"))
    assert abs(np.corrcoef(text, audio)[0, 1]) < 0.04


def test_erasing_is_nested_and_hits_its_rate() -> None:
    b = complete(60, 10, 20)
    b = replace(b, features={k: x + 1 for k, x in b.features.items()})
    less, more = (c.Erase(r)(b).features["audio"] for r in (0.3, 0.5))
    assert bool((more <= less).all())
    assert float(1 - less.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(1 - more.mean()) == pytest.approx(0.5, abs=0.02)


def test_laplace_or_erasing_is_one_of_both_for_the_whole_sample() -> None:
    b = batch(400)
    mixed = c.LaplaceOrErasing(0.4, 1)(b)
    blended, erased = c.Blend(0.4, 1, kind="laplace")(b), c.Erase(0.4, 1)(b)
    laplace = 0
    for i in range(400):
        is_one = [all(torch.equal(mixed.features[k][i], o.features[k][i]) for k in NAMES) for o in (blended, erased)]
        assert any(is_one)
        laplace += is_one[0]
    assert laplace / 400 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "erase", "laplace_or_erasing"])
def test_noise_on_representations(kind: Any) -> None:
    x = torch.randn(50, 8, dtype=torch.float64)
    ids = torch.arange(100, 150)
    noisy = c.cmir_noise(x, ids, 0.3, 0, "text", kind)
    rows = torch.tensor([9, 2])
    assert noisy.shape == x.shape
    assert noisy.dtype == x.dtype
    assert torch.equal(c.cmir_noise(x[rows], ids[rows], 0.3, 0, "text", kind), noisy[rows])
    assert not torch.equal(c.cmir_noise(x, ids, 0.3, 0, "audio", kind), noisy)
    if kind == "erase":
        assert bool(((noisy == x) | (noisy == 0)).all())
    if kind in ("gaussian", "laplace"):
        n = (noisy - 0.7 * x) / 0.3
        assert float(n.var()) == pytest.approx(1, abs=0.35)
    assert torch.equal(c.cmir_noise(x, ids, 0.0, 0, "text", kind), x)


# Order and identity


def test_time_shuffle_permutes_existing_steps() -> None:
    b = batch(200)
    hit = c.TimeShuffle(1.0, 0, modalities=("text",), extras=("tokens",))(b)
    moved = 0
    for i in range(200):
        n = int(b.lengths["text"][i])
        old = [(*b.features["text"][i, t].tolist(), bool(b.observed["text"][i, t]), int(b.extras["tokens"][i, t]))
               for t in range(6)]  # fmt: skip
        new = [(*hit.features["text"][i, t].tolist(), bool(hit.observed["text"][i, t]), int(hit.extras["tokens"][i, t]))
               for t in range(6)]  # fmt: skip
        assert sorted(old[:n]) == sorted(new[:n])
        assert old[n:] == new[n:]
        moved += old != new
    assert moved > 150
    half = c.TimeShuffle(0.5)(complete_steps := replace(b, observed={k: b.valid(k) for k in NAMES}))
    still = (half.features["audio"] == complete_steps.features["audio"]).all(-1).all(-1).double().mean()
    assert 0.5 < float(still) < 0.75  # half are not hit, and a short sequence may land where it was
    with pytest.raises(ConfigError, match="name exactly one in modalities"):
        c.TimeShuffle(1.0, extras=("tokens",))


def test_time_orders_are_uniform() -> None:
    b = complete(2400, 4, 1)
    b = replace(b, features={k: torch.arange(4.0).expand(2400, 4)[..., None] for k in NAMES})
    orders = c.TimeShuffle(1.0)(b).features["text"][..., 0].long()
    counts = np.unique(orders.numpy() @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_swap_takes_everything_of_the_modality_from_one_partner() -> None:
    b = batch(50)
    swap = c.Swap(1.0, 3, modalities=("text", "vision"), extras=("tokens",))
    source = swap.partners(b)
    assert sorted(source.tolist()) == list(range(50))  # everyone gives once
    at, cycle = 0, set()
    while at not in cycle:
        cycle.add(at)
        at = int(source[at])
    assert len(cycle) == 50  # one cycle, so nobody keeps its own
    hit = swap(b)
    for k in ("text", "vision"):
        for old, new in ((b.features, hit.features), (b.lengths, hit.lengths), (b.observed, hit.observed)):
            assert torch.equal(new[k], old[k][source])
    assert torch.equal(hit.extras["tokens"], b.extras["tokens"][source])
    assert torch.equal(hit.features["audio"], b.features["audio"])
    assert torch.equal(hit.target, b.target)
    assert torch.equal(hit.index, b.index)


def test_swap_does_not_depend_on_the_order_of_the_split() -> None:
    b = batch(50)
    order = torch.tensor(np.random.default_rng(1).permutation(50))
    for rate in (1.0, 0.4):
        swap = c.Swap(rate, 3)
        assert torch.equal(swap(b.rows(order)).features["text"], swap(b).features["text"][order])
        partner = {int(i): int(j) for i, j in zip(b.index, b.index[swap.partners(b)])}
        shuffled = b.rows(order)
        assert partner == {int(i): int(j) for i, j in zip(shuffled.index, shuffled.index[swap.partners(shuffled)])}
    assert not torch.equal(c.Swap(1.0, 4).partners(b), c.Swap(1.0, 3).partners(b))
    all_hit, some = c.Swap(1.0, 3).partners(b), c.Swap(0.4, 3).partners(b)
    kept = some == torch.arange(50)
    assert torch.equal(some[~kept], all_hit[~kept])
    assert 0.35 < float(kept.double().mean()) < 0.85


def test_swap_needs_distinct_samples() -> None:
    b = batch(10)
    with pytest.raises(DataError, match="swap: needs two or more samples with distinct ids, got 1"):
        c.Swap(1.0)(b.rows(torch.tensor([0])))
    with pytest.raises(DataError, match="distinct ids"):
        PerBatch(c.Swap(1.0), 5)(b)
    with pytest.raises(ConfigError, match="swap: extra 'ids' is unknown, the batch has tokens"):
        c.Swap(1.0, extras=("ids",))(b)


# Affect-Diff


def test_the_twelve() -> None:
    b = batch(40, 50)
    twelve = c.affect_diff_perturbations(seed=1)
    assert list(twelve) == [
        "no_text", "no_audio", "no_vision", "noise_0.1", "noise_0.25", "noise_0.5", "noise_1", "noise_2",
        "mask_0.1", "mask_0.25", "mask_0.5", "mask_0.75",
    ]  # fmt: skip
    out = {name: p(b) for name, p in twelve.items()}
    assert not bool(out["no_audio"].features["audio"].any())
    assert torch.equal(out["no_audio"].features["text"], b.features["text"])
    noise = {s: out[f"noise_{s}"].features["text"] - b.features["text"] for s in ("0.1", "2")}
    assert torch.allclose(noise["2"], 20 * noise["0.1"], atol=1e-4)  # levels share the draw
    lost = {p: (b.observed["text"] & ~out[f"mask_{p}"].observed["text"]) for p in ("0.1", "0.75")}
    assert not bool((lost["0.1"] & ~lost["0.75"]).any())
    shared = PerBatch(twelve["mask_0.5"], 64)(b)
    both = b.observed["text"][0] & b.observed["text"][1]
    assert torch.equal(shared.observed["text"][0] & both, shared.observed["text"][1] & both)
    own = twelve["mask_0.5"](b)
    assert not torch.equal(own.observed["text"][0] & both, own.observed["text"][1] & both)


def test_affect_diff_s_augmentation() -> None:
    b = batch(400)
    out = c.make_corruption("affect_diff_augmentation", 0.1, 3)(b)
    for m in b.modalities:
        there, kept = b.observed[m], out.observed[m]
        assert not bool((kept & ~there).any())
        assert not out.features[m][~kept].any()
        lost = ~kept.any(-1) & there.any(-1)
        assert abs(float(lost.float().mean()) - 0.1) < 0.06  # whole modalities; the rest loses single steps
        rest = ~lost & there.any(-1)
        assert abs(1 - float(kept[rest].sum() / there[rest].sum()) - 0.1) < 0.05
        noise = (out.features[m] - b.features[m])[kept]
        assert float(noise.std()) == pytest.approx(0.0 if m == "text" else 0.01, rel=0.15)
    still = c.AffectDiffAugmentation(0.0, 3, noise=0.0, dropout=0.0)(b)
    assert all(torch.equal(still.features[m], b.features[m]) for m in b.modalities)
    with pytest.raises(ConfigError, match=r"affect_diff_augmentation: dropout: rate = 2"):
        c.make_corruption("affect_diff_augmentation", 0.1, dropout=2)


def test_registry_holds_every_corruption() -> None:
    leaves = {k for k in vars(c).values() if isinstance(k, type) and issubclass(k, c.Corruption) and "mode" in vars(k)}
    assert set(c.CORRUPTIONS.values()) == leaves
    assert all(name == k.mode for name, k in c.CORRUPTIONS.items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c.make_corruption("gauss", 0.1), "protocol 'gauss' is unknown: use gaussian, blend, "),
        (lambda: c.make_corruption("gaussian", -1), r"gaussian: rate = -1 must be a finite number in \[0, inf\]"),
        (lambda: c.make_corruption("gaussian", float("inf")), "gaussian: rate = inf"),
        (lambda: c.make_corruption("erase", 1.5), r"erase: rate = 1.5 must be a finite number in \[0, 1\]"),
        (lambda: c.make_corruption("blend", 0.5, kind="cauchy"), "blend: kind = 'cauchy' must be"),
        (
            lambda: c.make_corruption("erase", 0.5, words=1),
            "erase: option 'words' is unknown, it has modalities, scale",
        ),
        (
            lambda: c.make_corruption("gaussian", 1, scale={"text": torch.ones(3)})(batch()),
            r"gaussian: scale\['text'\] must hold 4 finite numbers",
        ),
        (lambda: c.cmir_noise(torch.ones(2, 3), torch.arange(2), 0.1, 0, "text", "salt"), "kind = 'salt' must be"),
    ],
)
def test_configuration_errors(call: Callable[[], Protocol], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
