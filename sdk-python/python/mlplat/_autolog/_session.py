"""One training that is being logged: which run it goes to, and what keeps nested trainings quiet.

Invariant: nothing here raises into training code but the training's own exceptions. A session is open in the context
(thread or task) that trains; whatever trains inside it is part of it and begins none. Other processes log nothing.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from traceback import walk_tb

from .._keys import metric_key
from . import _random
from ._random import untouched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextvars import Token
    from typing import Any

    from .. import ActiveRun
    from . import Options

_current: ContextVar[Guard | None] = ContextVar("mlplat_autolog", default=None)
_process = os.getpid()
_warned: set[tuple[str, str]] = set()
# Runs that sessions have started and not ended: no other thread takes them for the user's.
_owned: set[str] = set()
_finding = threading.Lock()
# Run -> kind of model -> what is known of its trainings.
_trainings: dict[str, dict[str, Trainings]] = {}

_MAX_TEXT = 2000
_MAX_INPUTS = 100
_SENDING_SECONDS = 2.0
_MAX_RUNS_KNOWN = 1000


def warn_once(integration: str, what: str, error: BaseException) -> None:
    """Says on stderr, once per kind of failure, that something was not logged."""
    if (integration, what) in _warned:
        return
    _warned.add((integration, what))
    print(
        f"mlplat: autologging of {integration}: {what}: {type(error).__name__}: {_first_line(error)}; "
        "the training is not affected",
        file=sys.stderr,
    )


def _first_line(error: BaseException) -> str:
    # Those of xgboost have a stack trace of C++ in them.
    return str(error).strip().partition("\n")[0]


def is_order(error: BaseException) -> bool:
    """Whether the process is to end: by Ctrl-C, or by what a handler of another signal raised, wherever it came."""
    if isinstance(error, KeyboardInterrupt):
        return True
    if isinstance(error, Exception):
        return False
    handlers = {getattr(signal.getsignal(one), "__code__", None) for one in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__))


def current() -> Guard | None:
    """The session around this code, or what keeps it quiet."""
    found = _current.get()
    # A thread or task that was begun inside of it may outlive it.
    return None if found is None or found.over else found


def enter(session: Guard | None) -> Token[Guard | None]:
    """Makes it the session of this context, for a worker thread of its training."""
    return _current.set(session)


def leave(token: Token[Guard | None]) -> None:
    """Back to what was before :func:`enter`."""
    _current.reset(token)


def options(integration: str) -> Options | None:
    """What to log of an integration; None where it is off, or this is another process than that of `autolog()`."""
    from . import enabled

    return enabled.get(integration) if os.getpid() == _process else None


def _forked() -> None:
    # The run belongs to the parent. A child logs nothing by itself, also where autolog() is never called again.
    global _process, _finding
    _process = -1
    _finding = threading.Lock()
    _random.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def enable_here() -> None:
    """This process has called `autolog()`."""
    global _process
    _process = os.getpid()


class Guard:
    """While one is in place, trainings inside of it begin no session."""

    def __init__(self, integration: str) -> None:
        self.integration = integration
        self.over = False

    def __reduce__(self) -> Any:
        # A trainer that holds one is sent to processes of its own, where there is none.
        return (type(None), ())


def quietly(work: Callable[[], Any]) -> Any:
    """Does some work whose trainings are of no interest: the folds of a cross-validation, the model of a selector."""
    guard = Guard("")
    token = _current.set(guard)
    try:
        return work()
    finally:
        guard.over = True
        _current.reset(token)


def quiet(integration: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that trains for a purpose of its own: its trainings are of no interest."""

    @functools.wraps(original)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        if options(integration) is None or current() is not None:
            return original(*args, **kwargs)
        return quietly(lambda: original(*args, **kwargs))

    return quiet


class Trainings:
    """Those of one kind of model in one run."""

    def __init__(self) -> None:
        self.number = 0
        self.first_step = 0
        """Where the steps of the last one begin."""
        self.next_step = 0
        """One more than the last step of all of them."""
        self.inputs: set[tuple[object, ...]] = set()
        """Name, digest and context of what they read."""


