/*
 * bise: quantized Mistral models on a CPU.
 *
 * A model is opened from a GGUF file. A session is one text: it is fed a prompt, and continued piece by piece.
 *
 *     bise_model *model;
 *     bise_session *session;
 *     const char *piece;
 *     bise_model_open("mistral-7b.Q4_K_M.gguf", NULL, &model, NULL);
 *     bise_session_new(model, NULL, &session, NULL);
 *     bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, NULL);
 *     bise_session_start(session, NULL, NULL);
 *     while (bise_session_next(session, &piece, NULL, NULL) == BISE_OK)
 *         fputs(piece, stdout);
 *     bise_session_free(session);
 *     bise_model_free(model);
 *
 * What holds for all functions:
 *
 * Errors. A function returns BISE_OK (or BISE_DONE), or a negative status. Its last argument is where the error goes, with a message: NULL where
 * nobody wants it; else it is set to NULL on success, and on failure to an error that the caller frees by bise_error_free. What was there
 * before is neither read nor freed. There is no error state in the library, per thread or otherwise.
 *
 * Handles. Pointers to bise_ types with a _free function are handles: numbers that are never followed, and never used twice. NULL, a handle that
 * was freed and one of another type are errors in every function, BISE_ERROR_NULL and BISE_ERROR_HANDLE, but that a _free of NULL does
 * nothing. Objects may be freed in any order, and while calls with them are under way: each keeps what it needs of the others. What was not freed
 * shows in valgrind and LeakSanitizer.
 *
 * Threads. Any thread may make any call. Where a function says "one call at a time", a second call with the same handle returns
 * BISE_ERROR_BUSY at once, be it from another thread or from a callback.
 *
 * Memory. What a function takes is copied, or not needed after the call. What it hands over says who owns it and how long it is valid.
 *
 * Texts are UTF-8. Where there is a length, BISE_NUL_TERMINATED stands for that of a text that ends in NUL. A text or array of length 0 may be
 * NULL. Other pointers must be valid: the library cannot check that.
 *
 * Callbacks get their user_data as it was given. They must return: an exception of C++ or a longjmp across the library is undefined behaviour
 * (bise.hpp carries exceptions across). A fault in the library does not cross to the caller: it is BISE_ERROR_PANIC.
 *
 * Options have the names of llama.cpp's flags and are set by name, so that programs built against an older header can use what is new, and so that
 * a misspelt name is an error rather than nothing. Numbers are set as such (`bise_..._set_number`), in any locale.
 *
 * Nothing is configured globally. The library reads no environment variable that changes a result, installs no signal handler, and writes
 * nothing to stdout or stderr but the message of a fault in itself.
 */


#ifndef BISE_H
#define BISE_H

/* Made by cbindgen of capi/src: change it there, and run `BISE_UPDATE_HEADER=1 cargo test -p bise-capi --test header`. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The length of a text that ends in NUL. */
#define BISE_NUL_TERMINATED ((size_t)-1)


/**
 * The number of the binary interface that this header describes. It grows with every change that a program built before would notice; new
 * functions and new names of options are none.
 */
#define BISE_ABI_VERSION 1

/**
 * Begin with the token for the beginning of a text, where the file says so.
 */
#define BISE_ADD_SPECIAL 1

/**
 * Text such as "[INST]" or "</s>" becomes the control token that it spells. Do not use it on text that somebody else wrote.
 */
#define BISE_PARSE_SPECIAL 2

/**
 * The prompt ends with what the last message says, for the model to go on with it. By default an answer begins.
 */
#define BISE_CHAT_CONTINUE 1

/**
 * The prompt does not end with what comes before an answer.
 */
#define BISE_CHAT_NO_ANSWER 2

/**
 * What a function returns.
 */
typedef enum {
    /**
     * It did what it was asked for.
     */
    BISE_OK = 0,
    /**
     * The generation is over: there is no further piece. Not an error.
     */
    BISE_DONE = 1,
    /**
     * A pointer is NULL that must not be.
     */
    BISE_ERROR_NULL = -1,
    /**
     * A handle was freed already, is of another type, or never was one.
     */
    BISE_ERROR_HANDLE = -2,
    /**
     * Another call with the same handle is under way: in another thread, or in this one when a callback calls back.
     */
    BISE_ERROR_BUSY = -3,
    /**
     * An argument is out of range, of an unknown name, or makes no sense.
     */
    BISE_ERROR_ARGUMENT = -4,
    /**
     * A text is not UTF-8.
     */
    BISE_ERROR_UTF8 = -5,
    /**
     * A buffer is too small. The number of elements needed was stored.
     */
    BISE_ERROR_BUFFER = -6,
    /**
     * There is nothing under this name.
     */
    BISE_ERROR_NOT_FOUND = -7,
    /**
     * A file cannot be read or written, is damaged, or was made for something else.
     */
    BISE_ERROR_FILE = -8,
    /**
     * The file, the machine or this build of the library does not support it.
     */
    BISE_ERROR_UNSUPPORTED = -9,
    /**
     * There is not enough memory.
     */
    BISE_ERROR_MEMORY = -10,
    /**
     * The context has no room for so many tokens.
     */
    BISE_ERROR_CONTEXT_FULL = -11,
    /**
     * It was cancelled, or a callback stopped it. What was complete by then is kept.
     */
    BISE_ERROR_CANCELLED = -12,
    /**
     * The model computed numbers that are not finite: its weights are damaged.
     */
    BISE_ERROR_NOT_FINITE = -13,
    /**
     * The chat template cannot be used, or does not take the conversation.
     */
    BISE_ERROR_CHAT = -14,
    /**
     * The system does not let it: no thread, no lock on memory.
     */
    BISE_ERROR_SYSTEM = -15,
    /**
     * A fault in the library. The handle in use can only be freed from now on; the message of the fault is on stderr.
     */
    BISE_ERROR_PANIC = -16,
} bise_status;

