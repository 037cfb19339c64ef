/* Continues a text: generate [-m model.gguf] [-o NAME=VALUE]... [text] */
#include "example.h"

int main(int argc, char **argv) {
    const char *prompt = NULL, *piece = NULL;
    size_t n_bytes = 0;
    bise_session *session = NULL;
    bise_generation_options *options = NULL;

    if (bise_abi_version() != BISE_ABI_VERSION) {
        fprintf(stderr, "built for another version of the library than %s\n", bise_version());
        return 1;
    }
    bise_model *model = open_model(argc, argv, &prompt);
    if (prompt == NULL)
        prompt = "Once upon a time";
    fprintf(stderr, "bise %s, %zu threads, %s\n", bise_version(), bise_model_n_threads(model), bise_model_isa(model));

    CHECK(bise_session_new(model, NULL, &session, &error));
    /* The session keeps what it needs of the model. */
    bise_model_free(model);

    CHECK(bise_generation_options_new(&options, &error));
    CHECK(bise_generation_options_set_number(options, "temp", 0, &error));
    CHECK(bise_generation_options_set_number(options, "n_predict", 48, &error));
    CHECK(bise_generation_options_add_stop(options, "\n\n", BISE_NUL_TERMINATED, &error));

    CHECK(bise_session_feed(session, prompt, BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    CHECK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);

    fputs(prompt, stdout);
    while (CHECK(bise_session_next(session, &piece, &n_bytes, &error)) == BISE_OK) {
        fwrite(piece, 1, n_bytes, stdout);
        fflush(stdout);
    }
    puts("");
    fprintf(stderr, "%zu tokens read, ended by %d\n", bise_session_position(session), (int)bise_session_finish(session));
    bise_session_free(session);
    return 0;
}
