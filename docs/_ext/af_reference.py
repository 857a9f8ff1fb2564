"""Reference pages made from what they describe, so that neither can leave the other behind.

Directives: ``facility-reference`` (the model of facility.yaml), ``refusal-reference`` (pages about refusals), ``command-reference`` (a click group),
``rest-reference`` (an OpenAPI document), ``trait-reference`` (a class with traitlets), ``fixture-reference`` (a pytest plugin). Each takes
the place of what it renders as ``module:name``, writes Markdown, and lets MyST parse it.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import click
from _pytest.fixtures import FixtureFunctionDefinition
from docutils import nodes
from docutils.parsers.rst import directives
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from traitlets import HasTraits

from af_hub.policy.forms import PATTERNS
from af_hub.policy.refusals import Page
from af_hub.policy.units import describe_seconds, read_bytes, read_instant, read_quota, read_seconds
from af_hub.policy.words import keys_of

AMOUNTS = {
    read_bytes: "an amount of bytes, as in `2 GiB`",
    read_seconds: "a time, as in `12 h`",
    read_instant: "an instant with its zone",
    read_quota: "a share or a number of slots",
}
PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`"}


def find(place: str) -> Any:
    """What ``module:name`` stands for."""
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


class Reference(SphinxDirective):
    """A directive whose argument is a ``module:name`` and whose content is sections."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One section for each that :meth:`sections` yields; made anew when our code changes."""
        found = find(self.arguments[0])
        for name, module in sys.modules.items():
            if name.partition(".")[0] == "af_hub" and getattr(module, "__file__", None):
                self.env.note_dependency(str(module.__file__))
        return [self.section(title, body) for title, body in self.sections(found)]

    def sections(self, found: Any) -> Iterator[tuple[str, str]]:
        """Titles and their Markdown."""
        raise NotImplementedError

    def section(self, title: str, body: str) -> nodes.section:
        """A section that the table of contents lists and that can be linked to."""
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += nodes.title("", "", *self.inline(title))
        section += self.parse_text_to_nodes(body)
        return section

    def inline(self, title: str) -> list[nodes.Node]:
        """A title with its backticks as code."""
        parts = title.split("`")
        return [nodes.literal(part, part) if number % 2 else nodes.Text(part) for number, part in enumerate(parts)]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without the columns in which nothing stands; empty when it would have no rows."""
    filled = [number for number in range(len(head)) if any(row[number] for row in rows)]
    lines = [[line[number].replace("|", r"\|") for number in filled] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(filled))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) if rows else ""


# ------------------------------------------------------------------------------------------ facility.yaml


class FacilityReference(Reference):
    """Every part of the policy's model: its keys, what is wanted, and what holds when a key is left out."""

    def sections(self, found: type[BaseModel]) -> Iterator[tuple[str, str]]:
        """The whole file first, then its parts in the order in which they are met."""
        for model, place in parts_of(found):
            rows = table(
                ("key", "what it is", "wanted", "left out"),
                [row_of(name, field) for name, field in keys_of(model).items()],
            )
            yield (f"`{place}`", f"{inspect.getdoc(model)}\n\n{rows}") if place else ("The whole file", rows)


