/* What the examples have in common: an error ends the program with its message, and the model comes from the command line. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <bise.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs a call of the library whose last argument is the error. */
#define CHECK(...) check((__VA_ARGS__))

static bise_error *error = NULL;

static inline bise_status check(bise_status status) {
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", bise_status_name(status), bise_error_message(error));
        bise_error_free(error);
        exit(1);
    }
    return status;
}

/*
 * Opens the model that the command line names, `-m FILE` and any `-o NAME=VALUE`, or the one inside the library.
 * `*rest` gets the first argument behind them, or NULL.
 */
static inline bise_model *open_model(int argc, char **argv, const char **rest) {
    bise_model_options *options = NULL;
    bise_model *model = NULL;
    const char *path = NULL;
    int i = 1;

    CHECK(bise_model_options_new(&options, &error));
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        char *value = strchr(argv[i + 1], '=');
        if (strcmp(argv[i], "-m") == 0) {
            path = argv[i + 1];
        } else if (strcmp(argv[i], "-o") == 0 && value != NULL) {
            *value = '\0';
            CHECK(bise_model_options_set(options, argv[i + 1], value + 1, &error));
        } else {
            fprintf(stderr, "usage: %s [-m model.gguf] [-o NAME=VALUE]... [text]\n", argv[0]);
            exit(2);
        }
    }
    *rest = i < argc ? argv[i] : NULL;
    if (path != NULL)
        CHECK(bise_model_open(path, options, &model, &error));
    else
        CHECK(bise_model_open_builtin(options, &model, &error));
    bise_model_options_free(options);
    for (size_t w = 0; w < bise_model_n_warnings(model); w++) {
        char *warning = NULL;
        CHECK(bise_model_warning(model, w, &warning, &error));
        fprintf(stderr, "warning: %s\n", warning);
        bise_string_free(warning);
    }
    return model;
}

#endif
