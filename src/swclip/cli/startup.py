"""What the process of a command leaves out at its start.

Most of the time of a short command would be imports of libraries, and much of that for parts that no command uses.
`lean_imports` leaves it out in the process of a command only: `import swclip` changes nothing of other libraries.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_MANY = 2_000  # objects that a module and its imports make
_DYNAMO, _MASKS = "torch._dynamo", "torch._dynamo._trace_wrapped_higher_order_op"


def _uncompiled(function: Any = None, *_options: Any, **_named: Any) -> Any:
    """The decorators of torch's compiler, for functions that no command compiles."""
    return _uncompiled if function is None else function


def _indexable() -> Any:
    return _execute(_MASKS).TransformGetItemToIndex()


class _Late(type):
    """A class or function of a deferred package, its `__module__`, which is executed when it is first used."""

    def __call__(cls, *values: Any, **named: Any) -> Any:
        return _late(cls)(*values, **named)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{cls.__name__!r} has no attribute {name!r}")
        return getattr(_late(cls), name)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _late(cls))


def _late(stand_in: type) -> Any:
    return getattr(_execute(stand_in.__module__), stand_in.__name__)


def _stand_ins(package: str, names: str) -> dict[str, Any]:
    return {name: _Late(name, (), {"__module__": package}) for name in names.split()}


_NAMESPACE = """LanceNamespace connect CreateNamespaceResponse DescribeNamespaceResponse DropNamespaceResponse
ListNamespacesResponse ListTablesResponse NamespaceExistsRequest TableExistsRequest"""

DEFERRED: dict[str, dict[str, Any]] = {
    "transformers": {},
    "transformers.models": {},
    "lance_namespace": _stand_ins("lance_namespace", _NAMESPACE),
    "lance_namespace_urllib3_client": {},
    "lance_namespace_urllib3_client.models": {},
    "numpy.f2py": {},
    "overrides": {"override": _uncompiled, "EnforceOverrides": type("EnforceOverrides", (), {})},
    "scipy.optimize": _stand_ins("scipy.optimize", "linear_sum_assignment"),
    "torch.export": {},
    _DYNAMO: dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable"), _uncompiled),
    _MASKS: {"TransformGetItemToIndex": _indexable},
}
"""Packages that are executed when a name of them is first used, not when they are imported; names that do without.

transformers' two read the source of all its models, and its losses import SciPy's optimization for one function.
Lance's are the client of a remote service; `overrides` compares the signatures of its methods, before Python 3.12.
NumPy's compiles Fortran; SciPy imports it by `from numpy import *`. torch's are its compiler, which transformers takes
for decorators and for one class, and the export of programs."""

_ALONE = {"transformers", "transformers.models", *(name for name in DEFERRED if name.startswith("lance_"))}
"""Deferred packages whose modules can be imported without them; any other is executed before its modules are."""

_executed = set[str]()
"""Deferred packages that were executed meanwhile."""


def lean_imports() -> None:
    """Have modules imported, from now on and in this process, without what no command uses."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        atexit.register(gc.freeze)  # else the last collections go through all objects of all modules


class _Finder(MetaPathFinder):
    """Finds modules where Python does, and has some of them executed in another way."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        kind = None if name in _executed else _KINDS.get(name)
        package = name.rpartition(".")[0]
        if package in DEFERRED and package not in _ALONE and not (kind and _deferred(package)):
            _execute(package)  # its modules import each other in an order that only the package knows
            kind = _Imported if name in sys.modules else None
        if kind is None and gc.isenabled():
            kind = _WithoutCollections  # and so are the modules that it imports
        spec = None if kind is None else PathFinder.find_spec(name, path, target)
        if kind is None or spec is None or spec.loader is None:
            return None
        spec.loader = kind(spec.loader)
        return spec


class _WithoutCollections(Loader):
    """Executes a module, and what it imports, without garbage collection.

    Nearly all that modules make stays, so that collections find nothing; they took a sixth of the time of imports.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # its code, source and resources

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            self.loader.exec_module(module)
        finally:
            if collects:
                if gc.get_count()[0] > _MANY:
                    gc.freeze()  # else the next collection goes through all of them
                gc.enable()


class _Deferred(_WithoutCollections):
    """Makes a `_Package`, and executes nothing."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(DEFERRED[module.__name__])


class _Imported(_WithoutCollections):
    """Returns a module that its package imported meanwhile."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Availability(_WithoutCollections):
    """transformers' checks for optional parts, of which no command uses these; and its second import of itself."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module)["direct_transformers_import"] = lambda *_: sys.modules["transformers"]
        absent = {"is_torch_flex_attn_available", "is_torch_distributed_available"} & set(vars(module))
        if "WORLD_SIZE" not in os.environ:  # not under torchrun
            vars(module).update(dict.fromkeys(absent, lambda: False))


class _Package(ModuleType):
    """A package that is executed when a name is used which is neither a module of it nor its version."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            if name == "__version__":
                return importlib.metadata.version(self.__name__)
            if self.__name__ in _ALONE and find_spec(f"{self.__name__}.{name}") is not None:
                return importlib.import_module(f"{self.__name__}.{name}")
        return getattr(_execute(self.__name__), name)


def _deferred(name: str) -> bool:
    return isinstance(sys.modules.get(name), _Package)


def _execute(name: str) -> ModuleType:
    """Execute a package, if it was deferred until now."""
    if name == _MASKS:
        _execute(_DYNAMO)
    package = sys.modules.get(name)
    if not isinstance(package, _Package):
        return importlib.import_module(name)
    _executed.add(name)
    for deferred in (name, *(other for other in (_MASKS,) if _deferred(other))):
        sys.modules.pop(deferred, None)
    module = importlib.import_module(name)  # where another thread imports it too, one of them waits
    for key, value in list(vars(package).items()):
        if key in DEFERRED[name]:
            vars(package).pop(key, None)
        elif isinstance(value, ModuleType):
            setattr(module, key, value)
    return module


_KINDS: dict[str, type[_WithoutCollections]] = {
    **dict.fromkeys(DEFERRED, _Deferred),
    "transformers.utils.import_utils": _Availability,
}
