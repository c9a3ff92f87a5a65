"""Random values of botocore's shapes, from a seed: what fits a shape's type, whatever its constraints say.

Left out is what a protocol cannot carry (an empty map in a form, a carriage return in botocore's XML), so that equality
can be asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

TEXTS = ("a", "Zürich", "x y+z&=%/?#", "日本語", '"quoted", <b>&amp;</b>', "  padded  ", "line\nbreak\ttab", "0", "true", "🚀")
HEADER_TEXTS = ("a", "x y+z&=%/?#", 'W/"etag"', "a, b", "text/csv; charset=utf-8", "0", "-", "x" * 300)
KEYS = ("k", "a/b//c", "/lead", "sp ace+plus%41", "ünïcode/日本", "a/../b/./c", "t~i*l'd(e)", "q?x=1&y#z", "end/")
START = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)


class Values:
    def __init__(self, seed: str, protocol: str, *, response: bool = False) -> None:
        self.random = Random(seed)
        self.protocol = protocol
        self.response = response
        self.xml = protocol == "rest-xml" or (protocol == "query" and response)
        self.form = protocol == "query" and not response

    def structure(self, shape: Any, depth: int = 0, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Required members always, the others by chance, fewer the deeper."""
        chance = (0.8, 0.5, 0.4, 0.2)[min(depth, 3)]
        names = [name for name in shape.members if name not in skip]
        if shape.is_tagged_union and names:
            names = [self.random.choice(names)]
        found: dict[str, Any] = {}
        for name in names:
            wanted = name in shape.required_members or shape.is_tagged_union or self.random.random() < chance
            if wanted and depth < 7:
                value = self.value(shape.members[name], depth + 1, name)
                if value is not None:
                    found[name] = value
        if not found and names and depth < 7 and (self.form or self.xml):
            value = self.value(shape.members[names[0]], depth + 1, names[0])
            if value is not None:
                found[names[0]] = value
        return found

    def value(self, shape: Any, depth: int, name: str = "") -> Any:
        """None where the protocol could not carry what came out."""
        location = shape.serialization.get("location")
        if location in ("header", "headers", "uri", "querystring"):
            return self.located(shape, location, depth, name)
        match shape.type_name:
            case "structure":
                found = self.structure(shape, depth)
                return found if found or not (self.form or self.xml) else None
            case "list":
                return self.list(shape, depth)
            case "map":
                return self.map(shape, depth)
        return self.scalar(shape)

    def list(self, shape: Any, depth: int) -> list[Any] | None:
        count = 0 if depth > 5 else self.random.choice((0, 1, 1, 2, 3, 12))
        if depth > 3:
            count = min(count, 2)
        items = [self.value(shape.member, depth + 1) for _ in range(count)]
        items = [item for item in items if item is not None]
        if not items and self.xml and shape.serialization.get("flattened"):
            return None
        return items

    def map(self, shape: Any, depth: int) -> dict[str, Any] | None:
        found = {}
        for _ in range(0 if depth > 5 else self.random.randint(0, 3)):
            value = self.value(shape.value, depth + 1)
            if value is not None:
                found[self.scalar(shape.key)] = value
        return found if found or not (self.form or self.xml) else None

    def scalar(self, shape: Any) -> Any:
        pick = self.random.choice
        match shape.type_name:
            case "boolean":
                return pick((True, False))
            case "integer":
                return pick((0, 1, -1, 23, 24, 255, 256, 65536, 2**31 - 1, -(2**31)))
            case "long":
                return pick((0, 7, -25, 2**32, 2**53, 2**63 - 1, -(2**63)))
            case "float":
                return pick((0.0, 1.0, -2.5, 1024.125, 0.0625))
            case "double":
                return pick((0.0, 1.0, -2.5, 1e300, 3.141592653589793, 1e-9))
            case "timestamp":
                return self.timestamp(shape.serialization.get("timestampFormat"))
            case "blob":
                return self.random.randbytes(pick((0, 1, 2, 3, 50)))
        if shape.metadata.get("enum") and self.random.random() < 0.7:
            return pick(shape.enum)
        text = pick(TEXTS) + pick(("", "-x", " y"))
        return text + "\r\n" if self.response and self.random.random() < 0.1 else text

    def timestamp(self, style: str | None) -> datetime:
        whole = START + timedelta(seconds=self.random.randrange(10**9))
        fraction = 0 if style == "rfc822" else self.random.choice((0, 0, 123, 5, 999))
        return whole + timedelta(milliseconds=fraction)

    def located(self, shape: Any, location: str, depth: int, name: str) -> Any:
        pick = self.random.choice
        if location == "headers":
            return {f"key-{number}": pick(HEADER_TEXTS) for number in range(self.random.randint(1, 3))}
        if shape.type_name == "list":
            texts = ("a", "b c") if self.response or location == "querystring" else ("a", "b,c", 'd"e')
            return [pick(shape.member.enum or texts) for _ in range(self.random.randint(1, 3))]
        if shape.type_name == "timestamp":
            style = shape.serialization.get("timestampFormat", "rfc822" if location == "header" else "iso8601")
            # botocore drops the fraction from every time in a header.
            return self.timestamp("rfc822" if location == "header" else style)
        if shape.type_name == "string":
            if location == "uri":
                return "my-bucket.1" if name == "Bucket" else pick(KEYS) if name == "Key" else pick(("n-1", "a b!é"))
            return pick(HEADER_TEXTS) if location == "header" else pick(TEXTS)
        return self.scalar(shape)
