// SPDX-License-Identifier: MIT
// A text console on a linear framebuffer. Sequences are those of ECMA-48 section 8.3 that line
// editors use. Text may come from a guest: whatever it says, the cursor stays inside.

#include "drivers/framebuffer.h"
#include "vmm/lib/string.h"

#define PSF1_MAGIC0      0x36
#define PSF1_MAGIC1      0x04
#define PSF1_HEADER_SIZE 4
#define PSF_GLYPHS       256

// Greys look the same in RGBX and BGRX.
#define PIXEL_INK   0x00d0d0d0u
#define PIXEL_PAPER 0x00000000u

#define WIDTH_BEFORE_SCALING 2048u // wider than this, a dot is two pixels, and so on
#define PARAMETER_MAX        9999u
#define TAB_STOP             8u
#define CHAR_ESCAPE          0x1b
#define CHAR_BELL            0x07
#define CHAR_REPLACEMENT     '?'

// --- drawing ---

static u8 *text_row(struct framebuffer *fb, u32 row)
{
    return fb->text[(fb->top + row) % fb->rows];
}

static void draw_cell(struct framebuffer *fb, u32 row, u32 column, bool inverse)
{
    const u8 *glyph = fb->glyphs + (size_t)fb->drawn[row][column] * FONT_HEIGHT;
    u32 *line = fb->pixels + (size_t)row * FONT_HEIGHT * fb->scale * fb->pitch +
                (size_t)column * FONT_WIDTH * fb->scale;
    for (u32 y = 0; y < FONT_HEIGHT * fb->scale; y++, line += fb->pitch) {
        unsigned dots = glyph[y / fb->scale];
        if (inverse)
            dots = ~dots;
        for (u32 x = 0; x < FONT_WIDTH * fb->scale; x++)
            line[x] = dots & (0x80u >> (x / fb->scale)) ? PIXEL_INK : PIXEL_PAPER;
    }
}

static u32 cursor_column(const struct framebuffer *fb)
{
    return MIN(fb->column, fb->columns - 1);
}

void framebuffer_flush(struct framebuffer *fb)
{
    if (!fb->pixels)
        return;
    u32 old_row = fb->drawn_row, old_column = fb->drawn_column;
    fb->drawn_row = fb->row;
    fb->drawn_column = cursor_column(fb);
    for (u32 row = 0; row < fb->rows; row++) {
        const u8 *text = text_row(fb, row);
        for (u32 column = 0; column < fb->columns; column++) {
            bool was_cursor = row == old_row && column == old_column;
            bool is_cursor = row == fb->drawn_row && column == fb->drawn_column;
            if (text[column] == fb->drawn[row][column] && was_cursor == is_cursor)
                continue;
            fb->drawn[row][column] = text[column];
            draw_cell(fb, row, column, is_cursor);
        }
    }
}

static void clear_pixels(struct framebuffer *fb, const struct boot_framebuffer *mode)
{
    for (u32 y = 0; y < mode->height; y++)
        for (u32 x = 0; x < mode->width; x++)
            fb->pixels[(size_t)y * fb->pitch + x] = PIXEL_PAPER;
}

static const u8 *psf_glyphs(const u8 *psf, size_t size)
{
    if (size < PSF1_HEADER_SIZE + PSF_GLYPHS * FONT_HEIGHT || psf[0] != PSF1_MAGIC0 ||
        psf[1] != PSF1_MAGIC1 || psf[3] != FONT_HEIGHT)
        return NULL;
    return psf + PSF1_HEADER_SIZE;
}

static bool mode_is_usable(const struct boot_framebuffer *mode)
{
    return mode->format != BOOT_PIXEL_NONE && mode->pitch % sizeof(u32) == 0 &&
           mode->pitch / sizeof(u32) >= mode->width && mode->size / mode->pitch >= mode->height;
}

bool framebuffer_init(struct framebuffer *fb, void *pixels, const struct boot_framebuffer *mode,
                      const u8 *psf, size_t psf_size)
{
    fb->pixels = NULL;
    fb->glyphs = psf_glyphs(psf, psf_size);
    if (!pixels || !mode->pitch || !mode_is_usable(mode) || !fb->glyphs)
        return false;
    fb->pitch = mode->pitch / (u32)sizeof(u32);
    fb->scale = 1 + (mode->width - 1) / WIDTH_BEFORE_SCALING;
    fb->columns = MIN(mode->width / (FONT_WIDTH * fb->scale), FRAMEBUFFER_COLUMNS_MAX);
    fb->rows = MIN(mode->height / (FONT_HEIGHT * fb->scale), FRAMEBUFFER_ROWS_MAX);
    if (!fb->columns || !fb->rows)
        return false;
    fb->column = fb->row = fb->top = fb->drawn_column = fb->drawn_row = 0;
    fb->escape = ESCAPE_NONE;
    memset(fb->text, ' ', sizeof(fb->text));
    memset(fb->drawn, ' ', sizeof(fb->drawn));
    fb->pixels = pixels;
    clear_pixels(fb, mode);
    return true;
}

// --- text ---

static void erase(struct framebuffer *fb, u32 row, u32 from, u32 to)
{
    if (from < to)
        memset(text_row(fb, row) + from, ' ', to - from);
}

