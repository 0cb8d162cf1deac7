"""Which models are held, and how two of them, or two who want them in different precisions, share the places."""

import pytest

from nanochat_core.checkpoint import fastest
from nanochat_core.engine.reply import Done, Text
from nanochat_core.serve.messages import Loaded
from studio.models import processes
from studio.models.processes import AS_IT_IS, FASTEST, ModelProcesses

HI = [{"role": "user", "content": "Hello, which word?"}]


class FakeProcess:
    """Loads in no time; counts."""

    ended = 0

    def __init__(self):
        self.loaded, self.is_alive = None, True

    def load(self, name, step, dtype=None, report=None, stays=False):
        self.stayed = stays
        dtype, self.dtypes = dtype or "float32", [*getattr(self, "dtypes", []), dtype]
        found = "int4" if dtype == FASTEST else None
        self.loaded = Loaded(name, step, 1, "cpu", found or dtype, "float32", 512, 0.0, 0, found)
        return self.loaded

    def generate(self, messages, stop, **settings):
        if self.loaded is None:
            raise ValueError("No model is loaded here.")
        yield Text("a")
        yield Done("stop", 1, 0, 0.5)

    def unload(self):
        FakeProcess.ended += 1
        self.loaded = None
        return 5


@pytest.fixture
def three_models(home, monkeypatch):
    for tag in ("one", "two", "three"):
        folder = home / "models" / "pretrained" / "chatsft_checkpoints" / tag
        folder.mkdir(parents=True)
        (folder / "model_000007.pt").write_bytes(b"x")
        (folder / "meta_000007.json").write_bytes(b"{}")
    monkeypatch.setattr("studio.models.processes.ModelProcess", FakeProcess)
    FakeProcess.ended = 0
    return ModelProcesses()


@pytest.fixture
def adapters(home, three_models):
    """Adapters named a and b, of the model one."""
    for tag in ("a", "b"):
        folder = home / "models" / "finetuned" / tag
        (folder / "adapter_000005").mkdir(parents=True)
        (folder / "adapter_000005" / "adapter_model.safetensors").write_bytes(tag.encode())
        (folder / "meta_000005.json").write_text('{"adapter": {"base": "pretrained/one", "step": 7, "source": "sft"}}')
    return three_models


def test_the_next_adapter_of_a_base_takes_over_its_process(adapters):
    first = adapters.load("finetuned/a")
    process = next(iter(adapters._places.values())).process
    second = adapters.load("finetuned/b")
    [place] = adapters._places.values()
    assert place.process is process
    assert (first.name, second.name, process.stayed) == ("finetuned/a", "finetuned/b", True)
    assert [loaded.name for loaded in adapters.loaded()] == ["finetuned/b"]
    with pytest.raises(ValueError, match="No model is loaded"):
        list(adapters.generate("finetuned/a", 5, HI))
    assert FakeProcess.ended == 0


def test_the_fastest_dtype_is_asked_for_once(three_models):
    assert FASTEST == fastest.AUTO
    assert [three_models.load("pretrained/one", dtype=FASTEST).dtype for _ in range(2)] == ["int4", "int4"]
    [place] = three_models._places.values()
    assert place.process.dtypes == [FASTEST]
    assert three_models.load("pretrained/one").dtype == "float32"


def test_an_adapter_at_work_keeps_its_process(adapters):
    with adapters.held("finetuned/a"):
        adapters.load("finetuned/b")
        assert {loaded.name for loaded in adapters.loaded()} == {"finetuned/a", "finetuned/b"}


def test_a_model_without_an_adapter_takes_over_none(adapters):
    adapters.load("finetuned/a")
    adapters.load("pretrained/two")
    assert len(adapters._places) == 2
    assert not any(place.process.stayed for place in adapters._places.values())


def keys(models) -> set[str]:
    return {name.removeprefix("pretrained/") for name, _ in (loaded.key for loaded in models.loaded())}


def test_a_third_model_takes_the_place_of_the_one_used_longest_ago(three_models):
    three_models.load("pretrained/one")
    three_models.load("pretrained/two")
    list(three_models.generate("pretrained/one", 7, HI))
    three_models.load("pretrained/three")
    assert keys(three_models) == {"one", "three"}
    assert FakeProcess.ended == 1


def test_a_model_at_work_is_not_taken_away(three_models):
    three_models.load("pretrained/one")
    three_models.load("pretrained/two")
    replies = [three_models.generate(f"pretrained/{tag}", 7, HI) for tag in ("one", "two")]
    for reply in replies:
        next(reply)
    with pytest.raises(ValueError, match="2 other models are at work"):
        three_models.load("pretrained/three")
    replies[0].close()
    three_models.load("pretrained/three")
    assert keys(three_models) == {"two", "three"}


