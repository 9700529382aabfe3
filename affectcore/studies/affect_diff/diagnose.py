"""The study's executor: trains and scores as ever, and looks at what was learned.

An arm asks for it by `execute="affectcore.studies.affect_diff.diagnose:train_and_diagnose"` and by its options:

| option | value | what it does |
|---|---|---|
| `weights` | "root" | weighs classes by sqrt(n_max / n_c), at most 8, from the run's training counts, see `weights` |
| `diagnose` | words of DIAGNOSES | adds these entries to `extra`, where the model has such a part |
| `probe` | true | adds `probe` to every epoch of the history |

In `extra` always: `confusion[split][condition]`, (C, C) counts, rows true (one class a sample alone), and
`class_auroc[split][condition]`, (C,). Numbers carry six significant digits; what is not defined is null.
Draws come from streams of the run's seed, none of which training uses.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from affectcore.data.schema import AffectData, Batch
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation import metrics
from affectcore.evaluation.latent import active_units, effective_rank, fisher_ratio, kl_to_normal, scatter_ratio
from affectcore.evaluation.recovery import structural_hamming_distance
from affectcore.models.affect_diff import AffectDiff, root_weights
from affectcore.models.contract import AffectModel, Progress
from affectcore.models.imbalance import class_counts
from affectcore.nn.acyclicity import acyclicity
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.streams import rng
from affectcore.studies.affect_diff.prior import prior
from affectcore.studies.brief import short
from affectcore.studies.execute import Fitted, modules, train_and_score
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec
from affectcore.training.loop import CHUNK

__all__ = ["modules", "train_and_diagnose"]

DIAGNOSES = ("graph", "latent", "reconstruction", "prior", "joint")
SAID = ("mu", "logvar", "seen", "gate", "graph", "strengths", "pooled")  # beside the prediction, read off Affect-Diff
ITEMS = 1500  # test items whose graphs and latents are described
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EDGE = 0.3  # smallest weight that counts as an edge, as in NOTEARS
PROBED = {"single_label": ("batch_averaged_macro_recall_64", "balanced_accuracy", "macro_f1"),
          "multi_label": ("macro_f1", "label_balanced_accuracy")}  # fmt: skip


def train_and_diagnose(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return what `train_and_score` returns, with the diagnoses that the arm's options ask for."""
    options = dict(specs[0].options)
    known = {"weights": (None, "root"), "probe": (False, True)}
    for name, value in options.items():
        if name == "diagnose":
            unknown = [d for d in value if d not in DIAGNOSES]
            if unknown:
                raise ConfigError(f"{specs[0].label}: diagnose {unknown[0]!r} is unknown: use {', '.join(DIAGNOSES)}")
        elif name not in known or value not in known[name]:
            raise ConfigError(f"{specs[0].label}: option {name} = {value!r} is unknown: use weights, diagnose, probe")
    return train_and_score(
        specs,
        device,
        complete=weights if options.get("weights") else None,
        inspect=inspect,
        probe=probe if options.get("probe") else None,
    )


def weights(spec: RunSpec, data: AffectData) -> dict[str, Any]:
    """Return the settings that weigh classes by the root of their training counts; a class without samples counts 1."""
    if data.task.kind != "single_label":
        return {}
    counts = tuple(max(n, 1) for n in class_counts(data))
    if spec.model == "affect_diff":
        return {"class_weights": root_weights(counts)}
    if spec.model == "imbalance":
        return {"counts": counts, "weighting": "root_max"}
    raise ConfigError(f"{spec.label}: weights are for models affect_diff and imbalance")


