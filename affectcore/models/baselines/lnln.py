"""LNLN: language-dominated learning that mends the dominant modality first where it is incomplete [zhang2024towards].

| symbol | name | shape |
|---|---|---|
| U^0_m | `batch.features[m]` | (B, T_m, D_m) |
| H^1_m | `tokens[m]`, the learned tokens before a sequence after its encoder | (B, n, d) |
| w | `completeness` of the dominant modality, in (0, 1) | (B, 1) |
| H^1_p | proxy of the dominant modality, from the tokens of all others | (B, n, d) |
| H^1_d | (1 - w) H^1_p + w H^1_l, the corrected dominant tokens | (B, n, d) |
| H_hyper | hyper-modality tokens, fed by the others where the dominant ones ask | (B, n, d) |

Two or more modalities; `dominant` is one of them (ConfigError otherwise). In training the complete view is what the
batch observes; the incomplete view, which predicts, loses steps drawn from the step's noise: every sample and modality
has a rate of its own, 0 with probability `complete_share`, else uniform in [0, `hide_rate`). In evaluation nothing is
drawn. Losses: "completeness" (squared error of w), "adversarial" (a discriminator tells corrected tokens from those of
the complete view; the proxy is trained to deceive it), "reconstruction" (complete tokens from incomplete ones), "task"
(squared error for regression).
The code spares exactly half of the samples and draws rates once an epoch, but its steps' uniforms come from one seed
that is set again for every modality and epoch; here all is drawn anew. A hidden token is a zero vector, where the code
feeds [UNK] to its text encoder.

Differences from the published code (Haoyu-ha/LNLN, commit 80a052c), each with its switch, on in `author`, off in
`clean`:
1. `padded`: the encoders attend to padding and to missing steps; clean hides from attention what is not observed.
2. `reverse_all`: the gradient is reversed on the proxy itself, so that the proxy climbs the task loss and all others;
   clean reverses it on the way from the discriminator alone.
3. `attached_targets`: the complete view's tokens, which are the targets of the reconstruction and the discriminator's
   real examples, are trained to be easy targets; clean detaches them.
4. `drawn_completeness`: w is taught 1 minus the rate that was drawn; clean teaches the share of steps that are
   observed, which also counts what the data lack.
Without a switch: steps beyond the learned positions get none (the code stops there). The code's one drop-out rate is 0.

On the same weights and the same incomplete view, `author` and the published code, without drop-out, differ by 2e-7 in
the predictions, by 5e-7 in the loss and by 4e-7 of the largest entry in the gradient (float32, MOSI shape, aligned and
unaligned); computed in float64, by 3e-16, 0 and 5e-16. Both have 6,383,812 parameters on aligned MOSI and 6,483,012 on
unaligned MOSI.
What saves time and changes no value: one normalisation serves queries, keys and values, their three norms folded into
the projections; the last layer of an encoder of T + n steps is computed at the n tokens that are read; both views are
one batch; without gradient in `clean`, where the complete view needs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.views import hide_steps, joined
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import attend
from affectcore.nn.crossmodal import normalise
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide


@dataclass(frozen=True)
class Config:
    dominant: str = "text"  # the modality that the others serve; code: text
    width: int = 128  # d; code: 128
    tokens: int = 8  # n, tokens of a modality; code: 8
    heads: int = 8  # code: 8
    head_width: int = 64  # features of a head in the encoders; code: 64
    layers: int = 2  # of every encoder; the hyper-modality has one more; code: 2
    cross_layers: int = 2  # of the last fusion; code: MOSI 2, MOSEI 4
    complete_share: float = 0.5  # probability that a modality is spared in training; code: 0.5
    hide_rate: float = 1.0  # highest share of steps hidden in training, [0, 1]; code: 1
    ends: tuple[str, ...] = ("text",)  # modalities whose first and last step is never hidden; code: text
    completeness_weight: float = 0.9  # alpha; code: 0.9
    adversarial_weight: float = 0.8  # beta; code: 0.8
    reconstruction_weight: float = 0.1  # gamma; code: 0.1
    task_weight: float = 1.0  # sigma; code: 1
    padded: bool = False  # difference 1
    reverse_all: bool = False  # difference 2
    attached_targets: bool = False  # difference 3
    drawn_completeness: bool = False  # difference 4


@dataclass(frozen=True)
class LNLNOutput(Output):
    """tokens[m]: (B, n, d) of the incomplete view; completeness: w (B, 1). In training also, else None:
    true_completeness: what w is taught; complete and rebuilt: (B, M n, d); judged: (2 B n, 2) logits of the
    discriminator, corrected tokens first."""

    tokens: Mapping[str, Tensor]
    completeness: Tensor
    true_completeness: Tensor | None
    complete: Tensor | None
    rebuilt: Tensor | None
    judged: Tensor | None


def reverse(x: Tensor) -> Tensor:
    """Return x, whose gradient comes back with its sign changed."""
    return 2 * x.detach() - x


def folded(linear: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a linear map without bias after a norm, for features normalised without a map."""
    w, g, b = (cast(Tensor, t) for t in (linear.weight, norm.weight, norm.bias))
    return w * g, w @ b


