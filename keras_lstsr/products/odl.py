"""ODL, the language of the EOS metadata (StructMetadata, CoreMetadata): text to tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from keras_lstsr.errors import ProductError


@dataclass
class OdlNode:
    """A GROUP or OBJECT of ODL, the language of the EOS metadata."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    children: list[OdlNode] = field(default_factory=list)

    def walk(self) -> Iterator[OdlNode]:
        """Yields the node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> OdlNode | None:
        """Returns the first node of that name at or below this one."""
        return next((node for node in self.walk() if node.name == name), None)


def parse_odl(text: str) -> OdlNode:
    """Parses ODL text into a tree; the root has no name.

    Values keep their text, without the quotes round a string. A value whose brackets are still
    open at the end of a line goes on in the next.

    Args:
        text: The metadata attribute; trailing NUL bytes and blanks are ignored.

    Returns:
        The root node.

    Raises:
        ProductError: If groups do not close in the order in which they opened.
    """
    root = OdlNode("")
    stack = [root]
    lines = iter(text.replace("\0", "").splitlines())
    for line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        while value.count("(") > value.count(")") and not value.endswith('"'):
            continuation = next(lines, None)
            if continuation is None:
                raise ProductError("metadata end inside a value", field=key)
            value += continuation.strip()
        if key in ("GROUP", "OBJECT"):
            node = OdlNode(value)
            stack[-1].children.append(node)
            stack.append(node)
        elif key in ("END_GROUP", "END_OBJECT"):
            if len(stack) == 1 or stack[-1].name != value:
                raise ProductError("metadata groups are not nested", field=value)
            stack.pop()
        else:
            stack[-1].values[key] = value.strip('"')
    if len(stack) > 1:
        raise ProductError("metadata end inside a group", field=stack[-1].name)
    return root
