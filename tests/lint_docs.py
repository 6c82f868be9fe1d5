# SPDX-License-Identifier: MIT
"""Lint of the documentation: links lead somewhere, files that are named are there, and lists of what the code has a
table of (keys, commands, kinds of exits, fuzzers, guests, limits) are complete. tests/lint.py calls check_docs()."""
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TREE_FOLDERS = ('arch/', 'boot/', 'docs/', 'drivers/', 'guests/', 'io/', 'mm/', 'tests/', 'vmm/')
# Names within a path that stand for others.
PLACEHOLDER = re.compile(r'[A-Z]{4,}|[*{<]')


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


def pages():
    found = ['README.md'] + sorted(glob.glob('docs/*.md', root_dir=ROOT))
    return {path: read(path) for path in found}


def anchors(text):
    """As hosts of repositories name headings: small letters, no punctuation, dashes for blanks."""
    headings = re.findall(r'^#+ +(.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in headings}


def check_links(texts):
    for page, text in texts.items():
        for target in re.findall(r'\]\(([^)\s]+)\)', text):
            if '://' in target:
                continue
            path, _, anchor = target.partition('#')
            full = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(os.path.join(ROOT, full)):
                yield f'{page}:1: link to {target}, which is not there'
            elif anchor and anchor not in anchors(read(full)):
                yield f'{page}:1: link to {target}: {full} has no such heading'


def check_paths(texts):
    for page, text in texts.items():
        for path in re.findall(r'`([\w./{},*<>-]+)`', text):
            if path.startswith(TREE_FOLDERS) and not PLACEHOLDER.search(path) \
                    and not os.path.exists(os.path.join(ROOT, path)):
                yield f'{page}:1: names {path}, which is not there'


def words(pattern, text):
    return set(re.findall(pattern, text, re.MULTILINE))


def section(text, begin, end):
    start = text.index(begin)
    return text[start:text.index(end, start)]


def first_column(text):
    """The words in backticks in the first cells of tables."""
    cells = re.findall(r'^\| (`.*?`(?:, `.*?`)*) \|', text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r'`([\w-]+)', cell)}


def lists(texts):
    """What stands in the code, what a page lists, and what it is."""
    config = read('vmm/config.c')
    page = texts['docs/configuration.md']
    yield 'docs/configuration.md', 'key', \
        words(r'^    \{"([\w-]+)", set_', config), \
        first_column(section(page, '## `[plinth]`', '| `boot` | what'))
    commands = words(r'^    \{"(\w+)", "', read('vmm/console/commands.c'))
    yield 'docs/console.md', 'command', commands, \
        first_column(section(texts['docs/console.md'], '## Commands', '### States'))
    yield 'README.md', 'command', commands, \
        first_column(section(texts['README.md'], '## The console', '## Configuration'))
    testing = texts['docs/testing.md']
    yield 'docs/testing.md', 'fuzzer', {os.path.basename(p)[:-2] for p in glob.glob(ROOT + '/tests/fuzz/*.c')}, \
        first_column(section(testing, '## Fuzzers', '## Random guests'))
    guests = set(re.search(r'^CHECK_GUESTS := (.*)$', read('guests/guests.mk'), re.MULTILINE).group(1).split()) - {'witness'}
    yield 'docs/testing.md', 'conformance guest', guests, \
        first_column(section(testing, '| guest | checks |', '## Writing a scenario'))
    exit_path = texts['docs/exit-path.md']
    yield 'docs/exit-path.md', 'kind of exit', words(r'^    X\(EXIT_\w+, \w+, "([\w-]+)"\)', read('vmm/exit.h')), \
        first_column(section(exit_path, '| kind | what the handler does |', 'A device access in memory'))


def check_lists(texts):
    for page, what, code, listed in lists(texts):
        if not code or not listed:
            yield f'{page}:1: no {what} found at all: has its table changed its form?'
        for name in sorted(code - listed):
            yield f'{page}:1: the {what} {name} is missing'
        for name in sorted(listed - code):
            yield f'{page}:1: there is no {what} {name}'


def check_limits(texts):
    """The table of what exits cost against what the tests allow."""
    code = section(read('tests/emulated/exit_costs.py'), 'LIMITS = {', 'EMPTY =')
    limits = {name: int(limit) for name, limit in re.findall(r'"([\w-]+)": (\d+)', code.split('HARDWARE_LIMITS')[0])}
    text = section(texts['docs/exit-path.md'], '## What it costs', 'With `apic = hardware`')
    rows = {name: int(limit) for name, limit in re.findall(r'^\| ([\w-]+) \| \d+ \| (\d+) \|', text, re.MULTILINE)}
    for name in sorted(limits.keys() | rows.keys()):
        if limits.get(name) != rows.get(name):
            yield f'docs/exit-path.md:1: limit of {name}: {rows.get(name)}, in the tests {limits.get(name)}'


def check_docs(_files):
    texts = pages()
    for check in (check_links, check_paths, check_lists, check_limits):
        yield from check(texts)