class Attention(nn.Module):
    """Attention with a norm each for queries, keys and values: (B, T, d) over (B, S, d) to (B, T, d)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_width
        self.norm_q, self.norm_k, self.norm_v = (nn.LayerNorm(width) for _ in range(3))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """x, memory: normalised without an affine map; mask (B, S): keys that may be seen."""
        q = F.linear(x, *folded(self.to_q, self.norm_q))
        (wk, bk), (wv, bv) = folded(self.to_k, self.norm_k), folded(self.to_v, self.norm_v)
        k, v = F.linear(memory, torch.cat([wk, wv]), torch.cat([bk, bv])).chunk(2, -1)
        out: Tensor = self.out(attend(q, k, v, self.heads, mask))
        return out


class Layer(nn.Module):
    """Pre-norm attention and a two-layer GELU network, both with a residual."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, head_width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None, read: int | None = None) -> Tensor:
        """memory None: x attends to itself; read: return the first steps alone."""
        own = normalise(x)
        keys = own if memory is None else memory
        x, own = (x, own) if read is None else (x[..., :read, :], own[..., :read, :])
        x = x + self.attention(own, keys, mask)
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Encoder(nn.Module):
    """Learned tokens before the steps, learned positions, layers: (B, T, d) to (B, tokens + T, d)."""

    def __init__(self, frames: int, tokens: int, layers: int, config: Config) -> None:
        super().__init__()
        d = config.width
        self.positions = nn.Parameter(torch.randn(tokens + frames, d))
        self.tokens = nn.Parameter(torch.zeros(tokens, d)) if tokens else None
        self.layers = nn.ModuleList(Layer(d, config.heads, config.head_width) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, read: int | None = None) -> list[Tensor]:
        """Return the states before and after every layer, the last of them the first `read` steps alone."""
        if self.tokens is not None:
            tokens = self.tokens.expand(len(x), *self.tokens.shape)
            x = torch.cat([tokens, x], 1)
            if mask is not None:
                mask = torch.cat([torch.ones_like(tokens[..., 0], dtype=torch.bool), mask], 1)
        x = x + F.pad(self.positions, (0, 0, 0, max(0, x.shape[1] - len(self.positions))))[: x.shape[1]]
        states = [x]
        for i, layer in enumerate(self.layers):
            x = layer(x, None, mask, read if i == len(self.layers) - 1 else None)
            states.append(x)
        return states


class HyperLayer(nn.Module):
    """Hyper-modality tokens, normalised, plus what the dominant tokens find in each of the others."""

    def __init__(self, width: int, heads: int, others: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_dominant, self.norm_hyper = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(others))
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(others))
        self.to_v = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(others))
        self.out = nn.Linear(width, width)

    def forward(self, hyper: Tensor, dominant: Tensor, others: list[Tensor]) -> Tensor:
        q = self.to_q(self.norm_dominant(dominant))
        found = []
        for x, norm, to_k, to_v in zip(others, self.norms, self.to_k, self.to_v):
            x = norm(x)
            found.append(attend(q, to_k(x), to_v(x), self.heads))
        out: Tensor = self.norm_hyper(hyper) + self.out(torch.stack(found).sum(0))
        return out


