"""Conversations that the tests of the data files are made of."""

import io
import json
from typing import Any


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def conversation(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def line(*messages: Any) -> str:
    """The conversation as one line of JSON."""
    return json.dumps(conversation(*messages))


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    """The rows as a parquet file."""
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


GOOD = line(user("hi"), assistant("yo"))
