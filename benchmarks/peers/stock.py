"""A plain PyTorch script that trains one VAE for an epoch and evaluates it: `python -m benchmarks.peers.stock JOB`.

JOB is JSON: a case, with the folder of the digits as "root", "beta" and "seed". Prints the ELBO of each split as JSON.
"""

import json
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.digits import splits
from benchmarks.peers.torch_loops import VAE


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.manual_seed(job["seed"])
    data = {name: TensorDataset(torch.from_numpy(x.copy()).float() / 255) for name, x in splits(job["root"]).items()}
    model = VAE(job)
    optimiser = torch.optim.Adam(model.parameters(), lr=job["lr"])
    for (x,) in DataLoader(data["train"], batch_size=job["batch_size"], shuffle=True):
        nll, kl = model.terms(x, torch.randn(len(x), job["latent"]))
        loss = (nll + job["beta"] * kl).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    elbos = {}
    with torch.no_grad():
        for name, images in data.items():
            total = 0.0
            for (x,) in DataLoader(images, batch_size=512):
                nll, kl = model.terms(x, torch.randn(len(x), job["latent"]))
                total -= (nll + kl).sum().item()
            elbos[name] = [total / len(images)]
    print(json.dumps(elbos))


if __name__ == "__main__":
    main()