/**
 * Why a generation is over.
 */
typedef enum {
    /**
     * It is not, or none was started.
     */
    BISE_FINISH_NONE = 0,
    /**
     * The model ended the text.
     */
    BISE_FINISH_END = 1,
    /**
     * The text came to one of the stop texts.
     */
    BISE_FINISH_STOP = 2,
    /**
     * As many tokens as were asked for.
     */
    BISE_FINISH_LENGTH = 3,
    /**
     * The context is full.
     */
    BISE_FINISH_CONTEXT = 4,
} bise_finish;

/**
 * An adapter (LoRA) for a model. Any number of sessions, and of threads, may use it at the same time.
 */
typedef struct bise_adapter bise_adapter;

/**
 * A conversation and the chat template that makes a prompt of it. Nothing that a message says becomes a control token.
 *
 * Any thread may use it, but one call at a time.
 */
typedef struct bise_chat bise_chat;

/**
 * Makes vectors of texts. Any thread may use it, but one call at a time, bise_embedder_cancel and bise_embedder_free excepted.
 */
typedef struct bise_embedder bise_embedder;

/**
 * Why a call failed: a status and a message of one line.
 */
typedef struct bise_error bise_error;

/**
 * What is generated, and how tokens are chosen.
 */
typedef struct bise_generation_options bise_generation_options;

/**
 * A model, ready to run. Any number of threads may use it at the same time.
 */
typedef struct bise_model bise_model;

/**
 * How a model is opened.
 */
typedef struct bise_model_options bise_model_options;

/**
 * One text: the tokens read so far, their keys and values, and the logits after the last.
 *
 * Any thread may use it, but one call at a time: a second one returns BISE_ERROR_BUSY, from another thread or from a callback.
 * bise_session_cancel and bise_session_free are the exceptions.
 */
typedef struct bise_session bise_session;

/**
 * How a session is kept.
 */
typedef struct bise_session_options bise_session_options;

/**
 * Told what a user should know, a line at a time, such as a correction to a file. `message` is valid during the call.
 *
 * Runs in the thread whose call of the library it belongs to, during that call. It must not throw or longjmp.
 */
typedef void (*bise_log_callback)(void *user_data, const char *message);

/**
 * Told, while tokens are being read, how many of them are done. Returns 0 to go on, and anything else to stop.
 *
 * Runs in the thread of the call that reads, during that call, which keeps the session: to call back with it gives BISE_ERROR_BUSY. It must
 * not throw or longjmp.
 */
typedef int32_t (*bise_progress_callback)(void *user_data, size_t n_done, size_t n_total);

/**
 * Told each piece of a text. Returns 0 to go on, and anything else to stop. `piece` has a NUL behind its `n_bytes` and is valid during the call.
 *
 * Runs in the thread of the call that generates, during that call, which keeps the session: to call back with it gives BISE_ERROR_BUSY. It
 * must not throw or longjmp.
 */
typedef int32_t (*bise_piece_callback)(void *user_data, const char *piece, size_t n_bytes);

/**
 * A token and its probability.
 */
typedef struct {
    /**
     * The token.
     */
    uint32_t token;
    /**
     * The natural logarithm of its probability by the model, before anything in the chain of samplers; NaN unless "n_probs" asks for it.
     */
    float log_prob;
} bise_chosen;

/**
 * A message of a conversation.
 */
typedef struct {
    /**
     * "system", "user", "assistant", "tool", or another word that the template knows. Ends in NUL.
     */
    const char *role;
    /**
     * What is said, in UTF-8. Ends in NUL.
     */
    const char *content;
} bise_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The binary interface of the library that is loaded. A program should compare it with BISE_ABI_VERSION, with which it was built.
 *
 * Threads: any.
 */
uint32_t bise_abi_version(void);

/**
 * The version of the library that is loaded, such as "0.1.0".
 *
 * Threads: any. The text is a constant.
 */
const char *bise_version(void);

/**
 * The name of a status, such as "BISE_ERROR_BUSY"; "unknown status" for any other number.
 *
 * Threads: any. The text is a constant.
 */
const char *bise_status_name(int32_t status);

/**
 * The status of an error: that which the failed call returned. BISE_ERROR_HANDLE for NULL or a freed error.
 *
 * Threads: any.
 */
bise_status bise_error_status(const bise_error *error);

/**
 * The message of an error, one line of UTF-8 that says what was found, what was expected and where. Empty for NULL or a freed error.
 *
 * Owner: the error; the text is valid until bise_error_free. Threads: any.
 */
const char *bise_error_message(const bise_error *error);

/**
 * Frees an error. NULL is allowed and does nothing.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
 */
bise_status bise_error_free(bise_error *error);

/**
 * Frees a text that a function of this library handed over. NULL is allowed and does nothing.
 *
 * Returns BISE_ERROR_HANDLE, and does nothing, for any other pointer: one that was freed already (unless its memory has become another such
 * text by then), or that is not the library's to free. Threads: any.
 */
bise_status bise_string_free(char *text);

