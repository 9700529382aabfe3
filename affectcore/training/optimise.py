"""A stage's optimiser, with rates by name prefix, clipping per seed, and one form of state for one seed and many.

Everything that crosses this module's border has a leading seed axis (S, ...), S = 1 for a single run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from affectcore.errors import ConfigError
from affectcore.models.contract import Stage
from affectcore.training.recipe import Recipe


def under(name: str, prefix: str) -> bool:
    """Whether a dotted parameter name lies under a prefix ("text" holds text.weight, not text_fc.weight)."""
    return not prefix or name == prefix or name.startswith(prefix if prefix.endswith(".") else prefix + ".")


def members(names: Iterable[str], prefixes: Sequence[str], what: str) -> list[str]:
    """Return the names under any of the prefixes (all if there are none). Raises ConfigError for an empty prefix."""
    names = list(names)
    for p in prefixes:
        if not any(under(n, p) for n in names):
            raise ConfigError(f"{what}: no trainable parameter lies under {p!r}; there are {', '.join(names[:8])} ...")
    return [n for n in names if not prefixes or any(under(n, p) for p in prefixes)]


def check_prefixes(recipe: Recipe, names: Iterable[str]) -> None:
    """Raise ConfigError if a prefix of the recipe names no trainable parameter."""
    names = list(names)
    members(names, [g.prefix for g in recipe.groups], "recipe: groups")
    members(names, [p for p, _ in recipe.clip_prefixes], "recipe: clip_prefixes")


def check_stages(recipe: Recipe, stages: Sequence[Stage]) -> None:
    """Raise ConfigError if the stages contradict each other or the recipe names one that is not there."""
    names, groups = [s.name for s in stages], {s.group for s in stages}
    if len(set(names)) < len(names):
        raise ConfigError(f"stages must have names of their own, got {', '.join(names)}")
    if stages[0].keep_gradients:
        raise ConfigError(f"stage {names[0]!r} is the first of the step and has no gradients to keep")
    if recipe.accumulate > 1 and any(s.keep_gradients for s in stages):
        raise ConfigError("recipe: accumulate = 1 is needed where a stage keeps the gradients of the one before")
    for r in recipe.stages:
        if r.name not in groups and r.name not in names:
            raise ConfigError(f"recipe: stage {r.name!r} is unknown, the model has {', '.join(names)}")
        if r.name not in groups and (r.optimizer, r.lr, r.weight_decay) != (None, None, None):
            shared = next(s.group for s in stages if s.name == r.name)
            raise ConfigError(f"recipe: stage {r.name!r} shares optimiser {shared!r}: set its rates under that name")


def _rates(recipe: Recipe, name: str, vector: bool) -> tuple[float, float]:
    lr, decay = recipe.lr, 0.0 if vector and not recipe.decay_vectors else recipe.weight_decay
    for g in sorted((g for g in recipe.groups if under(name, g.prefix)), key=lambda g: len(g.prefix)):
        lr = lr if g.lr is None else g.lr
        decay = decay if g.weight_decay is None else g.weight_decay
    return lr, decay


def clip(grads: dict[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the gradients ((S, ...) by name) clipped by value, then by norm, every seed and clip_prefix by itself."""
    if recipe.clip_value is not None:
        grads = {n: g.clamp(-recipe.clip_value, recipe.clip_value) for n, g in grads.items()}
    parts: dict[tuple[str, float], list[str]] = {}
    for n in grads:
        special = max((p for p in recipe.clip_prefixes if under(n, p[0])), key=lambda p: len(p[0]), default=None)
        if special is not None:
            parts.setdefault(special, []).append(n)
        elif recipe.clip_norm is not None:
            parts.setdefault(("", recipe.clip_norm), []).append(n)
    clipped = dict(grads)  # out of place: two parameters may share one gradient tensor
    for (_, bound), names in parts.items():
        norm = torch.stack([_rows(grads[n]).square().sum(1) for n in names]).sum(0).sqrt()
        scale = (bound / (norm + 1e-6)).clamp(max=1)
        for n in names:
            clipped[n] = _scaled(grads[n], scale)
    if recipe.clip_each is not None:
        for n, g in clipped.items():
            clipped[n] = _scaled(g, (recipe.clip_each / (_rows(g).norm(dim=1) + 1e-6)).clamp(max=1))
    return clipped


