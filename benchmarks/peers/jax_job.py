"""A JAX script that trains K VAEs together for an epoch and evaluates them: `python -m benchmarks.peers.jax_job JOB`.

JOB is JSON: a case, with the folder of the digits as "root" and the list "betas". Prints the K ELBOs of each split as
JSON. Images that do not fill a batch are left out of training.
"""

import json
import sys
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
import optax  # pyright: ignore[reportMissingImports]

from benchmarks.peers.digits import splits
from benchmarks.peers.jax_vmap import loss_terms, new_params

_EVALUATED = 1000  # images at once; divides all splits


def main() -> None:
    job = json.loads(sys.argv[1])
    betas, size, latent = jnp.asarray(job["betas"]), job["batch_size"], job["latent"]
    k = len(betas)
    data = {name: jnp.asarray(images) for name, images in splits(job["root"]).items()}
    optimiser = optax.adam(job["lr"])
    params = jax.vmap(lambda key: new_params(key, job))(jax.random.split(jax.random.PRNGKey(1), k))
    moments = jax.vmap(optimiser.init)(params)

    def loss(params: Any, beta: jax.Array, x: jax.Array, eps: jax.Array) -> jax.Array:
        nll, kl = loss_terms(params, x, eps, job)
        return jnp.mean(nll + beta * kl)

    def scaled(images: jax.Array) -> jax.Array:
        return images.astype(jnp.float32) / 255

    @jax.jit
    def train(params: Any, moments: Any, images: jax.Array, order: jax.Array, key: jax.Array) -> Any:
        def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
            params, moments, key = carry
            key, of_noise = jax.random.split(key)
            eps = jax.random.normal(of_noise, (k, size, latent))
            grads = jax.vmap(jax.grad(loss), in_axes=(0, 0, None, 0))(params, betas, scaled(images[index]), eps)
            updates, moments = jax.vmap(optimiser.update)(grads, moments, params)
            return (optax.apply_updates(params, updates), moments, key), None

        (params, _, _), _ = jax.lax.scan(step, (params, moments, key), order)
        return params

    @jax.jit
    def summed(params: Any, images: jax.Array, key: jax.Array) -> jax.Array:
        eps = jax.random.normal(key, (k, len(images), latent))
        nll, kl = jax.vmap(lambda p, e: loss_terms(p, scaled(images), e, job))(params, eps)
        return -(nll + kl).sum(1)

    num_images = len(data["train"])
    order = np.random.default_rng(0).permutation(num_images)[: num_images // size * size].reshape(-1, size)
    params = train(params, moments, data["train"], order, jax.random.PRNGKey(2))
    elbos = {}
    for name, images in data.items():
        keys = jax.random.split(jax.random.PRNGKey(3), len(images) // _EVALUATED)
        parts = [summed(params, x, key) for x, key in zip(images.reshape(-1, _EVALUATED, 1, 28, 28), keys, strict=True)]
        elbos[name] = (jnp.stack(parts).sum(0) / len(images)).tolist()
    print(json.dumps(elbos))


if __name__ == "__main__":
    main()
