"""A table of a file, key by key: what each may hold, and what is wrong with what it holds. Knows no setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeAlias

#: Makes of a value as it is written what a key holds, or raises `ValueError`, whose text may be empty and shows nothing
#: of the value; or `Wrong`, where the fault is inside of it.
Reader: TypeAlias = Callable[[object], Any]
_NEEDED: Final = object()


class Wrong(Exception):
    """What is wrong inside a list: the places, and what is to be said of each, if not what the key expects."""

    def __init__(self, found: list[tuple[int, str]]) -> None:
        super().__init__()
        self.found = found


class Key(NamedTuple):
    """What a key holds, in words what it expects, and what stands for it where it is not written."""

    read: Reader
    expected: str
    usual: object

    @property
    def needed(self) -> bool:
        """Whether it must be written."""
        return self.usual is _NEEDED


class Fault(NamedTuple):
    """What is wrong at a place of a table: nobody knows the key, it is missing, or it holds something else.

    ``said`` is what its reader had to say; empty where what the key expects says it all.
    """

    place: tuple[str | int, ...]
    kind: str
    said: str = ""


def holds(read: Reader, expected: str, usual: Any = _NEEDED) -> Any:
    """A key of a `Table`; without ``usual`` it must be written."""
    return Key(read, expected, usual)


class Table:
    """A table whose keys are the class's attributes, each made by `holds`. Made by ``read`` alone."""

    keys: ClassVar[Mapping[str, Key]] = {}

    def __init_subclass__(cls) -> None:
        """Note its keys."""
        cls.keys = {name: one for name, one in vars(cls).items() if isinstance(one, Key)}

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Hold what was written, and the usual beside it."""
        self._given = dict(given)
        vars(self).update({name: given.get(name, one.usual) for name, one in self.keys.items()})

    @classmethod
    def read(cls, table: Mapping[str, object]) -> Self | list[Fault]:
        """The table, or all that is wrong with it."""
        given, faults = {}, []
        for name, one in cls.keys.items():
            if name not in table:
                if one.needed:
                    faults.append(Fault((name,), "missing"))
                continue
            try:
                given[name] = one.read(table[name])
            except Wrong as error:
                faults += [Fault((name, at), "wrong", said) for at, said in error.found]
            except ValueError as error:
                faults.append(Fault((name,), "wrong", str(error)))
        faults += [Fault((name,), "unknown") for name in table if name not in cls.keys]
        return faults or cls(given)

    def given(self) -> dict[str, Any]:
        """What the file says; the rest is the settings' own default."""
        return dict(self._given)


# --- Kinds of values ----------------------------------------------------------------------------------------------


def words(value: object) -> str:
    """Something that can be seen, without what surrounds it."""
    stripped = value.strip() if isinstance(value, str) else ""
    if not stripped or not stripped.isprintable():
        raise ValueError
    return stripped


def that(read: Reader, *checks: Callable[[Any], Any]) -> Reader:
    """What `read` reads, and then each check in turn."""

    def checked(value: object) -> Any:
        value = read(value)
        for check in checks:
            value = check(value)
        return value

    return checked


def whole(least: int, most: int | None = None) -> Reader:
    """A whole number within these bounds; it may be written as text, as ``${NAME}`` gives it."""

    def read(value: object) -> int:
        number = _number(value)
        if (
            isinstance(number, int)
            and not isinstance(number, bool)
            and least <= number <= (number if most is None else most)
        ):
            return number
        raise ValueError

    return read


def above_zero(most: float) -> Reader:
    """A number above 0 and up to this; it may be written as text."""

    def read(value: object) -> float:
        number = _number(value)
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= most:
            return float(number)
        raise ValueError

    return read


def flag(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError


def one_of(*choices: str) -> Reader:
    """One of these words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    return read


def many(read: Reader, *, most: int | None = None, distinct: bool = True) -> Reader:
    """A list of them, no longer than this."""

    def read_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or (most is not None and len(value) > most):
            raise ValueError
        found, wrong = [], []
        for at, one in enumerate(value):
            try:
                found.append(read(one))
            except ValueError as error:
                wrong.append((at, str(error)))
        if wrong:
            raise Wrong(wrong)
        if distinct and len(set(found)) < len(found):
            raise ValueError("expected each only once, found one twice")
        return tuple(found)

    return read_all


def _number(value: object) -> object:
    """``${NAME}`` gives text; a number in it is a number."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value.strip())
        except ValueError:
            continue
    return value
