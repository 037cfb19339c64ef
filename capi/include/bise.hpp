/*
 * bise for C++17: the C interface with owners, exceptions and ranges. Header only; link with libbise.
 *
 *     bise::Model model = bise::Model::open("mistral-7b.Q4_K_M.gguf");
 *     bise::Session session(model);
 *     session.feed("Once upon a time");
 *     for (std::string_view piece : session.generate())
 *         std::cout << piece;
 *
 * Every failed call throws bise::Error. Objects are moved, not copied, and may be destroyed in any order. What bise.h says of each function holds
 * here: any thread may use an object, but one call at a time.
 *
 * A callback may throw: the exception is carried across the library, which sees the callback ask it to stop, and comes out of the call.
 */
#ifndef BISE_HPP
#define BISE_HPP

#include "bise.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bise {

/** A call that failed. */
class Error : public std::runtime_error {
public:
    Error(bise_status status, const std::string &message) : std::runtime_error(message), status_(status) {}

    /** What the C function returned. */
    bise_status status() const noexcept { return status_; }

private:
    bise_status status_;
};

namespace detail {

/** Where a call puts its error; throws it. */
class Check {
public:
    Check() = default;
    Check(const Check &) = delete;
    Check &operator=(const Check &) = delete;
    ~Check() { bise_error_free(error_); }

    bise_error **place() noexcept { return &error_; }

    bise_status operator()(bise_status status) const {
        if (status < 0)
            throw Error(status, bise_error_message(error_));
        return status;
    }

private:
    bise_error *error_ = nullptr;
};

/** Calls a C function whose last argument is the error. */
template <typename Function, typename... Arguments>
bise_status call(Function function, Arguments... arguments) {
    Check check;
    return check(function(arguments..., check.place()));
}

template <typename Raw, bise_status (*Free)(Raw *)>
struct Deleter {
    void operator()(Raw *raw) const noexcept { Free(raw); }
};

template <typename Raw, bise_status (*Free)(Raw *)>
using Owner = std::unique_ptr<Raw, Deleter<Raw, Free>>;

/** Takes over a text that the library hands over. */
inline std::string take(char *text, std::size_t n_bytes) {
    Owner<char, bise_string_free> owner(text);
    return std::string(text, n_bytes);
}

inline std::string take(char *text) {
    Owner<char, bise_string_free> owner(text);
    return std::string(text);
}

/** A callback and the exception that it ended by. */
template <typename... Arguments>
struct Callback {
    std::function<bool(Arguments...)> function;
    std::exception_ptr thrown = nullptr;

    /** 0 to go on. */
    int run(Arguments... arguments) noexcept {
        try {
            return function(arguments...) ? 0 : 1;
        } catch (...) {
            thrown = std::current_exception();
            return 1;
        }
    }

    void rethrow() {
        if (thrown)
            std::rethrow_exception(std::exchange(thrown, nullptr));
    }
};

using PieceCallback = Callback<std::string_view>;
using ProgressCallback = Callback<std::size_t, std::size_t>;

extern "C" inline int bise_hpp_on_piece(void *user_data, const char *piece, std::size_t n_bytes) noexcept {
    return static_cast<PieceCallback *>(user_data)->run(std::string_view(piece, n_bytes));
}

extern "C" inline int bise_hpp_on_progress(void *user_data, std::size_t n_done, std::size_t n_total) noexcept {
    return static_cast<ProgressCallback *>(user_data)->run(n_done, n_total);
}

/** Options that are set by name. */
template <typename Raw, bise_status (*New)(Raw **, bise_error **), bise_status (*Free)(Raw *),
          bise_status (*Set)(Raw *, const char *, const char *, bise_error **),
          bise_status (*SetNumber)(Raw *, const char *, double, bise_error **)>
class Options {
public:
    Options() {
        Raw *raw = nullptr;
        call(New, &raw);
        raw_.reset(raw);
    }

    /** Sets an option to a text. */
    void set_text(const std::string &name, const std::string &value) { call(Set, raw(), name.c_str(), value.c_str()); }

    /** Sets an option to a number. */
    void set_number(const std::string &name, double value) { call(SetNumber, raw(), name.c_str(), value); }

