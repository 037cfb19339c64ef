/* Forgets to free sessions: leak checkers have to say so. */
#include "expect.h"

/* Forgotten in a frame of its own, so that no register or stack slot holds on to anything; and several, in case that one does. */
static void forget(void) {
    bise_model *model = NULL;
    bise_session *session = NULL;
    OK(bise_model_open_builtin(NULL, &model, &error));
    for (int i = 0; i < 8; i++)
        OK(bise_session_new(model, NULL, &session, &error));
    OK(bise_session_feed(session, "Once upon a time", BISE_NUL_TERMINATED, BISE_ADD_SPECIAL, &error));
    bise_model_free(model);
}

/* Overwrites the stack below, where calls of an unoptimised library leave pointers. */
static void overwrite(void) {
    volatile char stack[1 << 19];
    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = 0;
}

int main(void) {
    forget();
    overwrite();
    return 0;
}
