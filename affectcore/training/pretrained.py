"""Trained models in a folder or on the Hugging Face Hub: weights, configuration and a model card.

    trained.save_pretrained("my_model", Card("CMU-MOSI", results=table))
    trained = from_pretrained("my_model")                # or "owner/name" on the Hub

A folder holds `config.json` (model, settings, shape of the data, task, recipe), `model.safetensors` (every seed's
tensors and the scaling of the features, with the same configuration in its header) and `README.md` (the card).

Whoever loads a file need not trust it: no pickle is ever read, the configuration is plain JSON that names a model of
this package and settings of the right types, and the weights are read only when their header says the same and has
exactly the tensors of that model. Nothing larger than the file is allocated before.
"""

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from affectcore import __version__
from affectcore.data.schema import Selection, Task
from affectcore.errors import AffectError, ConfigError, DataError
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.models.wrapper import frozen
from affectcore.training import checkpoint
from affectcore.training.fits import Fit
from affectcore.training.learner import section, tensors_of
from affectcore.training.recipe import Recipe
from affectcore.training.trained import Trained

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FORMAT = 1
LONGEST = 4_000_000  # bytes of a configuration
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
LIMITS = """Scores say how expressions were labelled by observers, not what a person feels. The model was trained and
tested on the data named above alone: other languages, cultures, ages, recording conditions and feature extractors are
untested. It is made for research; do not use it to judge people at work, at school, in hiring, in policing or in
care."""


@dataclass(frozen=True)
class Card:
    """What the model card says beside what the model knows of itself.

    data: what it was trained on, and under which terms. protocol: how it was trained and evaluated.
    results: a table, one row a condition and metric, such as `affectcore.api.robustness` returns.
    licence: an identifier of the Hub ("mit", "cc-by-4.0", "other"), "" to say nothing. limits: what not to do with it.
    """

    data: str = ""
    protocol: str = ""
    results: pd.DataFrame | None = None
    licence: str = ""
    limits: str = LIMITS


