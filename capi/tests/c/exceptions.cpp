// Exceptions that callbacks throw come out of the call, and the session can be used afterwards.
#include <bise.hpp>

#include <cstdlib>
#include <iostream>
#include <string>

#define ASSERT(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << std::endl;   \
            std::exit(1);                                                                  \
        }                                                                                  \
    } while (0)

struct OfTheUser {
    int number;
};

static std::string whole(const bise::Model &model) {
    bise::Session session(model);
    session.feed("Once upon a time");
    std::string text;
    for (std::string_view piece : session.generate(bise::GenerationOptions().set("temp", 0).set("n_predict", 12)))
        text += piece;
    ASSERT(session.finish() == BISE_FINISH_LENGTH);
    return text;
}

int main() {
    bise::Model model = bise::Model::builtin(bise::ModelOptions().set("threads", 2).set("mmap", true));
    ASSERT(model.n_threads() == 2 && model.n_vocab() > 1000 && !model.isa().empty());
    const std::string text = whole(model);
    const auto options = std::move(bise::GenerationOptions().set("temp", 0).set("n_predict", 12));

    // From a piece.
    bise::Session session(model, std::move(bise::SessionOptions().set("ubatch_size", 2)));
    session.feed("Once upon a time");
    std::string seen;
    bool caught = false;
    try {
        session.generate(options, [&](std::string_view piece) -> bool {
            seen += piece;
            if (seen.size() > 10)
                throw OfTheUser{7};
            return true;
        });
    } catch (const OfTheUser &thrown) {
        caught = thrown.number == 7;
    }
    ASSERT(caught && seen.size() > 10 && seen.size() < text.size());
    // Nothing is lost.
    ASSERT(session.go_on([&](std::string_view piece) {
        seen += piece;
        return true;
    }));
    ASSERT(seen == text);

    // A callback that says no.
    session.clear();
    session.feed("Once upon a time");
    ASSERT(!session.generate(options, [](std::string_view) { return false; }));

    // From progress, also after the session was moved.
    session.clear();
    session.on_progress([](std::size_t, std::size_t) -> bool { throw std::string("of the user"); });
    bise::Session moved = std::move(session);
    caught = false;
    try {
        moved.feed("Once upon a time there was");
    } catch (const std::string &thrown) {
        caught = thrown == "of the user";
    }
    ASSERT(caught && moved.position() == 2);
    moved.on_progress(nullptr);
    moved.feed("Once upon a time");
    ASSERT(moved.position() > 2 && moved.tokens().size() == moved.position());
    ASSERT(moved.logits().size() == model.n_vocab());

    // Errors of the library.
    try {
        bise::Model::open("no-such.gguf");
        ASSERT(false);
    } catch (const bise::Error &error) {
        ASSERT(error.status() == BISE_ERROR_FILE);
        ASSERT(std::string(error.what()).find("no-such.gguf") != std::string::npos);
    }
    ASSERT(!model.metadata("no.such"));
    ASSERT(model.metadata("general.architecture"));
    ASSERT(model.detokenize(model.tokenize("Hello there")) == "Hello there");
    ASSERT(model.tokenize("", 0).empty());

    bise::Chat chat(model, "mistral-v3");
    ASSERT(chat.add("user", "Hi").render() == "<s>[INST]Hi[/INST]");
    ASSERT(chat.feed(moved) < 3);
    bise::Embedder embedder(model);
    auto vectors = embedder.set("pooling", "mean").embed({"one", "two"});
    ASSERT(vectors.size() == 2 && vectors[0].size() == model.n_embd() && vectors[0] != vectors[1]);
    return 0;
}
