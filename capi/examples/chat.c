/* A conversation, one message a line: chat [-m model.gguf] [-o NAME=VALUE]... < messages */
#include "example.h"

/* Gathers an answer while it is printed. */
struct answer {
    char *text;
    size_t n_bytes, capacity;
};

static int on_piece(void *user_data, const char *piece, size_t n_bytes) {
    struct answer *answer = user_data;
    fwrite(piece, 1, n_bytes, stdout);
    fflush(stdout);
    if (answer->n_bytes + n_bytes >= answer->capacity) {
        size_t capacity = 2 * (answer->n_bytes + n_bytes + 1);
        char *text = realloc(answer->text, capacity);
        if (text == NULL)
            return 1; /* stops the generation */
        answer->text = text;
        answer->capacity = capacity;
    }
    memcpy(answer->text + answer->n_bytes, piece, n_bytes);
    answer->n_bytes += n_bytes;
    answer->text[answer->n_bytes] = '\0';
    return 0;
}

int main(int argc, char **argv) {
    const char *rest = NULL;
    char line[4096];
    bise_chat *chat = NULL;
    bise_session *session = NULL;
    bise_generation_options *options = NULL;

    bise_model *model = open_model(argc, argv, &rest);
    CHECK(bise_chat_new(model, NULL, &chat, &error));
    CHECK(bise_session_new(model, NULL, &session, &error));
    bise_model_free(model);
    CHECK(bise_generation_options_new(&options, &error));
    CHECK(bise_generation_options_set_number(options, "temp", 0, &error));
    CHECK(bise_generation_options_set_number(options, "n_predict", 64, &error));
    CHECK(bise_generation_options_set(options, "starts_text", "true", &error));

    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t n_kept = 0;
        struct answer answer = {NULL, 0, 0};
        line[strcspn(line, "\n")] = '\0';
        bise_message question = {"user", line};
        CHECK(bise_chat_add(chat, &question, 1, &error));
        /* Reads what is new in the conversation, and keeps the rest. */
        CHECK(bise_chat_feed(chat, session, 0, &n_kept, &error));
        fprintf(stderr, "kept %zu of %zu tokens\n", n_kept, bise_session_position(session));
        CHECK(bise_session_start(session, options, &error));
        CHECK(bise_session_generate(session, on_piece, &answer, &error));
        puts("");
        bise_message reply = {"assistant", answer.text != NULL ? answer.text : ""};
        CHECK(bise_chat_add(chat, &reply, 1, &error));
        free(answer.text);
    }
    bise_generation_options_free(options);
    bise_session_free(session);
    bise_chat_free(chat);
    return 0;
}
