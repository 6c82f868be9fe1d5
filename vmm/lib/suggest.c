// SPDX-License-Identifier: MIT
// The nearest known word. The distance is the "optimal string alignment" one, by dynamic
// programming over three rows.

#include "vmm/lib/suggest.h"
#include "vmm/lib/string.h"

#define WORD_MAX 32u // longer words have no near ones

static u8 min3(u8 a, u8 b, u8 c)
{
    u8 m = MIN(a, b);
    return MIN(m, c);
}

static unsigned edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    u8 rows[3][WORD_MAX + 1];
    u8 *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        above[j] = (u8)j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = (u8)i;
        for (size_t j = 1; j <= b_length; j++) {
            u8 change = (u8)(above[j - 1] + (a[i - 1] != b[j - 1]));
            row[j] = min3((u8)(above[j] + 1), (u8)(row[j - 1] + 1), change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], (u8)(before[j - 2] + 1));
        }
        u8 *free_row = before;
        before = above;
        above = row;
        row = free_row;
    }
    return above[b_length];
}

// How far a word may be off: a third of its letters, at least one.
void suggest_start(struct suggestion *s, const char *word)
{
    s->word = word;
    s->best = NULL;
    s->distance = (unsigned)strlen(word) / 3 + 1;
}

void suggest_offer(struct suggestion *s, const char *candidate)
{
    size_t word_length = strlen(s->word), length = strlen(candidate);
    if (!word_length || word_length > WORD_MAX || length > WORD_MAX)
        return;
    unsigned distance = edit_distance(s->word, word_length, candidate, length);
    if (distance >= length || distance > s->distance || (s->best && distance == s->distance))
        return;
    s->best = candidate;
    s->distance = distance;
}
