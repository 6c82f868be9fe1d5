// SPDX-License-Identifier: MIT
// A line of input on a terminal. Typing at the line's end writes just the character; all else draws
// the line anew, with carriage return, "erase to the end of the line" and "cursor right" only.

#include "vmm/console/line_edit.h"
#include "vmm/lib/format.h"
#include "vmm/lib/string.h"

#define TERMINAL_WIDTH 80u
#define CONTROL(c)     ((c)&0x1f)
#define KEY_ESCAPE     0x1b
#define KEY_BACKSPACE  0x7f

static void write_bytes(struct line_edit *e, const char *text, size_t size)
{
    e->ops->write(e->context, text, size);
}

static void write_string(struct line_edit *e, const char *text)
{
    write_bytes(e, text, strlen(text));
}

// --- drawing ---

// How many characters of the line fit; columns stay free for "^C" and the cursor behind it.
static unsigned room(const struct line_edit *e)
{
    return TERMINAL_WIDTH - 3 - (unsigned)strlen(e->prompt);
}

void line_edit_redraw(struct line_edit *e)
{
    if (e->cursor < e->first)
        e->first = e->cursor;
    if (e->cursor - e->first > room(e))
        e->first = e->cursor - room(e);
    write_string(e, "\r");
    write_string(e, e->prompt);
    write_bytes(e, e->text + e->first, MIN(e->length - e->first, room(e)));
    write_string(e, "\033[K");
    if (e->cursor == e->length)
        return;
    char move[16];
    format_text(move, sizeof(move), "\r\033[%uC",
                (unsigned)strlen(e->prompt) + e->cursor - e->first);
    write_string(e, move);
}

void line_edit_start(struct line_edit *e, const char *prompt)
{
    e->prompt = prompt;
    e->length = e->cursor = e->first = e->history_back = 0;
    e->text[0] = 0;
    e->escape = LINE_ESCAPE_NONE;
    write_string(e, prompt);
}

void line_edit_init(struct line_edit *e, const struct line_edit_ops *ops, void *context)
{
    memset(e, 0, sizeof(*e));
    e->ops = ops;
    e->context = context;
    e->prompt = "";
}

// --- changing the text; none of these draws ---

static bool insert(struct line_edit *e, const char *text, unsigned count)
{
    if (count >= LINE_EDIT_MAX - e->length)
        return false;
    memmove(e->text + e->cursor + count, e->text + e->cursor, e->length - e->cursor + 1);
    memcpy(e->text + e->cursor, text, count);
    e->length += count;
    e->cursor += count;
    return true;
}

static void delete_range(struct line_edit *e, unsigned from, unsigned to)
{
    memmove(e->text + from, e->text + to, e->length - to + 1);
    e->length -= to - from;
    e->cursor = from;
}

static void set_text(struct line_edit *e, const char *text)
{
    string_copy(e->text, sizeof(e->text), text);
    e->length = e->cursor = (unsigned)strlen(e->text);
    e->first = 0;
}

static unsigned word_left(const struct line_edit *e)
{
    unsigned at = e->cursor;
    while (at && e->text[at - 1] == ' ')
        at--;
    while (at && e->text[at - 1] != ' ')
        at--;
    return at;
}

static unsigned word_right(const struct line_edit *e)
{
    unsigned at = e->cursor;
    while (at < e->length && e->text[at] == ' ')
        at++;
    while (at < e->length && e->text[at] != ' ')
        at++;
    return at;
}

// --- history ---

static unsigned history_kept(const struct line_edit *e)
{
    return MIN(e->history_count, LINE_EDIT_HISTORY);
}

// back: 1 is the latest.
static char *history_line(struct line_edit *e, unsigned back)
{
    return e->history[(e->history_count - back) % LINE_EDIT_HISTORY];
}

// Neither empty lines nor a repetition of the latest.
static void history_add(struct line_edit *e)
{
    if (!e->length || (e->history_count && strcmp(history_line(e, 1), e->text) == 0))
        return;
    e->history_count++;
    string_copy(history_line(e, 1), LINE_EDIT_MAX, e->text);
}