    /** The handle, for the functions of bise.h. */
    Raw *raw() const noexcept { return raw_.get(); }

private:
    Owner<Raw, Free> raw_;
};

/** `set` for texts, numbers and bools, which returns the options. */
template <typename Self, typename Base>
class Settable : public Base {
public:
    Self &set(const std::string &name, const std::string &value) {
        this->set_text(name, value);
        return static_cast<Self &>(*this);
    }

    Self &set(const std::string &name, const char *value) { return set(name, std::string(value)); }

    Self &set(const std::string &name, bool value) { return set(name, std::string(value ? "true" : "false")); }

    template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
    Self &set(const std::string &name, Number value) {
        this->set_number(name, static_cast<double>(value));
        return static_cast<Self &>(*this);
    }
};

} // namespace detail

/** How a model is opened: see bise_model_options_set. */
class ModelOptions
    : public detail::Settable<ModelOptions, detail::Options<bise_model_options, bise_model_options_new,
                                                            bise_model_options_free, bise_model_options_set,
                                                            bise_model_options_set_number>> {};

/** How a session is kept: see bise_session_options_set. */
class SessionOptions
    : public detail::Settable<SessionOptions, detail::Options<bise_session_options, bise_session_options_new,
                                                              bise_session_options_free, bise_session_options_set,
                                                              bise_session_options_set_number>> {};

/** What is generated: see bise_generation_options_set. */
class GenerationOptions
    : public detail::Settable<
          GenerationOptions,
          detail::Options<bise_generation_options, bise_generation_options_new, bise_generation_options_free,
                          bise_generation_options_set, bise_generation_options_set_number>> {
public:
    /** Adds a text that ends the generation. */
    GenerationOptions &stop(std::string_view text) {
        detail::call(bise_generation_options_add_stop, raw(), text.data(), text.size());
        return *this;
    }
};

/** A model, ready to run. */
class Model {
public:
    /** Opens a GGUF file. */
    static Model open(const std::string &path) { return open(path, ModelOptions()); }

    static Model open(const std::string &path, const ModelOptions &options) {
        bise_model *raw = nullptr;
        detail::call(bise_model_open, path.c_str(), options.raw(), &raw);
        return Model(raw);
    }

    /** Opens the small model inside the library. */
    static Model builtin() { return builtin(ModelOptions()); }

    static Model builtin(const ModelOptions &options) {
        bise_model *raw = nullptr;
        detail::call(bise_model_open_builtin, options.raw(), &raw);
        return Model(raw);
    }

    std::size_t n_vocab() const noexcept { return bise_model_n_vocab(raw()); }
    std::size_t n_ctx_train() const noexcept { return bise_model_n_ctx_train(raw()); }
    std::size_t n_embd() const noexcept { return bise_model_n_embd(raw()); }
    std::size_t n_threads() const noexcept { return bise_model_n_threads(raw()); }
    std::string isa() const { return bise_model_isa(raw()); }

    /** What a user should know about this file on this machine. */
    std::vector<std::string> warnings() const {
        std::vector<std::string> found;
        for (std::size_t i = 0; i < bise_model_n_warnings(raw()); i++) {
            char *warning = nullptr;
            detail::call(bise_model_warning, raw(), i, &warning);
            found.push_back(detail::take(warning));
        }
        return found;
    }

    /** The value of a key in the file's metadata, if it is there. */
    std::optional<std::string> metadata(const std::string &key) const {
        char *value = nullptr;
        std::size_t n_bytes = 0;
        detail::Check check;
        bise_status status = bise_model_metadata(raw(), key.c_str(), &value, &n_bytes, check.place());
        if (status == BISE_ERROR_NOT_FOUND)
            return std::nullopt;
        check(status);
        return detail::take(value, n_bytes);
    }

    /** The tokens of a text; `flags` as for bise_tokenize. */
    std::vector<std::uint32_t> tokenize(std::string_view text, std::uint32_t flags = BISE_ADD_SPECIAL) const {
        std::vector<std::uint32_t> tokens(text.size() + 2);
        for (;;) {
            std::size_t n = 0;
            detail::Check check;
            bise_status status = bise_tokenize(raw(), text.data(), text.size(), flags, tokens.data(), tokens.size(), &n,
                                               check.place());
            if (status != BISE_ERROR_BUFFER)
                check(status);
            tokens.resize(n);
            if (status == BISE_OK)
                return tokens;
        }
    }

