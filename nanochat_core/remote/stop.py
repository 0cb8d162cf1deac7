"""Inside a job: who asks for "save and stop" from outside is heard also while a large checkpoint is being sent."""

import threading
import time

from huggingface_hub.errors import HTTPError

from nanochat_core.remote.repository import RemoteRepo, stop_path
from nanochat_core.runs.run import Run

ASK_SECONDS = 10.0
"""Between two looks for a request."""

_LOOK_SECONDS = 0.2


class StopRequests(threading.Thread):
    """Passes on to the run a request in the repository, or that the job's time limit is near. Ends with the first."""

    def __init__(self, run: Run, repo: RemoteRepo, attempt: int, deadline: float, ask_seconds: float):
        """deadline: by `time.monotonic`, when the run must begin to save."""
        super().__init__(name="stop-requests", daemon=True)
        self.run_, self.repo, self.attempt = run, repo, attempt
        self.deadline, self.ask_seconds = deadline, ask_seconds
        self.is_late = False
        """The run was asked to stop because of the deadline."""

    def run(self) -> None:
        """Ask until the run is to stop."""
        asked = time.monotonic()
        while not self.run_.stop_requested():
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            self.is_late = now > self.deadline
            if now - asked > self.ask_seconds:
                asked = now
                if self._is_wanted():
                    self.run_.request_stop()
            if self.is_late:
                self.run_.request_stop()

    def _is_wanted(self) -> bool:
        path = stop_path(self.attempt)
        try:
            return any(file.path == path for file in self.repo.list(path.rpartition("/")[0]))
        except (HTTPError, OSError) as error:
            print(f"The hub did not say whether to stop ({type(error).__name__}: {error}).", flush=True)
            return False
