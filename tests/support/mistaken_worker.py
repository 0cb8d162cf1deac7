"""The real worker of a run, which finds a person's mistake before the training has begun."""

from nanochat_core.training import worker


def mistaken(run):
    print("Begun.", flush=True)
    raise ValueError("There are 8 processes and 4 devices.")


worker.train_run = mistaken

if __name__ == "__main__":
    worker.main()