class Fusion(nn.Module):
    """The dominant tokens attend to the hyper-modality; both begin with one token: (B, n, d) to (B, n + 1, d)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        n, d = config.tokens, config.width
        self.positions_source, self.positions = (nn.Parameter(torch.randn(n + 1, d)) for _ in range(2))
        self.token = nn.Parameter(torch.zeros(1, d))
        self.layers = nn.ModuleList(Layer(d, config.heads, config.head_width) for _ in range(config.cross_layers))

    def forward(self, source: Tensor, x: Tensor) -> Tensor:
        token = self.token.expand(len(x), *self.token.shape)
        memory = normalise(torch.cat([token, source], 1) + self.positions_source)
        x = torch.cat([token, x], 1) + self.positions
        for layer in self.layers:
            x = layer(x, memory, None)
        return x


class LNLN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        c, names = config, shape.modalities
        if c.dominant not in names or len(names) < 2:
            raise ConfigError(
                f"lnln: dominant {c.dominant!r} must be one of two or more modalities, got {', '.join(names)}"
            )
        if c.width % c.heads:
            raise ConfigError(f"lnln: width {c.width} cannot be split into {c.heads} heads of equal size")
        for name, value in (("hide_rate", c.hide_rate), ("complete_share", c.complete_share)):
            if not 0 <= value <= 1:
                raise ConfigError(f"lnln: {name} {value} must lie in [0, 1]")
        n, d, m = c.tokens, c.width, len(names)
        self.others = tuple(k for k in names if k != c.dominant)
        self.embed = nn.ModuleList(nn.Linear(k, d) for k in shape.dims.values())
        self.encode = nn.ModuleList(Encoder(t, n, c.layers, c) for t in shape.steps.values())
        self.proxy_start = nn.Parameter(torch.ones(n, d))
        self.proxy = Encoder(n * m, n, c.layers, c)
        self.check = Encoder(n, 1, c.layers, c)
        self.check_hidden, self.check_out = nn.Linear(d, d // 2), nn.Linear(d // 2, 1)
        self.judge_hidden, self.judge_out = nn.Linear(d, d // 2), nn.Linear(d // 2, 2)
        self.rebuild = nn.ModuleList(Encoder(n, 0, c.layers, c) for _ in names)
        self.hyper_start = nn.Parameter(torch.ones(n, d))
        self.language = Encoder(n, 0, c.layers, c)
        self.hyper = nn.ModuleList(HyperLayer(d, c.heads, len(self.others)) for _ in range(c.layers + 1))
        self.fusion = Fusion(c)
        self.last = nn.Linear(d, shape.task.outputs)

    def view(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Return the incomplete view of a training batch and the rates (B, 1) that were drawn."""
        c, rates = self.config, {}
        for m in batch.modalities:
            spared, rate = noise.uniform(len(batch), 2).chunk(2, -1)
            rates[m] = torch.where(spared < c.complete_share, 0.0, c.hide_rate * rate)
        return hide_steps(batch, noise, rates, c.ends), rates

    def _tokens(self, batch: Batch) -> dict[str, Tensor]:
        """Return H^1_m of every modality, (B, n, d)."""
        out = {}
        for m, embed, encode in zip(self.shape.modalities, self.embed, self.encode):
            mask = None if self.config.padded else batch.observed[m]
            x = batch.features[m] if mask is None else hide(batch.features[m], mask)
            out[m] = encode(embed(x), mask, self.config.tokens)[-1]
        return out

    def forward(self, batch: Batch, noise: Noise) -> LNLNOutput:
        c, names = self.config, self.shape.modalities
        n, complete, truth = c.tokens, {}, None
        if not noise.training:
            tokens = self._tokens(batch)
        else:
            view, rates = self.view(batch, noise)
            seen = view.observed[c.dominant].sum(-1, keepdim=True) / batch.lengths[c.dominant].unsqueeze(-1)
            truth = 1 - rates[c.dominant] if c.drawn_completeness else seen
            if c.attached_targets:
                both = self._tokens(joined(view, batch))
                tokens, complete = ({m: x.chunk(2)[i] for m, x in both.items()} for i in range(2))
            else:
                tokens = self._tokens(view)
                with torch.no_grad():
                    complete = self._tokens(batch)
        dominant, others = tokens[c.dominant], [tokens[m] for m in self.others]
        checked = self.check(dominant, None, 1)[-1].squeeze(1)  # (B, d)
        w = torch.sigmoid(self.check_out(F.leaky_relu(self.check_hidden(checked), 0.1)))  # (B, 1)
        start = self.proxy_start.expand(len(batch), *self.proxy_start.shape)
        proxy = self.proxy(torch.cat([start, *others], 1), None, n)[-1]
        backwards, share = reverse(proxy), w.unsqueeze(-1)
        corrected = (backwards if c.reverse_all else proxy) * (1 - share) + dominant * share
        states = self.language(corrected)
        hyper = self.hyper_start.expand(len(batch), *self.hyper_start.shape)
        for layer, state in zip(self.hyper, states):
            hyper = layer(hyper, state, others)
        y = self.last(self.fusion(hyper, states[-1])[:, 1:].mean(1))
        y = as_prediction(self.shape.task, y)
        if not noise.training:
            return LNLNOutput(y, tokens, w, None, None, None, None)
        tried = torch.cat([backwards * (1 - share) + dominant * share, complete[c.dominant]]).flatten(0, 1)
        judged = self.judge_out(F.leaky_relu(self.judge_hidden(tried), 0.1))
        rebuilt = torch.cat([layer(tokens[m])[-1] for m, layer in zip(names, self.rebuild)], 1)
        return LNLNOutput(y, tokens, w, truth, torch.cat([complete[m] for m in names], 1), rebuilt, judged)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        """Return "task" and, in training, "completeness", "adversarial" and "reconstruction"."""
        assert isinstance(output, LNLNOutput)
        task, y = self.shape.task, output.prediction
        squared = task.kind == "regression"
        terms = {"task": F.mse_loss(y, batch.target) if squared else task_loss(task, y, batch.target)}
        if output.true_completeness is not None and output.complete is not None:
            assert output.rebuilt is not None
            assert output.judged is not None
            terms["completeness"] = F.mse_loss(output.completeness, output.true_completeness.to(y.dtype))
            corrected, complete = output.judged.log_softmax(-1).chunk(2)
            terms["adversarial"] = -(corrected[:, 1].mean() + complete[:, 0].mean()) / 2
            terms["reconstruction"] = F.mse_loss(output.rebuilt, output.complete)
        return terms, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c = self.config
        return {
            "task": c.task_weight,
            "completeness": c.completeness_weight,
            "adversarial": c.adversarial_weight,
            "reconstruction": c.reconstruction_weight,
        }


CLEAN = Config()
AUTHOR = replace(CLEAN, padded=True, reverse_all=True, attached_targets=True, drawn_completeness=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
