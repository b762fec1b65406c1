"""How Go's package fmt writes values: `%v` and its kin, and `print`."""

import re
from collections.abc import Sequence
from typing import Any, Final

from sinks.gotemplate.errors import ValueProblemError
from sinks.gotemplate.values import Map, Missing, Named, Slice, Struct, bounded, type_name

MAX_WIDTH: Final = 10_000
_LEAST_EXPONENT: Final = -4
_LARGEST_EXPONENT: Final = 6
_VERB: Final = re.compile(r"%([+\-# 0]*)(\d+|\*)?(?:\.(\d+|\*)?)?(.?)", re.DOTALL)
_DOTTED: Final = re.compile(r"%[+\-# 0]*(?:\d+|\*)?\.")
_SHOWN: Final = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\"",
}  # fmt: skip


def shown(value: Any) -> str:  # noqa: ANN401, PLR0911 - any value, a kind a line
    """The value as `%v` writes it."""
    if value is None:
        return "<nil>"
    if isinstance(value, Missing):
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _general(value, None, upper=False)
    if isinstance(value, Slice):
        return f"[{' '.join(shown(item) for item in value)}]"
    if isinstance(value, Map):
        return f"map[{' '.join(f'{key}:{value[key]}' for key in sorted(value))}]"
    if isinstance(value, Struct) and type(value).__str__ is object.__str__:
        return f"{{{' '.join(shown(item) for item in value.fields().values())}}}"
    return str(value)


