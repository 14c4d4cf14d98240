"""On the PYTHONPATH of the trainer's processes: one correction to accelerate 1.11.0, applied when it is imported.

Resuming in the middle of an epoch, the Trainer calls `skip_first_batches`, which builds a new loader that counts its
iterations from 0 and, when iterated, sets its sampler back to epoch 0. From the second epoch on the rest of the resumed
epoch then has the first epoch's order: some rows are trained on twice, others not at all. The new loader must count
on from where the old one was. Seen by comparing a resumed run with an unbroken one (tests/chain); without a resume
nothing changes. Imports nothing of this project: the trainer's environment does not have it.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

TARGET = "accelerate.data_loader"


def keep_epoch(module: ModuleType) -> None:
    """Replace ``skip_first_batches`` by one whose loader keeps the iteration count."""
    original = module.skip_first_batches

    def skip_first_batches(dataloader, num_batches=0):  # type: ignore[no-untyped-def]
        resumed = original(dataloader, num_batches)
        if hasattr(resumed, "iteration"):
            resumed.iteration = getattr(dataloader, "iteration", 0)
        return resumed

    module.skip_first_batches = skip_first_batches  # type: ignore[attr-defined]


class _Loader(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader) -> None:
        self.inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.inner.exec_module(module)
        keep_epoch(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
