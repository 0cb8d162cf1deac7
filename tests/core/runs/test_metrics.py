"""A run's metrics and log are read tolerantly, and rewound for a resume."""

import json
import math

import numpy

from nanochat_core.runs.metrics import COLUMNS


def test_metrics_of_a_new_run_have_every_column(run):
    frame = run.metrics()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 0


def test_metrics_skip_torn_lines_and_keep_nan_as_missing(run):
    run.append_metrics({"step": 1, "train_loss": 2.5, "extra": "x"})
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 2, "train_l')  # killed in the middle of a line
    run.append_metrics({"step": 2, "train_loss": math.nan, "val_loss": math.inf})
    run.append_metrics({"step": 3, "train_loss": 1.5})
    with open(run.metrics_file, "ab") as file:
        file.write(b'[1]\n5\n\xff\xfe\n{"no": 1}\n{"step": 4, "tr')
    frame = run.metrics()
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["train_loss"].fillna(-1).tolist() == [2.5, -1, 1.5]
    assert frame["val_loss"].isna().all()
    assert frame.columns[-1] == "extra"
    assert "NaN" not in run.metrics_file.read_text(errors="replace")


def test_metrics_take_scalars_of_arrays(run):
    run.append_metrics({"step": 1, "train_loss": numpy.float32(0.5), "tokens": numpy.int64(7)})
    assert json.loads(run.metrics_file.read_text()) == {"step": 1, "train_loss": 0.5, "tokens": 7}


def test_rewind_drops_what_a_resumed_run_writes_again(run):
    for step in range(1, 6):
        run.append_metrics({"step": step, "train_loss": float(step)})
    with open(run.metrics_file, "ab") as file:
        file.write(b'{"step": 6, "tr')
    run.rewind_metrics(3)
    run.append_metrics({"step": 4, "train_loss": 40.0})
    assert run.metrics()["train_loss"].tolist() == [1.0, 2.0, 3.0, 40.0]


def test_log_tail(run):
    assert run.log_tail(3) == ""
    run.log_file.write_bytes(b"one\ntwo\r\n10%\r50%\r100%\nlast \xff\n")
    assert run.log_tail(3) == "two\n100%\nlast \ufffd"
    run.log_file.write_bytes(b"x" * 5000 + b"\nend\n")
    assert run.log_tail(2) == "end"