    /** The text of tokens; `flags` as for bise_detokenize. */
    std::string detokenize(const std::vector<std::uint32_t> &tokens, std::uint32_t flags = 0) const {
        char *text = nullptr;
        std::size_t n_bytes = 0;
        detail::call(bise_detokenize, raw(), tokens.data(), tokens.size(), flags, &text, &n_bytes);
        return detail::take(text, n_bytes);
    }

    /** The handle, for the functions of bise.h. */
    bise_model *raw() const noexcept { return raw_.get(); }

private:
    explicit Model(bise_model *raw) : raw_(raw) {}

    detail::Owner<bise_model, bise_model_free> raw_;
};

/** The pieces of a text that is being generated, for a range-based for. Refers to its session. */
class Pieces {
public:
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = std::string_view;
        using difference_type = std::ptrdiff_t;
        using pointer = const std::string_view *;
        using reference = const std::string_view &;

        iterator() = default;
        explicit iterator(bise_session *session) : session_(session) { ++*this; }

        reference operator*() const noexcept { return piece_; }
        pointer operator->() const noexcept { return &piece_; }

        iterator &operator++() {
            const char *piece = nullptr;
            std::size_t n_bytes = 0;
            if (detail::call(bise_session_next, session_, &piece, &n_bytes) == BISE_DONE)
                session_ = nullptr;
            piece_ = std::string_view(piece, n_bytes);
            return *this;
        }

        void operator++(int) { ++*this; }

        bool operator==(const iterator &other) const noexcept { return session_ == other.session_; }
        bool operator!=(const iterator &other) const noexcept { return session_ != other.session_; }

    private:
        bise_session *session_ = nullptr;
        std::string_view piece_;
    };

    explicit Pieces(bise_session *session) : session_(session) {}

    iterator begin() const { return iterator(session_); }
    iterator end() const noexcept { return iterator(); }

private:
    bise_session *session_;
};

/** An adapter (LoRA) for a model; see bise_adapter_load. */
class Adapter {
public:
    Adapter(const Model &model, const std::string &path) {
        bise_adapter *raw = nullptr;
        detail::call(bise_adapter_load, model.raw(), path.c_str(), &raw);
        raw_.reset(raw);
    }

    std::string name() const { return bise_adapter_name(raw()); }
    std::size_t n_bytes() const noexcept { return bise_adapter_n_bytes(raw()); }

    /** What of the adapter's files is not used. */
    std::vector<std::string> warnings() const {
        std::vector<std::string> found;
        for (std::size_t i = 0; i < bise_adapter_n_warnings(raw()); i++) {
            char *warning = nullptr;
            detail::call(bise_adapter_warning, raw(), i, &warning);
            found.push_back(detail::take(warning));
        }
        return found;
    }

    bise_adapter *raw() const noexcept { return raw_.get(); }

private:
    detail::Owner<bise_adapter, bise_adapter_free> raw_;
};

/** One text, read and continued. */
class Session {
public:
    explicit Session(const Model &model) : Session(model, SessionOptions()) {}

    Session(const Model &model, const SessionOptions &options) {
        bise_session *raw = nullptr;
        detail::call(bise_session_new, model.raw(), options.raw(), &raw);
        raw_.reset(raw);
    }

    /** What `save` has saved; `options` as for bise_session_restore. */
    static Session restore(const Model &model, const std::string &path) { return restore(model, path, SessionOptions()); }

    static Session restore(const Model &model, const std::string &path, const SessionOptions &options) {
        bise_session *raw = nullptr;
        detail::call(bise_session_restore, model.raw(), path.c_str(), options.raw(), &raw);
        return Session(raw);
    }

    /** Saves the session to a file. */
    void save(const std::string &path) const { detail::call(bise_session_save, raw(), path.c_str()); }