def inspect(f: Fitted) -> dict[str, Any]:
    """Return what goes into `extra`."""
    kind, chosen, model = f.data.task.kind, f.spec.options.get("diagnose", ()), f.model
    out: dict[str, Any] = {"class_auroc": {}} | ({"confusion": {}} if kind == "single_label" else {})
    for (split, condition), s in f.scores.items():
        y = f.data.split(split, f.selection).target.numpy()
        auroc = metrics.class_auroc if kind == "single_label" else metrics.label_auroc
        out["class_auroc"].setdefault(split, {})[condition] = auroc(y, s)
        if kind == "single_label":
            out["confusion"].setdefault(split, {})[condition] = metrics.confusion(y, s.argmax(1), s.shape[1])
    if not isinstance(model, AffectDiff) or not chosen:
        return cast(dict[str, Any], short(out))
    parts = {k: f.data.split(k, f.selection) for k in ("train", "valid", "test")}
    rows = np.sort(rng(f.spec.seed, "diagnose", "items").permutation(len(parts["test"]))[:ITEMS])
    parts = {k: _on(model, b.rows(torch.from_numpy(rows)) if k == "test" else b) for k, b in parts.items()}
    said = {k: outputs(model, b, f.spec.seed) for k, b in parts.items()}
    if "graph" in chosen and "graph" in said["test"]:
        out["graph"] = graph(f, said["test"], parts["test"].target)
    if "latent" in chosen:
        out["latent"] = latent(f, said["train"], parts["train"].target, said["test"], parts["test"].target)
    if "reconstruction" in chosen:
        out["reconstruction"] = reconstruction(model, parts["train"], said["train"], parts["test"], said["test"])
    if "prior" in chosen and model.config.prior != "off":
        with torch.no_grad():
            out["prior"] = prior(model, said["train"], said["valid"], parts["valid"].target, f.spec.seed)
    if "joint" in chosen and model.config.prior != "off":
        out["joint"] = joint(model, parts["train"], f.spec.seed)
    return cast(dict[str, Any], short(out))


def probe(model: AffectModel, valid: Batch) -> dict[str, float]:
    """Return both balanced accuracies, macro F1 and recall of the rare half of valid's classes (label sets: macro F1
    and label-balanced accuracy); of Affect-Diff also active units and, by modality, the mean gate and share of the
    graph's column sums."""
    task, said = model.shape.task, outputs(model, valid, 0)
    y, decided = valid.target.cpu().numpy(), metrics.decide(task.kind, said["prediction"].cpu().numpy(), 0.0)
    out = {name: metrics.metric(task.kind, name)(y, decided) for name in PROBED[task.kind]}
    if task.kind == "single_label":
        recalls = metrics.class_recalls(y, decided, task.outputs)[list(rarest(y, task.outputs))]
        out["rare_recall"] = float(np.nanmean(recalls)) if np.isfinite(recalls).any() else float("nan")
    if "gate" in said:
        out |= {f"gate.{m}": float(v) for m, v in zip(valid.modalities, said["gate"].mean(0))}
    if "graph" in said:
        out |= {f"sums.{m}": float(v) for m, v in zip(valid.modalities, column_shares(said["graph"]).mean(0))}
    if "mu" in said:
        out["active_units"] = active_units(_steps(said["mu"], said.get("seen"))[0])
    return {k: float(f"{v:.6g}") for k, v in out.items()}  # NaN where not defined, as `fit` asks


# --- what the model says ---------------------------------------------------------------------------------------------


def outputs(model: AffectModel, batch: Batch, seed: int) -> dict[str, Tensor]:
    """Return the prediction and what else is read off the model in evaluation, with the noise that it predicts with."""
    names = ("prediction", *SAID) if isinstance(model, AffectDiff) else ("prediction",)
    like = next(model.parameters()).detach()
    parts: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for i, rows in enumerate(torch.arange(len(batch), device=batch.index.device).split(CHUNK)):
            tape = Tape(like, training=False)
            output = model(batch.rows(rows), tape)
            if tape.words:  # most models draw nothing in evaluation: the dry run was the run
                words = fill([seed], tape.words, like.device, "evaluate", i)[0]
                output = model(batch.rows(rows), Pool(words, like, training=False))
            parts.append({k: v for k in names if (v := getattr(output, k, None)) is not None})
            decoded = getattr(output, "reconstruction", None) or ()
            parts[-1] |= {f"reconstruction.{m}": x for m, x in zip(batch.modalities, decoded)}
    return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def column_shares(graph: Tensor) -> Tensor:
    """Return (N, M): what arrives at each modality, as a share of what arrives anywhere."""
    sums = graph.abs().sum(-2)
    return sums / sums.sum(-1, keepdim=True).clamp(min=1e-12)


