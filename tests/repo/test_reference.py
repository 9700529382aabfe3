"""The API reference: every module on one page, every public name shown, docstrings kept word for word."""

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from bs4 import BeautifulSoup
from docutils import nodes

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "book" / "reference").glob("*.md"))
SITE = ROOT / "_build" / "html" / "book" / "reference"


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "book" / "_ext" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = made
    spec.loader.exec_module(made)
    return made


def _below(name: str, tops: list[str]) -> bool:
    return any(name == t or name.startswith(t + ".") for t in tops)


def test_every_module_stands_on_one_page(extension: ModuleType) -> None:
    asked = []
    for page in PAGES:
        for names, without in re.findall(
            r"```\{api-reference\} (.*)\n(?::without: (.*)\n)?```", page.read_text("utf-8")
        ):
            asked.append((names.split(), without.split()))
    assert len(asked) == len(PAGES) == 10
    for m in extension.modules(ROOT / "affectcore"):
        pages = [a for a, without in asked if _below(m.name, a) and not _below(m.name, without)]
        bare = not ast.get_docstring(m.tree) and not any(extension.public(m.tree.body))
        assert len(pages) == 1 or (bare and not pages) or m.name == "affectcore", m.name


def test_public_names_are_those_that_python_finds(extension: ModuleType) -> None:
    for name in ("affectcore.data.schema", "affectcore.evaluation.statistics", "affectcore.training.recipe"):
        module = importlib.import_module(name)
        own = {
            k
            for k, v in vars(module).items()
            if not k.startswith("_") and getattr(v, "__module__", name) == name and not inspect.ismodule(v)
        }
        source = extension.Module.read(ROOT / "affectcore", Path(str(module.__file__)))
        assert own & {n for n, _ in extension.public(source.tree.body)} == {
            k for k in own if callable(vars(module)[k]) or k.isupper()
        } - {k for k in own if not re.search(rf"^(def|class) {k}\b|^{k}\b", source.source, re.M)}


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{3,}", re.sub(r"`|\*\*", "", text))


def test_docstrings_lose_no_word(extension: ModuleType) -> None:
    count = 0
    for m in extension.modules(ROOT / "affectcore"):
        for node in ast.walk(m.tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                shown = "\n".join(n.astext() for n in extension.laid_out(text, extension.names(node)))
                assert sorted(_words(shown)) == sorted(_words(text)), (m.name, text)
                count += 1
    assert count > 1000


def test_forms_of_a_docstring(extension: ModuleType) -> None:
    made = extension.laid_out(
        """Return `x`.

        a, b: first thing. c: second
            and more of it.   d: another. Not: a field
        low (float): bound

            code here

            and there

        * one
          goes on
        * two

        | symbol | name |
        |---|---|
        | x | \\|input\\| |
        """,
        {"a", "b", "c", "d", "low"},
    )
    assert [type(n) for n in made] == [
        nodes.paragraph, nodes.line_block, nodes.literal_block, nodes.bullet_list, nodes.table
    ]  # fmt: skip
    lines = ["a, b first thing.", "c second and more of it.", "d another. Not: a field", "low (float): bound"]
    assert [line.astext() for line in made[1]] == lines
    assert made[2].astext() == "code here\n\nand there"
    assert [i.astext() for i in made[3]] == ["one goes on", "two"]
    assert [c.astext() for c in made[4].findall(nodes.entry)] == ["symbol", "name", "x", "|input|"]


def test_only_names_of_the_documented_object_are_marked(extension: ModuleType) -> None:
    source = ast.parse(
        "class Model(Base):\n    rate: float\n    def f(self, x, *, size=1):\n        return {'mean': self.scale}\n"
    )
    known = extension.names(source)
    assert {"rate", "x", "size", "mean", "scale"} <= known
    assert not {"Model", "Base"} & known

    def marked(docstring: str) -> list[list[str]]:
        return [
            [n.astext() for n in line.findall(nodes.literal)]
            for made in extension.laid_out(docstring, known)
            for line in made.findall(nodes.line)
        ]

    for prose in ("Model: a network.", "Losses: one, two.", "Return (B,): the mean.", "The law\nrate: 1."):
        (made,) = extension.laid_out(prose, known)
        assert isinstance(made, nodes.paragraph)
        assert made.astext() == prose.replace("\n", " ")
    assert marked("x[m]: (B, T); size: of it,\nmean: its mean; other: no.") == [["x[m]"], ["size"], ["mean"]]
    assert marked("x[rate, size], scale (B,): both.") == [["x[rate, size]", "scale"]]
    assert marked("What it does. rate: share.\nSources: none.\nx: input.") == [["rate"], ["x"]]


def test_lists_keep_their_written_numbers_and_end_where_text_goes_on(extension: ModuleType) -> None:
    made = extension.laid_out(
        """Differences:
 1. one.   2. two, which goes on
without indentation.
 3. three.
    More of it.
Quirks, a text
of two lines:
12. twelve.
* a star""",
        set(),
    )
    kinds = [nodes.paragraph, nodes.enumerated_list, nodes.paragraph, nodes.enumerated_list, nodes.bullet_list]
    assert [type(n) for n in made] == kinds
    items = [["one.", "two, which goes on without indentation.", "three. More of it."], ["twelve."], ["a star"]]
    assert [[i.astext() for i in n] for n in made if not isinstance(n, nodes.paragraph)] == items
    assert [made[1]["start"], made[3]["start"]] == [1, 12]
    assert made[2].astext() == "Quirks, a text of two lines:"


def test_stress_and_arrows(extension: ModuleType) -> None:
    made = nodes.paragraph("", "", *extension.inline("the *set of ids*, H^*_m and (*x), a -> b, `a -> b`, a * b * c"))
    assert [n.astext() for n in made.findall(nodes.emphasis)] == ["set of ids"]
    assert made.astext() == "the set of ids, H^*_m and (*x), a -\u2060> b, a -> b, a * b * c"


def test_signatures_fields_and_constants(extension: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    file = tmp_path / "p" / "m.py"
    file.write_text(
        "from p.other import given, hidden\n__all__ = ['given', 'C']\nLIMIT: int = 3  # most\n_PRIVATE = 1\n"
        "class C(Base):\n    '''Doc.'''\n    # above\n    a: int = 1  # beside\n    _b: int = 2\n\n"
        "    @property\n    def p(self) -> int: ...\n    def m(self, x: int = 0) -> str: ...\n"
        "    @staticmethod\n    def s(x): ...\n    def _no(self): ...\n"
    )
    m = extension.Module.read(tmp_path / "p", file)
    assert m.name == "p.m"
    assert extension.exported(m) == {"given": "p.other.given"}
    (limit, constant), (name, c) = extension.public(m.tree.body)
    assert (limit, name) == ("LIMIT", "C")
    assert extension.shown(constant, m.source) == (": int = 3", "most")
    assert extension.fields(c, m.source) == "# above\na: int = 1  # beside"
    members = dict(extension.public(c.body))
    assert list(members) == ["a", "p", "m", "s"]
    assert extension.is_property(members["p"])
    assert extension.signature(members["m"], method=True) == "(x: int=0) -> str"
    assert extension.signature(members["s"], method=True) == "(x)"


def test_what_lies_deeper_than_its_heading(extension: ModuleType) -> None:
    _, said, listed = extension.laid_out(
        "First.\n\nX is one of\n    a (N,)     vector\n    SIZE       size;   RATE   rate\n    a list", set()
    )
    assert said.astext() == "X is one of"
    assert [i.astext() for i in listed] == ["a (N,): vector", "SIZE size", "RATE rate", "a list"]
    assert [n.astext() for n in listed.findall(nodes.literal)] == ["SIZE", "RATE"]
    _, hanging = extension.laid_out('First.\n\nloss["a" | "b"]: of both,\n    and\nother  what\n    not', set())
    assert [line.astext() for line in hanging] == ['loss["a" | "b"] of both, and', "other what not"]


def test_errors_are_not_said_of_the_last_field(extension: ModuleType) -> None:
    made = extension.laid_out("x: input.\ny: target. Raises DataError for\nno x.", {"x", "y"})
    assert [n.astext() for n in made] == ["x input.\n\ny target.", "Raises DataError for no x."]


def test_quoted_values_are_code(extension: ModuleType) -> None:
    text = nodes.paragraph("", "", *extension.inline('zero="has", "word", extras["a"]["b"] and "" for `c`'))
    assert [n.astext() for n in text.findall(nodes.literal)] == ['zero="has"', 'extras["a"]["b"]', '""', "c"]


def test_bars_inside_a_cell_part_nothing(extension: ModuleType) -> None:
    (table,) = extension.laid_out("| a | b |\n|---|---|\n| |x|^2 | \\|y\\| |", set())
    assert [c.astext() for c in table.findall(nodes.entry)] == ["a", "b", "|x|^2", "|y|"]


def test_fields_with_comments_are_lines(extension: ModuleType) -> None:
    assert isinstance(extension.laid_out_fields("a: int\nb: str = 'x'  # type: ignore"), nodes.literal_block)
    lines = extension.laid_out_fields(
        "# above\na: int = 1  # of `x`\nb: float = (\n    2.0  # half\n)  # fmt: skip\nc: str"
    )
    assert [line.astext() for line in lines] == ["above", "a: int = 1 of x", "b: float = 2.0 half", "c: str"]
    assert [n.astext() for n in lines[1].findall(nodes.literal)] == ["a: int = 1", "x"]


def test_private_bases_are_told_by_their_heirs(extension: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    file = tmp_path / "p" / "m.py"
    file.write_text(
        "class _Root(Base):\n    a: int\n    def __init__(self, n: int = 1): ...\nclass _Middle(_Root): b: int\n"
        "class C(Mixin, _Middle):\n    b = 2\n"
        "def run(n: Annotated[int, typer.Option(help='how many')] = 1) -> None: ...\n"
    )
    m = extension.Module.read(tmp_path / "p", file)
    c, run = m.tree.body[2:]
    assert [b.name for b in extension.private_bases(c, m)] == ["_Middle", "_Root"]
    assert extension.public_bases(c, m) == ["Mixin", "Base"]
    assert extension.constructor(m.tree.body[0].body) is not None
    assert extension.fields(m.tree.body[1], m.source, {"b"}) == ""
    assert extension.signature(run) == "(n: int=1) -> None"
    assert [line.astext() for line in extension.helps(run)] == ["n how many"]
    assert extension.helps(m.tree.body[0].body[1]) is None


@pytest.mark.skipif(not (SITE / "front_door.html").is_file(), reason="no site built; run `make site`")
def test_the_site_lists_every_public_name_once(extension: ModuleType) -> None:
    ids: list[str] = []
    for page in SITE.glob("*.html"):
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        ids += [str(t["id"]) for t in soup.select("dt[id], section[id]") if str(t["id"]).startswith("affectcore.")]
    assert len(ids) == len(set(ids))
    wanted = {
        f"{m.name}.{name}" for m in extension.modules(ROOT / "affectcore") for name, _ in extension.public(m.tree.body)
    }
    assert wanted <= set(ids), sorted(wanted - set(ids))[:10]
    assert len(wanted) > 1000


@pytest.mark.skipif(not (SITE / "front_door.html").is_file(), reason="no site built; run `make site`")
def test_the_site_cites_the_papers(extension: ModuleType) -> None:
    soup = BeautifulSoup((SITE / "models.html").read_text("utf-8"), "html.parser")
    links = soup.select('section[id="affectcore.models.affect_diff"] > p a[href*="appendix/references.html#"]')
    assert links
    assert "[affectdiff]" not in soup.get_text()
    assert "extras[extra]" in BeautifulSoup((SITE / "data.html").read_text("utf-8"), "html.parser").get_text()
