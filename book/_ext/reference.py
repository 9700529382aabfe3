"""The directive `api-reference`: modules of the package with their public names, read from the source, never imported.

    ```{api-reference} affectcore.data affectcore.errors
    :without: affectcore.data.worlds
    ```

Each name is what is defined in a module and does not begin with an underscore. Signatures, fields with their comments
and docstrings are shown as they stand; docstrings here are plain text with `code`, lists, tables, "name: meaning"
lines and [keys] of the bibliography, so they are laid out without a markup parser that could stumble over a formula.
Names are entered into the Python domain: {py:obj}`affectcore.api.train` links to its place.
"""

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any, cast

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util.docutils import SphinxDirective

ITEM = re.compile(r"^ ?(?:\*|(\d+)\.) ")
MARKED = re.compile(
    r"(`[^`]+`|\*\*[^*]+\*\*|(?<![\w^*])\*[A-Za-z][A-Za-z ]*\*(?![\w*])"  # not the stars of H^*_m
    r"|\b\w+=\"[^\"]*\"|\b\w+(?:\[\"\w+\"\])+|(?<!\w)\"\")"  # x="y", x["y"] and "": with straight quotation marks
)
HEADED = re.compile(r"(\w+(?:\[[^]]*\])?(?:, \w+)*)(?:\s{2,}|: )(?=\S)")  # "name   meaning" or "name: meaning"
CITED = re.compile(r"(?<![\w\]])\[(\w+)\]")  # not the index of x[m]
ARROW = ("->", "-\u2060>")  # no line ends inside
LONGEST = 110  # characters shown of a constant's value


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, path, text and syntax tree."""

    name: str
    path: Path
    source: str
    tree: ast.Module

    @classmethod
    def read(cls, root: Path, path: Path) -> "Module":
        parts = path.relative_to(root.parent).with_suffix("").parts
        source = path.read_text("utf-8")
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        return cls(name, path, source, ast.parse(source))


Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def modules(root: Path) -> list[Module]:
    """Return the modules below a package's folder, by name."""
    return sorted((Module.read(root, p) for p in root.rglob("*.py")), key=lambda m: m.name)


def public(body: list[ast.stmt]) -> Iterator[tuple[str, Definition]]:
    """Yield (name, definition) of what a body defines under a public name, in order."""
    for s in body:
        if isinstance(s, ast.FunctionDef | ast.ClassDef):
            targets = [s.name]
        elif isinstance(s, ast.Assign):
            targets = [t.id for t in s.targets if isinstance(t, ast.Name)]
        elif isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name):
            targets = [s.target.id]
        else:
            continue
        for name in targets:
            if not name.startswith("_"):
                yield name, cast(Definition, s)


def exported(module: Module) -> dict[str, str]:
    """Return the public names that a module takes from others and lists in `__all__`: name -> full name."""
    found: dict[str, str] = {}
    listed: set[str] = set()
    for s in module.tree.body:
        if isinstance(s, ast.ImportFrom) and s.module:
            found |= {a.asname or a.name: f"{s.module}.{a.name}" for a in s.names}
        if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in s.targets):
            listed = set(ast.literal_eval(s.value))
    return {k: v for k, v in sorted(found.items()) if k in listed}


# Docstrings


def inline(text: str) -> list[nodes.Node]:
    """Return text with `code`, **strong** and *stressed* parts."""
    out: list[nodes.Node] = []
    for i, part in enumerate(MARKED.split(text)):
        if i % 2 and not part.startswith("*"):
            out.append(nodes.literal("", part.strip("`")))
        elif i % 2:
            kind = nodes.strong if part.startswith("**") else nodes.emphasis
            out.append(kind("", part.strip("*")))
        elif part:
            out.append(nodes.Text(part.replace(*ARROW)))
    return out


def paragraph(lines: list[str]) -> nodes.paragraph:
    return nodes.paragraph("", "", *inline(" ".join(" ".join(lines).split())))


def names(definition: ast.AST) -> set[str]:
    """Return what "name: meaning" can speak of: parameters, fields, keys and their values; prose has a capital."""
    found = set()
    for n in ast.walk(definition):
        if isinstance(n, ast.arg | ast.keyword) and n.arg:
            found.add(n.arg)
        elif isinstance(n, ast.Name | ast.Attribute):  # also where it is read: fields of a base class
            found.add(n.id if isinstance(n, ast.Name) else n.attr)
        elif isinstance(n, ast.Constant) and isinstance(n.value, str):
            found.add(n.value)
    return {name for name in found if name.isidentifier() and not name[0].isupper()}


