"""Tests of the pytest plugin: its fixtures, its import cost, and docs/testing.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_providers_sync
from providers_sync.testing import FAULTS, ScriptedProvider, open_streams, serve, stall

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^\*\*`(\w+)\.py`\*\*\n\n```python\n(.*?)^```$", PAGE, re.M | re.S))
OPTIONS = ("-p", "pytest_providers_sync", "-p", "no:cacheprovider")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the generated tests with the plugin, even if it is not installed."""
    return pytester.runpytest_inprocess(*OPTIONS, *arguments)


def test_documented_tests_pass(pytester):
    """The view and the tests of the page run as they are."""
    pytest.importorskip("flask")
    assert set(FILES) == {"talk", "test_talk", "test_cats"}
    pytester.makepyfile(talk=FILES["talk"], test_talk=FILES["test_talk"])
    # Both warnings are about other plugins of the environment.
    ignored = (
        "ignore::pytest.PytestAssertRewriteWarning",
        "ignore:It looks like `register_random`",
    )
    result = run(pytester, "-W", "error", "-W", ignored[0], "-W", ignored[1])
    result.assert_outcomes(passed=11)


def test_documented_tests_fail_a_view_that_keeps_its_streams(pytester):
    """The message is the one on the page."""
    pytest.importorskip("flask")
    view = FILES["talk"].replace("with stream:", "running.append(stream)\n            if True:")
    view = view.replace("yield from stream", "for each in stream: yield each")
    test = FILES["test_talk"].replace("scripted_provider.wait_closed()", "")
    pytester.makepyfile(talk=f"{view}\nrunning = []\n", test_talk=test)
    result = run(pytester, "-k", "disconnect")
    result.assert_outcomes(passed=1, errors=1)
    message = re.search(r"```text\n(left open.*?)```", PAGE, re.S)[1].splitlines()
    assert all(any(line in output for output in result.outlines) for line in message)


def test_page_is_up_to_date():
    """The fixtures and faults on the page exist, and every fixture is on it."""
    fixtures = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    assert fixtures == [name for name in vars(pytest_providers_sync) if f"`{name}`" in PAGE]
    assert re.search(r"until Ctrl-C: it (.*)\.", PAGE)[1] == FAULTS["stall"].about


SCRIPTED = """
from providers_sync.testing import status

def test_answers(scripted_provider):
    assert str(scripted_provider.complete("Hi")) == "Hello!"
    assert len(scripted_provider.asked) == 1

def test_starts_empty(scripted_provider):
    assert scripted_provider.asked == []

def test_script_is_wrong(scripted_provider):
    scripted_provider.play(lambda request: 1 / 0)
    try:
        scripted_provider.complete("Hi")
    except Exception:
        pass

def test_server_answers(fault_server):
    from providers_sync import AI365VIP
    provider = AI365VIP(base_url=fault_server.url)
    assert str(provider.complete("Hi")) == "Hello!"

def test_server_script_is_wrong(fault_server):
    from providers_sync import AI365VIP
    fault_server.play(lambda request: 1 / 0)
    try:
        AI365VIP(base_url=fault_server.url, retry=1).complete("Hi")
    except Exception:
        pass
"""


def test_fixtures_start_empty_and_report_a_mistake_in_the_script(pytester):
    """A test that catches the error of a wrong script still fails."""
    pytester.makepyfile(SCRIPTED)
    result = run(pytester)
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(["E*ZeroDivisionError*"])


OPEN = """
import gc, threading, pytest
from providers_sync import Failover, aio
from providers_sync.testing import ScriptedProvider, stall

pytestmark = pytest.mark.usefixtures("no_open_streams")
provider = ScriptedProvider(["Hel", "lo"])
early = provider.stream("Hi")
kept = []

def test_unread():
    kept.append(provider.stream("Hi"))
def test_started():
    kept.append(provider.stream("Hi"))
    next(kept[-1])
def test_stalled_in_a_failover():
    kept.append(Failover([ScriptedProvider(["Hel", stall()])]).stream("Hi"))
def test_failed_with_an_open_stream():
    stream = provider.stream("Hi")
    assert next(stream) == "lo"

def test_read():
    kept.append(provider.stream("Hi"))
    kept[-1].read()
def test_closed():
    with provider.stream("Hi") as stream:
        kept.append(stream)
def test_cancelled():
    kept.append(provider.stream("Hi"))
    kept[-1].cancel()
def test_dropped():
    next(provider.stream("Hi"))
def test_dropped_in_a_cycle():
    stream = provider.stream("Hi")
    cycle = [stream]
    cycle.append(cycle)
def test_failed_to_open():
    with pytest.raises(Exception):
        ScriptedProvider(lambda request: 1 / 0).stream("Hi")
def test_opened_before():
    assert early.outcome is None
"""


def test_open_streams_fail_a_test(pytester):
    """Only streams that are open and referenced count; not older ones, nor after a failure."""
    pytester.makepyfile(OPEN)
    result = run(pytester)
    result.assert_outcomes(passed=10, failed=1, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*left open: <Stream of scripted-model: running, 0 chunks> with ''*",
            "*Read a stream to its end, or use `with*",
            "*running, 1 chunks> with 'Hel'*",
            "*running, 0 chunks> with ''*",
        ]
    )


