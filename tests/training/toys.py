"""Small models that between them use every part of the model contract, and small data to train them on."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import AffectData, Batch, Task
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.nn.losses import task_loss

TASKS = {
    "regression": Task("regression", ("sentiment",)),
    "single_label": Task("single_label", ("a", "b", "c")),
    "multi_label": Task("multi_label", ("x", "y", "z")),
}


def toy_data(kind: str = "single_label", n: int = 60, steps: int = 5, seed: int = 0) -> AffectData:
    """Two modalities, learnable, with lengths and hidden steps; splits of 2/3, 1/6, 1/6."""
    rng = np.random.default_rng(seed)
    text, audio = rng.normal(size=(n, steps, 4)), rng.normal(size=(n, steps, 3))
    length = rng.integers(1, steps + 1, n)
    exists = np.arange(steps) < length[:, None]
    observed = exists & (rng.random((n, steps)) < 0.9)
    signal = (text * observed[..., None]).sum(1)[:, :3] + 0.3 * rng.normal(size=(n, 3))
    target = {
        "regression": np.clip(signal[:, 0], -3, 3).astype(np.float32),
        "single_label": signal.argmax(1),
        "multi_label": (signal > 0).astype(np.float32),
    }[kind]
    rows = rng.permutation(n)
    cuts = np.split(rows, [n * 2 // 3, n * 5 // 6])
    return AffectData(
        "toy",
        TASKS[kind],
        {"text": text, "audio": audio},
        target,
        dict(zip(("train", "valid", "test"), cuts)),
        lengths={"text": length},
        observed={"text": observed},
    )


@dataclass(frozen=True)
class ToyConfig:
    width: int = 6
    dropout: float = 0.2


def pooled(batch: Batch) -> Tensor:
    """Mean over observed steps of every modality, side by side."""
    parts = []
    for m, x in batch.features.items():
        seen = batch.observed[m].to(x.dtype)
        parts.append((x * seen.unsqueeze(-1)).sum(-2) / seen.sum(-1, keepdim=True).clamp(min=1))
    return torch.cat(parts, -1)


class Toy(AffectModel):
    def __init__(self, config: ToyConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.encoder = nn.Linear(sum(shape.dims.values()), config.width)
        self.head = nn.Linear(config.width, shape.task.outputs)

    def finish(self, h: Tensor) -> Output:
        y = self.head(h)
        return Output(y.squeeze(-1) if self.shape.task.kind == "regression" else y)

    def forward(self, batch: Batch, noise: Noise) -> Output:
        return self.finish(noise.dropout(F.relu(self.encoder(pooled(batch))), self.config.dropout))


class Attention(Toy):
    """Explicit attention over one modality, drop-out on the sequence (noise per step), an unused parameter."""

    def __init__(self, config: ToyConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.project = nn.Linear(shape.dims["text"], 3 * config.width)
        self.norm = nn.LayerNorm(config.width)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, batch: Batch, noise: Noise) -> Output:
        x = noise.dropout(batch.features["text"], self.config.dropout)
        q, k, v = self.project(x).chunk(3, -1)
        mask = batch.observed["text"].unsqueeze(-2)
        weights = (q @ k.transpose(-1, -2) / self.config.width**0.5).masked_fill(~mask, -1e4).softmax(-1)
        return self.finish(self.norm((weights @ v).mean(-2) + self.encoder(pooled(batch))))


@dataclass(frozen=True)
class QueueOutput(Output):
    features: Tensor


class Queue(Toy):
    """Batch norm and a queue: running statistics, a returned memo, an extra weighted loss; sampled latent noise."""

    def __init__(self, config: ToyConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.bn = nn.BatchNorm1d(config.width)
        self.register_buffer("queue", torch.zeros(24, config.width))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, noise: Noise) -> QueueOutput:
        h = F.relu(self.bn(self.encoder(pooled(batch))))
        h = h + 0.1 * noise.normal(*h.shape) + 0.1 * noise.uniform(*h.shape)
        return QueueOutput(self.finish(noise.dropout(h, self.config.dropout)).prediction, h)

    def losses(self, output: QueueOutput, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        terms, _ = super().losses(output, batch, progress)
        near = (output.features @ self.queue.T).square().mean()
        return {**terms, "spread": near}, {"rows": output.features.detach()}

    def weights(self, progress: Progress) -> dict[str, float]:
        return {"spread": 0.1 * progress.fraction}

    def remember(self, memo: Memo) -> None:
        n = len(memo["rows"])
        i = (self.at + torch.arange(n)) % len(self.queue)
        here = F.one_hot(i, len(self.queue)).to(memo["rows"].dtype)
        self.queue.copy_(self.queue * (1 - here.sum(0)).unsqueeze(-1) + here.T @ memo["rows"])
        self.at.copy_((self.at + n) % len(self.queue))


class Scalar(Toy):
    """A learned temperature, a parameter without dimension."""

    def __init__(self, config: ToyConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, batch: Batch, noise: Noise) -> Output:
        h = torch.tanh(self.temperature * self.encoder(pooled(batch)))
        return self.finish(noise.dropout(h, self.config.dropout))


@dataclass(frozen=True)
class TwoOutput(Output):
    rebuilt: Tensor
    source: Tensor


class TwoStage(Toy):
    """A decoder trained in a stage of its own, then the rest; tied weights and a frozen parameter."""

    def __init__(self, config: ToyConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.decoder = nn.Linear(config.width, sum(shape.dims.values()))
        self.twin = self.encoder  # one module under two names
        self.other = nn.Linear(self.encoder.in_features, config.width)
        self.other.weight = self.encoder.weight  # one parameter in two modules
        self.frozen = nn.Parameter(torch.randn(config.width), requires_grad=False)

    def stages(self) -> tuple[Stage, ...]:
        task = Stage("task", ("encoder", "head", "other.bias"), ("task", "rebuild"))
        return Stage("rebuild", ("decoder",), ("rebuild",)), task

    def forward(self, batch: Batch, noise: Noise) -> TwoOutput:
        x = pooled(batch)
        h = noise.dropout(torch.tanh(self.encoder(x) + self.twin(x) + self.other(x)), self.config.dropout) + self.frozen
        return TwoOutput(self.finish(h).prediction, self.decoder(h), x)

    def losses(self, output: TwoOutput, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        return {
            "task": task_loss(self.shape.task, output.prediction, batch.target),
            "rebuild": F.mse_loss(output.rebuilt, output.source),
        }, {}


class TwoPass(Toy):
    """A teacher's and a student's step on the same weights: one optimiser, gradients kept, the teacher's state handed.

    The student sees half of the features and is drawn to the hidden state that the teacher had before its step.
    """

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("teacher", losses=("task",), optimizer="both", hands=("teacher",)),
            Stage("student", optimizer="both", keep_gradients=True),
        )

    def hidden(self, batch: Batch, noise: Noise) -> Tensor:
        return noise.dropout(torch.tanh(self.encoder(pooled(batch))), self.config.dropout)

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        if stage.name == "teacher":
            h = self.hidden(batch, noise)
            return {"task": task_loss(self.shape.task, self.finish(h).prediction, batch.target)}, {
                "teacher": h.detach()
            }
        half = {m: x * (torch.arange(x.shape[-1]) % 2) for m, x in batch.features.items()}
        h = self.hidden(replace(batch, features=half), noise)
        near = F.mse_loss(h, batch.extras["teacher"])
        return {"task": task_loss(self.shape.task, self.finish(h).prediction, batch.target), "near": near}, {}


MODELS = {c.__name__: c for c in (Toy, Attention, Queue, Scalar, TwoStage, TwoPass)}


@dataclass(frozen=True)
class Builder:
    """A picklable `build` in float64 unless told otherwise."""

    name: str
    shape: Shape
    config: ToyConfig = ToyConfig()
    double: bool = True

    def __call__(self) -> AffectModel:
        model = MODELS[self.name](self.config, self.shape)
        return model.double() if self.double else model


def builder(name: str, data: AffectData, double: bool = True, **changes: float) -> Builder:
    return Builder(name, Shape.of(data), replace(ToyConfig(), **changes), double)
