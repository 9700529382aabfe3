"""Missing modes against a naive per-sample loop, and the properties every mode promises."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affectcore import streams
from affectcore.data import missing as m
from affectcore.data.protocol import Compose, EachStep, Protocol
from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, DataError

NAMES = ("text", "audio", "vision")


def batch(n: int = 40, steps: dict[str, int] | None = None, aligned: bool = False, seed: int = 0) -> Batch:
    """Features without zeros, ragged lengths from 3 on, ids that are not row numbers."""
    steps = steps or dict.fromkeys(NAMES, 9)
    r = np.random.default_rng(seed)
    one = r.integers(3, min(steps.values()) + 1, n)
    lengths = {k: torch.tensor(one if aligned else r.integers(3, t + 1, n)) for k, t in steps.items()}
    observed = {k: torch.arange(t) < lengths[k][:, None] for k, t in steps.items()}
    features = {k: (torch.rand(n, t, 2) + 1) * observed[k][..., None] for k, t in steps.items()}
    ids = torch.tensor(r.permutation(10 * n)[:n])
    return Batch(features, lengths, observed, torch.zeros(n), ids, ids)


# mode, options, does it need aligned data
MODES: list[tuple[str, dict[str, Any], bool]] = [
    ("rmfm", {}, False),
    ("rmfm", {"special": "text"}, False),
    ("rmfm_training", {"rate_per": "position"}, False),
    ("rmfm_training", {"rate_per": "sample", "special": "text"}, False),
    ("rmfm_training", {"rate_per": "modality"}, False),
    ("rmfm_same", {}, False),
    ("rmm", {}, False),
    ("rmm", {"special": "text"}, False),
    ("tmfm", {}, True),
    ("tmfm", {"special": "text"}, True),
    ("stmfm", {}, True),
    ("stmfm", {"special": "text"}, True),
    ("only:text+audio", {}, False),
    ("only:audio", {"special": "text"}, False),
    ("without:text", {"special": "text"}, False),
    ("random_mr", {}, False),
    ("random_subset", {}, False),
    ("block", {}, False),
    ("block", {"special": "text"}, False),
    ("frame_mask", {}, False),
    ("modality_dropout", {}, False),
]
IDS = [f"{name} {options}" for name, options, _ in MODES]
every_mode = pytest.mark.parametrize(("name", "options", "aligned"), MODES, ids=IDS)


def at(rate: float, name: str) -> float:
    """The nearest rate the mode allows."""
    return min(rate, 0.66) if name == "random_subset" else min(round(rate, 1), 0.7) if name == "random_mr" else rate


# The twin: one sample at a time, in plain Python, from the words of the papers


def naive(name: str, rate: float, options: dict[str, Any], b: Batch, seed: int) -> dict[str, list[list[bool]]]:
    kind, _, rest = name.partition(":")
    special = options.get("special")
    out: dict[str, list[list[bool]]] = {k: [] for k in b.modalities}
    for i in range(len(b)):
        ids = np.array([int(b.index[i])])

        def u(purpose: str, *shape: int, ids: np.ndarray = ids) -> Any:
            return streams.uniform(streams.key(seed, "missing", kind, purpose), ids, *shape)[0]

        length = {k: int(b.lengths[k][i]) for k in b.modalities}
        T = {k: b.features[k].shape[1] for k in b.modalities}
        gone: dict[str, set[int]] = {k: set() for k in b.modalities}
        for k in b.modalities:
            draw = u(k, T[k])
            if kind in ("rmfm", "rmfm_same"):
                gone[k] = {t for t in range(T[k]) if draw[t] < rate}
            if kind == "rmfm_training":
                r = {
                    "position": u(f"rate {k}", T[k]),
                    "sample": [u("rate", 1)[0]] * T[k],
                    "modality": [u(f"rate {k}", 1)[0]] * T[k],
                }[options["rate_per"]]
                gone[k] = {t for t in range(T[k]) if draw[t] < rate * r[t]}
            if kind == "rmm" and u(k, 1)[0] < rate:
                gone[k] = set(range(T[k]))
            if kind == "tmfm":
                gone[k] = {t for t in range(T[k]) if u("words", T[k])[t] < rate}
            if kind in ("stmfm", "block"):
                ends = 1 if special and (kind == "stmfm" or k == special) else 0
                words = length[k] - 2 * ends
                size = round(words * rate)
                places = [list(range(s, s + size)) for s in range(ends, ends + words - size + 1)]
                x = u("start" if kind == "stmfm" else k, 1)[0]
                gone[k] = set(places[math.floor(x * len(places))])
            if kind == "frame_mask":
                count = max(1, int(T[k] * rate)) if rate else 0
                gone[k] = set(np.argsort(u("slots", T[k]))[:count].tolist())
            if kind in ("only", "without"):
                lost = (k in rest.split("+")) == (kind == "without")
                if lost and u("sample", 1)[0] < rate:
                    gone[k] = set(range(T[k]))
        if kind in ("random_mr", "random_subset"):
            order = sorted(b.modalities, key=lambda k: u(k, 1)[0])
            x = u("count", 1)[0]
            if kind == "random_mr":
                two, one = {0.3: (0.3, 0.3), 0.5: (0.7, 0.1), 0.7: (1.0, 0.0)}[rate]
                number = 2 if x < two else 1 if x < two + one else 0
            else:  # P(not all three) conditioned, p found by bisection
                lo, hi = 0.0, 1.0
                for _ in range(200):
                    p = (lo + hi) / 2
                    mean = (3 * p - 3 * p**3) / (1 - p**3) / 3 if p < 1 else 1.0
                    lo, hi = (p, hi) if mean < rate else (lo, p)
                both = 3 * p * p * (1 - p) / (1 - p**3)
                single = 3 * p * (1 - p) ** 2 / (1 - p**3)
                number = 2 if x < both else 1 if x < both + single else 0
            for k in order[:number]:
                gone[k] = set(range(T[k]))
        if kind == "modality_dropout":
            draws = {k: u(k, 1)[0] for k in b.modalities}
            losers = [k for k in b.modalities if draws[k] < rate]
            if len(losers) == len(b.modalities):
                losers.remove(max(draws, key=lambda k: draws[k]))
            for k in losers:
                gone[k] = set(range(T[k]))
        for k in b.modalities:
            if special and (k == special or kind in ("tmfm", "stmfm")):
                gone[k] -= {0, length[k] - 1}
            out[k].append([t < length[k] and t not in gone[k] for t in range(T[k])])
    return out


@every_mode
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_equal_to_the_naive_loop(name: str, options: dict[str, Any], aligned: bool, rate: float) -> None:
    rate = at(rate, name)
    b = batch(aligned=aligned)
    hidden = m.make_missing(name, rate, 3, **options)(b)
    assert {k: v.tolist() for k, v in hidden.observed.items()} == naive(name, rate, options, b, 3)


# Properties


@every_mode
def test_masks_do_not_depend_on_order_or_company(name: str, options: dict[str, Any], aligned: bool) -> None:
    b = batch(aligned=aligned)
    protocol = m.make_missing(name, at(0.4, name), 1, **options)
    whole = protocol(b)
    rows = torch.tensor([7, 3, 30, 0])
    part = protocol(b.rows(rows))
    for k in NAMES:
        assert torch.equal(part.observed[k], whole.observed[k][rows])
        assert torch.equal(part.features[k], whole.features[k][rows])


@every_mode
def test_masks_depend_on_seed_and_id_but_not_on_values(name: str, options: dict[str, Any], aligned: bool) -> None:
    b = batch(200, aligned=aligned)
    rate = at(0.4, name)
    protocol = m.make_missing(name, rate, 1, **options)
    first = protocol(b).observed

    def same(other: Batch) -> bool:
        return all(torch.equal(first[k], other.observed[k]) for k in NAMES)

    other = replace(b, features={k: (x * 7).double() for k, x in b.features.items()}, target=torch.ones(len(b)))
    assert same(protocol(other))
    assert protocol(other).features["text"].dtype == torch.float64
    if not (name.startswith(("only", "without")) and rate == 1):
        assert not same(m.make_missing(name, rate, 2, **options)(b))
        assert not same(protocol(replace(b, index=b.index + 1)))


@every_mode
@pytest.mark.parametrize("seed", [0, 1])
def test_nested_in_the_rate(name: str, options: dict[str, Any], aligned: bool, seed: int) -> None:
    b = batch(120, aligned=aligned)
    rates = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.66 if name == "random_subset" else 0.7]
    masks = [m.make_missing(name, r, seed, **options)(b).observed for r in rates]
    for less, more in pairwise(masks):
        assert all(not bool((more[k] & ~less[k]).any()) for k in NAMES)
    assert all(torch.equal(masks[0][k], b.observed[k]) for k in NAMES), "rate 0 must hide nothing"
    assert any(not torch.equal(masks[-1][k], b.observed[k]) for k in NAMES)


@every_mode
def test_only_hides(name: str, options: dict[str, Any], aligned: bool) -> None:
    """Padding and what is missing by nature stay hidden, values that are shown stay as they are, lengths stay."""
    b = batch(aligned=aligned)
    lack = {"text": torch.rand(len(b), 9) < 0.7}
    b = b.with_observed(lack)
    hidden = m.make_missing(name, at(0.4, name), 0, **options)(b)
    for k in NAMES:
        o = hidden.observed[k]
        assert not bool((o & ~b.observed[k]).any())
        assert torch.equal(hidden.features[k], b.features[k] * o[..., None])
        assert torch.equal(hidden.lengths[k], b.lengths[k])
    assert torch.equal(hidden.target, b.target)
    assert torch.equal(hidden.index, b.index)


def share(name: str, rate: float, n: int = 6000, aligned: bool = True, **options: Any) -> dict[str, float]:
    b = batch(n, dict.fromkeys(NAMES, 20), aligned=aligned)
    return m.hidden_share(b, m.make_missing(name, rate, 0, **options)(b))


@pytest.mark.parametrize("name", ["rmfm", "rmfm_same", "rmm", "tmfm", "block", "random_subset"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.65])
def test_realised_rate(name: str, rate: float) -> None:
    for realised in share(name, rate).values():
        assert realised == pytest.approx(rate, abs=4 * 0.5 / math.sqrt(6000) + (0.01 if name == "block" else 0))


@pytest.mark.parametrize("rate_per", ["position", "sample", "modality"])
def test_training_rates(rate_per: str) -> None:
    """All three hide half on average; only "position" leaves no sample nearly empty or nearly complete."""
    b = batch(3000, dict.fromkeys(NAMES, 60), seed=1)
    b = replace(b, lengths={k: torch.full((3000,), 60) for k in NAMES})
    b = replace(b, observed={k: torch.ones(3000, 60, dtype=torch.bool) for k in NAMES})
    hidden = m.RMFMTraining(1.0, rate_per=rate_per)(b)  # type: ignore[arg-type]
    lost = 1 - torch.stack([hidden.observed[k].double().mean(-1) for k in NAMES])
    assert float(lost.mean()) == pytest.approx(0.5, abs=0.02)
    # binomial sd of 60 steps is .065; uniform rates have sd .289, with the binomial part .295
    assert float(lost.std()) == pytest.approx(0.065 if rate_per == "position" else 0.295, abs=0.015)
    between = float(torch.corrcoef(lost)[0, 1])
    assert between > 0.9 if rate_per == "sample" else abs(between) < 0.1


@pytest.mark.parametrize("rate", sorted(m.RANDOM_MR))
def test_random_mr_has_the_published_mixture(rate: float) -> None:
    b = batch(6000)
    hidden = m.RandomMR(rate)(b)
    present = torch.stack([hidden.observed[k].any(-1) for k in NAMES], -1)
    two, one = m.RANDOM_MR[rate]
    number = present.sum(-1)
    assert int(number.min()) >= 1
    assert float((number == 1).double().mean()) == pytest.approx(two, abs=0.026)
    assert float((number == 2).double().mean()) == pytest.approx(one, abs=0.026)
    assert 2 * two + one == pytest.approx(3 * min(rate, 2 / 3))
    assert m.missing_rate(hidden) == pytest.approx(min(rate, 2 / 3), abs=0.02)
    for k in (1, 2):  # which ones: uniform among the pairs and among the singles
        kept = present[number == k].double().mean(0)
        if int((number == k).sum()) > 500:
            assert kept.tolist() == pytest.approx([k / 3] * 3, abs=0.09)


@given(n=st.integers(2, 7), rate=st.floats(0, 1))
@hypothesis_settings(max_examples=60, deadline=None)
def test_random_subset_solves_for_the_rate(n: int, rate: float) -> None:
    rate *= (n - 1) / n
    tails = m.RandomSubset(rate).tails(n)
    assert len(tails) == n - 1
    assert all(1 + 1e-9 >= a >= b >= 0 for a, b in pairwise(tails))
    assert sum(tails) == pytest.approx(n * rate, abs=1e-4)  # the expected number is the sum of the tails


def test_five_modalities_and_at_least_one() -> None:
    b = batch(3000, {f"m{i}": 3 + i for i in range(5)})
    hidden = m.RandomSubset(0.7)(b)
    present = torch.stack([o.any(-1) for o in hidden.observed.values()], -1)
    assert int(present.sum(-1).min()) == 1
    assert m.missing_rate(hidden) == pytest.approx(0.7, abs=0.02)
    most = m.RandomSubset(0.8)(b)
    assert bool((torch.stack([o.any(-1) for o in most.observed.values()], -1).sum(-1) == 1).all())
    dropped = m.ModalityDropout(0.9)(b)
    present = torch.stack([o.any(-1) for o in dropped.observed.values()], -1)
    assert int(present.sum(-1).min()) == 1
    assert 1 - float(present.double().mean()) == pytest.approx(0.9 - 0.9**5 / 5, abs=0.02)
    with pytest.raises(ConfigError, match=r"rate = 0.81 must be at most \(M - 1\) / M = 0.800"):
        m.RandomSubset(0.81)(b)
    with pytest.raises(DataError, match="defined for three modalities, got 5; use random_subset"):
        m.RandomMR(0.3)(b)


@pytest.mark.parametrize("protocol", [m.RandomMR(0.7), m.RandomSubset(0.6), m.ModalityDropout(1.0)])
def test_the_modality_kept_is_one_the_sample_has(protocol: m.Missing) -> None:
    b = batch(300)
    b = b.with_observed({k: (torch.arange(300) % 3 == i)[:, None].expand(300, 9) for i, k in enumerate(NAMES)})
    hidden = protocol(b)
    assert bool(torch.stack([o.any(-1) for o in hidden.observed.values()], -1).any(-1).all())


def test_a_modality_has_its_own_stream() -> None:
    """Which other modalities there are, and how far the data are padded, does not move a mask."""
    b = batch(50)
    alone = Batch(
        {"audio": torch.cat([b.features["audio"], torch.zeros(50, 5, 2)], 1)},
        {"audio": b.lengths["audio"]},
        {"audio": torch.cat([b.observed["audio"], torch.zeros(50, 5, dtype=torch.bool)], 1)},
        b.target, b.index, b.group,
    )  # fmt: skip
    for name in ("rmfm", "rmfm_same", "rmm", "block", "modality_dropout"):
        protocol = m.make_missing(name, 0.4, 5)
        if name != "modality_dropout":  # with one modality, dropout keeps it
            both = protocol(b).observed["audio"]
            assert torch.equal(protocol(alone).observed["audio"][:, :9], both), name
        else:
            assert torch.equal(protocol(alone).observed["audio"], alone.observed["audio"])
    u = [streams.uniform(streams.key(5, "missing", "rmfm", k), b.index.numpy(), 9) for k in NAMES]
    assert abs(np.corrcoef(np.reshape(u, (3, -1)))[0, 1]) < 0.15


def test_special_tokens() -> None:
    b = batch(100, aligned=True)
    last = b.lengths["text"] - 1
    rows = torch.arange(100)
    for name in ("rmfm", "rmm", "rmfm_same", "block", "without:text"):
        seen = m.make_missing(name, 1.0, 0, special="text")(b).observed
        assert seen["text"].sum(-1).tolist() == [2] * 100, name
        assert bool(seen["text"][:, 0].all() & seen["text"][rows, last].all())
        assert name == "without:text" or not bool(seen["audio"].any())
    for name in ("tmfm", "stmfm"):
        seen = m.make_missing(name, 1.0, 0, special="text")(b).observed
        assert all(o.sum(-1).tolist() == [2] * 100 and bool(o[rows, last].all()) for o in seen.values()), name
        assert not any(bool(o.any()) for o in m.make_missing(name, 1.0)(b).observed.values())
    assert int(m.Only(1.0, present=("audio",), special="text")(b).observed["text"].sum()) == 200
    assert torch.equal(m.Only(1.0, present=("text",), special="text")(b).observed["text"], b.observed["text"])
    with pytest.raises(ConfigError, match="rmfm: modality 'words' is unknown, the data have text, audio, vision"):
        m.RMFM(0.5, special="words")(b)


def test_unequal_rates() -> None:
    realised = share("rmfm_same", 0.5, rates={"text": 0.0, "audio": 1.0})
    assert realised["text"] == 0
    assert realised["audio"] == 1
    assert realised["vision"] == pytest.approx(0.5, abs=0.02)


def test_block_is_one_block_of_the_rounded_length() -> None:
    b = batch(500)
    for name, aligned in (("block", b), ("stmfm", batch(500, aligned=True))):
        seen = m.make_missing(name, 0.4)(aligned)
        starts = set()
        for k in NAMES:
            for i, (row, length) in enumerate(zip(seen.observed[k].tolist(), aligned.lengths[k].tolist())):
                gone = [t for t in range(length) if not row[t]]
                assert len(gone) == round(0.4 * length)
                assert gone == list(range(gone[0], gone[0] + len(gone)))
                starts.add(gone[0] / (length - len(gone)))
                if name == "stmfm":
                    assert row == seen.observed["text"][i].tolist()
        assert {0.0, 1.0} <= starts  # the first and the last place are both reached


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.01, 1), (0.1, 5), (0.25, 12), (0.5, 25), (0.75, 37)])
def test_frame_mask_counts_slots(rate: float, count: int) -> None:
    b = batch(30, dict.fromkeys(NAMES, 50))
    full = replace(b, observed={k: torch.ones_like(o) for k, o in b.observed.items()})
    seen = m.FrameMask(rate)(full).observed
    assert (50 - seen["text"].sum(-1)).tolist() == [count] * 30
    assert torch.equal(seen["text"], seen["vision"])


# The published drawings

# Batches, samples, batch size -> realised missing rate at nominal .1 to .7, computed for RoHyDR's code by hand
PUBLISHED = {
    "MOSI train": (1284, 32, [0.100, 0.199, 0.299, 0.399, 0.498, 0.598, 0.665]),
    "MOSI valid": (229, 32, [0.140, 0.279, 0.419, 0.559, 0.659, 0.667, 0.667]),
    "MOSI test": (686, 32, [0.093, 0.187, 0.280, 0.373, 0.466, 0.560, 0.622]),
    "MOSEI valid": (1871, 128, [0.137, 0.274, 0.410, 0.547, 0.653, 0.667, 0.667]),
    "MOSEI test": (4659, 128, [0.110, 0.220, 0.330, 0.440, 0.549, 0.659, 0.667]),
}


@pytest.mark.parametrize("split", PUBLISHED)
def test_published_random_mr_misses_its_rate(split: str) -> None:
    n, size, expected = PUBLISHED[split]
    b = batch(n, dict.fromkeys(NAMES, 3))
    realised = [m.missing_rate(m.PublishedRandomMR(r / 10, 0, size)(b)) for r in range(1, 8)]
    assert realised == pytest.approx(expected, abs=5.1e-4)


def test_published_random_mr_shares_a_subset_and_starts_hard() -> None:
    b = batch(686)
    hidden = m.PublishedRandomMR(0.5, 4)(b)
    present = torch.stack([o.any(-1) for o in hidden.observed.values()], -1)
    for start in range(0, 686, 32):
        assert bool((present[start : start + 32] == present[start]).all())
    number = present[::32].sum(-1)
    assert number.tolist() == sorted(number.tolist()) == [1] * 14 + [2] * 2 + [3] * 6
    turned = m.PublishedRandomMR(0.5, 4)(b.rows(torch.arange(685, -1, -1)))
    assert not torch.equal(turned.observed["text"].flip(0), hidden.observed["text"])
    assert m.missing_rate(m.PublishedRandomMR(0.0)(b)) == 0
    with pytest.raises(DataError, match="rounded to tens, 0 for 4 batches"):
        m.PublishedRandomMR(0.5)(b.rows(torch.arange(100)))


def test_per_batch_shares_a_draw_and_depends_on_order() -> None:
    b = batch(96)
    per_batch = m.make_missing("per_batch:rmm", 0.5, 7, batch_size=32)
    assert per_batch.name == "per_batch:rmm"
    assert (per_batch.rate, per_batch.seed) == (0.5, 7)
    hidden = per_batch(b)
    assert torch.equal(hidden.index, b.index)
    present = torch.stack([o.any(-1) for o in hidden.observed.values()], -1)
    assert all(bool((present[i : i + 32] == present[i]).all()) for i in (0, 32, 64))
    order = torch.tensor(np.random.default_rng(0).permutation(96))
    assert not torch.equal(per_batch(b.rows(order)).observed["text"], hidden.observed["text"][order])
    by_position = m.make_missing("by_position:rmfm", 0.5, 7)
    first = by_position(b)
    assert by_position.name == "by_position:rmfm"
    moved = by_position(b.rows(order))
    assert not torch.equal(moved.observed["text"], first.observed["text"][order])
    full = replace(b, observed={k: torch.ones_like(o) for k, o in b.observed.items()})
    assert torch.equal(by_position(full).observed["text"], by_position(full.rows(order)).observed["text"])


def test_training_form_draws_anew_each_step() -> None:
    b = batch()
    augment = EachStep(m.RMFM(0.5))
    one = augment(b, 3, 0).observed["text"]
    assert torch.equal(one, augment(b, 3, 0).observed["text"])
    assert not torch.equal(one, augment(b, 3, 1).observed["text"])
    assert not torch.equal(one, augment(b, 4, 0).observed["text"])
    both = Compose((m.RMFM(0.5, 1), m.RMM(0.3, 1)))(b)
    expected = m.RMFM(0.5, 1)(b).observed["text"] & m.RMM(0.3, 1)(b).observed["text"]
    assert torch.equal(both.observed["text"], expected)


# Accounting, tokens, errors


def test_hidden_tokens_become_unknown() -> None:
    b = batch()
    ids = torch.arange(40 * 9).reshape(40, 9) + 1000
    b = replace(b, extras={"tokens": ids})
    hidden = m.hide_tokens(m.RMFM(0.5, special="text")(b))
    new, valid = hidden.extras["tokens"], b.valid("text")
    assert torch.equal(new[~valid], ids[~valid])
    assert torch.equal(new == 100, valid & ~hidden.observed["text"])
    assert torch.equal(new[new != 100], ids[new != 100])
    with pytest.raises(ConfigError, match="extra 'words' is unknown, the batch has tokens"):
        m.hide_tokens(b, "words")


def test_accounts() -> None:
    b = batch(4, dict.fromkeys(NAMES, 3))
    hidden = m.Without(1.0, absent=("audio",))(b)
    assert m.hidden_share(b, hidden) == {"text": 0.0, "audio": 1.0, "vision": 0.0}
    assert m.missing_rate(hidden) == pytest.approx(1 / 3)
    assert math.isnan(m.hidden_share(hidden, hidden)["audio"])


def test_registry_holds_every_mode() -> None:
    leaves = {c for c in vars(m).values() if isinstance(c, type) and issubclass(c, m.Missing) and "mode" in vars(c)}
    assert set(m.MISSING.values()) == leaves
    assert all(name == c.mode for name, c in m.MISSING.items())
    assert m.make_missing("only:text+audio", 1).name == "only:text+audio"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.make_missing("rmfn", 0.1), "protocol 'rmfn' is unknown: use rmfm, "),
        (lambda: m.make_missing("rmfm", 1.1), r"rmfm: rate = 1.1 must be a finite number in \[0, 1\]"),
        (lambda: m.make_missing("rmfm", -0.1), "rmfm: rate = -0.1"),
        (lambda: m.make_missing("rmfm", float("nan")), "rmfm: rate = nan"),
        (lambda: m.make_missing("rmfm", "0.3"), "rmfm: rate = '0.3'"),
        (lambda: m.make_missing("rmfm", 0.1, words=3), "rmfm: option 'words' is unknown, it has special"),
        (lambda: m.make_missing("random_mr", 0.8), r"random_mr: rate = 0.8 must be a finite number in \[0, 0.7\]"),
        (lambda: m.make_missing("random_mr", 0.25), "random_mr: rate = 0.25 must be one of 0.0, 0.1"),
        (lambda: m.make_missing("rmfm_same", 0.1, rates={"text": 2}), r"rmfm_same: rates\['text'\]: rate = 2"),
        (lambda: m.make_missing("rmfm_training", 1, rate_per="step"), "rate_per = 'step' must be"),
        (lambda: m.make_missing("only", 1), "only: present must name"),
        (lambda: m.make_missing("per_batch:rmm", 1), "option batch_size must be given"),
        (lambda: m.make_missing("per_batch:rmm", 1, batch_size=0), "batch_size = 0 must be 1 or more"),
        (lambda: m.make_missing("only:smell", 1)(batch()), "only:smell: modality 'smell' is unknown"),
        (lambda: m.make_missing("rmfm_same", 0, rates={"smell": 0.1})(batch()), "rmfm_same: modality 'smell'"),
    ],
)
def test_configuration_errors(call: Callable[[], Protocol], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_aligned_modes_refuse_unaligned_data() -> None:
    for name in ("tmfm", "stmfm"):
        with pytest.raises(DataError, match=f"{name}: needs aligned data"):
            m.make_missing(name, 0.3)(batch())
    with pytest.raises(DataError, match="frame_mask: needs one time axis"):
        m.FrameMask(0.3)(batch(5, {"text": 4, "audio": 6}))


def test_rates_made_by_arithmetic_are_known() -> None:
    assert torch.equal(m.RandomMR(0.1 * 3)(batch()).observed["text"], m.RandomMR(0.3)(batch()).observed["text"])


@pytest.mark.parametrize("name", ["per_batch:rmm", "by_position:rmm"])
def test_published_drawings_can_be_drawn_anew_at_every_step(name: str) -> None:
    options = {"batch_size": 4} if name.startswith("per_batch") else {}
    augment, b = EachStep(m.make_missing(name, 0.5, **options)), batch()
    masks = [augment(b, 0, step).observed for step in range(6)]
    assert all(torch.equal(masks[0][k], augment(b, 0, 0).observed[k]) for k in b.modalities)
    assert any(not torch.equal(masks[0][k], x[k]) for x in masks[1:] for k in b.modalities)
