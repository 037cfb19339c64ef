/* Adapters: set, scaled, taken away and freed. Arguments: an adapter for the built-in model, and a file that is none. */
#include "expect.h"

#include <math.h>

static bise_model *model = NULL;

/* The text that follows, which the caller frees. */
static char *story(bise_session *session) {
    bise_generation_options *options = NULL;
    const char *piece = NULL;
    char *text = calloc(1, 4096);
    ASSERT(text != NULL);
    OK(bise_generation_options_new(&options, &error));
    OK(bise_generation_options_set_number(options, "temp", 0, &error));
    OK(bise_generation_options_set_number(options, "n_predict", 24, &error));
    OK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);
    while (bise_session_next(session, &piece, NULL, &error) == BISE_OK)
        strncat(text, piece, 4095 - strlen(text));
    return text;
}

static bise_session *session_with(const bise_adapter *const *adapters, const float *scales, size_t n) {
    bise_session *session = NULL;
    OK(bise_session_new(model, NULL, &session, &error));
    OK(bise_session_set_adapters(session, adapters, scales, n, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    return session;
}

static char *story_with(const bise_adapter *const *adapters, const float *scales, size_t n) {
    bise_session *session = session_with(adapters, scales, n);
    char *text = story(session);
    ASSERT(bise_session_free(session) == BISE_OK);
    return text;
}

int main(int argc, char **argv) {
    ASSERT(argc == 3);
    bise_adapter *adapter = NULL, *none = (bise_adapter *)&model;
    OK(bise_model_open_builtin(NULL, &model, &error));
    OK(bise_adapter_load(model, argv[1], &adapter, &error));
    ASSERT(strcmp(bise_adapter_name(adapter), argv[1]) == 0 && bise_adapter_n_bytes(adapter) > 1000);
    char *warning = (char *)&model;
    ASSERT(bise_adapter_n_warnings(adapter) == 0);
    EXPECT(BISE_ERROR_NOT_FOUND, bise_adapter_warning(adapter, 0, &warning, &error));
    ASSERT(warning == NULL);

    const bise_adapter *one[] = {adapter}, *twice[] = {adapter, adapter};
    const float half = 0.5f, zero = 0, halves[] = {0.25f, 0.25f};
    char *plain = story_with(NULL, NULL, 0), *full = story_with(one, NULL, 1), *some = story_with(one, &half, 1);
    char *off = story_with(one, &zero, 1), *parts = story_with(twice, halves, 2);
    ASSERT(strcmp(plain, full) != 0 && strcmp(plain, some) != 0 && strcmp(full, some) != 0);
    ASSERT(strcmp(plain, off) == 0 && strlen(parts) > 0);
    printf("%s\n%s\n%s\n", plain, full, some);

    /* What was read is read again with others; a generation is over then. */
    bise_session *session = session_with(NULL, NULL, 0);
    size_t position = bise_session_position(session);
    OK(bise_session_set_adapters(session, one, NULL, 1, &error));
    ASSERT(bise_session_position(session) == position);
    char *again = story(session);
    ASSERT(strcmp(again, full) == 0);
    free(again);
    OK(bise_session_set_adapters(session, NULL, NULL, 0, &error));
    ASSERT(bise_session_finish(session) == BISE_FINISH_NONE);
    OK(bise_session_rewind(session, position - 1, &error));
    OK(bise_session_clear(session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    again = story(session);
    ASSERT(strcmp(again, plain) == 0);
    free(again);

    /* Errors change nothing. */
    const float nan = NAN;
    OK(bise_session_set_adapters(session, one, NULL, 1, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_set_adapters(session, one, &nan, 1, &error));
    EXPECT(BISE_ERROR_NULL, bise_session_set_adapters(session, NULL, NULL, 1, &error));
    const bise_adapter *nothing[] = {NULL}, *stale[] = {none}, *wrong[] = {(const bise_adapter *)session};
    EXPECT(BISE_ERROR_NULL, bise_session_set_adapters(session, nothing, NULL, 1, &error));
    EXPECT(BISE_ERROR_HANDLE, bise_session_set_adapters(session, stale, NULL, 1, &error));
    EXPECT(BISE_ERROR_HANDLE, bise_session_set_adapters(session, wrong, NULL, 1, &error));
    EXPECT_MESSAGE(BISE_ERROR_FILE, argv[2], bise_adapter_load(model, argv[2], &none, &error));
    ASSERT(none == NULL);
    EXPECT(BISE_ERROR_FILE, bise_adapter_load(model, "/nowhere/at/all.gguf", &none, &error));
    EXPECT(BISE_ERROR_NULL, bise_adapter_load(model, NULL, &none, &error));
    EXPECT(BISE_ERROR_NULL, bise_adapter_load(model, argv[1], NULL, &error));
    EXPECT(BISE_ERROR_NULL, bise_adapter_load(NULL, argv[1], &none, &error));

    /* A session keeps what it uses. */
    ASSERT(bise_adapter_free(adapter) == BISE_OK && bise_adapter_free(NULL) == BISE_OK);
    ASSERT(bise_adapter_free(adapter) == BISE_ERROR_HANDLE);
    ASSERT(bise_adapter_n_bytes(adapter) == 0 && bise_adapter_name(adapter)[0] == '\0');
    ASSERT(bise_adapter_n_warnings(adapter) == 0);
    EXPECT(BISE_ERROR_HANDLE, bise_adapter_warning(adapter, 0, &warning, &error));
    ASSERT(bise_model_free(model) == BISE_OK);
    OK(bise_session_clear(session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    again = story(session);
    ASSERT(strcmp(again, full) == 0);
    free(again);
    ASSERT(bise_session_free(session) == BISE_OK);
    free(plain), free(full), free(some), free(off), free(parts);
    return 0;
}
