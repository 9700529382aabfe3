"""Text through a pretrained transformer: features computed once and kept on disk, or the encoder trained in the model.

    features = frozen_features(texts, Pretrained("bert-base-uncased", revision=COMMIT), folder)    # frozen and cached
    model = TextEncoder(TextEncoderConfig(name="bert-base-uncased", revision=COMMIT, backbone="mult"), shape)

Both need the extra `pip install affectcore[text]`; nothing else in the library does. Weights come from a folder or from
what the hub's own cache holds; they are fetched only where `download` says so.

Frozen: `frozen_features` gives AffectData a text modality like any other, (N, T, D) with lengths. Every text has a file
of its own, named by the hash of model, revision, longest length and text; a text met again is read. Batches are filled
by length, so that padding costs little; it changes a feature by rounding alone.

Fine-tuned: the data carry word pieces beside the features, `AffectData(..., extras={"tokens": ids})`, (N, T) int64 for
the T steps of text (whose own features are not read). What the mask of text hides is hidden from attention and zero
afterwards, so protocols of missing text act as ever. `TextEncoder` hands the encoder's states to any backbone of the
registry as its text. It is no entry of the registry: it needs the extra, weights and tokens.

Differences from fine-tuning as published: drop-out inside the encoder is off, since its random numbers would not be the
step's own; `dropout` acts on the states instead. The pooler, which no backbone reads, is left out.
Any encoder of `transformers.AutoModel` with `encoder.layer` will do: BERT [devlin2019bert], RoBERTa, DeBERTa; the three
run under vmap with eager attention (seen with transformers 5.23).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, DataError
from affectcore.models.contract import AffectModel, Noise, Output, Shape
from affectcore.models.wrapper import Wrapper, WrapperConfig

TOKENS = "tokens"  # key of Batch.extras


@dataclass(frozen=True)
class Pretrained:
    """Where an encoder comes from.

    name: a folder, or a model of the hub. revision: the hub's commit, required there. steps: longest text in word
    pieces, the two ends included. download: fetch what the hub's cache lacks.
    """

    name: str
    revision: str = ""
    steps: int = 50
    download: bool = False

    @property
    def local(self) -> bool:
        return Path(self.name).is_dir()

    def identity(self) -> str:
        """What the features depend on besides the text: for a folder its files' contents, else name and commit."""
        if not self.local:
            return f"{self.name}@{self.revision}"
        h = blake2b(digest_size=16)
        for file in sorted(p for p in Path(self.name).iterdir() if p.is_file()):
            h.update(file.name.encode() + file.read_bytes())
        return h.hexdigest()


def transformers() -> Any:
    """Return the package. Raises ConfigError in one line where the extra is not installed."""
    try:
        import transformers as package
    except ImportError as e:
        raise ConfigError("text encoders need the package transformers: pip install affectcore[text]") from e
    return package


def _load(kind: str, source: Pretrained, **options: Any) -> Any:
    package = transformers()
    if not source.local and not source.revision:
        raise ConfigError(f"text encoder {source.name!r} needs the revision (commit) that its weights are taken from")
    where = {} if source.local else {"revision": source.revision}
    try:
        made = getattr(package, kind)
        return made.from_pretrained(source.name, local_files_only=not source.download, **where, **options)
    except (OSError, ValueError) as e:
        hint = "" if source.local or source.download else " (download = True would fetch it)"
        raise ConfigError(f"text encoder {source.name!r} cannot be read{hint}: {str(e).splitlines()[0]}") from e


def load_encoder(source: Pretrained) -> nn.Module:
    """Return the encoder in evaluation mode, without pooler. Raises ConfigError if it is not at hand."""
    model: Any = _load("AutoModel", source, attn_implementation="eager", dtype=torch.float32)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    encoder: nn.Module = model.eval()
    return encoder


def tokenise(texts: Sequence[str], source: Pretrained) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return word pieces (N, T) with zeros after the end, and lengths (N,). T is the longest text's, <= `steps`."""
    tokenizer = _load("AutoTokenizer", source)
    found = [tokenizer(t, truncation=True, max_length=source.steps)["input_ids"] for t in texts]
    lengths = np.array([len(f) for f in found], dtype=np.int64)
    if not len(lengths) or lengths.min() < 1:
        raise DataError("texts: at least one, each of at least one word piece")
    ids = np.zeros((len(found), lengths.max()), dtype=np.int64)
    for row, f in zip(ids, found):
        row[: len(f)] = f
    return ids, lengths


@dataclass(frozen=True)
class TextFeatures:
    """features: (N, T, D) float32, zero after the end; lengths: (N,); tokens: (N, T)."""

    features: NDArray[np.float32]
    lengths: NDArray[np.int64]
    tokens: NDArray[np.int64]


