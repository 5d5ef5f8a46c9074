"""Random commands and random edits of conf/: a point that is complete and has an id, or a mistake in one line."""

import math
import os
import re
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import _config, _config_loader
from tests.fuzz.profile import examples
from vae_sweeps.config.compose import CONF, compose_sweep, register_schemas
from vae_sweeps.config.errors import UserErrors, one_line
from vae_sweeps.config.identity import run_id, run_name
from vae_sweeps.config.keys import GROUP_SCHEMAS, TYPED_GROUPS, Command
from vae_sweeps.config.point import from_container, to_command, to_container
from vae_sweeps.config.schema import Point

KEYS = sorted(
    {f.name for f in fields(Command)}
    | {f"{group}.{f.name}" for group, schema in TYPED_GROUPS.items() for f in fields(schema)}
    | {f"{group}.{f.name}" for (group, _), schema in GROUP_SCHEMAS.items() if "/" not in group for f in fields(schema)}
)
ODD_VALUES = r"""
0 1 -1 2.5 1e400 -0.0 nan inf null true '' [] [1,2] [[1],2] [0] {} {a:1} {a:{b:[1]}} ??? 1_000 0x10 1e5 +1
${beta} ${a.b} ${oc.env:X} ${oc.env:HOME} abc auto none 'x "q" \ = : , [1 a=b ~ / .. a/b %j $HOME - -- * é 图
learned optimal conv mlp gaussian bernoulli mse elbo mnist cpu cuda:0 !!python/name:os.system
10000000000000000000000
"""
VALUES = st.one_of(
    st.sampled_from([*ODD_VALUES.split(), "", " ", "\ud800"]),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.text(max_size=8),
)
OVERRIDES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), st.sampled_from(KEYS), st.just("="), VALUES).map(
            "".join
        ),
        st.tuples(st.sampled_from(["~", "", "+"]), st.sampled_from(KEYS)).map("".join),
        st.text(max_size=12),
    ),
    min_size=1,
    max_size=3,
)


def check(point: Point) -> None:
    """The point is the same after a trip through dicts, has an id, and no number that nothing can be computed with."""
    content = to_container(point)
    assert from_container(content) == point
    assert re.fullmatch(r"[0-9a-f]{12}", run_id(point, "0" * 16))
    name = run_name(point, run_id(point, "0" * 16))
    assert "/" not in name
    assert len(name.encode()) < 256
    assert math.isfinite(point.beta)
    assert point.latent >= 1
    assert (point.steps is None) != (point.epochs is None)


def check_mistake(error: Exception) -> None:
    line = one_line(error)
    assert line.strip()
    assert len(line.splitlines()) == 1


@examples(25)
@given(OVERRIDES)
def test_a_random_command_is_a_point_or_a_mistake_in_one_line(overrides: list[str]) -> None:
    try:
        (cfg,) = compose_sweep(_config_loader(), _config(), [overrides])
        point, _ = to_command(cfg)
    except UserErrors as error:
        check_mistake(error)
    else:
        check(point)


FILES = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml") if not path.match("hydra/help/*"))
LINES = st.one_of(
    st.sampled_from(
        ["", "x: 1", "beta: [1", "defaults: null", "- a", "  b: 2", "\t", "{", "'", "beta: ${x}", "? ", "a: &a *a"]
    ),
    st.tuples(st.sampled_from([key.rpartition(".")[2] for key in KEYS]), st.just(": "), VALUES).map("".join),
    st.text(max_size=12),
)


@examples(5)
@given(st.sampled_from(FILES), st.integers(0, 40), LINES, st.booleans())
def test_a_random_edit_of_a_config_file_is_a_point_or_a_mistake_in_one_line(
    file: str, number: int, line: str, is_inserted: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="vae-sweeps-fuzz-") as place:
        conf = Path(place) / "conf"
        shutil.copytree(CONF, conf)
        lines = (conf / file).read_text().split("\n")
        lines[number : number + (not is_inserted)] = [line]
        (conf / file).write_bytes("\n".join(lines).encode(errors="surrogatepass"))
        group, _, choice = file.removesuffix(".yaml").rpartition("/")
        overrides = [f"{'+' if group == 'experiment' else ''}{group}={choice}"] if group else []
        register_schemas()
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(os.fspath(conf), version_base="1.3"):
                point, _ = to_command(compose("config", overrides))
        except UserErrors as error:
            check_mistake(error)
        else:
            check(point)
        finally:
            GlobalHydra.instance().clear()
