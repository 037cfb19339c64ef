/* mkdtemp */
#define _POSIX_C_SOURCE 200809L
/* Freed and foreign handles, bad texts, bad files, bad options: each is an error that says what is wrong. */
#include "expect.h"

static bise_model *model = NULL;

static void handles(void) {
    bise_session *session = NULL, *freed = NULL;
    bise_model *other = NULL;
    bise_error *first = NULL;
    char *text = NULL;
    int on_stack = 0;

    OK(bise_session_new(model, NULL, &session, &error));
    freed = session;
    ASSERT(bise_session_free(session) == BISE_OK);
    ASSERT(bise_session_free(freed) == BISE_ERROR_HANDLE);
    EXPECT_MESSAGE(BISE_ERROR_HANDLE, "was freed", bise_session_clear(freed, &error));
    EXPECT_MESSAGE(BISE_ERROR_HANDLE, "was freed", bise_session_next(freed, NULL, NULL, &error));
    EXPECT_MESSAGE(BISE_ERROR_HANDLE, "expected a bise_session", bise_session_start(freed, NULL, &error));
    ASSERT(bise_session_cancel(freed) == BISE_ERROR_HANDLE);
    ASSERT(bise_session_position(freed) == 0);
    /* A new session is not taken for the old one. */
    OK(bise_session_new(model, NULL, &session, &error));
    ASSERT(session != freed);
    EXPECT(BISE_ERROR_HANDLE, bise_session_clear(freed, &error));
    /* Of another type, and no handle at all. */
    EXPECT_MESSAGE(BISE_ERROR_HANDLE, "another type", bise_session_clear((bise_session *)model, &error));
    EXPECT_MESSAGE(BISE_ERROR_HANDLE, "no handle", bise_session_clear((bise_session *)&on_stack, &error));
    EXPECT(BISE_ERROR_HANDLE, bise_session_clear((bise_session *)1, &error));
    ASSERT(bise_model_n_vocab((bise_model *)session) == 0);
    ASSERT(bise_session_free(session) == BISE_OK);
    /* The other objects. */
    OK(bise_model_open_builtin(NULL, &other, &error));
    ASSERT(bise_model_free(other) == BISE_OK && bise_model_free(other) == BISE_ERROR_HANDLE);
    EXPECT(BISE_ERROR_HANDLE, bise_session_new(other, NULL, &session, &error));
    ASSERT(session == NULL && bise_model_isa(other) == NULL);
    ASSERT(bise_session_clear(NULL, &first) == BISE_ERROR_NULL);
    ASSERT(bise_error_free(first) == BISE_OK && bise_error_free(first) == BISE_ERROR_HANDLE);
    ASSERT(bise_error_status(first) == BISE_ERROR_HANDLE && bise_error_message(first)[0] == '\0');
    OK(bise_model_metadata(model, "general.architecture", &text, NULL, &error));
    ASSERT(bise_string_free(text) == BISE_OK && bise_string_free(text) == BISE_ERROR_HANDLE);
    ASSERT(bise_string_free((char *)&on_stack) == BISE_ERROR_HANDLE);
}

