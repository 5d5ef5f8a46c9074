"""`hydra.sweeper.where`: a condition on the swept keys, such as `latent >= 10 or beta < 1`, that points must meet.

The condition has the grammar of a Python expression, of which only comparisons, arithmetic, `and`, `or`, `not` and `in`
are taken. It is never executed by Python.
"""

import ast
import operator
from collections.abc import Mapping
from typing import Any

from vae_sweeps.config.keys import did_you_mean

KEY = "hydra.sweeper.where"

_OPERATORS = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.In: lambda value, values: value in values, ast.NotIn: lambda value, values: value not in values,
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip
# As Hydra and YAML spell them.
_CONSTANTS = {"true": True, "false": False, "null": None}


class Condition:
    """A condition on the keys of a point. Raises ValueError if the text is not one."""

    def __init__(self, text: str) -> None:
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            raise ValueError(f"{KEY}={text}: must be a condition such as latent>=10 or beta<1") from None
        self.text = text

    def __str__(self) -> str:
        """The condition in one spelling, whatever its spaces and brackets."""
        return ast.unparse(self._tree)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for a point, whose keys have these values. Raises ValueError if it cannot be said."""
        try:
            return bool(self._value(self._tree, values))
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"{KEY}={self.text}: {error}") from None

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.Name() | ast.Attribute():
                return self._of_key(ast.unparse(node), values)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._value(item, values) for item in items]
            case ast.BoolOp(op=op, values=parts):
                combine = all if isinstance(op, ast.And) else any
                return combine(self._value(part, values) for part in parts)
            case ast.UnaryOp(op=op, operand=part) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self._value(part, values))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self._value(left, values), self._value(right, values))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _OPERATORS for op in ops):
                found = [self._value(part, values) for part in (left, *others)]
                return all(_OPERATORS[type(op)](found[i], found[i + 1]) for i, op in enumerate(ops))
        raise ValueError(f"{KEY}={self.text}: {ast.unparse(node)}: must be a comparison of keys and values")

    def _of_key(self, name: str, values: Mapping[str, Any]) -> Any:
        if name in values:
            return values[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        raise ValueError(
            f"{KEY}={self.text}: {name}: not a key of this command; {did_you_mean(name, list(values))}; "
            "a word needs quotes"
        )