/**
 * Makes options with their defaults, for bise_model_open.
 *
 * Owner: the caller, who frees them by bise_model_options_free. One call at a time may use them. Threads: any.
 */
bise_status bise_model_options_new(bise_model_options **options, bise_error **error);

/**
 * Frees options. NULL is allowed and does nothing. Models that were opened with them are not concerned.
 *
 * Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
 */
bise_status bise_model_options_free(bise_model_options *options);

/**
 * Sets an option by its name, which is that of llama.cpp's flag:
 *
 * - "threads": how many; 0 or -1, the default, is one for each performance core that the process may use.
 * - "cpu_mask", "cpu_range": CPUs that the library's threads are bound to, as "0xf" or as "0-3". The thread that calls stays where it is.
 * - "cpu_strict": "true" binds each of them to one CPU. By default "false".
 * - "prio": how urgent they are, from -1 (low) to 3 (real time); by default 0.
 * - "poll": how eagerly they wait for each other, from 0 (they sleep at once, which saves power) to 100; by default 50, and 0 on battery.
 * - "isa": the instruction set ("scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"). By default the
 *   best that the machine has. All give the same bits.
 * - "mmap": "true", the default, maps the file. It must not be changed in place then while it is in use: if it shrinks in the middle of a
 *   call, the process gets SIGBUS. "false" reads it into memory.
 * - "mlock": "true" keeps the weights from being swapped out. By default "false".
 * - "max_memory": a ceiling, such as "5G", or "auto" for what the machine or its control group has free. Opening fails where the model does
 *   not fit, and no more anonymous memory than that is taken. By default none.
 * - "stream_weights": "true" gives layers back to the system behind a pass where the model is larger than memory. By default "false".
 * - "sliding_window": tokens that attention looks back on, in place of what the file says; 0 turns the window off; -1, the default, is what
 *   the file says.
 * - "override_kv": "KEY=TYPE:VALUE" sets a key of the metadata, where the type is int, float, bool or str. Each call adds one.
 *
 * "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any.
 */
bise_status bise_model_options_set(bise_model_options *options,
                                   const char *name,
                                   const char *value,
                                   bise_error **error);

/**
 * bise_model_options_set with a number, which needs no formatting (and so does not depend on the locale).
 */
bise_status bise_model_options_set_number(bise_model_options *options,
                                          const char *name,
                                          double value,
                                          bise_error **error);

/**
 * Has `callback` told, while a model is being opened, what bise_model_warning tells afterwards. NULL tells nobody, which is the default.
 *
 * `user_data` is passed on as it is. Threads: any; the callback runs in the thread that opens the model.
 */
bise_status bise_model_options_set_log(bise_model_options *options,
                                       bise_log_callback callback,
                                       void *user_data,
                                       bise_error **error);

/**
 * Has models that are opened with the options use the threads of `model`, in place of threads of their own: their passes take turns. NULL gives them
 * threads of their own again. Options about threads count for nothing meanwhile.
 *
 * `model` may be freed after the call. Threads: any.
 */
bise_status bise_model_options_share_threads(bise_model_options *options,
                                             const bise_model *model,
                                             bise_error **error);

/**
 * Opens a GGUF file, or the first part of a split one. The weights are mapped, not read: this takes milliseconds.
 *
 * `path` ends in NUL; on Unix it may have any bytes, on Windows it is UTF-8. `options` may be NULL for the defaults, and is not used after
 * the call.
 *
 * Owner: the caller, who frees the model by bise_model_free. On failure `*model` is NULL. The threads that it starts run until it and all
 * that was made of it are freed. After fork() they are the parent's; the child may go on to use the model, whose first pass there starts others,
 * if no call was under way in the parent at the fork. Threads: any.
 */
bise_status bise_model_open(const char *path,
                            const bise_model_options *options,
                            bise_model **model,
                            bise_error **error);

/**
 * Opens the small model inside the library: 8 million weights that tell stories.
 *
 * As bise_model_open. Returns BISE_ERROR_UNSUPPORTED where the library was built without it.
 */
bise_status bise_model_open_builtin(const bise_model_options *options, bise_model **model, bise_error **error);

/**
 * Frees a model. NULL is allowed and does nothing. Sessions, conversations and embedders that were made of it go on to work: they keep what
 * they need of it until they are freed.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any, also while other calls with the model are under way.
 */
bise_status bise_model_free(bise_model *model);

/**
 * The number of tokens in the vocabulary; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_vocab(const bise_model *model);

/**
 * The length of a text that the model was trained for, in tokens; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_ctx_train(const bise_model *model);

/**
 * The width of the model, which is the number of floats in an embedding; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_embd(const bise_model *model);

/**
 * The number of layers; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_layers(const bise_model *model);

/**
 * Tokens that attention looks back on; 0 where there is no window, and for NULL or a freed model. With a window a text may be of any
 * length, in constant memory.
 *
 * Threads: any.
 */
size_t bise_model_sliding_window(const bise_model *model);

/**
 * The number of threads, that of the caller included; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_threads(const bise_model *model);

/**
 * The instruction set in use, such as "avx2"; NULL for NULL or a freed model.
 *
 * Owner: the model; the text is valid until bise_model_free. Threads: any.
 */
const char *bise_model_isa(const bise_model *model);

/**
 * The number of keys in the file's metadata; 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_metadata(const bise_model *model);

/**
 * The key at an index below bise_model_n_metadata, in the order of the file.
 *
 * Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*key` by bise_string_free. Threads: any.
 */
bise_status bise_model_metadata_key(const bise_model *model, size_t index, char **key, bise_error **error);

