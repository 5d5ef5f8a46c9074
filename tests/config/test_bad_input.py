"""A user's mistake is reported in one line with the key, its value and what is allowed; nothing is trained."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from tests.conftest import ROOT, ended_command, launch, make_point
from tests.helpers.idx_files import small_arrays, write_files
from vae_sweeps.config import errors
from vae_sweeps.data.idx import TRAIN_IMAGES, TRAIN_LABELS
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder

SMALL = ["arch.hidden=[4]", "steps=1", "evaluation=none"]
GRID = ["-m", "latent=2,3"]


def commands(text: str) -> list[tuple[str, str]]:
    """Pairs of a command's arguments and its expected message."""
    return [
        (command.strip(), line.strip()) for command, line in (row.split(" | ") for row in text.strip().splitlines())
    ]


# The message for a bad value is the same for a single point and in a grid.
VALUES = commands("""
beta=-1 | a number >= 0
beta=abc | a number >= 0
beta=nan | a number >= 0
beta=inf | a number >= 0
beta=null | a number >= 0
beta= | a number >= 0
latent=0 | a whole number >= 1
latent=2.5 | a whole number >= 1
batch_size=0 | a whole number >= 1
seed=-1 | a whole number >= 0
epochs=0 | a whole number >= 1, or null if steps is set
steps=0 | a whole number >= 1, or null
max_pack=0 | a whole number >= 1, or null
precision=fp16 | one of fp32, tf32, bf16, fp64
posterior=foo | one of logvar, softplus, square, sigma
overwrite=maybe | true or false
data.binarize=maybe | one of none, static, dynamic, larochelle
data.pixel_range=[0,2] | [0,1] or [-1,1]
arch=transformer | one of conv, custom, mlp
likelihood=foo | one of bernoulli, continuous_bernoulli, custom, discretized_logistic, gaussian, laplace
arch.hidden=[0] | a list of whole numbers >= 1, or [] for a linear model
arch.activation=swish | one of relu, leaky_relu, elu, silu, gelu, tanh
arch.init=zero | one of pytorch, he, xavier, truncated_normal
arch.output=relu | one of identity, tanh, sigmoid
arch.negative_slope=2 | a number in [0, 1]
data.train_on=test | one of train, all
log_steps=never | one of every, powers_of_two
pictures_at_epochs=[0] | a list of whole numbers >= 1
pictures.columns=0 | a whole number >= 1
pictures.traversal_extent=0 | a number > 0
optim.lr=0 | a number > 0
optim.betas=[0.9] | two numbers in [0, 1)
sweep=a/b | a folder name of at most 100 characters, without /
sweep=.. | a folder name of at most 100 characters, without /
""")
SIGMA = "a number > 0 (a standard deviation), learned, or optimal"


@pytest.mark.parametrize(("argument", "allowed"), VALUES)
def test_a_bad_value_is_named_with_what_is_allowed(argument: str, allowed: str) -> None:
    with pytest.raises(errors.UserErrors) as raised:
        make_point(argument)
    assert errors.one_line(raised.value) == f"{argument}: must be {allowed}"


@pytest.mark.parametrize(("argument", "allowed"), VALUES[:3] + VALUES[6:8] + VALUES[18:19])
def test_a_bad_value_next_to_good_ones_stops_the_whole_grid(refused, argument: str, allowed: str) -> None:
    name, value = argument.split("=")
    good = {"arch": "mlp"}.get(name, "1")
    assert refused("-m", f"{name}={good},{value},{good}", "batch_size=32") == f"{argument}: must be {allowed}"


@pytest.mark.parametrize("value", ["0", "-1", "foo", "nan"])
def test_a_bad_sigma_is_named_with_what_is_allowed(refused, value: str) -> None:
    expected = f"likelihood.sigma={value}: must be {SIGMA}"
    assert refused("likelihood=gaussian", f"likelihood.sigma={value}") == expected
    assert refused("-m", "likelihood=gaussian", f"likelihood.sigma=0.1,{value}") == expected