def test_streams_left_open_are_closed_after_the_test(pytester):
    """They do not stay open in the next test."""
    pytester.makepyfile(
        """
        from providers_sync.testing import ScriptedProvider, stall
        kept = []
        provider = ScriptedProvider([stall()])
        def test_first(no_open_streams):
            provider.play(["Hel", stall()])
            kept.append(provider.stream("Hi"))
        def test_next(no_open_streams):
            provider.wait_closed()
            assert kept[0].outcome == "cancelled"
        """
    )
    run(pytester).assert_outcomes(passed=2, errors=1)


def test_open_streams_lists_unfinished_streams():
    """The function also works outside pytest."""
    before = open_streams()
    provider = ScriptedProvider(["Hel", stall()])
    with provider.stream("Hi") as stream:
        assert [each for each in open_streams() if each not in before] == [stream]
    assert stream not in open_streams()


def file_names(pytester):
    folder = pytester.path / "recordings"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jsonl"))


def test_documented_recording(pytester, monkeypatch):
    """Recorded once, it is played without a key; before that, the failure names the remedy."""
    pytester.makepyfile(test_cats=FILES["test_cats"])
    with serve(["They are content."]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
        result = run(pytester)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*no recording of this request; to record it, run pytest --rec*"]
        )
        assert server.requests == []
        assert not (pytester.path / "recordings").exists()
        for mode, count in (("auto", 1), ("record", 2)):
            run(pytester, f"--recording={mode}").assert_outcomes(passed=1)
            assert len(server.requests) == count
        assert server.requests[0].headers["Authorization"] == "Bearer sk-0123456789"
    monkeypatch.delenv("OPENAI_API_KEY")
    run(pytester).assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.jsonl")
    assert path == pytester.path / "recordings" / "test_cats" / "test_cats_are_content.jsonl"
    assert path.read_bytes().count(b"\n") == 1  # ``record`` has begun a new file
    assert b"sk-0" not in path.read_bytes()


RECORDED = """
import pytest
from providers_sync import ProviderError
from providers_sync.testing import ScriptedProvider

class TestA:
    def test_same(self, recorded):
        assert str(recorded(ScriptedProvider()).complete("Hi")) == "Hello!"
class TestB:
    def test_same(self, recorded):
        assert str(recorded(ScriptedProvider()).complete("Hi")) == "Hello!"
@pytest.mark.parametrize("text", ["a", "a/b", "a:b", "x" * 200])
def test_parameter(recorded, text):
    assert str(recorded(ScriptedProvider()).complete(text)) == "Hello!"
def test_shared(recorded):
    for _ in range(2):
        assert str(recorded(ScriptedProvider(), "shared").complete("Hi")) == "Hello!"
@pytest.mark.parametrize("name", ["", "a/b", "../a", 3])
def test_wrong_name(recorded, name):
    with pytest.raises(ValueError, match="name must be the name of a file"):
        recorded(ScriptedProvider(), name)
"""


def test_recordings_have_a_file_for_each_test(pytester):
    """Or one with a name for several; names that no file may have are changed."""
    pytester.makepyfile(test_module=RECORDED)
    run(pytester, "--recording=auto").assert_outcomes(passed=11)
    names = file_names(pytester)
    assert len(names) == 7
    assert names[:2] == ["test_module/TestA.test_same.jsonl", "test_module/TestB.test_same.jsonl"]
    assert "test_module/shared.jsonl" in names
    assert "test_module/test_parameter[a].jsonl" in names
    assert max(map(len, names)) < 130
    run(pytester).assert_outcomes(passed=11)
    assert file_names(pytester) == names


def test_unknown_request_that_the_program_handles_fails_the_test(pytester):
    """Once: not if the test fails already."""
    pytester.makepyfile(
        """
        import pytest
        from providers_sync import ProviderError
        from providers_sync.testing import ScriptedProvider

        def ask(provider):
            try:
                return str(provider.complete("Hi"))
            except ProviderError:
                return "sorry"

        def test_handled(recorded):
            assert ask(recorded(ScriptedProvider())) == "sorry"

        def test_failed(recorded):
            assert ask(recorded(ScriptedProvider())) == "Hello!"
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*has no recording of this request*pytest --recording=auto*"])


def test_wrong_recording_mode_is_refused(pytester):
    result = run(pytester, "--recording=play")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--recording*play*"])


def test_plugin_loads_nothing_until_a_fixture_is_used(pytester):
    """A project that does not use it imports one small module only."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert "pytest_providers_sync" in sys.modules
            loaded = [name for name in sys.modules if name.split(".")[0] == "providers_sync"]
            assert loaded == []
            assert "requests" not in sys.modules
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "-q"],
        cwd=pytester.path,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others may load requests
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_plugin_fixtures_do_not_collide_with_ours(request):
    """No fixture in tests/conftest.py has the name of a plugin's fixture."""
    ours = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    theirs = Path(pytest_providers_sync.__file__).read_text(encoding="utf-8")
    pattern = r"^@pytest\.fixture.*\ndef (\w+)"
    names = [set(re.findall(pattern, source, re.M)) for source in (ours, theirs)]
    assert names[1] == {"scripted_provider", "fault_server", "recorded", "no_open_streams"}
    assert not names[0] & names[1]