/**
 * The value of a key in the file's metadata, as text: a string's bytes as they are, a number or bool in its usual spelling, an array as its
 * type and length. `n_bytes` may be NULL; else it gets the length, as a string may hold a NUL.
 *
 * Returns BISE_ERROR_NOT_FOUND where the key is not there. Owner: the caller, who frees `*value` by bise_string_free. Threads: any.
 */
bise_status bise_model_metadata(const bise_model *model,
                                const char *key,
                                char **value,
                                size_t *n_bytes,
                                bise_error **error);

/**
 * The number of warnings: what a user should know about this file on this machine. 0 for NULL or a freed model.
 *
 * Threads: any.
 */
size_t bise_model_n_warnings(const bise_model *model);

/**
 * The warning at an index below bise_model_n_warnings, a line.
 *
 * Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*warning` by bise_string_free. Threads: any.
 */
bise_status bise_model_warning(const bise_model *model, size_t index, char **warning, bise_error **error);

/**
 * The memory that the process will take, in bytes, once a session with these options (NULL for the defaults) has read `n_tokens`: weights,
 * keys and values, buffers, and what the process takes now.
 *
 * Threads: any.
 */
bise_status bise_model_memory(const bise_model *model,
                              const bise_session_options *options,
                              size_t n_tokens,
                              uint64_t *n_bytes,
                              bise_error **error);

/**
 * The tokens of a text of `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED). `flags` is a sum of BISE_ADD_SPECIAL and BISE_PARSE_SPECIAL, or 0.
 *
 * `*n_tokens` gets their number. Returns BISE_ERROR_BUFFER where `capacity` is less, and stores no token then; `tokens` may be NULL with a
 * capacity of 0, to ask for the number.
 *
 * Threads: any.
 */
bise_status bise_tokenize(const bise_model *model,
                          const char *text,
                          size_t n_bytes,
                          uint32_t flags,
                          uint32_t *tokens,
                          size_t capacity,
                          size_t *n_tokens,
                          bise_error **error);

/**
 * The text of tokens. Control tokens are left out, unless `flags` is BISE_PARSE_SPECIAL, which spells them. `n_bytes` may be NULL; else it gets
 * the length, as a text may hold a NUL.
 *
 * Bytes that are not UTF-8 become U+FFFD. Owner: the caller, who frees `*text` by bise_string_free. Threads: any.
 */
bise_status bise_detokenize(const bise_model *model,
                            const uint32_t *tokens,
                            size_t n_tokens,
                            uint32_t flags,
                            char **text,
                            size_t *n_bytes,
                            bise_error **error);

/**
 * The bytes that a token stands for, which may be a part of a character; a control token is spelt. They are copied to `piece`, without a NUL.
 *
 * `*n_bytes` gets their number. Returns BISE_ERROR_BUFFER where `capacity` is less, and stores none then. Threads: any.
 */
bise_status bise_token_piece(const bise_model *model,
                             uint32_t token,
                             char *piece,
                             size_t capacity,
                             size_t *n_bytes,
                             bise_error **error);

/**
 * The token that a text of `n_bytes` (or BISE_NUL_TERMINATED) spells, control tokens included; -1 where there is none, and for NULL or a freed
 * model.
 *
 * Threads: any.
 */
int64_t bise_token_id(const bise_model *model,
                      const char *text,
                      size_t n_bytes);

/**
 * The token for the beginning of a text; -1 where the vocabulary has none, and for NULL or a freed model.
 *
 * Threads: any.
 */
int64_t bise_token_bos(const bise_model *model);

/**
 * The token for the end of a text; -1 where the vocabulary has none, and for NULL or a freed model. Others may end a generation as well:
 * bise_token_is_end.
 *
 * Threads: any.
 */
int64_t bise_token_eos(const bise_model *model);

/**
 * Whether a generation ends at this token: the end of a text, of a turn, of a message. False for NULL or a freed model.
 *
 * Threads: any.
 */
bool bise_token_is_end(const bise_model *model, uint32_t token);

/**
 * Whether this is a control token: structure, not text. False for NULL or a freed model.
 *
 * Threads: any.
 */
bool bise_token_is_control(const bise_model *model, uint32_t token);

/**
 * Makes options with their defaults, for bise_session_new.
 *
 * Owner: the caller, who frees them by bise_session_options_free. One call at a time may use them. Threads: any.
 */
bise_status bise_session_options_new(bise_session_options **options, bise_error **error);

/**
 * Frees options. NULL is allowed and does nothing. Sessions that were made with them are not concerned.
 *
 * Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
 */
bise_status bise_session_options_free(bise_session_options *options);

/**
 * Sets an option by its name, which is that of llama.cpp's flag:
 *
 * - "ctx_size": tokens that the session may hold. 0, the default, is the length that the model was trained for. Memory for keys and values is
 *   taken as the text grows, not before.
 * - "ubatch_size": tokens read in one pass at most, by default 512. More is a little faster and takes more memory; the results have the same
 *   bits.
 * - "cache_type_k", "cache_type_v": how keys and values are stored: "f16" (the default), "f32", "q8_0" or "q4_0".
 *
 * "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any.
 */
bise_status bise_session_options_set(bise_session_options *options,
                                     const char *name,
                                     const char *value,
                                     bise_error **error);

/**
 * bise_session_options_set with a number.
 */
bise_status bise_session_options_set_number(bise_session_options *options,
                                            const char *name,
                                            double value,
                                            bise_error **error);

