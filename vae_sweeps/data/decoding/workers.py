"""Decode many chunks of image files in parallel, in processes that import Pillow but not torch."""

import contextlib
import json
import os
import queue
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from vae_sweeps.data.decoding.image import Chunk, Flaw, Transform, decode_chunk
from vae_sweeps.system import cpus, helper_process


class _Decoder:
    """A process that decodes one chunk after another into the array; it ends when its stdin is closed."""

    def __init__(self, array: Path, shape: tuple[int, int, int], transform: Transform) -> None:
        self._process = helper_process.start("vae_sweeps.data.decoding.image")
        self._send({"array": str(array), "shape": shape, "transform": asdict(transform)})

    def decode(self, chunk: Chunk) -> tuple[list[Flaw], str]:
        """The result of `decode_chunk`. Raises OSError as it does, and ValueError if the process has died."""
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._send(asdict(chunk))
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            first, last = chunk.names[0], chunk.names[-1]
            raise ValueError(
                f"{chunk.root}: the process that decodes files ended with exit code {self._process.wait()} between "
                f"{first} and {last}; run the same command again to continue"
            )
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["strerror"])
        return [Flaw(**flaw) for flaw in answer["flaws"]], answer["sha256"]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def decode_all(
    chunks: Sequence[Chunk], array: Path, shape: tuple[int, int, int], transform: Transform
) -> Generator[tuple[Chunk, list[Flaw], str], None, None]:
    """Decode the chunks into the file `array`, on all cores; yield each chunk once it is written, in any order.

    Yields the chunk, its flaws and the sha256 of its rows, as `decode_chunk` returns them.
    Raises OSError if the array cannot be written.
    """
    if len(chunks) == 1:  # not worth starting a process
        file = os.open(array, os.O_WRONLY)
        try:
            yield chunks[0], *decode_chunk(chunks[0], transform, shape, file)
        finally:
            os.close(file)
        return
    num_decoders = min(cpus.usable(), len(chunks))
    idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
    decoders: list[_Decoder] = []

    def decode(chunk: Chunk) -> tuple[Chunk, list[Flaw], str]:
        decoder = idle.get()
        try:
            return chunk, *decoder.decode(chunk)
        finally:
            idle.put(decoder)

    pool = ThreadPoolExecutor(max(1, num_decoders), thread_name_prefix="decoding")
    try:
        for _ in range(num_decoders):
            decoders.append(_Decoder(array, shape, transform))
            idle.put(decoders[-1])
        for done in as_completed([pool.submit(decode, chunk) for chunk in chunks]):
            yield done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.end()
