// SPDX-License-Identifier: MIT
// A text console on a linear framebuffer of 32 bits a pixel. It keeps the text and what is drawn
// apart: writing changes text only; flushing draws the cells that differ, so video memory is never
// read and scrolling costs what changed. Understands \r \n \b \t and the ANSI sequences that move
// the cursor and erase; swallows the others.
#pragma once

#include "vmm/lib/types.h"
#include "boot/boot_info.h"

#define FRAMEBUFFER_COLUMNS_MAX 256
#define FRAMEBUFFER_ROWS_MAX    128
#define FRAMEBUFFER_PARAMETERS  4

#define FONT_WIDTH  8
#define FONT_HEIGHT 16

enum framebuffer_escape { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI, ESCAPE_STRING };

struct framebuffer {
    u32 *pixels;
    u32 pitch; // in pixels
    u32 scale; // pixels a font dot, each way
    u32 columns, rows;
    const u8 *glyphs; // 256 of FONT_HEIGHT bytes
    u32 column, row;  // of the cursor; column may be `columns` after the last one was filled
    u32 top;          // line of `text` that is the first row: scrolling moves it
    enum framebuffer_escape escape;
    unsigned parameters[FRAMEBUFFER_PARAMETERS], parameter_count;
    u8 text[FRAMEBUFFER_ROWS_MAX][FRAMEBUFFER_COLUMNS_MAX];
    u8 drawn[FRAMEBUFFER_ROWS_MAX][FRAMEBUFFER_COLUMNS_MAX];
    u32 drawn_column, drawn_row; // where the cursor was drawn
};

// pixels: the framebuffer, mapped. False: no usable mode or font; the other functions then do
// nothing.
bool framebuffer_init(struct framebuffer *fb, void *pixels, const struct boot_framebuffer *mode,
                      const u8 *psf, size_t psf_size);
void framebuffer_write(struct framebuffer *fb, const char *bytes, size_t count);
void framebuffer_flush(struct framebuffer *fb);

// The font that the build put into the image.
extern const u8 font_psf[], font_psf_end[];