    /** Has adapters act on it, each with a factor on its scale, in place of those before; see bise_session_set_adapters. */
    void set_adapters(const std::vector<std::pair<const Adapter *, float>> &adapters) {
        std::vector<const bise_adapter *> raws;
        std::vector<float> scales;
        for (const auto &[adapter, scale] : adapters) {
            raws.push_back(adapter->raw());
            scales.push_back(scale);
        }
        detail::call(bise_session_set_adapters, raw(), raws.data(), scales.data(), raws.size());
    }

    /** Reads a text; `flags` as for bise_session_feed. */
    void feed(std::string_view text, std::uint32_t flags = BISE_ADD_SPECIAL) {
        reading([&] { detail::call(bise_session_feed, raw(), text.data(), text.size(), flags); });
    }

    /** Reads tokens. */
    void feed(const std::vector<std::uint32_t> &tokens) {
        reading([&] { detail::call(bise_session_feed_tokens, raw(), tokens.data(), tokens.size()); });
    }

    /** Makes the text these tokens, and reads those that are new. Returns how many are not. */
    std::size_t prompt(const std::vector<std::uint32_t> &tokens) {
        std::size_t n_kept = 0;
        reading([&] { detail::call(bise_session_prompt, raw(), tokens.data(), tokens.size(), &n_kept); });
        return n_kept;
    }

    /** Starts to continue the text, piece by piece. */
    Pieces generate() { return generate(GenerationOptions()); }

    Pieces generate(const GenerationOptions &options) {
        detail::call(bise_session_start, raw(), options.raw());
        return Pieces(raw());
    }

    /** Continues the text to its end, and passes each piece to `on_piece`, which returns whether to go on, and may throw. Returns the same. */
    bool generate(const GenerationOptions &options, std::function<bool(std::string_view)> on_piece) {
        detail::call(bise_session_start, raw(), options.raw());
        return go_on(std::move(on_piece));
    }

    /** Goes on with a generation that was stopped. */
    bool go_on(std::function<bool(std::string_view)> on_piece) {
        detail::PieceCallback callback{std::move(on_piece)};
        bool stopped = false;
        callback.function = [&stopped, function = std::move(callback.function)](std::string_view piece) {
            stopped = !function(piece);
            return !stopped;
        };
        detail::Check check;
        bise_status status = bise_session_generate(raw(), detail::bise_hpp_on_piece, &callback, check.place());
        callback.rethrow();
        if (!stopped)
            check(status);
        return !stopped;
    }

    /** Has `callback` told how far the reading of a prompt is. It returns whether to go on, and may throw. None tells nobody. */
    void on_progress(std::function<bool(std::size_t n_done, std::size_t n_total)> callback) {
        std::unique_ptr<detail::ProgressCallback> progress;
        if (callback)
            progress.reset(new detail::ProgressCallback{std::move(callback)});
        detail::call(bise_session_set_progress, raw(), progress ? detail::bise_hpp_on_progress : nullptr,
                     static_cast<void *>(progress.get()));
        progress_ = std::move(progress);
    }

    /** Why the generation is over. */
    bise_finish finish() const noexcept { return bise_session_finish(raw()); }

    /** The number of tokens read. */
    std::size_t position() const noexcept { return bise_session_position(raw()); }

    /** The tokens read. */
    std::vector<std::uint32_t> tokens() const {
        const std::uint32_t *tokens = nullptr;
        std::size_t n = 0;
        detail::call(bise_session_tokens, raw(), &tokens, &n);
        return std::vector<std::uint32_t>(tokens, tokens + n);
    }

    /** The logits after the last token read. */
    std::vector<float> logits() const {
        const float *logits = nullptr;
        std::size_t n = 0;
        detail::call(bise_session_logits, raw(), &logits, &n);
        return std::vector<float>(logits, logits + n);
    }

    /** Forgets the tokens from a position on. */
    void rewind(std::size_t position) {
        reading([&] { detail::call(bise_session_rewind, raw(), position); });
    }

    /** Forgets all tokens. */
    void clear() { detail::call(bise_session_clear, raw()); }

    /** Ends the call that is under way in another thread, or the next one. */
    void cancel() const noexcept { bise_session_cancel(raw()); }

    /** The handle, for the functions of bise.h. */
    bise_session *raw() const noexcept { return raw_.get(); }

private:
    friend class Chat;

    explicit Session(bise_session *raw) : raw_(raw) {}

