// SPDX-License-Identifier: MIT
// Intrusive, circular, doubly linked list. An empty list's head points to itself, as does a node
// that is on no list.
#pragma once

#include "vmm/lib/types.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name)                                                                            \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

// Put node in front of `at`; in front of the head is the list's end.
static inline void list_insert(struct list *at, struct list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
    list_insert(head, node);
}

static inline void list_prepend(struct list *head, struct list *node)
{
    list_insert(head->next, node);
}

// Unlink; harmless on a node that is on no list.
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, tmp, head)                                                          \
    for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)