/**
 * Begins an empty text. `options` may be NULL for the defaults, and is not used after the call.
 *
 * Owner: the caller, who frees the session by bise_session_free, before or after the model. On failure `*session` is NULL. Threads: any.
 */
bise_status bise_session_new(const bise_model *model,
                             const bise_session_options *options,
                             bise_session **session,
                             bise_error **error);

/**
 * Frees a session. NULL is allowed and does nothing. A call that is under way in another thread goes on to its end.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any, also from a callback.
 */
bise_status bise_session_free(bise_session *session);

/**
 * Ends the call that is under way with this session, within a layer of the model: it returns BISE_ERROR_CANCELLED, and what it has read by
 * then stays read. Where no call is under way, the next that would run the model returns so instead. Either uses the request up.
 *
 * Threads: any, also from a callback. Not from a signal handler: it takes a lock.
 */
bise_status bise_session_cancel(const bise_session *session);

/**
 * Takes the memory for a text of `n_tokens` in advance, rather than as it grows, so that bise_session_next takes none: for programs that must
 * not run out of memory in the middle. Without a sliding window that is no more than the context holds; with one, keys and values take no more
 * than the window does.
 *
 * Returns BISE_ERROR_MEMORY where there is not enough. Threads: any, one call at a time.
 */
bise_status bise_session_reserve(bise_session *session,
                                 size_t n_tokens,
                                 bise_error **error);

/**
 * Has `callback` told how far the reading of a prompt is, after each pass. NULL tells nobody, which is the default.
 *
 * `user_data` is passed on as it is. Threads: any, one call at a time; the callback runs in the thread that reads.
 */
bise_status bise_session_set_progress(bise_session *session,
                                      bise_progress_callback callback,
                                      void *user_data,
                                      bise_error **error);

/**
 * The number of tokens read so far; 0 for NULL, a freed or a busy session.
 *
 * Threads: any, one call at a time.
 */
size_t bise_session_position(const bise_session *session);

/**
 * The number of tokens that the session may hold; 0 for NULL, a freed or a busy session. With a sliding window it may go past that.
 *
 * Threads: any, one call at a time.
 */
size_t bise_session_n_ctx(const bise_session *session);

/**
 * The tokens read so far.
 *
 * Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
 */
bise_status bise_session_tokens(const bise_session *session,
                                const uint32_t **tokens,
                                size_t *n_tokens,
                                bise_error **error);

/**
 * The logits after the last token read, one for each token of the vocabulary: what the model makes of it, before anything in the chain of
 * samplers.
 *
 * Returns BISE_ERROR_NOT_FOUND where they were not computed: before anything was read, after bise_session_rewind, and after a reading that was
 * stopped. Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a
 * time.
 */
bise_status bise_session_logits(const bise_session *session,
                                const float **logits,
                                size_t *n_logits,
                                bise_error **error);

/**
 * Forgets the tokens from a position on, and a generation with them. Where they reach back beyond a sliding window, what remains is read
 * again.
 *
 * Returns BISE_ERROR_ARGUMENT for a position that lies ahead. Threads: any, one call at a time.
 */
bise_status bise_session_rewind(bise_session *session,
                                size_t position,
                                bise_error **error);

/**
 * Forgets all tokens, and a generation with them. Memory is kept for the next text.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_session_clear(bise_session *session, bise_error **error);

/**
 * Reads a text of `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED) behind what was read before. `flags` is a sum of BISE_ADD_SPECIAL, which counts at
 * the start of a session only, and BISE_PARSE_SPECIAL, or 0.
 *
 * Where a generation has gone before, its text up to the last piece counts as read. It is over then.
 *
 * Returns BISE_ERROR_CONTEXT_FULL where it does not fit, and BISE_ERROR_ARGUMENT for a text without tokens: nothing is read then. After
 * BISE_ERROR_CANCELLED the tokens of whole passes are read: see bise_session_position. Threads: any, one call at a time.
 */
bise_status bise_session_feed(bise_session *session,
                              const char *text,
                              size_t n_bytes,
                              uint32_t flags,
                              bise_error **error);

/**
 * Reads tokens behind what was read before. One at a time allocates no memory: to choose tokens yourself, look at bise_session_logits and
 * feed what you choose.
 *
 * As bise_session_feed.
 */
bise_status bise_session_feed_tokens(bise_session *session,
                                     const uint32_t *tokens,
                                     size_t n_tokens,
                                     bise_error **error);

/**
 * Makes the text of the session these tokens, such as the next prompt of a conversation: what it begins with already is kept, the rest is
 * forgotten, and only what is new is read. A generation is over then.
 *
 * `n_kept` may be NULL; else it gets the number of tokens that were kept. Returns BISE_ERROR_CONTEXT_FULL where the tokens do not fit: nothing
 * changes then. Threads: any, one call at a time.
 */
bise_status bise_session_prompt(bise_session *session,
                                const uint32_t *tokens,
                                size_t n_tokens,
                                size_t *n_kept,
                                bise_error **error);

/**
 * Reads an adapter for `model`: a GGUF file as llama.cpp's converter writes it, or a folder of PEFT. It acts on the sessions that it is set for.
 *
 * `path` is as for bise_model_open. Returns BISE_ERROR_FILE for a file that is damaged, is no adapter or fits another model,
 * BISE_ERROR_UNSUPPORTED for a kind of adapter that this library does not run, and BISE_ERROR_MEMORY where there is no room for it. The weights
 * of the model stay as they are.
 *
 * Owner: the caller, who frees the adapter by bise_adapter_free, before or after the model. On failure `*adapter` is NULL. Threads: any.
 */