def sprint(values: Sequence[Any]) -> str:
    """As `print`: a space between two values neither of which is a text."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += shown(value)
    return bounded(out)


def sprintln(values: Sequence[Any]) -> str:
    """As `println`: spaces between, a line end after."""
    return bounded(f"{' '.join(map(shown, values))}\n")


def sprintf(form: str, values: Sequence[Any]) -> str:
    """As `printf`; what does not fit is written into the text, as Go does."""
    out: list[str] = []
    used, position = 0, 0
    for found in _VERB.finditer(form):
        out.append(form[position : found.start()])
        position = found.end()
        flags, width, precision, verb = found.groups()
        if verb == "%":
            out.append("%")
            continue
        if not verb:
            out.append("%!(NOVERB)")
            continue
        if verb == "[" or "*" in {width, precision}:
            raise ValueProblemError(f"printf: {found.group()!r} is not supported")
        dotted = _DOTTED.match(found.group()) is not None
        limit = int(precision or 0) if dotted else None
        if int(width or 0) > MAX_WIDTH or (limit or 0) > MAX_WIDTH:
            raise ValueProblemError(f"printf: {found.group()!r} is wider than {MAX_WIDTH}")
        if used >= len(values):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_Verb(flags, int(width or 0), limit, verb).write(values[used]))
        used += 1
    out.append(form[position:])
    if used < len(values):
        extra = ", ".join(_typed(value) for value in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return bounded("".join(out))


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """The text in double quotes, with escapes."""
    out = '"'
    for letter in text:
        if letter in _SHOWN:
            out += _SHOWN[letter]
        elif letter.isprintable() and (letter.isascii() or not ascii_only):
            out += letter
        elif ord(letter) < 0x80:  # noqa: PLR2004 - ASCII
            out += f"\\x{ord(letter):02x}"
        else:
            out += f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"  # noqa: PLR2004
    return f'{out}"'


class _Verb:
    """One directive of a format."""

    def __init__(self, flags: str, width: int, precision: int | None, verb: str) -> None:
        self._flags = flags
        self._width = width
        self._precision = precision
        self._verb = verb

    def write(self, value: Any) -> str:  # noqa: ANN401 - any value
        verb = self._verb
        if verb == "T":
            return self._padded(type_name(value))
        if value is None or isinstance(value, Missing):
            return self._padded("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
        if "#" in self._flags and verb == "v":
            raise ValueProblemError("printf: %#v is not supported")
        if isinstance(value, Slice) and verb != "p":
            return f"[{' '.join(self.write(item) for item in value)}]"
        if isinstance(value, Map):
            return f"map[{' '.join(f'{self.write(key)}:{self.write(value[key])}' for key in sorted(value))}]"
        if isinstance(value, Struct) and type(value).__str__ is object.__str__:
            inner = [
                f"{name}:{self.write(item)}" if verb == "v" and "+" in self._flags else self.write(item)
                for name, item in value.fields().items()
            ]
            return f"{{{' '.join(inner)}}}"
        return self._scalar(value)

    def _scalar(self, value: Any) -> str:  # noqa: ANN401 - any value
        verb = self._verb
        names_itself = isinstance(value, Named | Struct)
        if (names_itself and verb in "vsqxX") or isinstance(value, str):
            return self._text(str(value), value)
        if isinstance(value, bool):
            return self._padded(shown(value)) if verb in "tv" else self._bad(value)
        if isinstance(value, int):
            return self._whole(int(value), value)
        if isinstance(value, float):
            return self._fraction(value)
        return self._bad(value)

    def _text(self, text: str, value: Any) -> str:  # noqa: ANN401 - any value
        verb = self._verb
        if verb in "vs":
            return self._padded(text if self._precision is None else text[: self._precision])
        if verb == "q":
            cut = text if self._precision is None else text[: self._precision]
            if "#" in self._flags and "`" not in cut and (cut.isprintable() or "\t" in cut):
                return self._padded(f"`{cut}`")
            return self._padded(quoted(cut, ascii_only="+" in self._flags))
        if verb in "xX":
            data = text.encode()[: self._precision]
            digits = data.hex(" " if " " in self._flags else "", 1) if " " in self._flags else data.hex()
            return self._padded(digits.upper() if verb == "X" else digits)
        return self._bad(value)

    def _whole(self, number: int, value: Any) -> str:  # noqa: ANN401 - any value
        verb = self._verb
        if verb == "c":
            return self._padded(_letter(number))
        if verb == "q":
            shown_letter = quoted(_letter(number))[1:-1].replace(r"\"", '"').replace("'", r"\'")
            return self._padded(f"'{shown_letter}'")
        if verb == "U":
            named = f" '{_letter(number)}'" if "#" in self._flags and _letter(number).isprintable() else ""
            return self._padded(f"U+{number & 0xFFFFFFFFFFFFFFFF:04X}{named}")
        base = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}.get(verb)
        if base is None:
            return self._bad(value)
        digits = format(abs(number), base)
        if self._precision is not None:
            digits = "" if self._precision == 0 and number == 0 else digits.rjust(self._precision, "0")
        prefix = "0o" if verb == "O" else ""
        if "#" in self._flags:
            prefix = {"b": "0b", "o": "0", "x": "0x", "X": "0X", "O": "0o"}.get(verb, "")
        sign = "-" if number < 0 else "+" if "+" in self._flags else " " if " " in self._flags else ""
        return self._number(sign, prefix + digits, zeros=self._precision is None)

    def _fraction(self, value: float) -> str:
        verb = self._verb
        precision = self._precision
        if verb in "vgG":
            text = _general(value, precision, upper=verb == "G")
        elif verb in "fFeE":
            text = _fixed(value, verb, 6 if precision is None else precision)
        else:
            return self._bad(value)
        sign = "-" if text.startswith("-") else "+" if "+" in self._flags else " " if " " in self._flags else ""
        if text.startswith("+"):  # +Inf
            sign = "+" if "+" in self._flags or self._verb == "v" else sign or "+"
        finite = text.lstrip("+-")[0].isdigit()
        return self._number(sign, text.lstrip("+-"), zeros=finite)

    def _number(self, sign: str, digits: str, *, zeros: bool) -> str:
        if "0" in self._flags and "-" not in self._flags and zeros:
            return sign + digits.rjust(self._width - len(sign), "0")
        return self._padded(sign + digits, zero=False)

    def _padded(self, text: str, *, zero: bool = True) -> str:
        if "-" in self._flags:
            return text.ljust(self._width)
        return text.rjust(self._width, "0" if "0" in self._flags and zero else " ")

    def _bad(self, value: Any) -> str:  # noqa: ANN401 - any value
        return f"%!{self._verb}({_typed(value)})"


def _typed(value: Any) -> str:  # noqa: ANN401 - any value
    return "<nil>" if value is None or isinstance(value, Missing) else f"{type_name(value)}={shown(value)}"


def _letter(number: int) -> str:
    valid = 0 <= number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF  # noqa: PLR2004 - Unicode's bounds
    return chr(number) if valid else "\ufffd"


def _general(value: float, precision: int | None, *, upper: bool) -> str:
    if (special := _special(value)) is not None:
        return special
    if precision is None:
        mantissa, exponent = _shortest(value)
        if _LEAST_EXPONENT <= exponent < _LARGEST_EXPONENT:
            text = format(value, "f") if mantissa == "0" else _plain(value, mantissa, exponent)
        else:
            text = f"{'-' if value < 0 else ''}{_pointed(mantissa)}e{exponent:+03d}"
    else:
        text = format(value, f".{precision or 1}g")
        text = re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)
    return text.upper() if upper else text


def _shortest(value: float) -> tuple[str, int]:
    """The fewest digits that give the number back, and the exponent of the first."""
    digits, _, exponent = repr(abs(value)).partition("e")
    whole, _, rest = digits.partition(".")
    joined = (whole + rest).lstrip("0")
    if not joined:
        return "0", 0
    leading = len(whole) - 1 if whole.strip("0") else -(len(rest) - len(rest.lstrip("0"))) - 1
    return joined.rstrip("0") or "0", leading + int(exponent or 0)


def _plain(value: float, digits: str, exponent: int) -> str:
    sign = "-" if value < 0 else ""
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    rest = digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def _pointed(digits: str) -> str:
    return f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits


def _fixed(value: float, verb: str, precision: int) -> str:
    if (special := _special(value)) is not None:
        return special
    return format(value, f".{precision}{'f' if verb in 'fF' else verb}")


def _special(value: float) -> str | None:
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value)