def test_a_checkpoint_that_has_changed_is_loaded_again(three_models, home):
    three_models.load("pretrained/one")
    former = three_models.load("pretrained/one")
    assert former.key == ("pretrained/one", 7)
    assert three_models.load("pretrained/one") is former
    [weights] = home.rglob("one/model_*.pt")
    with three_models.held("pretrained/one"):
        weights.write_bytes(b"other")
        with pytest.raises(
            ValueError, match=r"has changed, and the model from the earlier file is still writing.* Wait"
        ):
            three_models.load("pretrained/one")
    assert three_models.load("pretrained/one") is not former


def test_another_precision_loads_it_again_but_not_under_a_reply(three_models):
    three_models.load("pretrained/one")
    process = three_models._places["pretrained/one", 7].process
    for dtype in ("int8", "int8", None):
        three_models.load("pretrained/one", dtype=dtype)
    assert process.dtypes == [None, "int8", None]
    reply = three_models.generate("pretrained/one", 7, HI)
    next(reply)
    three_models.load("pretrained/one")
    with pytest.raises(ValueError, match=r"writing another reply in another precision\. Wait .* or choose"):
        three_models.load("pretrained/one", dtype="int8")
    reply.close()
    three_models.load("pretrained/one", dtype="int8")
    assert process.dtypes == [None, "int8", None, "int8"]


def test_nobody_puts_another_precision_between_a_load_and_its_reply(three_models):
    with three_models.held("pretrained/one", dtype="int8") as loaded:
        assert loaded.dtype == "int8"
        with pytest.raises(ValueError, match="in another precision"):
            three_models.load("pretrained/one")
        reply = three_models.generate("pretrained/one", 7, HI)
        next(reply)
    with pytest.raises(ValueError, match="in another precision"):
        three_models.load("pretrained/one")
    reply.close()
    assert three_models.load("pretrained/one").dtype == "float32"


def test_what_was_unloaded_while_it_was_loaded_is_not_left_in_memory(three_models):
    class Unloaded(FakeProcess):
        def load(self, *arguments, **options):
            three_models._places.clear()  # as unload does, by another browser
            return super().load(*arguments, **options)

    place = three_models._places["pretrained/one", 7] = processes._Place()
    place.process = Unloaded()
    with pytest.raises(ValueError, match=r"was unloaded\. Load it again"):
        three_models.load("pretrained/one")
    assert place.process.loaded is None
    assert three_models.loaded() == []


def test_the_same_precision_by_another_name_is_shared(three_models):
    first = three_models.load("pretrained/one")
    with three_models.held("pretrained/one", dtype="float32") as loaded:
        assert loaded is first
    three_models.load("pretrained/two", dtype="float32")
    with three_models.held("pretrained/two"):
        assert three_models.load("pretrained/two", dtype="float32").dtype == "float32"
    assert three_models._places["pretrained/two", 7].process.dtypes == ["float32"]


def test_who_takes_the_model_as_it_is_changes_no_precision_and_is_never_refused(three_models):
    assert three_models.load("pretrained/one", dtype=AS_IT_IS).dtype == "float32"
    with three_models.held("pretrained/two", dtype="int8") as loaded:
        assert three_models.load("pretrained/two", dtype=AS_IT_IS) is loaded


def test_a_model_that_is_loaded_ahead_gives_way_to_one_that_is_asked(three_models):
    assert three_models.warm("pretrained/one")
    assert three_models.warm("pretrained/two")
    assert keys(three_models) == {"one", "two"}
    three_models.load("pretrained/three")
    assert keys(three_models) == {"two", "three"}


def test_loading_ahead_takes_no_place_from_models_at_work(three_models):
    for tag in ("one", "two"):
        three_models.load(f"pretrained/{tag}")
    replies = [three_models.generate(f"pretrained/{tag}", 7, HI) for tag in ("one", "two")]
    for reply in replies:
        next(reply)
    assert not three_models.warm("pretrained/three")
    assert keys(three_models) == {"one", "two"}


def test_the_place_of_a_model_that_is_only_being_loaded_ahead_is_taken(three_models, monkeypatch):
    monkeypatch.setattr(FakeProcess, "load", in_the_middle(lambda: taken.append(three_models.load("pretrained/two"))))
    taken = []
    monkeypatch.setattr("studio.models.processes.MOST", 1)
    assert not three_models.warm("pretrained/one")
    assert [loaded.name for loaded in taken] == ["pretrained/two"]
    assert keys(three_models) == {"two"}
    assert FakeProcess.ended >= 1  # the process of the one that gave way is gone


def in_the_middle(act):
    """FakeProcess.load, that calls `act` the first time before it has loaded."""
    load, calls = FakeProcess.load, []

    def loading(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            act()
        return load(self, *arguments, **options)

    return loading


def test_what_cannot_be_loaded_ahead_is_said(three_models, monkeypatch):
    def fail(self, *arguments, **options):
        raise ValueError("The checkpoint is damaged.")

    monkeypatch.setattr(FakeProcess, "load", fail)
    with pytest.raises(ValueError, match="damaged"):
        three_models.warm("pretrained/one")
    assert three_models._places == {}
