"""The interface against its own description: no request makes it fail."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from station_help import BASE

from blemish.errors import BlemishError
from blemish.station.jobs import Jobs

schemathesis = pytest.importorskip("schemathesis")


def test_the_description_is_whole(client):
    found = client.get("/v1/openapi.json").json()
    assert found["paths"]["/v1/products/{product_id}/inspect"]["post"]["requestBody"]["content"]["image/png"]
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
            assert {"401", "422"} <= set(operation["responses"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_no_request_makes_it_fail(client, monkeypatch):
    """Requests that follow the description and ones that break it: none is answered by 500 or above."""
    from schemathesis.core.errors import SerializationNotPossible
    from schemathesis.generation import GenerationMode

    monkeypatch.setattr(Jobs, "start", _refuse)
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app)
    schema.config.base_url = BASE
    failed: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/events":
            continue

        for mode in GenerationMode:

            @settings(
                max_examples=8,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @_given(operation, mode)
            def run(case):
                answer = _send(client, case)
                if answer.status_code >= 500:
                    failed.append(f"{case.method} {answer.url}: {answer.text[:200]}")

            # An operation that nothing can be wrong with; a body that is an archive, which has tests of its own.
            with suppress(Unsatisfiable, SerializationNotPossible):
                run()
    assert failed == []


def _refuse(*_: object) -> None:
    raise BlemishError("nothing is taught here")


def _given(operation, mode):
    return given(case=operation.as_strategy(generation_mode=mode))


def _send(client, case):
    prepared = case.as_transport_kwargs(base_url=BASE)
    return client.request(**prepared)
