"""Which routes an alert takes, and which group it falls into on each: pure."""

from collections.abc import Mapping

from streams.rules_config import Route


def routes_for(route: Route, labels: Mapping[str, str]) -> list[Route]:
    """The routes below (or at) `route` that take an alert with these labels, in order.

    Depth first; the first child that matches wins unless it says `continue`; a
    route whose children all decline takes the alert itself. Empty when `route`
    does not match.
    """
    if not all(matcher.matches(labels) for matcher in route.matchers):
        return []
    taken: list[Route] = []
    for child in route.routes:
        found = routes_for(child, labels)
        taken += found
        if found and not child.continue_:
            break
    return taken or [route]


def group_labels(route: Route, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that name the alert's group on `route`; one that it has not is left out, which counts as empty."""
    if route.group_by is None:
        return dict(labels)
    return {name: labels[name] for name in route.group_by if labels.get(name)}