bise_status bise_adapter_load(const bise_model *model,
                              const char *path,
                              bise_adapter **adapter,
                              bise_error **error);

/**
 * Frees an adapter. NULL is allowed and does nothing. Sessions that it is set for keep it until they are freed or given others.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
 */
bise_status bise_adapter_free(bise_adapter *adapter);

/**
 * What messages call the adapter: its path. Empty for NULL or a freed adapter.
 *
 * Owner: the adapter. Threads: any.
 */
const char *bise_adapter_name(const bise_adapter *adapter);

/**
 * Bytes of memory that the adapter takes; 0 for NULL or a freed adapter.
 *
 * Threads: any.
 */
size_t bise_adapter_n_bytes(const bise_adapter *adapter);

/**
 * The number of warnings: what of the adapter's files is not used, such as a name in its configuration that fits no tensor. 0 for NULL or a freed
 * adapter.
 *
 * Threads: any.
 */
size_t bise_adapter_n_warnings(const bise_adapter *adapter);

/**
 * The warning at an index below bise_adapter_n_warnings, a line.
 *
 * Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*warning` by bise_string_free. Threads: any.
 */
bise_status bise_adapter_warning(const bise_adapter *adapter, size_t index, char **warning, bise_error **error);

/**
 * Has `n` adapters act on the session from now on, in place of those before; none where `n` is 0.
 *
 * `scales` has a factor on the scale of each, any finite number, or is NULL, which is 1 for all: as they were made. One with a factor of 0
 * does not act. If they are others than before, a generation is over, and the tokens that were read are read again, with them: to set them
 * before anything is read costs nothing. Sessions with different adapters may be decoded together.
 *
 * Returns BISE_ERROR_ARGUMENT for an adapter of a model with other shapes, or a factor that is not finite; nothing changes then. Threads: any,
 * one call at a time.
 */
bise_status bise_session_set_adapters(bise_session *session,
                                      const bise_adapter *const *adapters,
                                      const float *scales,
                                      size_t n,
                                      bise_error **error);

/**
 * Makes options with their defaults, which are llama.cpp's, for bise_session_start.
 *
 * Owner: the caller, who frees them by bise_generation_options_free. One call at a time may use them. Threads: any.
 */
bise_status bise_generation_options_new(bise_generation_options **options, bise_error **error);

/**
 * Frees options. NULL is allowed and does nothing. Generations that were started with them are not concerned.
 *
 * Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
 */
bise_status bise_generation_options_free(bise_generation_options *options);

/**
 * Sets an option by its name. Parameters of sampling have llama.cpp's names and defaults:
 *
 * "seed" (-1 draws one), "temp" (0 is greedy), "top_k", "top_p", "min_p", "min_keep", "typ_p", "top_n_sigma", "xtc_probability",
 * "xtc_threshold", "dynatemp_range", "dynatemp_exp", "repeat_last_n", "repeat_penalty", "frequency_penalty", "presence_penalty",
 * "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "mirostat", "mirostat_ent", "mirostat_lr", "ignore_eos",
 * "samplers" (names separated by ';'), "logit_bias" (TOKEN_ID(+/-)BIAS, separated by ',').
 *
 * Others:
 *
 * - "n_predict": tokens at most; -1, the default, is no limit.
 * - "n_probs": log-probabilities to compute, of each token chosen and of so many of the likeliest; -1, the default, is none.
 * - "special": "true" shows control tokens as they are spelt. By default they are left out.
 * - "starts_text": "true" where the text is one of its own, such as an answer in a conversation: the space that some vocabularies put before
 *   a text is left out. By default "false".
 * - "spec_type": "ngram", the default, checks several tokens at a time where the text repeats; "none" does not. The text is the same.
 * - "draft_max": how many, at most; by default 15.
 *
 * "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value out of range; nothing changes then. Threads: any.
 */
bise_status bise_generation_options_set(bise_generation_options *options,
                                        const char *name,
                                        const char *value,
                                        bise_error **error);

/**
 * bise_generation_options_set with a number, which needs no formatting (and so does not depend on the locale).
 */
bise_status bise_generation_options_set_number(bise_generation_options *options,
                                               const char *name,
                                               double value,
                                               bise_error **error);

/**
 * The value of an option, spelt so that bise_generation_options_set takes it.
 *
 * Returns BISE_ERROR_NOT_FOUND for another name. Owner: the caller, who frees `*value` by bise_string_free. Threads: any.
 */
bise_status bise_generation_options_get(const bise_generation_options *options,
                                        const char *name,
                                        char **value,
                                        bise_error **error);

/**
 * Adds a text that ends the generation and is not shown, `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED). One that spells a control token stands
 * for that token, too.
 *
 * Threads: any.
 */
bise_status bise_generation_options_add_stop(bise_generation_options *options,
                                             const char *text,
                                             size_t n_bytes,
                                             bise_error **error);

/**
 * Begins to continue what the session has read. `options` may be NULL for the defaults, and is not used after the call.
 *
 * Penalties look back on the whole text. The random numbers begin with the seed, each time. Where an earlier generation has gone before, its
 * text up to the last piece counts as read. One that was saved with the session goes on (bise_session_restore).
 *
 * Returns BISE_ERROR_NOT_FOUND where nothing was read to go on from. Threads: any, one call at a time.
 */
