/* What sessions do: the same bits alone and together, rewinding, prompts that share a beginning, stop texts, log-probabilities, a full context. */
#include "expect.h"

#include <math.h>

static bise_model *model = NULL;

static bise_generation_options *greedy(int n_predict) {
    bise_generation_options *options = NULL;
    OK(bise_generation_options_new(&options, &error));
    OK(bise_generation_options_set_number(options, "temp", 0, &error));
    OK(bise_generation_options_set_number(options, "n_predict", n_predict, &error));
    OK(bise_generation_options_set(options, "ignore_eos", "true", &error));
    return options;
}

static bise_session *session_with(const char *name, double value) {
    bise_session_options *options = NULL;
    bise_session *session = NULL;
    OK(bise_session_options_new(&options, &error));
    if (name != NULL)
        OK(bise_session_options_set_number(options, name, value, &error));
    OK(bise_session_new(model, options, &session, &error));
    ASSERT(bise_session_options_free(options) == BISE_OK);
    return session;
}

/* Generates to the end. The caller frees the text. */
static char *rest(bise_session *session) {
    const char *piece = NULL;
    size_t n = 0, length = 0;
    char *text = calloc(1, 1 << 16);
    ASSERT(text != NULL);
    bise_status status = BISE_OK;
    while ((status = bise_session_next(session, &piece, &n, &error)) == BISE_OK) {
        ASSERT(n > 0 && piece[n] == '\0' && strlen(piece) == n && length + n < 1 << 16);
        ASSERT(bise_session_piece(session, NULL) == piece);
        memcpy(text + length, piece, n);
        length += n;
    }
    EXPECT(BISE_DONE, status);
    /* Again and again. */
    EXPECT(BISE_DONE, bise_session_next(session, &piece, &n, &error));
    ASSERT(n == 0 && piece[0] == '\0');
    return text;
}