def laid_out(docstring: str, known: set[str]) -> list[nodes.Node]:
    """Return a docstring as nodes: paragraphs, lists, tables, code, and lines "name: meaning" of the known names."""
    out: list[nodes.Node] = []
    for block in re.split(r"\n[ \t]*\n", cleandoc(docstring)):
        lines = block.rstrip().splitlines()
        if not lines:
            continue
        if all(line.startswith("    ") for line in lines):
            code = "\n".join(line[4:] for line in lines)
            if out and isinstance(out[-1], nodes.literal_block):  # one block with an empty line in it
                code = f"{out.pop().astext()}\n\n{code}"
            out.append(nodes.literal_block(code, code, language="text"))
        elif lines[0].startswith("|") and len(lines) > 2:
            out.append(_table(lines))
        elif any(ITEM.match(line) for line in lines):
            out += _items(lines)
        elif (
            all(line.startswith("    ") for line in lines[1:]) and re.search(r"^[^:]*:?$", lines[0]) and len(lines) > 2
        ):
            out += _announced(lines)
        elif any(line.startswith("    ") for line in lines[1:]) and (entries := _entries(lines)):
            out.append(entries)
        else:
            out += _fields(block, known)
    return out


def _fields(block: str, known: set[str]) -> list[nodes.Node]:
    """Return fields and prose; what the function raises is said after the last field, not of it."""
    said, *raised = re.split(r"(?<=\.)\s+(?=Raises [A-Z])", block, maxsplit=1)
    out = _parts(said, known)
    if raised and isinstance(out[-1], nodes.line_block):
        return out + _parts(raised[0], known)
    return _parts(block, known)


def _parts(block: str, known: set[str]) -> list[nodes.Node]:
    either = "|".join([*sorted(known & set(re.findall(r"\w+", block))), r"\w+_\*"])  # all known names would be slow
    name = rf"`?(?:{either})(?:\[[^]]*\])*`?"
    head = rf"({name}(?:,\s+{name})*)(\s\([^)]*\))?:\s+(?=\S)"
    out: list[nodes.Node] = []
    # fields, or prose such as "Sources: ...", begin after a sentence
    for part in re.split(rf"(?<=[.)])\n(?=[A-Z]\w*(?: \([^)]*\))?: )|(?:(?<=\.)\s|(?<=\))\n)(?={head})", block)[::3]:
        if not re.match(head, part):
            out.append(paragraph([part]))
            continue
        if not (out and isinstance(out[-1], nodes.line_block)):
            out.append(nodes.line_block(classes=["api-fields"]))
        found = re.split(rf"(?:\A|\n|(?<=[.;,])\s+| {{3,}}){head}", part)[1:]
        for named, shape, meaning in zip(found[::3], found[1::3], found[2::3], strict=True):
            line = nodes.line()
            for i, field in enumerate(re.split(r",\s+(?![^[]*\])", named)):
                line += [*([nodes.Text(", ")] if i else []), nodes.literal("", field.replace("`", ""))]
            text = f"{shape}: {meaning}" if shape else f" {meaning}"
            line += inline(re.sub(r"\s+", " ", text).rstrip(" ;,"))
            out[-1] += line
    return out


def _named(name: str, text: str) -> list[nodes.Node]:
    """Return `name` and what is said of it, as in a line of fields."""
    return [nodes.literal("", name), nodes.Text(" "), *inline(" ".join(text.split()).rstrip(" ;,"))]


def _announced(lines: list[str]) -> list[nodes.Node]:
    """Return a sentence and below it what its indented lines list, several to a line where wide gaps part them."""
    found = nodes.bullet_list(bullet="*")
    for line in lines[1:]:
        parts = re.split(r"\s{2,}", line.strip())
        for name, meaning in zip(parts[::2], [*parts[1::2], ""], strict=False):
            if meaning and re.fullmatch(r"\w+", name):
                found += nodes.list_item("", nodes.paragraph("", "", *_named(name, meaning)))
            else:
                found += nodes.list_item("", paragraph([f"{name}: {meaning}" if meaning else name]))
    return [paragraph(lines[:1]), found]


