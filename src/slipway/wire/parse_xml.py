"""XML bodies (S3) as parameters. No document types, so no entities; depth and number of elements are bounded.

S3's model has no maps in bodies, so they are not read here.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from .errors import AwsError
from .values import read_scalar

_MAX_DEPTH = 64
_MAX_ELEMENTS = 500_000
"""A multipart upload's 10,000 parts with their checksums take a fifth of this."""


class Element:
    """`tag` without its prefix; `attributes` by the names as written."""

    __slots__ = ("attributes", "below", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag.rpartition(":")[2]
        self.attributes = attributes
        self.below: list[Element] = []
        self.text = ""


def malformed_xml() -> AwsError:
    text = "The XML you provided was not well-formed or did not validate against our published schema"
    return AwsError("MalformedXML", text, status=400)


def parse_xml(shape: Any, root_name: str, body: bytes) -> dict[str, Any]:
    """Parameters of a structure whose element is `root_name`. AwsError MalformedXML."""
    root = read_elements(body)
    if root.tag != root_name:
        raise malformed_xml()
    return _structure(shape, root)


def read_elements(body: bytes) -> Element:
    """The root element. AwsError MalformedXML, also for a document type, entities or excess."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = 1 << 20
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        raise malformed_xml() from error
    return builder.top.below[0]


class _Refused(Exception):
    pass


class _Builder:
    def __init__(self) -> None:
        self.top = Element("", {})
        self.stack = [self.top]
        self.count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if len(self.stack) > _MAX_DEPTH or self.count > _MAX_ELEMENTS:
            raise _Refused
        element = Element(tag, attributes)
        self.stack[-1].below.append(element)
        self.stack.append(element)

    def end(self, tag: str) -> None:
        self.stack.pop()

    def data(self, text: str) -> None:
        self.stack[-1].text += text

    def refuse(self, *declaration: object) -> None:
        raise _Refused


def _value(shape: Any, element: Element) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape, element)
        case "list":
            name = shape.member.serialization.get("name", "member")
            return [_value(shape.member, child) for child in element.below if child.tag == name]
    if element.below:
        raise malformed_xml()
    try:
        return read_scalar(shape, element.text)
    except ValueError:
        raise malformed_xml() from None


def _structure(shape: Any, element: Element) -> dict[str, Any]:
    children: dict[str, list[Element]] = {}
    for child in element.below:
        children.setdefault(child.tag, []).append(child)
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        serialization = member.serialization
        if "location" in serialization:
            continue
        wire_name = serialization.get("name", name)
        if serialization.get("xmlAttribute"):
            if wire_name in element.attributes:
                found[name] = element.attributes[wire_name]
            continue
        if serialization.get("flattened"):
            # Both names are in use: the model puts it on the member, botocore writes the list's.
            matching = children.get(wire_name) or children.get(member.member.serialization.get("name", wire_name))
            if matching:
                found[name] = [_value(member.member, child) for child in matching]
        elif wire_name in children:
            if len(children[wire_name]) > 1:
                raise malformed_xml()
            found[name] = _value(member, children[wire_name][0])
    return found
