/* Several texts whose tokens pass through the model together: together [-m model.gguf] [-o NAME=VALUE]... */
#include "example.h"

enum { N = 3 };

int main(int argc, char **argv) {
    const char *rest = NULL;
    const char *prompts[N] = {"Once upon a time", "The old fisherman", "In the garden"};
    bise_session *sessions[N] = {NULL};
    char texts[N][1024] = {{0}};
    bise_generation_options *options = NULL;

    bise_model *model = open_model(argc, argv, &rest);
    CHECK(bise_generation_options_new(&options, &error));
    CHECK(bise_generation_options_set_number(options, "temp", 0, &error));
    CHECK(bise_generation_options_set_number(options, "n_predict", 24, &error));
    for (int i = 0; i < N; i++) {
        CHECK(bise_session_new(model, NULL, &sessions[i], &error));
        CHECK(bise_session_feed(sessions[i], prompts[i], BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
        CHECK(bise_session_start(sessions[i], options, &error));
    }
    bise_generation_options_free(options);
    bise_model_free(model);

    while (CHECK(bise_next_together(sessions, N, NULL, &error)) == BISE_OK)
        for (int i = 0; i < N; i++)
            strncat(texts[i], bise_session_piece(sessions[i], NULL), sizeof texts[i] - strlen(texts[i]) - 1);
    for (int i = 0; i < N; i++) {
        printf("%s%s\n", prompts[i], texts[i]);
        bise_session_free(sessions[i]);
    }
    return 0;
}
