#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lint: SPDX heads, the layer rule, each header compiles alone, formatting, words that must not be left behind, and
whether the documentation lists what the code has, the size of what fuzzers start from.

Prints one line a finding ("file:line: what") and, last, "lint: N checks, N findings". Exit status 1 if there are any.
The size guide (file and function length) only warns.
"""
import os
import re
import subprocess
import sys

from lint_docs import check_docs

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE_ENDINGS = ('.c', '.h', '.asm', '.py', '.ld', '.asl', '.sh')
ENGINES = ('arch/x86_64/vmx/',)
NOT_OURS = ('.git', 'build', '__pycache__')
FILE_LINES_MAX = 600
FUZZ_CORPUS = 'tests/fuzz/corpus/'
FUZZ_INPUTS_MAX = 24
FUZZ_BYTES_MAX = 32 * 1024
HEADER_FLAGS = ['-std=gnu17', '-ffreestanding', '-mgeneral-regs-only', '-fsyntax-only', '-I.', '-Wall',
                '-Wextra', '-Werror', '-x', 'c']
# The loader is compiled against GNU-EFI and the decoder against Zydis; both are compiled by the build itself.
HEADERS_OF_OTHERS = ('<efi',)


def files_of_tree():
    """All but what is built, also where the tree is no checkout."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if f not in NOT_OURS)
        yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in sorted(names))


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


def read_layers():
    layers = {}
    for line in read('tests/layers.txt').split('\n'):
        if line and not line.startswith('#'):
            folder, _, allowed = line.partition(':')
            layers[folder.strip()] = allowed.split()
    return layers


def layer_of(path, layers):
    fits = [folder for folder in layers if path.startswith(folder + '/')]
    return max(fits, key=len) if fits else None


def allows(prefixes, header):
    return any(header == p or header.startswith(p + '/') for p in prefixes)


def check_layers(files):
    layers = read_layers()
    for path in files:
        if not path.endswith(('.c', '.h')):
            continue
        folder = layer_of(path, layers)
        if folder is None:
            yield f'{path}:1: no layer covers this folder: add it to tests/layers.txt'
            continue
        for number, line in enumerate(read(path).split('\n'), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            header = m.group(1)
            if not os.path.exists(os.path.join(ROOT, header)):
                yield f'{path}:{number}: include "{header}" is not spelled from the root'
            elif header.startswith(ENGINES) and not path.startswith((*ENGINES, 'tests/')):
                yield f'{path}:{number}: an engine\'s headers are private'
            elif not allows(layers[folder], header):
                yield f'{path}:{number}: {folder}/ may not include "{header}" (tests/layers.txt)'


def check_heads(files):
    for path in files:
        name = os.path.basename(path)
        if path.endswith((*SOURCE_ENDINGS, '.mk')) or name == 'Makefile':
            if 'SPDX-License-Identifier: MIT' not in '\n'.join(read(path).split('\n')[:3]):
                yield f'{path}:1: no SPDX line'


def check_words(files):
    pattern = re.compile(r'\b(TO' + r'DO|FIX' + r'ME|XX' + r'X|HA' + r'CK)\b')
    for path in files:
        if not path.endswith(SOURCE_ENDINGS):
            continue
        for number, line in enumerate(read(path).split('\n'), 1):
            if pattern.search(line):
                yield f'{path}:{number}: left open: {line.strip()[:60]}'


def check_headers(files):
    headers = [f for f in files if f.endswith('.h') and not f.startswith('tests/')]
    for path in headers:
        if any(mark in read(path) for mark in HEADERS_OF_OTHERS):
            continue
        run = subprocess.run(['gcc', *HEADER_FLAGS, '-'], cwd=ROOT, capture_output=True, text=True,
                             input=f'#include "{path}"\n')
        if run.returncode != 0:
            first = next((l for l in run.stderr.split('\n') if 'error' in l), run.stderr.strip())
            yield f'{path}:1: does not compile alone: {first}'


def check_format(files):
    sources = [f for f in files if f.endswith(('.c', '.h'))]
    run = subprocess.run(['clang-format', '--dry-run', '--ferror-limit=1', *sources], cwd=ROOT,
                         capture_output=True, text=True)
    if run.returncode != 0:
        yield f'clang-format failed: {run.stderr.strip()[:200]}'
    for line in run.stderr.split('\n'):
        m = re.match(r'(\S+?):(\d+):\d+: (warning|error):', line)
        if m:
            yield f'{m.group(1)}:{m.group(2)}: not formatted as .clang-format says: run make format'


def check_corpus(files):
    """A fuzzer that is run by hand with its corpus as the first folder writes all that it learns there."""
    folders = {}
    for path in files:
        if path.startswith(FUZZ_CORPUS):
            folders.setdefault(os.path.dirname(path), []).append(os.path.getsize(os.path.join(ROOT, path)))
    for folder, sizes in folders.items():
        if len(sizes) > FUZZ_INPUTS_MAX or sum(sizes) > FUZZ_BYTES_MAX:
            yield f'{folder}:1: {len(sizes)} inputs of {sum(sizes)} bytes: at most {FUZZ_INPUTS_MAX} of ' \
                  f'{FUZZ_BYTES_MAX}; make fuzz FUZZER={os.path.basename(folder)} keeps what it learns in build/'


def warn_sizes(files):
    for path in files:
        if path.endswith(('.c', '.h', '.asm', '.py')):
            lines = read(path).count('\n')
            if lines > FILE_LINES_MAX:
                print(f'{path}:1: warning: {lines} lines: is it still one thing?')


CHECKS = (check_layers, check_heads, check_words, check_headers, check_format, check_docs, check_corpus)


def main():
    files = list(files_of_tree())
    findings = [finding for check in CHECKS for finding in check(files)]
    for finding in findings:
        print(finding)
    warn_sizes(files)
    print(f'lint: {len(CHECKS)} checks of {len(files)} files, {len(findings)} findings')
    return 1 if findings or not files else 0


if __name__ == '__main__':
    sys.exit(main())
