// SPDX-License-Identifier: MIT
// drivers/framebuffer.c on a small screen of exactly its size, so that the sanitizer sees any pixel
// out of bounds.

#include "tests/unit/test.h"
#include "drivers/framebuffer.c"
#include <string.h>

#define COLUMNS 10
#define ROWS    4
#define WIDTH   (COLUMNS * FONT_WIDTH + 3)
#define HEIGHT  (ROWS * FONT_HEIGHT + 5)
#define PITCH   (WIDTH + 2)

static u8 font[PSF1_HEADER_SIZE + PSF_GLYPHS * FONT_HEIGHT];
static struct framebuffer fb;
static u32 *pixels;

static struct boot_framebuffer mode = {.size = HEIGHT * PITCH * 4,
                                       .width = WIDTH,
                                       .height = HEIGHT,
                                       .pitch = PITCH * 4,
                                       .format = BOOT_PIXEL_BGRX};

// Glyph c has all of its dots lit, but the blank none.
static void setup(void)
{
    memset(font, 0xff, sizeof(font));
    font[0] = PSF1_MAGIC0;
    font[1] = PSF1_MAGIC1;
    font[2] = 0;
    font[3] = FONT_HEIGHT;
    memset(font + PSF1_HEADER_SIZE + ' ' * FONT_HEIGHT, 0, FONT_HEIGHT);
    free(pixels);
    pixels = malloc(HEIGHT * PITCH * 4);
    CHECK(framebuffer_init(&fb, pixels, &mode, font, sizeof(font)));
}

static void write_text(const char *text)
{
    framebuffer_write(&fb, text, strlen(text));
    framebuffer_flush(&fb);
}

static const char *row(u32 n)
{
    static char text[COLUMNS + 1];
    memcpy(text, text_row(&fb, n), COLUMNS);
    return text;
}

static bool lit(u32 r, u32 c)
{
    return pixels[r * FONT_HEIGHT * PITCH + c * FONT_WIDTH] == PIXEL_INK;
}

TEST(text_is_drawn_and_wraps)
{
    setup();
    write_text("abc\r\n0123456789X");
    CHECK_STR(row(0), "abc       ");
    CHECK_STR(row(1), "0123456789");
    CHECK_STR(row(2), "X         ");
    CHECK(lit(0, 2) && !lit(0, 3) && lit(2, 0));
    CHECK(lit(2, 1)); // the cursor
}

TEST(a_full_line_wraps_only_when_more_comes)
{
    setup();
    write_text("0123456789\r\nx");
    CHECK_STR(row(1), "x         ");
}

TEST(scrolling_moves_lines_up)
{
    setup();
    write_text("a\r\nb\r\nc\r\nd\r\ne");
    CHECK_STR(row(0), "b         ");
    CHECK_STR(row(3), "e         ");
    for (int i = 0; i < 100; i++)
        write_text("\r\n");
    CHECK_STR(row(0), "          ");
    CHECK(!lit(0, 0));
}

TEST(line_editing_sequences)
{
    setup();
    write_text("abcdef\b\bX\r\033[2CY\033[K");
    CHECK_STR(row(0), "abY       ");
    write_text("\033[2J\033[Hq\033[3;4Hr\033[Ds\033[1A\033[9Dt\033[99;99Hu");
    CHECK_STR(row(0), "q         ");
    CHECK_STR(row(2), "   s      ");
    CHECK_STR(row(1), "t         ");
    CHECK_STR(row(3), "         u");
    write_text("\033[1K");
    CHECK_STR(row(3), "          ");
}

TEST(other_sequences_leave_no_trace)
{
    setup();
    write_text(
        "\033[1;31ma\033[0m\033[?25lb\033]0;title\007c\033(Bd\033[>1;2;3;4;5;6;7;8;9me\xc3\xa9");
    CHECK_STR(row(0), "abcde?    ");
    write_text("\033]x\033\\f\a\177");
    CHECK_STR(row(0), "abcde?f   ");
}

TEST(tabs_and_backspace_stay_inside)
{
    setup();
    write_text("\b\b\ba\tb\t\t\tc");
    CHECK_STR(row(0), "a       bc");
    write_text("\033[999999999999D\033[99999999999999A");
    CHECK_EQ(fb.column, 0);
    CHECK_EQ(fb.row, 0);
    write_text("\033[4294967295;4294967295H\033[0;0H");
    CHECK_EQ(fb.column, 0);
}

TEST(any_bytes_are_harmless)
{
    setup();
    srand(1);
    for (int i = 0; i < 300000; i++) {
        static const char likely_bytes[] = "\033\033\033[[[;?0129ABCDHJKfm\r\n\b\t";
        char c = (char)(rand() % 2 ? rand() : likely_bytes[rand() % (int)sizeof(likely_bytes)]);
        framebuffer_write(&fb, &c, 1);
        CHECK(fb.row < fb.rows && fb.column <= fb.columns);
        if (i % 1000 == 0)
            framebuffer_flush(&fb);
    }
}

TEST(odd_modes_and_fonts_are_refused)
{
    setup();
    struct boot_framebuffer bad = mode;
    bad.format = BOOT_PIXEL_NONE;
    CHECK(!framebuffer_init(&fb, pixels, &bad, font, sizeof(font)));
    bad = mode;
    bad.pitch = 0;
    CHECK(!framebuffer_init(&fb, pixels, &bad, font, sizeof(font)));
    bad = mode;
    bad.size -= 4 * PITCH;
    CHECK(!framebuffer_init(&fb, pixels, &bad, font, sizeof(font)));
    bad = mode;
    bad.width = FONT_WIDTH - 1;
    CHECK(!framebuffer_init(&fb, pixels, &bad, font, sizeof(font)));
    CHECK(!framebuffer_init(&fb, NULL, &mode, font, sizeof(font)));
    CHECK(!framebuffer_init(&fb, pixels, &mode, font, 100));
    font[3] = 8;
    CHECK(!framebuffer_init(&fb, pixels, &mode, font, sizeof(font)));
    write_text("nothing happens");
}