static void options(void) {
    bise_model_options *how = NULL;
    bise_session_options *kept = NULL;
    bise_generation_options *what = NULL;
    char *value = NULL;
    OK(bise_model_options_new(&how, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "expected one of threads", bise_model_options_set(how, "treads", "2", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "whole number", bise_model_options_set(how, "threads", "two", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_model_options_set_number(how, "threads", 1.5, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_model_options_set_number(how, "threads", -7, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "true or false", bise_model_options_set(how, "mmap", "maybe", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "avx512vnni", bise_model_options_set(how, "isa", "sse9", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "TYPE:VALUE", bise_model_options_set(how, "override-kv", "a=b", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "cpu_mask", bise_model_options_set(how, "cpu_mask", "xyz", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "-1 to 3", bise_model_options_set_number(how, "prio", 4, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "0 to 100", bise_model_options_set_number(how, "poll", 101, &error));
    EXPECT(BISE_ERROR_UTF8, bise_model_options_set(how, "thr\xff", "2", &error));
    OK(bise_model_options_set_number(how, "poll", 0, &error));
    OK(bise_model_options_set(how, "--override-kv", "llama.context_length=int:77", &error));
    bise_model *other = NULL;
    OK(bise_model_open_builtin(how, &other, &error));
    ASSERT(bise_model_n_ctx_train(other) == 77);
    bise_model_free(other);
    /* The threads of another model, which is gone by then. */
    bise_model_options *one = NULL;
    OK(bise_model_options_new(&one, &error));
    OK(bise_model_options_set_number(one, "threads", 1, &error));
    OK(bise_model_open_builtin(one, &other, &error));
    OK(bise_model_options_share_threads(how, other, &error));
    bise_model_free(other);
    EXPECT(BISE_ERROR_HANDLE, bise_model_options_share_threads(how, other, &error));
    OK(bise_model_open_builtin(how, &other, &error));
    ASSERT(bise_model_n_threads(other) == 1);
    bise_model_free(other);
    bise_model_options_free(one);
    OK(bise_model_options_set(how, "override_kv", "llama.block_count=int:-1", &error));
    EXPECT_MESSAGE(BISE_ERROR_FILE, "llama.block_count", bise_model_open_builtin(how, &other, &error));
    ASSERT(other == NULL);
    ASSERT(bise_model_options_free(how) == BISE_OK && bise_model_options_free(how) == BISE_ERROR_HANDLE);
    EXPECT(BISE_ERROR_HANDLE, bise_model_open_builtin(how, &other, &error));

    OK(bise_session_options_new(&kept, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "q8_0", bise_session_options_set(kept, "cache_type_k", "q9", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_options_set_number(kept, "ubatch_size", 0, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_options_set_number(kept, "ctx_size", 1e300, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "expected one of ctx_size", bise_session_options_set(kept, "temp", "1", &error));
    ASSERT(bise_session_options_free(kept) == BISE_OK);

    OK(bise_generation_options_new(&what, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "top_k", bise_generation_options_set(what, "top_k", "many", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "tempp", bise_generation_options_set(what, "tempp", "1", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "finite", bise_generation_options_set(what, "temp", "NaN", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_generation_options_add_stop(what, "", 0, &error));
    EXPECT(BISE_ERROR_UTF8, bise_generation_options_add_stop(what, "\x80", 1, &error));
    EXPECT(BISE_ERROR_NOT_FOUND, bise_generation_options_get(what, "tempp", &value, &error));
    ASSERT(value == NULL);
    /* What is set is what is told, and the defaults are llama.cpp's. */
    OK(bise_generation_options_get(what, "top_k", &value, &error));
    ASSERT(strcmp(value, "40") == 0);
    bise_string_free(value);
    OK(bise_generation_options_set_number(what, "top-p", 0.9, &error));
    OK(bise_generation_options_get(what, "top_p", &value, &error));
    ASSERT(strcmp(value, "0.9") == 0);
    bise_string_free(value);
    ASSERT(bise_generation_options_free(what) == BISE_OK);
}

static void write_file(const char *path, const char *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    ASSERT(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
}

static void files(void) {
    bise_model *other = NULL;
    char folder[] = "/tmp/bise-hostile-XXXXXX", path[128];
    ASSERT(mkdtemp(folder) != NULL);
    EXPECT_MESSAGE(BISE_ERROR_FILE, "no-such", bise_model_open("no-such.gguf", NULL, &other, &error));
    ASSERT(other == NULL);
    EXPECT(BISE_ERROR_FILE, bise_model_open("", NULL, &other, &error));
    EXPECT(BISE_ERROR_FILE, bise_model_open(folder, NULL, &other, &error));
    snprintf(path, sizeof path, "%s/empty.gguf", folder);
    write_file(path, "", 0);
    EXPECT_MESSAGE(BISE_ERROR_FILE, "empty.gguf", bise_model_open(path, NULL, &other, &error));
    remove(path);
    /* A header that promises more than there is, in a file whose name is not UTF-8. */
    snprintf(path, sizeof path, "%s/cut\xff.gguf", folder);
    write_file(path, "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 24);
    EXPECT_MESSAGE(BISE_ERROR_FILE, "cut", bise_model_open(path, NULL, &other, &error));
    remove(path);
    remove(folder);
}

static void texts(void) {
    bise_session *session = NULL;
    uint32_t tokens[64], bad = 4000000000u;
    size_t n = 0;
    char *text = NULL, piece[8];
    const float *logits = NULL;

    /* Buffers that are too small, and the number they need. */
    EXPECT_MESSAGE(BISE_ERROR_BUFFER, "room for 0", bise_tokenize(model, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, NULL, 0, &n, &error));
    ASSERT(n > 3 && n < 10);
    size_t needed = n;
    tokens[0] = 12345;
    EXPECT(BISE_ERROR_BUFFER, bise_tokenize(model, "Once upon a time", 16, BISE_ADD_SPECIAL, tokens, needed - 1, &n, &error));
    ASSERT(n == needed && tokens[0] == 12345);
    OK(bise_tokenize(model, "Once upon a time", 16, BISE_ADD_SPECIAL, tokens, needed, &n, &error));
    ASSERT(n == needed && tokens[0] == (uint32_t)bise_token_bos(model));
    OK(bise_detokenize(model, tokens, n, 0, &text, &n, &error));
    ASSERT(strcmp(text, "Once upon a time") == 0 && n == 16);
    bise_string_free(text);
    OK(bise_tokenize(model, NULL, 0, 0, NULL, 0, &n, &error));
    ASSERT(n == 0);
    /* A NUL in a text is a character like others. */
    OK(bise_tokenize(model, "a\0b", 3, 0, tokens, 64, &n, &error));
    OK(bise_detokenize(model, tokens, n, 0, &text, &n, &error));
    ASSERT(n == 3 && memcmp(text, "a\0b", 4) == 0);
    bise_string_free(text);
    EXPECT_MESSAGE(BISE_ERROR_UTF8, "byte at 1", bise_tokenize(model, "a\xc3(", 3, 0, tokens, 64, &n, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_tokenize(model, "a", 1, 64, tokens, 64, &n, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_tokenize(model, "a", SIZE_MAX - 1, 0, tokens, 64, &n, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "4000000000", bise_detokenize(model, &bad, 1, 0, &text, NULL, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_token_piece(model, bad, piece, 8, &n, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_detokenize(model, tokens, SIZE_MAX / 2, 0, &text, NULL, &error));
    ASSERT(bise_token_id(model, "no token spells this", BISE_NUL_TERMINATED) == -1);
    ASSERT(bise_token_is_end(model, (uint32_t)bise_token_eos(model)) && bise_token_is_control(model, (uint32_t)bise_token_bos(model)));
    EXPECT_MESSAGE(BISE_ERROR_NOT_FOUND, "no.such", bise_model_metadata(model, "no.such", &text, NULL, &error));
    EXPECT(BISE_ERROR_NOT_FOUND, bise_model_metadata_key(model, bise_model_n_metadata(model), &text, &error));

    OK(bise_session_new(model, NULL, &session, &error));
    EXPECT(BISE_ERROR_NOT_FOUND, bise_session_start(session, NULL, &error));
    EXPECT(BISE_ERROR_NOT_FOUND, bise_session_logits(session, &logits, &n, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "bise_session_start", bise_session_next(session, NULL, NULL, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_feed(session, "", 0, 0, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_feed_tokens(session, &bad, 1, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_rewind(session, 1, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_session_prompt(session, NULL, 0, NULL, &error));
    ASSERT(bise_session_position(session) == 0);
    ASSERT(bise_session_free(session) == BISE_OK);
}

static void chats(void) {
    bise_chat *chat = NULL;
    char *text = NULL, *notes = NULL;
    EXPECT_MESSAGE(BISE_ERROR_CHAT, "mistral-v3", bise_chat_new(model, "no-such-template", &chat, &error));
    EXPECT_MESSAGE(BISE_ERROR_CHAT, "line 1", bise_chat_new(model, "{% if %}", &chat, &error));
    ASSERT(chat == NULL);
    OK(bise_chat_new(model, "mistral-v3", &chat, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "not JSON", bise_chat_add_json(chat, "{", &error));
    EXPECT(BISE_ERROR_CHAT, bise_chat_add_json(chat, "[{\"role\": \"user\", \"content\": \"a\"}, 5]", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_chat_set_tools(chat, "{}", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_chat_set_arguments(chat, "[]", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_chat_truncate(chat, 1, &error));
    bise_message messages[] = {{"system", "Be brief."}, {"user", "What is </s>?"}};
    OK(bise_chat_add(chat, messages, 2, &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_chat_render(chat, 64, &text, NULL, NULL, &error));
    OK(bise_chat_render(chat, 0, &text, NULL, &notes, &error));
    ASSERT(strcmp(text, "<s>[INST]Be brief.\n\nWhat is </s>?[/INST]") == 0 && notes[0] == '\0');
    bise_string_free(text);
    bise_string_free(notes);
    OK(bise_chat_set_tools(chat, "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {}}}]", &error));
    OK(bise_chat_render(chat, 0, &text, NULL, NULL, &error));
    ASSERT(strstr(text, "[AVAILABLE_TOOLS]") != NULL);
    bise_string_free(text);
    text = NULL;
    bise_chat *without = NULL;
    OK(bise_chat_new(model, "mistral-v1", &without, &error));
    OK(bise_chat_add(without, messages, 2, &error));
    OK(bise_chat_set_tools(without, "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {}}}]", &error));
    EXPECT_MESSAGE(BISE_ERROR_CHAT, "tools", bise_chat_render(without, 0, &text, NULL, NULL, &error));
    bise_chat_free(without);
    OK(bise_chat_set_tools(chat, NULL, &error));
    OK(bise_chat_render(chat, BISE_CHAT_NO_ANSWER, &text, NULL, NULL, &error));
    bise_string_free(text);
    messages[0].role = "<s>";
    OK(bise_chat_add(chat, messages, 1, &error));
    EXPECT(BISE_ERROR_CHAT, bise_chat_render(chat, 0, &text, NULL, NULL, &error));
    ASSERT(text == NULL);
    OK(bise_chat_truncate(chat, 0, &error));
    ASSERT(bise_chat_free(chat) == BISE_OK && bise_chat_free(chat) == BISE_ERROR_HANDLE);

    /* A template that has a place for tools and variables; messages as JSON; one to go on with. */
    OK(bise_chat_new(model, "{{ tools | tojson }}|{{ mood }}|{% for m in messages %}{{ m.content }};{% endfor %}", &chat, &error));
    OK(bise_chat_set_tools(chat, "[{\"name\": \"add\"}]", &error));
    OK(bise_chat_set_arguments(chat, "{\"mood\": \"good\"}", &error));
    OK(bise_chat_add_json(chat, "{\"role\": \"user\", \"content\": \"a\"}", &error));
    OK(bise_chat_add_json(chat, "[{\"role\": \"assistant\", \"content\": \"b\"}]", &error));
    OK(bise_chat_render(chat, 0, &text, NULL, NULL, &error));
    ASSERT(strcmp(text, "[{\"name\": \"add\"}]|good|a;b;") == 0);
    bise_string_free(text);
    OK(bise_chat_render(chat, BISE_CHAT_CONTINUE, &text, NULL, NULL, &error));
    ASSERT(strcmp(text, "[{\"name\": \"add\"}]|good|a;b") == 0);
    bise_string_free(text);
    ASSERT(bise_chat_free(chat) == BISE_OK);
}

static void embeddings(void) {
    bise_embedder *embedder = NULL;
    float vector[4096];
    const char *texts[] = {"one", "\xff"};
    size_t lengths[] = {3, 1};
    size_t n_embd = bise_model_n_embd(model);
    ASSERT(n_embd <= 2048);
    OK(bise_embedder_new(model, &embedder, &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "mean", bise_embedder_set(embedder, "pooling", "max", &error));
    EXPECT_MESSAGE(BISE_ERROR_ARGUMENT, "expected one of pooling", bise_embedder_set(embedder, "pool", "max", &error));
    EXPECT(BISE_ERROR_ARGUMENT, bise_embedder_set(embedder, "parallel", "0", &error));
    EXPECT(BISE_ERROR_BUFFER, bise_embed(embedder, texts, lengths, 1, vector, n_embd - 1, &error));
    EXPECT(BISE_ERROR_UTF8, bise_embed(embedder, texts, lengths, 2, vector, 4096, &error));
    OK(bise_embed(embedder, texts, lengths, 1, vector, n_embd, &error));
    float first = vector[0];
    OK(bise_embed(embedder, texts, NULL, 1, vector, n_embd, &error));
    ASSERT(vector[0] == first);
    OK(bise_embed(embedder, NULL, NULL, 0, NULL, 0, &error));
    ASSERT(bise_embedder_cancel(embedder) == BISE_OK);
    EXPECT(BISE_ERROR_CANCELLED, bise_embed(embedder, texts, NULL, 1, vector, n_embd, &error));
    OK(bise_embed(embedder, texts, NULL, 1, vector, n_embd, &error));
    ASSERT(bise_embedder_free(embedder) == BISE_OK && bise_embedder_free(embedder) == BISE_ERROR_HANDLE);
}

int main(void) {
    ASSERT(strcmp(bise_status_name(BISE_ERROR_BUSY), "BISE_ERROR_BUSY") == 0);
    ASSERT(strcmp(bise_status_name(-99), "unknown status") == 0);
    OK(bise_model_open_builtin(NULL, &model, &error));
    handles();
    options();
    files();
    texts();
    chats();
    embeddings();
    ASSERT(bise_model_free(model) == BISE_OK);
    return 0;
}
