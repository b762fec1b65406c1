"""Alertmanager's template data: its structs, maps and slices with their methods."""

from typing import Any

from sinks.gotemplate.values import Map, Method, Slice, Strings, Struct

_NAME_LABEL = "alertname"


class Pair(Struct):
    """A name and a value."""

    go_type = "template.Pair"
    __slots__ = ("name", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def fields(self) -> dict[str, Any]:
        """Name and Value."""
        return {"Name": self.name, "Value": self.value}


class Pairs(Slice):
    """Pairs in order."""

    go_type = "template.Pairs"
    __slots__ = ()

    def methods(self) -> dict[str, Method]:
        """Names and Values."""
        return {
            "Names": Method(lambda: Strings(pair.name for pair in self)),
            "Values": Method(lambda: Strings(pair.value for pair in self)),
        }


class KV(Map):
    """Labels or annotations."""

    go_type = "template.KV"

    def sorted_pairs(self) -> Pairs:
        """By name, the alert's name first."""
        names = sorted(self, key=lambda name: (name != _NAME_LABEL, name.encode("utf-8", "surrogatepass")))
        return Pairs(Pair(name, self[name]) for name in names)

    def without(self, names: Strings) -> "KV":
        """All but these."""
        return KV({name: value for name, value in self.items() if name not in names})

    def methods(self) -> dict[str, Method]:
        """SortedPairs, Remove, Names, Values."""
        return {
            "SortedPairs": Method(self.sorted_pairs),
            "Remove": Method(self.without, ("strings",)),
            "Names": Method(lambda: Strings(pair.name for pair in self.sorted_pairs())),
            "Values": Method(lambda: Strings(pair.value for pair in self.sorted_pairs())),
        }


class Record(Struct):
    """A struct with the fields that it is given."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - any values
        self._fields = fields

    def fields(self) -> dict[str, Any]:
        """As they were given."""
        return self._fields


class Alert(Record):
    """Status, Labels, Annotations, StartsAt, EndsAt, GeneratorURL, Fingerprint."""

    go_type = "template.Alert"
    __slots__ = ()


class AlertList(Slice):
    """Some of the alerts of a notice."""

    go_type = "[]template.Alert"
    __slots__ = ()


class Alerts(Slice):
    """Alerts of one notice."""

    go_type = "template.Alerts"
    __slots__ = ()

    def methods(self) -> dict[str, Method]:
        """Firing and Resolved."""
        return {"Firing": Method(lambda: self._of("firing")), "Resolved": Method(lambda: self._of("resolved"))}

    def _of(self, status: str) -> AlertList:
        return AlertList(alert for alert in self if alert.fields()["Status"] == status)


class Data(Record):
    """Receiver, Status, Alerts, GroupLabels, CommonLabels, CommonAnnotations, ExternalURL."""

    go_type = "template.Data"
    __slots__ = ()
