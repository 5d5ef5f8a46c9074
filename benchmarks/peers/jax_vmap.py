"""JAX and optax: K models by `vmap`, many steps by `scan`, all in one `jit`."""

import functools
import gc
import math
import os
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # other processes use the GPU, too

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
import optax  # pyright: ignore[reportMissingImports]

from benchmarks.peers.serving import Contestant, Memory, Stepper, UnknownMemory, serve

Params = list[dict[str, jax.Array]]

# On a GPU, "bfloat16" would be TF32, as "tensorfloat32" is: XLA rounds factors of float32 to nothing shorter. So bf16
# casts what goes into products, as PyTorch's autocast does, and this setting is of no account.
MATMUL_PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "highest"}


class DeviceMemory:
    """The memory of XLA's allocator, whose peak is that of the process: it is known only if it is a new one."""

    def __init__(self) -> None:
        self._before, self._peak_before = 0, 0

    def _stats(self) -> dict[str, int]:
        return jax.local_devices()[0].memory_stats()

    def begin(self) -> None:
        gc.collect()
        stats = self._stats()
        self._before, self._peak_before = stats["bytes_in_use"], stats["peak_bytes_in_use"]

    def peak_bytes(self) -> int | None:
        peak = self._stats()["peak_bytes_in_use"]
        return peak - self._before if peak > self._peak_before else None


def memory_of(case: dict[str, Any]) -> Memory:
    return DeviceMemory() if case["device"] == "cuda" else UnknownMemory()


def _uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)


def init_layer(key: jax.Array, kind: str, *args: Any) -> dict[str, jax.Array]:
    """PyTorch's initial weights of one entry of a case's encoder or decoder; {} where it has none."""
    first, second = jax.random.split(key)
    match kind, args:
        case "linear", (a, b):
            return {"w": _uniform(first, (a, b), a), "b": _uniform(second, (b,), a)}
        case "conv", (a, b, kernel, _, bias):
            fan_in, shape = a * kernel**2, (b, a, kernel, kernel)
        case "deconv", (a, b, kernel, bias):
            fan_in, shape = b * kernel**2, (a, b, kernel, kernel)
        case "from_point", (a, b, size, bias):
            fan_in, shape = b * math.prod(size), (a, b, *size)
        case "norm", (channels,):
            return {"scale": jnp.ones(channels), "b": jnp.zeros(channels)}
        case _:
            return {}
    made = {"w": _uniform(first, shape, fan_in)}
    return made | {"b": _uniform(second, (shape[0] if kind == "conv" else shape[1],), fan_in)} if bias else made


