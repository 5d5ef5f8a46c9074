"""The command line: output of `results`, help texts, and one-line errors."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

import vae_sweeps
from tests.conftest import ROOT, Ended, ended_command, make_options, make_point
from tests.helpers.written_sweep import ELBO, FULL, done
from vae_sweeps.analysis import columns, seeds
from vae_sweeps.cli import app
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

COMMANDS: dict[str, Any] = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two betas and three seeds, one of them failed."""
    output_dir = tmp_path_factory.mktemp("out")
    names = []
    for beta in (0, 1):
        for seed in (0, 1, 2):
            names.append(f"mnist5k-mlp-bernoulli-beta{beta}-seed{seed}-00000000000{seed}")
            run = RunFolder.under(output_dir, names[-1])
            run.create(make_point("data=mnist5k", f"beta={beta}", f"seed={seed}"), make_options(), [])
            if (beta, seed) == (1, 2):
                run.write_failure("ValueError: this is why\n")
            else:
                run.write_result(done(ELBO | FULL | {"test/elbo": -100.0 - 10 * beta - seed}))
    SweepFolder.under(output_dir, "grid").add(names, ["beta", "seed"])
    return output_dir


Results = Callable[..., Ended]


@pytest.fixture
def results(output_dir: Path, capsys: pytest.CaptureFixture[str]) -> Results:
    """`vae-sweeps results grid ...` into a pipe."""
    return lambda *arguments: ended_command(capsys, "results", "grid", "--output-dir", output_dir, *arguments)


@pytest.fixture
def table(output_dir: Path) -> pd.DataFrame:
    return vae_sweeps.results("grid", output_dir)


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), sep=r"\s+")


def test_a_pipe_gets_the_whole_table(results: Results, table: pd.DataFrame) -> None:
    ended = results()
    assert (ended.code, ended.err) == (0, "")
    found = read(ended.out)
    assert list(found) == list(table)
    assert list(found["test/elbo"][:5]) == [-100, -101, -102, -110, -111]
    assert list(found["status"]) == ["done"] * 5 + ["failed"]


def test_over_seeds_on_the_screen_and_in_files(results: Results, table: pd.DataFrame, tmp_path: Path) -> None:
    expected = seeds.over(table)
    found = read(results("--over", "seed").out)
    assert list(found) == list(expected)
    assert found[["beta", "n", "num_missing", "test/elbo"]].to_numpy().tolist() == [[0, 3, 0, -101], [1, 2, 1, -110.5]]
    assert list(found["test/elbo/se"]) == pytest.approx([3**-0.5, 0.5], rel=1e-5)
    csv, parquet = tmp_path / "table.csv", tmp_path / "table.parquet"
    ended = results("--over", "seed", "--csv", csv, "--parquet", parquet)
    assert ended.out == f"2 rows written to {csv}\n2 rows written to {parquet}\n"
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), expected)
    numbers = ["n", "num_missing", "test/elbo", "test/elbo/se"]
    assert pd.read_csv(csv)[numbers].to_numpy().tolist() == expected[numbers].to_numpy().tolist()


def test_over_several_keys(results: Results) -> None:
    found = read(results("--over", "seed,beta", "--columns", "n,num_missing,test/elbo").out)
    assert found.columns.to_list() == ["n", "num_missing", "test/elbo", "test/elbo/se"]
    assert found.iloc[0, :3].to_list() == [5, 1, pytest.approx((-303 - 221) / 5)]