MISTAKES = commands("""
bata=1 | bata=1: no such key; did you mean beta or data? known: arch, batch_size, beta, checkpoint_every_s,
+bata=1 | bata=1: no such key; did you mean beta or data? known: arch, batch_size, beta, checkpoint_every_s,
trackr=none | trackr=none: no such key; did you mean tracker? known: arch,
foo.bar=1 | foo.bar=1: no such key; known: arch, batch_size,
beta.x=1 | beta.x=1: beta is not a group; must be a number >= 0
~beta | ~beta: must not be deleted; every command needs beta, a number >= 0
~steps | ~steps: has no value to delete; remove it from the command
~arch | ~arch: must not be deleted; every command needs arch, a group of conf/arch
+arch=conv | +arch=conv: arch is chosen already; write arch=conv without +
arch=conv arch.chanels=[8] | arch.chanels=[8]: no such key; did you mean arch.channels or arch.decoder_channels?
arch.channels=[8] | arch.channels=[8]: no such key here; must be used with arch=conv; known: arch.activation,
likelihood.sigma=1 | likelihood.sigma=1: no such key here; must be used with likelihood=gaussian
experiment=foo | experiment=foo:
epochs=null | epochs=null: must be a whole number >= 1 if steps is null; set one of the two
data.pixel_range=[-1,1] | data.pixel_range=[-1,1]: must be [0,1] with likelihood=bernoulli; or choose likelihood=gauss
objective=mse | objective.error=squared: must be nll unless likelihood.sigma is a number; add likelihood=gaussian, or
arch=conv arch.channels=[8,8,8] | arch.channels=[8, 8, 8]: 3 layers of stride 2 need image sides divisible by 8, such
arch=conv arch.decoder_channels=[8] | arch.decoder_channels=[8]: must have 2 entries with 2 in arch.channels and
arch=conv arch.downsampling=max_pool | arch.kernel=4: must be odd with arch.downsampling=max_pool; use an odd kernel
arch.output=tanh | arch.output=tanh: must be identity with likelihood=bernoulli, which applies a sigmoid; or
objective.capacity_gamma=1 beta=2 | beta=2: must be 1 with objective.capacity_gamma, which takes its place
objective.schedule=cyclical objective.warmup_epochs=1 | objective.warmup_epochs=1: must be 0 with objective.sched
optim.momentum=0.9 | optim.momentum=0.9: must be 0 with optim=adam; use sgd or rmsprop
optim=sgd optim.momentum=2 | optim.momentum=2: must be a number in [0, 1)
optim=custom | optim.custom._target_=null: must be the full dotted name of an optimiser
optim=lbfgs | optim=lbfgs: must be one of adam, adamw, custom, rmsprop, sgd
pictures.foo=1 | pictures.foo=1: no such key; known: pictures.columns, pictures.num_reconstructions,
+pictures.foo=1 | pictures.foo=1: no such key; known: pictures.columns, pictures.num_reconstructions,
+objective.nonsense=1 | objective.nonsense=1: no such key; known: objective.batch,
+optim.beta=1 | optim.beta=1: no such key; did you mean optim.betas
+evaluation.x=1 | evaluation.x=1: no such key; known: evaluation.batch_size,
+tracker.mod=1 | tracker.mod=1: no such key; did you mean tracker.mode
+arch.x=1 | arch.x=1: no such key; known: arch.activation,
+data.x=1 | data.x=1: no such key; known: data.binarize,
arch._target_=foo.bar | _target_=foo.bar: cannot be imported, there is no module foo; must be the full dotted name of
beta=${foo} | beta: Interpolation key 'foo' not found; must be a number >= 0
beta=[1 | beta=[1: cannot be parsed; must be key=value, with quotes (') around special
beta | beta: cannot be parsed; must be key=value, with quotes (') around special
device=tpu | device=tpu: not on this machine, which has cpu
device=cuda:99 | device=cuda:99: not on this machine, which has cpu
""")


@pytest.mark.parametrize(("command", "expected"), MISTAKES)
def test_a_mistake_is_explained(refused, command: str, expected: str) -> None:
    assert refused(*command.split()).startswith(expected)