static void history_show(struct line_edit *e, unsigned back)
{
    if (!e->history_back)
        string_copy(e->draft, sizeof(e->draft), e->text);
    e->history_back = back;
    set_text(e, back ? history_line(e, back) : e->draft);
}

// --- completion ---

struct completion {
    unsigned word;  // where the word begins
    unsigned typed; // its characters before the cursor
    unsigned matches;
    const char *common; // one of the matches ...
    unsigned length;    // ... and how much of it they share
};

static bool fits(struct line_edit *e, const struct completion *c, const char *candidate)
{
    return strncmp(candidate, e->text + c->word, c->typed) == 0;
}

static void completion_find(struct line_edit *e, struct completion *c)
{
    const char *candidate;
    for (unsigned i = 0; (candidate = e->ops->candidate(e->context, e->text, c->word, i)); i++) {
        if (!fits(e, c, candidate))
            continue;
        unsigned same = 0;
        while (c->matches && same < c->length && candidate[same] == c->common[same])
            same++;
        c->length = c->matches ? same : (unsigned)strlen(candidate);
        c->common = candidate;
        c->matches++;
    }
}

static void completion_list(struct line_edit *e, const struct completion *c)
{
    const char *candidate;
    unsigned column = 0;
    write_string(e, "\n");
    for (unsigned i = 0; (candidate = e->ops->candidate(e->context, e->text, c->word, i)); i++) {
        if (!fits(e, c, candidate))
            continue;
        unsigned width = (unsigned)strlen(candidate) + 2;
        if (column + width >= TERMINAL_WIDTH) {
            write_string(e, "\n");
            column = 0;
        }
        write_string(e, candidate);
        write_string(e, "  ");
        column += width;
    }
    write_string(e, "\n");
}

static void key_tab(struct line_edit *e)
{
    if (!e->ops->candidate)
        return;
    struct completion c = {.word = e->cursor};
    while (c.word && e->text[c.word - 1] != ' ')
        c.word--;
    c.typed = e->cursor - c.word;
    completion_find(e, &c);
    bool grew =
        c.matches && c.length > c.typed && insert(e, c.common + c.typed, c.length - c.typed);
    if (c.matches == 1)
        grew |= insert(e, " ", 1);
    if (c.matches > 1 && !grew)
        completion_list(e, &c);
}

// --- keys; each leaves the drawing to its caller ---

static void key_home(struct line_edit *e)
{
    e->cursor = 0;
}

static void key_end(struct line_edit *e)
{
    e->cursor = e->length;
}

static void key_left(struct line_edit *e)
{
    e->cursor -= e->cursor > 0;
}

static void key_right(struct line_edit *e)
{
    e->cursor += e->cursor < e->length;
}

static void key_word_left(struct line_edit *e)
{
    e->cursor = word_left(e);
}

static void key_word_right(struct line_edit *e)
{
    e->cursor = word_right(e);
}

static void key_backspace(struct line_edit *e)
{
    if (e->cursor)
        delete_range(e, e->cursor - 1, e->cursor);
}

static void key_delete(struct line_edit *e)
{
    if (e->cursor < e->length)
        delete_range(e, e->cursor, e->cursor + 1);
}

static void key_kill_right(struct line_edit *e)
{
    delete_range(e, e->cursor, e->length);
}

static void key_kill_left(struct line_edit *e)
{
    delete_range(e, 0, e->cursor);
}

static void key_kill_word(struct line_edit *e)
{
    delete_range(e, word_left(e), e->cursor);
}

static void key_up(struct line_edit *e)
{
    if (e->history_back < history_kept(e))
        history_show(e, e->history_back + 1);
}

static void key_down(struct line_edit *e)
{
    if (e->history_back)
        history_show(e, e->history_back - 1);
}

static void key_clear(struct line_edit *e)
{
    write_string(e, "\033[H\033[2J");
}