bise_status bise_session_start(bise_session *session,
                               const bise_generation_options *options,
                               bise_error **error);

/**
 * The next piece of the text: often a word, never a part of a character. It has a NUL behind its `n_bytes`, one of which may itself be 0.
 *
 * Returns BISE_OK with a piece, and BISE_DONE once there is no more (`bise_session_finish` says why). After BISE_ERROR_CANCELLED the next call
 * goes on where this one was. Once warm it allocates no memory, but what bise_session_reserve takes in advance, and for longer lists of drafts
 * than there were before ("spec_type" "none" has no drafts).
 *
 * Owner: the session; the piece is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
 */
bise_status bise_session_next(bise_session *session,
                              const char **piece,
                              size_t *n_bytes,
                              bise_error **error);

/**
 * Generates to the end, and passes each piece to `callback`, with `user_data` as it is.
 *
 * Returns BISE_OK once the generation is over, and BISE_ERROR_CANCELLED where the callback stops it: another call, or bise_session_next, goes on
 * behind the last piece. Threads: any, one call at a time; the callback runs in the thread of the call.
 */
bise_status bise_session_generate(bise_session *session,
                                  bise_piece_callback callback,
                                  void *user_data,
                                  bise_error **error);

/**
 * The piece that the last call of bise_session_next or bise_next_together brought to this session; empty before that, and for NULL, a freed or
 * a busy session. `n_bytes` may be NULL.
 *
 * Owner: the session; the piece is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
 */
const char *bise_session_piece(const bise_session *session,
                               size_t *n_bytes);

/**
 * Why the generation is over; BISE_FINISH_NONE while it is not, and for NULL, a freed or a busy session.
 *
 * Threads: any, one call at a time.
 */
bise_finish bise_session_finish(const bise_session *session);

/**
 * The tokens that the last piece came of, with their log-probabilities. There may be none, where the piece had been held back.
 *
 * Owner: the session; the array is valid until the next call that reads, generates, rewinds or frees. Threads: any, one call at a time.
 */
bise_status bise_session_chosen(const bise_session *session,
                                const bise_chosen **chosen,
                                size_t *n_chosen,
                                bise_error **error);

/**
 * The tokens that were likeliest in place of the one at `index` of bise_session_chosen, the likeliest first: as many as "n_probs" asks for.
 *
 * Returns BISE_ERROR_NOT_FOUND past the end. Owner and threads as there.
 */
bise_status bise_session_chosen_top(const bise_session *session,
                                    size_t index,
                                    const bise_chosen **top,
                                    size_t *n_top,
                                    bise_error **error);

/**
 * Saves a session to a file: its tokens, keys and values, logits, and how far a generation is that is not over. The file is written aside and
 * takes its place when it is complete. `path` as for bise_model_open.
 *
 * Returns BISE_ERROR_FILE where it cannot be written. Threads: any, one call at a time.
 */
bise_status bise_session_save(const bise_session *session,
                              const char *path,
                              bise_error **error);

/**
 * Makes a session of what bise_session_save has saved: it goes on as if it had never been away, bit for bit. `options` are those of
 * bise_session_new, with the cache types that the session was saved with and a context that holds its tokens.
 *
 * Where a generation was under way, bise_session_start goes on with it, random numbers included, if the options are those that it had
 * ("n_predict" counts anew).
 *
 * Returns BISE_ERROR_FILE for a file that is no session, is damaged, or was saved by another version, for another model, window or cache type;
 * BISE_ERROR_CONTEXT_FULL where the context is too short. Owner: the caller, as by bise_session_new. On failure `*session` is NULL. Threads: any.
 */
bise_status bise_session_restore(const bise_model *model,
                                 const char *path,
                                 const bise_session_options *options,
                                 bise_session **session,
                                 bise_error **error);

/**
 * Reads one token in each of several sessions of one model, in one pass. What each gets has the same bits as by bise_session_feed_tokens.
 *
 * `sessions` and `tokens` have `n` elements. Generations are over then, as by bise_session_feed_tokens. Returns the error of the first session
 * that failed; bise_session_position tells which have read their token: none has where one of them is cancelled.
 *
 * Threads: any, one call at a time with each session. A session may be in the list once.
 */
bise_status bise_decode_together(bise_session *const *sessions,
                                 const uint32_t *tokens,
                                 size_t n,
                                 bise_error **error);

/**
 * Goes on with the generations of several sessions of one model by a token each, in one pass. Each gets the text that bise_session_next would
 * give it, bit for bit, in pieces that may be empty: bise_session_piece has them.
 *
 * `statuses` may be NULL; else it gets `n` statuses: BISE_OK, or BISE_DONE for a generation that was over before, or an error. Returns BISE_DONE
 * once all are over, and the error of the first session that failed; the others have gone on. Where one is cancelled (bise_session_cancel), it
 * alone gets BISE_ERROR_CANCELLED; the others get BISE_OK and an empty piece, and go on by the next call.
 *
 * Threads: any, one call at a time with each session. A session may be in the list once.
 */
bise_status bise_next_together(bise_session *const *sessions,
                               size_t n,
                               bise_status *statuses,
                               bise_error **error);

/**
 * Begins an empty conversation. `chat_template` is NULL for the template of the model's file, or one by llama.cpp's name ("mistral-v1",
 * "mistral-v3", "mistral-v3-tekken", "mistral-v7", "mistral-v7-tekken", "chatml", "llama2", "llama3", "zephyr"), or the Jinja source of one. It
 * ends in NUL.
 *
 * Returns BISE_ERROR_NOT_FOUND where the file has none, and BISE_ERROR_CHAT for a template that cannot be used. Owner: the caller, who frees
 * the conversation by bise_chat_free, before or after the model. On failure `*chat` is NULL. Threads: any.
 */
