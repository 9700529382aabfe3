"""What the chapters ask of RoHyDR's records: curves over missing rates, mask draws, factorials, times, in tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from affectcore.data import worlds
from affectcore.data.missing import Only
from affectcore.data.schema import Selection
from affectcore.errors import StoreError
from affectcore.evaluation.statistics import PairedComparison
from affectcore.studies import answers
from affectcore.studies.claims import Results
from affectcore.studies.readings import Floats, Reading, by_seed, effects, runs
from affectcore.studies.rohydr import paper
from affectcore.studies.rohydr.diagnose import right, subsets
from affectcore.studies.rohydr.evidence import HEADLINE, REFERENCE, averaged, best_epoch, left, roughness
from affectcore.studies.rohydr.study import SETTINGS

WORLDS = {s: f"recovery_{s}" for s in SETTINGS}


# --- arms ------------------------------------------------------------------------------------------------------------


def change(
    results: Results, arm: str, other: str = REFERENCE, data: str = HEADLINE, read: Reading = averaged
) -> PairedComparison:
    """Return an arm minus another, paired by the seeds that both have."""
    return answers.change(results, arm, other, data, read)


def curve(results: Results, arm: str, data: str = HEADLINE) -> Floats:
    """Return ACC2 at missing rates 0 to .7 by seed, (S, 8): the mixture of an arm's accuracies by subset."""
    sizes = np.stack([by_seed(results, arm, data, left(k)) for k in (1, 2, 3)], 1)
    return np.asarray(sizes @ np.array([paper.mixture(r) for r in paper.RATES]).T)


def fixed(results: Results, arms: Mapping[str, str], data: str = HEADLINE, condition: str = "mr_0.4") -> pd.DataFrame:
    """Return ACC2 by the subset at hand (rows) and arm (columns, by its name), mean over seeds."""
    table = {}
    for arm, name in arms.items():
        found = [pd.Series({k: v[0] for k, v in r.extra["subsets"][condition].items()}, dtype=float)
                 for r in runs(results, arm, data)]  # fmt: skip
        table[name] = pd.concat(found, axis=1).mean(axis=1)
    frame = pd.DataFrame(table)
    return frame.loc[sorted(frame.index, key=lambda k: (k.count("+"), k))]


def ceilings(settings: Mapping[str, Any], seed: int = 0, items: int = 2000) -> dict[str, Floats]:
    """Return the exact Bayes predictor's ACC2 with one, two and three modalities by setting, on one seed's world."""
    out = {}
    for name, chosen in settings.items():
        world = worlds.make("recovery", seed, chosen, worlds.Sizes(10, 10, items))
        test = world.data.split("test", Selection("fixed"))
        y, names = test.target.numpy(), tuple(test.modalities)
        found: dict[int, list[float]] = {}
        for s in subsets(names):
            found.setdefault(len(s), []).append(right(world.oracle(Only(1.0, present=s)(test)), y)[0])
        out[name] = np.array([np.mean(found[k]) for k in sorted(found)])
    return out


def rates_table(results: Results, arms: Mapping[str, str]) -> pd.DataFrame:
    """Return "ACC2/F1/ACC7" in percent by missing rate (rows) and arm (columns), mean over seeds; last, over rates."""
    columns = {}
    for arm, name in arms.items():
        each = [pd.DataFrame(r.extra["audit"]["curve"]).T for r in runs(results, arm, HEADLINE)]
        table = 100 * sum(each, 0 * each[0]) / len(each)
        table.loc["mean"] = table.mean()
        columns[name] = ["/".join(f"{v:.1f}" for v in row) for row in table[["acc2", "f1", "acc7"]].to_numpy()]
        index = list(table.index)
    return pd.DataFrame(columns, index=pd.Index(index, name="MR"))


# --- audit -----------------------------------------------------------------------------------------------------------


def mask_draws(results: Results, arm: str = REFERENCE) -> pd.DataFrame:
    """Return one row a seed, rate and way of drawing: mean, sd and 95 % range of ACC2 over the draws, realised rate."""
    rows = []
    for r in runs(results, arm, HEADLINE):
        for way in ("sample", "batch"):
            for rate, drawn in r.extra["audit"][way].items():
                acc, realised = np.array(drawn, float).T
                low, high = np.percentile(acc, [2.5, 97.5])
                rows.append({"seed": r.spec.seed, "way": way, "rate": float(rate), "mean": acc.mean(),
                             "sd": acc.std(ddof=1), "range": high - low, "realised": realised.mean()})  # fmt: skip
    return pd.DataFrame(rows)


def one_audit(results: Results, arm: str = REFERENCE) -> Mapping[str, Mapping[str, Floats]]:
    """Return {way: {rate: ACC2 of 200 draws}} of an arm's first seed."""
    found = runs(results, arm, HEADLINE)[0].extra["audit"]
    return {w: {k: np.array(v, float)[:, 0] for k, v in found[w].items()} for w in ("sample", "batch")}


# --- factorial, passes, stages ---------------------------------------------------------------------------------------