# A third of them: a grid's points are composed another way, and what is wrong with one is said by the same functions.
@pytest.mark.parametrize(("command", "expected"), MISTAKES[::3])
def test_a_mistake_in_a_grid_is_explained(refused, command: str, expected: str) -> None:
    assert refused(*GRID, *command.split()).startswith(expected)


def test_cuda_is_refused_where_there_is_none(refused, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    line = refused("device=cuda")
    assert line.startswith("device=cuda: not on this machine, which has cpu")
    assert line.endswith("use one of them or auto")


def test_a_grid_without_m_is_refused(refused) -> None:
    expected = "beta=0,1: must be one value; put -m before it for a grid, or write beta=[0,1] for a list"
    assert refused("beta=0,1") == expected


@pytest.mark.parametrize("swept", [[], GRID])
def test_an_output_folder_below_a_file_is_refused(refused, tmp_path, swept: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    out = tmp_path / "file" / "out"
    line = refused(*swept, *SMALL, f"output_dir={out}")
    assert line.startswith(f"output_dir={out}: cannot be written ({tmp_path / 'file'}: not a folder); choose")


@pytest.mark.parametrize("swept", [[], GRID])
def test_missing_data_that_cannot_be_downloaded_are_reported(refused, tmp_path, monkeypatch, swept: list[str]) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("vae_sweeps.data.downloads.urlopen", unreachable)
    line = refused(*swept, "data=mnist", f"data.root={tmp_path / 'none'}")
    assert line.startswith(f"data.root={tmp_path / 'none'}: {TRAIN_IMAGES}, {TRAIN_LABELS}, ")
    assert "no network" in line
    assert line.endswith("copy the files there, or set data.root to the folder that has them")


def _cut(folder: Path) -> str:
    path = folder / TRAIN_IMAGES
    path.write_bytes(path.read_bytes()[:-10])
    return f"{path}: truncated: expected 4336 bytes, found 4326 bytes; copy it again"


def _swap(folder: Path) -> str:
    shutil.copy(folder / TRAIN_IMAGES, folder / TRAIN_LABELS)
    return f"{folder / TRAIN_LABELS}: magic number 2051, expected 2049: not an IDX file of labels; copy it again"


def _shorten(folder: Path) -> str:
    shutil.rmtree(folder)
    arrays = small_arrays()
    write_files(folder, arrays | {TRAIN_LABELS: np.ascontiguousarray(arrays[TRAIN_LABELS][:-3])})
    return f"{folder / TRAIN_LABELS}: 117 labels, but {folder / TRAIN_IMAGES} has 120 images"


@pytest.mark.parametrize("swept", [[], GRID])
@pytest.mark.parametrize("damage", [_cut, _swap, _shorten])
def test_damaged_data_are_reported(refused, tmp_path, damage: Callable[[Path], str], swept: list[str]) -> None:
    folder = write_files(tmp_path / "data", small_arrays())
    expected = damage(folder)
    assert refused(*swept, "data=mnist", f"data.root={folder}").startswith(expected)


def test_a_mistake_in_one_dataset_of_a_grid_stops_the_others(refused, tmp_path) -> None:
    good, bad = (write_files(tmp_path / name, small_arrays()) for name in ("good", "bad"))
    expected = _cut(bad)
    assert refused("-m", "data=mnist", f"data.root={good},{bad}", *SMALL) == expected


def test_huge_values_are_allowed() -> None:
    point = make_point(
        "beta=1e30", "latent=100000", "seed=99999999999999999999", "batch_size=10000000", "epochs=1000000000",
        "optim.lr=1e10", "arch.hidden=[100000]", "likelihood=gaussian", "likelihood.sigma=1e-30", "max_pack=100000",
        f"sweep={'s' * 100}",
    )  # fmt: skip
    assert (point.beta, point.latent, point.seed) == (1e30, 100_000, 99_999_999_999_999_999_999)


def test_a_batch_larger_than_the_data_and_a_large_seed_are_trained(door, tmp_path) -> None:
    ended = door(*SMALL, "batch_size=100000", "latent=300", f"seed={10**20}", f"output_dir={tmp_path / 'out'}")
    assert (ended.code, ended.err) == (0, "")
    (run,) = runs_folder(tmp_path / "out").iterdir()
    result = RunFolder(run).read_result()
    assert result is not None
    assert result["status"] == "done"


def test_hydra_full_error_shows_the_traceback(door) -> None:
    with pytest.raises(errors.RefusedError, match="beta=-1: must be"):
        door("-m", "beta=-1", traceback=True)


def test_help_shows_the_choices_and_a_grid(door) -> None:
    ended = door("--help")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    joined = re.sub(r"\|\n +", "| ", ended.out).splitlines()  # a long list goes on in the next line
    listed = {name: set(choices) for name, *choices in (line.replace("|", " ").split() for line in joined if line)}
    for group in ("data", "arch", "likelihood", "objective", "optim", "evaluation", "tracker", "evaluation/features"):
        assert listed[group] == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
    assert "python launch.py -m beta=0,0.01,1 latent=2,10,128" in ended.out
    assert {"beta: 1.0", "latent: 10"} <= set(lines)


def test_cfg_job_shows_the_config_and_trains_nothing(door, tmp_path) -> None:
    ended = door("--cfg", "job", "beta=0.5", f"output_dir={tmp_path / 'out'}")
    assert (ended.code, ended.err) == (0, "")
    assert {"beta: 0.5", "latent: 10"} <= set(ended.out.splitlines())
    assert not (tmp_path / "out").exists()


def test_results_of_an_unknown_sweep_names_those_that_exist(tmp_path, capsys) -> None:
    ended = ended_command(capsys, "results", "nosuchsweep", "--output-dir", tmp_path)
    assert ended == (2, "", f"error: nosuchsweep: no such sweep or folder; {tmp_path} has no sweeps\n")
    for name in ("first", "second"):
        SweepFolder.under(tmp_path, name).add([], [])
    ended = ended_command(capsys, "results", "nosuchsweep", "--output-dir", tmp_path)
    assert ended == (2, "", f"error: nosuchsweep: no such sweep or folder; sweeps in {tmp_path}: first, second\n")


@pytest.mark.parametrize("option", ["csv", "parquet"])
def test_a_table_that_cannot_be_written_is_reported(tmp_path, capsys, option: str) -> None:
    SweepFolder.under(tmp_path, "first").add([], [])
    path = tmp_path / "none" / "table"
    ended = ended_command(capsys, "results", "first", "--output-dir", tmp_path, f"--{option}", path)
    line = f"--{option}={path}: cannot be written (No such file or directory); must be a file in a folder that exists"
    assert ended == (2, "", f"error: {line}\n")


# A subprocess also shows the true exit code, and everything that Hydra and Python write.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["beta=-1"], "beta=-1: must be a number >= 0"),
        pytest.param(["-m", "beta=0,-1,1"], "beta=-1: must be a number >= 0", marks=pytest.mark.slow),
        pytest.param(["-m", "arch=mlp,foo"], "arch=foo: must be one of conv, custom, mlp", marks=pytest.mark.slow),
        pytest.param(["device=tpu"], "device=tpu: not on this machine", marks=pytest.mark.slow),
        pytest.param(["-m", "beta=[1"], "beta=[1: cannot be parsed", marks=pytest.mark.slow),
    ],
)
def test_launch_py_prints_one_line_and_exits_with_2(tmp_path, arguments: list[str], expected: str) -> None:
    ended = launch(*arguments, f"output_dir={tmp_path / 'out'}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {expected}")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data=null"], "Config group override must be a string or a list"),
        (["-m", "beta=glob(*)"], "beta=glob(*): matches no value; must be a list of values"),
        (["-m", "device=cpu,tpu"], "device: must be one value; it applies to the whole sweep"),
        (["-m", "beta=0,1", "sweep=a,b"], "sweep: must be one value; it applies to the whole sweep"),
    ],
)
def test_invalid_grids_are_refused(refused, arguments: list[str], line: str) -> None:
    assert line in refused(*arguments)