def _rows(x: Tensor) -> Tensor:
    """Return x (S, ...) as (S, K), K = 1 where the parameter is a scalar."""
    return x.reshape(len(x), -1)


def _scaled(x: Tensor, factors: Tensor) -> Tensor:
    """Return x (S, ...) with each seed's row times its factor."""
    return x * factors.view(-1, *[1] * (x.ndim - 1))


class BertAdam(torch.optim.Optimizer):
    """AdamW without correction of the moments' bias, as the optimiser of the first BERT code has it.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; x = x - lr (m / (sqrt(v) + eps) + decay x).
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch declares two overloads
        for group in self.param_groups:
            b1, b2 = group["betas"]
            x = [p for p in group["params"] if p.grad is not None]
            if not x:
                continue
            for p in x:
                if not self.state[p]:
                    self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            g = [p.grad for p in x]
            m, v = ([self.state[p][k] for p in x] for k in ("exp_avg", "exp_avg_sq"))
            torch._foreach_lerp_(m, g, 1 - b1)
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, g, g, value=1 - b2)
            root = torch._foreach_sqrt(v)
            torch._foreach_add_(root, group["eps"])
            update = torch._foreach_div(m, root)
            torch._foreach_add_(update, x, alpha=group["weight_decay"])
            torch._foreach_add_(x, update, alpha=-group["lr"])


class StageOptimizer:
    """The optimiser of one stage, or of several that share it.

    leaves: name -> tensor, updated in place: one seed's parameters, or stacked ones (S, ...) if `stacked`.
    A plateau schedule gives each seed a rate of its own; stacked leaves are then optimised through one view a seed.
    """

    def __init__(self, recipe: Recipe, leaves: Mapping[str, Tensor], stacked: bool) -> None:
        self.stacked, self.seeds = stacked, len(next(iter(leaves.values()))) if stacked else 1
        self._views = stacked and recipe.schedule == "plateau"
        self._slots: dict[str, list[Tensor]] = {}
        groups: dict[tuple[float, float, int], list[Tensor]] = {}
        for name, leaf in leaves.items():
            rates = _rates(recipe, name, vector=leaf.ndim - stacked < 2)
            self._slots[name] = [leaf.detach()[s] for s in range(self.seeds)] if self._views else [leaf]
            for s, slot in enumerate(self._slots[name]):
                groups.setdefault((*rates, s), []).append(slot)
        self._optimizer = _optimizer(
            recipe,
            [{"params": p, "lr": r, "weight_decay": d, "rate": r, "seed": s} for (r, d, s), p in groups.items()],
        )

    def step(self, grads: Mapping[str, Tensor], factors: Sequence[float]) -> None:
        """Update the leaves that have a gradient (S, ...); factors: one on the learning rate per seed."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * factors[group["seed"]]
        for name, slots in self._slots.items():
            for s, slot in enumerate(slots if name in grads else ()):
                g = grads[name]
                slot.grad = (g if self.stacked and not self._views else g[s]).contiguous()
        self._optimizer.step()
        for slots in self._slots.values():
            for slot in slots:
                slot.grad = None

    def dump(self) -> dict[str, Tensor]:
        """Return the state by "name/key", each (S, ...); empty before the first step."""
        out = {}
        for name, slots in self._slots.items():
            states = [self._optimizer.state[s] for s in slots]
            for k in [k for k, v in states[0].items() if isinstance(v, Tensor)]:
                if k == "step":
                    out[f"{name}/{k}"] = states[0][k].detach().expand(self.seeds).clone()
                else:
                    whole = self.stacked and not self._views
                    out[f"{name}/{k}"] = states[0][k] if whole else torch.stack([s[k] for s in states])
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of `dump`."""
        for label, value in state.items():
            name, k = label.rsplit("/", 1)
            for s, slot in enumerate(self._slots[name]):
                one = k == "step" or not self.stacked or self._views
                like = slot if k != "step" else value
                self._optimizer.state[slot][k] = (value[s] if one else value).to(like.device, copy=True)


def _optimizer(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    device = groups[0]["params"][0].device.type
    fast = {"fused": True} if device in ("cpu", "cuda") else {"foreach": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, **fast)
    if recipe.optimizer == "bert_adam":
        return BertAdam(groups, recipe.lr, recipe.betas, recipe.eps)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, **fast)
