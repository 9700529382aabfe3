"""The files around the code: pins, environments, workflows, licences, citation; and what may never be tracked."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PIN = re.compile(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*")


def pins(name: str) -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    return {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1]
        for line in lines
        if line and not line.startswith("#")
    }


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]


# Pins


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt"])
def test_every_line_is_an_exact_public_pin(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        assert not line.strip() or line.startswith("#") or PIN.fullmatch(line), line  # no +cpu, no path, no range


def test_constraints_hold_every_requirement_at_the_same_version() -> None:
    below = pins("constraints.txt")
    assert {name: below.get(name) for name in pins("requirements.txt")} == pins("requirements.txt")


def test_requirements_hold_every_dependency_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = dict(project["optional-dependencies"])
    apart = extras.pop("text") + extras.pop("hub")  # no other part needs them: pinned, installed where asked for
    declared = project["dependencies"] + [d for extra in extras.values() for d in extra]
    names = {re.match(r"[\w-]+", entry).group().lower() for entry in declared}  # type: ignore[union-attr]
    assert names <= set(pins("requirements.txt"))
    assert {re.match(r"[\w-]+", entry).group().lower() for entry in apart} <= set(pins("constraints.txt"))  # type: ignore[union-attr]


def test_what_is_installed_is_what_is_pinned() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    ).stdout
    installed = {re.sub(r"[-_.]+", "-", p["name"]).lower(): p["version"].split("+")[0] for p in json.loads(listed)}
    wrong = {name: (v, installed[name]) for name, v in pins("constraints.txt").items() if installed.get(name, v) != v}
    assert not wrong
    assert set(pins("requirements.txt")) <= set(installed)


@pytest.mark.parametrize(("name", "prefix"), [("environment.yml", ""), (".binder/environment.yml", "../")])
def test_conda_environments_name_python_pip_and_the_two_files_only(name: str, prefix: str) -> None:
    environment = yaml.safe_load((ROOT / name).read_text())
    assert environment["channels"] == ["conda-forge"]
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    lines = [line for line in packages["pip"] if not line.startswith("--extra-index-url")]
    assert lines == [f"-r {prefix}requirements.txt", f"-c {prefix}constraints.txt"]


# Workflows and the script of continuous integration


def test_workflows_keep_their_schema() -> None:
    assert len(WORKFLOWS) == 3
    command = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.github-workflows",
        str(bad),
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_workflows_call_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for call in re.findall(r"(?:^|[`\s])make((?: -j\d)?(?: [\w-]+)?)(?=[\s`]|$)", path.read_text()):
            for word in call.split():
                if not word.startswith("-") and word in {"test", "site", "install"} | targets | {"chapters"}:
                    assert word in targets, (path.name, word)


def test_the_gpu_workflow_publishes_what_it_ran() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "gpu-book.yml").read_text())["jobs"]
    assert jobs["run"]["runs-on"] == ["self-hosted", "gpu"]
    steps = " ".join(str(step) for job in jobs.values() for step in job["steps"])
    for needed in ("affectcore.chapters run", "make site-from-runs", "upload-pages-artifact", "deploy-pages"):
        assert needed in steps


def test_the_ci_script_is_strict_bash_and_runs_all_checks() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert "set -euo pipefail" in script.read_text()
    assert "make test" in script.read_text()


# Licences and citation


def test_the_licence_is_mit_and_names_the_contributors() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License")
    assert "The affectcore contributors" in text


@pytest.mark.parametrize(
    ("folder", "terms"),
    [
        ("cmu_mosei_video", "academic research"),
        ("cmu_mosi_utt", "academic research"),
        ("cmu_mosi_wordlevel", "academic research"),
        ("cmu_mosei_labels", "academic research"),
        ("swell_kw", "CC BY-NC-SA 4.0"),
        ("crema_d_votes", "Open Database License 1.0"),
        ("meld_text", "GPL-3.0"),
        ("label_tables", "signed agreement"),
        ("author_records", "never copied"),
        ("class_means", "CIDer"),
    ],
)
def test_every_set_has_its_terms(folder: str, terms: str) -> None:
    rows = [line for line in (ROOT / "DATA_LICENSES.md").read_text().splitlines() if f"`{folder}`" in line]
    assert len(rows) == 1
    assert terms in rows[0]


def test_the_citation_file_keeps_its_schema_and_agrees_with_the_package() -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.citation-file-format"]
    done = subprocess.run([*command, str(ROOT / "CITATION.cff")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert len(citation["references"]) == 5


# What may never be tracked


def test_no_data_file_is_tracked(tracked: list[str]) -> None:
    kinds = re.compile(
        r"\.(pkl|pickle|csd|npy|h5|hdf5|mat|wav|mp4|avi|pt|pth|joblib)$|(^|/)(utterances|segments)\.csv|(features|words|votes)\.npz$"
    )
    assert not [name for name in tracked if kinds.search(name)]
    assert not [name for name in tracked if name.endswith(".npz") and not name.startswith("results/")]


def test_nothing_is_large(tracked: list[str]) -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked if (ROOT / name).is_file()}
    assert not {name: size for name, size in sizes.items() if size > 3_000_000}
    assert sum(size for name, size in sizes.items() if name.startswith("results/")) < 15_000_000


def test_no_tracked_text_holds_a_path_of_a_machine(tracked: list[str]) -> None:
    path = re.compile(r"(?<![\w.:/~-])/(?:home|root|work|tmp|Users)/\w")
    found = []
    for name in tracked:
        if name.startswith("tests/repo/") or name.startswith("tests/site/") or not (ROOT / name).is_file():
            continue
        found += [f"{name}: {m.group()}" for m in path.finditer((ROOT / name).read_bytes().decode("utf-8", "ignore"))]
    assert not found


def test_the_book_has_every_citation_of_the_models_as_they_give_it() -> None:
    from affectcore.models.cite import BIBTEX

    entries = re.split(r"\n+(?=@)", (ROOT / "book" / "references.bib").read_text().strip())
    known = {re.split(r"[{,]", e)[1]: e for e in entries}
    assert len(known) == len(entries)
    assert {k: known.get(k) for k in BIBTEX} == BIBTEX