def rarest(y: NDArray[np.integer], classes: int) -> tuple[int, ...]:
    """Return the rarer half of the classes, the later of equals first."""
    n = np.bincount(y, minlength=classes)
    return tuple(sorted(sorted(range(classes), key=lambda c: (n[c], -c))[: classes // 2]))


# --- diagnoses -------------------------------------------------------------------------------------------------------


def graph(f: Fitted, said: Mapping[str, Tensor], y: Tensor) -> dict[str, Any]:
    """Return the graphs A of (at most 1,500) test items, A[i, j] the edge i -> j; "lagrangian" has one for all.

    mean: (M, M); quantiles: (5, M, M), over items, at QUANTILES; by_class: (C, M, M), per-sample graphs alone, items of
    a class or with a label; h: mean acyclicity
    without the diagonal; cycles: mean of sum over i < j of |A_ij A_ji|; order: share of items with |A_ij| > |A_ji|, for
    (0, 1), (0, 2), (1, 2) ...; gate, sums: (M,) mean gate and share of column sums; shd: structural Hamming distance of
    the mean graph, |A_ij| >= 0.3 an edge, to the world's, where it has one.
    """
    a, apart = said["graph"].double(), 1 - torch.eye(said["graph"].shape[-1], device=said["graph"].device)
    size, mean = a.abs(), a.mean(0)
    pairs = list(combinations(range(a.shape[-1]), 2))
    out = {
        "mean": mean,
        "quantiles": torch.quantile(a, torch.tensor(QUANTILES, dtype=a.dtype, device=a.device), 0),
        "h": acyclicity(a * apart).mean(),
        "cycles": torch.stack([size[:, i, j] * size[:, j, i] for i, j in pairs]).sum(0).mean(),
        "order": [(size[:, i, j] > size[:, j, i]).double().mean() for i, j in pairs],
        "gate": said["gate"].mean(0),
        "sums": column_shares(a).mean(0),
    }
    if f.model.config.gate != "lagrangian":
        mine = [y == c if y.ndim == 1 else y[:, c] > 0.5 for c in range(f.data.task.outputs)]
        out["by_class"] = [a[m].mean(0) for m in mine]  # NaN where there is none
    truth = getattr(f.world.truth, "graph", None) if f.world is not None else None
    if truth is not None and truth.shape == tuple(mean.shape):
        found = ((mean.abs() >= EDGE) * apart).cpu().numpy()
        out["shd"] = structural_hamming_distance((truth != 0).astype(int), found)
    return out


def latent(
    f: Fitted, train: Mapping[str, Tensor], y_train: Tensor, test: Mapping[str, Tensor], y_test: Tensor
) -> dict[str, Any]:
    """Return how the means of (at most 1,500) test items' latents are used; pairs are [pooled items, single steps].

    active: [of the pooled, over items and steps]; kl: mean per dimension and step, in nats, kl_classes: the same by
    class or label; rank: effective rank. One class a sample alone: scatter, fisher (rarer half of the training classes
    against the rest), and of the pooled items silhouette, and balanced accuracy of 5 nearest neighbours and of a linear
    probe (ridge, balanced weights), both fitted on train.
    """
    y, items = y_test.cpu().numpy(), test["pooled"].double().cpu().numpy()
    steps, of_item = _steps(test["mu"], test.get("seen"))
    kl = kl_to_normal(steps, _steps(test["logvar"], test.get("seen"))[0]).mean(1)
    label = y[:, None] == np.arange(f.data.task.outputs) if y.ndim == 1 else y > 0.5
    out: dict[str, Any] = {
        "active": [active_units(items), active_units(steps)],
        "kl": kl.mean(),
        "kl_classes": [kl[m].mean() if (m := label[of_item, c]).any() else np.nan for c in range(label.shape[1])],
        "rank": [effective_rank(items), effective_rank(steps)],
    }
    if y.ndim > 1:
        return out
    known = y_train.cpu().numpy()
    rare, x = rarest(known, f.data.task.outputs), train["pooled"].double().cpu().numpy()
    fits = {
        "neighbours": KNeighborsClassifier(min(5, len(x)), algorithm="brute"),
        "linear": make_pipeline(StandardScaler(), RidgeClassifier(class_weight="balanced")),
    }
    return out | {
        "scatter": [scatter_ratio(items, y), scatter_ratio(steps, y[of_item])],
        "fisher": [fisher_ratio(items, y, rare), fisher_ratio(steps, y[of_item], rare)],
        "silhouette": silhouette_score(items, y) if 1 < len(np.unique(y)) < len(y) else np.nan,
        **{k: metrics.balanced_accuracy(y, c.fit(x, known).predict(items)) for k, c in fits.items()},
    }


def reconstruction(
    model: AffectDiff, train: Batch, said_train: Mapping[str, Tensor], test: Batch, said: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return how much of the features is still in the latents: {decoder: {modality: [R2, R2 of every class ...]}}.

    "linear": a ridge regression of the features of a step on the mean of its latent, fitted on train; "decoder": the
    model's own, where it has one. R2 is 1 - squared error / squared distance from train's mean, over all observed
    steps and features of (at most 1,500) test items; not defined for a class without items.
    """
    y = test.target.cpu().numpy()
    of_class = y[:, None] == np.arange(model.shape.task.outputs) if y.ndim == 1 else y > 0.5
    kept = [np.ones(len(y), bool), *of_class.T]
    out: dict[str, Any] = {"linear": {}}
    for m in test.modalities:
        (x, z, _), (truth, latents, item) = (_paired(b, m, s["mu"]) for b, s in ((train, said_train), (test, said)))
        spread = np.square(truth - x.mean(0)).sum(1)
        guesses = {"linear": Ridge().fit(z, x).predict(latents)}
        if f"reconstruction.{m}" in said:
            out.setdefault("decoder", {})
            guesses["decoder"] = _paired(test, m, said[f"reconstruction.{m}"])[1]
        for name, guess in guesses.items():
            error = np.square(truth - guess).sum(1)
            rows = [k[item] for k in kept]
            out[name][m] = [1 - error[r].sum() / spread[r].sum() if r.any() else np.nan for r in rows]
    return out


def _paired(batch: Batch, modality: str, of: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64], Any]:
    """Return a modality's observed steps (K, D), what `of` (N, L, F) says at them (K, F), and the item of each (K,)."""
    x, seen = batch.features[modality], batch.observed[modality]
    at = of[:, : x.shape[1]]
    return x[seen].double().cpu().numpy(), at[seen].double().cpu().numpy(), seen.nonzero()[:, 0].cpu().numpy()


def joint(model: AffectDiff, train: Batch, seed: int, batches: int = 4, size: int = 64) -> dict[str, Any]:
    """Return cosines (one a batch) of the encoders' gradients by "task" and by "diffusion", and their mean norms.

    At the selected epoch's parameters, on training batches with training's noise, before weights; the norm of
    "diffusion" is 0 and the cosine not defined where no gradient passes (prior "stop").
    """
    like = next(model.parameters()).detach()
    encoders = [p for n, p in model.named_parameters() if n.startswith("encoders.")]
    order = torch.from_numpy(rng(seed, "diagnose", "batches").permutation(len(train))).to(train.index.device)
    grads = []
    for i, rows in enumerate(order[: batches * size].split(size)):
        batch, tape = train.rows(rows), Tape(like)
        with torch.no_grad():
            model(batch, tape)
        noise = Pool(fill([seed], tape.words, like.device, "diagnose", "noise", i)[0], like)
        terms, _ = model.losses(model(batch, noise), batch, Progress(0, 0, 1, 1))
        found = [
            torch.autograd.grad(terms[k], encoders, retain_graph=True, allow_unused=True, materialize_grads=True)
            for k in ("task", "diffusion")
        ]
        grads.append(torch.stack([torch.cat([g.flatten() for g in x]) for x in found]))
    g = torch.stack(grads).double()  # (batches, 2, parameters)
    norms = g.norm(dim=-1)
    return {"cosine": (g[:, 0] * g[:, 1]).sum(-1) / norms.prod(-1), "norms": norms.mean(0)}


def _steps(x: Tensor, seen: Tensor | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the steps that count as rows (K, d), and the item of each."""
    mask = torch.ones_like(x[..., 0]) > 0 if seen is None else seen
    return x[mask].double().cpu().numpy(), mask.nonzero()[:, 0].cpu().numpy()


def _on(model: AffectModel, batch: Batch) -> Batch:
    like = next(model.parameters())
    return batch.to(like.device, like.dtype)
