"""MCTN, Multimodal Cyclic Translation Network: a source modality learns by being translated [pham2019found].

The source is encoded, translated into a second modality and back with the same network; what the encoder says is
encoded again and translated into a third. The last encoding is the joint representation that the prediction is read
from. Translating needs the other modalities in training alone: a prediction needs nothing but the source.

| symbol | name | shape |
|---|---|---|
| X_s | source, zeros appended to the widest modality's features | (B, T, W) |
| E_1 | encoding of X_s, both directions of an LSTM summed; E_k encodes E_{k-1} | (B, T, H) |
| X^_t | translation of E_1 into the first target, step by step with attention to E_1 | (B, T, W) |
| X^_s | translation of the encoding of X^_t back into the source, same encoder and decoder | (B, T, W) |
| X^_k | translation of E_k into the k-th target | (B, T, W) |
| E_K | `joint`, read by an LSTM and attention over its steps | (B, T, H) |

Losses: "task"; "translation", "cycle" and "further", mean squared errors of X^_t, X^_s and of all X^_k, k > 1.
Targets follow the source in reversed order of the data's modalities (text: vision, then audio). Two modalities have no
third and no "further"; one alone cannot be translated (ConfigError).

Which source. The published model reads text alone: whatever happens to the others changes no prediction, and without
text it is a constant. Clean trains one such chain for every modality, each on the samples that have it, and averages
the predictions of those that a sample has (`sources`); a sample with one modality is read by that one's chain.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `batch_as_time`: batches come as (B, T, W) into layers that expect time first. Encoders, decoders and attention run
   along the samples of a batch: a prediction depends on the samples before and after it. Only the last attention is
   over time.
2. `padded`: padded steps and appended features are encoded, translated and count in the means; the width of 768
   makes the error of 20 visual features 38 times smaller.
3. `restart`: the decoder's LSTM has two directions and starts every step from zero, so its recurrent weights are never
   used (16,384 numbers); only the attention's query passes on. Clean carries the state of one direction, which starts
   at the encoder's last.
4. `teacher_forcing` 1: the code draws a share of .5, but feeds the true step in both cases. Clean feeds the model's own
   step half of the time, and wherever the target is missing.
5. `first_step`: the true first step is fed first, step 0 of a translation stays zero, which the cycle then encodes.
6. `sources` ("text",), see above.
Without a switch: the code cuts sequences after 50 steps and wants equal lengths; here all are padded to the longest.
On the same weights (MOSI dimensions, 7 samples of 10 steps) `author` and the published code differ in float64 by 2e-17
in predictions, 0 in the total loss and 3e-15 of the largest entry in gradients; in float32 by 2e-8, 6e-8 and 2e-6.
Both have 763,778 parameters.
What saves time and changes no value: input products of all steps are taken at once, as are the decoder's outputs; a
step that is fed back enters the gates through the product of both maps, so that its 768 features are never formed in
the loop; keys of the attention are projected once. In evaluation nothing is translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import masked_softmax
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    hidden: int = 32  # H; code 32
    translation_weight: float = 0.1  # of "translation", "cycle" and "further" each; code 0.1
    sources: tuple[str, ...] = ()  # difference 6; () for every modality
    batch_as_time: bool = False  # difference 1
    padded: bool = False  # difference 2
    restart: bool = False  # difference 3
    teacher_forcing: float = 0.5  # difference 4, in [0, 1]: share of steps at which the true step before is fed
    first_step: bool = False  # difference 5


@dataclass(frozen=True)
class MCTNOutput(Output):
    """joint[s]: (B, T, H) by source, with samples first in every preset; by_source[s]: its prediction; present: (B, S)
    bool; errors: the translation losses, in training alone."""

    joint: Mapping[str, Tensor]
    by_source: Mapping[str, Tensor]
    present: Tensor
    errors: Mapping[str, Tensor] = field(default_factory=dict)


def halves(x: Tensor) -> Tensor:
    """Return the sum of both directions, (..., 2H) to (..., H)."""
    a, b = x.chunk(2, -1)
    return a + b


def weights_of(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores.softmax(-1) if mask is None else masked_softmax(scores, mask)


class Encoder(nn.Module):
    """(B, T, D) and the mask of steps (None: all) to the encoding (B, T, H) and the decoder's first state (B, H)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.rnn, self.start = LSTM(features, hidden, True), nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        states, last = self.rnn(x, mask)
        return halves(states), torch.tanh(self.start(halves(last)))


