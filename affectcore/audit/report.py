"""Compute the report of an audit: floors, every convention, intervals, traps, calibration, paired tests, resolution.

Sentences are made from these numbers by `sentences` and `traps`; `text` and `html` lay them out. None names an item.
"""

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectcore.audit import sentences
from affectcore.audit.read import Floats, Predictions, Submission
from affectcore.audit.resample import Draws, metric_draws, seed_shares
from affectcore.audit.tables import HEADLINES, POINT, Calibration, Pair, Report, Value
from affectcore.audit.traps import is_sentiment, is_signed, traps
from affectcore.errors import ConfigError, EvaluationError
from affectcore.evaluation.calibration import Reliability, brier, forecasts, negative_log_likelihood, reliability
from affectcore.evaluation.metrics import Metric, accuracy_k, accuracy_sims, batch_averaged_macro_recall, metrics
from affectcore.evaluation.resolution import detectable_errors
from affectcore.evaluation.statistics import Interval, holm, mcnemar, paired_t, sample_size

DRAWS, BATCH_SIZE, BINS = 2_000, 64, 15
ALL_SETS = 6  # labels up to which every label set is tried as a constant; above, the k most frequent for every k


def audit(
    submission: Submission, *, draws: int = DRAWS, batch_size: int = BATCH_SIZE, low: float | None = None,
    high: float | None = None,
) -> Report:  # fmt: skip
    """Return the report. low and high: range of a regression's target (default: that of the data).

    Raises ConfigError for fewer than 100 draws or a batch size below 1. Equal input gives an equal report.
    """
    if draws < 100:
        raise ConfigError(f"--draws must be at least 100, got {draws}")
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1, got {batch_size}")
    s = submission
    group = s.group if s.groups is not None and s.groups > 1 else None
    sample = Draws.make(s.items, group, draws)
    bounds = (s.target.min() if low is None else low, s.target.max() if high is None else high)
    chosen = _metrics(s, batch_size, bounds)
    floors = {m.name: _floor(s, m) for m in chosen}
    values: list[Value] = []
    drawn: dict[str, dict[str, Floats]] = {}
    for model in s.models:
        runs = [
            metric_draws(
                s.task, s.target, model.prediction[i], None if model.scores is None else model.scores[i], sample
            )
            for i in range(len(model.seeds))
        ]
        drawn[model.name] = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
        values += [_value(s, model, m, drawn[model.name].get(m.name), floors[m.name]) for m in chosen if _has(model, m)]
    pairs = _pairs(s, chosen, values, drawn)
    return Report(
        file=s.file,
        task=s.task,
        rows=s.rows,
        items=s.items,
        groups=s.groups,
        models=tuple(m.name for m in s.models),
        seeds={m.name: len(m.seeds) for m in s.models},
        classes=sentences.class_counts(s),
        draws=draws,
        read=tuple(sentences.read(s, bounds)),
        findings=tuple(sentences.findings(s, values)),
        metrics=tuple(values),
        traps=tuple(traps(s, batch_size, bounds)),
        calibration=tuple(_calibration(s)),
        pairs=tuple(pairs),
        resolution=tuple(sentences.resolution(s, pairs, values)),
        warnings=tuple(sentences.warnings(s, pairs, draws)),
    )


# --- metrics, floors, intervals --------------------------------------------------------------------------------------


def _metrics(s: Submission, batch_size: int, bounds: tuple[float, float]) -> list[Metric]:
    """Return the metrics that mean something for these targets."""
    known = metrics(s.task)
    if s.task == "single_label":
        name = f"batch_averaged_macro_recall_{batch_size}"

        def by_batches(y: Floats, p: Floats) -> float:
            return batch_averaged_macro_recall(y, p, batch_size=batch_size)

        return [
            m if "batch_averaged" not in m.name
            else Metric(name, "single_label", by_batches, f"batches of {batch_size} in the order of the ids",
                        "affectdiff", slip=True)
            for m in known.values()
        ]  # fmt: skip
    if s.task == "multi_label":
        return list(known.values())
    signed, sentiment = is_signed(s.target), is_sentiment(s.target, bounds)
    sims = signed and bounds[0] >= -1 and bounds[1] <= 1
    out = []
    for m in known.values():
        if m.name.startswith(("acc2", "f1")) or m.name.endswith("non_zero"):
            keep = signed
        elif m.name.startswith("acc"):
            keep = sentiment
        else:
            keep = True
        if keep:
            out.append(m)
        if m.name == "acc5" and sentiment:
            out.append(Metric("acc5_half_away", "regression", _acc5_away, "clip, then halves away from zero"))
    for k, f in _SIMS.items() if sims else ():
        out.append(Metric(f"acc_sims_{k}", "regression", f, f"CH-SIMS bins, {k} classes", "mmsa"))
    return out


