"""What may be said of each option - type, range, default, meaning - in words.

Read off the structs of `config`, which are the only description, for whoever shows an option or
asks for one: the command line, its help, the commented example file, and what is said of a mistake.
Pure; called before anything is forked. An option without a description fails here, at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec.inspect

from prefork_chat.config import Config, IngressConfig


@dataclass(frozen=True, slots=True)
class Option:
    """What the structs of `config` say of one option, for whoever shows or asks for it."""

    table: str
    key: str
    description: str
    default: object
    bounds: str
    """Its range in words, such as `1 to 64`; empty if any value of its type will do."""
    shape: str
    """What a text must look like, in words; empty if any will do."""
    choices: tuple[str, ...]
    """All the values that it may have; empty if there are too many to list."""

    @property
    def key_path(self) -> str:
        """Its place in the file, such as `server.workers`."""
        return f"{self.table}.{self.key}"


def options() -> tuple[Option, ...]:
    """Return every option, table by table, in the order of the structs."""
    tables = msgspec.inspect.type_info(Config)
    assert isinstance(tables, msgspec.inspect.StructType)
    return tuple(
        _option(table.name, field)
        for table in tables.fields
        if isinstance(table.type, msgspec.inspect.StructType)
        for field in table.type.fields
    )


def ingress_options() -> tuple[Option, ...]:
    """Return the options of each `[[ingress]]`; those that must be given have no default."""
    described = msgspec.inspect.type_info(IngressConfig)
    assert isinstance(described, msgspec.inspect.StructType)
    return tuple(_option("ingress", field) for field in described.fields)


def _option(table: str, field: msgspec.inspect.Field) -> Option:
    described = field.type
    assert isinstance(described, msgspec.inspect.Metadata)
    assert described.extra_json_schema is not None
    choices: tuple[str, ...] = ()
    bounds = ""
    match described.type:
        case msgspec.inspect.LiteralType(values=values):
            choices = tuple(str(value) for value in values)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType() as number:
            bounds = _bounds(number)
    return Option(
        table=table,
        key=field.name,
        description=described.extra_json_schema["description"],
        default=field.default,
        bounds=bounds,
        shape=described.extra_json_schema.get("title", ""),
        choices=choices,
    )


def _bounds(number: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    if number.gt is not None:
        return f"above {number.gt:g}"
    if number.le is not None:
        return f"{number.ge} to {number.le}"
    return f"{number.ge} or more"