def _entries(lines: list[str]) -> nodes.line_block | None:
    """Return fields whose meaning hangs below their name, None if a line that is not indented begins otherwise."""
    block = nodes.line_block(classes=["api-fields"])
    for entry in re.split(r"\n(?! )", "\n".join(lines)):
        head = HEADED.match(entry)
        if not head:
            return None
        line = nodes.line()
        for i, name in enumerate(head[1].split(", ")):
            line += [*([nodes.Text(", ")] if i else []), nodes.literal("", name)]
        line += [nodes.Text(" "), *inline(" ".join(entry[head.end() :].split()))]
        block += line
    return block


def _items(lines: list[str]) -> list[nodes.Node]:
    """Return lists with their written numbers, and as paragraphs what stands before, between and after them."""
    parts: list[tuple[str, list[str]]] = []  # "*", a number, or "" for a paragraph, and its lines
    for line in (x for written in lines for x in re.split(r" {2,}(?=\d+\. )", written)):
        item = ITEM.match(line)
        if item:
            parts.append((item[1] or "*", [line[item.end() :]]))
        elif parts and (not parts[-1][0] or line.startswith(" ") or not parts[-1][1][-1].endswith(".")):
            parts[-1][1].append(line)  # also what is not indented, in the middle of a sentence
        else:
            parts.append(("", [line]))
    out: list[nodes.Node] = []
    before = ""
    for mark, text in parts:
        if mark == "*" != before:
            out.append(nodes.bullet_list(bullet="*"))
        elif mark.isdigit() and not before.isdigit():
            out.append(nodes.enumerated_list(enumtype="arabic", prefix="", suffix=".", start=int(mark)))
        if mark:
            out[-1] += nodes.list_item("", paragraph(text))
        else:
            out.append(paragraph(text))
        before = mark
    return out


def _table(lines: list[str]) -> nodes.table:
    rows = [[c.strip() for c in re.split(r"(?<=\s)\|(?=\s)", line.strip()[1:-1])] for line in _rows(lines)]
    width = max(map(len, rows))
    group = nodes.tgroup(cols=width)
    group += [nodes.colspec(colwidth=1) for _ in range(width)]
    for part, which in ((nodes.thead(), rows[:1]), (nodes.tbody(), rows[2:])):
        for cells in which:
            row = nodes.row()
            for cell in cells + [""] * (width - len(cells)):
                row += nodes.entry("", paragraph([cell.replace("\\|", "|")]))
            part += row
        group += part
    return nodes.table("", group)


def _rows(lines: list[str]) -> list[str]:
    out: list[str] = []
    for line in lines:
        if line.startswith("|") or not out:
            out.append(line)
        else:
            out[-1] += " " + line.strip()
    return out


# Definitions


class _Plain(ast.NodeTransformer):
    """Types without what `Annotated` adds for the command line."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "Annotated" and isinstance(node.slice, ast.Tuple):
            return node.slice.elts[0]
        return self.generic_visit(node)


def signature(f: ast.FunctionDef, method: bool = False) -> str:
    """Return a function's parameters and what it returns, as written; `Annotated` types without their annotations."""
    arguments = _Plain().visit(ast.parse(f"def f({ast.unparse(f.args)}): ...").body[0]).args
    if method and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in f.decorator_list):
        (arguments.posonlyargs or arguments.args)[:1] = []
    returns = f" -> {ast.unparse(f.returns)}" if f.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def helps(f: ast.FunctionDef) -> nodes.line_block | None:
    """Return what the command line says of a function's parameters, None if it says nothing."""
    block = nodes.line_block(classes=["api-fields"])
    for a in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]:
        for call in ast.walk(a.annotation) if a.annotation else ():
            for k in call.keywords if isinstance(call, ast.Call) else ():
                if k.arg == "help" and isinstance(k.value, ast.Constant):
                    block += nodes.line("", "", *_named(a.arg, k.value.value))
    return block if block.children else None


def private_bases(c: ast.ClassDef, m: Module) -> list[ast.ClassDef]:
    """Return the classes of the module, not public, that a class is built on: nearest first."""
    own = {s.name: s for s in m.tree.body if isinstance(s, ast.ClassDef)}
    found = []
    for base in c.bases:
        if isinstance(base, ast.Name) and base.id.startswith("_") and base.id in own:
            found += [own[base.id], *private_bases(own[base.id], m)]
    return found


def public_bases(c: ast.ClassDef, m: Module) -> list[str]:
    """Return the bases of a class, the public ones of its private bases in their place."""
    hidden = {b.name: b for b in private_bases(c, m)}
    found = []
    for base in c.bases:
        name = ast.unparse(base)
        found += public_bases(hidden[name], m) if name in hidden else [name]
    return list(dict.fromkeys(found))