    /** Runs a call that reports progress. */
    template <typename Body>
    void reading(Body body) {
        try {
            body();
        } catch (const Error &) {
            if (progress_)
                progress_->rethrow();
            throw;
        }
        if (progress_)
            progress_->rethrow();
    }

    /* Behind a pointer, so that it stays where it is when the session is moved. Destroyed after the session. */
    std::unique_ptr<detail::ProgressCallback> progress_;
    detail::Owner<bise_session, bise_session_free> raw_;
};

/** A conversation and the template that makes a prompt of it. */
class Chat {
public:
    /** With a template by name or source; none is that of the model's file. */
    explicit Chat(const Model &model, const char *chat_template = nullptr) {
        bise_chat *raw = nullptr;
        detail::call(bise_chat_new, model.raw(), chat_template, &raw);
        raw_.reset(raw);
    }

    Chat(const Model &model, const std::string &chat_template) : Chat(model, chat_template.c_str()) {}

    Chat &add(const std::string &role, const std::string &content) {
        bise_message message = {role.c_str(), content.c_str()};
        detail::call(bise_chat_add, raw(), static_cast<const bise_message *>(&message), std::size_t{1});
        return *this;
    }

    Chat &add_json(const std::string &json) {
        detail::call(bise_chat_add_json, raw(), json.c_str());
        return *this;
    }

    Chat &tools(const std::string &json) {
        detail::call(bise_chat_set_tools, raw(), json.c_str());
        return *this;
    }

    Chat &arguments(const std::string &json) {
        detail::call(bise_chat_set_arguments, raw(), json.c_str());
        return *this;
    }

    /** Removes messages from `n_messages` on. */
    void truncate(std::size_t n_messages) { detail::call(bise_chat_truncate, raw(), n_messages); }

    /** The prompt as text. */
    std::string render(std::uint32_t flags = 0) {
        char *text = nullptr;
        std::size_t n_bytes = 0;
        detail::call(bise_chat_render, raw(), flags, &text, &n_bytes, nullptr);
        return detail::take(text, n_bytes);
    }

    /** Has a session read what is new in the prompt. Returns the number of tokens that were kept. */
    std::size_t feed(Session &session, std::uint32_t flags = 0) {
        std::size_t n_kept = 0;
        session.reading([&] { detail::call(bise_chat_feed, raw(), session.raw(), flags, &n_kept); });
        return n_kept;
    }

    /** The handle, for the functions of bise.h. */
    bise_chat *raw() const noexcept { return raw_.get(); }

private:
    detail::Owner<bise_chat, bise_chat_free> raw_;
};

/** Makes vectors of texts. */
class Embedder {
public:
    explicit Embedder(const Model &model) : n_embd_(model.n_embd()) {
        bise_embedder *raw = nullptr;
        detail::call(bise_embedder_new, model.raw(), &raw);
        raw_.reset(raw);
    }

    /** Sets an option: see bise_embedder_set. */
    Embedder &set(const std::string &name, const std::string &value) {
        detail::call(bise_embedder_set, raw(), name.c_str(), value.c_str());
        return *this;
    }

    /** One vector for each text. */
    std::vector<std::vector<float>> embed(const std::vector<std::string> &texts) {
        std::vector<const char *> pointers;
        std::vector<std::size_t> lengths;
        for (const std::string &text : texts) {
            pointers.push_back(text.data());
            lengths.push_back(text.size());
        }
        std::vector<float> all(texts.size() * n_embd_);
        detail::call(bise_embed, raw(), pointers.data(), lengths.data(), texts.size(), all.data(), all.size());
        std::vector<std::vector<float>> vectors;
        for (std::size_t i = 0; i < texts.size(); i++)
            vectors.emplace_back(all.begin() + i * n_embd_, all.begin() + (i + 1) * n_embd_);
        return vectors;
    }

    /** Ends the call that is under way in another thread, or the next one. */
    void cancel() const noexcept { bise_embedder_cancel(raw()); }

    /** The handle, for the functions of bise.h. */
    bise_embedder *raw() const noexcept { return raw_.get(); }

private:
    std::size_t n_embd_;
    detail::Owner<bise_embedder, bise_embedder_free> raw_;
};

} // namespace bise

#endif