def apply_layer(params: dict[str, jax.Array], x: jax.Array, kind: str, *args: Any) -> jax.Array:
    bias = params["b"][:, None, None] if "b" in params and kind != "linear" else 0.0
    dims = ("NCHW", "OIHW", "NCHW")
    match kind, args:
        case "linear", _:
            return x @ params["w"] + params["b"]
        case "conv", (_, _, kernel, stride, _):
            pad = (kernel - 1) // 2
            return (
                jax.lax.conv_general_dilated(x, params["w"], (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=dims)
                + bias
            )
        case "deconv", (_, _, kernel, _):
            pad = (kernel - 1) // 2
            pads = (kernel - 1 - pad, kernel - 1 - pad + 2 - kernel + 2 * pad)
            w = jnp.flip(params["w"], (2, 3)).swapaxes(0, 1)
            return jax.lax.conv_general_dilated(x, w, (1, 1), [pads] * 2, (2, 2), dimension_numbers=dims) + bias
        case "from_point", _:
            return jnp.einsum("bi,iohw->bohw", x, params["w"]) + bias
        case "norm", _:
            mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
            return (x - mean) * jax.lax.rsqrt(var + 1e-5) * params["scale"][:, None, None] + bias
        case "leaky_relu", (slope,):
            return jax.nn.leaky_relu(x, slope)
        case "reshape", shape:
            return x.reshape(-1, *shape)
        case "flatten", _:
            return x.reshape(len(x), -1)
    return {"relu": jax.nn.relu, "elu": jax.nn.elu, "tanh": jnp.tanh}[kind](x)


def _computed(params: dict[str, jax.Array], x: jax.Array, entry: list[Any], precision: str) -> jax.Array:
    """A layer in the data types that autocast would use: of bf16, all but normalisation is computed in bfloat16."""
    if precision != "bf16":
        return apply_layer(params, x, *entry)
    dtype = jnp.float32 if entry[0] == "norm" else jnp.bfloat16
    return apply_layer({name: p.astype(dtype) for name, p in params.items()}, x.astype(dtype), *entry)


def init(key: jax.Array, entries: list[list[Any]]) -> Params:
    return [init_layer(k, *entry) for k, entry in zip(jax.random.split(key, len(entries)), entries, strict=True)]


def apply(params: Params, x: jax.Array, entries: list[list[Any]], precision: str = "fp32") -> jax.Array:
    for of_layer, entry in zip(params, entries, strict=True):
        x = _computed(of_layer, x, entry, precision)
    return x.astype(jnp.float32)


def new_params(key: jax.Array, case: dict[str, Any]) -> dict[str, Params]:
    encoder, heads, decoder = jax.random.split(key, 3)
    return {
        "encoder": init(encoder, case["encoder"]),
        "heads": init(heads, [["linear", case["features"], 2 * case["latent"]]]),
        "decoder": init(decoder, case["decoder"]),
    }


def loss_terms(
    params: dict[str, Params], x: jax.Array, eps: jax.Array, case: dict[str, Any]
) -> tuple[jax.Array, jax.Array]:
    """-log p(x|z), without constants, and KL: [B] each."""
    precision = case["precision"]
    features = apply(params["encoder"], x, case["encoder"], precision)
    mu, logvar = jnp.split(apply(params["heads"], features, [["linear"]], precision), 2, -1)
    out = apply(params["decoder"], mu + jnp.exp(0.5 * logvar) * eps, case["decoder"], precision).reshape(len(x), -1)
    x = x.reshape(len(x), -1)
    bernoulli = case["likelihood"] == "bernoulli"
    nll = jnp.sum(jax.nn.softplus(out) - x * out if bernoulli else 0.5 * (out - x) ** 2, -1)
    return nll, 0.5 * jnp.sum(mu**2 + jnp.exp(logvar) - 1 - logvar, -1)


def make(name: str, case: dict[str, Any], images: np.ndarray, k: int) -> Contestant:
    pixels, size, (low, high) = jnp.asarray(images), case["batch_size"], case["pixel_range"]
    optimiser = optax.adam(case["lr"])
    params = jax.vmap(lambda key: new_params(key, case))(jax.random.split(jax.random.PRNGKey(1), k))

    def loss(params: dict[str, Params], x: jax.Array, eps: jax.Array) -> jax.Array:
        return jnp.mean(sum(loss_terms(params, x, eps, case)))

    def step(carry: Any, index: jax.Array) -> tuple[Any, jax.Array]:
        params, moments, key = carry
        key, of_noise = jax.random.split(key)
        x = pixels[index].astype(jnp.float32) * ((high - low) / 255) + low
        eps = jax.random.normal(of_noise, (k, size, case["latent"]))
        losses, grads = jax.vmap(jax.value_and_grad(loss), in_axes=(0, None, 0))(params, x, eps)
        updates, moments = jax.vmap(optimiser.update)(grads, moments, params)
        return (optax.apply_updates(params, updates), moments, key), losses.mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def run(carry: Any, order: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, carry, order)

    steps_per_epoch = len(images) // size
    # Long enough that the call costs nothing, short enough that some calls run undisturbed on a busy machine.
    is_conv = any(kind == "conv" for kind, *_ in case["encoder"])
    chunk = max(1, (64 if case["device"] == "cuda" else 4 if is_conv else 12) // k)
    rng, waiting = np.random.default_rng(0), list[np.ndarray]()
    carry = (params, jax.vmap(optimiser.init)(params), jax.random.PRNGKey(2))

    def advance() -> jax.Array:
        nonlocal carry
        while len(waiting) < chunk:
            waiting.extend(rng.permutation(len(images))[: steps_per_epoch * size].reshape(-1, size))
        with jax.default_matmul_precision(MATMUL_PRECISIONS[case["precision"]]):  # read when `run` is compiled
            carry, losses = run(carry, np.stack(waiting[:chunk]))
        del waiting[:chunk]
        return losses

    num_params = sum(leaf.size for leaf in jax.tree.leaves(params)) // k
    return Stepper(
        advance,
        num_params,
        chunk=chunk,
        losses_of=lambda losses: np.asarray(losses).tolist(),
        wait=lambda: jax.block_until_ready(carry),
    )


if __name__ == "__main__":
    serve(make, memory_of)
