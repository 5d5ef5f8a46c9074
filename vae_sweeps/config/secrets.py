"""Hide the values that shell lines assign, such as API keys, wherever such a line is shown or stored."""

import re
from typing import Any

# NAME=value in a shell line. The value is made of quoted strings, commands and other characters, without a space; a
# quote that is not closed hides the rest of the line.
_ASSIGNMENT = re.compile(
    r"""(?P<name>(?<![A-Za-z0-9_])[A-Za-z_][A-Za-z0-9_]*\+?=)"""
    r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|`[^`]*`|\$\([^)]*\)|\\.|["'`][\s\S]*|[^\s;&|"'`\\])+""",
    re.DOTALL,
)

# Overrides whose values may hold secrets: shell lines and addresses, and environment variables of Hydra's jobs.
_WITH_LINES = re.compile(r"[+~]*(?:on_end|hydra\.(?:launcher\.(?:resources\.\w+\.)?setup|job\.env_set))\b")


def hide(line: str) -> str:
    """The shell line with *** in place of every value that it assigns: `export WANDB_API_KEY=***`."""
    return _ASSIGNMENT.sub(r"\g<name>***", line)


def hide_all(content: Any) -> Any:
    """A copy of a container, with `hide` applied to every string in it."""
    if isinstance(content, dict):
        return {name: hide_all(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [hide_all(value) for value in content]
    return hide(content) if isinstance(content, str) else content


def hide_in_override(override: str) -> str:
    """The override without shell lines, addresses and environment variables: `hydra.launcher.setup=***`."""
    key, equals, value = override.partition("=")
    if equals and _WITH_LINES.match(key):
        return f"{key}=***"
    if not equals or not key.lstrip("+~").startswith("hydra."):
        return override
    return f"{key}=***" if "setup" in value else f"{key}={hide(value)}"
