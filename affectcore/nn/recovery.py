"""Parts that recover a missing stream from those at hand: conditions, denoisers, a reconstructor.

Streams are (B, T, d); masks (B, T) bool say which steps exist, None: all, padding included. A denoiser answers
`context(streams, masks, steps)`, what it reads of the streams at hand, once for all steps of a sampler, and
`forward(x, t, context, mask)`, its estimate of the noise in x (B, T, d) at times t (B,) on a scale of a thousand.

Sources: Song et al. (2021, score SDE) for the U-Net, with MulT's attention as in IMDer (Wang et al. 2023); Peebles and
Xie (2023, DiT); Zhang et al. (2018, RCAN) for the reconstructor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.errors import ConfigError
from affectcore.nn.attention import attend, sinusoids
from affectcore.nn.crossmodal import PreNormStack, Rates, Read, future, normalise, place
from affectcore.nn.pooling import hide, masked_mean

Masks = Sequence[Tensor | None]


class Silent:
    """Noise for layers that drop nothing."""

    training = False

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return x


SILENT, NOTHING = Silent(), Rates()


def hidden(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x (B, T, d), zero outside the mask if there is one."""
    return x if mask is None else hide(x, mask)


def fit(x: Tensor, steps: int) -> Tensor:
    """Return x (B, T, ...) cut, or filled up with zeros, to `steps` steps."""
    more = steps - x.shape[1]
    return x[:, :steps] if more <= 0 else F.pad(x, (0, 0) * (x.ndim - 2) + (0, more))