def parts_of(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """The model and those inside it, each once, with the places where it stands in the file."""
    places: dict[type[BaseModel], list[str]] = {}
    for inner, place in every_part(model):
        places.setdefault(inner, []).append(place)
    for inner, found in places.items():
        yield inner, "`, `".join(sorted(found, key=lambda place: (place.count("."), found.index(place))))


def every_part(model: type[BaseModel], place: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The model and those inside it, each as often as it stands somewhere."""
    yield model, place
    for name, field in keys_of(model).items():
        inner, many = inner_model(field.annotation)
        if inner:
            yield from every_part(inner, f"{place}.{name}{many}".lstrip("."))


def inner_model(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside a list, a mapping or an optional, and how its place is written."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation, ""
    many = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    inner = next((found for found in (inner_model(arg)[0] for arg in get_args(annotation)) if found), None)
    return inner, many if inner else ""


def row_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """One key of a part; a part inside it is told by its own first sentence."""
    inner, _ = inner_model(field.annotation)
    about = field.description or (inspect.getdoc(inner) or "").partition("\n")[0] if inner else field.description
    return f"`{name}`", about or "", wanted(field.annotation, field.metadata), left_out(field)


def wanted(annotation: Any, metadata: list[Any]) -> str:
    """What may stand there, in words."""
    amount = next((AMOUNTS[item.func] for item in metadata if getattr(item, "func", None) in AMOUNTS), None)
    pattern = next((PATTERNS.get(getattr(item, "pattern", None) or "") for item in metadata), None)
    words = pattern.partition(";")[0] if pattern else amount or kind(annotation)
    return ", ".join([words, *bounds(metadata)])


def kind(annotation: Any) -> str:
    """The type in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return wanted(args[0], inner_metadata(args[1:]))
    if origin is list:
        return f"a list of: {kind(args[0])}"
    if origin is dict:
        return f"names, each with: {kind(args[1])}"
    if origin is Literal:
        return ", ".join(f"`{arg}`" for arg in args)
    if origin in (Union, UnionType):
        return kind(next(arg for arg in args if arg is not type(None)))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "keys, see below"
    return PLAIN.get(annotation, "a path")


def inner_metadata(annotations: tuple[Any, ...]) -> list[Any]:
    """What an ``Annotated`` type says, with the insides of pydantic's ``Field``."""
    return [inner for item in annotations for inner in (item.metadata if isinstance(item, FieldInfo) else [item])]


def bounds(metadata: list[Any]) -> Iterator[str]:
    """The limits that pydantic checks."""
    found = {
        name: getattr(item, name) for item in metadata for name in ("ge", "le") if getattr(item, name, None) is not None
    }
    if found and found.get("ge") == found.get("le"):
        yield f"exactly {found['ge']}"
        return
    for item in metadata:
        for name, words in (("gt", "more than"), ("ge", "at least"), ("le", "at most"), ("min_length", "at least")):
            bound = getattr(item, name, None)
            if bound is not None:
                yield f"{words} {bound}" + (" of them" if name == "min_length" else "")


def left_out(field: FieldInfo) -> str:
    """What holds when the key is not there."""
    if field.default is PydanticUndefined and field.default_factory is None:
        return "must be there"
    if field.default_factory is not None:
        return "as its own keys say"
    if field.default in (None, "", [], {}):
        return "none"
    readers = {getattr(item, "func", None) for item in field.metadata}
    if read_seconds in readers:
        return f"`{describe_seconds(field.default)}`"
    if isinstance(field.default, list):
        return ", ".join(f"`{one}`" for one in field.default)
    return f"`{str(field.default).lower()}`"


# ------------------------------------------------------------------------------------------ refusals


class RefusalReference(Reference):
    """What stands on the pages about refusals, which the hub serves; the argument is their mapping."""

    def sections(self, found: dict[str, Page]) -> Iterator[tuple[str, str]]:
        """One section a page, called as the end of its address."""
        for name, page in found.items():
            parts = (
                f"*{page.says}*",
                page.meaning,
                f"**What the person can do.** {page.do}",
                f"**For administrators.** {page.admin}",
            )
            yield f"`{name}`: {page.title[0].lower()}{page.title[1:]}", "\n\n".join(parts)


# ------------------------------------------------------------------------------------------ click


class CommandReference(Reference):
    """Every command of a click group, and of the groups in it."""

    def sections(self, found: click.Group) -> Iterator[tuple[str, str]]:
        """One section a command, in the order of ``--help``."""
        return commands_of(found, click.Context(found, info_name="af-hub"))


def commands_of(group: click.Group, context: click.Context) -> Iterator[tuple[str, str]]:
    """Title and text of each command below ``group``."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, click.Context(command, info_name=name, parent=context))
        elif command is not None and not command.hidden:
            yield f"`{context.command_path} {name}`", command_text(command, context, name)


def command_text(command: click.Command, parent: click.Context, name: str) -> str:
    """Usage, what it does, and its options."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    rows = [row for row in (parameter_row(parameter, context) for parameter in command.get_params(context)) if row]
    return f"{usage}\n\n{inspect.cleandoc(command.help or '')}\n\n{table(('option', 'what it does'), rows)}"


def parameter_row(parameter: click.Parameter, context: click.Context) -> tuple[str, ...] | None:
    """An option with its help; arguments are told in the text."""
    if not isinstance(parameter, click.Option) or parameter.hidden or set(parameter.opts) & {"-h", "--help"}:
        return None
    names, text = parameter.get_help_record(context) or ("", "")
    return f"`{names}`", text


# ------------------------------------------------------------------------------------------ REST


class RestReference(Reference):
    """Every operation of an OpenAPI document; the argument names a function that makes one."""

    def sections(self, found: Callable[[], dict[str, Any]]) -> Iterator[tuple[str, str]]:
        """Operations in one table, then the values that they take and give."""
        document = found()
        operations = [
            operation_row(f"{method.upper()} {path}", operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        yield "Requests", table(("request", "what it does", "takes", "answers"), operations)
        for name, schema in document.get("components", {}).get("schemas", {}).items():
            if not name.startswith(("HTTPValidationError", "ValidationError")):
                yield f"`{name}`", schema_text(schema)


def operation_row(request: str, operation: dict[str, Any]) -> tuple[str, ...]:
    """What it does, what it takes, what it answers when all is well."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = [f"{code} {answer_schema(answer)}" for code, answer in operation["responses"].items() if code < "300"]
    about = operation.get("description") or operation.get("summary", "")
    return (
        f"`{request}`",
        inspect.cleandoc(about).replace("\n", " "),
        schema_name(body) if body else "",
        ", ".join(answers),
    )


def answer_schema(answer: dict[str, Any]) -> str:
    """The schema of an answer's JSON, if it has one."""
    content = answer.get("content", {})
    schema = next((kind.get("schema") for name, kind in content.items() if name.endswith("json")), None)
    return schema_name(schema) if schema else ", ".join(f"`{name}`" for name in content)


def schema_name(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if schema.get("type") == "array":
        return f"list of {schema_name(schema['items'])}"
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(schema_name(choice) for choice in choices)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    words = [schema.get("type", "any"), schema.get("format", "")]
    words += [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return " ".join(word for word in words if word)


def schema_text(schema: dict[str, Any]) -> str:
    """The fields of a value."""
    needed = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", field.get("description", ""), schema_name(field), schema_default(name, field, needed))
        for name, field in schema.get("properties", {}).items()
    ]
    fields = table(("field", "what it is", "type", "left out"), rows) or schema_name(schema)
    return f"{inspect.cleandoc(schema.get('description', ''))}\n\n{fields}"


def schema_default(name: str, field: dict[str, Any], needed: set[str]) -> str:
    """What holds when a field is not there."""
    if name in needed:
        return "is always there"
    return "none" if field.get("default") is None else f"`{field['default']}`"


# ------------------------------------------------------------------------------------------ fixtures


class FixtureReference(Reference):
    """The fixtures of a pytest plugin; the argument is a module."""

    def sections(self, found: Any) -> Iterator[tuple[str, str]]:
        """One section a fixture, in the order of the file."""
        for name, fixture in vars(found).items():
            if isinstance(fixture, FixtureFunctionDefinition):
                yield f"`{name}`", inspect.getdoc(fixture) or ""


# ------------------------------------------------------------------------------------------ traitlets


class TraitReference(Reference):
    """The traits that a class, and bases of ours, add to those of JupyterHub and its plugins, with their help.

    The option ``without`` names a base whose traits stand elsewhere.
    """

    option_spec: ClassVar = {"without": directives.unchanged}

    def sections(self, found: Any) -> Iterator[tuple[str, str]]:
        """One section a trait that has a text of its own; a default that we change only is told by the base's."""
        told = find(self.options["without"]).__mro__ if "without" in self.options else ()
        ours = [
            one for one in reversed(found.__mro__) if one.__module__.partition(".")[0] == "af_hub" and one not in told
        ]
        traits = {name: trait for one in ours for name, trait in own_traits(one).items()}
        for name, trait in sorted(traits.items()):
            if trait.help and not name.startswith("_"):
                yield f"`{found.__name__}.{name}`", as_markdown(trait.help)


def own_traits(found: Any) -> dict[str, Any]:
    """What can be configured of this very class."""
    return found.class_own_traits(config=True) if issubclass(found, HasTraits) else {}


def as_markdown(text: str) -> str:
    """A trait's help: reStructuredText of the simple kind, paragraphs and literal blocks."""
    text = inspect.cleandoc(text).replace("``", "`")
    return re.sub(r"(?m)::\n\n((?: {4}.*\n?|\n)+)", lambda block: f":\n\n{fenced(block[1])}\n", text)


def fenced(block: str) -> str:
    """An indented block of Python as Markdown writes one."""
    return f"```python\n{inspect.cleandoc(block).strip()}\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_directive("facility-reference", FacilityReference)
    app.add_directive("refusal-reference", RefusalReference)
    app.add_directive("command-reference", CommandReference)
    app.add_directive("rest-reference", RestReference)
    app.add_directive("fixture-reference", FixtureReference)
    app.add_directive("trait-reference", TraitReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
