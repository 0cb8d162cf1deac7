"""The processes that hold models, for real: load, reply, stop, be killed, give memory back, end with their parent."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from nanochat_core.config import FinetuneConfig
from nanochat_core.engine.reply import Done, Text
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.rows.kept_folds import kept_folds
from nanochat_core.serve.messages import Fold
from studio.models.process import ModelProcess
from studio.models.processes import ModelProcesses
from tests.e2e.invented import invent_run
from tests.support.folded import write_twelve
from tests.support.tiny import install_tiny_model, write_conversations

pytestmark = pytest.mark.processes

HI = [{"role": "user", "content": "Hello, which word?"}]
LONG = {"max_tokens": 4000, "temperature": 0.0, "seed": 3}  # which goes round in circles, so that only a stop ends it


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One home and one loaded tiny model for the tests that leave it as it was."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_STUDIO_HOME", str(home))
        install_tiny_model(home, sequence_len=8192)
        install_tiny_model(home, tag="other", seed=5)
        process = ModelProcess()
        process.load("pretrained/tiny")
        yield process
        process.unload()


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_a_reply_is_the_engines_own(shared):
    from nanochat_core.checkpoint.loading import load_model
    from nanochat_core.engine.engine import Engine

    model, tokenizer, _ = load_model("pretrained/tiny")
    events = list(shared.generate(HI, max_tokens=20, temperature=0.9, top_k=40, seed=4))
    expected = Engine(model, tokenizer).reply(HI, max_tokens=20, temperature=0.9, top_k=40, seed=4)
    assert text_of(events) == expected
    assert isinstance(events[-1], Done)
    assert events[-1].tokens <= 20


def test_what_is_loaded_is_said(shared):
    loaded = shared.loaded
    assert (loaded.name, loaded.step, loaded.context, loaded.dtype) == ("pretrained/tiny", 7, 8192, "float32")
    assert loaded.parameters > 100_000
    assert shared.rss_bytes() > 50 << 20


def test_a_stop_reaches_the_model_itself(shared):
    stop = threading.Event()
    replies = shared.generate(HI, stop, **LONG)
    next(replies)
    stop.set()
    last = list(replies)[-1]
    assert last.reason == "stopped"
    assert last.tokens < 4000


def test_closing_a_reply_stops_the_model_too(shared, monkeypatch):
    class Kept(dict):
        """Forgets nobody, so that what the model said to a reply that was closed can be read."""

        def __delitem__(self, number):
            pass

    monkeypatch.setattr(shared, "_waiting", answers := Kept())
    replies = shared.generate(HI, **LONG)
    next(replies)
    replies.close()
    assert isinstance(list(shared.generate(HI, max_tokens=1))[-1], Done)  # answered once the other is over
    *_, last = answers[min(answers)].answers.queue
    assert last.reason == "stopped"
    assert last.tokens < 4000


def test_the_late_end_of_the_former_process_ends_no_request_to_the_next(shared, monkeypatch):
    noticed = threading.Event()

    class Late:
        """A process whose end is noticed late, as by a thread that had to wait for a processor."""

        stdout = ()

        def wait(self):
            noticed.wait(30)

    late = threading.Thread(target=shared._dispatch, args=(Late(),))
    late.start()
    replies = shared.generate(HI, **LONG)
    next(replies)
    noticed.set()
    late.join()
    assert isinstance(next(replies), Text)
    assert shared.loaded is not None
    replies.close()


def test_a_request_that_was_stopped_while_it_waited_is_not_begun(shared):
    first = shared.generate(HI, **LONG)
    next(first)
    stop = threading.Event()
    stop.set()
    waiting = shared.generate(HI, stop, **LONG)
    results = []
    thread = threading.Thread(target=lambda: results.extend(waiting))
    thread.start()
    time.sleep(0.3)
    first.close()
    thread.join(30)
    assert [event.reason for event in results] == ["stopped"]
    assert results[0].tokens == 0


@pytest.mark.parametrize(
    ("messages", "settings", "said"),
    [
        ([{"role": "user"}], {}, "must be an object with"),
        (HI, {"temperature": -1}, "temperature is -1"),
        (HI, {"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_a_mistake_is_a_sentence_and_the_model_stays(shared, messages, settings, said):
    with pytest.raises(ValueError, match=said):
        list(shared.generate(messages, **settings))
    assert isinstance(list(shared.generate(HI, max_tokens=2))[-1], Done)


def test_killed_in_mid_reply_it_is_one_sentence_and_the_next_load_works(home):
    install_tiny_model(home, sequence_len=8192)
    models = ModelProcesses()
    said = []
    models.load("pretrained/tiny", report=lambda fraction, text: said.append((fraction, text)))
    assert said[0] == (0.0, "Starting the model's process")
    assert any("model_000007.pt" in text for _, text in said)
    [process] = [place.process for place in models._places.values()]
    replies = models.generate("pretrained/tiny", 7, HI, **LONG)
    next(replies)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ValueError, match=r"ended from outside \(SIGKILL\).*load the model again"):
        list(replies)
    assert models.loaded() == []
    models.load("pretrained/tiny")
    assert isinstance(list(models.generate("pretrained/tiny", 7, HI, max_tokens=2))[-1], Done)
    pid = psutil.Process(models._places["pretrained/tiny", 7].process.pid)
    held = pid.memory_info().rss
    assert models.unload("pretrained/tiny", 7) == pytest.approx(held, rel=0.3)
    assert not pid.is_running()
    assert models.unload("pretrained/tiny", 7) == 0
    with pytest.raises(ValueError, match="No model is loaded"):
        list(models.generate("pretrained/tiny", 7, HI))


def test_a_model_that_is_not_there_or_damaged_is_a_sentence(home):
    models = ModelProcesses()
    with pytest.raises(ValueError, match="There is no model 'finetuned/nothing'"):
        models.load("finetuned/nothing")
    tag = install_tiny_model(home)
    [weights] = (home / "models" / "pretrained").rglob("model_*.pt")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        models.load(f"pretrained/{tag}")
    assert models.loaded() == []


def test_the_process_of_the_former_precision_ends(home):
    install_tiny_model(home)
    models = ModelProcesses()
    assert models.load("pretrained/tiny").dtype == "float32"
    former = models._places["pretrained/tiny", 7].process.pid
    assert models.load("pretrained/tiny", dtype="int8").dtype == "int8"
    assert not psutil.pid_exists(former)
    assert isinstance(list(models.generate("pretrained/tiny", 7, HI, max_tokens=2))[-1], Done)
    models.close()


def test_a_probe_measures_the_real_training_and_writes_nothing(home, tmp_path):
    install_tiny_model(home)
    data = write_conversations(tmp_path / "data.jsonl", 20)
    config = FinetuneConfig(data_path=str(data), model_tag="tiny", num_epochs=3, device_type="cpu", eval_every=2)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    said = []
    needs = ModelProcesses().probe(config, lambda fraction, text: said.append(fraction))
    assert (needs.examples_train, needs.examples_validation, needs.steps) == (18, 2, 6)
    assert needs.validations == 4  # before, after 2, 4 and the last
    assert needs.seconds_per_step > 0
    assert needs.peak_bytes > 50 << 20
    whole = 6 * needs.seconds_per_step + 4 * needs.seconds_per_validation
    assert needs.total_seconds == pytest.approx(whole)
    assert "18 to train on" in needs.notes[0]
    assert said == sorted(said)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


PARENT = """
import time
from studio.models.process import ModelProcess
process = ModelProcess()
process.load("pretrained/tiny")
print(process.pid, flush=True)
time.sleep(60)
"""


def test_the_process_ends_with_its_parent(home):
    install_tiny_model(home)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    worker.wait(20)
    assert not worker.is_running()


def test_the_app_s_side_knows_no_torch():
    code = "import sys, studio.models.processes; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)})


def test_models_are_asked_in_a_process_of_their_own_and_a_stop_keeps_the_answers(shared):
    from nanochat_core.evaluation.questions import Question, save_questions
    from nanochat_core.evaluation.results import all_replies
    from nanochat_core.paths import home

    path = home() / "data" / "mine_questions.jsonl"
    path.parent.mkdir()
    asked = [Question([{"role": "user", "content": f"Which word is number {n}?"}], ["word"]) for n in range(3)]
    save_questions(path, asked)
    models, told = [("pretrained/tiny", 7), ("pretrained/other", 7)], []
    wanted = {"questions": str(path), "max_tokens": 8}
    assert ModelProcesses().evaluate(models, wanted, lambda fraction, text: told.append(text))
    assert any("pretrained/other: question" in text for text in told)
    assert all(set(all_replies(*key)) == {question.key for question in asked} for key in models)

    more = [*asked, *(Question([{"role": "user", "content": f"Say {n}"}], ["x"]) for n in range(200))]
    save_questions(path, more)
    stop = threading.Event()
    assert not ModelProcesses().evaluate(models, wanted | {"max_tokens": 64}, lambda *_: stop.set(), stop)
    with pytest.raises(ValueError, match="no_such"):
        ModelProcesses().evaluate(models, {"questions": "no_such.jsonl"})


def test_rows_are_judged_in_a_process_of_their_own_and_a_stop_keeps_the_folds(home):
    data = write_twelve(home)
    run, told, stop = invent_run("mine", steps=20, data_path=str(data)), [], threading.Event()

    def report(fraction: float, text: str) -> None:
        told.append(text)
        if "Fold 2 of 2: step" in text:
            stop.set()

    asked = Fold("mine", str(data), 2)
    assert not ModelProcesses().fold(asked, report, stop)
    assert kept_folds(run).done == (0,)
    told.clear()
    assert ModelProcesses().fold(asked, report)
    assert kept_folds(run).is_whole
    assert not any("Fold 1" in text for text in told)
    with pytest.raises(ValueError, match="50 folds cannot be done with 12 rows"):
        ModelProcesses().fold(Fold("mine", str(data), 50))
