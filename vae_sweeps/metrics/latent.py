"""What the latent space is used for."""

from jaxtyping import Float, Int
from torch import Tensor


def active_units(mu_variance: Float[Tensor, "K L"], threshold: float = 0.01) -> Int[Tensor, " K"]:
    """Latents whose posterior mean varies over the data by more than `threshold` (Burda et al. 2015, sec. 5.2)."""
    return (mu_variance > threshold).sum(-1)
