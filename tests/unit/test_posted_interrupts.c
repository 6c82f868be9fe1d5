// SPDX-License-Identifier: MIT
// io/posted_interrupts.c: the descriptor as the manual has it, and that nothing is lost between a
// thread that posts and one that takes.
#include "tests/unit/test.h"
#include "io/posted_interrupts.c"
#include <pthread.h>

#define BATCHES 30000
#define BATCH   3
#define PATIENT 200000000ull // looks

static struct posted_interrupts posted;

TEST(the_descriptor_is_the_hardware_s)
{
    posted = (struct posted_interrupts){.requests = {0}};
    CHECK_EQ(sizeof(posted), 64);
    CHECK_EQ((u64)&posted % 64, 0);
    CHECK(posted_add(&posted, 0x20));
    CHECK(!posted_add(&posted, 0xff));
    CHECK_EQ(((u8 *)&posted)[4], 1);     // bit 32
    CHECK_EQ(((u8 *)&posted)[31], 0x80); // bit 255
    CHECK_EQ(((u8 *)&posted)[32], 1);    // outstanding notification
    u32 requests[8] = {[1] = 2};
    CHECK(posted_take(&posted, requests));
    CHECK_EQ(requests[1], 3);
    CHECK_EQ(requests[7], 1u << 31);
    CHECK_EQ(posted.control, 0);
    CHECK(!posted_take(&posted, requests));
    CHECK(posted_add(&posted, 0x20)); // again a first one
}

static bool notified, done, lost;

static bool all_taken(void)
{
    for (u64 looks = 0; looks < PATIENT; looks++)
        if (!__atomic_load_n(&posted.requests[0], __ATOMIC_SEQ_CST))
            return true;
    return false;
}

// A few at a time: one that is left behind would else be taken with the next.
static void *post(void *unused)
{
    for (unsigned i = 0; i < BATCHES && !lost; i++) {
        for (unsigned j = 0; j < BATCH; j++)
            if (posted_add(&posted, (u8)j))
                __atomic_store_n(&notified, true, __ATOMIC_SEQ_CST);
        lost = !all_taken();
    }
    __atomic_store_n(&done, true, __ATOMIC_SEQ_CST);
    return unused;
}

// As a CPU: it looks when it was notified, and only then.
TEST(what_is_posted_is_taken_or_notified_of)
{
    pthread_t poster;
    posted = (struct posted_interrupts){.requests = {0}};
    CHECK_EQ(pthread_create(&poster, NULL, post, NULL), 0);
    for (bool last = false; !last;) {
        last = __atomic_load_n(&done, __ATOMIC_SEQ_CST);
        u32 requests[8] = {0};
        if (__atomic_exchange_n(&notified, false, __ATOMIC_SEQ_CST))
            posted_take(&posted, requests);
    }
    pthread_join(poster, NULL);
    CHECK(!lost);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(posted.requests[i], 0);
}
