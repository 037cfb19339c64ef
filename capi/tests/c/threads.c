/* Two calls with one session at a time, calls from callbacks, and freeing while a call is under way. */
#define _POSIX_C_SOURCE 200809L
#include "expect.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static bise_model *model = NULL;
static sem_t inside, go_on;

static bise_session *story(void) {
    bise_session *session = NULL;
    bise_generation_options *options = NULL;
    OK(bise_session_new(model, NULL, &session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    OK(bise_generation_options_new(&options, &error));
    OK(bise_generation_options_set_number(options, "n_predict", 40, &error));
    OK(bise_generation_options_set_number(options, "temp", 0, &error));
    OK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);
    return session;
}

/* Holds the session until the other thread has tried to use it. */
static int wait_inside(void *user_data, const char *piece, size_t n_bytes) {
    (void)user_data, (void)piece, (void)n_bytes;
    sem_post(&inside);
    sem_wait(&go_on);
    return 1;
}

static void *generate(void *session) {
    return (void *)(intptr_t)bise_session_generate(session, wait_inside, NULL, NULL);
}

static void busy(void) {
    bise_session *session = story();
    pthread_t thread;
    void *status = NULL;
    const float *logits = NULL;
    uint32_t token = 300;
    size_t n = 0;
    ASSERT(pthread_create(&thread, NULL, generate, session) == 0);
    sem_wait(&inside);
    EXPECT_MESSAGE(BISE_ERROR_BUSY, "in use by another call", bise_session_next(session, NULL, NULL, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_feed(session, "a", 1, 0, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_feed_tokens(session, &token, 1, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_prompt(session, &token, 1, NULL, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_start(session, NULL, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_rewind(session, 0, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_clear(session, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_reserve(session, 100, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_logits(session, &logits, &n, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_set_progress(session, NULL, NULL, &error));
    EXPECT(BISE_ERROR_BUSY, bise_decode_together(&session, &token, 1, &error));
    EXPECT(BISE_ERROR_BUSY, bise_next_together(&session, 1, NULL, &error));
    ASSERT(bise_session_position(session) == 0 && bise_session_finish(session) == BISE_FINISH_NONE);
    ASSERT(strcmp(bise_session_piece(session, NULL), "") == 0);
    sem_post(&go_on);
    pthread_join(thread, &status);
    ASSERT((intptr_t)status == BISE_ERROR_CANCELLED);
    OK(bise_session_next(session, NULL, NULL, &error));
    ASSERT(bise_session_free(session) == BISE_OK);
}

/* Freed by one thread in the middle of another's call, which ends as if nothing were. */
static void freed_in_use(void) {
    bise_session *session = story();
    pthread_t thread;
    void *status = NULL;
    ASSERT(pthread_create(&thread, NULL, generate, session) == 0);
    sem_wait(&inside);
    ASSERT(bise_session_free(session) == BISE_OK);
    EXPECT(BISE_ERROR_HANDLE, bise_session_next(session, NULL, NULL, &error));
    sem_post(&go_on);
    pthread_join(thread, &status);
    ASSERT((intptr_t)status == BISE_ERROR_CANCELLED);
}

static int call_back(void *session, const char *piece, size_t n_bytes) {
    (void)piece, (void)n_bytes;
    EXPECT(BISE_ERROR_BUSY, bise_session_next(session, NULL, NULL, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_generate(session, call_back, session, &error));
    EXPECT(BISE_ERROR_BUSY, bise_session_clear(session, &error));
    /* Other objects may be used. */
    bise_session *other = story();
    OK(bise_session_next(other, NULL, NULL, &error));
    ASSERT(bise_session_free(other) == BISE_OK);
    return 0;
}

static int call_back_from_progress(void *session, size_t n_done, size_t n_total) {
    (void)n_done, (void)n_total;
    EXPECT(BISE_ERROR_BUSY, bise_session_feed(session, "a", 1, 0, &error));
    /* Its own call, which has read all that there is to read: so the next one. */
    ASSERT(bise_session_cancel(session) == BISE_OK);
    return 0;
}

static int free_inside(void *session, const char *piece, size_t n_bytes) {
    (void)piece, (void)n_bytes;
    ASSERT(bise_session_free(session) == BISE_OK);
    return 1;
}

static void from_callbacks(void) {
    bise_session *session = story();
    OK(bise_session_generate(session, call_back, session, &error));
    ASSERT(bise_session_finish(session) == BISE_FINISH_LENGTH);
    OK(bise_session_set_progress(session, call_back_from_progress, session, &error));
    OK(bise_session_feed(session, "More", BISE_NUL_TERMINATED, 0, &error));
    EXPECT(BISE_ERROR_CANCELLED, bise_session_feed(session, "More", BISE_NUL_TERMINATED, 0, &error));
    ASSERT(bise_session_free(session) == BISE_OK);

    session = story();
    EXPECT(BISE_ERROR_CANCELLED, bise_session_generate(session, free_inside, session, &error));
    ASSERT(bise_session_free(session) == BISE_ERROR_HANDLE);
}

/* Many threads at one session: each piece goes to one of them, and nothing else comes than OK, DONE and BUSY. */
struct share {
    bise_session *session;
    size_t n_bytes;
};

static void *take_pieces(void *share_of) {
    struct share *share = share_of;
    const char *piece = NULL;
    size_t n_bytes = 0;
    for (;;) {
        bise_error *why = NULL;
        bise_status status = bise_session_next(share->session, &piece, &n_bytes, &why);
        bise_error_free(why);
        if (status == BISE_OK)
            share->n_bytes += n_bytes;
        else if (status != BISE_ERROR_BUSY)
            return (void *)(intptr_t)status;
    }
}

static void many_threads(void) {
    enum { N = 4 };
    bise_session *session = story();
    size_t n_bytes = 0, n = 0;
    while (bise_session_next(session, NULL, &n, NULL) == BISE_OK)
        n_bytes += n;
    bise_session_free(session);

    session = story();
    struct share shares[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        shares[i] = (struct share){session, 0};
        ASSERT(pthread_create(&threads[i], NULL, take_pieces, &shares[i]) == 0);
    }
    size_t taken = 0;
    for (int i = 0; i < N; i++) {
        void *status = NULL;
        pthread_join(threads[i], &status);
        ASSERT((intptr_t)status == BISE_DONE);
        taken += shares[i].n_bytes;
    }
    ASSERT(taken == n_bytes && n_bytes > 40);
    ASSERT(bise_session_free(session) == BISE_OK);
}

/* Threads with sessions of their own. */
static void *write_story(void *length) {
    bise_session *session = story();
    size_t n = 0;
    while (bise_session_next(session, NULL, &n, NULL) == BISE_OK)
        *(size_t *)length += n;
    bise_session_free(session);
    return NULL;
}

static void sessions_of_their_own(void) {
    enum { N = 3 };
    pthread_t threads[N];
    size_t lengths[N] = {0};
    for (int i = 0; i < N; i++)
        ASSERT(pthread_create(&threads[i], NULL, write_story, &lengths[i]) == 0);
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    ASSERT(lengths[0] > 40 && lengths[1] == lengths[0] && lengths[2] == lengths[0]);
}

/* Cancels one of two sessions that go on together, again and again: that one alone is told, and both texts are those they are alone. */
static void *cancel(void *session) {
    const struct timespec pause = {0, 1000000};
    for (int i = 0; i < 20; i++) {
        ASSERT(bise_session_cancel(session) == BISE_OK);
        sem_post(&inside);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void cancelled_among_others(void) {
    char alone[512] = "", texts[2][512] = {"", ""};
    bise_session *session = story(), *sessions[2] = {story(), story()};
    while (bise_session_next(session, NULL, NULL, NULL) == BISE_OK)
        strcat(alone, bise_session_piece(session, NULL));
    bise_session_free(session);

    pthread_t thread;
    bise_status status = BISE_OK;
    int n_cancelled = 0;
    ASSERT(pthread_create(&thread, NULL, cancel, sessions[1]) == 0);
    sem_wait(&inside);
    do {
        bise_status statuses[2];
        status = bise_next_together(sessions, 2, statuses, &error);
        ASSERT(status == BISE_OK || status == BISE_DONE || status == BISE_ERROR_CANCELLED);
        ASSERT((status == BISE_ERROR_CANCELLED) == (error != NULL));
        ASSERT(statuses[0] == BISE_OK || statuses[0] == BISE_DONE);
        ASSERT((statuses[1] == BISE_ERROR_CANCELLED) == (status == BISE_ERROR_CANCELLED));
        n_cancelled += status == BISE_ERROR_CANCELLED;
        bise_error_free(error);
        error = NULL;
        for (int i = 0; i < 2; i++)
            if (statuses[i] == BISE_OK)
                strcat(texts[i], bise_session_piece(sessions[i], NULL));
    } while (status != BISE_DONE);
    pthread_join(thread, NULL);
    ASSERT(n_cancelled >= 1);
    for (int i = 0; i < 2; i++) {
        ASSERT(strlen(alone) > 40 && strcmp(texts[i], alone) == 0);
        ASSERT(bise_session_free(sessions[i]) == BISE_OK);
    }
}

int main(void) {
    ASSERT(sem_init(&inside, 0, 0) == 0 && sem_init(&go_on, 0, 0) == 0);
    OK(bise_model_open_builtin(NULL, &model, &error));
    busy();
    freed_in_use();
    from_callbacks();
    many_threads();
    sessions_of_their_own();
    cancelled_among_others();
    ASSERT(bise_model_free(model) == BISE_OK);
    return 0;
}