static void feed(bise_session *session, const char *text) {
    OK(bise_session_feed(session, text, BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
}

static char *story(bise_session *session, const char *prompt, int n_predict) {
    bise_generation_options *options = greedy(n_predict);
    feed(session, prompt);
    OK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);
    return rest(session);
}

static void finishes(void) {
    bise_session *session = session_with(NULL, 0);
    char *whole = story(session, "Once upon a time", 24);
    ASSERT(bise_session_finish(session) == BISE_FINISH_LENGTH);

    /* A stop text ends it, and is not shown. */
    bise_generation_options *options = greedy(24);
    OK(bise_generation_options_add_stop(options, " Hugo", BISE_NUL_TERMINATED, &error));
    OK(bise_session_clear(session, &error));
    ASSERT(bise_session_finish(session) == BISE_FINISH_NONE && bise_session_position(session) == 0);
    feed(session, "Once upon a time");
    OK(bise_session_start(session, options, &error));
    char *stopped = rest(session);
    ASSERT(bise_session_finish(session) == BISE_FINISH_STOP);
    char *stop = strstr(whole, " Hugo");
    ASSERT(stop != NULL && strlen(stopped) == (size_t)(stop - whole) && strncmp(stopped, whole, strlen(stopped)) == 0);
    free(stopped);

    /* None wanted. */
    OK(bise_generation_options_set_number(options, "n_predict", 0, &error));
    OK(bise_session_start(session, options, &error));
    char *none = rest(session);
    ASSERT(none[0] == '\0' && bise_session_finish(session) == BISE_FINISH_LENGTH);
    free(none);
    ASSERT(bise_generation_options_free(options) == BISE_OK);

    /* A text that is generated in two parts is the one that is generated in one. */
    OK(bise_session_clear(session, &error));
    char *half = story(session, "Once upon a time", 10);
    options = greedy(14);
    OK(bise_session_start(session, options, &error));
    char *other = rest(session);
    ASSERT(strncmp(whole, half, strlen(half)) == 0 && strcmp(whole + strlen(half), other) == 0);
    free(half);
    free(other);
    free(whole);
    bise_generation_options_free(options);
    ASSERT(bise_session_free(session) == BISE_OK);
}

static void ceiling(void) {
    bise_model_options *options = NULL;
    bise_model *other = NULL;
    OK(bise_model_options_new(&options, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "max_memory", bise_model_options_set(options, "max_memory", "little", &error));
    OK(bise_model_options_set(options, "max_memory", "1M", &error));
    EXPECT(BISE_ERROR_MEMORY, bise_model_open_builtin(options, &other, &error));
    ASSERT(other == NULL);
    OK(bise_model_options_set(options, "max_memory", "2G", &error));
    OK(bise_model_options_set(options, "stream_weights", "true", &error));
    OK(bise_model_open_builtin(options, &other, &error));
    ASSERT(bise_model_options_free(options) == BISE_OK && bise_model_free(other) == BISE_OK);
}

static void full_context(void) {
    bise_model_options *options = NULL;
    bise_model *kept = model;
    OK(bise_model_options_new(&options, &error));
    OK(bise_model_options_set_number(options, "sliding_window", 0, &error));
    OK(bise_model_open_builtin(options, &model, &error));
    ASSERT(bise_model_options_free(options) == BISE_OK && bise_model_sliding_window(model) == 0);
    bise_session *session = session_with("ctx_size", 16);
    ASSERT(bise_session_n_ctx(session) == 16);
    char *text = story(session, "Once upon a time", -1);
    ASSERT(bise_session_finish(session) == BISE_FINISH_CONTEXT && bise_session_position(session) == 16 && text[0] != '\0');
    free(text);
    EXPECT_MESSAGE(BISE_ERROR_CONTEXT_FULL, "context", bise_session_feed(session, "More", BISE_NUL_TERMINATED, 0, &error));
    uint32_t tokens[20] = {1};
    EXPECT(BISE_ERROR_CONTEXT_FULL, bise_session_prompt(session, tokens, 20, NULL, &error));
    ASSERT(bise_session_position(session) == 16);
    ASSERT(bise_session_free(session) == BISE_OK && bise_model_free(model) == BISE_OK);
    model = kept;
}

static void rewinds(void) {
    bise_session *session = session_with(NULL, 0);
    const float *logits = NULL;
    const uint32_t *tokens = NULL;
    size_t n = 0, n_kept = 0;
    feed(session, "Once upon a time");
    OK(bise_session_logits(session, &logits, &n, &error));
    ASSERT(n == bise_model_n_vocab(model));
    float *before = malloc(n * sizeof *before);
    ASSERT(before != NULL);
    memcpy(before, logits, n * sizeof *before);
    OK(bise_session_tokens(session, &tokens, &n, &error));
    uint32_t prompt[32];
    ASSERT(n < 16 && n == bise_session_position(session));
    memcpy(prompt, tokens, n * sizeof *prompt);

    /* The same tokens again: nothing to read, unless something came behind them. */
    OK(bise_session_prompt(session, prompt, n, &n_kept, &error));
    ASSERT(n_kept == n);
    OK(bise_session_feed_tokens(session, &prompt[1], 2, &error));
    ASSERT(bise_session_position(session) == n + 2);
    OK(bise_session_prompt(session, prompt, n, &n_kept, &error));
    ASSERT(n_kept == n - 1 && bise_session_position(session) == n);
    size_t n_vocab = 0;
    OK(bise_session_logits(session, &logits, &n_vocab, &error));
    ASSERT(memcmp(before, logits, n_vocab * sizeof *before) == 0);
    OK(bise_session_rewind(session, n - 1, &error));
    EXPECT(BISE_ERROR_NOT_FOUND, bise_session_logits(session, &logits, &n_vocab, &error));
    OK(bise_session_feed_tokens(session, &prompt[n - 1], 1, &error));
    OK(bise_session_logits(session, &logits, &n_vocab, &error));
    ASSERT(memcmp(before, logits, n_vocab * sizeof *before) == 0);
    free(before);
    ASSERT(bise_session_free(session) == BISE_OK);
}

static void log_probs(void) {
    bise_session *session = session_with(NULL, 0);
    bise_generation_options *options = greedy(8);
    const bise_chosen *chosen = NULL, *top = NULL;
    const char *piece = NULL;
    size_t n_chosen = 0, n_top = 0, n_all = 0;
    OK(bise_generation_options_set_number(options, "n_probs", 3, &error));
    feed(session, "Once upon a time");
    OK(bise_session_start(session, options, &error));
    while (bise_session_next(session, &piece, NULL, &error) == BISE_OK) {
        OK(bise_session_chosen(session, &chosen, &n_chosen, &error));
        for (size_t i = 0; i < n_chosen; i++) {
            OK(bise_session_chosen_top(session, i, &top, &n_top, &error));
            /* Greedily, the likeliest is the one that was chosen. */
            ASSERT(n_top == 3 && top[0].token == chosen[i].token && top[0].log_prob == chosen[i].log_prob);
            ASSERT(chosen[i].log_prob <= 0 && top[1].log_prob <= top[0].log_prob && top[2].log_prob <= top[1].log_prob);
        }
        EXPECT(BISE_ERROR_NOT_FOUND, bise_session_chosen_top(session, n_chosen, &top, &n_top, &error));
        n_all += n_chosen;
    }
    ASSERT(n_all == 8);
    OK(bise_generation_options_set_number(options, "n_probs", -1, &error));
    OK(bise_session_start(session, options, &error));
    OK(bise_session_next(session, &piece, NULL, &error));
    OK(bise_session_chosen(session, &chosen, &n_chosen, &error));
    ASSERT(n_chosen > 0 && isnan(chosen[0].log_prob));
    bise_generation_options_free(options);
    ASSERT(bise_session_free(session) == BISE_OK);
}

static void together(void) {
    bise_session *sessions[3] = {session_with(NULL, 0), session_with(NULL, 0), session_with(NULL, 0)}, *alone = session_with(NULL, 0);
    bise_status statuses[3];
    uint32_t tokens[3] = {300, 301, 302};
    const float *a = NULL, *b = NULL;
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        feed(sessions[i], "Once upon a time");
    feed(alone, "Once upon a time");
    OK(bise_decode_together(sessions, tokens, 3, &error));
    OK(bise_session_feed_tokens(alone, &tokens[1], 1, &error));
    OK(bise_session_logits(sessions[1], &a, &n, &error));
    OK(bise_session_logits(alone, &b, &n, &error));
    ASSERT(memcmp(a, b, n * sizeof *a) == 0);
    tokens[2] = 4000000000u;
    EXPECT(BISE_ERROR_ARGUMENT, bise_decode_together(sessions, tokens, 3, &error));
    /* One that is there twice, and one without a generation. */
    bise_session *twice[2] = {sessions[0], sessions[0]};
    EXPECT(BISE_ERROR_BUSY, bise_next_together(twice, 2, NULL, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "session 0", bise_next_together(sessions, 3, statuses, &error));

    /* Of different lengths: those that are over stay so. */
    for (int i = 0; i < 3; i++) {
        bise_generation_options *options = greedy(4 * (i + 1));
        OK(bise_session_start(sessions[i], options, &error));
        bise_generation_options_free(options);
    }
    int n_passes = 0;
    bise_status status;
    while ((status = bise_next_together(sessions, 3, statuses, &error)) == BISE_OK) {
        n_passes++;
        for (int i = 0; i < 3; i++)
            ASSERT(statuses[i] == (n_passes <= 4 * (i + 1) ? BISE_OK : BISE_DONE));
    }
    EXPECT(BISE_DONE, status);
    ASSERT(n_passes == 12 && statuses[2] == BISE_DONE);
    /* Of different models. */
    bise_model *kept = model;
    OK(bise_model_open_builtin(NULL, &model, &error));
    bise_session *foreign = session_with(NULL, 0);
    feed(foreign, "Once");
    bise_session *both[2] = {alone, foreign};
    tokens[0] = tokens[1] = 300;
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "different", bise_decode_together(both, tokens, 2, &error));
    bise_model_free(model);
    model = kept;
    OK(bise_decode_together(NULL, NULL, 0, &error));
    bise_session_free(foreign);
    bise_session_free(alone);
    for (int i = 0; i < 3; i++)
        ASSERT(bise_session_free(sessions[i]) == BISE_OK);
}

static int stop_at_third(void *user_data, const char *piece, size_t n_bytes) {
    (void)piece, (void)n_bytes;
    return ++*(int *)user_data == 3;
}

static int stop_reading(void *user_data, size_t n_done, size_t n_total) {
    ASSERT(n_total == 40 && n_done <= n_total);
    return ++*(int *)user_data == 2;
}

static void log_line(void *user_data, const char *message) {
    ASSERT(message[0] != '\0');
    ++*(int *)user_data;
}

static void callbacks(void) {
    bise_session *session = session_with("ubatch_size", 8);
    uint32_t tokens[40];
    int n = 0;
    for (int i = 0; i < 40; i++)
        tokens[i] = 300 + (uint32_t)i;
    OK(bise_session_set_progress(session, stop_reading, &n, &error));
    EXPECT_MESSAGE(BISE_ERROR_CANCELLED, "16 of 40", bise_session_feed_tokens(session, tokens, 40, &error));
    ASSERT(n == 2 && bise_session_position(session) == 16);
    OK(bise_session_set_progress(session, NULL, NULL, &error));
    OK(bise_session_feed_tokens(session, tokens + 16, 24, &error));
    n = 0;
    bise_generation_options *endless = greedy(-1);
    OK(bise_session_start(session, endless, &error));
    bise_generation_options_free(endless);
    EXPECT_MESSAGE(BISE_ERROR_CANCELLED, "callback", bise_session_generate(session, stop_at_third, &n, &error));
    ASSERT(n == 3);
    OK(bise_session_next(session, NULL, NULL, &error));
    ASSERT(bise_session_free(session) == BISE_OK);

    /* As many lines as there are warnings. */
    bise_model_options *options = NULL;
    bise_model *other = NULL;
    uint64_t n_bytes = 0;
    n = 0;
    OK(bise_model_options_new(&options, &error));
    OK(bise_model_options_set_log(options, log_line, &n, &error));
    OK(bise_model_open_builtin(options, &other, &error));
    ASSERT((size_t)n == bise_model_n_warnings(other));
    OK(bise_model_memory(other, NULL, 64, &n_bytes, &error));
    ASSERT(n_bytes > 1000000);
    bise_model_options_free(options);
    ASSERT(bise_model_free(other) == BISE_OK);
}

static void cancels(void) {
    bise_session *session = session_with(NULL, 0);
    /* Used up by the call that it ends. */
    ASSERT(bise_session_cancel(session) == BISE_OK);
    EXPECT(BISE_ERROR_CANCELLED, bise_session_feed(session, "Once", BISE_NUL_TERMINATED, 0, &error));
    ASSERT(bise_session_position(session) == 0);
    char *text = story(session, "Once upon a time", 6);
    OK(bise_session_clear(session, &error));
    bise_generation_options *options = greedy(6);
    feed(session, "Once upon a time");
    OK(bise_session_start(session, options, &error));
    bise_generation_options_free(options);
    const char *piece = NULL;
    OK(bise_session_next(session, &piece, NULL, &error));
    size_t length = strlen(piece);
    ASSERT(strncmp(text, piece, length) == 0);
    ASSERT(bise_session_cancel(session) == BISE_OK);
    EXPECT(BISE_ERROR_CANCELLED, bise_session_next(session, &piece, NULL, &error));
    char *others = rest(session);
    ASSERT(strcmp(text + length, others) == 0);
    free(others);
    free(text);
    ASSERT(bise_session_free(session) == BISE_OK);
}

/* The model is freed before what was made of it. */
static void order(void) {
    bise_model *kept = model;
    bise_chat *chat = NULL;
    bise_embedder *embedder = NULL;
    OK(bise_model_open_builtin(NULL, &model, &error));
    bise_session *session = session_with(NULL, 0);
    OK(bise_chat_new(model, "mistral-v1", &chat, &error));
    OK(bise_embedder_new(model, &embedder, &error));
    ASSERT(bise_model_free(model) == BISE_OK);
    model = kept;
    char *text = story(session, "Once upon a time", 4);
    ASSERT(text[0] != '\0');
    free(text);
    bise_message message = {"user", "Hello"};
    OK(bise_chat_add(chat, &message, 1, &error));
    OK(bise_chat_feed(chat, session, 0, NULL, &error));
    ASSERT(bise_session_position(session) > 2);
    bise_embedder_free(embedder);
    bise_chat_free(chat);
    bise_session_free(session);
}

int main(void) {
    OK(bise_model_open_builtin(NULL, &model, &error));
    finishes();
    ceiling();
    full_context();
    rewinds();
    log_probs();
    together();
    callbacks();
    cancels();
    order();
    ASSERT(bise_model_free(model) == BISE_OK);
    return 0;
}
