"""The robustness explorer: scores of models under stressors, as tables and as data for the site's script.

A scene is one data label with the stressors that its stored runs hold; scenes are never merged. On a corpus all seeds
share the test items, and intervals come from draws over seeds and groups; on a world every seed has a world of its own,
and they are Student's t over seeds, as on a corpus whose runs kept no predictions. Without the script, as in a
notebook, the tables are there to read.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Literal

import numpy as np
import pandas as pd

from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.statistics import t_interval
from affectcore.figures.style import DASHES, GREY, MARKERS, PALETTE
from affectcore.studies.answers import number
from affectcore.studies.claims import Results
from affectcore.studies.resampling import pooled, resampled
from affectcore.studies.spec import Study

FLOOR = "constant"  # the arm whose score is the floor: it reads no input, so no stressor moves it


@dataclass(frozen=True)
class Metric:
    """A metric and its name; ceiling: whether the world's optimum for it is known."""

    key: str
    name: str
    higher_is_better: bool = True
    ceiling: bool = True


MAE = Metric("mae", "mean absolute error", False)
PEARSON = Metric("pearson", "Pearson's correlation")
AUROC = Metric("auroc_macro", "area under the ROC curve, mean over classes")
BALANCED = Metric("balanced_accuracy", "balanced accuracy")
ACCURACY = Metric("accuracy", "accuracy")
MACRO_F1 = Metric("macro_f1", "macro F1", ceiling=False)  # the optimal predictor for accuracy is not that for F1


@dataclass(frozen=True)
class Stressor:
    """One way to disturb the test input: settings (what the axis says) and the conditions of the records they name.

    numeric: settings are numbers on a scale, else they are cases side by side.
    """

    key: str
    name: str
    axis: str
    settings: Mapping[str, str]
    numeric: bool = True


def _steps(clean: str, form: str, steps: Sequence[float]) -> dict[str, str]:
    return {clean: "clean"} | {f"{x:g}": form.format(x) for x in steps}


MISSING = Stressor(
    "missing", "each modality missing at random", "probability that a modality is missing",
    _steps("0", "missing {:g}", (0.2, 0.4, 0.6, 0.8)),
)  # fmt: skip
WITHOUT = Stressor(
    "without", "one modality missing in every item", "modality that is missing",
    {"none": "clean"} | {m: f"no {m}" for m in ("text", "audio", "vision")}, numeric=False,
)  # fmt: skip
NOISE = Stressor(
    "noise", "Gaussian noise on all features", "noise, in standard deviations of a training feature",
    _steps("0", "noise {:g}", (0.1, 0.5, 2.0)),
)  # fmt: skip
MASK = Stressor(
    "mask", "time steps set to zero", "share of time steps set to zero",
    _steps("0", "mask {:g}", (0.1, 0.25, 0.5)),
)  # fmt: skip
SHIFT = Stressor(
    "shift", "test items of another distribution", "what changes at test",
    {"nothing": "clean", "words point elsewhere": "lexical shift", "other shares of signs": "label shift"},
    numeric=False,
)  # fmt: skip
WITHOUT_VISION = replace(WITHOUT, settings={k: v for k, v in WITHOUT.settings.items() if k != "vision"})


@dataclass(frozen=True)
class Scene:
    """One data label of one study: what it is, which arms are shown under which names, and what they were put under.

    seeds_alone: of a corpus, whether intervals span seeds and not items, because the runs kept no predictions.
    """

    study: str
    data: str
    kind: Literal["corpus", "world"]
    title: str
    scope: str
    metrics: tuple[Metric, ...]
    arms: Mapping[str, str]
    stressors: tuple[Stressor, ...] = (MISSING,)
    seeds_alone: bool = False

    @property
    def key(self) -> str:
        """Its address on the page: two studies may use the same data."""
        return f"{self.study}_{self.data}"

    @property
    def spans_items(self) -> bool:
        """Whether intervals span test items beside seeds."""
        return self.kind == "corpus" and not self.seeds_alone


