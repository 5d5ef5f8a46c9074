"""A short campaign of faults. The full one is `python -m tests.faults.campaign --faults 300`."""

import os
from pathlib import Path

import pytest

from tests.faults.campaign import campaign, summary
from tests.faults.faults import all_faults, kinds_of
from tests.faults.scenes import SIX_ALONE

# The length of the campaign, for whoever has more time: VAE_SWEEPS_FAULTS=300 pytest -m slow tests/faults
NUM_FAULTS = int(os.environ.get("VAE_SWEEPS_FAULTS", "3"))
SEED = int(os.environ.get("VAE_SWEEPS_FAULTS_SEED", "0"))
# Without SLURM and images, whose start takes longer than a fault.
_KINDS = ("kill", "stop", "disk", "permission", "clock", "damage", "crowd", "namespace")


@pytest.mark.slow
def test_no_fault_loses_repeats_or_changes_a_number_or_goes_unsaid(tmp_path: Path) -> None:
    is_short = NUM_FAULTS <= 30
    outcomes = campaign(
        NUM_FAULTS, SEED, tmp_path, only=_KINDS if is_short else (), grids=[SIX_ALONE] if is_short else ()
    )
    assert not [outcome.line() for outcome in outcomes if outcome.problems], summary(outcomes, SEED)


def test_faults_are_named_once_and_mixed_in_their_shares() -> None:
    names = [fault.name for fault in all_faults()]
    assert len(set(names)) == len(names)
    kinds = sorted({fault.kind for fault in all_faults()})
    order = kinds_of(30, kinds)
    assert set(order) == set(kinds)
    assert order.count("damage") == 8