def constructor(body: list[ast.stmt]) -> ast.FunctionDef | None:
    return next(
        (s for s in body if isinstance(s, ast.FunctionDef) and s.name == "__init__" and len(s.args.args) > 1), None
    )


def is_property(f: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id in ("property", "cached_property") for d in f.decorator_list)


def fields(c: ast.ClassDef, source: str, without: Collection[str] = ()) -> str:
    """Return the source of a class's public fields, with the comments beside and above them."""
    lines, out = source.splitlines(), []
    for s in c.body:
        if isinstance(s, ast.Assign | ast.AnnAssign) and any(name not in without for name, _ in public([s])):
            first = s.lineno - 1
            while first > 0 and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            out += [line[s.col_offset :] for line in lines[first : s.end_lineno]]
    return "\n".join(out)


def laid_out_fields(source: str) -> nodes.Element:
    """Return fields as code; with comments a line each, which a reader need not scroll sideways."""
    comments: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (text := re.sub(r"(?:^|  )# (?:type:|fmt:|noqa).*$", "", token.string)):
            before = source.splitlines()[token.start[0] - 1][: token.start[1]].strip()
            (comments if before else alone)[token.start[0]] = text.removeprefix("#").strip()
    if not (comments or alone):
        return nodes.literal_block(source, source, language="python")
    block = nodes.line_block(classes=["api-fields"])
    last = 0
    for s in ast.parse(source).body:
        above = " ".join(text for at, text in alone.items() if last < at < s.lineno)
        if above:
            block += nodes.line("", "", nodes.emphasis("", "", *inline(above)))
        last = s.end_lineno or s.lineno
        said = " ".join(text for at, text in sorted((comments | alone).items()) if s.lineno <= at <= last)
        code = " ".join(ast.unparse(s).split())
        block += nodes.line("", "", nodes.literal("", code), *([nodes.Text(" "), *inline(said)] if said else []))
    return block


def shown(s: ast.Assign | ast.AnnAssign, source: str) -> tuple[str, str]:
    """Return a constant's type and value in one short line, and the comment beside it."""
    line = source.splitlines()[(s.end_lineno or s.lineno) - 1]
    tail = re.search(r"  # (?!type:|fmt:|noqa)(.*?)(?:  # (?:type:|fmt:|noqa).*)?$", line)
    kind = f": {ast.unparse(s.annotation)}" if isinstance(s, ast.AnnAssign) else ""
    value = "" if s.value is None else " = " + " ".join(ast.unparse(s.value).split())
    text = kind + value
    return text if len(text) <= LONGEST else text[: LONGEST - 2] + " …", tail[1] if tail else ""


