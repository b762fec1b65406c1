"""What goes wrong with a template."""


class TemplateError(ValueError):
    """Raised for a template that cannot be read or rendered: which, where, why, and what to do.

    `always` says that it does not depend on the alerts: it will go wrong whenever it comes to that place.
    """

    def __init__(
        self, name: str, line: int, reason: str, remedy: str = "mend the template", *, always: bool = False
    ) -> None:
        where = f"template {name!r}, line {line}: " if name else f"template line {line}: "
        super().__init__(f"{where}{reason}; {remedy}")
        self.name = name
        self.line = line
        self.reason = reason
        self.remedy = remedy
        self.always = always


class ValueProblemError(Exception):
    """Raised below the evaluator, which adds where it happened. `always`: as in TemplateError."""

    def __init__(self, reason: str, *, always: bool = False) -> None:
        super().__init__(reason)
        self.always = always
