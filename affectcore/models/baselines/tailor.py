"""TAILOR: private and shared parts of every modality, joined step by step, read by label queries [zhang2022tailor].

| symbol | name | shape |
|---|---|---|
| | `private`, `shared`: what a modality has alone, and in common with the others | (B, T_m, d) each |
| | `common`, the sum of the shared parts, step by step | (B, T, d) |
| | three stacks: all but text, then text in front, then `common` behind | (B, sum of T, d) |
| | labels attend to one another and to the last stack; one weight vector scores all | (B, q) |

Losses: "cls" BCE; "adv", a discriminator of modalities on private parts, and on shared parts with reversed gradient;
"orth", squares of all products of private parts with one another and with their shared parts; "shared", BCE of a
classifier of `common`. "text" leads; without it the first modality does. Two or more modalities (ConfigError for one);
single_label and regression as in `affectcore.models.lddu`.

Differences from the published code, each with its switch, on in `author`, off in `clean`:
1. `padded`: its masks are all ones, so that the padding is attended to and counts in every loss.
2. `logit_dropout`: logits are dropped, which makes a probability 1/2.
3. `first_step`: the classifier of `common` reads the first step; clean: the mean of the observed.
4. `attention_dropout`: clean draws none, for time.
Without a switch: six poolers that nothing reads (394,752 parameters) and the LSTM and CTC loss for unaligned data are
left out; here sequences go in as they are, and `common` adds what stands at the same place. Places in a joint sequence
are counted by the data's longest sequences, so that a shorter batch keeps them.
On the same weights and batch (published shape, 6 samples, no drop-out) `author` and the published code differ in
float64 by at most 6e-10 in the loss and in probabilities and 1e-9 in gradients (its input norms are in float32).
Parameters of `author` at the published shape: 10,403,900, with the poolers 10,798,652.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import MultiheadAttention
from affectcore.nn.labels import as_labels, from_log_odds
from affectcore.nn.pooling import hide, masked_mean
from affectcore.nn.transformer import EPS, PostNormLayer, Transformer, check_positions, start


@dataclass(frozen=True)
class Config:
    width: int = 256  # d, a multiple of `heads`
    heads: int = 8
    layers_text: int = 6
    layers: int = 4  # of the other modalities
    joint_layers: int = 3  # of each stack
    decoder_layers: int = 1
    feedforward: int = 256
    positions: int = 512  # most steps of a modality; code 60
    joint_positions: int = 2048  # most steps of all modalities and `common`; code 240
    dropout: float = 0.3
    attention_dropout: float = 0.0  # difference 4
    private_dropout: float = 0.1  # of private parts and of the discriminator
    shared_dropout: float = 0.3
    logit_dropout: float = 0.0  # difference 2
    padded: bool = False  # difference 1
    first_step: bool = False  # difference 3
    adv_weight: float = 0.01
    orth_weight: float = 5e-6
    shared_weight: float = 0.5


@dataclass(frozen=True)
class TailorOutput(Output):
    """private, shared: by modality (B, T_m, d), masks of the same (B, T_m); adversary: logits of the modality (B, T_m,
    M) from private and from shared parts; common_logit: (B, q).
    """

    logit: Tensor
    private: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    adversary: tuple[tuple[Tensor, Tensor], ...]
    common_logit: Tensor


class Joint(nn.Module):
    """Steps of several sequences with learned places and kinds through post-norm layers."""

    def __init__(self, config: Config, kinds: int) -> None:
        super().__init__()
        d = config.width
        self.positions = nn.Parameter(torch.randn(config.joint_positions, d) * 0.02)
        self.kinds = nn.Parameter(torch.randn(kinds, d) * 0.02)
        self.norm = nn.LayerNorm(d, EPS)
        self.layers = nn.ModuleList(
            PostNormLayer(d, config.heads, config.feedforward) for _ in range(config.joint_layers)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, places: Tensor, kinds: Tensor, noise: Noise, p: tuple[float, float]
    ) -> Tensor:
        """x (B, S, d); places, kinds: (S,) int64; p: drop-out, and of attention weights."""
        x = noise.dropout(self.norm(x + self.positions[places] + self.kinds[kinds]), p[0])
        for layer in self.layers:
            x = layer(x, mask, noise, *p)
        return x


class DecoderLayer(nn.Module):
    """Labels attend to one another, then to a memory, then a two-layer network: (B, q, d) to the same."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.width
        self.among, self.cross = MultiheadAttention(d, config.heads), MultiheadAttention(d, config.heads)
        self.up, self.down = nn.Linear(d, config.feedforward), nn.Linear(config.feedforward, d)
        self.norms = nn.ModuleList(nn.LayerNorm(d, EPS) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None, noise: Noise, p: tuple[float, float]) -> Tensor:
        first, second, third = self.norms
        x = first(x + noise.dropout(self.among(x, x, None, noise, p[1]), p[0]))
        x = second(x + noise.dropout(self.cross(x, memory, mask, noise, p[1]), p[0]))
        out: Tensor = third(x + noise.dropout(self.down(F.gelu(self.up(x))), p[0]))
        return out