def _acc5_away(y: Floats, p: Floats) -> float:
    return accuracy_k(y, p, classes=5, rounding="half_away")


def _sims(k: int) -> Any:
    return lambda y, p: accuracy_sims(y, p, classes=k)


_SIMS = {k: _sims(k) for k in (2, 3, 5)}


def _has(model: Predictions, m: Metric) -> bool:
    return m.needs == "prediction" or model.scores is not None


def _call(m: Metric, target: Floats, given: Floats) -> float:
    """Return the metric, NaN where this target does not define it."""
    try:
        return m(target, given)
    except EvaluationError:
        return math.nan


def _floor(s: Submission, m: Metric) -> tuple[float, str]:
    """Return the best value that a constant reaches on these targets, and that constant.

    The constant is chosen on the same targets: the file holds no training data.
    """
    y = s.target
    if m.needs == "scores":
        shares = np.bincount(y.astype(int), minlength=len(s.classes)) / len(y) if y.ndim == 1 else y.mean(0)
        return _call(m, y, np.tile(shares, (len(y), 1))), "class shares"
    best, which = math.nan, ""
    for constant in _constants(s):
        value = _call(m, y, np.broadcast_to(constant, y.shape))
        better = value > best if m.higher_is_better else value < best
        if not math.isnan(value) and (math.isnan(best) or better):
            best, which = value, _name_constant(s, constant)
    return best, which


def _constants(s: Submission) -> Sequence[Any]:
    y = s.target
    if s.task == "regression":
        marks = [y.mean(), np.median(y), 0.0, *np.arange(np.ceil(y.min()), np.floor(y.max()) + 1)[:50]]
        return [float(v) for v in np.unique(np.append(marks, np.quantile(y, [0.05, 0.25, 0.75, 0.95])))]
    if s.task == "single_label":
        return range(len(s.classes))
    if y.shape[1] <= ALL_SETS:
        return [np.array(v) for v in product((0.0, 1.0), repeat=y.shape[1])]
    often = np.argsort(-y.mean(0), kind="stable")
    return [np.isin(np.arange(y.shape[1]), often[:k]).astype(np.float64) for k in range(y.shape[1] + 1)]


def _name_constant(s: Submission, constant: Any) -> str:
    if s.task == "regression":
        return f"{constant:.3g}"
    if s.task == "single_label":
        return s.classes[int(constant)]
    return "{" + ", ".join(c for c, v in zip(s.classes, constant) if v) + "}"


def _value(s: Submission, model: Predictions, m: Metric, drawn: Floats | None, floor: tuple[float, str]) -> Value:
    given = model.prediction if m.needs == "prediction" else model.scores
    assert given is not None  # by _has
    by_seed = tuple(_call(m, s.target, run) for run in given)
    undefined = sum(math.isnan(v) for v in by_seed)
    interval, note = None, ""
    if drawn is None:
        note = "depends on the order of the items: no interval"
    elif undefined:
        why = "a constant has no correlation" if m.name.startswith("pearson") else "not defined on these targets"
        note = f"{why} ({undefined} of {len(by_seed)} seeds)"
    else:
        interval = _interval(_mean_over_seeds(drawn))
    return Value(
        model.name, m.name, float(np.mean(by_seed)), interval, by_seed, *floor, m.higher_is_better, m.slip,
        m.convention, note,
    )  # fmt: skip


def _mean_over_seeds(drawn: Floats, chosen: NDArray[np.intp] | slice = slice(None)) -> Floats:
    """Return the draws (D,) of the mean over seeds drawn with replacement, from the draws (S, D) of every seed."""
    part = drawn[chosen]
    return (part * seed_shares(len(part), part.shape[1]).T).sum(0)


