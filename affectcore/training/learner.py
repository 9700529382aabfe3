"""The optimisation of one seed: what a step, an evaluation and a state are. `stack.Stack` does the same for many seeds.

Both answer to the loop with a leading seed axis (S, ...), S = 1 here, so that the loop is written once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, TrainingError
from affectcore.models.contract import AffectModel, Progress, Stage
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training.optimise import StageOptimizer, check_prefixes, check_stages, clip, members
from affectcore.training.recipe import Recipe

Tensors = dict[str, Tensor]


class Body(nn.Module):
    """A model whose parameters and buffers are handed in: `with_(tensors, f)` is f(model) with those tensors in place.

    `functional_call` calls `forward` alone, hence the module around the model. It also damages a model in which one
    submodule has two names (it swaps both and restores them in the wrong order: seen in torch 2.13). So every place is
    named exactly once here, tied places with the same tensor.
    """

    def __init__(self, model: AffectModel) -> None:
        super().__init__()
        self.model = model
        first: dict[int, str] = {}
        self._places: dict[str, str] = {}  # name of the place -> name that the tensor goes by
        for prefix, module in model.named_modules():
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if tensor is not None:
                    place = f"{prefix}.{name}" if prefix else name
                    self._places[f"model.{place}"] = first.setdefault(id(tensor), place)

    def forward(self, f: Callable[[AffectModel], Any]) -> Any:
        return f(self.model)

    def with_(self, tensors: Mapping[str, Tensor], f: Callable[[AffectModel], Any]) -> Any:
        """Return f(model). Raises TrainingError if f assigns a buffer: the new value would be lost without a word."""
        given = {place: tensors[name] for place, name in self._places.items()}
        after = dict(given)
        out = functional_call(self, after, (f,), tie_weights=False)
        lost = [p for p in given if after[p] is not given[p]]
        if lost:
            raise TrainingError(f"the model assigns {lost[0].removeprefix('model.')}; write into the buffer instead")
        return out


def tensors_of(model: AffectModel) -> Tensors:
    """Return parameters and buffers by name, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Learner(ABC):
    """seeds: the live ones, in order. model: the module whose code is run. terms: names of the columns of `step`."""

    def __init__(self, model: AffectModel, seeds: Sequence[int], recipe: Recipe) -> None:
        self.model, self.seeds, self.recipe = model, list(seeds), recipe
        self.body = Body(model)
        self.stages: tuple[Stage, ...] = model.stages()
        trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        check_prefixes(recipe, trainable)
        check_stages(recipe, self.stages)
        self._mine = [members(trainable, s.parameters, f"stage {s.name!r}") for s in self.stages]
        self._clipping = [recipe.of_stages(*dict.fromkeys((s.group, s.name))) for s in self.stages]
        self._sums: list[Tensors] = [{} for _ in self.stages]  # gradients of the batches since the last update
        self._optimizers: dict[str, StageOptimizer] = {}
        self._like = next(model.parameters()).detach().new_zeros(())
        self._sizes: dict[Any, int] = {}
        self.terms: list[str] = []
        self._chosen: dict[str, list[str]] = {}  # names of a stage's terms

    @property
    def device(self) -> torch.device:
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        return self._like.dtype

    @abstractmethod
    def step(self, batch: Batch, progress: Progress, factors: Sequence[float]) -> Tensor:
        """Make one step on a batch with leading seed axis; return the loss terms and their total, (S, len(terms))."""

    @abstractmethod
    def predict(self, batch: Batch, chunk: int) -> Tensor:
        """Return the raw predictions (S, B, ...) of a batch without seed axis; `chunk` keys the noise of samplers."""

    @abstractmethod
    def evaluated(self) -> Tensors:
        """Return the tensors (S, ...) that predictions are made with: averaged parameters if the recipe averages."""

    @abstractmethod
    def state(self) -> Tensors:
        """Return all that a step changes, each (S, ...)."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of `state`."""

    @abstractmethod
    def keep(self, positions: Sequence[int]) -> None:
        """Go on with the seeds at these positions alone."""

    @abstractmethod
    def first(self) -> Mapping[str, Tensor]:
        """Return the tensors of the first live seed, for dry runs."""

    def _new_optimizers(self, leaves: Mapping[str, Tensor], stacked: bool) -> dict[str, StageOptimizer]:
        """One optimiser a name, over the parameters of all stages that share it."""
        names: dict[str, list[str]] = {}
        for stage, mine in zip(self.stages, self._mine):
            names.setdefault(stage.group, []).extend(mine)
        return {
            g: StageOptimizer(self.recipe.of_stages(g), {n: leaves[n] for n in dict.fromkeys(own)}, stacked)
            for g, own in names.items()
        }

    def _update(self, i: int, grads: Tensors, before: Tensors, progress: Progress, factors: Sequence[float]) -> Tensors:
        """Clip the gradients of stage i and let its optimiser step; return them. `before`: those of stage i - 1."""
        stage, rounds = self.stages[i], self.recipe.accumulate
        if stage.keep_gradients:
            grads = {n: g + before[n] if n in before else g for n, g in grads.items()}
        place = progress.step % max(progress.steps // progress.epochs, 1)  # of the batch in its epoch
        if place % rounds:
            grads = {n: g + self._sums[i][n] for n, g in grads.items()}
        grads = clip(grads, self._clipping[i])
        if rounds > 1:
            self._sums[i] = grads
        if (place + 1) % rounds == 0:
            self._optimizers[stage.group].step(grads, factors)
        return grads

    def _hand(self, stage: Stage, batch: Batch, memo: Tensors) -> Batch:
        """Return the batch of the next stages: with what this one hands on, which leaves the memo."""
        missing = [k for k in stage.hands if k not in memo]
        if missing:
            has = ", ".join(memo) or "nothing"
            raise TrainingError(f"stage {stage.name!r} hands on {missing[0]!r}, but its memo has {has}")
        handed = {k: memo.pop(k).detach() for k in stage.hands}
        return replace(batch, extras={**batch.extras, **handed}) if handed else batch

    def _averages(self, progress: Progress) -> bool:
        """Whether the optimisers stepped in this step, so that averages of parameters follow."""
        return (progress.step % max(progress.steps // progress.epochs, 1) + 1) % self.recipe.accumulate == 0

    def words(self, batch: Batch, progress: Progress | None, stage: int = 0) -> int:
        """Return the words of noise that one seed's pass takes, from a dry run per batch shape and stage.

        progress None: a forward pass in evaluation.
        """
        shapes = tuple((k, tuple(v.shape)) for d in (batch.features, batch.extras) for k, v in d.items())
        known = (stage, progress is None, len(batch), shapes)
        if known not in self._sizes:
            tape = Tape(self._like, training=progress is not None)

            def run(model: AffectModel) -> None:
                if progress is None:
                    model(batch, tape)
                else:
                    model.stage_losses(self.stages[stage], batch, tape, progress)

            with torch.no_grad():
                self.body.with_({k: v.clone() for k, v in self.first().items()}, run)
            self._sizes[known] = tape.words
        return self._sizes[known]

    def pass_(self, model: AffectModel, batch: Batch, words: Tensor, progress: Progress, stage: Stage) -> Any:
        """Return (loss, (terms and loss in one vector, memo)) of one seed for one stage; (K,) losses if `separate`."""
        noise = Pool(words, self._like)
        terms, memo = model.stage_losses(stage, batch, noise, progress)
        noise.close()
        unknown = [t for t in stage.losses if t not in terms]
        if unknown:
            raise ConfigError(f"stage {stage.name!r}: loss {unknown[0]!r} is unknown, the model has {', '.join(terms)}")
        chosen = {k: terms[k] for k in stage.losses or terms}
        wrong = [k for k, v in chosen.items() if v.ndim]
        if wrong:
            raise TrainingError(f"loss {wrong[0]!r} has shape {tuple(chosen[wrong[0]].shape)}, it must be a scalar")
        weights = model.weights(progress)
        each = torch.stack([weights.get(k, 1.0) * v for k, v in chosen.items()])
        loss = each.sum()
        self._chosen[stage.name] = list(chosen)
        names = [*chosen, "total"]
        self._names(names if len(self.stages) == 1 else [f"{stage.name}.{k}" for k in names])
        return each if stage.separate else loss, (torch.stack([*chosen.values(), loss]).detach(), dict(memo))

    def _names(self, names: list[str]) -> None:
        if not set(names) & set(self.terms):
            self.terms += names
        elif not set(names) <= set(self.terms):
            raise TrainingError(f"the model's losses changed during training: {names}, before {self.terms}")


class Single(Learner):
    """One seed, trained as any module is: `backward` through the module, then each stage's optimiser."""

    def __init__(self, model: AffectModel, seed: int, recipe: Recipe) -> None:
        super().__init__(model, [seed], recipe)
        self._params = dict(model.named_parameters())
        self._tensors = tensors_of(model)
        self._optimizers = self._new_optimizers(self._params, False)
        self._ema = {n: self._params[n].detach().clone() for m in self._mine for n in m} if recipe.ema_decay else {}

    def step(self, batch: Batch, progress: Progress, factors: Sequence[float]) -> Tensor:
        batch = batch.map(lambda x: x[0])
        if not self.model.training:
            self.model.train()
        columns: list[Tensor] = []
        memo: Tensors = {}
        grads: Tensors = {}
        for i, (stage, names) in enumerate(zip(self.stages, self._mine)):
            size = self.words(batch, progress, i)
            words = fill(self.seeds, size, self.device, "train", progress.step, i)[0]
            loss, (terms, new) = self.pass_(self.model, batch, words, progress, stage)
            found, more = self._gradient(stage, loss, names, new)
            grads = self._update(i, {n: g.unsqueeze(0) for n, g in found.items()}, grads, progress, factors)
            new |= more
            batch = self._hand(stage, batch, new)
            memo |= new
            columns.append(terms)
        with torch.no_grad():
            if memo:
                self.body.with_(self._tensors, lambda m: m.remember(memo))
            for n, average in self._ema.items() if self._averages(progress) else ():
                average.lerp_(self._params[n], 1 - (self.recipe.ema_decay or 0))
        return torch.cat(columns).unsqueeze(0)

    def _gradient(self, stage: Stage, loss: Tensor, names: list[str], memo: Tensors) -> tuple[Tensors, Tensors]:
        leaves = [self._params[n] for n in names]

        def of(x: Tensor, keep: bool) -> Tensors:
            found = torch.autograd.grad(x, leaves, retain_graph=keep, allow_unused=True, materialize_grads=True)
            return dict(zip(names, found))

        if not stage.separate:
            return of(loss, False), {}
        parts = loss.unbind()
        each = {k: of(x, x is not parts[-1]) for k, x in zip(self._chosen[stage.name], parts)}
        with torch.no_grad():
            return self.model.combine(stage, each, memo)

    @torch.no_grad()
    def predict(self, batch: Batch, chunk: int) -> Tensor:
        self.model.eval()
        tensors = {**self._tensors, **self._ema}
        words = fill(self.seeds, self.words(batch, None), self.device, "evaluate", chunk)[0]
        out: Tensor = self.body.with_(tensors, lambda m: forward(m, batch, words, self._like))
        return out.unsqueeze(0)

    def first(self) -> Tensors:
        return self._tensors

    def evaluated(self) -> Tensors:
        return {k: v.detach().unsqueeze(0) for k, v in {**self._tensors, **self._ema}.items()}

    def state(self) -> Tensors:
        out = {f"model/{k}": v.detach().unsqueeze(0) for k, v in self._tensors.items()}
        out |= {f"ema/{k}": v.unsqueeze(0) for k, v in self._ema.items()}
        return out | {f"stage{i}/{k}": v for i, o in enumerate(self._optimizers.values()) for k, v in o.dump().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():  # copied into place: adopted storage could be aligned otherwise and round otherwise
            for k, v in self._tensors.items():
                v.copy_(state[f"model/{k}"][0])
            for k, v in self._ema.items():
                v.copy_(state[f"ema/{k}"][0])
        for i, o in enumerate(self._optimizers.values()):
            o.load(section(state, f"stage{i}/"))

    def keep(self, positions: Sequence[int]) -> None:
        self.seeds = [self.seeds[p] for p in positions]


def forward(model: AffectModel, batch: Batch, words: Tensor, like: Tensor) -> Tensor:
    """Return the raw prediction in evaluation; raises TrainingError if the noise is not used up."""
    noise = Pool(words, like, training=False)
    prediction = model(batch, noise).prediction
    noise.close()
    return prediction


def section(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the entries under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
