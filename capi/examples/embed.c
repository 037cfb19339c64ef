/* How alike texts are: embed [-m model.gguf] [-o NAME=VALUE]... */
#include "example.h"

enum { N_TEXTS = 3 };

int main(int argc, char **argv) {
    const char *rest = NULL;
    const char *texts[N_TEXTS] = {
        "The cat sat by the fire.",
        "The cat lay by the fire.",
        "A ship sailed over the sea to a far island.",
    };
    bise_embedder *embedder = NULL;

    bise_model *model = open_model(argc, argv, &rest);
    size_t n_embd = bise_model_n_embd(model);
    CHECK(bise_embedder_new(model, &embedder, &error));
    bise_model_free(model);
    CHECK(bise_embedder_set(embedder, "pooling", "mean", &error));

    float *vectors = malloc(N_TEXTS * n_embd * sizeof *vectors);
    if (vectors == NULL)
        return 1;
    CHECK(bise_embed(embedder, texts, NULL, N_TEXTS, vectors, N_TEXTS * n_embd, &error));
    bise_embedder_free(embedder);

    /* Each has length 1, so their product is the cosine of the angle between them. */
    for (int i = 0; i < N_TEXTS; i++) {
        for (int j = 0; j < N_TEXTS; j++) {
            double product = 0;
            for (size_t k = 0; k < n_embd; k++)
                product += (double)vectors[i * n_embd + k] * vectors[j * n_embd + k];
            printf("%s%.3f", j > 0 ? " " : "", product);
        }
        puts("");
    }
    free(vectors);
    return 0;
}