class Tailor(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, d, q = shape.modalities, config.width, shape.task.outputs
        if len(names) < 2:
            raise ConfigError(f"tailor: needs two modalities or more to tell apart, got {', '.join(names)} alone")
        check_positions("tailor", config.positions, dict(shape.steps))
        total = sum(shape.steps.values()) + max(shape.steps.values())
        if total > config.joint_positions:
            raise ConfigError(f"tailor: {total} steps together, more than joint_positions {config.joint_positions}")
        lead = names.index("text") if "text" in names else 0
        self.order = (lead, *(i for i in range(len(names)) if i != lead))  # the leading modality, then the others
        self.norms = nn.ModuleList(nn.LayerNorm(n, EPS) for n in shape.dims.values())
        self.encoders = nn.ModuleList(
            Transformer(
                n, d, config.heads, config.layers_text if m == "text" else config.layers, config.feedforward,
                config.positions,
            )
            for m, n in shape.dims.items()
        )  # fmt: skip
        self.private = nn.ModuleList(nn.Linear(d, d) for _ in names)
        self.shared = nn.Linear(d, d)
        self.adversary = nn.ModuleList([nn.Linear(d, d // 2), nn.Linear(d // 2, len(names))])
        self.others, self.all, self.last = (Joint(config, k) for k in (max(2, len(names) - 1), 2, 2))
        self.labels = nn.Parameter(torch.randn(q, d) * 0.02)
        self.label_norm = nn.LayerNorm(d, EPS)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.score = nn.Linear(d, 1)
        self.common = nn.Linear(d, q)
        start(self)

    def forward(self, batch: Batch, noise: Noise) -> TailorOutput:
        config = self.config
        p = config.dropout, config.attention_dropout
        private, shared, masks = [], [], []
        for (m, x), norm, encoder, own in zip(batch.features.items(), self.norms, self.encoders, self.private):
            seen = torch.ones_like(batch.observed[m]) if config.padded else batch.observed[m]
            mask = None if config.padded else seen
            steps = encoder(norm(hide(x, seen)), mask, noise, *p)
            private.append(noise.dropout(own(steps), config.private_dropout).tanh())
            shared.append(noise.dropout(self.shared(steps), config.shared_dropout).tanh())
            masks.append(seen)
        longest = max(x.shape[1] for x in private)
        common = torch.stack([F.pad(hide(x, s), (0, 0, 0, longest - x.shape[1])) for x, s in zip(shared, masks)]).sum(0)
        exists = torch.stack([F.pad(s, (0, longest - s.shape[1])) for s in masks]).any(0)
        memory, mask = self._join(private, masks, common, exists, noise, p)
        labels = noise.dropout(self.label_norm(self.labels).expand(len(batch), -1, -1), config.dropout)
        for layer in self.decoder:
            labels = layer(labels, memory, mask, noise, p)
        logit = noise.dropout(self.score(labels).squeeze(-1), config.logit_dropout)
        pooled = common[:, 0] if config.first_step else masked_mean(common, exists)
        common_logit = noise.dropout(self.common(pooled), config.logit_dropout)
        adversary = tuple(
            (self._tell(x, noise), self._tell(2 * y.detach() - y, noise)) for x, y in zip(private, shared)
        )  # the gradient of 2 y' - y, y' constant, is that of y reversed
        return TailorOutput(
            from_log_odds(self.shape.task, logit), logit, tuple(private), tuple(shared), tuple(masks), adversary,
            common_logit,
        )  # fmt: skip

    def _tell(self, x: Tensor, noise: Noise) -> Tensor:
        first, second = self.adversary
        out: Tensor = second(F.relu(noise.dropout(first(x), self.config.private_dropout)))
        return out

    def _join(
        self, private: list[Tensor], masks: list[Tensor], common: Tensor, exists: Tensor, noise: Noise,
        p: tuple[float, float],
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Return all steps after the three stacks, and which may be seen."""
        steps, (lead, *rest), device = list(self.shape.steps.values()), self.order, common.device
        sizes = [steps[i] for i in rest]
        parts = [private[i] for i in rest]

        def places(parts: list[Tensor], sizes: list[int]) -> Tensor:
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            each = [torch.arange(s, s + x.shape[1], device=device) for s, x in zip(starts, parts)]
            return torch.cat(each).clamp(max=self.config.joint_positions - 1)  # more steps than the data's are padding

        def kinds(parts: list[Tensor]) -> Tensor:
            return torch.cat([torch.full((x.shape[1],), k, device=device) for k, x in enumerate(parts)])

        def may(parts: list[Tensor]) -> Tensor | None:
            return None if self.config.padded else torch.cat(parts, 1)

        seen = [masks[i] for i in rest]
        at = places(parts, sizes)
        x = self.others(torch.cat(parts, 1), may(seen), at, kinds(parts), noise, p)
        parts, sizes, seen = [private[lead], x], [steps[lead]], [masks[lead], *seen]
        at = torch.cat([places(parts[:1], sizes), at + steps[lead]]).clamp(max=self.config.joint_positions - 1)
        x = self.all(torch.cat(parts, 1), may(seen), at, kinds(parts), noise, p)
        parts, seen = [x, common], [*seen, exists]
        behind = torch.arange(common.shape[1], device=device) + sum(steps)
        at = torch.cat([at, behind]).clamp(max=self.config.joint_positions - 1)
        return self.last(torch.cat(parts, 1), may(seen), at, kinds(parts), noise, p), may(seen)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, TailorOutput)
        o, n = output, len(self.shape.dims)
        y = as_labels(self.shape.task, batch.target, o.logit)
        terms = {"cls": F.binary_cross_entropy_with_logits(o.logit, y)}
        if self.config.adv_weight > 0:
            each = [_told(x, i, s) for i, (both, s) in enumerate(zip(o.adversary, o.masks)) for x in both]
            terms["adv"] = torch.stack(each).sum()
        if self.config.orth_weight > 0:
            own, common = ([hide(x, s) for x, s in zip(parts, o.masks)] for parts in (o.private, o.shared))
            pairs = [(own[i], own[j]) for i in range(n) for j in range(i)] + list(zip(own, common))
            each = [(a @ b.transpose(-1, -2)).square().sum((1, 2)).mean() for a, b in pairs]
            terms["orth"] = torch.stack(each).sum()
        if self.config.shared_weight > 0:
            terms["shared"] = F.binary_cross_entropy_with_logits(o.common_logit, y)
        return terms, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c = self.config
        out = {"adv": c.adv_weight, "orth": c.orth_weight, "shared": c.shared_weight}
        return {k: v for k, v in out.items() if v > 0}


def _told(logits: Tensor, modality: int, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of a modality over the steps of mask, 0 where there is none."""
    loss = -logits.log_softmax(-1)[..., modality]
    return (loss * mask).sum() / mask.sum().clamp(min=1)


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    padded=True,
    positions=60,
    joint_positions=240,
    attention_dropout=0.3,
    logit_dropout=0.1,
    first_step=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