# the first four are shown at first
BASELINES = {
    "linear": "linear", "mlp": "MLP, early fusion", "mlp_dropout": "MLP, modality dropout", "mult": "MulT",
    "late_fusion": "MLPs, late fusion", "tfn": "TFN", "lmf": "LMF",
}  # fmt: skip
AFFECT_DIFF = {
    "published_full": "Affect-Diff, published protocol", "perturbed_no_diffusion": "Affect-Diff, no prior",
    "perturbed_tetfn": "TETFN", "perturbed_mmim": "MMIM", "perturbed_misa": "MISA", "perturbed_mult": "MulT",
    "perturbed_tfn": "TFN", "perturbed_no_vae": "Affect-Diff, no prior, no VAE",
    "perturbed_classifier_only": "Affect-Diff, classifier alone",
}  # fmt: skip
ARENA = {
    "linear": "linear", "mlp": "MLP, early fusion", "cider": "CIDer", "rohydr": "RoHyDR", "cmir": "CmIR",
    "lddu": "LDDU", "affect_diff": "Affect-Diff", "late_fusion": "MLPs, late fusion", "mult": "MulT", "tetfn": "TETFN",
    "mmim": "MMIM", "misa": "MISA", "lnln": "LNLN", "emt_dlfr": "EMT-DLFR", "ridge_recovery": "linear with recovery",
}  # fmt: skip

# what the records know is filled in: {items}, {groups}, {train}, {test}, {iid}, {ood}
_MOSEI = (
    "CMU-MOSEI, one vector per video: {items} videos, each predicted out of fold (five folds by video). Models at "
    "reduced size."
)
_MOSI = "CMU-MOSI, the standard split: {items} test utterances of {groups} videos. Models at reduced size."
_RECOVERY = (
    "Synthetic: every modality carries its own part of the target; {train} training and {test} test items. Models at "
    "reduced size."
)
_IMBALANCE = (
    "Synthetic, with the class totals of Affect-Diff: {train} training and {test} test items. All models but the "
    "published protocol are trained with equal loss and augmentation, at reduced size."
)
_SHIFTED = (
    "CMU-MOSI, one vector per utterance, text and audio: {iid} test items whose words are those of training, and {ood} "
    "whose words point elsewhere. Models of the arena, at reduced size, none tuned. Intervals span seeds, not items."
)
_WORDS = "CMU-MOSI utterances, words in order"
_SIX = "World “imbalance”, six emotions, three of them rare"
SCENES = (
    Scene("baselines", "mosei_sentiment", "corpus", "CMU-MOSEI videos, sentiment", _MOSEI, (MAE, PEARSON), BASELINES),
    Scene("baselines", "mosei_emotions", "corpus", "CMU-MOSEI videos, six emotions", _MOSEI, (AUROC,), BASELINES),
    Scene("baselines", "mosi", "corpus", "CMU-MOSI utterances, mean word vectors", _MOSI, (MAE, PEARSON), BASELINES),
    Scene("baselines", "mosi_words", "corpus", _WORDS, _MOSI, (MAE, PEARSON), BASELINES),
    Scene("baselines", "world_recovery", "world", "World “recovery”, a score", _RECOVERY, (MAE, PEARSON), BASELINES),
    Scene(
        "affect_diff", "imbalance_headline", "world", _SIX, _IMBALANCE, (BALANCED, AUROC, ACCURACY, MACRO_F1),
        AFFECT_DIFF, (WITHOUT, NOISE, MASK),
    ),
    Scene(
        "arena", "mosi", "corpus", "CMU-MOSI utterances, words that point elsewhere", _SHIFTED, (MAE,), ARENA,
        (SHIFT, MISSING, WITHOUT_VISION, NOISE), seeds_alone=True,
    ),
)  # fmt: skip


