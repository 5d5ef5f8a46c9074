"""What tests of launches share."""

from collections.abc import Iterator

import pytest

from tests.helpers.slurm_sweeps import wait_for


@pytest.fixture(autouse=True)
def _cancel_all_jobs(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that uses a cluster leaves no jobs to the next one."""
    cluster = request.getfixturevalue("cluster") if "cluster" in request.fixturenames else None
    yield
    if cluster is not None:
        cluster.run("scancel", "--user=root")
        wait_for(lambda: not cluster.run("squeue", "-h"))
