"""The OpenAPI document: routes read their bodies themselves, so their schemas are added here."""

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from medreward.http import schemas as wire
from medreward.http.compat import schemas as trainers

REQUESTS: tuple[type[BaseModel], ...] = (
    wire.RewardRequest,
    wire.JudgeRequest,
    trainers.OpenRlhfRequest,
    trainers.SlimeRequest,
    trainers.VerifyRequest,
    trainers.AggregateRequest,
)
REF = "#/components/schemas/{model}"

REASONS = {
    400: "Not JSON",
    401: "No key, or a wrong one",
    403: "A web page of another host sent it to a service without keys",
    404: "Nothing under this name",
    408: "The body did not arrive in time",
    413: "More than this deployment takes at once",
    415: "The body has a `Content-Encoding`",
    422: "JSON, but not what the route takes; names sample and field. Nothing was scored",
    429: "Every permit is taken (`Retry-After` says when to come back), or the judge is too slow for "
    "the deadline (`fits` says how many samples it has time for)",
    503: "Loading or draining; on a trainer's route also: a sample has no reward for now",
}


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body that a route reads as *model*."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def query_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the URL parameters that a route reads as *model*."""
    fields = model.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "description": field.pop("description"), "schema": field}
            for name, field in fields.items()
        ]
    }


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the error replies of a route."""
    return {code: {"model": wire.ErrorReply, "description": REASONS[code]} for code in codes}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of *app*, with the schemas of the raw bodies."""
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in REQUESTS], ref_template=REF
    )
    schemas = schema["components"]["schemas"] | definitions["$defs"]
    schema["components"]["schemas"] = dict(sorted(schemas.items()))
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # Auth is off without configured keys, so a key is optional; `{}` means a request without one.
    schema["security"] = [{}, {"key": []}]
    return schema


def routes_page(app: FastAPI) -> str:
    """Return a page for people with the routes of *app*; it needs no script, key or network."""
    rows = [
        f"<tr><td>{method.upper()}<td><code>{escape(path)}</code><td>{escape(_first_line(told))}"
        for path, methods in app.openapi()["paths"].items()
        for method, told in methods.items()
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(app.title)}</title>"
        "<style>body{font-family:sans-serif;margin:2em}td{padding:.2em 1em .2em 0}</style>"
        f"<h1>{escape(app.title)} {escape(app.version)}</h1><p>{escape(app.description)}"
        f"<table>{''.join(rows)}</table><p>Bodies and replies are in <code>/openapi.json</code>, "
        "which needs a key if this service has any, and in docs/api.md."
    )


def _first_line(operation: dict[str, Any]) -> str:
    return str(operation.get("description") or operation.get("summary") or "").partition("\n")[0]