def kept(study: Study, wanted: Mapping[str, Collection[str]]) -> Study:
    """Return the study with these arms on these data labels alone, so that a rerun trains nothing else."""
    arms = []
    for arm in study.arms:
        labels = arm.data or [d.name for d in study.data]
        data = tuple(d for d in labels if pooled(d) in wanted.get(arm.name, ()))
        if data:
            arms.append(replace(arm, data=data))
    models = {a.model for a in arms}
    profiles = {
        name: replace(p, overrides={m: o for m, o in p.overrides.items() if m in models})
        for name, p in study.profiles.items()
    }
    return replace(study, arms=tuple(arms), profiles=profiles)


def narrowed(study: Study, scenes: Sequence[Scene] = SCENES) -> Study:
    """Return the study with the arms and data that its scenes show."""
    wanted: dict[str, set[str]] = {}
    for scene in scenes:
        for arm in (FLOOR, *scene.arms) if scene.study == study.name else ():
            wanted.setdefault(arm, set()).add(scene.data)
    return kept(study, wanted)


def scores(scene: Scene, results: Results) -> pd.DataFrame:
    """Return one row per metric, stressor, setting and model of a scene.

    Columns: data, metric, stressor, setting, model, mean, low, high (95 %), seeds, by_seed (a list, by seed), floor
    (the constant arm) and ceiling (the world's optimum on clean input), NaN where there is none, and scope, in words.
    Raises ConfigError or StoreError for what was not run.
    """
    rows, scope = [], _scope(scene, results)
    for metric in scene.metrics:
        floor, ceiling = _bounds(scene, metric, results)
        for stressor in scene.stressors:
            for setting, condition in stressor.settings.items():
                for arm, name in scene.arms.items():
                    values, (low, high) = _values(scene, arm, condition, metric.key, results)
                    rows.append(
                        {
                            "data": scene.data, "metric": metric.key, "stressor": stressor.key, "setting": setting,
                            "model": name, "mean": values.mean(), "low": low, "high": high, "seeds": len(values),
                            "by_seed": values.tolist(), "floor": floor, "ceiling": ceiling, "scope": scope,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def _scope(scene: Scene, results: Results) -> str:
    """The scene's scope with the sizes that its runs had."""
    if scene.spans_items:
        drawn = resampled(results).get(FLOOR, scene.data)
        sizes = {"items": drawn.n_items, "groups": drawn.n_groups}
    else:
        options = next(r for r in results.records if r.spec.data.name == scene.data).spec.data.options
        sizes = options.get("sizes") or options["lexical"]
    return scene.scope.format_map({k: f"{n:,}" for k, n in sizes.items()})


def _values(
    scene: Scene, arm: str, condition: str, metric: str, results: Results
) -> tuple[np.ndarray, tuple[float, float]]:
    """The values by seed and their interval, which is not defined where a score or a draw is not."""
    undefined = (float("nan"), float("nan"))
    if scene.spans_items:
        drawn = resampled(results).get(arm, scene.data, condition, metric)
        return drawn.by_seed, drawn.interval() if np.isfinite(drawn.draws).all() else undefined
    values = _table(scene, arm, metric, results, condition)["value"].to_numpy(float)
    return values, t_interval(values) if np.isfinite(values).all() else undefined


def _table(scene: Scene, arm: str, metric: str, results: Results, condition: str = "clean") -> pd.DataFrame:
    t = results.table
    found = t[
        (t["arm"] == arm) & (t["data"] == scene.data) & (t["metric"] == metric)
        & (t["condition"] == condition) & (t["split"] == "test")
    ].sort_values("seed")  # fmt: skip
    if found.empty:
        raise StoreError(f"explorer: {arm} on {scene.data} in {condition!r} has no {metric}")
    return found


def _bounds(scene: Scene, metric: Metric, results: Results) -> tuple[float, float]:
    """Floor and ceiling; NaN where a constant has no such score, or where the optimum is not known."""
    if scene.spans_items:
        return float(resampled(results).get(FLOOR, scene.data, "clean", metric.key).by_seed.mean()), float("nan")
    constant = _table(scene, FLOOR, metric.key, results)
    return float(constant["value"].mean()), float(constant["ceiling"].mean()) if metric.ceiling else float("nan")


def page(found: Mapping[str, pd.DataFrame], scenes: Sequence[Scene] = SCENES) -> str:
    """Return the explorer's HTML: tables of every scene's first metric, and all numbers as JSON for the script.

    found: scores by a scene's key. Raises ConfigError for a scene without scores.
    """
    for s in scenes:
        if s.key not in found:
            raise ConfigError(f"explorer: no scores of {s.key}")
    tables = "".join(_tables(s, found[s.key]) for s in scenes)
    look = {"palette": PALETTE, "markers": MARKERS, "dashes": DASHES, "grey": GREY}
    data = {"look": look, "scenes": [_json(s, found[s.key]) for s in scenes]}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        f'<div class="explorer"><div class="explorer-plain">{tables}</div>'
        f'<script type="application/json">{text}</script></div>'
    )


def _json(scene: Scene, frame: pd.DataFrame) -> dict[str, object]:
    metrics = []
    for m in scene.metrics:
        first = frame[frame["metric"] == m.key].iloc[0]
        bounds = {k: _rounded(first[k]) for k in ("floor", "ceiling")}
        metrics.append({"key": m.key, "name": m.name, "higher": m.higher_is_better} | bounds)
    values = {
        f"{metric}/{stressor}": [
            [[_rounded(r.mean), _rounded(r.low), _rounded(r.high), [*map(_rounded, r.by_seed)]] for r in rows]
            for rows in ([r for r in part.itertuples(name="Score") if r.model == name] for name in scene.arms.values())
        ]
        for (metric, stressor), part in frame.groupby(["metric", "stressor"])
    }
    stressors = [asdict(s) | {"settings": list(s.settings)} for s in scene.stressors]
    return {
        "key": scene.key, "kind": scene.kind, "title": scene.title, "scope": frame["scope"].iloc[0],
        "study": scene.study, "models": list(scene.arms.values()), "metrics": metrics,
        "stressors": stressors, "values": values,
    }  # fmt: skip


def _rounded(x: float) -> float | None:
    return round(float(x), 4) if np.isfinite(x) else None


def _tables(scene: Scene, frame: pd.DataFrame) -> str:
    """One table a stressor, in a fold: the first metric's mean and interval of every model in every setting."""
    metric, out = scene.metrics[0], []
    for s in scene.stressors:
        part = frame[(frame["metric"] == metric.key) & (frame["stressor"] == s.key)]
        cells = {
            (r.model, r.setting): f"{number(r.mean)} [{number(r.low)}, {number(r.high)}]" for r in part.itertuples()
        }
        head = "".join(f'<th scope="col">{escape(x)}</th>' for x in s.settings)
        body = "".join(
            f'<tr><th scope="row">{escape(m)}</th>{"".join(f"<td>{cells[m, x]}</td>" for x in s.settings)}</tr>'
            for m in scene.arms.values()
        )
        first = part.iloc[0]
        seeds = " or ".join(map(str, sorted(part["seeds"].unique())))
        bounds = [f"{k} {number(first[k])}" for k in ("floor", "ceiling") if np.isfinite(first[k])]
        out.append(
            f"<details><summary>{escape(scene.title)}: {escape(s.name)}</summary>"
            f"<p>{escape(first['scope'])} {escape(metric.name.capitalize())}, mean and 95 % interval, {seeds} seeds; "
            f"{', '.join(bounds)}. Columns: {escape(s.axis)}.</p>"
            f'<table><thead><tr><th scope="col">model</th>{head}</tr></thead><tbody>{body}</tbody></table></details>'
        )
    return "".join(out)