class Session(Guard):
    """One training. `run` is None where the run could not be had; then nothing is logged."""

    def __init__(self, integration: str, kind: str, options: Options) -> None:
        super().__init__(integration)
        self.options = options
        self.begun = time.monotonic()
        self.run: ActiveRun | None = None
        self.prefix = ""
        self.model_path = "model"
        self.number = 0
        self.first_step = 0
        """The step in the run of what is step 0 to the library."""
        self._alike = Trainings()
        self._before = 0
        self.takes_callback = False
        """Whether the next call of the library's `train` is that of this session's estimator."""
        self._is_ours = False
        self._token: Token[Guard | None] | None = None
        self._inputs: list[dict[str, Any]] = []
        self._sending: threading.Thread | None = None
        self.safely("no run could be started", lambda: self._find_run(kind))
        self._token = _current.set(self)
        _random.training_begins(self)

    def _find_run(self, kind: str) -> None:
        from .. import active_run, start_run

        # Otherwise another thread could take this run for the user's before it is known as ours.
        with _finding:
            run = active_run()
            if run is None or run.id in _owned:
                run = start_run(name=kind, tags={"autolog": self.integration})
                self._is_ours = True
                _owned.add(run.id)
        self._name(run.id, kind)
        self.run = run

    @contextmanager
    def nested_run(self, parent: ActiveRun, name: str) -> Iterator[ActiveRun]:
        """A part of this training as a run of its own."""
        from .. import start_run

        # What goes along with runs does so with the parent.
        alone: dict[str, Any] = {"system_metrics": False, "environment": False, "console": False}
        with _finding:
            tags = {"autolog": self.integration}
            child = start_run(parent.experiment, name, parent=parent, tags=tags, **alone)
            _owned.add(child.id)
        try:
            yield child
        finally:
            end_run(child)
            _owned.discard(child.id)

    def _name(self, run_id: str, kind: str) -> None:
        """The first kind of model of a run has plain names, others carry theirs; repeated trainings are further steps."""
        if run_id not in _trainings and len(_trainings) >= _MAX_RUNS_KNOWN:
            _trainings.pop(next(iter(_trainings)))
        kinds = _trainings.setdefault(run_id, {})
        if kinds and next(iter(kinds)) != kind:
            self.prefix = f"{kind}."
            self.model_path = f"model-{kind}"
        self._alike = alike = kinds.setdefault(kind, Trainings())
        self.number = alike.number
        alike.number += 1
        self._before = alike.first_step
        self.first_step = alike.first_step = alike.next_step

    def go_on(self, earlier: Session | None = None) -> None:
        """The library counts on from an earlier training, of the same kind if it is not known which."""
        if earlier is not None and (earlier.run is None or self.run is None or earlier.run.id != self.run.id):
            earlier = None
        self.first_step = self._alike.first_step = self._before if earlier is None else earlier.first_step

    def safely(self, what: str, work: Callable[[], object]) -> None:
        """Does some logging; whatever goes wrong is a warning, be it that a model's own code exits."""
        try:
            work()
        except BaseException as error:
            if is_order(error):
                raise
            warn_once(self.integration, what, error)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Logs params as text of bounded length."""
        self.safely("params were not logged", lambda: self._log_params(params))

    def _log_params(self, params: Mapping[str, object]) -> None:
        if self.run is not None and params:
            self.run.log_params(
                {self.prefix + str(key)[:200]: short_text(value) for key, value in params.items()}
            )

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Logs what of this is a number."""
        self.safely("metrics were not logged", lambda: self._log_metrics(metrics, step))

    def _log_metrics(self, metrics: Mapping[str, object], step: int | None) -> None:
        found = {metric_key(self.prefix + key): number for key, number in numbers(metrics).items()}
        if self.run is not None and found:
            self.run.log_metrics(found, step)

    def begin_at(self, step: int) -> None:
        """The first step that the library counts is this one, and new all the same."""
        self.first_step = self._alike.first_step = max(0, self._alike.next_step - step)

    def log_step(self, metrics: Mapping[str, object], step: int | None) -> None:
        """Logs metrics of a step as the library counts it; those of repeated trainings follow one another."""
        self.safely("metrics of a step were not logged", lambda: self._log_step(metrics, step))

    def _log_step(self, metrics: Mapping[str, object], step: int | None) -> None:
        if step is not None:
            step = self.first_step + int(step)
            self._alike.next_step = max(self._alike.next_step, step + 1)
        self._log_metrics(metrics, step)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets labels."""
        self.safely("labels were not set", lambda: self._set_tags(tags))

    def _set_tags(self, tags: Mapping[str, object]) -> None:
        if self.run is not None:
            self.run.set_tags({self.prefix + key: short_text(value) for key, value in tags.items()})

    def name_estimator(self, estimator: object) -> None:
        """Sets the labels that tell what is trained."""
        kind = type(estimator)
        self.set_tags(
            {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}
        )

    def add_input(self, described: dict[str, Any]) -> None:
        """Takes an input of the run to be sent, if it is not known from an earlier training."""
        known = self._alike.inputs
        key = (described["name"], described["digest"], described["context"])
        if key not in known and len(known) < _MAX_INPUTS:
            known.add(key)
            self._inputs.append(described)

    def send_inputs(self) -> None:
        """Sends them while the training goes on. A server that is not there would hold it up; they go into the journal then."""
        run, inputs = self.run, self._inputs
        if run is None or not inputs:
            return
        self._inputs = []

        def send() -> None:
            late = time.monotonic() + _SENDING_SECONDS
            for number, one in enumerate(inputs):
                if time.monotonic() > late:
                    rest = inputs[number:]
                    self.safely("data sets were not logged", lambda rest=rest: self._send_at_once(run, rest))
                    return
                self.safely("a data set was not logged", lambda one=one: run._handle.log_input(one).wait())

        # Not a daemon: the interpreter waits for it.
        self._sending = threading.Thread(target=send, name="mlplat-autolog-inputs")
        self._sending.start()

    def _send_at_once(self, run: ActiveRun, inputs: list[dict[str, Any]]) -> None:
        """To a server that hangs or is away: one after another would hold up the exit for as many timeouts."""
        import asyncio

        async def send(one: dict[str, Any]) -> None:
            await run._handle.log_input(one)

        async def send_all() -> list[BaseException | None]:
            return await asyncio.gather(*map(send, inputs), return_exceptions=True)

        for failure in asyncio.run(send_all()):
            if failure is not None:
                warn_once(self.integration, "a data set was not logged", failure)

    def finish(self) -> None:
        """The training went well: a run of its own ends."""
        self._end("FINISHED", "")

    def fail(self) -> None:
        """The training raised what is being handled now."""
        from .._outcome import outcome

        kind, error, traceback = sys.exc_info()
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            # Lightning makes an exit of Ctrl-C.
            kind, error = KeyboardInterrupt, error.__context__
        self._end(*outcome(kind, error, traceback))

    def _end(self, status: str, message: str) -> None:
        self.over = True
        _random.training_is_over(self)
        if self._token is not None:
            try:
                _current.reset(self._token)
            except ValueError:
                # Ended in another context than it was begun in.
                _current.set(None)
            self._token = None
        if self._sending is not None:
            self._sending.join(_SENDING_SECONDS)
        run = self.run
        if run is not None and self._is_ours:
            self._is_ours = False
            self.safely("the run was not ended", lambda: end_run(run, status, message))
            _owned.discard(run.id)


def end_run(run: ActiveRun, status: str = "FINISHED", message: str = "") -> None:
    """Ends a run that autologging has started, the one place where it does. It waits for no server: the next call that
    needs it, and the end of the process, deliver what is left."""
    run._leave()
    run._deactivate()
    run._note_end(run._handle.end_soon(status, message))


def run_logged(
    integration: str,
    kind: str,
    train: Callable[[], Any],
    *,
    estimator: Any = None,
    before: Callable[[Session], None] | None = None,
    after: Callable[[Session, Any], None] | None = None,
) -> Any:
    """Trains; unless it is inside of a session, or off, in a session of its own."""
    chosen = options(integration)
    if chosen is None or current() is not None:
        return train()
    with untouched(estimator):
        session = Session(integration, kind, chosen)
        if before is not None:
            session.safely("what is known before the training was not logged", lambda: before(session))
        session.safely("data sets were not logged", session.send_inputs)
    try:
        result = train()
        if after is not None and session.run is not None:
            with untouched(estimator):
                session.safely(
                    "what is known after the training was not logged", lambda: after(session, result)
                )
    except BaseException:
        session.fail()
        raise
    session.finish()
    return result


def short_text(value: object) -> str:
    """A value as text of bounded length."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    text = str(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """The entries that are numbers, as floats."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            continue
        try:
            found[str(key)] = float(value)  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError, RuntimeError, OverflowError):
            continue
    return found
