"""Stored models come back bit for bit; hostile and mismatched files are refused in one line; the Hub, by a stub."""

import importlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hub_stub import COMMIT, Hub
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_data import make
from traits import traits

from affectcore.data.schema import Batch
from affectcore.errors import AffectError, ConfigError, DataError
from affectcore.models import registry
from affectcore.training.pretrained import CARD, CONFIG, WEIGHTS, Card, from_pretrained, push_to_hub, save_pretrained
from affectcore.training.trained import Trained, train

GRADIENT = [n for n, e in registry.MODELS.items() if e.kind == "gradient"]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train("mlp", make("unaligned"), settings={"hidden": 4}, epochs=2, seeds=2, missing="rmm", rate=0.3)


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    return save_pretrained(trained, tmp_path / "model", Card("small data", licence="cc-by-4.0"))


def valid() -> Batch:
    return make("unaligned").split("valid")


@pytest.mark.parametrize("name", GRADIENT)
def test_every_model_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    kinds = traits(name).kinds
    data = make("unaligned", next(iter(kinds), "multi_label"))
    settings = traits(name).small | kinds.get(data.task.kind, {})
    made = train(name, data, settings=settings, epochs=1, seeds=[3])
    back = Trained.from_pretrained(made.save_pretrained(tmp_path / name))
    batch = data.split("valid")
    assert np.array_equal(back.predict(batch), made.predict(batch))
    assert (back.config, back.shape, back.recipe, back.seeds) == (made.config, made.shape, made.recipe, (3,))
    assert back.selection == made.selection
    assert dict(back.about) == json.loads(json.dumps(dict(made.about)))


def test_every_preset_can_be_described_and_has_the_types_it_declares() -> None:
    from typing import get_type_hints

    from affectcore.training.pretrained import _typed

    for name in GRADIENT:
        e = registry.entry(name)
        for config in e.presets.values():
            plain = json.loads(json.dumps({k: getattr(config, k) for k in e.switches}, allow_nan=False))
            back = registry.config(name, **_typed(plain, get_type_hints(e.config), name, ""))
            assert back == config


def test_seeds_scaling_and_threshold_are_kept(trained: Trained, folder: Path) -> None:
    back = from_pretrained(folder)
    assert back.predict(valid()).shape == (2, 6)
    assert back.threshold == trained.threshold
    raw = replace(back, scale={})
    assert not np.allclose(raw.predict(valid()), back.predict(valid()))  # the scaling counts
    assert {p.name for p in folder.iterdir()} == {WEIGHTS, CONFIG, CARD}


def test_a_longer_or_foreign_batch_is_refused(trained: Trained) -> None:
    batch = valid()
    assert np.array_equal(trained.predict(_cut(batch, 2)), trained.predict(_cut(batch, 2)))
    with pytest.raises(DataError, match=r"'text' has sequences of 8 steps, the model was trained with at most 4"):
        trained.predict(_cut(batch, 8))
    with pytest.raises(DataError, match="modality 'text' is not there; the model reads text, audio, vision"):
        trained.predict(replace(batch, features={"audio": batch.features["audio"]}))
    with pytest.raises(DataError, match="modality 'face' is unknown"):
        trained.predict(replace(batch, features={**batch.features, "face": batch.features["audio"]}))
    wide = {**batch.features, "text": batch.features["text"].repeat(1, 1, 2)}
    with pytest.raises(DataError, match="'text' has 12 features, the model was trained with 6"):
        trained.predict(replace(batch, features=wide))


def _cut(batch: Batch, steps: int) -> Batch:
    """The batch with text of another longest sequence."""
    x, o = batch.features["text"], batch.observed["text"]
    if steps > x.shape[1]:
        x = torch.nn.functional.pad(x, (0, 0, 0, steps - x.shape[1]))
        o = torch.nn.functional.pad(o, (0, steps - o.shape[1]))
    lengths = {**batch.lengths, "text": batch.lengths["text"].clamp(max=steps)}
    return replace(batch, features={**batch.features, "text": x[:, :steps]},
                   observed={**batch.observed, "text": o[:, :steps]}, lengths=lengths)  # fmt: skip


# The card