def test_rows_are_sorted_and_columns_chosen_also_in_files(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    results("--sort", "-test/elbo", "--columns", "seed,beta,test/elbo", "--csv", path)
    assert pd.read_csv(path).fillna(0).to_numpy().tolist() == [
        [0, 0, -100], [1, 0, -101], [2, 0, -102], [0, 1, -110], [1, 1, -111], [2, 1, 0]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--columns", "beta,elbo"], "elbo: no such column; did you mean test/elbo or train/elbo or val/elbo? known: "),
        (["--sort", "-laten"], "laten: no such column; did you mean latent? known: "),
        (["--over", "sed"], "sed: must be a column of the config to average over; did you mean seed? known: "),
        (["--over", "seed", "--columns", "run"], "run: no such column; "),
        (["--over"], "Option '--over' requires an argument."),
        (["--ovr", "seed"], "No such option: --ovr"),
        (["more", "words"], "Got unexpected extra arguments (more words)"),
    ],
)
def test_a_mistake_is_one_line(results: Results, arguments: list[str], line: str) -> None:
    ended = results(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.replace("argument(s)", "arguments").startswith(f"error: {line}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["reslts"], ["wait"], ["sync", "grid", "--timeout-s", "soon"], ["--nothing"]])
def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    ended = ended_command(capsys, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"error: .+\n", ended.err)


def on_a_terminal(width: int, *arguments: object) -> list[str]:
    """The lines that `vae-sweeps ...` writes to a real terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm"}
    command = [sys.executable, "-c", "from vae_sweeps.cli.app import main; main()", *map(str, arguments)]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        written = b""
        while True:
            try:
                written += (block := os.read(leader, 4096))
            except OSError:  # how Linux says that the other side has closed it
                break
            if not block:
                break
    os.close(leader)
    assert process.returncode == 0, written.decode()
    return written.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_a_table_that_fits(output_dir: Path, table: pd.DataFrame, width: int) -> None:
    lines = on_a_terminal(width, "results", "grid", "--output-dir", output_dir)
    assert any("\x1b[31mfailed" in line for line in lines)
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    assert width - 25 < max(map(len, plain)) <= width
    assert plain[0].startswith("6 points: 5 done, 1 failed; data=mnist5k arch=mlp likelihood=bernoulli")
    ((number, names),) = re.findall(r"^(\d+) more columns \(.*\): (.*)$", "\n".join(plain), re.MULTILINE)
    assert 0 < int(number) < len(columns.shown(table))
    assert names


def test_help_groups_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    ended = ended_command(capsys)
    assert (ended.code, ended.err) == (0, "")
    panels = ["Results", "Running sweeps", "Keeping house", "Tracking"]
    places = [ended.out.index(panel) for panel in panels]
    assert places == sorted(places)
    for name, command in COMMANDS.items():
        assert re.search(rf"^│ {name} +[A-Z]", ended.out, re.MULTILINE), name
        assert command.rich_help_panel in panels


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ended_command(capsys, "--version") == (0, f"vae-sweeps {project['version']}\n", "")


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"launch"}))  # the arguments of launch are Hydra's
def test_help_of_each_command_says_what_all_arguments_are_and_gives_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    first, *rest = command.help.splitlines()
    assert re.fullmatch(r"[A-Z][a-z]+ .{10,60}\.", first)  # one line beside its name, 80 wide
    assert not rest or rest[0] == ""
    assert all(parameter.help.endswith((".", "...", ")")) for parameter in command.params), name
    _, *examples = re.sub(r"\[/?\w+\]", "", command.epilog).splitlines()
    assert examples
    for example in examples:
        words = shlex.split(example.split("&&")[0].split("|")[0].split(">")[0])
        assert words[:3] == ["$", "vae-sweeps", name]
        command.make_context(name, words[3:])  # raises where the example is not accepted
    ended = ended_command(capsys, name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert all(example in ended.out for example in examples)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path) -> None:
    """As in `vae-sweeps status | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).parent / "vae-sweeps"), "status", "--output-dir", str(tmp_path)]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(("word", "expected"), [("w", "wide"), ("", "narrow\nwide"), ("x", "")])
def test_the_shell_completes_the_names_of_sweeps(tmp_path: Path, word: str, expected: str) -> None:
    """As bash asks for them, when `vae-sweeps --install-completion` has been called."""
    for name in ("narrow", "wide"):
        SweepFolder.under(tmp_path / "outputs", name).add(["run"], ["beta"])
    words = f"vae-sweeps status {word}"
    asked = {"_VAE_SWEEPS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
    command = [str(Path(sys.executable).parent / "vae-sweeps")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | asked, capture_output=True, text=True)
    assert done.stdout.strip() == expected
