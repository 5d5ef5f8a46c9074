"""Check an encoder and a decoder."""

from collections.abc import Callable
from math import prod

import torch
from torch import nn

from vae_sweeps.models.copies import begin_step
from vae_sweeps.models.own import networks_of
from vae_sweeps.models.stacking import put_point, slots


def check_architecture(
    encoder: Callable[[], nn.Module],
    decoder: Callable[[], nn.Module],
    image_shape: tuple[int, int, int],
    latent: int,
    *,
    params_per_pixel: int = 1,
    shares_packs: bool = True,
) -> None:
    """Raise AssertionError, with one sentence, unless the networks of one model keep the contract.

    `encoder()` makes a module from images [B,C,H,W] to features [B,F], `decoder()` one from z [B,`latent`] to
    `params_per_pixel` numbers for each pixel value, in any shape. With `shares_packs`, two models in a pack must
    compute what each computes alone, to 1e-9 in float64; otherwise such models train one by one.
    """
    torch_state = torch.get_rng_state()
    try:
        alone = [
            networks_of(lambda: (encoder(), decoder()), 1, image_shape, latent, params_per_pixel) for _ in range(2)
        ]
    except ValueError as error:
        raise AssertionError(str(error)) from error
    finally:
        torch.set_rng_state(torch_state)
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(3, *image_shape, generator=draw, dtype=torch.float64)
    z = torch.randn(2, 3, latent, generator=draw, dtype=torch.float64)
    expected = []
    for k, networks in enumerate(alone):
        for module, inputs in ((networks.encoder, x), (networks.decoder, z[k : k + 1])):
            module.double().train()
            begin_step(module, [k], 0)
            out = module(inputs)
            assert out.isfinite().all(), "an output in training has NaN or infinity"
            assert out.requires_grad, "an output does not depend on the weights"
            expected.append(out.detach())
    assert expected[1].shape[-1] == params_per_pixel * prod(image_shape), (
        "the decoder returns too few or too many numbers"
    )
    if not shares_packs:
        return
    pack = networks_of(lambda: (encoder(), decoder()), 2, image_shape, latent, params_per_pixel)
    for part, inputs in enumerate((x, z)):
        module = (pack.encoder, pack.decoder)[part].double().train()
        for k, networks in enumerate(alone):
            put_point(module.state_dict(), k, 2, (networks.encoder, networks.decoder)[part].state_dict())
        begin_step(module, [0, 1], 0)
        try:
            out = module(inputs)
        except Exception as error:
            raise AssertionError(f"two models cannot be computed at once: {type(error).__name__}: {error}") from error
        for k in (0, 1):
            error = (slots(out, 2)[k] - expected[2 * k + part]).abs().max().item()
            assert error < 1e-9, f"in a pack, model {k} computes numbers that are {error:.2g} off"