def test_the_card_says_data_protocol_results_and_limits(trained: Trained, tmp_path: Path) -> None:
    results = pd.DataFrame({"rate": [0.5], "metric": ["mae"], "value": [0.71234], "low": [0.6], "high": [0.8]})
    save_pretrained(trained, tmp_path, Card("small data", "Five seeds.", results, "mit"))
    text = (tmp_path / CARD).read_text()
    front = text.split("---")[1]
    assert "library_name: affectcore" in front
    assert 'license: "mit"' in front
    needed = ["small data", "Five seeds.", "| 0.5 | mae | 0.7123 | 0.6 | 0.8 |", "95 % interval", "`rmm` at rate 0.3"]
    needed += ["train 12, valid 6, test 6", "2 seeds (0, 1)", "do not use it to judge people"]
    assert [x for x in needed if x not in text] == []
    assert "No results were given." in _card(trained, tmp_path, Card())
    assert "No results were given." in _card(trained, tmp_path, Card(results=results.iloc[:0]))


def _card(trained: Trained, folder: Path, card: Card) -> str:
    save_pretrained(trained, folder, card)
    return (folder / CARD).read_text()


def test_a_cited_model_cites_its_paper(tmp_path: Path) -> None:
    data = make("unaligned", "single_label")
    made = train("cider", data, settings=traits("cider").small, epochs=1, seeds=1)
    assert "@" in _card(made, tmp_path, Card()).split("## Citation")[1]


# What is refused


def refused(folder: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as e:
        from_pretrained(folder)
    assert "\n" not in str(e.value)


def edit(folder: Path, **changes: object) -> None:
    file = folder / CONFIG
    content = json.loads(file.read_text())
    for k, v in changes.items():
        *path, last = k.split("__")
        inner = content
        for p in path:
            inner = inner[p]
        inner[last] = v
    file.write_text(json.dumps(content))


def test_a_pickle_is_never_read(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(str(folder / "touched")),))  # type: ignore[return-value]

    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    refused(folder, "no whole safetensors file .*a pickle is never read")
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(folder, "is not there; pytorch_model.bin may hold a pickle, which is never read")
    assert not (folder / "touched").exists()


def test_damaged_files_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for size in (0, 7, 8, 100, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:size])
        refused(folder, "no whole safetensors file")
    (folder / WEIGHTS).write_bytes(b"\xff" * 7 + b"\x7f" + whole[8:])  # a header longer than any memory
    refused(folder, "no whole safetensors file")
    save_file(load_file(_put(folder, whole)), folder / WEIGHTS)  # without our header
    refused(folder, "was not written by save_pretrained")
    (folder / WEIGHTS).write_bytes(whole)
    for text, match in [
        ("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "describes no model of affectcore"),
        ('{"library": "affectcore", "format": 99}', "has format 99, this version reads 1"),
        (" " * 5_000_000, "has more than 4,000,000 bytes"),
    ]:  # fmt: skip
        (folder / CONFIG).write_text(text)
        refused(folder, match)
    (folder / CONFIG).unlink()
    refused(folder, "cannot be read")


def _put(folder: Path, blob: bytes) -> Path:
    (folder / WEIGHTS).write_bytes(blob)
    return folder / WEIGHTS


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": "os.system"}, "model 'os.system' is unknown: use affect_diff"),
        ({"model": "linear", "settings": {}}, "settings.C is absent"),
        ({"preset": "evil"}, "preset 'evil' is unknown"),
        ({"settings__hidden": "4"}, "settings.hidden = '4' must be int"),
        ({"settings__hidden": True}, "settings.hidden = 'True' must be int"),
        ({"settings__hidden": -4}, "no mlp can be built of these settings|must be"),
        ({"settings__hidden": 8}, "with these settings has"),
        ({"settings__hidden": 10**12}, "is more than the weights hold numbers"),
        ({"settings__dropout": [1]}, "settings.dropout = '.1.' must be float"),
        ({"settings__hook": "import os"}, "settings.hook is unknown"),
        ({"modalities": [["text", 10**15, 4]]}, "is more than the weights hold numbers"),
        ({"modalities": [["text", 6, 4]]}, "with these settings has"),
        ({"modalities": []}, "modalities must name one or more"),
        ({"modalities": "text"}, "modalities = 'text' must be tuple"),
        ({"task__kind": "spell"}, "task kind 'spell' is unknown"),
        ({"task__names": ["a", "b"]}, "a regression task needs one name"),
        ({"seeds": []}, "seeds must hold distinct seeds"),
        ({"scaled": False}, "scale/audio/mean is .* has absent"),
        ({"recipe__lr": "fast"}, "lr = 'fast' must be a number > 0"),
        ({"recipe__code": "x"}, "field 'code' is unknown"),
        ({"about": None}, "about = 'None' must be dict"),
        ({"about__data": "MOSEI"}, "belongs to another model than config.json says: about.data"),
    ],
)  # fmt: skip
def test_a_configuration_that_lies_is_refused(folder: Path, changes: dict[str, object], match: str) -> None:
    edit(folder, **changes)
    refused(folder, match)


