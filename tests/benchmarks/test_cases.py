"""The networks that other programs train are those of vae_sweeps."""

from pathlib import Path

import pytest

from benchmarks.cases import CASES, Case, specification
from benchmarks.peers.torch_loops import VAE, count
from vae_sweeps.models.build import build_vae


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_peer_has_the_weights_of_our_network(case: Case) -> None:
    described = specification(case, Path())
    ours = build_vae([case.point], described["shape"])
    theirs = VAE(described)
    sizes = [sorted(p.numel() for p in part.parameters()) for part in (ours.encoder, theirs.encoder)]
    assert sizes[0] == sizes[1]
    assert count(ours) == count(theirs)
