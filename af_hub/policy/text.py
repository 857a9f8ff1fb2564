"""``facility.yaml`` from its text to plain values, each of which can be traced to its line.

YAML (1.1, as PyYAML reads it) is wide and quiet: a key that stands twice silently wins, merged parts silently lose, a date becomes a
date, an alias may hold itself. Here all that is loud. Promises: whatever the text, the answer is a :class:`Document` or a
:class:`~af_hub.errors.PolicyError` with a line. Leaves the meaning of the values to :mod:`af_hub.policy.load`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from af_hub.errors import PolicyError

MOST_CHARACTERS = 2**21
MOST_VALUES = 200_000
DEEPEST = 20

Place = tuple[str | int, ...]
"""Keys and numbers from the top of the file down: ``("rules", 0, "images")``."""


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: where, and what was found, what was wanted, what to change.

    Parameters
    ----------
    line
        Of the file, from 1; 0 stands for that of ``place``.
    """

    place: Place
    sentence: str
    line: int = 0


@dataclass(frozen=True)
class Document:
    """Plain values, and what is already wrong with how they were written."""

    values: dict[Any, Any]
    tree: yaml.MappingNode = field(repr=False)
    mistakes: tuple[Mistake, ...] = ()

    def line_of(self, place: Place) -> int:
        """The line of the deepest part of ``place`` that is in the file."""
        node: yaml.Node | None = self.tree
        line = self.tree.start_mark.line + 1
        for step in place:
            if isinstance(node, yaml.MappingNode):
                # The last one: PyYAML puts merged pairs in front of a part's own.
                pair = next((pair for pair in reversed(node.value) if pair[0].value == str(step)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
        return line


def read_document(text: str, name: str) -> Document:
    """The values in ``text``; ``name`` is what messages call it.

    Raises
    ------
    PolicyError
        When it is no YAML, or holds no keys.
    """
    if len(text) > MOST_CHARACTERS:
        raise PolicyError(
            f"{name}: found {len(text)} characters, wanted at most {MOST_CHARACTERS}; is it another file?"
        )
    try:
        _refuse_depth(text, name)
        loader = _Loader(text)
        tree = loader.get_single_node()
        if not isinstance(tree, yaml.MappingNode):
            raise PolicyError(f"{name}, line 1: {_no_keys(tree)}, wanted keys and values, the first being `version: 1`")
        values = sum(1 for _ in _nodes(tree, 0))
        if values > MOST_VALUES:
            raise PolicyError(f"{name}: found more than {MOST_VALUES} values once aliases are put in; write fewer `*`")
        mistakes = (*_double_keys(tree, ()), *_contradictions(tree, ()))
        return Document(loader.construct_document(tree), tree, mistakes)
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise PolicyError(_no_yaml(_plainer(error, text), text, name)) from error


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe one with libyaml, seven times as quick as without, which also names the place of a scalar that it cannot read."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML's, whose readers of numbers and dates let other exceptions through (`2026-99-99`, `0b`)."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
            problem = f"`{str(node.value)[:40]}` looks like a number or a date, but is none; put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _refuse_depth(text: str, name: str) -> None:
    """Look for endless depth before a tree is made, since libyaml's composer calls itself for each level and would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            where = f"{name}, line {event.start_mark.line + 1}" if event.start_mark else name
            raise PolicyError(
                f"{where}: found more than {DEEPEST} parts inside each other, wanted fewer; is it another file?"
            )


def _no_keys(tree: yaml.Node | None) -> str:
    if tree is None:
        return "found an empty file"
    return "found a list" if isinstance(tree, yaml.SequenceNode) else "found a text without keys"


def _plainer(error: Exception, text: str) -> Exception:
    """What PyYAML without libyaml says of the same text, where it complains too: it knows better where a bracket was opened."""
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except yaml.YAMLError as found:
        return found
    return error


def _no_yaml(error: Exception, text: str, name: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        return f"{name}, line {line}: found the character U+{character:04X}, which YAML does not allow; take it out"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{name}: no YAML ({type(error).__name__}); save the file in UTF-8"
    rows = text.splitlines()
    mark = error.problem_mark or error.context_mark
    if mark and error.context_mark and mark.line >= len(rows) - 1:
        mark = error.context_mark  # what is never closed is noticed at the end
    line = mark.line + 1 if mark else 1
    row = rows[line - 1] if line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return f"{name}, line {line}: found a tab at the start, wanted spaces; YAML takes no tabs there"
    begun = f", {error.context}" if error.context else ""
    return f"{name}, line {line}: no YAML ({error.problem}{begun}); look for a missing quote, bracket, colon or space"


def _nodes(node: yaml.Node, depth: int) -> Iterator[yaml.Node]:
    """The node and all inside it, those behind aliases as often as they are named; at most one more than MOST_VALUES."""
    if depth > DEEPEST:
        raise yaml.composer.ComposerError(
            None, None, "an alias that holds itself, or is nested too deep", node.start_mark
        )
    count = 1
    yield node
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    for part in inner:
        for found in _nodes(part, depth + 1):
            if count > MOST_VALUES:
                return
            count += 1
            yield found


def _inside(node: yaml.Node, place: Place) -> Iterator[tuple[yaml.Node, Place]]:
    """What is one step below a node, each with its place."""
    if isinstance(node, yaml.MappingNode):
        yield from ((value, (*place, str(key.value)[:80])) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((value, (*place, number)) for number, value in enumerate(node.value))


def _double_keys(node: yaml.Node, place: Place) -> Iterator[Mistake]:
    """Keys that stand twice in one part: YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                sentence = (
                    f"found twice, first in line {first[key.value]}, wanted once; rename one, or make one of them"
                )
                yield Mistake((*place, key.value[:80]), sentence, line)
            first.setdefault(key.value, line)
    for inner, where in _inside(node, place):
        yield from _double_keys(inner, where)


def _contradictions(node: yaml.Node, place: Place) -> Iterator[Mistake]:
    """Keys that two merged parts (``<<: [*a, *b]``) say differently: YAML would silently take the first."""
    if isinstance(node, yaml.MappingNode):
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        said: dict[str, yaml.Node] = {}
        for part in _merged(node):
            for key, value in part.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in own:
                    continue
                other = said.setdefault(key.value, value)
                if other is not value and yaml.serialize(other) != yaml.serialize(value):
                    sentence = (
                        f"found two merged parts that differ, lines {other.start_mark.line + 1} and "
                        f"{value.start_mark.line + 1}, wanted one; write `{key.value[:40]}:` here with what shall hold"
                    )
                    yield Mistake((*place, key.value[:80]), sentence, node.start_mark.line + 1)
    for inner, where in _inside(node, place):
        yield from _contradictions(inner, where)


def _merged(node: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (part for part in parts if isinstance(part, yaml.MappingNode))
