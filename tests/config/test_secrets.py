"""Values that shell lines assign are hidden wherever a line is shown."""

import pytest

from vae_sweeps.config.secrets import hide, hide_all, hide_in_override

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("module load cuda", "module load cuda"),
        (f"export WANDB_API_KEY={SECRET}", "export WANDB_API_KEY=***"),
        (f"A={SECRET} B='{SECRET} {SECRET}' run", "A=*** B=*** run"),
        (f'A="{SECRET} \\" {SECRET}"; C=$(cat {SECRET} b) d', "A=***; C=*** d"),
        (f"A=a\\ {SECRET} b", "A=*** b"),
        (f"A=a'{SECRET}'\"{SECRET}\"`{SECRET} x` b", "A=*** b"),
        (f"export A+={SECRET}", "export A+=***"),
        (f'A="not closed {SECRET}', "A=***"),
        (f"tool --token={SECRET}", "tool --token=***"),
    ],
)
def test_every_value_that_a_line_assigns_is_hidden(line: str, shown: str) -> None:
    assert hide(line) == shown
    assert hide_all({"setup": [line, 1], "conv": {"setup": [line]}}) == {
        "setup": [shown, 1],
        "conv": {"setup": [shown]},
    }


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("data.root=/images/size=64", "data.root=/images/size=64"),
        ("hydra.launcher.partition=gpu", "hydra.launcher.partition=gpu"),
        (f"hydra.launcher.setup=['export A=\\'a {SECRET}\\'']", "hydra.launcher.setup=***"),
        (f"++hydra.launcher.setup.0=export A={SECRET}", "++hydra.launcher.setup.0=***"),
        (f"+hydra.launcher.resources.conv={{setup:[{SECRET}]}}", "+hydra.launcher.resources.conv=***"),
        (f"+hydra.launcher.resources.conv.setup=[{SECRET}]", "+hydra.launcher.resources.conv.setup=***"),
        (f"+hydra.job.env_set.KEY={SECRET}", "+hydra.job.env_set.KEY=***"),
        (f"hydra.launcher.srun_args=[--export=A={SECRET}]", "hydra.launcher.srun_args=[--export=***"),
    ],
)
def test_shell_lines_are_left_out_of_overrides(override: str, shown: str) -> None:
    assert hide_in_override(override) == shown


@pytest.mark.parametrize(
    "argument",
    [
        f"hydra.launcher.setup=export K={SECRET}",
        f"hydra.launcher.setup=[export K={SECRET}",
        f"hydra.launcher.setpu=['export K={SECRET}']",
        f"hydra.launcher.setup=a,b {SECRET}",
        f"hydra.launcher.setup={{a:{SECRET}}}",
        f"hydra.launcher.mem_gb='export K={SECRET}'",
        f"~hydra.launcher.setup=[{SECRET}]",
        f"+hydra.job.env_set.K=[{SECRET}",
    ],
)
def test_error_lines_do_not_show_them(refused, argument: str) -> None:
    line = refused("-m", "hydra/launcher=slurm", argument, "beta=1")
    assert "hydra." in line
    assert SECRET not in line
