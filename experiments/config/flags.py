"""Numbers on a command line, refused in words where they are none."""

from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

NUMBERS = ConstructorRegistry()
"""While entered, `tyro.cli` reads whole numbers, real ones, and whole numbers or None by the rule below."""


@NUMBERS.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    if info.type in (int, float):
        return _spec(info.type, False)
    return _spec(int, True) if info.type == int | None else None


def _spec(kind: type, or_none: bool) -> PrimitiveConstructorSpec:
    expected = ("a whole number" if kind is int else "a number") + (" or None" if or_none else "")

    def read(words: list[str]) -> Any:
        if or_none and words == ["None"]:
            return None
        try:
            return kind(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is not {expected}.") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{kind.__name__.upper()}{'|None' if or_none else ''}",
        instance_from_str=read,
        is_instance=lambda value: (value is None and or_none) or isinstance(value, (int, kind)),
        str_from_instance=lambda value: [str(value)],
    )
