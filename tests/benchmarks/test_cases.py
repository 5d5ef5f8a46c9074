"""The networks that other programs train are those of vae_sweeps."""

from pathlib import Path

import pytest
import torch

from benchmarks.cases import CASES, Case, specification
from benchmarks.peers.torch_loops import VAE, count
from vae_sweeps.models.build import build_vae
from vae_sweeps.models.vae import elbo_terms, initialise
from vae_sweeps.system.rng import generator


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_peer_has_the_weights_of_our_network(case: Case) -> None:
    described = specification(case, Path())
    ours = build_vae([case.point], described["shape"])
    theirs = VAE(described)
    sizes = [sorted(p.numel() for p in part.parameters()) for part in (ours.encoder, theirs.encoder)]
    assert sizes[0] == sizes[1]
    assert count(ours) == count(theirs)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_the_eager_loop_has_our_elbo_with_equal_weights_and_noise(case: Case) -> None:
    described = specification(case, Path())
    ours, theirs = build_vae([case.point], described["shape"]), VAE(described)
    initialise(ours, generator("weights", 0))
    with torch.no_grad():
        for name in ("encoder", "heads", "decoder"):
            for mine, copy in zip(getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True):
                weight = mine[0].flatten(1)  # [in,out], where the peer has [out,in]; or a bias [1,out]
                copy.copy_(weight[0] if copy.dim() == 1 else weight.T)
    x, eps = torch.rand(8, *described["shape"]), torch.randn(1, 8, described["latent"])
    terms = elbo_terms(ours, x, eps)
    nll, kl = theirs.terms(x, eps[0])
    torch.testing.assert_close(terms.log_px[0] - described["constant"], -nll, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(terms.kl[0], kl, rtol=1e-4, atol=1e-5)
