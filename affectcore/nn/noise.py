"""The random numbers of a step, drawn before it, so that a model needs no generator and many seeds can share a `vmap`.

A model asks its `noise` argument for drop-out, normals and uniforms. Three classes answer:

* `Tape` only counts how many 16-bit words the model takes (a dry run, once per batch shape and stage);
* `Pool` hands out slices of one seed's row of words, in order; the row is filled by `fill` from the stream
  (seed, purpose, step, stage), so a seed's numbers depend neither on the other seeds nor on any generator's past;
* `Pool` with `training=False`: drop-out is the identity, samplers still draw.

A Bernoulli(p) takes one word (p is exact to 2^-17), a uniform two (a multiple of 2^-24 in [0, 1), exact in float32 and
float64), a normal two (Box-Muller, |z| < 5.9). float32 and float64 models read the same words.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from affectcore.errors import TrainingError
from affectcore.streams import key, rng


def _normal_words(shape: tuple[int, ...]) -> int:
    return 4 * ((math.prod(shape) + 1) // 2)


def _check(p: float) -> None:
    if not 0 <= p <= 1:
        raise TrainingError(f"drop-out p = {p} must lie in [0, 1]")


class Tape:
    """A dry run's noise: the same methods as `Pool`, arbitrary values, and `words` counts what was taken."""

    def __init__(self, like: Tensor, training: bool = True) -> None:
        self.training, self.words, self._like = training, 0, like

    def dropout(self, x: Tensor, p: float) -> Tensor:
        _check(p)
        if self.training and p > 0:
            self.words += x.numel()
        return x

    def normal(self, *shape: int) -> Tensor:
        self.words += _normal_words(shape)
        return self._like.new_zeros(shape)

    def uniform(self, *shape: int) -> Tensor:
        self.words += 2 * math.prod(shape)
        return self._like.new_zeros(shape)


class Pool:
    """One seed's noise for one step: slices of `words` ((W,) int16, inside `vmap` a row of (S, W)), in order.

    `like` gives device and dtype. `close` raises TrainingError unless every word was used: a model that draws another
    number of values than its tape would give different noise to the stacked and the single path.
    """

    def __init__(self, words: Tensor, like: Tensor, training: bool = True) -> None:
        self.training, self._words, self._like, self._used = training, words, like, 0

    def _take(self, n: int) -> Tensor:
        start, self._used = self._used, self._used + n
        if self._used > self._words.shape[-1]:
            raise TrainingError(
                f"the model draws more noise than its dry run, which took {self._words.shape[-1]} words"
            )
        return self._words[start : self._used]

    def _uniform(self, n: int) -> Tensor:
        high, low = self._take(2 * n).to(torch.int32).add(32768).chunk(2)
        return (high * 256 + (low >> 8)).to(self._like.dtype) * 2.0**-24

    def dropout(self, x: Tensor, p: float) -> Tensor:
        """`x` with each element zeroed with probability p and the rest scaled by 1 / (1 - p); `x` in evaluation."""
        _check(p)
        if not self.training or p == 0:
            return x
        words, cut = self._take(x.numel()).view(x.shape), round(p * 65536)
        if cut == 65536:
            return x * 0
        return x * (words >= cut - 32768).to(x.dtype).mul_(65536 / (65536 - cut))

    def normal(self, *shape: int) -> Tensor:
        """Standard normals of this shape."""
        n = math.prod(shape)
        if n == 0:
            return self._like.new_zeros(shape)
        u, v = self._uniform(_normal_words(shape) // 2).chunk(2)
        radius, angle = (-2 * (u + 2.0**-25).log()).sqrt(), 2 * math.pi * v
        return torch.cat([radius * angle.cos(), radius * angle.sin()])[:n].view(shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms in [0, 1) of this shape."""
        n = math.prod(shape)
        return self._uniform(n).view(shape) if n else self._like.new_zeros(shape)

    def close(self) -> None:
        """Raise TrainingError if words are left over."""
        if self._used != self._words.shape[-1]:
            raise TrainingError(f"the model used {self._used} of the {self._words.shape[-1]} words of its dry run")


def fill(seeds: Sequence[int], words: int, device: torch.device | str, *purpose: str | int) -> Tensor:
    """Return (S, words) int16, row s filled from the stream (seeds[s], *purpose).

    On the CPU the bits are NumPy's Philox (torch's CPU generator keeps 32 bits of a seed: streams would collide); on a
    GPU torch's generator there. The two devices therefore give different noise.
    """
    n, device = (words + 3) // 4, torch.device(device)
    if device.type == "cpu":
        raw = np.stack([rng(s, *purpose).bit_generator.random_raw(n) for s in seeds])
        rows = torch.from_numpy(raw.view(np.int16))
    else:
        generator = torch.Generator(device)
        longs = torch.empty(len(seeds), n, dtype=torch.int64, device=device)
        for row, s in zip(longs, seeds):
            row.random_(-(2**63), None, generator=generator.manual_seed(key(s, *purpose)))
        rows = longs.view(torch.int16)
    return rows[:, :words]