def _interval(draws: Floats) -> Interval | None:
    """Return the central 95 % of the draws, or none if more than 5 % of them do not define the value."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < 0.95 * len(draws):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


# --- pairs of models -------------------------------------------------------------------------------------------------


def _pairs(s: Submission, chosen: list[Metric], values: list[Value], drawn: dict[str, dict[str, Floats]]) -> list[Pair]:
    seed_values = {(v.model, v.metric): np.array(v.by_seed) for v in values}
    out: list[Pair] = []
    for m in chosen:
        if m.name not in HEADLINES[s.task]:
            continue
        raw = []
        for a, b in combinations(s.models, 2):
            shared = [seed for seed in a.seeds if seed in b.seeds]
            rows = [np.array([x.seeds.index(seed) for seed in shared], dtype=np.intp) for x in (a, b)]
            x, y = (seed_values[v.name, m.name][r] for v, r in zip((a, b), rows))
            if shared and np.isfinite(x).all() and np.isfinite(y).all():
                drawn_a, drawn_b = (drawn[v.name][m.name][r] for v, r in zip((a, b), rows))
                raw.append(_pair(s, m, a, b, rows, x, y, drawn_a, drawn_b))
        adjusted = holm([pair.p for pair in raw]) if raw else ()
        out += [Pair(**{**vars(pair), "p_holm": float(p)}) for pair, p in zip(raw, adjusted)]
    return out


def _pair(
    s: Submission, m: Metric, a: Predictions, b: Predictions, rows: list[NDArray[np.intp]], x: Floats, y: Floats,
    drawn_a: Floats, drawn_b: Floats,
) -> Pair:  # fmt: skip
    sign = 1.0 if m.higher_is_better else -1.0
    d, drawn = sign * (x - y), sign * (drawn_a - drawn_b)
    both, items = _mean_over_seeds(drawn), drawn.mean(0)
    both, items = both[np.isfinite(both)], items[np.isfinite(items)]
    tail = min(int((both <= 0).sum()), int((both >= 0).sum()))
    p = min(1.0, 2 * (1 + tail) / (1 + len(both)))
    low, high = np.quantile(both, [0.025, 0.975])
    power = detectable_errors()
    many = len(d) > 1
    sd = float(d.std(ddof=1)) if many else None
    p_mcnemar = None
    if not many and m.name in ("accuracy", "acc2_non_zero"):
        keep = slice(None) if m.name == "accuracy" else s.target != 0
        t = s.target[keep]
        right = [_right(m.name, t, v.prediction[r[0]][keep]) for v, r in zip((a, b), rows)]
        p_mcnemar = mcnemar(*right).p
    return Pair(
        a.name, b.name, m.name, len(d), float(d.mean()), (float(low), float(high)), p, p,
        paired_t(d).p if many else None, p_mcnemar, int((d > 0).sum()), power * float(both.std(ddof=1)),
        power * float(items.std(ddof=1)), sd, _seeds_for(sd),
    )  # fmt: skip


def _right(name: str, target: Floats, prediction: Floats) -> Floats:
    right = target == prediction if name == "accuracy" else (target > 0) == (prediction > 0)
    return right.astype(np.float64)


def _seeds_for(sd: float | None) -> int | None:
    if sd is None:
        return None
    try:
        return sample_size(sd, POINT)
    except EvaluationError:
        return None


# --- calibration -----------------------------------------------------------------------------------------------------


def _calibration(s: Submission) -> list[Calibration]:
    scored = [(m.name, m.scores) for m in s.models if m.scores is not None]
    if not scored:
        return []
    out = []
    y = s.target.astype(np.int64)
    shares = np.bincount(y, minlength=len(s.classes)) / len(y) if y.ndim == 1 else s.target.mean(0)
    base = np.tile(shares, (len(y), 1))
    for name, scores in scored:
        runs = [run / run.sum(1, keepdims=True) if y.ndim == 1 else run for run in scores]  # the rest of rounding
        per_run = [reliability(y, run, bins=BINS) for run in runs]
        pooled = _pooled([forecasts(y, run) for run in runs])
        out.append(
            Calibration(
                name, BINS, float(np.mean([r.ece for r in per_run])),
                float(np.mean([negative_log_likelihood(y, run) for run in runs])),
                float(np.mean([brier(y, run) for run in runs])), negative_log_likelihood(y, base), brier(y, base),
                tuple(map(float, pooled.confidence)), tuple(map(float, pooled.outcome)), tuple(map(int, pooled.count)),
            )
        )  # fmt: skip
    return out


def _pooled(runs: list[tuple[Floats, Floats]]) -> Reliability:
    """Return the reliability of all runs' forecasts together, which as pairs of one class are label sets of one."""
    confidence, outcome = (np.concatenate(part)[:, None] for part in zip(*runs))
    return reliability(outcome, confidence, bins=BINS)
