/* Once warm, decoding takes no memory: not in 1,000 steps of a session with memory in advance or a window, and no more in 10,000 of them. */
#define _GNU_SOURCE
#include "expect.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>

/* The allocator of glibc, counted. These take the place of its own in the whole process, the library included. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static atomic_size_t n_allocations, n_live_bytes;

static void *count(void *memory) {
    n_allocations++;
    n_live_bytes += malloc_usable_size(memory);
    return memory;
}

void *malloc(size_t size) { return count(__libc_malloc(size)); }

void *calloc(size_t n, size_t size) { return count(__libc_calloc(n, size)); }

void *realloc(void *old, size_t size) {
    n_live_bytes -= malloc_usable_size(old);
    return count(__libc_realloc(old, size));
}

void *memalign(size_t alignment, size_t size) { return count(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    *memory = memalign(alignment, size);
    return *memory != NULL ? 0 : ENOMEM;
}

void free(void *memory) {
    n_live_bytes -= malloc_usable_size(memory);
    __libc_free(memory);
}

static bise_session *start(int window, int n_reserved) {
    bise_model_options *how = NULL;
    bise_session_options *kept = NULL;
    bise_generation_options *what = NULL;
    bise_model *model = NULL;
    bise_session *session = NULL;
    OK(bise_model_options_new(&how, &error));
    OK(bise_model_options_set_number(how, "sliding_window", window, &error));
    OK(bise_model_options_set_number(how, "threads", 2, &error));
    OK(bise_model_open_builtin(how, &model, &error));
    OK(bise_session_options_new(&kept, &error));
    OK(bise_session_options_set_number(kept, "ctx_size", 2048, &error));
    OK(bise_session_new(model, kept, &session, &error));
    OK(bise_session_reserve(session, n_reserved, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    OK(bise_generation_options_new(&what, &error));
    OK(bise_generation_options_set(what, "ignore_eos", "true", &error));
    OK(bise_generation_options_set_number(what, "seed", 5, &error));
    /* The buffers for drafts grow as long as the lists of drafts do, and how long those are depends on the time that passes take. */
    OK(bise_generation_options_set(what, "spec_type", "none", &error));
    OK(bise_generation_options_add_stop(what, "never said", BISE_NUL_TERMINATED, &error));
    OK(bise_session_start(session, what, &error));
    bise_generation_options_free(what);
    bise_session_options_free(kept);
    bise_model_options_free(how);
    bise_model_free(model);
    return session;
}

static void pieces(bise_session *session, int n) {
    const char *piece = NULL;
    size_t n_bytes = 0;
    for (int i = 0; i < n; i++)
        OK(bise_session_next(session, &piece, &n_bytes, &error));
}

/* Chooses the likeliest token itself. */
static void decode(bise_session *session, int n) {
    const float *logits = NULL;
    size_t n_vocab = 0;
    for (int i = 0; i < n; i++) {
        uint32_t best = 0;
        OK(bise_session_logits(session, &logits, &n_vocab, &error));
        for (size_t token = 0; token < n_vocab; token++)
            if (logits[token] > logits[best])
                best = (uint32_t)token;
        OK(bise_session_feed_tokens(session, &best, 1, &error));
    }
}

int main(void) {
    static char buffer[BUFSIZ];
    size_t before = n_allocations;
    /* stdio would allocate one. */
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    bise_session *session = start(0, 2048);
    ASSERT(n_allocations > before + 50 && n_live_bytes > 100000);

    /* Without a window, with memory in advance. */
    pieces(session, 20);
    before = n_allocations;
    pieces(session, 1000);
    printf("%zu allocations in 1000 pieces\n", n_allocations - before);
    ASSERT(n_allocations == before);
    OK(bise_session_clear(session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    decode(session, 20);
    before = n_allocations;
    decode(session, 1000);
    printf("%zu allocations in 1000 tokens of the caller's choice\n", n_allocations - before);
    ASSERT(n_allocations == before);
    ASSERT(bise_session_free(session) == BISE_OK);

    /* With one: in advance there is the list of tokens, and keys and values of the window. */
    session = start(128, 13000);
    pieces(session, 1000);
    before = n_allocations;
    pieces(session, 1000);
    printf("%zu allocations in 1000 pieces with a window\n", n_allocations - before);
    size_t bytes = n_live_bytes;
    pieces(session, 10000);
    printf("%zu bytes more after 10000 pieces with a window\n", n_live_bytes - bytes);
    ASSERT(n_allocations == before && n_live_bytes == bytes);
    ASSERT(bise_session_free(session) == BISE_OK);
    return 0;
}