def save_pretrained(trained: Trained, folder: str | Path, card: Card | None = None) -> Path:
    """Write weights, configuration and card into a folder, which is made if need be, and return it.

    Raises ConfigError for an estimator without gradients (it has no tensors), TrainingError if nothing can be written.
    """
    if trained.estimators:
        raise ConfigError(f"{trained.name} has no weights to save: it is fitted in closed form, train it again")
    folder, content = Path(folder), describe(trained)
    tensors = {f"{f.seed}/{k}": v for f in trained.fits for k, v in f.state.items()}
    for m, (mean, sd) in trained.scale.items():
        tensors |= {f"scale/{m}/mean": mean, f"scale/{m}/sd": sd}
    checkpoint.write(folder / WEIGHTS, tensors, content, {})
    try:
        (folder / CONFIG).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / CARD).write_text(card_text(trained, card or Card()), encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{folder} cannot be written: {e.strerror}") from e
    return folder


def from_pretrained(
    source: str | Path, *, revision: str | None = None, endpoint: str | None = None, token: str | None = None
) -> Trained:
    """Return the model of a local folder, or of a repository "owner/name" of the Hugging Face Hub.

    revision: a branch, tag or, best, the commit of a repository. endpoint: another hub's address.
    Raises DataError for whatever is absent, damaged, of another model than its configuration says, or a pickle.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(f"revision = {revision!r} belongs to a repository, {source} is a folder")
        return _read(folder / CONFIG, folder / WEIGHTS)
    if not REPOSITORY.fullmatch(str(source)):
        raise DataError(f"{source} is neither a folder nor a repository owner/name")
    config, weights = (_download(str(source), f, revision, endpoint, token) for f in (CONFIG, WEIGHTS))
    return _read(config, weights)


def push_to_hub(
    trained: Trained,
    repository: str,
    card: Card | None = None,
    *,
    private: bool = True,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a model to a repository "owner/name", made if need be, and return the address of the commit.

    It is private unless said otherwise: weights may not be more public than the data they were learned from.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ConfigError(f"repository {repository!r} must be owner/name")
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(trained, folder, card)
        api = hub.HfApi(endpoint=endpoint, token=token)
        with _asking(f"{repository} cannot be uploaded"):
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"affectcore {trained.name}"
            )
    return str(done.commit_url)


# --- writing -------------------------------------------------------------------------------------------------------


def describe(trained: Trained) -> dict[str, Any]:
    """Return the configuration as plain JSON values. Raises ConfigError for a setting that JSON cannot hold."""
    content = {
        "library": "affectcore",
        "format": FORMAT,
        "version": __version__,
        "model": trained.name,
        "preset": trained.preset,
        "settings": {f.name: getattr(trained.config, f.name) for f in fields(trained.config)},
        "task": asdict(trained.shape.task),
        "modalities": [[m, d, trained.shape.steps[m]] for m, d in trained.shape.dims.items()],
        "scaled": bool(trained.scale),
        "seeds": [
            {"seed": f.seed, "threshold": f.threshold, "rule": f.selection.rule, "epoch": f.selection.epoch,
             "value": f.selection.value, "parameters": f.parameters}
            for f in trained.fits
        ],
        "recipe": None if trained.recipe is None else asdict(trained.recipe),
        "about": dict(trained.about),
    }  # fmt: skip
    try:
        plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{trained.name}: its settings cannot be stored as JSON: {e}") from e
    return plain


def card_text(trained: Trained, card: Card) -> str:
    """Return the model card: what the model is, its data, protocol and results, how to load it, limits, citation."""
    entry, task, about = registry.entry(trained.name), trained.shape.task, trained.about
    front = ["library_name: affectcore", *([f"license: {json.dumps(card.licence)}"] if card.licence else [])]
    front += [f"tags: {json.dumps(['affectcore', 'emotion-recognition', 'multimodal', trained.name])}"]
    kind = {"regression": f"a number in [{task.low:g}, {task.high:g}]", "single_label": "one class of",
            "multi_label": "a set of"}[task.kind]  # fmt: skip
    sizes = ", ".join(f"{k} {n}" for k, n in about.get("samples", {}).items()) or "not known"
    hidden = about.get("missing")
    at = "" if about.get("rate") is None else f" at rate {about['rate']}"
    recipe = trained.recipe
    rules = ", ".join(dict.fromkeys(f.selection.rule for f in trained.fits))
    one = "" if recipe is None else f"{recipe.optimizer}, learning rate {recipe.lr:g}, batches of {recipe.batch_size}, "
    most = "" if recipe is None else f"at most {recipe.epochs} epochs, chosen by `{rules}` on {recipe.metric}"
    lines = [
        "---", *front, "---", "",
        f"# {trained.name}: {entry.summary}", "",
        f"Predicts {kind} {', '.join(task.names)} from "
        + ", ".join(f"{m} ({d} features, up to {trained.shape.steps[m]} steps)" for m, d in trained.shape.dims.items())
        + f". Preset `{trained.preset}`, {trained.fits[0].parameters:,} parameters, {len(trained.fits)} "
        f"seed{'s' if len(trained.fits) > 1 else ''} ({', '.join(map(str, trained.seeds))}), affectcore {__version__}.",
        "", "## Data", "", card.data or "The uploader says nothing about the data.", "",
        f"Name `{about.get('data', 'not known')}`, fingerprint `{about.get('fingerprint', 'not known')}`, "
        f"samples: {sizes}.",
        "", "## Protocol", "", *([card.protocol, ""] if card.protocol else []),
        f"Trained with {one}{most}. Values hidden in training: {f'`{hidden}`{at}' if hidden else 'none'}. "
        f"Features {'standardised on the training split (stored with the weights)' if trained.scale else 'as given'}.",
        "", "## Results", "", *_table(card.results), "", "## Use", "",
        "```python", "from affectcore.api import from_pretrained", "",
        'trained = from_pretrained("PATH OR OWNER/NAME")', "scores = trained.predict(batch)  # (seeds, samples, ...)",
        "```", "", "No pickle is involved: `config.json` is checked, and the weights must agree with it.", "",
        "## Limits", "", card.limits,
    ]  # fmt: skip
    if entry.citation:
        lines += ["", "## Citation", "", "```bibtex", entry.citation, "```"]
    return "\n".join(lines) + "\n"


def _table(results: pd.DataFrame | None) -> list[str]:
    if results is None or not len(results):
        return ["No results were given."]
    names = [str(c) for c in results.columns]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in results.itertuples(index=False):
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v).replace("|", "\\|") for v in row]
        lines.append(f"| {' | '.join(cells)} |")
    if {"low", "high"} <= set(names):
        lines += ["", "low, high: 95 % interval."]
    return lines


# --- reading -------------------------------------------------------------------------------------------------------


def _read(config: Path, weights: Path) -> Trained:
    folder = weights.parent
    if not weights.is_file():
        others = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES) if folder.is_dir() else []
        why = f"; {others[0]} may hold a pickle, which is never read" if others else ""
        raise DataError(f"{weights} is not there{why}")
    content = _json(config)
    name, preset, settings, shape, seeds, recipe = _parsed(content, str(config))
    found = _header(weights)
    largest = max(65_536, sum(math.prod(s) for s, _ in found.values()))
    _bounded(content, largest, str(config))
    try:
        model_config = registry.config(name, preset, **settings)
        with torch.device("meta"):  # built without memory, so that what the file says of sizes costs nothing
            model = registry.build(name, shape, preset, **settings)
        own = {k: (tuple(v.shape), v.dtype) for k, v in tensors_of(model).items()}
    except AffectError as e:
        raise DataError(f"{config}: {e}") from e
    except Exception as e:  # settings that pass as JSON can fail in any way while modules are made of them
        raise DataError(f"{config}: no {name} can be built of these settings ({type(e).__name__}: {_first(e)})") from e
    expected = {f"{s['seed']}/{k}": v for s in seeds for k, v in own.items()}
    if content["scaled"]:
        expected |= {f"scale/{m}/{k}": ((d,), torch.float32) for m, d in shape.dims.items() for k in ("mean", "sd")}
    for k in sorted({*expected, *found}):
        if expected.get(k) != found.get(k):
            raise DataError(f"{weights}: {k} is {_says(found.get(k))}, {name} with these settings has "
                            f"{_says(expected.get(k))}")  # fmt: skip
    try:
        read = checkpoint.read(weights, content)
    except AffectError as e:
        raise DataError(str(e).replace("another run", f"another model than {CONFIG} says")) from e
    if read is None:
        raise DataError(f"{weights} went away while it was read")
    tensors = read[0]
    fits = tuple(
        Fit(s["seed"], Selection(s["rule"], s["epoch"], s["value"]), (), section(tensors, f"{s['seed']}/"),
            s["parameters"], math.nan, math.nan, math.nan, s["threshold"])
        for s in seeds
    )  # fmt: skip
    kept = shape.modalities if content["scaled"] else ()
    scale = {m: (tensors[f"scale/{m}/mean"], tensors[f"scale/{m}/sd"]) for m in kept}
    return Trained(name, preset, model_config, shape, recipe, tuple(s["seed"] for s in seeds), fits, scale,
                   about=content["about"])  # fmt: skip


def _says(tensor: tuple[tuple[int, ...], Any] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} {tensor[1]}".replace("torch.", "")


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LONGEST:
            raise DataError(f"{path} has more than {LONGEST:,} bytes: no configuration of this package is so long")
        content = json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path} is not JSON: {_first(e)}") from e
    if not isinstance(content, dict) or content.get("library") != "affectcore":
        raise DataError(f"{path} describes no model of affectcore")
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')!r}, this version reads {FORMAT}")
    return content


_FIELDS: dict[str, Any] = {
    "version": str, "model": str, "preset": str, "settings": dict[str, Any], "task": dict[str, Any],
    "modalities": tuple[tuple[str, int, int], ...], "scaled": bool, "seeds": tuple[dict[str, Any], ...],
    "recipe": dict[str, Any] | None, "about": dict[str, Any],
}  # fmt: skip
_SEED: dict[str, Any] = {
    "seed": int, "threshold": float, "rule": str, "epoch": int | None, "value": float | None, "parameters": int,
}  # fmt: skip
_TASK: dict[str, Any] = {"kind": str, "names": tuple[str, ...], "low": float, "high": float}


def _parsed(
    content: Mapping[str, Any], path: str
) -> tuple[str, str, dict[str, Any], Shape, tuple[dict[str, Any], ...], Recipe | None]:
    """Return model, preset, settings, shape, seeds and recipe of a configuration, every value of the right type."""
    known = {k: v for k, v in content.items() if k not in ("library", "format")}
    _typed(known, _FIELDS, path, "")
    try:
        name = registry.entry(content["model"]).name
        hints = get_type_hints(registry.entry(name).config)
        recipe = content["recipe"]
        if recipe is not None:
            recipe = Recipe().but(**{k: _frozen(k, v) for k, v in recipe.items()})
        task = _typed(content["task"], _TASK, path, "task.")
        settings = _typed(content["settings"], hints, path, "settings.")
        if registry.entry(name).kind != "gradient":
            raise DataError(f"{path}: {name} has no weights")
        shape = Shape(
            {m: d for m, d, _ in content["modalities"]}, {m: t for m, _, t in content["modalities"]}, Task(**task)
        )
    except ConfigError as e:
        raise DataError(f"{path}: {e}") from e
    except (TypeError, ValueError, AttributeError) as e:
        raise DataError(f"{path}: its recipe is none of this version ({_first(e)})") from e
    if not shape.dims or min(*shape.dims.values(), *shape.steps.values()) < 1:
        raise DataError(f"{path}: modalities must name one or more, with 1 or more features and steps")
    seeds = tuple(_typed(s, _SEED, path, "seeds.") for s in content["seeds"])
    if not seeds or len({s["seed"] for s in seeds}) < len(seeds) or min(s["seed"] for s in seeds) < 0:
        raise DataError(f"{path}: seeds must hold distinct seeds >= 0, at least one")
    return name, content["preset"], settings, shape, seeds, recipe


def _frozen(field: str, value: Any) -> Any:
    """A recipe's value: lists as tuples, while `groups` and `stages` stay mappings for `Recipe.but`."""
    return tuple(value) if field in ("groups", "stages") else frozen(value)


def _typed(given: Mapping[str, Any], hints: Mapping[str, Any], path: str, where: str) -> dict[str, Any]:
    """Return the values with lists as tuples; DataError if one is absent, unknown or not of its type."""
    for k in sorted({*given, *hints}):
        if k not in hints:
            raise DataError(f"{path}: {where}{k} is unknown")
        if k not in given:
            raise DataError(f"{path}: {where}{k} is absent")
        if not _is(given[k], hints[k]):
            name = getattr(hints[k], "__name__", None) or str(hints[k])
            raise DataError(f"{path}: {where}{k} = {str(given[k])[:60]!r} must be {name}")
    return {k: frozen(v) if isinstance(v, list) else v for k, v in given.items()}


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of JSON (lists for tuples) is of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if origin in (Union, UnionType):
        return any(_is(value, a) for a in args)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(args) == 2 and args[1] is ...:
            return all(_is(v, args[0]) for v in value)
        return len(value) == len(args) and all(_is(v, a) for v, a in zip(value, args))
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _bounded(content: Mapping[str, Any], largest: int, path: str) -> None:
    """Refuse whole numbers beyond the count of numbers in the weights: no size or count of a model exceeds it."""

    def walk(value: Any, where: str) -> None:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > largest:
            raise DataError(f"{path}: {where} = {value} is more than the weights hold numbers, {largest}")
        if isinstance(value, dict | list):
            for k, v in value.items() if isinstance(value, dict) else enumerate(value):
                walk(v, f"{where}.{k}")

    walk(content["settings"], "settings")
    walk(content["modalities"], "modalities")


def _header(path: Path) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of every tensor of a safetensors file, from its header alone."""
    try:
        with safe_open(path, framework="pt") as f:
            header = f.metadata() or {}
            slices = {k: f.get_slice(k) for k in f.keys()}  # noqa: SIM118 - safe_open is no mapping
            found = {k: (tuple(s.get_shape()), DTYPES.get(s.get_dtype(), s.get_dtype())) for k, s in slices.items()}
        if not {"spec", "progress"} <= set(header):
            raise DataError(f"{path} was not written by save_pretrained: its header names no model")
        json.loads(header["spec"])
    except (SafetensorError, OSError, ValueError, RecursionError) as e:
        raise DataError(f"{path} is no whole safetensors file ({_first(e)}); a pickle is never read") from e
    return found


def _first(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:300]


# --- the Hub -------------------------------------------------------------------------------------------------------


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as e:
        raise ConfigError("the Hub needs huggingface_hub: pip install 'affectcore[hub]'") from e
    return huggingface_hub


def _download(repository: str, name: str, revision: str | None, endpoint: str | None, token: str | None) -> Path:
    """Return where the Hub's cache keeps one file; only the two files asked for are ever fetched."""
    hub = _hub()
    with _asking(f"{repository}: {name} cannot be fetched"):
        found = hub.hf_hub_download(repository, name, revision=revision, endpoint=endpoint, token=token)
    return Path(found)


@contextmanager
def _asking(failure: str) -> Iterator[None]:
    """Turn whatever goes wrong while a hub is asked into one line."""
    try:
        yield
    except Exception as e:  # errors of its network layer have no base in common over the library's versions
        raise DataError(f"{failure}: {_first(e)}") from e
