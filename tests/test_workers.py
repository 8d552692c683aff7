"""The workers of a test run: groups stay together."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="runs with several workers")
@pytest.mark.xdist_group("alone")
def test_a_group_is_part_of_the_id_by_which_tests_are_scheduled(
    request: pytest.FixtureRequest,
) -> None:
    """Without it the tests of a group go to any worker, and each loads the models."""
    assert request.node.nodeid.endswith("@alone")
