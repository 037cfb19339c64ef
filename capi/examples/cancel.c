/* One thread generates, another stops it, and it goes on later: cancel [-m model.gguf] [-o NAME=VALUE]... */
#define _POSIX_C_SOURCE 200809L
#include "example.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static atomic_size_t n_pieces;

static int on_piece(void *user_data, const char *piece, size_t n_bytes) {
    (void)user_data, (void)piece, (void)n_bytes;
    n_pieces++;
    return 0;
}

static void *generate(void *session) {
    bise_error *why = NULL;
    bise_status status = bise_session_generate(session, on_piece, NULL, &why);
    fprintf(stderr, "%s: %s\n", bise_status_name(status), bise_error_message(why));
    bise_error_free(why);
    return (void *)(size_t)(status == BISE_ERROR_CANCELLED);
}

int main(int argc, char **argv) {
    const char *rest = NULL, *piece = NULL;
    bise_session *session = NULL;
    bise_generation_options *options = NULL;
    pthread_t thread;
    void *was_cancelled = NULL;

    bise_model *model = open_model(argc, argv, &rest);
    CHECK(bise_session_new(model, NULL, &session, &error));
    bise_model_free(model);
    CHECK(bise_generation_options_new(&options, &error));
    CHECK(bise_generation_options_set(options, "ignore_eos", "true", &error));
    CHECK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    CHECK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);

    if (pthread_create(&thread, NULL, generate, session) != 0)
        return 1;
    while (n_pieces < 5)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    bise_session_cancel(session);
    pthread_join(thread, &was_cancelled);
    /* Nothing is lost: the next piece follows the last one. */
    CHECK(bise_session_next(session, &piece, NULL, &error));
    printf("%s after some pieces, then went on\n", was_cancelled ? "cancelled" : "not cancelled");
    bise_session_free(session);
    return was_cancelled ? 0 : 1;
}
