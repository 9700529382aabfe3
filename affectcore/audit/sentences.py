"""Plain sentences made from the numbers of a report: what was read, findings, resolution, warnings."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from affectcore.audit.read import ASKED, Submission
from affectcore.audit.tables import HEADLINES, POINT, Pair, Value
from affectcore.audit.words import counted, points
from affectcore.evaluation.statistics import wilson_interval

FEW_GROUPS, FEW_SEEDS, RARE, WIDE = 20, 5, 10, 0.05
WORDS = {"regression": "regression", "single_label": "one class per item", "multi_label": "label sets"}


def class_counts(s: Submission) -> dict[str, int]:
    if s.task == "regression":
        return {}
    counts = np.bincount(s.target.astype(int), minlength=len(s.classes)) if s.target.ndim == 1 else s.target.sum(0)
    return dict(zip(s.classes, map(int, counts)))


def read(s: Submission, bounds: tuple[float, float]) -> list[str]:
    """Return what was read: sizes, task and why, targets."""
    seeds = {len(m.seeds) for m in s.models}
    each = counted(seeds.pop(), "seed") if len(seeds) == 1 else "unequal numbers of seeds"
    parts = [counted(s.rows, "row"), counted(len(s.models), "model"), each, counted(s.items, "item")]
    parts.append("no groups given" if s.groups is None else counted(s.groups, "group"))
    why = s.why if s.why == ASKED else f"because {s.why}"
    lines = [f"{s.file}: {', '.join(parts)}.", f"Task: {WORDS[s.task]} ({s.task}), {why}."]
    if s.task == "regression":
        y = s.target
        lines.append(
            f"Targets from {y.min():g} to {y.max():g} (range taken as [{bounds[0]:g}, {bounds[1]:g}]), mean "
            f"{y.mean():.3f}, median {np.median(y):.3f}; {100 * (y == 0).mean():.1f} % are exactly 0."
        )
    else:
        counts = ", ".join(f"{name} {n:,}" for name, n in class_counts(s).items())
        lines.append(f"{'Items of each class' if s.task == 'single_label' else 'Items with each label'}: {counts}.")
    return lines


def findings(s: Submission, values: list[Value]) -> list[str]:
    """Each model against the best constant, by the headline metrics."""
    lines = []
    for m in s.models:
        rows = [v for v in values if v.model == m.name and v.metric in HEADLINES[s.task]]
        known = [v for v in rows if v.above_floor is not None]
        below = [v.metric for v in known if not v.above_floor]
        if not known:
            continue
        if below:
            lines.append(f"{m.name}: the interval of {', '.join(below)} reaches the value of the best constant.")
        else:
            lines.append(
                f"{m.name}: the intervals of {', '.join(v.metric for v in known)} are better than any constant."
            )
    return lines


def resolution(s: Submission, pairs: Sequence[Pair], values: list[Value]) -> list[str]:
    units = f"{counted(s.items, 'item')}" + ("" if s.groups is None else f" in {counted(s.groups, 'group')}")
    if not pairs:
        lines = []
        for v in values:
            if v.metric in HEADLINES[s.task] and v.interval is not None:
                half = (v.interval[1] - v.interval[0]) / 2
                lines.append(
                    f"{v.model}, {v.metric}: the interval is {half:.3f} wide on either side with {units} and "
                    f"{counted(len(v.by_seed), 'seed')}. A second model, on the same items and seeds, is needed to say "
                    f"what a paired comparison resolves."
                )
        return lines
    lines = []
    first = pairs[0].metric
    for p in pairs:
        if p.metric != first:
            continue
        line = (
            f"{p.a} against {p.b}, {p.metric}: with {counted(p.seeds, 'seed')} and {units} a true difference of "
            f"{p.mde:.3f} is found with power .8; a smaller one is likely missed."
        )
        if p.seed_sd is not None:
            need = "more than 100,000" if p.seeds_for_a_point is None else f"{p.seeds_for_a_point:,}"
            line += (
                f" The difference varies by {p.seed_sd:.4f} (sd) between seeds: {need} seeds would find a gain of 1 "
                f"point (.01) on these very items."
            )
            if p.mde_items > POINT:
                line += (
                    f" For other items of the same kind no number of seeds does: items alone leave {p.mde_items:.3f}."
                )
        lines.append(line)
    return lines


def warnings(s: Submission, pairs: Sequence[Pair], draws: int) -> list[str]:
    lines = []
    if s.groups is None:
        lines.append(
            "No column group: intervals and tests take items as independent. Utterances of one video or speaker are "
            "not, and the intervals are then too narrow."
        )
    elif s.groups == 1:
        lines.append("All items are in one group: intervals ignore it and take items as independent.")
    elif s.groups < FEW_GROUPS:
        lines.append(f"Only {s.groups} groups: an interval over fewer than {FEW_GROUPS} groups is somewhat narrow.")
    one = [m.name for m in s.models if len(m.seeds) == 1]
    if one:
        lines.append(
            f"One seed only ({', '.join(one)}): intervals hold for these trained models, not for the method; another "
            f"seed may give another order."
        )
    few = [f"{m.name} {len(m.seeds)}" for m in s.models if 1 < len(m.seeds) < 5]
    if few:
        lines.append(f"Fewer than 5 seeds ({', '.join(few)}): the spread between seeds is hardly known.")
    sets = {m.seeds for m in s.models}
    if len(sets) > 1:
        lines.append("Models have different seeds: paired tests use the shared ones alone.")
        for a, b in combinations(s.models, 2):
            if not set(a.seeds) & set(b.seeds):
                lines.append(f"{a.name} and {b.name} share no seed: they are not compared.")
    lines += _floor_warning(s)
    if s.task != "regression":
        rare = [f"{name} {n}" for name, n in class_counts(s).items() if n < RARE]
        if rare:
            lines.append(
                f"Classes with fewer than {RARE} items ({', '.join(rare)}): one item moves such a recall by 10 points "
                f"or more, and every macro average with it."
            )
    scored = [m.name for m in s.models if m.scores is not None]
    if s.task != "regression" and len(scored) < len(s.models):
        without = ", ".join(m.name for m in s.models if m.scores is None)
        lines.append(f"No probabilities for {without}: neither calibration nor metrics of ranks.")
    tests = len(pairs) // max(1, len({p.metric for p in pairs}))
    least = 2 * tests / (1 + draws)
    if least > 0.05:
        lines.append(
            f"{tests} pairs: with {draws:,} draws no p can be below {least:.2g} after Holm's correction; raise --draws "
            f"to {math.ceil(100 * tests):,} or more."
        )
    if pairs and s.groups is not None and pairs[0].p_mcnemar is not None:
        lines.append("McNemar's test takes items as independent: with groups, read the bootstrap instead.")
    return lines


def _floor_warning(s: Submission) -> list[str]:
    """Say so if the value of the best constant is itself uncertain by more than WIDE."""
    if s.task == "regression":
        error = np.abs(s.target - np.median(s.target))
        half = 1.96 * float(error.std(ddof=1)) / math.sqrt(s.items) / float(error.mean())
        what = "the MAE of the best constant"
        enough = s.items * (half / WIDE) ** 2
        if half <= WIDE:
            return []
        return [
            f"{counted(s.items, 'item')}: {what} is itself known only to {100 * half:.0f} % of its value; "
            f"{math.ceil(enough):,} items would bring that to {100 * WIDE:.0f} %."
        ]
    top = max(class_counts(s).values())
    low, high = wilson_interval(top, s.items)
    half = (high - low) / 2
    if half <= WIDE:
        return []
    share = top / s.items
    kind = "class" if s.task == "single_label" else "label"
    enough = max(share * (1 - share), 0.01) * (1.96 / WIDE) ** 2
    return [
        f"{counted(s.items, 'item')}: the share of the most frequent {kind}, from which floors come, is known only to "
        f"{points(half)}; about {math.ceil(enough):,} items would bring that to {100 * WIDE:.0f} points."
    ]
