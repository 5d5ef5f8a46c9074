"""Our Adam takes the steps of PyTorch's."""

import torch
from torch import nn

from vae_sweeps.config.schema import Optim
from vae_sweeps.training.adam import Adam

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SETTINGS = Optim(lr=1e-3, betas=[0.8, 0.99], eps=1e-6, weight_decay=0.1, lr_decay_per_epoch=1.0, clip_norm=None)
FIRST = 7


def module() -> nn.ModuleDict:
    """Two layers, of which `unused` gets no gradients."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.ModuleDict({"used": nn.Linear(5, 3), "unused": nn.Linear(2, 2)})
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers.to(DEVICE)


def test_equals_the_class_of_pytorch_to_the_bit_also_when_resumed() -> None:
    ours, theirs = module(), module()
    adam = Adam(ours, SETTINGS, FIRST)
    expected = torch.optim.Adam(
        theirs.parameters(), betas=(0.8, 0.99), eps=SETTINGS.eps, weight_decay=SETTINGS.weight_decay, fused=True
    )
    moments = {name: torch.rand_like(p) for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        adam.exp_avg[name].copy_(moments[name])
        adam.exp_avg_sq[name].copy_(moments[name])
        step = torch.tensor(float(FIRST), device=DEVICE)
        expected.state[parameter] = {
            "step": step,
            "exp_avg": moments[name].clone(),
            "exp_avg_sq": moments[name].clone(),
        }
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for rate in (1e-2, 1e-3, 0.5):
        x = torch.rand(4, 5, device=DEVICE)
        adam.lr = expected.param_groups[0]["lr"] = rate
        for layers in (ours, theirs):
            layers.zero_grad()
            layers["used"](x).square().sum().backward()
        adam.step()
        expected.step()
    for (name, parameter), (_, same) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(parameter, same)
        assert torch.equal(adam.exp_avg[name], expected.state[same]["exp_avg"])
        assert torch.equal(adam.exp_avg_sq[name], expected.state[same]["exp_avg_sq"])
        assert torch.equal(parameter, before[name]) == name.startswith("unused")
