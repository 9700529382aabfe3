"""The pages "Add a model", "Add a data set" and "Add a claim" do what they say, with the code that stands on them."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from affectcore import api
from affectcore.data.readers import check
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Tape
from affectcore.studies.claims import Results, ledger, load_claims
from affectcore.studies.runner import run_study
from affectcore.studies.store import Store

BOOK = Path(__file__).parents[2] / "book" / "appendix"


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the blocks of a language on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (BOOK / page).read_text("utf-8"), re.M | re.S)


def module(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a source file as an imported module, which leaves with the test."""
    file = folder / f"{name}.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


def test_the_model_of_the_page_keeps_the_contract_and_meets_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, line, comparison = blocks("add_a_model.md")
    module("gated", source, tmp_path, monkeypatch)
    entry = eval(line.strip().rstrip(","), {"_baseline": registry._baseline})
    assert entry.location == "affectcore.models.baselines.gated:Gated"
    monkeypatch.setitem(registry.MODELS, "gated", replace(entry, location="gated:Gated"))
    exec(comparison.replace("train=300, valid=150, test=1000", "train=60, valid=30, test=80"), {})
    assert "PairedComparison(estimate=" in capsys.readouterr().out

    data = api.world("recovery", train=12, valid=4, test=4)
    model = registry.build("gated", Shape.of(data))
    batch = data.split("train")
    hidden = batch.with_observed({"audio": torch.zeros_like(batch.observed["audio"])})
    spoiled = {**hidden.features, "audio": torch.full_like(hidden.features["audio"], float("nan"))}

    def shown(b: object) -> torch.Tensor:
        out: torch.Tensor = model(b, Tape(torch.zeros(()), training=False)).prediction
        return out

    with torch.no_grad():
        assert torch.equal(shown(replace(hidden, features=spoiled)), shown(hidden))
        assert not torch.equal(shown(hidden), shown(batch))
        torch.testing.assert_close(shown(batch.rows(torch.arange(11, -1, -1))).flip(0), shown(batch))
    loss = model.losses(model(batch, Tape(torch.zeros(()))), batch, Progress(0, 0, 1, 1))[0]["task"]
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    clf = api.AffectClassifier("gated", recipe="smoke").fit(np.eye(8), [0, 1] * 4)
    assert clf.predict(np.eye(8)).shape == (8,)


def test_the_data_set_of_the_page_is_read_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("add_a_data_set.md"):
        exec(block, names)
    data = names["data"]
    assert isinstance(data, api.AffectData)
    assert data.name == "my_corpus"
    assert data.dims == {"text": 24, "face": 10}
    assert not data._all.observed["face"][:20].any()
    assert not data._all.observed["text"][:, 12:].any()
    assert check(tmp_path / "my_corpus") == []


def test_the_claim_of_the_page_gets_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml, source = blocks("add_a_claim.md", "toml")[0], blocks("add_a_claim.md")[0]
    (tmp_path / "claims.toml").write_text(toml)
    claims = load_claims(tmp_path / "claims.toml")
    study = module("hiding_study", source, tmp_path, monkeypatch)
    store = Store(tmp_path / "store")
    before = ledger(claims, study, Results(study.STUDY, "smoke", store))
    assert [r.status for r in before] == ["open"]
    report = run_study(study.STUDY, "smoke", 2, store=store, progress=False)
    assert report.exit_code == 0
    row = ledger(claims, study, Results(study.STUDY, "smoke", store))[0]
    assert row.status in ("unresolved", "not testable here")  # two seeds and 200 items settle nothing
    assert (row.paper, row.id, row.scope, row.margin) == ("hiding", "H1", "world: recovery", 0.05)


def test_what_the_pages_name_is_there() -> None:
    root = BOOK.parents[1]
    made_here = {"affectcore/models/baselines/gated.py", "affectcore/studies/hiding/"}
    for page in ("add_a_model.md", "add_a_data_set.md", "add_a_claim.md"):
        text = (BOOK / page).read_text("utf-8")
        for path in re.findall(r"`((?:affectcore|tests|book)/[\w./]+)`", text):
            if path not in made_here and "NAME" not in path:
                assert (root / path).exists(), (page, path)
        for name in re.findall(r"affectcore (\w+)", " ".join(re.findall(r"```bash\n(.*?)```", text, re.S))):
            assert name in {"models", "run", "claims", "results", "data"}, (page, name)