def test_weights_of_another_model_are_refused(trained: Trained, folder: Path, tmp_path: Path) -> None:
    other = train("mlp", make("unaligned", seed=1), settings={"hidden": 4}, epochs=1, seeds=2, missing="rmm", rate=0.3)
    shutil.copy(save_pretrained(other, tmp_path / "other") / WEIGHTS, folder / WEIGHTS)
    refused(folder, "belongs to another model than config.json says: about.fingerprint is")
    wider = train("mlp", make("unaligned"), settings={"hidden": 5}, epochs=1, seeds=2)
    shutil.copy(save_pretrained(wider, tmp_path / "wider") / WEIGHTS, folder / WEIGHTS)
    refused(folder, r"0/.* is \(5,.* float32, mlp with these settings has \(4,")


def test_more_or_fewer_tensors_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    with safe_open(folder / WEIGHTS, framework="pt") as f:
        header = f.metadata()
    save_file({**tensors, "0/extra": torch.zeros(1)}, folder / WEIGHTS, header)
    refused(folder, r"0/extra is \(1,\) float32, mlp with these settings has absent")
    name = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != name}, folder / WEIGHTS, header)
    refused(folder, f"{name} is absent")
    save_file({k: v.half() if k == name else v for k, v in tensors.items()}, folder / WEIGHTS, header)
    refused(folder, f"{name} is .*F16")


def test_what_cannot_be_saved_or_found_is_said(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="linear has no weights to save"):
        save_pretrained(train("linear", make("unaligned", n=60), seeds=1), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectError, match="cannot be written"):
        save_pretrained(trained, tmp_path / "file")
    with pytest.raises(DataError, match="is neither a folder nor a repository owner/name"):
        from_pretrained(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(ConfigError, match="revision = 'main' belongs to a repository"):
        from_pretrained(tmp_path, revision="main")


# The Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install .[hub]")
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    stub = Hub()
    yield stub
    stub.close()


def test_a_model_goes_to_the_hub_and_comes_back(trained: Trained, hub: Hub) -> None:
    address = push_to_hub(trained, "me/mlp", Card("small data"), endpoint=hub.endpoint, token="hf_stub")
    assert address == f"{hub.endpoint}/me/mlp/commit/{COMMIT}"
    assert set(hub.repositories["me/mlp"]) == {CONFIG, WEIGHTS, CARD}
    assert hub.private["me/mlp"]
    back = from_pretrained("me/mlp", endpoint=hub.endpoint)
    assert np.array_equal(back.predict(valid()), trained.predict(valid()))
    fetched = {path.rpartition("/")[2] for method, path in hub.requests if method == "GET" and "/resolve/" in path}
    assert fetched == {CONFIG, WEIGHTS}


def test_a_hostile_repository_is_refused(trained: Trained, hub: Hub) -> None:
    push_to_hub(trained, "me/mlp", endpoint=hub.endpoint, token="hf_stub")
    files = hub.repositories["me/mlp"]
    hub.repositories["evil/mlp"] = {**files, WEIGHTS: pickle.dumps({"a": 1})}
    with pytest.raises(DataError, match="a pickle is never read"):
        from_pretrained("evil/mlp", endpoint=hub.endpoint)
    hub.repositories["bare/mlp"] = {CONFIG: files[CONFIG]}
    with pytest.raises(DataError, match=r"bare/mlp: model\.safetensors cannot be fetched"):
        from_pretrained("bare/mlp", endpoint=hub.endpoint)
    with pytest.raises(DataError, match=r"no/body: config\.json cannot be fetched"):
        from_pretrained("no/body", endpoint=hub.endpoint)
    with pytest.raises(DataError, match=r"me/mlp cannot be uploaded: .*refused"):
        push_to_hub(trained, "me/mlp", endpoint="http://127.0.0.1:9", token="hf_stub")
    with pytest.raises(ConfigError, match="repository 'mlp' must be owner/name"):
        push_to_hub(trained, "mlp", endpoint=hub.endpoint)


def test_without_the_extra_the_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'affectcore\[hub\]'"):
        from_pretrained("me/mlp")
