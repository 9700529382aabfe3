"""What items and seeds resolve: held to the bootstrap, to simulated tests, and to the site's own script."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from affectcore.errors import EvaluationError
from affectcore.evaluation import statistics as s
from affectcore.evaluation.resolution import Design, disagreement
from affectcore.streams import rng

SCRIPT = Path(__file__).parents[2] / "book" / "_static" / "power.js"


def simulated(n: int, seeds: int, p: float, stable: float, r: np.random.Generator) -> Any:
    """Differences of rightness without a true difference, of which a share is the same in every seed."""
    kept = r.random(n) < stable
    shared = r.choice([-1, 1], n) * (r.random(n) < p)
    fresh = r.choice([-1, 1], (seeds, n)) * (r.random((seeds, n)) < p)
    return np.where(kept, shared, fresh)


def test_one_pair_of_models_is_what_the_bootstrap_over_items_says() -> None:
    r = rng(0, "test", "one pair")
    d = simulated(2000, 1, 0.2, 1.0, r)
    drawn = s.compare_items(d, 0 * d, r, levels=("items",), draws=4000)
    assert Design(2000, float((d**2).mean())).detectable() == pytest.approx(drawn.mde, rel=0.05)


def test_seeds_and_items_add_up_to_the_spread_of_repeated_studies() -> None:
    r = rng(0, "test", "repeated")
    studies = [simulated(400, 5, 0.3, 0.6, r) for _ in range(1500)]
    known = [disagreement(d) for d in studies]
    assert np.mean([k.discordance for k in known]) == pytest.approx(0.3, rel=0.02)
    assert np.mean([k.stable for k in known]) == pytest.approx(0.6, rel=0.02)
    sd = math.sqrt(np.mean([k.seed_sd**2 for k in known]))
    design = Design(400, 0.3, 5, sd, 0.6)
    assert design.error == pytest.approx(np.std([d.mean() for d in studies]), rel=0.05)


def test_alike_items_of_a_group_count_less() -> None:
    r = rng(0, "test", "groups")
    own, group = r.normal(0, math.sqrt(0.75), (4000, 300)), r.normal(0, 0.5, (4000, 30))
    spread = (own + np.repeat(group, 10, axis=1)).mean(1).std()
    assert Design(300, 1.0, groups=30, alike=0.25).error == pytest.approx(spread, rel=0.05)


def test_power_is_the_share_of_studies_that_find_it() -> None:
    r = rng(0, "test", "power")
    p, effect, n = 0.2, 0.05, 600
    only_a = r.binomial(n, (p + effect) / 2, 20_000)
    only_b = r.binomial(n - only_a, (p - effect) / 2 / (1 - (p + effect) / 2))
    z = (only_a - only_b) / np.sqrt(only_a + only_b)
    found = float((np.abs(z) > stats.norm.isf(0.025)).mean())
    assert Design(n, p).power(effect) == pytest.approx(found, abs=0.02)
    assert Design(n, p).power(Design(n, p).detectable()) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_what_is_needed_is_the_least_that_resolves(margin: float) -> None:
    def made(items: int, seeds: int) -> Design:
        return Design(items, 0.2, seeds, 0.01, 0.7)

    items, seeds = made(1000, 4).items_needed(margin), made(5000, 4).seeds_needed(margin)
    assert items is not None
    assert seeds is not None
    assert made(items, 4).detectable() <= margin < made(items - 1, 4).detectable()
    assert made(5000, seeds).detectable() <= margin
    assert seeds == 1 or made(5000, seeds - 1).detectable() > margin


def test_where_more_of_one_thing_cannot_help() -> None:
    assert Design(1000, 0.2, 4, 0.01).items_needed(0.01) is None
    assert Design(1000, 0.2, 4, 0.01).seeds_needed(0.01) is None


def test_new_items_come_in_groups_of_the_same_size() -> None:
    ten = Design(1000, 0.2, groups=100, alike=0.5).items_needed(0.02)
    assert ten == pytest.approx(5.5 * (Design(1000, 0.2).items_needed(0.02) or 0), rel=0.001)


def test_signs_of_items_do_not_touch_what_a_decision_tells() -> None:
    r = rng(0, "test", "signs")
    d = simulated(500, 6, 0.3, 0.5, r)
    flipped = disagreement(d * r.choice([-1, 1], 500))
    assert (flipped.discordance, flipped.stable) == pytest.approx((disagreement(d).discordance, disagreement(d).stable))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Design(1, 0.1), "items must be at least 2"),
        (lambda: Design(10, 0.0), "discordance must lie above 0"),
        (lambda: Design(10, 0.1, stable=1.5), "stable must lie in 0..1"),
        (lambda: Design(10, 0.1, groups=11), "groups must lie in 2..items"),
        (lambda: Design(10, 0.1, seed_sd=-1.0), "seed_sd must be at least 0"),
        (lambda: Design(10, 0.1).items_needed(0.0), "margin must be above 0"),
        (lambda: Design(10, 0.1).detectable(alpha=0.9), "alpha and target power"),
        (lambda: disagreement([[0, 1]]), "at least 2 seeds"),
        (lambda: disagreement([[0.5], [1]]), "-1, 0 or 1"),
    ],
)
def test_bad_input_is_named(call: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        call()


# --- the site's script ------------------------------------------------------------------------------------------------

NODE = shutil.which("node")
CALLS = """
const r = require(process.argv[1]);
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const run = ([name, ...a]) => name === "design" ? ((d) => d[a[1]](...a.slice(2)))(r.design(a[0])) : r[name](...a);
console.log(JSON.stringify(asked.map(run)));
"""


def script(calls: list[list[Any]]) -> list[Any]:
    assert NODE is not None
    done = subprocess.run(
        [NODE, "-e", CALLS, str(SCRIPT)], input=json.dumps(calls), capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


@pytest.mark.skipif(NODE is None, reason="no Node.js here: the script is not compared")
def test_the_sites_script_computes_the_same() -> None:
    calls: list[list[Any]] = []
    wanted: list[Any] = []
    for z in (-6.0, -1.3, 0.0, 0.5, 2.9, 4.2, 4.3, 9.0):
        calls.append(["normalSf", z])
        wanted.append(stats.norm.sf(z))
    for n in (2, 3, 5, 10, 31, 200, 5000):
        for alpha in (0.05, 0.01):
            calls += [["tIsf", alpha / 2, n - 1], ["minimalDetectableEffect", 0.03, n, alpha, 0.8]]
            wanted += [stats.t.isf(alpha / 2, n - 1), s.minimal_detectable_effect(0.03, n, alpha=alpha)]
            for effect in (0.001, 0.02, 0.06):
                calls.append(["power", effect, 0.03, n, alpha])
                wanted.append(s.power(effect, 0.03, n, alpha=alpha))
    for margin in (0.3, 0.03, 0.01, 0.002):
        for target in (0.8, 0.95):
            calls.append(["sampleSize", 0.03, margin, 0.05, target])
            wanted.append(s.sample_size(0.03, margin, target=target))
    calls.append(["sampleSize", 1.0, 1e-4])
    wanted.append(None)
    for items, seeds, sd, stable, groups, alike in (
        (922, 1, 0.0, 1.0, None, 0.0), (922, 10, 0.012, 0.6, None, 0.0), (686, 10, 0.01, 0.8, 31, 0.05),
        (50, 3, 0.05, 0.0, 10, 1.0),
    ):  # fmt: skip
        mine = Design(items, 0.15, seeds, sd, stable, groups, alike)
        theirs = {"items": items, "discordance": 0.15, "seeds": seeds, "seedSd": sd, "stable": stable,
                  "groups": groups, "alike": alike}  # fmt: skip
        calls += [["design", theirs, "detectable", 0.01, 0.9], ["design", theirs, "power", 0.02, 0.05]]
        wanted += [mine.detectable(alpha=0.01, target=0.9), mine.power(0.02)]
        for margin in (0.05, 0.01, 0.002):
            calls += [["design", theirs, "itemsNeeded", margin], ["design", theirs, "seedsNeeded", margin]]
            wanted += [mine.items_needed(margin), mine.seeds_needed(margin)]
    for call, got, want in zip(calls, script(calls), wanted, strict=True):
        assert got == (want if want is None else pytest.approx(want, rel=1e-7, abs=1e-12)), call
