"""Images in the memory of the device and outside it, and packs that do not fit into it."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import make_dataset, make_options, make_point
from tests.gpu.test_numbers import rows_of, tensors_of
from tests.helpers import stand_in_device
from tests.helpers.small_jobs import NoPictures, slow
from tests.helpers.training import train_points
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.data.load import load_dataset
from vae_sweeps.launch.worker import JobContext, References, run_pack
from vae_sweeps.runs.run_folder import RunFolder


@pytest.mark.parametrize("binarize", ["none", *slow("dynamic")])
def test_streamed_images_train_as_resident_ones(binarize, device, in_folders) -> None:
    point = make_point("arch.hidden=[12]", "latent=2", "steps=40", "batch_size=16", "log_every_steps=10")
    folders = {is_resident: in_folders(1, f"resident-{is_resident}")[0] for is_resident in (True, False)}
    for is_resident, folder in folders.items():
        dataset = make_dataset(resident=is_resident, binarize=binarize)
        train_points([point], [folder], dataset, device=device)
    expected, found = tensors_of(folders[True]), tensors_of(folders[False])
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert rows_of(folders[False]) == rows_of(folders[True])


@contextlib.contextmanager
def room_for(num_models: float, width: int, device: torch.device) -> Iterator[None]:
    """Memory for so many models of one hidden layer in this block, beside what the process has."""
    bytes_of_layer = 4 * 784 * width
    if device.type != "cuda":
        with stand_in_device.limited(num_models * bytes_of_layer):
            yield
        return
    bytes_of_model = 2 * 4 * bytes_of_layer  # weights, gradients and Adam's two moments, of two layers
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_reserved(device) + num_models * bytes_of_model
    torch.cuda.set_per_process_memory_fraction(allowed / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@pytest.mark.slow
def test_a_pack_that_does_not_fit_is_halved_and_every_point_is_trained(
    device, is_gpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    width = 8192 if is_gpu else 512  # so that other memory on a GPU is small beside it
    common = [f"arch.hidden=[{width}]", "batch_size=16", "steps=3", "latent=2"]
    points = [make_point(*common, f"seed={seed}") for seed in range(4)]
    options = make_options("evaluation=none", "tracker=none")
    fingerprint = load_dataset(points[0].data).fingerprint
    runs = [RunFolder.under(tmp_path, run_name(point, run_id(point, fingerprint))) for point in points]
    for run, point in zip(runs, points, strict=True):
        run.path.mkdir(parents=True)
        run.create(point, options, [], data_fingerprint=fingerprint)
    context = JobContext(device, options, lambda: False, References(options, device), drawer=NoPictures())
    caplog.set_level(logging.WARNING)
    with room_for(3.2, width, device):
        run_pack(sorted(runs), context)
    assert [result["status"] for run in runs if (result := run.read_result())] == ["done"] * 4
    said = [record.message for record in caplog.records if "training each half" in record.message]
    assert len(said) == 1
    assert "4 points failed (OutOfMemoryError" in said[0]
