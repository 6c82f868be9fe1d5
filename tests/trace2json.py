#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes what `trace VM json` printed out of a captured console, as a file for a trace viewer (ui.perfetto.dev,
chrome://tracing).

    tests/trace2json.py CONSOLE.log OUTPUT.json

Of several traces in the log, the last one counts. Lines of the log that came in between are left out. Exit status 1
if there is no trace, or none that is whole.
"""

import json
import re
import sys

TRACE = re.compile(r"^--- trace of (\S+) ---$(.*?)^--- end of trace ---$", re.MULTILINE | re.DOTALL)
EVENT = re.compile(r"^\{\"name\":.*\}(?=,?$)", re.MULTILINE)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def trace_events(console):
    """The events of the last trace in a console's text, or None."""
    traces = TRACE.findall(ESCAPES.sub("", console.replace("\r", "")))
    if not traces:
        return None
    name, text = traces[-1]
    events = [json.loads(line) for line in EVENT.findall(text)]
    return [{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": name}}] + events


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        events = trace_events(file.read())
    if events is None:
        sys.exit(f"{sys.argv[1]}: no trace in it; type `trace VM json` while the console is captured")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file)
    print(f"{sys.argv[2]}: {sum(e['ph'] == 'X' for e in events)} exits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