CELLS = {  # diffusion (against the regressor), recovery of the fusion, staged (against one stage)
    (1, 1, 1): REFERENCE, (1, 0, 1): "streams_alone", (1, 1, 0): "one_stage", (1, 0, 0): "joint",
    (0, 1, 1): "regressor", (0, 0, 1): "regressor_alone", (0, 1, 0): "one_regressor", (0, 0, 0): "one_regressor_alone",
}  # fmt: skip
FACTORS = {"D": "diffusion", "F": "fusion recovery", "S": "stages"}


def factorial(results: Results, read: Reading = averaged) -> dict[str, PairedComparison]:
    """Return main effects and interactions of recovery by diffusion, recovery of the fusion, and stages."""
    cells = {k: answers.values(results, arm, HEADLINE, read) for k, arm in CELLS.items()}
    common = sorted(set.intersection(*(set(v) for v in cells.values())))
    if len(common) < 2:
        raise StoreError(f"the factorial's arms share {len(common)} seeds")
    y: dict[tuple[int, ...], Floats] = {k: np.array([v[s] for s in common]) for k, v in cells.items()}
    named = {"".join(k): v for k, v in effects(y, "DFS").items()}
    return {" × ".join(FACTORS[f] for f in k): answers.about(v) for k, v in named.items()}


def epochs(results: Results, arm: str, seeds: int | None = None) -> Floats:
    """Return ACC2 on validation with one modality left, (seeds, epochs)."""
    return np.array([[e["probe"]["acc2"] for e in r.history] for r in runs(results, arm, HEADLINE)[:seeds]])


def training(results: Results, arms: Mapping[str, str]) -> pd.DataFrame:
    """Return one row an arm: CPU seconds of training, ACC2, its change from the reference on common seeds, curve."""
    rows = []
    for arm, name in arms.items():
        found = runs(results, arm, HEADLINE)
        row = {"training": name, "CPU s": np.mean([sum(e["cpu_s"] for e in r.history) for r in found]),
               "ACC2": np.mean([averaged(r) for r in found]), "seeds": len(found)}  # fmt: skip
        row["change"] = "-" if arm == REFERENCE else answers.spanned(change(results, arm))
        if "probe" in found[0].history[0]:
            row |= {"best epoch": np.mean([best_epoch(r) for r in found]),
                    "roughness": np.mean([roughness(r) for r in found])}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows).set_index("training")


# --- recovery --------------------------------------------------------------------------------------------------------


def quality(results: Results, arm: str = REFERENCE) -> pd.DataFrame:
    """Return one row a setting, modality and subset at hand, means over seeds: R^2 of the recovered stream and of a
    ridge regression, and what ACC2 gains over zero-fill on samples with that subset at hand."""
    rows = []
    for setting, data in WORLDS.items():
        mine, zero = (fixed(results, {a: "x"}, data)["x"] for a in (arm, "zero_fill"))
        found = [r.extra["recovery"] for r in runs(results, arm, data)]
        for m in found[0]:
            for s in found[0][m]["r2"]:
                rows.append({"setting": setting, "recovered": m, "from": s,
                             "linear": np.mean([f[m]["linear"][s] for f in found]),
                             "r2": np.mean([f[m]["r2"][s] for f in found]),
                             "gain": mine[s] - zero[s]})  # fmt: skip
    return pd.DataFrame(rows)


def recovery_table(results: Results, arms: Iterable[str], setting: str = "headline") -> pd.DataFrame:
    """Return by arm, mean over seeds and modalities: probe on true, recovered and shuffled streams and on the others,
    R^2 from all others, two-sample area, and the variance of draws before and after the reconstructor."""
    rows = {}
    for arm in arms:
        found = [v for r in runs(results, arm, WORLDS[setting]) for v in r.extra["recovery"].values()]
        mean = {
            "probe, true": [v["probe"][0] for v in found], "probe, recovered": [v["probe"][1] for v in found],
            "probe, other sample's": [v["probe"][2] for v in found],
            "probe, streams at hand": [v["others"] for v in found],
            "R² from all others": [list(v["r2"].values())[-1] for v in found],
            "R², ridge": [list(v["linear"].values())[-1] for v in found],
            "two-sample area": [v["auc"][0] for v in found],
            "variance of draws": [v["variance"][0] for v in found], "after UR": [v["variance"][1] for v in found],
        }  # fmt: skip
        rows[arm] = {k: float(np.mean(v)) for k, v in mean.items()}
    return pd.DataFrame(rows).T


def latency(results: Results, arms: Mapping[str, str]) -> pd.DataFrame:
    """Return ACC2 with one modality left and milliseconds for 128 samples by arm, sampler and number of steps."""
    rows = []
    for arm, name in arms.items():
        found = [pd.DataFrame(r.extra["steps"]) for r in runs(results, arm, HEADLINE)]
        table = pd.concat(found).groupby(["sampler", "steps"], sort=False).agg(["mean", "sem"])
        for (sampler, steps), row in table.iterrows():
            rows.append({"arm": name, "sampler": sampler, "steps": steps, "acc2": row["acc2", "mean"],
                         "sem": row["acc2", "sem"], "ms": row["ms", "mean"],
                         "spread": row.get(("spread", "mean"), np.nan)})  # fmt: skip
    return pd.DataFrame(rows)
