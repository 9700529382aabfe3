"""The training loop: the same for one seed and for many at once.

What a seed's run depends on, and nothing else: the model's `build`, the data, the recipe, and its streams
(seed, "init"), (seed, "batches", epoch), (seed, "train", step, stage) and (seed, "evaluate", chunk).
Selection, patience and plateau are functions of the recorded history alone, so a resumed run takes the same decisions.
"""

import hashlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree

from affectcore.data.schema import AffectData, Batch, Selection, Task
from affectcore.errors import ConfigError, TrainingError
from affectcore.evaluation.metrics import decide, metric, metrics
from affectcore.models.contract import AffectModel, Progress
from affectcore.nn.losses import task_loss
from affectcore.streams import key, rng
from affectcore.training import checkpoint
from affectcore.training.fits import Epoch, Fit, SeedsFailed
from affectcore.training.learner import Learner, Single, Tensors, section, tensors_of
from affectcore.training.recipe import Recipe
from affectcore.training.selection import Rule, extremes, rule, threshold
from affectcore.training.stack import Stack

Build = Callable[[], AffectModel]
Augment = Callable[[Batch, int, int], Batch]
Probe = Callable[[AffectModel, Batch], Mapping[str, float]]
CHUNK = 256  # samples a forward pass in evaluation; part of the streams of models that sample


