"""
Writes docs/reference/: one page for each module that a user imports from, made of its signatures and docstrings.

``make reference`` runs it. Signatures are taken from the sources, as they are written there, so that the pages are the same
under every version of Python. What another page describes is linked to.

    python docs/make_reference.py [FOLDER]
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

HERE = Path(__file__).parent

MODULES = (
    # The module that describes a name comes before those that hand it on.
    "pluperfect.flows pluperfect.tasks pluperfect.states pluperfect.futures pluperfect.task_runners"
    " pluperfect.cache_policies pluperfect.assets pluperfect.runtime pluperfect.context pluperfect.logging"
    " pluperfect.logging.loggers pluperfect.settings pluperfect.results pluperfect.serializers"
    " pluperfect.utilities.annotations pluperfect.utilities.math pluperfect.utilities.hashing pluperfect.errors"
    " pluperfect.exceptions pluperfect.rules pluperfect.transitions pluperfect.hooks pluperfect.histories pluperfect.evidence"
    " pluperfect.signing pluperfect.trees pluperfect.places pluperfect.comparing pluperfect.divergences pluperfect.replay"
    " pluperfect.strict pluperfect.testing pluperfect.testing.utilities pluperfect.testing.rules pluperfect"
    " pluperfect.client.schemas.objects pluperfect_dask"
).split()

SHOWN = {
    "pluperfect.settings": "get_current_settings temporary_settings settings sources Settings Setting Profile".split(),
    "pluperfect.cache_policies": "INPUTS TASK_SOURCE RUN_ID FLOW_PARAMETERS DEFAULT NO_CACHE NONE CachePolicy Inputs"
    " TaskSource RunId FlowParameters NoCache CacheKeyFnPolicy CompoundCachePolicy".split(),
    "pluperfect.serializers": "Serializer PickleSerializer JSONSerializer CompressedSerializer"
    " CompressedPickleSerializer CompressedJSONSerializer".split(),
}
"""Modules of which less is shown than they have, or in another order."""

EXTRA = {"pluperfect.histories": ["pluperfect.authoring.logs:OpenLog"]}
"""What is described on a page although it is not imported from there."""

ENGINE = {
    "Authored": {"define", "code", "entry", "bound_to"},
    "Flow": {"resume", "fork"},
    "Future": {
        *("run", "step", "run_async", "go_into_loop", "withdraw", "led", "cancel", "settle", "tell"),
        *("looked_at", "look", "frame", "run_name", "called_by", "ended"),
    },
    "OpenLog": {"define", "attending", "recorded_options", "validated", "turn"},
    "Histories": {"show", "recorded_data", "load", "called", "each_called", "unpack", "dated", "details"},
    "State": {"read_with", "belongs_to"},
    "LOOP": {"state"},
}
"""Members that the engine alone calls."""

SPOKEN = {"__call__", "__add__", "__sub__", "__await__"}
"""Methods with two underscores that are described."""


class Definition(NamedTuple):
    """Where something is defined: its nodes in the source, several where it is overloaded."""

    nodes: list[ast.AST]
    doc: str


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a module."""
    file = inspect.getsourcefile(importlib.import_module(module))
    assert file is not None, module
    return ast.parse(Path(file).read_text(encoding="utf-8"))


