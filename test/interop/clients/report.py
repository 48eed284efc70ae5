"""Tests as lines that TestSuites reads: RESULT, pass or fail, feature, test, detail, parted by tabs."""
import os
import sys
import traceback

_tests = []


def test(feature, name=None):
    """Registers a test, in the order of the file."""
    def wrap(f):
        _tests.append((feature, name or f.__name__, f))
        return f
    return wrap


def main(version, call=lambda f: f()):
    print("VERSION", version, sep="\t")
    for feature, name, f in _tests:
        result, detail = "pass", ""
        try:
            call(f)
        except Exception as e:
            result = "fail"
            where = traceback.extract_tb(e.__traceback__)
            line = next((t.lineno for t in reversed(where) if os.path.basename(t.filename) == os.path.basename(sys.argv[0])), 0)
            detail = f"line {line}: {type(e).__name__}: {e}".replace("\n", " ").replace("\t", " ")
        print("RESULT", result, feature, name, detail, sep="\t", flush=True)
