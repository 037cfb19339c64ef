"""Threads, signals, and objects that go away in the middle."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from typing import Any, Callable

import pytest
from conftest import LONG, STORY

import bise


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Starts a thread; the list gets what it returns or raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_objects_are_collected_in_the_middle_of_a_stream() -> None:
    model = bise.Model.builtin()
    stream = model.generate("Once upon a time", max_tokens=32, temperature=0, stream=True)
    first = next(stream)
    alive = weakref.ref(model)
    del model
    gc.collect()
    # The stream keeps the model alive, and lets go of it.
    assert alive() is not None
    assert first + "".join(stream) == STORY
    del stream
    gc.collect()
    assert alive() is None
    # And the other way round: a stream that nobody reads to its end.
    model = bise.Model.builtin()
    session = model.session()
    next(session.generate("Once upon a time", stream=True))
    gc.collect()
    assert session.position == 5


def test_a_model_closed_while_a_generator_lives() -> None:
    model = bise.Model.builtin()
    session = model.session()
    stream = model.generate("Once upon a time", stream=True)
    next(stream)
    tokenizer = model.tokenizer
    session.feed("Once")
    logits = session.logits()
    kept = logits.copy()
    model.close()
    model.close()
    assert model.closed and session.closed and repr(model) == "<bise.Model, closed>"
    assert repr(session) == "<bise.Session, closed>"
    for use in (
        lambda: next(stream),
        lambda: model.generate("x"),
        lambda: model.generate_many(["x"]),
        lambda: model.embed("x"),
        lambda: model.n_vocab,
        lambda: model.tokenizer,
        lambda: model.session(),
        lambda: session.feed("x"),
        lambda: session.tokens,
        lambda: session.logits(),
        lambda: session.generate("x"),
    ):
        with pytest.raises(bise.ClosedError):
            use()
    assert list(stream) == []
    # What does not need the model goes on.
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    assert (logits == kept).all()


def test_closing_ends_a_pass_under_way(slow: bise.Model) -> None:
    session = slow.session()
    thread, outcome = in_thread(lambda: session.feed(LONG))
    many, ended = in_thread(lambda: slow.generate_many([LONG, LONG]))
    time.sleep(0.3)
    start = time.monotonic()
    slow.close()
    thread.join(5)
    many.join(5)
    assert time.monotonic() - start < 2
    assert isinstance(outcome[0], bise.ClosedError) and isinstance(ended[0], bise.ClosedError)


def test_a_closed_session() -> None:
    with bise.Model.builtin() as model, model.session() as session:
        session.feed("Once")
        session.close()
        session.close()
        with pytest.raises(bise.ClosedError):
            session.feed("Once")
        assert model.generate("Once upon a time", max_tokens=32, temperature=0) == STORY


def test_two_threads_on_one_session(slow: bise.Model) -> None:
    session = slow.session()
    thread, outcome = in_thread(lambda: session.feed(LONG))
    deadline = time.monotonic() + 5
    while repr(session) != "<bise.Session, in use>":
        assert time.monotonic() < deadline
    for use in (
        lambda: session.feed("x"),
        lambda: session.generate("x"),
        lambda: session.logits(),
        lambda: session.tokens,
        lambda: session.rewind(0),
        lambda: session.clear(),
    ):
        start = time.monotonic()
        with pytest.raises(bise.BusyError):
            use()
        # An exception, not a wait.
        assert time.monotonic() - start < 1
    session.cancel()
    thread.join(5)
    assert isinstance(outcome[0], bise.CancelledError)
    # Whole passes that were done by then are kept, and the session goes on.
    assert session.position % 512 == 0 and session.position < len(LONG)
    session.clear()
    session.feed("Once upon a time")
    assert session.position == 5


def test_two_threads_on_one_stream(slow: bise.Model) -> None:
    stream = slow.generate(LONG, stream=True)
    thread, outcome = in_thread(lambda: next(stream))
    time.sleep(0.3)
    with pytest.raises(bise.BusyError):
        next(stream)
    stream.close()
    thread.join(5)
    assert isinstance(outcome[0], bise.CancelledError)
    assert list(stream) == []


def test_threads_share_a_model(model: bise.Model) -> None:
    started = [
        in_thread(lambda: model.generate("Once upon a time", max_tokens=32, temperature=0)) for _ in range(6)
    ]
    for thread, outcome in started:
        thread.join(60)
        assert outcome == [STORY]


def test_the_gil_is_released(slow: bise.Model) -> None:
    session = slow.session()
    thread, outcome = in_thread(lambda: session.feed(LONG))
    time.sleep(0.1)
    start, n = time.monotonic(), 0
    while time.monotonic() - start < 0.5:
        n += 1
        time.sleep(0.001)
    # With the GIL held, this thread would not run at all.
    assert n > 20 and not outcome
    session.cancel()
    thread.join(5)


def test_a_session_used_by_others_in_the_middle(model: bise.Model) -> None:
    session = model.session()
    stream = session.generate("Once upon a time", temperature=0, stream=True)
    next(stream)
    session.feed("and then")
    with pytest.raises(RuntimeError, match="used by others"):
        next(stream)
    assert list(stream) == []
    # Two generations in turn are the same.
    one = session.generate("Once", stream=True)
    next(one)
    next(session.generate("Twice", stream=True))
    with pytest.raises(RuntimeError, match="used by others"):
        next(one)


def test_a_stream_that_is_closed(model: bise.Model) -> None:
    session = model.session()
    with session.generate("Once upon a time", temperature=0, stream=True) as stream:
        next(stream)
    assert list(stream) == []
    assert session.generate("Once", max_tokens=1).finish_reason == "length"


def test_nothing_is_pickled(model: bise.Model) -> None:
    session = model.session()
    session.feed("Once")
    stream = session.generate("Once", stream=True)
    for thing in (model, session, model.tokenizer, stream, bise.Sampler(model.tokenizer), session.logits().base):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                attempt(thing)


def child(source: str, *, interrupt: bool = False) -> str:
    """What a Python program prints. It is interrupted, as by Ctrl-C, once it has printed "go"."""
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Not where the sources are: they would be imported in place of the package that is installed.
        cwd=tempfile.gettempdir(),
    )
    assert program.stdout is not None
    if interrupt:
        assert program.stdout.readline() == "go\n"
        time.sleep(0.4)
        program.send_signal(signal.SIGINT)
    output = program.communicate(timeout=60)[0]
    assert program.returncode == 0, output
    return output


@pytest.mark.parametrize(
    "work",
    [
        "session.feed(LONG)",
        "next(session.generate(LONG, stream=True))",
        "session.generate(LONG)",
        "model.generate_many([LONG, LONG])",
        "model.embed([LONG])",
        "asyncio.run(read(session.generate(LONG, stream=True)))",
    ],
)
def test_ctrl_c_is_obeyed_within_a_pass(work: str) -> None:
    output = child(
        f"""
        import asyncio, signal, time, bise
        # Jobs in the background of a shell ignore Ctrl-C, and their children with them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        LONG = [1, *[400 + i % 3000 for i in range(16000)]]
        async def read(stream):
            async for _ in stream:
                pass
        model = bise.Model.builtin(isa="scalar", threads=1, n_ctx=20000, n_ubatch=16384)
        session = model.session()
        print("go", flush=True)
        start = time.monotonic()
        try:
            {work}
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - start < 5)
        # In another thread, the pass ends a little later.
        while "in use" in repr(session):
            time.sleep(0.01)
        print(session.position)
        session.feed("Once upon a time")
        print(session.position)
        """,
        interrupt=True,
    )
    # The pass was one of all tokens: none was read.
    assert output == "interrupted True\n0\n5\n"


def test_a_signal_handler_that_does_not_raise() -> None:
    output = child(
        """
        import signal, time, bise
        model = bise.Model.builtin(isa="scalar", threads=1, n_ctx=4000, sliding_window=0)
        session = model.session()
        seen = []
        def handle(*_):
            seen.append(session.closed)
            try:
                session.feed("x")
            except bise.BusyError:
                seen.append("busy")
        signal.signal(signal.SIGINT, handle)
        print("go", flush=True)
        while not seen:
            session.clear()
            session.feed([1] * 200)
        print(seen, session.position)
        """,
        interrupt=True,
    )
    assert output in ("[False, 'busy'] 200\n", "[False] 202\n"), output


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_goes_on() -> None:
    output = child(
        """
        import os, warnings, bise
        warnings.simplefilter("ignore")
        model = bise.Model.builtin(threads=2)
        session = model.session()
        session.feed("Once upon a time")
        child = os.fork()
        # Each line at once: both processes write to one pipe.
        os.write(1, (session.generate(max_tokens=2, temperature=0) + "\\n").encode())
        os.write(1, (model.generate("Once upon a time", max_tokens=2, temperature=0) + "\\n").encode())
        if child == 0:
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        """
    )
    assert output.splitlines() == [", a"] * 4 + ["0"]


def test_async_iteration_leaves_the_loop_free(model: bise.Model) -> None:
    async def main() -> tuple[str, int]:
        n = 0

        async def tick() -> None:
            nonlocal n
            while True:
                n += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        text = "".join([piece async for piece in model.agenerate("Once upon a time", max_tokens=32, temperature=0)])
        ticking.cancel()
        return text, n

    text, n = asyncio.run(main())
    assert text == STORY and n > 32

    async def together() -> list[str]:
        async def one() -> str:
            return "".join([piece async for piece in model.achat("Tell me a story.", max_tokens=12, temperature=0)])

        return await asyncio.gather(one(), one(), one())

    assert asyncio.run(together()) == ["Once upon a time, there was a kind boy named Dudley"] * 3


def test_a_task_that_is_cancelled(slow: bise.Model) -> None:
    async def main() -> float:
        session = slow.session()
        stream = session.generate(LONG, stream=True)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The pass ends soon after, and the session is free.
        while True:
            try:
                assert session.position < len(LONG)
                return time.monotonic() - start
            except bise.BusyError:
                await asyncio.sleep(0.01)

    assert asyncio.run(main()) < 3


def test_errors_reach_async_iteration(model: bise.Model) -> None:
    def fail(tokens: Any, logits: Any) -> Any:
        raise KeyError("mine")

    async def main() -> None:
        async for _ in model.agenerate("Once", logits_processor=fail):
            pass

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())
