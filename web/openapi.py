"""/openapi.json: Litestar's description of the API with our errors, and the plain ASGI routes added to it."""

from functools import cache
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, get

from streams.credentials import Scope
from streams.intake_own import OwnAlert
from web import ingest
from web import openapi_rights as rights
from web.alertmanager import PostableAlert
from web.problems import Problem

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_ALERTMANAGER: Final = "/api/v2/"
PROBES: Final = ("/healthz", "/readyz", "/metrics", "/-/healthy", "/-/ready")


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The description of every route."""
    return _described(request.app)


@cache
def _described(app: Litestar) -> dict[str, Any]:
    document: dict[str, Any] = app.openapi_schema.to_schema()
    types = (OwnAlert, PostableAlert, ingest.Taken, ingest.IngestProblem, Problem)
    references, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    own_ref, posted_ref, taken_ref, problem_ref, other_ref = references
    one_or_many = {"anyOf": [own_ref, {"type": "array", "items": own_ref}]}
    paths = document.setdefault("paths", {})
    needs = rights.scopes_of(app)
    for path, operations in paths.items():
        for method, operation in operations.items():
            operation["responses"] = _true_responses(path, method, operation, other_ref)
            operation["security"] = rights.security_of(needs[method, path])
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _never_null(parameter["schema"])
            if more := rights.headers_of(method, path):
                operation["parameters"] = [*operation.get("parameters", []), *more]
    paths.update({path: {"get": _probe(path)} for path in PROBES})
    paths.setdefault(ingest.OWN, {})["post"] = {
        "summary": "Send one alert or a list",
        "description": "202 once it is in durable hands. Good items of a mixed list are taken. "
        "The header Idempotency-Key stands in for event_id.",
        "tags": ["ingest"],
        "operationId": "SendAlerts",
        "requestBody": _body(one_or_many),
        "responses": {
            "202": _answer("Taken", taken_ref),
            **_refusals(problem_ref, "400", "401", "403", "408", "413", "415", "429", "503"),
        },
        "security": rights.security_of(Scope.INGEST),
    }
    paths.setdefault(ingest.ALERTMANAGER, {})["post"] = {
        "summary": "Send alerts as Prometheus does",
        "description": "Alertmanager's own route; a refused item makes the answer 400 while good ones are taken.",
        "tags": ["alertmanager"],
        "operationId": "PostAlerts",
        "requestBody": _body({"type": "array", "items": posted_ref}),
        "responses": {
            "200": {"description": "Taken"},
            **_texts("400", "401", "403", "408", "413", "415", "422", "429", "503"),
        },
        "security": rights.security_of(Scope.INGEST),
    }
    document.setdefault("components", {})["securitySchemes"] = rights.SCHEMES
    components = document["components"].setdefault("schemas", {})
    components.update({name: schema for name, schema in schemas.items() if name not in components})
    return document


def _true_responses(path: str, method: str, operation: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    """What is answered well, and our errors: problems, or texts where Alertmanager's clients listen."""
    good = {status: answer for status, answer in operation["responses"].items() if status < "300"}
    wrong = ["400", "503"]
    if "{" in path or path.startswith("/api/v1/dead-letters/"):
        wrong.append("404")
    wrong += rights.refusals(method)
    if path.startswith(_ALERTMANAGER):
        return {**good, **_texts(*sorted({*wrong, "404", "422"}))}
    return {**good, **_refusals(problem, *sorted(set(wrong)))}


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without null: what is left out is not there, and the word null is a word."""
    if isinstance(schema.get("type"), list):
        [kind] = [one for one in schema["type"] if one != "null"]
        return {**schema, "type": kind, "enum": [one for one in schema["enum"] if one is not None]}
    kinds = [kind for kind in schema.get("oneOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "oneOf"}, **kinds[0]}


def _probe(path: str) -> dict[str, Any]:
    kind = "text/plain" if path == "/metrics" else _JSON
    well = {"description": "As it is", "content": {kind: {"schema": {}}}}
    is_open = path != "/metrics"
    refused = {} if is_open else {status: {"description": "Refused"} for status in ("401", "403", "429")}
    return {
        "summary": "For probes and scrapes",
        "tags": ["probes"],
        "operationId": f"Probe{path.replace('/', '_').replace('-', '')}",
        "responses": {"200": well, "503": well, **refused},
        "security": rights.security_of(None if is_open else Scope.READ),
    }


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _texts(*statuses: str) -> dict[str, Any]:
    return {status: _answer("Refused: the reason", {"type": "string"}) for status in statuses}


def _refusals(schema: dict[str, Any], *statuses: str) -> dict[str, Any]:
    return {
        status: {"description": "Refused, naming the field", "content": {_PROBLEM: {"schema": schema}}}
        for status in statuses
    }
