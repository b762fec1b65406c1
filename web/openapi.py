"""/openapi.json: Litestar's description of what is read, with the plain ASGI ingest routes added to it."""

from functools import cache
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, get

from streams.intake_own import OwnAlert
from web import ingest
from web.alertmanager import PostableAlert

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The description of every route."""
    return _described(request.app)


@cache
def _described(app: Litestar) -> dict[str, Any]:
    document: dict[str, Any] = app.openapi_schema.to_schema()
    own, posted, taken, problem = (OwnAlert, PostableAlert, ingest.Taken, ingest.Problem)
    references, schemas = msgspec.json.schema_components((own, posted, taken, problem), ref_template=_REF)
    own_ref, posted_ref, taken_ref, problem_ref = references
    one_or_many = {"anyOf": [own_ref, {"type": "array", "items": own_ref}]}
    paths = document.setdefault("paths", {})
    paths.setdefault(ingest.OWN, {})["post"] = {
        "summary": "Send one alert or a list",
        "description": "202 once it is in durable hands. Good items of a mixed list are taken. "
        "The header Idempotency-Key stands in for event_id.",
        "tags": ["ingest"],
        "operationId": "SendAlerts",
        "requestBody": _body(one_or_many),
        "responses": {"202": _answer("Taken", taken_ref), **_refusals(problem_ref, "400", "413", "429")},
    }
    paths.setdefault(ingest.ALERTMANAGER, {})["post"] = {
        "summary": "Send alerts as Prometheus does",
        "description": "Alertmanager's own route; a refused item makes the answer 400 while good ones are taken.",
        "tags": ["alertmanager"],
        "operationId": "PostAlerts",
        "requestBody": _body({"type": "array", "items": posted_ref}),
        "responses": {"200": {"description": "Taken"}, **_texts("400", "413", "422", "503")},
    }
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update({name: schema for name, schema in schemas.items() if name not in components})
    return document


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
