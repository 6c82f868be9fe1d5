// SPDX-License-Identifier: MIT
// A line of input on a terminal: editing, history, completion. Pure: bytes in, bytes out through a
// function. A line longer than the terminal is wide is shown in part, around the cursor.
//
// Keys: arrows, Home, End, Delete, Backspace, Tab; Ctrl-A E B F (move), P N (history), K U W D
// (delete), C (give up), L (clear the screen); Alt-B F and Ctrl-arrows move by words.
#pragma once

#include "vmm/lib/types.h"

#define LINE_EDIT_MAX       256 // terminator included
#define LINE_EDIT_HISTORY   32
#define LINE_EDIT_PARAMETER 8

struct line_edit_ops {
    void (*write)(void *context, const char *text, size_t size);
    // The index-th word that may stand at line[word], null past the last. Those that do not begin
    // with what is typed are passed over. May be null.
    const char *(*candidate)(void *context, const char *line, unsigned word, unsigned index);
};

enum line_edit_escape { LINE_ESCAPE_NONE, LINE_ESCAPE_START, LINE_ESCAPE_SEQUENCE };

struct line_edit {
    const struct line_edit_ops *ops;
    void *context;
    const char *prompt;
    char text[LINE_EDIT_MAX];
    unsigned length, cursor;
    unsigned first; // character that is shown first
    char history[LINE_EDIT_HISTORY][LINE_EDIT_MAX];
    unsigned history_count;    // lines ever kept
    unsigned history_back;     // how far back the line on show is; 0: it is the new one
    char draft[LINE_EDIT_MAX]; // the new line, while another one is on show
    enum line_edit_escape escape;
    char sequence[LINE_EDIT_PARAMETER]; // what came after ESC
    unsigned sequence_length;
    bool after_return; // the last byte was a carriage return: a line feed belongs to it
};

enum line_edit_result {
    LINE_EDIT_MORE,
    LINE_EDIT_DONE,      // text holds the line
    LINE_EDIT_CANCELLED, // Ctrl-C
};

void line_edit_init(struct line_edit *edit, const struct line_edit_ops *ops, void *context);
void line_edit_start(struct line_edit *edit, const char *prompt); // an empty line, on show
enum line_edit_result line_edit_byte(struct line_edit *edit, u8 byte);
void line_edit_redraw(struct line_edit *edit); // after something else was written over the line
