/* Sessions saved and restored: they go on bit for bit, and every damage is an error. */
#define _POSIX_C_SOURCE 200809L
#include "expect.h"

#include <unistd.h>

static bise_model *model = NULL;
static char path[] = "/tmp/bise-saved-XXXXXX";

static bise_generation_options *sampled(int n_predict) {
    bise_generation_options *options = NULL;
    OK(bise_generation_options_new(&options, &error));
    OK(bise_generation_options_set_number(options, "seed", 7, &error));
    OK(bise_generation_options_set(options, "ignore_eos", "true", &error));
    OK(bise_generation_options_set_number(options, "n_predict", n_predict, &error));
    return options;
}

static void start(bise_session *session, int n_predict) {
    bise_generation_options *options = sampled(n_predict);
    OK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);
}

/* Appends to a text of up to 4096 bytes. */
static void rest(bise_session *session, char *text) {
    const char *piece = NULL;
    while (bise_session_next(session, &piece, NULL, &error) == BISE_OK) {
        ASSERT(strlen(text) + strlen(piece) < 4096);
        strcat(text, piece);
    }
}

static bise_session *fed(void) {
    bise_session *session = NULL;
    OK(bise_session_new(model, NULL, &session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    return session;
}

static void goes_on(void) {
    static char whole[4096], parts[4096];
    const float *a = NULL, *b = NULL;
    const uint32_t *tokens = NULL;
    size_t n = 0, n_tokens = 0;
    bise_session *session = fed(), *restored = NULL, *other = NULL;

    /* What was read, before anything is generated. */
    OK(bise_session_save(session, path, &error));
    OK(bise_session_restore(model, path, NULL, &restored, &error));
    OK(bise_session_tokens(restored, &tokens, &n_tokens, &error));
    ASSERT(n_tokens == bise_session_position(session));
    OK(bise_session_logits(session, &a, &n, &error));
    OK(bise_session_logits(restored, &b, &n, &error));
    ASSERT(memcmp(a, b, n * sizeof *a) == 0);
    bise_session_free(restored);

    /* In the middle of a generation, with random numbers. */
    start(session, 20);
    rest(session, whole);
    bise_session_free(session);
    session = fed();
    start(session, 8);
    rest(session, parts);
    OK(bise_session_save(session, path, &error));
    bise_session_free(session);
    OK(bise_session_restore(model, path, NULL, &restored, &error));
    /* Saved again as it is. */
    OK(bise_session_save(restored, path, &error));
    bise_session_free(restored);
    OK(bise_session_restore(model, path, NULL, &restored, &error));
    start(restored, 12);
    rest(restored, parts);
    ASSERT(strcmp(whole, parts) == 0);
    bise_session_free(restored);

    /* What was generated counts as read when something else follows. */
    session = fed();
    start(session, 8);
    parts[0] = '\0';
    rest(session, parts);
    OK(bise_session_save(session, path, &error));
    OK(bise_session_restore(model, path, NULL, &other, &error));
    OK(bise_session_feed(session, "More", BISE_NUL_TERMINATED, 0, &error));
    OK(bise_session_feed(other, "More", BISE_NUL_TERMINATED, 0, &error));
    ASSERT(bise_session_position(session) == bise_session_position(other));
    OK(bise_session_logits(session, &a, &n, &error));
    OK(bise_session_logits(other, &b, &n, &error));
    ASSERT(memcmp(a, b, n * sizeof *a) == 0);
    bise_session_free(other);
    bise_session_free(session);
}

static void refusals(void) {
    bise_session *session = fed(), *restored = NULL;
    bise_session_options *options = NULL;
    bise_model_options *how = NULL;
    bise_model *other = NULL;
    OK(bise_session_save(session, path, &error));
    bise_session_free(session);

    OK(bise_session_options_new(&options, &error));
    OK(bise_session_options_set(options, "cache_type_k", "q8_0", &error));
    EXPECT_MESSAGE(BISE_ERROR_FILE, "q8_0", bise_session_restore(model, path, options, &restored, &error));
    ASSERT(restored == NULL);
    OK(bise_session_options_set(options, "cache_type_k", "f16", &error));
    OK(bise_session_options_set_number(options, "ctx_size", 2, &error));
    EXPECT(BISE_ERROR_CONTEXT_FULL, bise_session_restore(model, path, options, &restored, &error));
    bise_session_options_free(options);
    OK(bise_model_options_new(&how, &error));
    OK(bise_model_options_set_number(how, "sliding_window", 64, &error));
    OK(bise_model_open_builtin(how, &other, &error));
    bise_model_options_free(how);
    EXPECT_MESSAGE(BISE_ERROR_FILE, "window", bise_session_restore(other, path, NULL, &restored, &error));
    bise_model_free(other);

    /* Cut short, one byte changed, and something else. */
    static char bytes[1 << 22];
    FILE *file = fopen(path, "rb");
    ASSERT(file != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    ASSERT(fclose(file) == 0 && n > 1000 && n < sizeof bytes);
    for (size_t i = 0; i < 8; i++) {
        file = fopen(path, "wb");
        ASSERT(file != NULL && fwrite(bytes, 1, n * i / 8, file) == n * i / 8 && fclose(file) == 0);
        EXPECT(BISE_ERROR_FILE, bise_session_restore(model, path, NULL, &restored, &error));
    }
    for (size_t i = 0; i < 16; i++) {
        bytes[n * i / 16] ^= 1;
        file = fopen(path, "wb");
        ASSERT(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
        EXPECT(BISE_ERROR_FILE, bise_session_restore(model, path, NULL, &restored, &error));
        bytes[n * i / 16] ^= 1;
    }
    EXPECT_MESSAGE(BISE_ERROR_FILE, "no-such", bise_session_restore(model, "no-such-session", NULL, &restored, &error));
    session = fed();
    EXPECT_MESSAGE(BISE_ERROR_FILE, "/no/such", bise_session_save(session, "/no/such/folder/session", &error));
    bise_session_free(session);
}

int main(void) {
    bise_model_options *how = NULL;
    int descriptor = mkstemp(path);
    ASSERT(descriptor >= 0 && close(descriptor) == 0);
    OK(bise_model_options_new(&how, &error));
    OK(bise_model_options_set_number(how, "sliding_window", 0, &error));
    OK(bise_model_open_builtin(how, &model, &error));
    bise_model_options_free(how);
    goes_on();
    refusals();
    ASSERT(bise_model_free(model) == BISE_OK);
    ASSERT(remove(path) == 0);
    return 0;
}