def fit(
    build: Build,
    data: AffectData,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    stacked: bool = False,
    folder: Path | None = None,
    checkpoint_s: float = 5.0,
    augment: Augment | None = None,
    probe: Probe | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> list[Fit]:
    """Return one `Fit` a seed, in the order of `seeds`: one after another, or all at once if `stacked`.

    build: makes the untrained model on the CPU; its dtype is the run's. folder: checkpoints go there at most every
    `checkpoint_s` seconds and at the end, and a run whose checkpoint lies there goes on from it. augment: changes a
    training batch, given batch, seed and step (shapes must not depend on the seed). probe: given the seed's model as it
    is evaluated and the validation batch, asked after every epoch of every seed, without gradients; it must draw from
    no global generator. Its values go into `Epoch.probe`, its time into no epoch. on_epoch: told every seed and epoch.

    Raises ConfigError (recipe, stages, data or predictions that do not fit), TrainingError (device, checkpoint), and,
    after all seeds are through, SeedsFailed with the finished fits if a seed met a loss or prediction that is not
    finite. Leaves the global random state alone.
    """
    seeds = [int(s) for s in seeds]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds {seeds} must be distinct whole numbers >= 0, at least one")
    chosen = rule(recipe.selection)
    _check_metric(data.task, recipe, chosen)
    where = usable(device)
    fits: dict[int, Fit] = {}
    failures: dict[int, str] = {}
    for group in [seeds] if stacked else [[s] for s in seeds]:
        run = _Run(build, data, recipe, chosen, group, stacked, where, folder, checkpoint_s, augment, probe, on_epoch)
        fits |= run.train()
        failures |= run.failures
    if failures:
        raise SeedsFailed(failures, [fits[s] for s in seeds if s in fits])
    return [fits[s] for s in seeds]


def predict(build: Build, fit: Fit, batch: Batch, *, device: str = "cpu") -> NDArray[np.floating]:
    """Return the scores of a fit: regression (N,); single_label (N, C) and multi_label (N, C) probabilities.

    A model that samples draws from (seed, "evaluate", chunk), so equal calls give equal scores.
    Raises TrainingError if `build` makes a model with other parameters than the fit's.
    """
    return score_model(restore(build, fit, device=device), fit.seed, batch)


def score_model(model: AffectModel, seed: int, batch: Batch) -> NDArray[np.floating]:
    """Return what `predict` does, of a model that is restored already."""
    learner = Single(model, seed, Recipe())
    raw = _predict(learner, batch.to(learner.device, learner.dtype), trim=False)[0]
    if not bool(torch.isfinite(raw).all()):
        raise TrainingError(f"seed {seed}: {int((~torch.isfinite(raw)).sum())} predictions are not finite")
    return scores(model.shape.task, raw)


def restore(build: Build, fit: Fit, *, device: str = "cpu") -> AffectModel:
    """Return the model of a fit, in evaluation mode. Raises TrainingError as `predict` does."""
    model = initial(build, fit.seed)
    own = tensors_of(model)
    for name in sorted({*own, *fit.state}):
        shapes = [tuple(t[name].shape) if name in t else None for t in (own, fit.state)]
        if shapes[0] != shapes[1]:
            raise TrainingError(f"the model's {name} has shape {shapes[0]}, the fit's has {shapes[1]}")
    learner = Single(model.to(usable(device)), fit.seed, Recipe())
    learner.load({f"model/{k}": v.unsqueeze(0) for k, v in fit.state.items()})
    return model.eval()


def scores(task: Task, raw: Tensor) -> NDArray[np.floating]:
    """Return scores from raw predictions (..., N) or (..., N, C): softmax for single_label, sigmoid for multi_label."""
    if task.kind == "single_label":
        raw = raw.softmax(-1)
    elif task.kind == "multi_label":
        raw = raw.sigmoid()
    out: NDArray[np.floating] = raw.detach().cpu().numpy()
    return out


def initial(build: Build, seed: int) -> AffectModel:
    """Return the untrained model of a seed: weights from the stream (seed, "init"), global random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "init"))
        model = build()
    for p in model.parameters():  # torch's fused optimisers take memory in order, whatever a parameter's strides say
        p.data = p.data.contiguous()
    return model


def usable(device: str) -> torch.device:
    """Return the device, or raise TrainingError in one line if it is not there."""
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as e:  # torch raises all three, by build and device
        raise TrainingError(f"device {device!r} asked for but not available: {str(e).splitlines()[0]}") from e
    return where


@dataclass
class _Seed:
    """What is known of one seed so far; `best` are the tensors of the epoch that the rule keeps."""

    history: list[Epoch] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    done: bool = False
    failure: str = ""


class _Run:
    """Seeds that are trained together: one, or a stack."""

    def __init__(
        self, build: Build, data: AffectData, recipe: Recipe, chosen: Rule, seeds: list[int], stacked: bool,
        device: torch.device, folder: Path | None, checkpoint_s: float, augment: Augment | None, probe: Probe | None,
        on_epoch: Callable[[int, Epoch], None] | None,
    ) -> None:  # fmt: skip
        self.build, self.task, self.recipe, self.rule, self.device = build, data.task, recipe, chosen, device
        self.augment, self.on_epoch, self.every, self.stacked = augment, on_epoch, checkpoint_s, stacked
        self.probe = probe
        self.all_seeds, self.seeds = seeds, {s: _Seed() for s in seeds}
        self.learner = self._new_learner(seeds)
        self.parameters = sum(p.numel() for p in self.learner.model.parameters() if p.requires_grad)
        held = {"train": data.split("train"), "valid": data.split("valid")}
        if chosen.leaky:  # the name of the rule travels with everything that comes of it
            held["test"] = data.split("test", Selection(chosen.name))
        self.data = {k: b.to(device, self.learner.dtype) for k, b in held.items()}
        self.size = len(held["train"])
        self.batch = min(recipe.batch_size, self.size)
        self.steps = self.size // self.batch if recipe.drop_last else -(-self.size // self.batch)
        if recipe.trim:
            self._check_trim()
        self._check_model(data)
        self.lengths = {m: v.clone() for m, v in held["train"].lengths.items()}  # on the CPU: trimming needs no sync
        known = {} if chosen.split == "valid" and recipe.metric == "loss" else metrics(self.task.kind)
        self.measured = tuple(known) if chosen.all_metrics else (recipe.metric,)
        self.higher = recipe.metric != "loss" and metric(self.task.kind, recipe.metric).higher_is_better
        self.file: Path | None = None
        self.epoch = 0
        if folder is not None:
            name = f"stack-{_hash(seeds)}" if stacked else f"seed-{seeds[0]}"
            self.file, self.spec = Path(folder) / f"{name}.safetensors", self._spec(data)
            self._resume()

    def _new_learner(self, seeds: Sequence[int]) -> Learner:
        models = [initial(self.build, s).to(self.device) for s in seeds]
        return Stack(models, seeds, self.recipe) if self.stacked else Single(models[0], seeds[0], self.recipe)

    def train(self) -> dict[int, Fit]:
        """Run to the end; return the fits of the seeds that did not fail."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        saved = time.monotonic()
        while self.epoch < self.recipe.epochs and not all(s.done for s in self.seeds.values()):
            self._one_epoch()
            self.epoch += 1
            if self.epoch == self.recipe.epochs:
                for s in self.seeds.values():
                    s.done = True
            if self.file is not None and (time.monotonic() - saved >= self.every or self._finished()):
                self._save()
                saved = time.monotonic()
        return {s: self._fit(s) for s in self.all_seeds if not self._failed(s)}

    @property
    def failures(self) -> dict[int, str]:
        return {s: r.failure for s, r in self.seeds.items() if r.failure}

    def _finished(self) -> bool:
        return all(s.done for s in self.seeds.values())

    def _failed(self, seed: int) -> bool:
        run = self.seeds[seed]
        if not run.failure and self._select(run).epoch is None:
            run.failure = f"seed {seed}: {self.rule.split} {self.recipe.metric} is undefined (NaN) in every epoch"
        return bool(run.failure)

    def _one_epoch(self) -> None:
        learner, live = self.learner, list(self.learner.seeds)
        wall, cpu = time.perf_counter(), time.process_time()
        order = torch.from_numpy(np.stack([rng(s, "batches", self.epoch).permutation(self.size) for s in live]))
        total, history = self.steps * self.recipe.epochs, [self._values(self.seeds[s]) for s in live]
        table = []
        for i in range(self.steps):
            rows, step = order[:, i * self.batch : (i + 1) * self.batch], self.epoch * self.steps + i
            factors = [self.recipe.factor(step, total, self.epoch, v, self.higher) for v in history]
            progress = Progress(self.epoch, step, total, self.recipe.epochs)
            table.append(learner.step(self._draw(rows, live, step), progress, factors))
        terms = torch.stack(table).detach().double().cpu().numpy()  # (steps, S, terms): the first wait for a GPU
        raw = {k: _predict(learner, self.data[k], self.recipe.trim) for k in self.data if k != "train"}
        tensors = learner.evaluated()
        measured = {s: self._measure(p, s, terms[:, p], raw) for p, s in enumerate(live)}
        share = (time.perf_counter() - wall) / len(live), (time.process_time() - cpu) / len(live)
        for p, s in enumerate(live):
            run, found = self.seeds[s], measured[s]
            if found is None:
                run.done = True
                continue
            losses = dict(zip(learner.terms, terms[:, p].mean(0).tolist()))
            probed = self._probed({k: v[p] for k, v in tensors.items()})
            run.history.append(Epoch(self.epoch, losses, *found[:2], factors[p], found[2], *share, probed))
            if self._select(run).epoch == self.epoch:
                run.best = {k: v[p].detach().clone() for k, v in tensors.items()}
            run.done = self._stops(run)
            if self.on_epoch is not None:
                self.on_epoch(s, run.history[-1])
        keep = [p for p, s in enumerate(live) if not self.seeds[s].done]
        if 0 < len(keep) < len(live):
            learner.keep(keep)

    @torch.no_grad()
    def _probed(self, tensors: Tensors) -> dict[str, float]:
        """What the probe says of the model with one seed's tensors; `_predict` has left it in evaluation mode."""
        probe = self.probe
        if probe is None:
            return {}
        found = self.learner.body.with_(tensors, lambda m: probe(m, self.data["valid"]))
        return {k: float(v) for k, v in found.items()}

    def _draw(self, rows: Tensor, seeds: list[int], step: int) -> Batch:
        """The step's batch with a leading seed axis."""
        train = self.data["train"]
        if self.augment is None:
            batch = train.rows(rows.to(self.device))
        else:
            each = [self.augment(train.rows(r.to(self.device)), s, step) for r, s in zip(rows, seeds)]
            batch = _pytree.tree_map(lambda *x: torch.stack(x), *each)
        return _cut(batch, {m: int(v[rows].max()) for m, v in self.lengths.items()}) if self.recipe.trim else batch

    def _check_trim(self) -> None:
        """Refuse to trim for a model whose noise depends on the length: trimming would change its numbers."""
        one = self.data["train"].rows(torch.arange(min(2, self.size), device=self.device))
        steps = {m: max(1, x.shape[-2] - 1) for m, x in one.features.items()}
        short = _cut(replace(one, lengths={m: v.clamp(max=steps[m]) for m, v in one.lengths.items()}), steps)
        for progress in (Progress(0, 0, 1, 1), None):
            if self.learner.words(one, progress) != self.learner.words(short, progress):
                raise ConfigError("recipe: trim = True must not change results, but this model draws noise per step")

    def _check_model(self, data: AffectData) -> None:
        """Refuse data the model does not fit, and predictions that would broadcast against the target, or leave a
        class too many, and train all the same.
        """
        model, few = self.learner.model, self.data["train"].rows(torch.arange(min(2, self.size), device=self.device))
        model.accept(data)
        found = tuple(self.learner.predict(few, 0).shape[1:])
        wanted = (len(few),) if self.task.kind == "regression" else (len(few), self.task.outputs)
        if found != wanted:
            raise ConfigError(
                f"{type(model).__name__} on {data.name}: the prediction of {len(few)} samples has shape {found}, "
                f"{self.task.kind} needs {wanted}; see affectcore.nn.losses.as_prediction"
            )

    def _measure(
        self, p: int, seed: int, terms: NDArray[np.floating], raw: Mapping[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, float], float | None] | None:
        """Values on valid and test and the tuned threshold of one seed, or None if it failed."""
        run = self.seeds[seed]
        if not np.isfinite(terms).all():
            i, j = np.argwhere(~np.isfinite(terms))[0]
            name = self.learner.terms[j]
            where = f"in epoch {self.epoch}, step {i} of {self.steps}"
            run.failure = f"seed {seed}: loss {name!r} is {terms[i, j]:g} {where}"
            return None
        found: dict[str, dict[str, float]] = {"valid": {}, "test": {}}
        tuned = None
        for split, values in raw.items():
            y = values[p]
            if not bool(torch.isfinite(y).all()):
                run.failure = f"seed {seed}: {split} predictions are not finite after epoch {self.epoch}"
                return None
            found[split], t = self._values_of(split, y)
            tuned = tuned if t is None else t
        return found["valid"], found["test"], tuned

    def _values_of(self, split: str, raw: Tensor) -> tuple[dict[str, float], float | None]:
        target = self.data[split].target
        out = {"loss": float(task_loss(self.task, raw, target))}
        rule = self.rule
        tunes = rule.threshold and split in (rule.split, rule.threshold_split)
        names = [n for n in self.measured if n != "loss"] if split == rule.split else [self.recipe.metric]
        if names in ([], ["loss"]):
            return out, None
        y, s = target.cpu().numpy(), scores(self.task, raw)
        tuned = None
        for n in names:
            m = metric(self.task.kind, n)
            if tunes:
                best, out[n] = threshold(y, s, n, self.recipe.thresholds)
                tuned = best if split == (rule.threshold_split or rule.split) else None
            else:
                out[n] = m(y, s if m.needs == "scores" else decide(self.task.kind, s))
        return out, tuned

    def _values(self, run: _Seed) -> list[float]:
        """The value that the rule looks at, per finished epoch."""
        return [(e.test if self.rule.split == "test" else e.valid)[self.recipe.metric] for e in run.history]

    def _select(self, run: _Seed) -> Selection:
        return self.rule.select(self._values(run), self.higher) if run.history else Selection(self.rule.name)

    def _stops(self, run: _Seed) -> bool:
        if self.recipe.patience is None or not self.rule.stops:
            return False
        best = replace(self.rule, keep="best").select(self._values(run), self.higher).epoch
        return len(run.history) - 1 - (-1 if best is None else best) >= self.recipe.patience

    def _fit(self, seed: int) -> Fit:
        run, n = self.seeds[seed], len(self.all_seeds)
        selection = self._select(run)
        tuned = run.history[selection.epoch or 0].threshold
        return Fit(
            seed, selection, tuple(run.history), {k: v.cpu() for k, v in run.best.items()}, self.parameters,
            sum(e.wall_s for e in run.history), sum(e.cpu_s for e in run.history), peak_memory_mb(self.device),
            0.5 if tuned is None else tuned, str(self.device), n,
            extremes(self.task.kind, [e.test for e in run.history]) if self.rule.leaky else {},
        )  # fmt: skip

    # --- checkpoints

    def _spec(self, data: AffectData) -> dict[str, Any]:
        model = self.learner.model
        shapes = [(k, tuple(v.shape), str(v.dtype)) for k, v in tensors_of(model).items()]
        return {
            "seeds": self.all_seeds,
            "stacked": self.stacked,
            "recipe": asdict(self.recipe),
            "data": f"{data.name} {data.fingerprint()}",
            "model": f"{type(model).__qualname__} {model.config!r}",
            "tensors": _hash(shapes),
            "device": self.device.type,
            "augment": _name(self.augment),
            "probe": _name(self.probe),
        }

    def _save(self) -> None:
        assert self.file is not None
        tensors = {} if self._finished() else {f"now/{k}": v for k, v in self.learner.state().items()}
        tensors |= {f"best/{s}/{k}": v for s, r in self.seeds.items() for k, v in r.best.items()}
        runs = {s: [[asdict(e) for e in r.history], r.done, r.failure] for s, r in self.seeds.items()}
        checkpoint.write(self.file, tensors, self.spec, {"epoch": self.epoch, "seeds": runs})

    def _resume(self) -> None:
        assert self.file is not None
        found = checkpoint.read(self.file, self.spec)
        if found is None:
            return
        tensors, progress = found
        self.epoch = progress["epoch"]
        for s, (history, done, failure) in progress["seeds"].items():
            best = {k: v.to(self.device) for k, v in section(tensors, f"best/{s}/").items()}
            self.seeds[int(s)] = _Seed([Epoch(**e) for e in history], best, done, failure)
        live = [p for p, s in enumerate(self.all_seeds) if not self.seeds[s].done]
        if live and not self._finished():
            if len(live) < len(self.all_seeds):
                self.learner.keep(live)
            self.learner.load({k: v.to(self.device) for k, v in section(tensors, "now/").items()})


def _name(function: object) -> str | None:
    return None if function is None else getattr(function, "__qualname__", repr(function))


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _check_metric(task: Task, recipe: Recipe, chosen: Rule) -> None:
    if recipe.metric != "loss" and recipe.metric not in metrics(task.kind):
        known = ", ".join(["loss", *metrics(task.kind)])
        raise ConfigError(f"recipe: metric {recipe.metric!r} is unknown for a {task.kind} task: use {known}")
    if chosen.threshold and (task.kind != "multi_label" or recipe.metric == "loss"):
        raise ConfigError(f"selection rule {chosen.name!r} needs a multi_label task and a metric of label sets")
    if chosen.threshold and metric(task.kind, recipe.metric).needs == "scores":
        raise ConfigError(f"selection rule {chosen.name!r} cannot tune {recipe.metric!r}: no threshold changes it")


def _predict(learner: Learner, batch: Batch, trim: bool) -> Tensor:
    """Raw predictions (S, N, ...) of a split, CHUNK samples at a time."""
    parts = (batch.rows(r) for r in torch.arange(len(batch), device=batch.index.device).split(CHUNK))
    return torch.cat([learner.predict(_cut(b, _longest(b)) if trim else b, i) for i, b in enumerate(parts)], 1)


def _longest(batch: Batch) -> dict[str, int]:
    return {m: int(v.max()) for m, v in batch.lengths.items()}


def _cut(batch: Batch, steps: Mapping[str, int]) -> Batch:
    """The batch, and what it remembers, without the steps beyond the longest sequence of each modality."""

    def cut(b: Batch) -> Batch:
        features = {m: x[..., : steps[m], :] for m, x in b.features.items()}
        return replace(b, features=features, observed={m: o[..., : steps[m]] for m, o in b.observed.items()})

    return cut(batch).remembering(cut(batch.complete())) if batch.remembers else cut(batch)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MB: of the process on a CPU (NaN where the system does not tell), allocated on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage there would count the parent that a worker was forked from
        return float(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10  # type: ignore[index]
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