class Decoder(nn.Module):
    """Translate an encoding step by step, with additive attention whose query is the state."""

    def __init__(self, features: int, hidden: int, restart: bool) -> None:
        super().__init__()
        self.mix, self.score = nn.Linear(2 * hidden, hidden, bias=False), nn.Linear(hidden, 1, bias=False)
        self.rnn = LSTM(features + hidden, hidden, restart)
        self.out = nn.Linear(2 * hidden, features)
        self.restart = restart

    def forward(
        self, memory: Tensor, state: Tensor, mask: Tensor | None, inputs: Tensor, forced: Tensor | None
    ) -> Tensor:
        """memory (B, S, H), state (B, H), mask (B, S); inputs (B, T, W), forced (B, T): where they are used instead of
        the model's own last step (None: everywhere); returns (B, T, W)."""
        w, bias = self._input_map()
        w_step, w_context = w.split([inputs.shape[-1], memory.shape[-1]], 1)
        fold, fold_bias = w_step @ self.out.weight, w_step @ self.out.bias + bias  # from [state; context] to gates
        w_state, w_memory = self.mix.weight.chunk(2, 1)
        keys, gates = F.linear(memory, w_memory), F.linear(inputs, w_step, bias).unbind(1)
        cell = torch.zeros_like(state)
        found: list[Tensor] = []
        for t, gate in enumerate(gates):
            energy = torch.tanh(F.linear(state, w_state).unsqueeze(1) + keys)  # (B, S, H)
            weights = weights_of(self.score(energy).squeeze(-1), mask)
            context = (weights.unsqueeze(-2) @ memory).squeeze(-2)
            if forced is not None and t:
                gate = torch.where(forced[:, t : t + 1], gate, F.linear(found[-1], fold, fold_bias))
            gate = gate + F.linear(context, w_context)
            if self.restart:
                i, _, g, o = gate.unflatten(-1, (2, -1)).chunk(4, -1)
                state = (torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))).sum(-2)
            else:
                i, f, g, o = (gate + F.linear(state, cast(Tensor, self.rnn.weight_hh_l0))).chunk(4, -1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                state = torch.sigmoid(o) * torch.tanh(cell)
            found.append(torch.cat([state, context], -1))
        out: Tensor = self.out(torch.stack(found, 1))
        return out

    def _input_map(self) -> tuple[Tensor, Tensor]:
        """Return the weight and bias that take [step; context] to the gates of all directions."""
        names = ("l0", "l0_reverse") if self.restart else ("l0",)
        w = [cast(Tensor, getattr(self.rnn, f"weight_ih_{n}")) for n in names]
        b = [cast(Tensor, getattr(self.rnn, f"bias_ih_{n}") + getattr(self.rnn, f"bias_hh_{n}")) for n in names]
        return torch.cat(w), torch.cat(b)


class Chain(nn.Module):
    """All networks of one source."""

    def __init__(self, config: Config, width: int, targets: int, outputs: int) -> None:
        super().__init__()
        h = config.hidden
        self.encoders = nn.ModuleList(Encoder(h if k else width, h) for k in range(targets))
        self.decoders = nn.ModuleList(Decoder(width, h, config.restart) for _ in range(targets))
        self.rnn, self.score, self.last = LSTM(h, h), nn.Linear(h, 1), nn.Linear(h, outputs)


class MCTN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names = shape.modalities
        if len(names) < 2:
            raise ConfigError(f"mctn: needs two modalities or more to translate, got {', '.join(names)} alone")
        unknown = [s for s in config.sources if s not in names]
        if unknown:
            raise ConfigError(f"mctn: source {unknown[0]!r} is unknown, the data have {', '.join(names)}")
        if not 0 <= config.teacher_forcing <= 1:
            raise ConfigError(f"mctn: teacher_forcing = {config.teacher_forcing} must lie in [0, 1]")
        self.sources = config.sources or names
        self.width = max(shape.dims.values())
        self.chains = nn.ModuleList(Chain(config, self.width, len(names) - 1, shape.task.outputs) for _ in self.sources)

    def forward(self, batch: Batch, noise: Noise) -> MCTNOutput:
        names = self.shape.modalities
        x, masks = self._sequences(batch)
        joint, by_source = {}, {}
        errors: dict[str, list[Tensor]] = {"translation": [], "cycle": [], "further": []}
        for source, chain in zip(self.sources, cast(list[Chain], self.chains)):
            first, *others = [m for m in reversed(names) if m != source]
            encode, decode = cast(list[Encoder], chain.encoders), cast(list[Decoder], chain.decoders)
            memory, state = encode[0](x[source], masks[source])
            if noise.training:
                found = self._translate(decode[0], memory, state, masks[source], x[first], masks[first], noise)
                errors["translation"].append(self._error(found, x[first], masks[first], first))
                back, state = encode[0](found, masks[first])
                found = self._translate(decode[0], back, state, masks[first], x[source], masks[source], noise)
                errors["cycle"].append(self._error(found, x[source], masks[source], source, masks[first]))
            for k, m in enumerate(others, 1):
                memory, state = encode[k](memory, masks[source])
                if noise.training:
                    found = self._translate(decode[k], memory, state, masks[source], x[m], masks[m], noise)
                    errors["further"].append(self._error(found, x[m], masks[m], m))
            joint[source], by_source[source] = self._read(chain, memory, masks[source])
        present = torch.stack([batch.observed[s].any(-1) for s in self.sources], -1)
        share = present | ~present.any(-1, keepdim=True)
        every = torch.stack(list(by_source.values()), -1)  # (B, [C,] S)
        share = (share if every.ndim == 2 else share.unsqueeze(-2)).to(every.dtype)
        prediction = (every * share).sum(-1) / share.sum(-1)
        means = {k: torch.stack(v).sum() / len(self.sources) for k, v in errors.items() if v}
        return MCTNOutput(prediction, joint, by_source, present, means)

    def _sequences(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
        """Return every modality at the longest length and the largest width, and its observed steps."""
        longest = max(x.shape[-2] for x in batch.features.values())
        x: dict[str, Tensor] = {}
        masks: dict[str, Tensor | None] = {}
        for m, v in batch.features.items():
            room = longest - v.shape[-2]
            v = v if self.config.padded else hide(v, batch.observed[m])
            x[m] = F.pad(v, (0, self.width - v.shape[-1], 0, room))
            mask = F.pad(batch.observed[m], (0, room))
            if self.config.batch_as_time:
                x[m], mask = x[m].transpose(0, 1), mask.t()
            masks[m] = None if self.config.padded else mask
        return x, masks

    def _translate(
        self,
        decoder: Decoder,
        memory: Tensor,
        state: Tensor,
        mask: Tensor | None,
        target: Tensor,
        known: Tensor | None,
        noise: Noise,
    ) -> Tensor:
        """Return the translation (B, T, W) of an encoding; the target is fed where it is known and drawn to be."""
        n, steps = target.shape[:2]
        if self.config.first_step:
            inputs = target[:, :-1]
            if steps == 1:
                return torch.zeros_like(target)
        else:
            inputs = F.pad(target[:, :-1], (0, 0, 1, 0))
        forced = None
        if self.config.teacher_forcing < 1:
            forced = noise.uniform(n, inputs.shape[1]) < self.config.teacher_forcing
        if known is not None:
            fed = known[:, :-1] if self.config.first_step else F.pad(known[:, :-1], (1, 0), value=True)
            forced = fed if forced is None else forced & fed
        found = decoder(memory, state, mask, inputs, forced)
        return F.pad(found, (0, 0, 1, 0)) if self.config.first_step else found

    def _error(
        self, found: Tensor, target: Tensor, known: Tensor | None, modality: str, via: Tensor | None = None
    ) -> Tensor:
        """Return the mean squared error where the target is known (and, for samples, something of `via`)."""
        if known is None:
            return (found - target).square().mean()
        d = self.shape.dims[modality]
        weight = known if via is None else known & via.any(-1, keepdim=True)
        error = hide((found[..., :d] - target[..., :d]).square(), weight).sum() / d
        return error / weight.sum().clamp(min=1)

    def _read(self, chain: Chain, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the joint representation, samples first, and the prediction read from it."""
        states, _ = chain.rnn(memory, mask)
        if self.config.batch_as_time:
            states, memory = states.transpose(0, 1), memory.transpose(0, 1)
            mask = None if mask is None else mask.t()
        weights = weights_of(torch.tanh(chain.score(states).squeeze(-1)), mask)
        pooled = (weights.unsqueeze(-2) @ states).squeeze(-2)  # (B, H)
        return memory, as_prediction(self.shape.task, chain.last(pooled))

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        if not isinstance(output, MCTNOutput):
            raise TypeError("mctn needs its own output")
        terms = []
        for i, y in enumerate(output.by_source.values()):
            weight = None if self.config.padded else output.present[:, i].to(y.dtype)
            terms.append(task_loss(self.shape.task, y, batch.target, weight))
        return {"task": torch.stack(terms).mean(), **output.errors}, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        names = ("translation", "cycle", "further")[: 3 if len(self.shape.dims) > 2 else 2]
        return dict.fromkeys(names, self.config.translation_weight)


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    sources=("text",),
    batch_as_time=True,
    padded=True,
    restart=True,
    teacher_forcing=1.0,
    first_step=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