static const struct {
    u8 byte;
    void (*act)(struct line_edit *e);
} byte_keys[] = {
    {CONTROL('A'), key_home},      {CONTROL('E'), key_end},
    {CONTROL('B'), key_left},      {CONTROL('F'), key_right},
    {CONTROL('H'), key_backspace}, {KEY_BACKSPACE, key_backspace},
    {CONTROL('D'), key_delete},    {CONTROL('K'), key_kill_right},
    {CONTROL('U'), key_kill_left}, {CONTROL('W'), key_kill_word},
    {CONTROL('P'), key_up},        {CONTROL('N'), key_down},
    {CONTROL('L'), key_clear},     {'\t', key_tab},
};

// What follows ESC, as VT220 and xterm have it.
static const struct {
    const char *sequence;
    void (*act)(struct line_edit *e);
} sequence_keys[] = {
    {"[A", key_up},
    {"[B", key_down},
    {"[C", key_right},
    {"[D", key_left},
    {"[H", key_home},
    {"[F", key_end},
    {"OA", key_up},
    {"OB", key_down},
    {"OC", key_right},
    {"OD", key_left},
    {"OH", key_home},
    {"OF", key_end},
    {"[1~", key_home},
    {"[7~", key_home},
    {"[4~", key_end},
    {"[8~", key_end},
    {"[3~", key_delete},
    {"[1;5D", key_word_left},
    {"[1;5C", key_word_right},
    {"b", key_word_left},
    {"f", key_word_right},
};

static void sequence_done(struct line_edit *e)
{
    e->escape = LINE_ESCAPE_NONE;
    e->sequence[e->sequence_length] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sequence_keys); i++) {
        if (strcmp(e->sequence, sequence_keys[i].sequence) == 0) {
            sequence_keys[i].act(e);
            line_edit_redraw(e);
        }
    }
}

// ESC and one character, or ESC [ or O, parameters, and a final character. Longer ones than any of
// ours are cut and thus match nothing.
static void sequence_byte(struct line_edit *e, u8 byte)
{
    bool starts = e->escape == LINE_ESCAPE_START;
    if (e->sequence_length < LINE_EDIT_PARAMETER - 1)
        e->sequence[e->sequence_length++] = (char)byte;
    if (starts && (byte == '[' || byte == 'O'))
        e->escape = LINE_ESCAPE_SEQUENCE;
    else if (starts || byte >= '@' || byte < ' ')
        sequence_done(e);
}

static void type_character(struct line_edit *e, char c)
{
    bool plain = e->cursor == e->length && e->length - e->first < room(e);
    if (!insert(e, &c, 1))
        return;
    if (plain)
        write_bytes(e, &c, 1);
    else
        line_edit_redraw(e);
}

static enum line_edit_result line_done(struct line_edit *e, const char *mark,
                                       enum line_edit_result result)
{
    if (e->cursor != e->length) {
        e->cursor = e->length;
        line_edit_redraw(e);
    }
    write_string(e, mark);
    write_string(e, "\n");
    history_add(e);
    return result;
}

static void control_byte(struct line_edit *e, u8 byte)
{
    for (size_t i = 0; i < ARRAY_SIZE(byte_keys); i++) {
        if (byte_keys[i].byte == byte) {
            byte_keys[i].act(e);
            line_edit_redraw(e);
        }
    }
}

enum line_edit_result line_edit_byte(struct line_edit *e, u8 byte)
{
    bool second = byte == '\n' && e->after_return;
    e->after_return = byte == '\r';
    if (second)
        return LINE_EDIT_MORE;
    if (byte == '\r' || byte == '\n')
        return line_done(e, "", LINE_EDIT_DONE);
    if (byte == CONTROL('C'))
        return line_done(e, "^C", LINE_EDIT_CANCELLED);
    if (byte == KEY_ESCAPE) {
        e->escape = LINE_ESCAPE_START;
        e->sequence_length = 0;
    } else if (e->escape != LINE_ESCAPE_NONE) {
        sequence_byte(e, byte);
    } else if (byte >= ' ' && byte < KEY_BACKSPACE) {
        type_character(e, (char)byte);
    } else {
        control_byte(e, byte);
    }
    return LINE_EDIT_MORE;
}