static void next_row(struct framebuffer *fb)
{
    if (fb->row + 1 < fb->rows) {
        fb->row++;
        return;
    }
    fb->top = (fb->top + 1) % fb->rows;
    erase(fb, fb->row, 0, fb->columns);
}

static void put_glyph(struct framebuffer *fb, u8 c)
{
    if (fb->column >= fb->columns) {
        fb->column = 0;
        next_row(fb);
    }
    text_row(fb, fb->row)[fb->column++] = c;
}

static void put_control(struct framebuffer *fb, u8 c)
{
    switch (c) {
    case '\n':
        next_row(fb);
        break;
    case '\r':
        fb->column = 0;
        break;
    case '\b':
        fb->column = cursor_column(fb);
        fb->column -= fb->column > 0;
        break;
    case '\t':
        fb->column = MIN(ALIGN_DOWN(fb->column, TAB_STOP) + TAB_STOP, fb->columns - 1);
        break;
    case CHAR_ESCAPE:
        fb->escape = ESCAPE_START;
        break;
    default: // others leave no trace
        break;
    }
}

// --- sequences: each gets its first parameter, 0 if there is none ---

static void csi_up(struct framebuffer *fb, u32 n)
{
    fb->row -= MIN(MAX(n, 1u), fb->row);
}

static void csi_down(struct framebuffer *fb, u32 n)
{
    fb->row = MIN(fb->row + MAX(n, 1u), fb->rows - 1);
}

static void csi_right(struct framebuffer *fb, u32 n)
{
    fb->column = MIN(fb->column + MAX(n, 1u), fb->columns - 1);
}

static void csi_left(struct framebuffer *fb, u32 n)
{
    fb->column = cursor_column(fb);
    fb->column -= MIN(MAX(n, 1u), fb->column);
}

static void csi_to(struct framebuffer *fb, u32 n)
{
    u32 column = fb->parameter_count > 1 ? fb->parameters[1] : 0;
    fb->row = MIN(MAX(n, 1u), fb->rows) - 1;
    fb->column = MIN(MAX(column, 1u), fb->columns) - 1;
}

// 0: from the cursor to the end; 1: from the start to the cursor; 2: all.
static void csi_erase_line(struct framebuffer *fb, u32 n)
{
    u32 cursor = cursor_column(fb);
    erase(fb, fb->row, n == 0 ? cursor : 0, n == 1 ? cursor + 1 : fb->columns);
}

static void csi_erase_screen(struct framebuffer *fb, u32 n)
{
    csi_erase_line(fb, n);
    for (u32 row = 0; row < fb->rows; row++)
        if ((row < fb->row && n != 0) || (row > fb->row && n != 1))
            erase(fb, row, 0, fb->columns);
}

static const struct {
    char final;
    void (*act)(struct framebuffer *fb, u32 n);
} csi_functions[] = {
    {'A', csi_up}, {'B', csi_down}, {'C', csi_right},        {'D', csi_left},
    {'H', csi_to}, {'f', csi_to},   {'J', csi_erase_screen}, {'K', csi_erase_line},
};

static void csi_byte(struct framebuffer *fb, u8 c)
{
    unsigned *parameter = &fb->parameters[fb->parameter_count - 1];
    if (c >= '0' && c <= '9') {
        *parameter = MIN(*parameter * 10 + (c - '0'), PARAMETER_MAX);
    } else if (c == ';') {
        if (fb->parameter_count < FRAMEBUFFER_PARAMETERS)
            fb->parameters[fb->parameter_count++] = 0;
    } else if (c >= '@' && c <= '~') {
        fb->escape = ESCAPE_NONE;
        for (size_t i = 0; i < ARRAY_SIZE(csi_functions); i++)
            if (csi_functions[i].final == (char)c)
                csi_functions[i].act(fb, fb->parameters[0]);
    } else if (c < ' ') {
        fb->escape = ESCAPE_NONE;
        put_control(fb, c);
    } // else a private marker or an intermediate: of sequences that are not ours
}

static void escape_byte(struct framebuffer *fb, u8 c)
{
    switch (fb->escape) {
    case ESCAPE_START:
        fb->escape = c == '[' ? ESCAPE_CSI : c == ']' ? ESCAPE_STRING : ESCAPE_NONE;
        if (c >= '(' && c <= '/') // a character set: one more byte
            fb->escape = ESCAPE_START;
        fb->parameter_count = 1;
        fb->parameters[0] = 0;
        break;
    case ESCAPE_CSI:
        csi_byte(fb, c);
        break;
    default: // a string, such as a window's title: until BEL, ESC or the line's end
        if (c == CHAR_BELL || c == '\n' || c == '\r')
            fb->escape = ESCAPE_NONE;
        else if (c == CHAR_ESCAPE)
            fb->escape = ESCAPE_START;
        break;
    }
}

static void put_byte(struct framebuffer *fb, u8 c)
{
    if (fb->escape != ESCAPE_NONE)
        escape_byte(fb, c);
    else if (c < ' ')
        put_control(fb, c);
    else if (c < 0x7f)
        put_glyph(fb, c);
    else if (c >= 0xc0) // the first byte of a UTF-8 character; those that follow it are dropped
        put_glyph(fb, CHAR_REPLACEMENT);
}

void framebuffer_write(struct framebuffer *fb, const char *bytes, size_t count)
{
    if (!fb->pixels)
        return;
    for (size_t i = 0; i < count; i++)
        put_byte(fb, (u8)bytes[i]);
}