class ApiReference(SphinxDirective):
    """Sections, one a module, of everything public in the named modules and what lies below them."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"without": directives.unchanged}  # noqa: RUF012 - docutils' own form

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir) / "affectcore"
        below = lambda name, tops: any(name == t or name.startswith(t + ".") for t in tops)  # noqa: E731
        tops, without = self.arguments[0].split(), self.options.get("without", "").split()
        found = [m for m in modules(root) if below(m.name, tops) and not below(m.name, without)]
        out: list[nodes.Node] = []
        for m in found:
            self.env.note_dependency(str(m.path))
            if ast.get_docstring(m.tree) or any(True for _ in public(m.tree.body)):
                out.append(self.module(m))
        missing = [t for t in tops if not any(m.name == t or m.name.startswith(t + ".") for m in found)]
        if missing:
            raise self.error(f"api-reference: there is no module {missing[0]}")
        self.cite(out)
        return out

    def cite(self, content: list[nodes.Node]) -> None:
        """Make citations of the keys of `references.bib` that stand in brackets."""
        keys = cast(Any, self.env.get_domain("cite")).bibdata.data.entries
        for p in [p for node in content for p in node.findall(nodes.TextElement) if not isinstance(p, nodes.literal)]:
            for text in [t for t in p.children if isinstance(t, nodes.Text)]:
                parts: list[nodes.Node] = []
                for i, part in enumerate(CITED.split(text)):
                    if i % 2 and part in keys:
                        parts += self.state.inline_text(f"{{cite}}`{part}`", self.lineno)[0]
                    elif part:
                        parts.append(nodes.Text(f"[{part}]" if i % 2 else part))
                p.replace(text, parts)

    @property
    def python(self) -> PythonDomain:
        return cast(PythonDomain, self.env.get_domain("py"))

    def module(self, m: Module) -> nodes.section:
        section = nodes.section(ids=[m.name], names=[])
        section += nodes.title("", "", nodes.literal("", m.name))
        self.state.document.note_explicit_target(section)
        self.python.note_module(m.name, m.name, "", "", False)
        self.python.note_object(m.name, "module", m.name, location=section)
        section += laid_out(ast.get_docstring(m.tree, clean=True) or "", names(m.tree))
        given = exported(m)
        if given:
            taken = nodes.paragraph("", "From elsewhere: ")
            for i, (name, home) in enumerate(given.items()):
                link = addnodes.pending_xref(
                    "", nodes.literal("", name), refdomain="py", reftype="obj", reftarget=home, refexplicit=True,
                    refwarn=True, refdoc=self.env.docname,
                )  # fmt: skip
                taken += [*([nodes.Text(", ")] if i else []), link]
            section += taken
        for name, s in public(m.tree.body):
            if isinstance(s, ast.ClassDef):
                section += self.of_class(m, s)
            elif isinstance(s, ast.FunctionDef):
                said = laid_out(ast.get_docstring(s) or "", names(s))
                told = helps(s)
                section += self.entry(f"{m.name}.{name}", "function", signature(s), [*said, told] if told else said)
            else:
                text, comment = shown(s, m.source)
                section += self.entry(f"{m.name}.{name}", "data", text, laid_out(comment, set()))
        return section

    def of_class(self, m: Module, c: ast.ClassDef) -> list[nodes.Node]:
        """Return a class with what it has of private classes: nobody can look those up."""
        line = [c, *private_bases(c, m)]
        bases = public_bases(c, m)
        full = f"{m.name}.{c.name}"
        said: list[nodes.Node] = []
        for one in line:
            docstring = re.sub(rf"`(?:{'|'.join(x.name for x in line)})\.(?=\w+`)", "`", ast.get_docstring(one) or "")
            made = laid_out(docstring, names(one))
            said += made[1:] if one is not c and isinstance(next(iter(made), None), nodes.paragraph) else made
        out = self.entry(full, "class", f"({', '.join(bases)})" if bases else "", said)
        content = cast(Any, out[-1])[-1]
        first = next((f for f in (constructor(one.body) for one in line) if f), None)
        if first:
            arguments = signature(first, method=True).removesuffix(" -> None")
            shown = nodes.inline("", f"{c.name}{arguments}", classes=["api-signature"], support_smartquotes=False)
            content += nodes.paragraph("", "", shown, classes=["api-constructor"])
        own = {name for name, _ in public(c.body)}
        written = [*(fields(one, m.source, own) for one in reversed(line[1:])), fields(c, m.source)]
        if any(written):
            text = "\n".join(filter(None, written))
            content += laid_out_fields(text)
        members: dict[str, tuple[ast.ClassDef, ast.FunctionDef]] = {}
        for one in line:
            for name, s in public(one.body):
                if isinstance(s, ast.FunctionDef):
                    members.setdefault(name, (one, s))
        for name, (one, s) in members.items():
            kind = "property" if is_property(s) else "method"
            returns = f": {ast.unparse(s.returns)}" if s.returns else ""
            text = returns if kind == "property" else signature(s, method=True)
            told = laid_out(ast.get_docstring(s) or "", names(one))
            content += self.entry(f"{full}.{name}", kind, text, told, inside=c.name)
        return out

    def entry(self, full: str, kind: str, text: str, said: list[nodes.Node], inside: str = "") -> list[nodes.Node]:
        """Return one name: its place in the index, its signature and what its docstring says."""
        module, _, name = full.rpartition(".")
        short = f"{inside}.{name}" if inside else name
        line = addnodes.desc_signature(short, "", ids=[full], module=module, fullname=short, classes=["py"])
        if kind in ("class", "property"):
            line += addnodes.desc_annotation(f"{kind} ", f"{kind} ")
        line += addnodes.desc_name(name, name)
        line += nodes.inline(text, text.replace(*ARROW), classes=["api-signature"])
        self.state.document.note_explicit_target(line)
        self.python.note_object(full, kind, full, location=line)
        content = addnodes.desc_content("", *said)
        index = addnodes.index(entries=[("single", f"{short} ({module.removesuffix('.' + inside)})", full, "", None)])
        return [
            index,
            addnodes.desc(
                "", line, content, domain="py", objtype=kind, desctype=kind, no_index=False, classes=["py", kind]
            ),
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("api-reference", ApiReference)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