def frozen_features(
    texts: Sequence[str], source: Pretrained, cache: Path, *, batch: int = 32, device: str = "cpu"
) -> TextFeatures:
    """Return the last hidden states of texts, from `cache` where they lie there. Raises ConfigError, DataError."""
    ids, lengths = tokenise(texts, source)
    identity = source.identity()
    names = [blake2b(f"{identity}\n{source.steps}\n{t}".encode(), digest_size=16).hexdigest() for t in texts]
    files = [cache / n[:2] / f"{n}.safetensors" for n in names]
    first = {f: i for i, f in reversed([*enumerate(files)])}  # a text that occurs twice is encoded once
    missing = sorted((i for f, i in first.items() if not f.exists()), key=lambda i: int(lengths[i]))
    if missing:
        encoder = load_encoder(source).to(device)
        for start in range(0, len(missing), batch):
            rows = missing[start : start + batch]
            longest = int(lengths[rows].max())
            states = _states(encoder, ids[rows, :longest], lengths[rows], device)
            for i, h in zip(rows, states):
                _keep(files[i], h[: lengths[i]])
    kept = [load_file(f)["states"] for f in files]
    out = np.zeros((*ids.shape, kept[0].shape[-1]), dtype=np.float32)
    for row, h in zip(out, kept):
        row[: len(h)] = h
    return TextFeatures(out, lengths, ids)


@torch.no_grad()
def _states(encoder: nn.Module, ids: NDArray[np.int64], lengths: NDArray[np.int64], device: str) -> NDArray[np.float32]:
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    given = (torch.from_numpy(x).to(device) for x in (ids, mask.astype(np.int64)))
    out: NDArray[np.float32] = encoded(encoder, *given).float().cpu().numpy()
    return out


def _keep(path: Path, states: NDArray[np.float32]) -> None:
    """Write a text's states in one piece, so that a killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    save_file({"states": np.ascontiguousarray(states)}, half)
    half.replace(path)


def encoded(encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the last hidden states (B, T, D) for word pieces (B, T) where the mask (B, T), 0 or 1, lets them be seen.

    DeBERTa takes the mask as it is; the others look whether it is all 1, which vmap forbids, unless it comes as what is
    added to the (B, heads, T, T) scores.
    """
    given = mask
    if "deberta" not in str(encoder.config.model_type):  # type: ignore[union-attr]
        hide = (mask == 0)[..., None, None, :].expand(-1, 1, mask.shape[-1], -1)
        given = torch.zeros_like(hide, dtype=next(encoder.parameters()).dtype).masked_fill(hide, -1e30)
    states: Tensor = encoder(input_ids=ids, attention_mask=given).last_hidden_state
    return states


@dataclass(frozen=True)
class TextEncoderConfig(WrapperConfig):
    name: str = "bert-base-uncased"  # folder, or model of the hub
    revision: str = ""  # the hub's commit
    download: bool = False  # fetch what is not at hand
    trained: int | None = None  # last layers that are trained; None: all with the embeddings, 0: none
    dropout: float = 0.1  # of the encoder's states


class TextEncoder(Wrapper):
    """A backbone whose text comes from an encoder inside the model."""

    encoder: nn.Module

    def built(self, shape: Shape) -> AffectModel:
        c = self.config
        if "text" not in shape.dims:
            raise ConfigError(f"text encoder: the data have no modality text, they have {', '.join(shape.dims)}")
        self.encoder = load_encoder(Pretrained(c.name, c.revision, download=c.download))
        if c.trained is not None:
            layers: Any = self.encoder.encoder.layer  # type: ignore[union-attr]
            if not 0 <= c.trained <= len(layers):
                raise ConfigError(f"text encoder: trained = {c.trained} must be None or in 0..{len(layers)}")
            self.encoder.requires_grad_(False)
            for layer in layers[len(layers) - c.trained :]:
                layer.requires_grad_(True)
        width = int(self.encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        return super().built(replace(shape, dims={**shape.dims, "text": width}))

    def train(self, mode: bool = True) -> "TextEncoder":
        super().train(mode)
        self.encoder.eval()  # its own drop-out would draw from torch's generator
        return self

    def forward(self, batch: Batch, noise: Noise) -> Output:
        return super().forward(self.read(batch, noise), noise)

    def read(self, batch: Batch, noise: Noise) -> Batch:
        """Return the batch with the encoder's states as features of text."""
        if TOKENS not in batch.extras:
            raise ConfigError(f"text encoder: the data carry no word pieces (extras {TOKENS!r}, see `tokenise`)")
        seen = batch.observed["text"]
        h = encoded(self.encoder, batch.extras[TOKENS].masked_fill(~seen, 0), seen.long())
        h = noise.dropout(h, self.config.dropout).masked_fill(~seen.unsqueeze(-1), 0)
        return replace(batch, features={**batch.features, "text": h})
