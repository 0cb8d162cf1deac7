"""Which files of a dataset's repository are a split: by their names, or as its card declares them."""

import pytest

from nanochat_core.hub.dataset_files import choose_files
from nanochat_core.hub.files import RemoteFile


def files(*paths):
    return [RemoteFile(path, 1) for path in paths]


def chosen(paths, configs=None, **more):
    return [file.path for file in choose_files("me/x", files(*paths), configs, **more)]


def test_splits_are_found_by_name_without_a_card():
    paths = ["data/train-1.parquet", "data/train-0.parquet", "data/test-0.parquet", "dev.jsonl", "README.md"]
    assert chosen(paths) == ["data/train-0.parquet", "data/train-1.parquet"]
    assert chosen(paths, split="test") == ["data/test-0.parquet"]
    assert chosen(["a.jsonl", "b.jsonl", "dataset_infos.json"]) == ["a.jsonl", "b.jsonl"]
    assert chosen(["en/train.jsonl", "fr/train.jsonl"], config="fr") == ["fr/train.jsonl"]
    with pytest.raises(ValueError, match=r"no split 'train'\. It has test, validation"):
        chosen(["test.jsonl", "val.jsonl"])


def test_splits_are_found_as_the_card_declares_them():
    paths = ["data/train_sft-0.parquet", "data/test_sft-0.parquet", "extra/deep/a.jsonl"]
    configs = [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train_sft", "path": "data/train_sft-*"},
                {"split": "test_sft", "path": ["data/test_sft-*"]},
            ],
        },
        {"config_name": "extra", "data_files": "extra/**/*.jsonl"},
    ]
    assert chosen(paths, configs, split="train_sft") == ["data/train_sft-0.parquet"]
    assert chosen(paths, configs, config="extra") == ["extra/deep/a.jsonl"]
    with pytest.raises(ValueError, match=r"no split 'train'\. It has train_sft, test_sft"):
        chosen(paths, configs)
    with pytest.raises(ValueError, match="no configuration 'other': choose one with --config, of default, extra"):
        chosen(paths, configs, config="other")
    with pytest.raises(ValueError, match="several configurations"):
        chosen(paths, [{"config_name": "a"}, {"config_name": "b"}])
    assert chosen(paths, [{"config_name": "a", "default": True, "data_files": ["extra/deep/*"]}, *configs[1:]])


@pytest.mark.parametrize("form", [{"train": "a.jsonl"}, {"train": ["a.jsonl"]}, ["a.jsonl"], "a.jsonl"])
def test_every_form_in_which_cards_name_files_is_read(form):
    assert chosen(["a.jsonl", "b.jsonl"], [{"config_name": "x", "data_files": form}]) == ["a.jsonl"]


@pytest.mark.parametrize("form", [7, [7], [["a.jsonl"], 7], {"train": 7}, [{"split": "train", "path": {"a": 1}}]])
def test_a_card_that_is_malformed_is_told_in_a_sentence(form):
    with pytest.raises(ValueError, match="card of the dataset me/x describes its files in a form that cannot be read"):
        chosen(["a.jsonl"], [{"config_name": "x", "data_files": form}])


@pytest.mark.parametrize("configs", ["text", 7, {"a": 1}, [7, "x"], []])
def test_a_card_without_configurations_is_as_none(configs):
    assert chosen(["a.jsonl"], configs) == ["a.jsonl"]
