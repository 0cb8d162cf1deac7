"""What is told of a model names no folder of this machine."""

from nanochat_core.system.words import without_paths


def test_facts_lose_paths_and_nothing_else(home):
    facts = {
        "data_path": str(home / "a.jsonl"),
        "data": {"path": "/x/y", "rows": 3},
        "model": "/opt/models/d32/",
        "windows": "C:\\Users\\me\\d32",
        "note": f"read {home}/x.txt",
        "base_model": "pretrained/d32",
        "ratio": [1, None, "1/2"],
    }
    assert without_paths(facts) == {
        "data": {"rows": 3},
        "model": "d32",
        "windows": "d32",
        "note": "read x.txt",
        "base_model": "pretrained/d32",
        "ratio": [1, None, "1/2"],
    }
