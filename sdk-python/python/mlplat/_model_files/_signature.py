"""What goes into a model and comes out of it."""

from __future__ import annotations

from typing import Any

from .._errors import MisuseError, WrongTypeError

_MAX_COLUMNS = 10_000
_MAX_ARRAYS = 100


class ModelSignature:
    """Columns or arrays that a model takes and gives, as `infer_signature` finds them.

    `inputs` and `outputs` are dicts: `{"kind": "table", "columns": [{"name": …, "type": …, "nullable": …}]}`,
    `{"kind": "tensor", "type": "float32", "shape": [-1, 3]}` (-1: the number of rows varies),
    `{"kind": "tensors", "tensors": {name: …}}`, or `{"kind": "text"}` and its like.
    """

    __slots__ = ("inputs", "outputs")

    inputs: dict[str, Any] | None
    """What goes in; None where that is not known."""
    outputs: dict[str, Any] | None
    """What comes out; None where that is not known."""

    def __init__(self, inputs: dict[str, Any] | None = None, outputs: dict[str, Any] | None = None) -> None:
        for what, value in (("inputs", inputs), ("outputs", outputs)):
            if value is not None and (not isinstance(value, dict) or "kind" not in value):
                raise WrongTypeError(f"the {what} of a signature are {value!r}; use mlplat.infer_signature")
        self.inputs = inputs
        self.outputs = outputs

    @property
    def columns(self) -> list[str]:
        """Names of the columns that go in; empty where these are arrays."""
        held = self.inputs or {}
        return [column["name"] for column in held.get("columns", [])]

    def to_dict(self) -> dict[str, Any]:
        """As in the manifest."""
        return {"inputs": self.inputs, "outputs": self.outputs}

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> ModelSignature:
        """The other way round."""
        return cls(held.get("inputs"), held.get("outputs"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelSignature) and self.to_dict() == other.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"ModelSignature(inputs={_short(self.inputs)}, outputs={_short(self.outputs)})"


def infer_signature(model_input: object, model_output: object = None) -> ModelSignature:
    """The signature of a model that takes and gives data like this: tables, arrays, dicts of arrays, texts, numbers."""
    return ModelSignature(described(model_input), described(model_output))


def described(value: Any) -> dict[str, Any] | None:
    """Kind, types and shape of some data."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        return {"kind": "text" if isinstance(value, str) else "bytes"}
    if isinstance(value, (bool, int, float)):
        return {"kind": type(value).__name__}
    if isinstance(value, dict) or (
        hasattr(value, "keys") and hasattr(value, "data") and not hasattr(value, "dtype")
    ):
        return _of_mapping(dict(value.items()))
    if hasattr(value, "dtypes") and hasattr(value, "columns"):
        return _of_frame(value)
    if hasattr(value, "schema") and hasattr(value, "__arrow_c_stream__"):
        schema = value.schema
        pairs = schema.items() if hasattr(schema, "items") else [(field.name, field.type) for field in schema]
        return _table([{"name": str(n), "type": str(t).lower(), "nullable": True} for n, t in pairs])
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        name = getattr(value, "name", None)
        found = _tensor(value)
        return {**found, "name": name} if isinstance(name, str) else found
    if is_several_arrays(value):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "values": [described(item) for item in value[:_MAX_ARRAYS]]}
    if isinstance(value, (list, tuple)):
        return _of_list(list(value))
    return {"kind": "object", "class": f"{type(value).__module__}.{type(value).__qualname__}"}


def is_several_arrays(value: Any) -> bool:
    """Whether a tuple, or a list of PyTorch, is of arrays that are each their own, and no rows of one."""

    def is_array(item: Any) -> bool:
        return hasattr(item, "dtype") and len(getattr(item, "shape", ())) > 0

    if not isinstance(value, (list, tuple)) or not value or not all(map(is_array, value)):
        return False
    return isinstance(value, tuple) or all(hasattr(item, "detach") for item in value)


def _tensor(value: Any) -> dict[str, Any]:
    shape = [int(size) for size in value.shape]
    # The first size is the number of rows, which varies.
    return {"kind": "tensor", "type": _type(value.dtype), "shape": [-1, *shape[1:]] if shape else []}


def _of_frame(frame: Any) -> dict[str, Any]:
    columns = [str(name) for name in frame.columns]
    kinds = list(frame.dtypes)
    found: list[dict[str, Any]] = []
    for at, (name, kind) in enumerate(zip(columns, kinds, strict=True)):
        nulls = True
        if hasattr(frame, "iloc"):
            column = frame.iloc[:, at]
            nulls = bool(column.isna().any())
            kind = _type(kind) if str(kind) != "object" else _of_objects(column.dropna().head(100))
        found.append(
            {"name": name, "type": kind if isinstance(kind, str) else _type(kind), "nullable": nulls}
        )
    return _table(found)


def _of_objects(column: Any) -> str:
    kinds = {type(value).__name__ for value in column}
    return "string" if kinds == {"str"} else kinds.pop() if len(kinds) == 1 else "object"


def _of_mapping(value: dict[Any, Any]) -> dict[str, Any]:
    described_values = {str(key): described(item) for key, item in value.items()}
    kinds = {None if item is None else item["kind"] for item in described_values.values()}
    if kinds == {"tensor"}:
        return {"kind": "tensors", "tensors": described_values}
    return {"kind": "dict", "values": described_values}


def _of_list(values: list[Any]) -> dict[str, Any]:
    if values and all(isinstance(value, dict) for value in values[:100]):
        names = list(dict.fromkeys(str(name) for value in values[:100] for name in value))
        columns = []
        for name in names:
            kinds = {type(value[name]).__name__ for value in values[:100] if value.get(name) is not None}
            full = all(value.get(name) is not None for value in values[:100])
            kind = kinds.pop() if len(kinds) == 1 else "object"
            columns.append({"name": name, "type": "string" if kind == "str" else kind, "nullable": not full})
        return _table(columns)
    if values and all(isinstance(value, str) for value in values[:100]):
        return {"kind": "list", "items": {"kind": "text"}}
    try:
        import numpy

        array = numpy.asarray(values)
    except (ImportError, ValueError):
        return {"kind": "list"}
    return _tensor(array) if array.dtype.kind in "biuf" else {"kind": "list"}


def _table(columns: list[dict[str, Any]]) -> dict[str, Any]:
    if len(columns) > _MAX_COLUMNS:
        raise MisuseError(f"a signature of {len(columns)} columns; the limit is {_MAX_COLUMNS}")
    return {"kind": "table", "columns": columns}


def _type(dtype: object) -> str:
    name = str(dtype).removeprefix("torch.").lower()
    return "string" if name in ("str", "object", "utf8") or name.startswith(("<u", "string")) else name


def _short(held: dict[str, Any] | None) -> str:
    if held is None:
        return "None"
    if held["kind"] == "table":
        names = [f"{column['name']}: {column['type']}" for column in held["columns"]]
        return "[" + ", ".join(names[:8]) + (", …]" if len(names) > 8 else "]")
    if held["kind"] == "tensor":
        return f"{held['type']}{tuple(held['shape']) if 'shape' in held else ''}"
    if held["kind"] == "tensors":
        shown = [f"{name}: {_short(value)}" for name, value in held["tensors"].items()]
        return "{" + ", ".join(shown[:8]) + (", …}" if len(shown) > 8 else "}")
    return held["kind"]