bise_status bise_chat_new(const bise_model *model,
                          const char *chat_template,
                          bise_chat **chat,
                          bise_error **error);

/**
 * Frees a conversation. NULL is allowed and does nothing.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
 */
bise_status bise_chat_free(bise_chat *chat);

/**
 * Adds messages at the end, which are copied. All are added, or none.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_add(bise_chat *chat, const bise_message *messages, size_t n_messages, bise_error **error);

/**
 * Adds messages at the end: a JSON list of them, or one, as the APIs of chat servers have them, with "role", "content" and whatever else the
 * template knows ("tool_calls", "tool_call_id", "name", parts of a content). `json` ends in NUL. All are added, or none.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_add_json(bise_chat *chat,
                               const char *json,
                               bise_error **error);

/**
 * Removes messages from `n_messages` on: 0 removes all.
 *
 * Returns BISE_ERROR_ARGUMENT where there are fewer. Threads: any, one call at a time.
 */
bise_status bise_chat_truncate(bise_chat *chat, size_t n_messages, bise_error **error);

/**
 * Sets the tools that the model may call: a JSON list of schemas ({"type": "function", "function": {...}}). NULL removes them. A template that
 * has no place for them, as those by name, makes no prompt then (BISE_ERROR_CHAT).
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_set_tools(bise_chat *chat,
                                const char *json,
                                bise_error **error);

/**
 * Sets documents to answer from: a JSON list of objects that the template knows ({"title": ..., "text": ...}). NULL removes them.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_set_documents(bise_chat *chat,
                                    const char *json,
                                    bise_error **error);

/**
 * Sets more variables for the template, such as {"enable_thinking": false}: a JSON object. NULL removes them.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_set_arguments(bise_chat *chat, const char *json, bise_error **error);

/**
 * The prompt as text, for people to read. `flags` is BISE_CHAT_CONTINUE or BISE_CHAT_NO_ANSWER, or 0. To have a session read it, use
 * bise_chat_feed, which knows what messages say from what the template writes: tokens made of this text do not.
 *
 * `n_bytes` may be NULL; else it gets the length. `notes` may be NULL; else it gets what was done to the conversation so that the template
 * takes it, a line each, or an empty text.
 *
 * Owner: the caller, who frees `*text` and `*notes` by bise_string_free. Threads: any, one call at a time.
 */
bise_status bise_chat_render(bise_chat *chat,
                             uint32_t flags,
                             char **text,
                             size_t *n_bytes,
                             char **notes,
                             bise_error **error);

/**
 * The prompt as tokens. `flags` as for bise_chat_render, the buffer as for bise_tokenize.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_chat_tokens(bise_chat *chat,
                             uint32_t flags,
                             uint32_t *tokens,
                             size_t capacity,
                             size_t *n_tokens,
                             bise_error **error);

/**
 * Has a session read the prompt: bise_session_prompt with bise_chat_tokens, so that only what is new in the conversation is read.
 *
 * `n_kept` as there. Threads: any, one call at a time with either.
 */
bise_status bise_chat_feed(bise_chat *chat,
                           bise_session *session,
                           uint32_t flags,
                           size_t *n_kept,
                           bise_error **error);

/**
 * Makes an embedder with its default options.
 *
 * Owner: the caller, who frees it by bise_embedder_free, before or after the model. On failure `*embedder` is NULL. Threads: any.
 */
bise_status bise_embedder_new(const bise_model *model,
                              bise_embedder **embedder,
                              bise_error **error);

/**
 * Frees an embedder. NULL is allowed and does nothing. A call that is under way in another thread goes on to its end.
 *
 * Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
 */
bise_status bise_embedder_free(bise_embedder *embedder);

/**
 * Sets an option by its name:
 *
 * - "pooling": how the hidden states of a text become one vector: "mean", "cls" (the first token's), "last", or "auto", the default: what the
 *   file says, or the mean.
 * - "normalize": "true", the default, scales each vector to length 1.
 * - "parallel": texts that are read together at most, by default 16. The vectors do not depend on it.
 * - "ctx_size", "ubatch_size", "cache_type_k", "cache_type_v": as for bise_session_options_set.
 *
 * Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any, one call at a time.
 */
bise_status bise_embedder_set(bise_embedder *embedder,
                              const char *name,
                              const char *value,
                              bise_error **error);

/**
 * Ends the call of bise_embed that is under way, which returns BISE_ERROR_CANCELLED, or else the next one.
 *
 * Threads: any. Not from a signal handler: it takes a lock.
 */
bise_status bise_embedder_cancel(const bise_embedder *embedder);

/**
 * One vector of bise_model_n_embd floats for each of `n_texts` texts in UTF-8, one behind the other in `vectors`. Each text has the same bits
 * alone and among others.
 *
 * `n_bytes` has the length of each text, or is NULL where all end in NUL. Returns BISE_ERROR_BUFFER where `capacity`, in floats, is less than
 * `n_texts` times bise_model_n_embd, and stores nothing then.
 *
 * Threads: any, one call at a time.
 */
bise_status bise_embed(bise_embedder *embedder,
                       const char *const *texts,
                       const size_t *n_bytes,
                       size_t n_texts,
                       float *vectors,
                       size_t capacity,
                       bise_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BISE_H */
