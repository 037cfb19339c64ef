// Continues a text from C++: story [model.gguf]
#include <bise.hpp>

#include <iostream>

int main(int argc, char **argv) try {
    bise::Model model = argc > 1 ? bise::Model::open(argv[1]) : bise::Model::builtin();
    bise::Session session(model);
    session.feed("Once upon a time");
    std::cout << "Once upon a time";
    for (std::string_view piece : session.generate(bise::GenerationOptions().set("temp", 0).set("n_predict", 48)))
        std::cout << piece << std::flush;
    std::cout << std::endl;
    return 0;
} catch (const bise::Error &error) {
    std::cerr << bise_status_name(error.status()) << ": " << error.what() << std::endl;
    return 1;
}
