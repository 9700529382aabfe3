"""Many seeds of one model in one step by `torch.func`: every parameter and buffer has a leading seed axis.

A model is written for one seed; `vmap` over that axis does the rest. The numbers are those of single runs up to the
order of sums (equal to about 1e-12 in float64). Large stacks need an allocator that keeps freed memory: on glibc set
MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ to, say, 4294967296, 4294967296 and 268435456
before the process starts; without them a stack of ten sequence models is several times slower.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import grad_and_value, stack_module_state, vjp, vmap

from affectcore.data.schema import Batch
from affectcore.models.contract import AffectModel, Progress, Stage
from affectcore.nn.noise import fill
from affectcore.training.learner import Learner, Tensors, forward, section
from affectcore.training.recipe import Recipe


class Stack(Learner):
    """Seeds trained together. `models`: one initialised model a seed; the first is the skeleton whose code is run.

    The skeleton is a real model, not one on the meta device: copying there would untie tied weights without a word.
    """

    def __init__(self, models: Sequence[AffectModel], seeds: Sequence[int], recipe: Recipe) -> None:
        super().__init__(models[0], seeds, recipe)
        params, buffers = stack_module_state(list(models))
        self._params: Tensors = {k: v.detach() for k, v in params.items()}
        self._buffers: Tensors = {k: v.detach() for k, v in buffers.items()}
        self._ema: Tensors = {n: self._params[n].clone() for m in self._mine for n in m} if recipe.ema_decay else {}
        self._optimizers = self._new_optimizers(self._params, True)

    def first(self) -> Tensors:
        return {k: v[0] for k, v in {**self._params, **self._buffers}.items()}

    def step(self, batch: Batch, progress: Progress, factors: Sequence[float]) -> Tensor:
        if not self.model.training:
            self.model.train()
        one = batch.map(lambda x: x[0])
        columns: list[Tensor] = []
        memo: Tensors = {}
        grads: Tensors = {}
        for i, (stage, names) in enumerate(zip(self.stages, self._mine)):

            def loss(mine: Tensors, rest: Tensors, batch: Batch, words: Tensor, stage: Any = stage) -> Any:
                return self.body.with_(mine | rest, lambda m: self.pass_(m, batch, words, progress, stage))

            size = self.words(one, progress, i)
            words = fill(self.seeds, size, self.device, "train", progress.step, i)
            mine = {n: self._params[n] for n in names}
            rest = {k: v for k, v in {**self._params, **self._buffers}.items() if k not in mine}
            if stage.separate:
                found, terms, new = vmap(self._separate(stage, loss))(mine, rest, batch, words)
            else:
                found, (_, (terms, new)) = vmap(grad_and_value(loss, has_aux=True))(mine, rest, batch, words)
            grads = self._update(i, found, grads, progress, factors)
            batch = self._hand(stage, batch, new)
            memo |= new
            one = batch.map(lambda x: x[0])
            columns.append(terms)
        with torch.no_grad():
            if memo:
                vmap(self._remember, out_dims=None)(self._params, self._buffers, memo)
            for n, average in self._ema.items() if self._averages(progress) else ():
                average.lerp_(self._params[n], 1 - (self.recipe.ema_decay or 0))
        return torch.cat(columns, 1)

    def _separate(self, stage: Stage, loss: Callable[..., Any]) -> Callable[..., Any]:
        """Return what `grad_and_value` would be if every term had a gradient of its own, combined by the model."""

        def one(mine: Tensors, rest: Tensors, batch: Batch, words: Tensor) -> tuple[Tensors, Tensor, Tensors]:
            value, pull, (terms, memo) = cast(Any, vjp(lambda p: loss(p, rest, batch, words), mine, has_aux=True))
            rows = torch.eye(len(value), dtype=value.dtype, device=value.device)
            each = {k: pull(row)[0] for k, row in zip(self._chosen[stage.name], rows)}
            found, more = self.body.with_(mine | rest, lambda m: m.combine(stage, each, memo))
            return found, terms, {**memo, **more}

        return one

    def _remember(self, params: Tensors, buffers: Tensors, memo: Tensors) -> None:
        self.body.with_(params | buffers, lambda m: m.remember(memo))

    @torch.no_grad()
    def predict(self, batch: Batch, chunk: int) -> Tensor:
        self.model.eval()
        words = fill(self.seeds, self.words(batch, None), self.device, "evaluate", chunk)

        def one(tensors: Tensors, words: Tensor) -> Tensor:
            out: Tensor = self.body.with_(tensors, lambda m: forward(m, batch, words, self._like))
            return out

        out: Tensor = vmap(one)(self.evaluated(), words)
        return out

    def evaluated(self) -> Tensors:
        return {**self._params, **self._ema, **self._buffers}

    def state(self) -> Tensors:
        out = {f"model/{k}": v for k, v in {**self._params, **self._buffers}.items()}
        out |= {f"ema/{k}": v for k, v in self._ema.items()}
        return out | {f"stage{i}/{k}": v for i, o in enumerate(self._optimizers.values()) for k, v in o.dump().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for part in (self._params, self._buffers):
            for k, v in part.items():
                v.copy_(state[f"model/{k}"])
        for k, v in self._ema.items():
            v.copy_(state[f"ema/{k}"])
        for i, o in enumerate(self._optimizers.values()):
            o.load(section(state, f"stage{i}/"))

    def keep(self, positions: Sequence[int]) -> None:
        rows = torch.tensor(positions, device=self.device)
        old = {
            g: {k: v.index_select(0, rows.to(v.device)) for k, v in o.dump().items()}
            for g, o in self._optimizers.items()
        }
        for part in (self._params, self._buffers, self._ema):
            part.update({k: v.index_select(0, rows) for k, v in part.items()})
        self._optimizers = self._new_optimizers(self._params, True)
        for g, state in old.items():
            self._optimizers[g].load(state)
        self.seeds = [self.seeds[p] for p in positions]