def convolve(conv: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return a convolution along time of x (B, T, d), zero outside the mask of what comes out."""
    return hidden(conv(x.transpose(-1, -2)).transpose(-1, -2), mask)


# --- one stream from those at hand ------------------------------------------------------------------------------------


class SubsetCondition(nn.Module):
    """One stream from the available ones: a lone one as it is, several by a 1x1 convolution of their own.

    One convolution per set of two to M - 1 modalities that leaves out one of the `targets`; for M = 3 the three pairs,
    as published.
    """

    def __init__(self, modalities: int, width: int, targets: Sequence[int]) -> None:
        super().__init__()
        if modalities > 6:
            raise ConfigError(
                f"conditions by subset: {modalities} modalities have too many subsets, use 'set' (at most 6)"
            )
        sets = [s for k in range(2, modalities) for s in combinations(range(modalities), k)]
        self.sets = [s for s in sets if not set(targets) <= set(s)]
        self.convs = nn.ModuleList(nn.Linear(len(s) * width, width) for s in self.sets)

    def forward(
        self, streams: Sequence[Tensor], masks: Masks, available: Tensor, target: int
    ) -> tuple[Tensor, Tensor | None]:
        """available (B, M) bool; `target` counts as missing. Return the stream (B, T, d) and its mask."""
        steps = max(x.shape[-2] for x in streams)
        others = [j for j in range(len(streams)) if j != target]
        x = {j: fit(streams[j], steps) for j in others}
        out = torch.zeros_like(x[others[0]])
        there = [available[..., j] for j in others]
        for j in others:
            alone = _exactly(there, others, (j,))
            out = torch.where(alone[..., None, None], x[j], out)
        for s, conv in zip(self.sets, self.convs):
            if target not in s:
                mixed = conv(torch.cat([x[j] for j in s], -1))
                out = torch.where(_exactly(there, others, s)[..., None, None], mixed, out)
        if all(m is None for m in masks):
            return out, None
        seen = [fit(cast(Tensor, masks[j]), steps) & available[..., j, None] for j in others]
        mask = torch.stack(seen).any(0)
        return hide(out, mask), mask


def _exactly(there: Sequence[Tensor], names: Sequence[int], chosen: Sequence[int]) -> Tensor:
    """(B,) bool, True where the chosen ones and no others are there."""
    return torch.stack([t if j in chosen else ~t for j, t in zip(names, there)]).all(0)


# --- denoisers --------------------------------------------------------------------------------------------------------


class FourierTime(nn.Module):
    """Sines and cosines of 2 pi w t for fixed random w of deviation 30, t in [0, 1]; then linear and swish."""

    weights: Tensor

    def __init__(self, features: int, scale: float = 30.0) -> None:
        super().__init__()
        self.register_buffer("weights", torch.randn(features // 2) * scale)
        self.linear = nn.Linear(features, features)

    def forward(self, t: Tensor) -> Tensor:
        angle = (t / 1000).unsqueeze(-1) * self.weights * (2 * math.pi)
        return F.silu(self.linear(torch.cat([angle.sin(), angle.cos()], -1)))


class GroupNorm(nn.Module):
    """Group normalisation of (B, T, d) over the steps of the mask."""

    def __init__(self, groups: int, features: int) -> None:
        super().__init__()
        self.groups, self.weight, self.bias = (
            groups,
            nn.Parameter(torch.ones(features)),
            nn.Parameter(torch.zeros(features)),
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        g = x.unflatten(-1, (self.groups, -1))  # (B, T, G, d / G)
        if mask is None:
            centred = g - g.mean((-3, -1), keepdim=True)
            var = centred.square().mean((-3, -1), keepdim=True)
        else:
            w = mask[..., None, None].to(x.dtype)
            n = w.sum(-3, keepdim=True).clamp(min=1) * g.shape[-1]
            centred = (g - (g * w).sum((-3, -1), keepdim=True) / n) * w
            var = centred.square().sum((-3, -1), keepdim=True) / n
        return (centred * torch.rsqrt(var + 1e-5)).flatten(-2) * self.weight + self.bias


class Level(nn.Module):
    """One resolution of the U-Net: convolution, attention to the condition, time, norm, swish."""

    def __init__(self, conv: nn.Module, features: int, heads: int, time: int | None, groups: int) -> None:
        super().__init__()
        self.conv, self.cross = conv, PreNormStack(features, heads, 2)
        self.time = None if time is None else nn.Linear(time, features)
        self.norm = None if time is None else GroupNorm(groups, features)

    def forward(
        self, x: Tensor, time: Tensor, read: Read, seen: Tensor | None, mask: Tensor | None, causal: bool,
        skip_zero: bool,
    ) -> Tensor:  # fmt: skip
        h = convolve(self.conv, x, mask)
        ahead = future(h, read[0][0]) if causal else None
        h = h + self.cross(place(h, True, skip_zero), read, seen, ahead, SILENT, NOTHING)
        if self.time is not None and self.norm is not None:
            h = F.silu(self.norm(h + self.time(time).unsqueeze(-2), mask))
        return hidden(h, mask)


def _down(a: int, b: int) -> nn.Conv1d:
    return nn.Conv1d(a, b, 3, stride=2, padding=1, bias=False)


def _up(a: int, b: int) -> nn.ConvTranspose1d:
    return nn.ConvTranspose1d(a, b, 3, stride=2, padding=1, output_padding=1, bias=False)


@dataclass(frozen=True)
class UNetContext:
    reads: list[Read]
    masks: list[Tensor | None]


class ScoreUNet(nn.Module):
    """Noise in a stream by a U-Net that attends to one condition at every resolution. Its sign is that of the noise.

    The published network says the score, -noise / sigma. Lengths are filled up to a multiple of 8. `causal`: a step
    sees the condition up to itself, as published. `groups`: of every norm but the first, 32 as published; a group of
    one channel has nothing to compare where one step exists, and its norm leaves nothing of what came in.
    """

    def __init__(
        self, width: int, heads: int = 8, time: int = 256, channels: tuple[int, ...] = (), causal: bool = True,
        groups: int = 32, skip_zero: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        c = channels or (width, 2 * width, 4 * width, 8 * width)
        self.causal, self.skip_zero = causal, skip_zero
        self.time = FourierTime(time)
        first = nn.Conv1d(width, c[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList([Level(first, c[0], heads, time, math.gcd(4, c[0]))])
        self.down.extend(Level(_down(a, b), b, heads, time, math.gcd(groups, b)) for a, b in pairwise(c))
        ups = [(c[3], c[2]), (2 * c[2], c[1]), (2 * c[1], c[0])]
        self.up = nn.ModuleList(Level(_up(a, b), b, heads, time, math.gcd(groups, b)) for a, b in ups)
        self.last = Level(nn.ConvTranspose1d(2 * c[0], width, 3, padding=1), width, heads, None, 1)
        self.down_condition = nn.ModuleList(_down(c[i], c[i + 1]) for i in range(3))
        self.up_condition = nn.ModuleList(_up(c[i + 1], c[i]) for i in (2, 1, 0))
        self.last_condition = nn.ConvTranspose1d(c[0], width, 3, padding=1)

    def context(self, streams: Sequence[Tensor], masks: Masks, steps: int) -> UNetContext:
        """Of one stream; `steps` of the target are not needed."""
        (c,), (mask,) = streams, masks
        more = -c.shape[-2] % 8
        c = fit(c, c.shape[-2] + more)
        m = _halves(mask, more)
        path, at = [c], [m[0]]
        for conv, here in zip(self.down_condition, m[1:]):
            path, at = [*path, convolve(conv, path[-1], here)], [*at, here]
        for conv, here in zip(self.up_condition, (m[2], m[1], m[0])):
            path, at = [*path, convolve(conv, path[-1], here)], [*at, here]
        path, at = [*path, convolve(self.last_condition, path[-1], m[0])], [*at, m[0]]
        levels = cast(list[Level], [*self.down, *self.up, self.last])
        normal = [normalise(place(v, True, self.skip_zero)) for v in path]
        return UNetContext([level.cross.read(v) for level, v in zip(levels, normal)], at)

    def forward(self, x: Tensor, t: Tensor, context: Any, mask: Tensor | None) -> Tensor:
        time, steps = self.time(t), x.shape[-2]
        more = -steps % 8
        m = _halves(mask, more)
        h, skips = fit(hidden(x, mask), steps + more), []
        for i, level in enumerate(self.down):
            h = level(h, time, context.reads[i], context.masks[i], m[i], self.causal, self.skip_zero)
            skips.append(h)
        for i, level in enumerate(self.up):
            h = h if i == 0 else torch.cat([h, skips[3 - i]], -1)
            h = level(h, time, context.reads[4 + i], context.masks[4 + i], m[2 - i], self.causal, self.skip_zero)
        h = self.last(
            torch.cat([h, skips[0]], -1), time, context.reads[7], context.masks[7], m[0], self.causal, self.skip_zero
        )
        return -h[:, :steps]


def _halves(mask: Tensor | None, more: int) -> list[Tensor | None]:
    """The mask at the four resolutions, `more` steps of padding added."""
    if mask is None:
        return [None] * 4
    whole = F.pad(mask, (0, more))
    return [whole[..., :: 2**i] for i in range(4)]


class Block(nn.Module):
    """Transformer block modulated by a vector (adaLN-Zero); with `cross`, it attends to a memory in between."""

    def __init__(self, features: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.features, self.heads = features, heads
        self.qkv, self.out = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.query = nn.Linear(features, features) if cross else None
        self.read = nn.Linear(features, 2 * features) if cross else None
        self.cross_out = nn.Linear(features, features) if cross else None
        self.modulate = nn.Linear(features, (9 if cross else 6) * features)

    def forward(
        self, x: Tensor, m: Sequence[Tensor], memory: Tensor | None, seen: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """m: shift, scale and gate (B, 1, D) of each part; memory: keys and values (B, S, 2D)."""
        q, k, v = self.qkv(_shifted(x, m[0], m[1])).chunk(3, -1)
        x = torch.addcmul(x, m[2], self.out(attend(q, k, v, self.heads, mask)))
        if self.query is not None and self.cross_out is not None and memory is not None:
            q = self.query(_shifted(x, m[6], m[7]))
            k, v = memory.chunk(2, -1)
            x = torch.addcmul(x, m[8], self.cross_out(attend(q, k, v, self.heads, seen)))
        inner = F.gelu(self.up(_shifted(x, m[3], m[4])), approximate="tanh")
        return torch.addcmul(x, m[5], self.down(inner))


def _shifted(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


@dataclass(frozen=True)
class TransformerContext:
    mean: Tensor | None  # (B, D), added to the vector that modulates
    reads: list[Tensor | None]
    mask: Tensor | None


class DiT(nn.Module):
    """Noise in a stream by a transformer over its steps.

    set False, the published form: one condition, its mean over time added to the modulating vector. set True: every
    block attends to the steps of all streams at hand, marked by modality and position, any number of them; `target`
    numbers share one network.
    """

    def __init__(
        self, width: int, steps: int, features: int, depth: int, heads: int, modalities: int, whole_set: bool
    ) -> None:
        super().__init__()
        if features % heads:
            raise ConfigError(f"denoiser of {features} features cannot be split into {heads} heads of equal size")
        self.features, self.whole_set = features, whole_set
        self.enter, self.place = nn.Linear(width, features), nn.Parameter(torch.randn(steps, features))
        self.time = nn.ModuleList([nn.Linear(256, features), nn.Linear(features, features)])
        self.condition = nn.Linear(width, features)
        self.blocks = nn.ModuleList(Block(features, heads, whole_set) for _ in range(depth))
        self.modulate, self.last = nn.Linear(features, 2 * features), nn.Linear(features, features)
        self.leave = nn.Linear(features, width)
        if whole_set:
            self.kind = nn.Parameter(0.02 * torch.randn(modalities, features))
            self.aim = nn.Parameter(0.02 * torch.randn(modalities, features))
        for block in cast(list[Block], self.blocks):
            for layer in (x for x in block.children() if isinstance(x, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            nn.init.zeros_(block.modulate.weight)
        for layer in cast(list[nn.Linear], list(self.time)):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        if not whole_set:  # as published: what is said at first is the bias of `leave`
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def context(self, streams: Sequence[Tensor], masks: Masks, steps: int, target: int = 0) -> TransformerContext:
        """set False: of one stream. set True: of all M, those not at hand hidden by their masks; the target's own,
        which never is, is left out."""
        if not self.whole_set:
            (c,), (mask,) = streams, masks
            mean = c.mean(-2) if mask is None else masked_mean(c, mask)
            return TransformerContext(self.condition(mean), [None] * len(self.blocks), None)
        tokens = [
            self.condition(x) + self.kind[j] + sinusoids(x.shape[-2], self.features, x)
            for j, x in enumerate(streams)
            if j != target
        ]
        memory = F.layer_norm(torch.cat(tokens, -2), (self.features,))
        mask = torch.cat([m for j, m in enumerate(cast(list[Tensor], list(masks))) if j != target], -1)
        reads = [cast(nn.Linear, b.read)(memory) for b in cast(list[Block], self.blocks)]
        return TransformerContext(self.aim[target], cast(list[Tensor | None], reads), mask)

    def forward(self, x: Tensor, t: Tensor, context: Any, mask: Tensor | None) -> Tensor:
        vector = self._time(t)  # (B, D)
        if context.mean is not None:
            vector = vector + context.mean
        vector = F.silu(vector).unsqueeze(-2)
        h = self.enter(x) + fit(self.place.unsqueeze(0), x.shape[-2])
        for block, read in zip(cast(list[Block], self.blocks), context.reads):
            h = block(h, block.modulate(vector).chunk(9 if self.whole_set else 6, -1), read, context.mask, mask)
        shift, scale = self.modulate(vector).chunk(2, -1)
        out: Tensor = self.leave(self.last(_shifted(h, shift, scale)))
        return out

    def _time(self, t: Tensor) -> Tensor:
        w = torch.exp(torch.arange(128, dtype=t.dtype, device=t.device) * (-math.log(10000) / 128))
        angle = t.unsqueeze(-1) * w
        first, second = self.time
        out: Tensor = second(F.silu(first(torch.cat([angle.cos(), angle.sin()], -1))))
        return out


# --- reconstructor ----------------------------------------------------------------------------------------------------


class AttentionBlock(nn.Module):
    """Residual channel attention: two convolutions, then every channel scaled by a network of all channels' means."""

    def __init__(self, features: int, reduction: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv1d(features, features, 3, padding=1) for _ in range(2))
        few = max(features // reduction, 1)
        self.squeeze, self.excite = nn.Linear(features, few), nn.Linear(few, features)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, D, T), zero outside the mask (B, T)."""
        h = F.relu(self.first(x))
        h = h if mask is None else h.masked_fill(~mask.unsqueeze(-2), 0)
        h = self.second(h)
        mean = h.mean(-1) if mask is None else masked_mean(h.transpose(-1, -2), mask)
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(mean)))).unsqueeze(-1)
        h = torch.addcmul(x, h, scale)
        return h if mask is None else h.masked_fill(~mask.unsqueeze(-2), 0)


class Reconstructor(nn.Module):
    """A residual group of channel-attention blocks at twice the width: (B, T, d) to (B, T, d)."""

    def __init__(self, width: int, blocks: int = 20, reduction: int = 16) -> None:
        super().__init__()
        wide = 2 * width
        self.enter, self.leave = nn.Linear(width, wide), nn.Linear(wide, width)
        self.blocks = nn.ModuleList(AttentionBlock(wide, reduction) for _ in range(blocks))
        self.close = nn.Conv1d(wide, wide, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = hidden(self.enter(x), mask).transpose(-1, -2)
        skip = h
        for block in self.blocks:
            h = block(h, mask)
        h = skip + self.close(h)
        return hidden(self.leave(h.transpose(-1, -2)), mask)
