"""Requests made from the OpenAPI description, well-formed and not: the server never fails."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from web_server import server_of

schemathesis = pytest.importorskip("schemathesis")

BOUNDED = settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OPERATIONS = [
    ("POST", "/v1/images"),
    ("POST", "/v1/interpolate"),
    ("POST", "/v1/transcriptions"),
    ("POST", "/v1/images/generations"),
    ("GET", "/v1/live"),
    ("GET", "/v1/models"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def described(tiny: Path):
    with server_of(tiny, "--no-page", "--body-seconds", "600") as (_, address):
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_all_operations_are_tried(described) -> None:
    found = [operation.ok() for operation in described.get_all_operations()]
    assert {(operation.method.upper(), operation.path) for operation in found} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("mode", "method", "path"),
    [("positive", *operation) for operation in OPERATIONS] + [("negative", *post) for post in OPERATIONS[:4]],
)
def test_no_request_makes_the_server_fail(described, mode: str, method: str, path: str) -> None:
    """No 500; status, type and shape of every answer are as described."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as of

    checks = [not_a_server_error, of.status_code_conformance, of.content_type_conformance]
    checks.append(of.response_schema_conformance)
    requests = described[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @BOUNDED
    @given(case=requests)
    def try_all(case) -> None:
        case.call_and_validate(checks=checks)

    try_all()