def in_body(body: list[ast.stmt]) -> dict[str, Definition]:
    """What a body defines: functions, classes, and assignments with the text that stands under them."""
    found: dict[str, Definition] = {}
    for at, node in enumerate(body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            earlier = found.get(node.name)
            nodes = [*(earlier.nodes if earlier else []), node]
            found[node.name] = Definition(nodes, ast.get_docstring(node) or (earlier.doc if earlier else ""))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            after = body[at + 1] if at + 1 < len(body) else None
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            if isinstance(target, ast.Name):
                found.setdefault(target.id, Definition([node], inspect.cleandoc(text) if isinstance(text, str) else ""))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            found.update(in_body(node.body))
    return found


@cache
def defined(module: str) -> dict[str, Definition]:
    """What a module defines."""
    return in_body(tree_of(module).body)


# --- signatures -----------------------------------------------------------------------------------------


def decorators(node: ast.AST) -> list[str]:
    """Its decorators, as they are written."""
    return [ast.unparse(decorator) for decorator in getattr(node, "decorator_list", [])]


def signature(name: str, node: ast.AST, *, method: bool = False) -> str:
    """The head of a function as it is written, without its first argument if it is a method."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    parts = arguments(node.args)
    if method and "staticmethod" not in decorators(node):
        parts = parts[1:]
        if parts[:1] == ["/"]:
            parts = parts[1:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and node.name != "__init__" else ""
    word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return wrapped(f"{word}{name}", parts, returns)


def arguments(args: ast.arguments) -> list[str]:
    """The arguments one by one, as they are written."""
    parts: list[str] = []
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    for at, (arg, default) in enumerate(zip(positional, defaults, strict=True), 1):
        parts.append(argument(arg, default))
        if at == len(args.posonlyargs):
            parts.append("/")
    if args.vararg is not None:
        parts.append(f"*{ast.unparse(args.vararg)}")
    elif args.kwonlyargs:
        parts.append("*")
    parts += [argument(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg is not None:
        parts.append(f"**{ast.unparse(args.kwarg)}")
    return parts


def argument(arg: ast.arg, default: ast.expr | None) -> str:
    """One argument, as it is written."""
    text = ast.unparse(arg)
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if arg.annotation is not None else f"{text}={ast.unparse(default)}"


def wrapped(name: str, parts: list[str], returns: str) -> str:
    """In one line if it fits, else one argument a line."""
    line = f"{name}({', '.join(parts)}){returns}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def fields_of(cls: type) -> list[str] | None:
    """The arguments of a record, from the fields of its class and those before it; None for other classes."""
    if not hasattr(cls, "__struct_fields__"):
        return None
    written: dict[str, str] = {}
    by_name: set[str] = set()
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("pluperfect"):
            node = class_node(base)
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = f"{field.target.id}: {ast.unparse(field.annotation)}"
                    written[field.target.id] = text if field.value is None else f"{text} = {ast.unparse(field.value)}"
                    if any(keyword.arg == "kw_only" for keyword in node.keywords):
                        by_name.add(field.target.id)
    names = [name for name in cls.__struct_fields__ if name in written]  # type: ignore[attr-defined]
    first = next((at for at, name in enumerate(names) if name in by_name), None)
    parts = [written[name] for name in names]
    return parts if first is None else [*parts[:first], "*", *parts[first:]]


def class_node(cls: type) -> ast.ClassDef:
    """Where a class is defined."""
    node: Any = defined(cls.__module__)[cls.__qualname__].nodes[-1]
    return node


# --- text -----------------------------------------------------------------------------------------------

FENCE = "`" * 3
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")


def markdown(doc: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    items: list[str] | None = None
    tables = re.compile(r"^(=+ ).*^\1.*?$", re.MULTILINE | re.DOTALL)
    for line in tables.sub(lambda table: block(table[0]), doc.replace("``", "`")).splitlines():
        section = SECTION.match(line)
        if section:
            items = []
            lines += [f"*{section[1]}*", ""] if not lines or not lines[-1] else ["", f"*{section[1]}*", ""]
        elif items is not None and line.startswith("    "):
            if line.startswith("     "):
                lines[-1] += f" {line.strip()}"
            else:
                name, colon, rest = line.strip().partition(": ")
                lines.append(f"- `{name.strip('`')}`: {rest}" if colon and len(name) < 60 else f"- {line.strip()}")
        elif items is not None and line and not line.startswith(" "):
            items = None
            lines.append(line)
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def block(text: str) -> str:
    """A text as it stands."""
    return f"{FENCE}text\n{text}\n{FENCE}"


def noted(cls: type) -> str:
    """The attributes of a class that have a text under them."""
    found = in_body(class_node(cls).body).items()
    return "\n".join(f"- `{n}`: {markdown(d.doc)}" for n, d in found if d.doc and isinstance(d.nodes[0], ast.AnnAssign))


class Missing(list[str]):
    """Names without a docstring."""


def pages_of(cls: type) -> list[type]:
    """The bases of a class that are described themselves."""
    return [base for base in cls.__mro__[1:] if base.__module__.startswith("pluperfect") and base.__name__ in place]


def inherited(cls: type, name: str) -> bool:
    """Whether a member is described where it comes from."""
    return any(name in vars(base) and vars(base)[name].__doc__ for base in cls.__mro__[1:])


def members(cls: type, missing: Missing) -> Iterator[str]:
    """The members of a class, its own and those that bases without a page give it."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("pluperfect") or any(base in known.__mro__ for known in pages_of(cls)):
            continue
        hidden = set().union(*(ENGINE.get(parent.__name__, set()) for parent in cls.__mro__))
        for name, found in in_body(class_node(base).body).items():
            if name in seen or name in hidden or (name.startswith("_") and name not in SPOKEN):
                continue
            seen.add(name)
            nodes = [node for node in found.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            if not nodes:
                continue
            doc = found.doc
            if not doc and inherited(cls, name):
                continue
            if not doc:
                missing.append(f"{cls.__module__}.{cls.__name__}.{name}")
            node = nodes[-1]
            if {"property", "cached_property"} & set(decorators(node)):
                returns = f": {ast.unparse(node.returns)}" if node.returns is not None else ""
                yield f"**`{name}{returns}`**\n\n{markdown(doc)}"
                continue
            word = "classmethod " if "classmethod" in decorators(node) else ""
            shown = "" if name == "__call__" else f".{name}"
            yield f"{block(word + signature(shown or '()', node, method=True).replace('()(', '('))}\n\n{markdown(doc)}"


def described(name: str, value: Any, home: str, missing: Missing) -> str:
    """One name: heading, signature, text, members."""
    module = getattr(value, "__module__", home)
    known = defined(module).get(getattr(value, "__qualname__", "")) if module.startswith("pluperfect") else None
    parts = [f"## {name}"]
    if isinstance(value, type) and known is not None:
        bases = [base.__name__ for base in value.__bases__ if base.__name__ in place or base.__module__ == "builtins"]
        fields = fields_of(value)
        init = in_body(class_node(value).body).get("__init__")
        if fields is not None:
            head = wrapped(name, fields, "")
        elif init is not None:
            head = signature(name, init.nodes[-1], method=True)
        else:
            head = name
        parts.append(block(f"class {head}"))
        shown = [f"`{base}`" for base in bases if base != "object"]
        if shown:
            parts.append(f"A kind of {', '.join(shown)}.")
        if not known.doc:
            missing.append(f"{module}.{name}")
        parts += [markdown(known.doc), noted(value), *members(value, missing)]
    elif callable(value) and known is not None:
        nodes = [node for node in known.nodes if "overload" in decorators(node)]
        chosen = [nodes[-1]] if nodes else [known.nodes[-1]]
        heads = [f"@{d}" for d in decorators(chosen[0]) if d == "contextmanager"]
        parts.append(block("\n".join([*heads, *(signature(name, node) for node in chosen)])))
        if not known.doc:
            missing.append(f"{module}.{name}")
        parts.append(markdown(known.doc))
    else:
        parts += constant(name, value, home, missing)
    return "\n\n".join(part for part in parts if part)


def constant(name: str, value: Any, home: str, missing: Missing) -> list[str]:
    """A value that a module holds."""
    found = source_of(name, home)
    doc = markdown(found.doc) if found else ""
    if isinstance(value, ModuleType):  # a place whose attributes are asked for one by one
        doc = markdown(inspect.getdoc(value) or "")
        value = getattr(importlib.import_module(f"{home}.places"), name.upper())
    if not doc and found:
        doc = remark(name, home)
    attributes = getattr(type(value), "_known", None)
    if attributes is not None:
        return [
            markdown(inspect.getdoc(type(value)) or ""),
            "Has " + ", ".join(f"`{known}`" for known in attributes) + ".",
        ]
    if not doc:
        missing.append(f"{home}.{name}")
    node = found.nodes[-1] if found else None
    text = ast.unparse(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ""
    short = text if text and len(text) <= 100 else text.partition(" = ")[0]
    return [block(short) if short else "", doc]


def remark(name: str, home: str) -> str:
    """The comment behind the line that defines a value."""
    module = home_of(name, home)
    file = inspect.getsourcefile(importlib.import_module(module))
    found = re.search(rf"^{name}\b[^#\n]*  # (.+)$", Path(str(file)).read_text(encoding="utf-8"), re.MULTILINE)
    return f"{found[1][0].upper()}{found[1][1:].rstrip('.')}." if found else ""


def source_of(name: str, home: str) -> Definition | None:
    """The definition of a value that may have been imported from elsewhere."""
    return defined(home_of(name, home)).get(name)


def home_of(name: str, module: str) -> str:
    """The module that defines a value: this one, or the one that it is imported from."""
    if name in defined(module):
        return module
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            above = module.split(".")
            file = Path(str(importlib.import_module(module).__file__))
            above = above[: len(above) + (file.stem == "__init__") - node.level] if node.level else []
            there = ".".join([*above, *([node.module] if node.module else [])])
            return module if there == module else home_of(name, there)
    return module


# --- pages ----------------------------------------------------------------------------------------------

place: dict[str, str] = {}
"""Where a name is described: the module's page."""


def anchor(name: str, page: list[str]) -> str:
    """Where a name is described; of headings that differ in capitals alone, the second has a number."""
    earlier = sum(other.lower() == name.lower() for other in page[: page.index(name)])
    return f"{place[name]}.md#{name.lower()}{f'-{earlier}' if earlier else ''}"


def names_of(module: str) -> list[str]:
    """What is shown of a module."""
    loaded = importlib.import_module(module)
    return SHOWN.get(module) or list(loaded.__all__)


def build() -> tuple[dict[str, str], Missing]:
    """The pages by file name, and what has no docstring."""
    pages: dict[str, str] = {}
    missing = Missing()
    homes: dict[int, str] = {}
    here: dict[str, list[str]] = {}
    for module in MODULES:
        here[module] = []
        for name in names_of(module):
            value = getattr(importlib.import_module(module), name)
            if id(value) not in homes or (value is None or isinstance(value, int | str)):
                homes[id(value)] = name
                place[name] = module
                here[module].append(name)
        for extra in EXTRA.get(module, []):
            source, _, name = extra.partition(":")
            place[name] = module
            here[module].append(name)
            homes[id(getattr(importlib.import_module(source), name))] = name
    sources = {name: source for extras in EXTRA.values() for source, _, name in (e.partition(":") for e in extras)}
    for module in MODULES:
        loaded = importlib.import_module(module)
        parts = [f"# {module}", markdown(inspect.cleandoc(loaded.__doc__ or ""))]
        handed = []
        for name in sorted(set(names_of(module)) - set(here[module]), key=lambda name: (name.lower(), name)):
            same = homes[id(getattr(loaded, name))]
            label = f"`{name}`" if same == name else f"`{name}` (another name for `{same}`)"
            handed.append(f"- [{label}]({anchor(same, here[place[same]])})")
        for name in here[module]:
            source = sources.get(name, module)
            parts.append(described(name, getattr(importlib.import_module(source), name), source, missing))
        if handed:
            title = "## Described elsewhere" if here[module] else "These names are described elsewhere:"
            parts.append(title + "\n\n" + "\n".join(handed))
        pages[f"{module}.md"] = "\n\n".join(part for part in parts if part) + "\n"
    rows = []
    for module in sorted(MODULES):
        doc = (importlib.import_module(module).__doc__ or "").strip().splitlines()
        rows.append(f"| [{module}]({module}.md) | {doc[0].replace('``', '`') if doc else ''} |")
    pages["README.md"] = (
        textwrap.dedent("""\
        # Reference

        Signatures and descriptions, taken from the sources by `make reference`. For guides see [docs](../README.md).

        | module | |
        |---|---|
        """)
        + "\n".join(rows)
        + "\n"
    )
    return pages, missing


def main() -> None:
    """Write the pages into the folder that is named, by default docs/reference."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "reference"
    pages, missing = build()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in missing:
        print(f"no docstring: {name}", file=sys.stderr)
    print(f"{len(pages)} pages, {sum(text.count(chr(10)) for text in pages.values())} lines")


if __name__ == "__main__":
    main()
